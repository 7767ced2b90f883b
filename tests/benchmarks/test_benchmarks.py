"""The benchmarks' own arithmetic: what is called an error must be one, and what is called a pass too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest

import pairfold
from benchmarks import dropin, machine, measure, peak_cuda, report
from benchmarks import workloads as w
from benchmarks.systems import SYSTEMS
from benchmarks.targets import TARGETS, Target


def dense(p: w.Points) -> tuple[np.ndarray, np.ndarray]:
    differences = p.x[:, None, :].astype(np.float64) - p.y[None]
    return differences, (differences**2).sum(-1)


@pytest.fixture(autouse=True)
def threads():
    """Benchmarks choose how many."""
    yield
    pairfold.set_num_threads(None)


@pytest.fixture
def points() -> w.Points:
    return w.Points.draw(70, 50, 3)


def test_points_are_the_same_in_every_run(points: w.Points) -> None:
    again = w.Points.draw(70, 50, 3)
    assert all(np.array_equal(a, b) for a, b in ((points.x, again.x), (points.y, again.y), (points.b, again.b), (points.g, again.g)))
    assert points.x.dtype == np.float32 and points.x.max() <= 2 / np.sqrt(3)


def test_exact_outputs_have_no_error(points: w.Points) -> None:
    differences, square = dense(points)
    kernel = np.exp(-square)
    a = kernel @ points.b
    dx = -2 * points.g * np.einsum("ij,jk,ijd->id", kernel, points.b, differences)
    dy = 2 * points.b * np.einsum("ij,ik,ijd->jd", kernel, points.g, differences)
    db = kernel.T @ points.g
    outputs: dict[str, tuple[np.ndarray, ...]] = {
        "gauss": (a,),
        "gauss, float64": (a,),
        "gauss, compensated": (a,),
        "argKmin K=10": (np.argsort(square, axis=1)[:, :10],),
        "logsumexp": (np.log(kernel.sum(1, keepdims=True)),),
        "gauss forward + backward": (a, dx, dy, db),
    }
    for name, values in outputs.items():
        found = measure.errors(w.FORMULAS[name].compare(values, points))
        assert found["max_error"] < 1e-13, name
    many, values = (w.FORMULAS[name].complete(points) for name in ("gauss, 100 columns of weights", "attention"))
    assert measure.errors(w.compare_gauss((kernel @ many.b,), many))["max_error"] < 1e-13
    weights = np.exp(points.x.astype("f8") @ points.y.T / 3**0.5)
    attended = weights @ values.b / weights.sum(1, keepdims=True)
    assert measure.errors(w.compare_attention((attended,), values))["max_error"] < 1e-13
    outputs |= {"gauss, 100 columns of weights": (), "attention": ()}
    others = {"complex Vandermonde", "MLP 16→16→1", "the README's program", "kernel ridge, Gaussian", "kernel ridge, Cauchy"}
    assert outputs.keys() | others == w.FORMULAS.keys()


@pytest.mark.parametrize(("name", "kernel"), [("Gaussian", lambda s: np.exp(-s)), ("Cauchy", lambda s: 1 / (1 + s))])
def test_exact_regressions_have_no_error(name: str, kernel) -> None:
    p = w.Workload(f"kernel ridge, {name}", 60, 60, 3).draw()
    assert p.y is p.x
    a = np.linalg.solve(kernel(dense(p)[1]) + w.RIDGE * np.eye(60), p.b)
    compare = w.FORMULAS[f"kernel ridge, {name}"].compare
    assert measure.errors(compare((a,), p))["max_error"] < 1e-12
    assert measure.errors(compare((-a,), p))["max_error"] > 0.1


def test_a_part_of_the_tiles_is_kept() -> None:
    n = 4 * w.TILES
    rows, slices, columns, *transposed = w.sparse_ranges(n)
    there = np.zeros((n, n), dtype=bool)
    for (a, b), start, stop in zip(rows, [0, *slices[:-1]], slices):
        for c, d in columns[start:stop]:
            there[a:b, c:d] = True
    assert there.mean() == pytest.approx(w.KEPT)
    rows, slices, columns = transposed
    for (a, b), start, stop in zip(rows, [0, *slices[:-1]], slices):
        for c, d in columns[start:stop]:
            assert there[c:d, a:b].all()


def test_exact_complex_outputs_have_no_error() -> None:
    p = w.Workload("complex Vandermonde", 70, 50, 1).draw()
    assert p.b.dtype == np.complex64
    angles = p.x.astype(np.float64) * p.y.T
    a = np.cos(angles) @ p.b + 1j * np.sin(angles) @ p.b
    assert measure.errors(w.compare_vandermonde((a,), p))["max_error"] < 1e-13
    assert measure.errors(w.compare_vandermonde((a.conj(),), p))["max_error"] > 0.1


def test_exact_network_has_no_error() -> None:
    torch = pytest.importorskip("torch")
    p = w.Workload("MLP 16→16→1", 70, 50, 3).draw()
    layers: list[object] = []
    for matrix, bias, inputs in zip(p.network[::2], p.network[1::2], (3, 16, 16)):
        linear = torch.nn.Linear(inputs, len(bias))
        linear.weight.data, linear.bias.data = torch.from_numpy(matrix).view(-1, inputs), torch.from_numpy(bias)
        layers += [linear, torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1]).double()
    differences = torch.from_numpy(p.x).double()[:, None] - torch.from_numpy(p.y).double()
    a = (network(differences)[..., 0] @ torch.from_numpy(p.b).double()).detach().numpy()
    assert measure.errors(w.compare_mlp((a,), p))["max_error"] < 1e-13


def test_all_batches_are_compared() -> None:
    p = w.Workload("gauss", 5, 4, 3, batches=7).draw()
    square = ((p.x[:, :, None].astype(np.float64) - p.y[:, None]) ** 2).sum(-1)
    a = np.exp(-square) @ p.b
    comparisons = w.compare_gauss((a,), p)
    assert comparisons[0][1].shape == (35, 1) and measure.errors(comparisons)["max_error"] < 1e-13
    assert measure.errors(w.compare_gauss((a[::-1],), p))["max_error"] > 0.1


def test_float64_is_held_to_its_own_rounding() -> None:
    exact, off = {"max_error": 1e-17, "rms_error": 1e-17}, {"max_error": 1e-12, "rms_error": 1e-12}
    assert measure.no_worse(off, exact, "float32") and not measure.no_worse(off, exact, "float64")


def test_gradient_reference_agrees_with_torch(points: w.Points) -> None:
    torch = pytest.importorskip("torch")
    x, y, b, g = (torch.from_numpy(a).double().requires_grad_() for a in (points.x, points.y, points.b, points.g))
    a = torch.exp(-((x[:, None] - y[None]) ** 2).sum(-1)) @ b
    outputs = (a, *torch.autograd.grad(a, (x, y, b), g))
    found = measure.errors(w.compare_gauss_gradient(tuple(t.detach().numpy() for t in outputs), points))
    assert found["max_error"] < 1e-13


def test_wrong_outputs_have_an_error(points: w.Points) -> None:
    _, square = dense(points)
    neighbours = np.argsort(square, axis=1)[:, :10]
    neighbours[0, 0] = np.argmax(square[0])
    assert measure.errors(w.compare_arg_k_min((neighbours,), points))["max_error"] > 0.1
    a = np.exp(-square) @ points.b
    a[3] += np.abs(a).max()
    assert measure.errors(w.compare_gauss((a,), points))["max_error"] == pytest.approx(1)


def test_interleaved_gives_every_system_its_turns() -> None:
    turns: list[str] = []
    medians = measure.interleaved({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, rounds=3, least=1e-9, pause=0)
    assert turns == ["a", "b"] * 3
    assert [len(several) for several in medians.values()] == [3, 3]


def run_of(ours: float) -> dict:
    errors = {"max_error": 1e-6, "rms_error": 1e-7}
    systems = {
        "pairfold": {"seconds": ours, "pairs_per_second": 1e8 / ours, "fraction_of_peak": 0.71, **errors},
        "keops": {"seconds": 0.5, "pairs_per_second": 2e8, "fraction_of_peak": 0.01, **errors},
    }
    row = {
        "group": "speed",
        "name": "gauss, D=3",
        "m": 10_000,
        "n": 10_000,
        "d": 3,
        "systems": systems,
        "at_least": 35,
        "aim": 50,
        "dtype": "float32",
    }
    row |= {"operations_per_pair": 14, "peak_operations_per_second": 2e11, "peak_aim": 0.7}
    row |= measure.verdict(row)
    machine = {"cpu": "a processor", "llvm_cpu": "generic", "python": "3.12.0", "packages": {"numpy": "2.0.0", "torch": None}}
    limit = measure.limit(w.IMPORT, {"pairfold": [0.02, 0.01, 0.03], "keops": [1.0]})
    titles = {"pairfold": "Pairfold 0.1.0", "keops": "KeOps 2.3"}
    date = "2030-01-02T03:04:05+00:00"
    return {"kind": "cpu", "date": date, "threads": 2, "titles": titles, "machine": machine, "rows": [row, limit]}


@pytest.mark.parametrize("ours, verdict", [(0.01, "pass"), (0.1, "**miss**")])
def test_table(ours: float, verdict: str) -> None:
    text = report.table(run_of(ours))
    (line,) = (line for line in text.splitlines() if line.startswith("| gauss, D=3, 10 000²"))
    assert verdict in line and f"| {0.5 / ours:.1f} | 35 | 50 |" in line
    assert "| import beyond `import numpy` | 20.0 ms | 1.00 s | ≤ 150 ms | pass |" in text
    assert "| gauss, D=3 | 14 | 200 G/s | 71.0 % | 1.0 % | ≥ 70 % | pass |" in text


def test_newest_goes_by_the_date_inside(tmp_path) -> None:
    run = run_of(0.01)
    for name, date in (("cpu-a", "2029-01-01T00:00:00+00:00"), ("cpu-b", run["date"]), ("cpu-c", "2028-01-01T00:00:00+00:00")):
        (tmp_path / f"{name}.json").write_text(json.dumps(run | {"date": date}))
    assert report.newest("cpu", tmp_path)["date"] == run["date"]
    with pytest.raises(FileNotFoundError, match="python -m benchmarks cuda"):
        report.newest("cuda", tmp_path)


def test_saved_run_has_its_chart_beside_it(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    path = report.save(run_of(0.01), tmp_path)
    assert path.name == "cpu-2030-01-02.json" and path.with_suffix(".png").stat().st_size > 1000


def test_human() -> None:
    assert [report.human(v, "s") for v in (1.5, 0.0123, 80e-6, 0.9999)] == ["1.50 s", "12.3 ms", "80.0 µs", "1.00 s"]
    assert report.human(20e6, "B") == "20.0 MB" and report.human(0.1, "1") == "10.0 %" and report.human(None, "s") == "–"


def test_regression_at_scale_is_a_row() -> None:
    """Of both ways, with the errors of solutions and without the peer's."""
    systems = {"pairfold": SYSTEMS["pairfold"]}
    plain, preconditioned = measure.ridge_at_scale(w.Workload("kernel ridge, Cauchy", 300, 300, 3, at_least=20), systems, TARGETS["cpu"], 1)
    for row in (plain, preconditioned):
        assert row["systems"]["pairfold"]["max_error"] < 10 * w.RESIDUAL and row["ratio"] is None
    assert preconditioned["systems"]["pairfold"]["iterations"] < plain["systems"]["pairfold"]["iterations"]
    text = report.table(run_of(0.01) | {"rows": [plain, preconditioned]})
    assert "| kernel ridge, Cauchy, D=3, 300² |" in text and "| kernel ridge, Cauchy, plain, D=3, 300² |" in text


def as_a_gpu(wait: Callable[[], None] = lambda: None) -> Target:
    """The CPU in its place."""
    return Target("cuda", "cpu", wait=wait, framework="torch")


@pytest.mark.parametrize("target", [TARGETS["cpu"], as_a_gpu()], ids=["cpu", "cuda"])
def test_sparse_is_a_row(target: Target) -> None:
    pytest.importorskip(target.framework or "numpy")
    with mock.patch.object(w, "SPARSE_WORKLOADS", dict.fromkeys(w.SPARSE_WORKLOADS, w.Workload("gauss", 4 * w.TILES, 4 * w.TILES, 3))):
        row = measure.sparse(SYSTEMS["pairfold"], target, 1, rounds=1)
    assert row["at_most"] == 0.1 and len(row["systems"]["pairfold"]["all"]) == 1


@pytest.mark.parametrize("kernel", ["Gaussian", "Cauchy"])
def test_ridge_regression_on_a_gpu_is_a_row(kernel: str) -> None:
    pytest.importorskip("torch")
    row = measure.speed(
        w.Workload(f"kernel ridge, {kernel}", 300, 300, 3, at_least=2), {"pairfold": SYSTEMS["pairfold"]}, as_a_gpu(), 1, rounds=1
    )
    assert row["framework"] == "torch" and row["systems"]["pairfold"]["max_error"] < 10 * w.RESIDUAL


def tensors(p: w.Points) -> w.Points:
    torch = pytest.importorskip("torch")
    return w.Points(*(torch.from_numpy(a).double() for a in (p.x, p.y, p.b, p.g)))


@pytest.mark.parametrize("name", ["gauss", "logsumexp"])
def test_dense_formulas_have_no_error(name: str, points: w.Points) -> None:
    formula = w.FORMULAS[name]
    assert formula.dense is not None
    (found,) = formula.dense(tensors(points))
    assert measure.errors(formula.compare((found.numpy(),), points))["max_error"] < 1e-13


def test_the_program_of_the_readme_agrees_with_torch(points: w.Points) -> None:
    torch = pytest.importorskip("torch")
    points = w.two_columns(points)
    p = tensors(points)
    x = p.x.requires_grad_()
    a = torch.exp(-((x[:, None] - p.y[None]) ** 2).sum(-1)) @ p.b
    outputs = (a.detach().numpy(), torch.autograd.grad((a**2).sum(), x)[0].numpy())
    compare = w.FORMULAS["the README's program"].compare
    assert measure.errors(compare(outputs, points))["max_error"] < 1e-13
    assert measure.errors(compare((outputs[0], -outputs[1]), points))["max_error"] > 0.1


def test_few_rows_are_compared_where_columns_are_many() -> None:
    assert len(w.sample(400_000, 400_000)) == 100 and len(w.sample(10_000, 10_000)) == w.SAMPLE and len(w.sample(7, 10**9)) == 1


def test_a_gpu_is_measured_with_torch() -> None:
    """On the CPU in its place: what is measured there is measured as on a GPU."""
    torch = pytest.importorskip("torch")
    placed = []
    gpu = as_a_gpu(lambda: placed.append(torch))
    row = measure.speed(w.Workload("gauss", 50, 6000, 3, at_least=1), {"pairfold": SYSTEMS["pairfold"]}, gpu, 1, rounds=1)
    assert row["name"] == "gauss, D=3, 50 rows" and row["framework"] == "torch" and placed
    assert row["systems"]["pairfold"]["max_error"] < 1e-5 and row["passed"] is None
    tiny = measure.tiny_calls_cuda({"pairfold": SYSTEMS["pairfold"]}, as_a_gpu(), 1, repeats=1)
    assert [row["at_most"] for row in tiny] == [60e-6, None, None]


def test_what_runs_out_of_memory_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    class Hungry:
        title = "Hungry"

        def program(self, *_: object) -> object:
            def fail(points: w.Points) -> object:
                raise RuntimeError("CUDA out of memory. Tried to allocate 596 GiB")

            return fail

    gpu = as_a_gpu()
    systems = {"pairfold": SYSTEMS["pairfold"], "torch": Hungry()}
    row = measure.speed(w.Workload("logsumexp", 20, 30, 3), systems, gpu, 1, rounds=1)  # type: ignore[arg-type]
    assert row["systems"].keys() == {"pairfold"} and "Hungry runs out of memory" in capsys.readouterr().err


def test_cuda_table() -> None:
    run = run_of(0.3)
    row, limit = run["rows"]
    row["systems"]["torch"] = {"seconds": 0.7, "pairs_per_second": 1e8, "max_error": 1e-6, "rms_error": 1e-7}
    rates = {"multiply_adds": 30e12, "powers": 4e12}
    row |= {"peak_pairs_per_second": 4e12, "peak_rates": rates, "peak_aim": 0.8}
    machine = run["machine"] | {"gpu": "a GPU", "driver": "1.2.3"}
    text = report.table(run | {"kind": "cuda", "machine": machine})
    assert "on one a GPU with driver 1.2.3" in text
    (line,) = (line for line in text.splitlines() if line.startswith("| gauss, D=3, 10 000²"))
    assert "| 500 ms | 700 ms | 1.67 |" in line
    assert "| gauss, D=3 | 30.0 T/s | 4.00 T/s | 4.00 T | 71.0 % | 1.0 % | ≥ 80 % | **miss** |" in text


def test_limits_of_a_gpu() -> None:
    """By the unit that is busier: powers of 2 for short vectors, issue slots for long ones."""
    assert peak_cuda.pairs_per_second(32e12, 4e12, 3) == 4e12
    assert peak_cuda.pairs_per_second(32e12, 4e12, 61) == 0.5e12
    text = peak_cuda.ptx()
    assert text.count("ex2.approx") == text.count("fma.rn") == peak_cuda.CHAINS * peak_cuda.STEPS


def test_programs_are_measured_by_their_reductions(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """KeOps's reductions are those of fewer points, times the square of how many more there are; the rest is ours."""
    program = dropin.Program("a program", "numpy", lambda n: [], n=10_000, n_peer=1_000)
    monkeypatch.setattr(dropin, "PROGRAMS", (program,))

    def run(program, system, threads, cache, n):
        seconds = {("pairfold", 10_000): 2.0, ("pairfold", 1_000): 0.1, ("keops", 1_000): 0.5}[system, n]
        return {"whole": seconds + 3.0, "seconds": seconds, "reductions": 7, "values": [1.0, -4.0] if system == "keops" else [1.0, -3.0]}

    monkeypatch.setattr(dropin, "_run", run)
    inside, whole = dropin.measure(["pairfold", "keops"], 2, tmp_path)
    assert inside["systems"]["keops"]["seconds"] == pytest.approx(50.0) and inside["ratio"] == pytest.approx(25.0) and inside["passed"]
    assert (
        whole["systems"]["keops"]["seconds"] == pytest.approx(53.0) and whole["ratio"] == pytest.approx(53 / 5) and whole["passed"] is None
    )
    assert inside["systems"]["pairfold"]["difference"] == pytest.approx(0.25) and inside["systems"]["keops"]["estimated"]
    assert inside["systems"]["pairfold"]["pairs_per_second"] == pytest.approx(7 * 1e8 / 2)
    run = {"kind": "dropin", "date": "2026-11-23", "threads": 2, "machine": machine.describe(), "rows": [inside, whole]}
    table = report.table(run)
    assert "| a program, inside reductions, 10 000² | 2.00 s |" in table and "differ by 2e-01 of the largest" in table


def test_a_method_is_timed_for_a_while() -> None:
    class Owner:
        @staticmethod
        def double(x: int) -> int:
            return 2 * x

        def triple(self, x: int) -> int:
            return 3 * x

    kept = dict(vars(Owner))
    with dropin.timed(Owner, "double") as doubled, dropin.timed(Owner, "triple") as tripled:
        assert Owner.double(2) == Owner().double(2) == 4 and Owner().triple(2) == 6
    assert len(doubled) == 2 and len(tripled) == 1 and vars(Owner)["double"] is kept["double"] and vars(Owner)["triple"] is kept["triple"]


@pytest.mark.parametrize("name", [p.name for p in dropin.PROGRAMS])
def test_programs_run(name: str) -> None:
    """With the drop-in: as many reductions at all sizes, which is what KeOps's time rests on."""
    pytest.importorskip("torch")
    program = next(p for p in dropin.PROGRAMS if p.name == name)
    pytest.importorskip(program.package)
    code = f"from benchmarks import dropin; dropin.WARM = 300; print(dropin.child({name!r}, 'pairfold', 2, 800)['reductions'], "
    code += f"dropin.child({name!r}, 'pairfold', 2, 500)['reductions'])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=measure.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    larger, smaller = map(int, done.stdout.split())
    assert larger == smaller > 10
