"""How it is measured: interleaved medians, errors against float64, and processes of their own for what a warm process cannot show."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import workloads as w
from .child import warm
from .peak import Peak
from .peak_cuda import CudaPeak, pairs_per_second
from .systems import System, environment
from .targets import Target

ROOT = Path(__file__).parents[1]
HALF_ULP = {"float32": 2.0**-24, "float64": 2.0**-53}  # of the largest value: errors below it are not told apart


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int, least: float = 0.2, pause: float = 0.05) -> dict[str, list[float]]:
    """Seconds a call: one median for each of the rounds, in which the systems take turns.

    A turn repeats short calls for at least `least` seconds. What else the machine does meets every system alike; the pause between
    turns lets threads that spin after their work (OpenMP's do) fall asleep.
    """
    medians: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(pause)
            times: list[float] = []
            while sum(times) < least:
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
            medians[name].append(statistics.median(times))
    return medians


def errors(comparisons: Iterable[w.Comparison]) -> dict[str, float]:
    """The largest and the root mean square error, each over the largest value; of several outputs, the worst."""
    largest = rms = 0.0
    for got, want in comparisons:
        difference = np.abs(got.reshape(want.shape) - want)
        scale = np.abs(want).max()
        largest = max(largest, float(difference.max() / scale))
        rms = max(rms, float(np.sqrt(np.mean(difference**2)) / scale))
    return {"max_error": largest, "rms_error": rms}


def no_worse(ours: Mapping[str, Any], peer: Mapping[str, Any], dtype: str) -> bool:
    """Whether our errors are at most the peer's, but for what a single rounding of the largest value can do."""
    return all(ours[key] <= max(peer[key], HALF_ULP[dtype]) for key in ("max_error", "rms_error"))


def speed(workload: w.Workload, systems: Mapping[str, System], target: Target, threads: int, rounds: int) -> dict[str, Any]:
    """One row of the table: every system on one workload, its errors, and the machine's peak where the operations are known."""
    formula = workload.formula
    points = workload.draw()
    framework = target.framework or formula.framework
    placed = points.on(target, framework)
    calls: dict[str, Callable[[], object]] = {}
    found: dict[str, dict[str, Any]] = {}
    for name, system in systems.items():
        program = system.program(formula, framework, threads)
        if program is None:
            continue

        def call(program: w.Program = program) -> tuple[Any, ...]:
            outputs = program(placed)
            target.wait()
            return outputs

        try:
            outputs = tuple(np.asarray(t.detach().cpu() if hasattr(t, "detach") else t) for t in call())
        except RuntimeError as error:
            if "out of memory" not in str(error):
                raise
            print(f"{workload.name}: {system.title} runs out of memory", file=sys.stderr)
            continue
        found[name] = errors(formula.compare(outputs, points))
        del outputs
        calls[name] = call
    limits = peaks(workload, target, threads)
    timings = interleaved(calls | {name: run for name, (run, _) in limits.items()}, min(rounds, workload.rounds or rounds))
    rates = {name: operations / statistics.median(timings.pop(name)) for name, (_, operations) in limits.items()}
    peak_rate = rates.get("peak")
    fastest = pairs_per_second(rates["multiply_adds"], rates["powers"], workload.d) if target.kind == "cuda" and rates else None
    for name, medians in timings.items():
        seconds = statistics.median(medians)
        rate = workload.pairs / seconds
        found[name].update(seconds=seconds, fastest=min(medians), slowest=max(medians), rounds=len(medians), pairs_per_second=rate)
        if peak_rate and workload.operations:
            found[name]["fraction_of_peak"] = rate * workload.operations / peak_rate
        if fastest:
            found[name]["fraction_of_peak"] = rate / fastest
    row: dict[str, Any] = {
        "group": "speed",
        "name": workload.name,
        "m": workload.m,
        "n": workload.n,
        "d": workload.d,
        "batches": workload.batches,
        "dtype": formula.dtype,
        "framework": framework,
        "systems": found,
        "at_least": workload.at_least,
        "aim": workload.aim,
        "operations_per_pair": workload.operations if target.kind == "cpu" else None,
        "peak_operations_per_second": peak_rate,
        "peak_pairs_per_second": fastest,
        "peak_rates": rates,
        "peak_aim": workload.peak_aim,
    }
    return row | verdict(row)


def peaks(workload: w.Workload, target: Target, threads: int) -> dict[str, tuple[Callable[[], object], int]]:
    """What shows the machine's limits beside a workload: how to run it, and how many operations that is."""
    if target.kind == "cpu" and workload.operations:
        peak = Peak(threads)
        return {"peak": (peak.run, peak.operations)}
    if target.kind == "cuda" and workload.peak_aim:
        gpu = CudaPeak()
        return {name: (lambda name=name: gpu.run(name), gpu.operations(name)) for name in ("multiply_adds", "powers")}
    return {}


def verdict(row: Mapping[str, Any]) -> dict[str, Any]:
    """KeOps's time over ours, and whether the bars on it and on the error are met."""
    ours, peer = row["systems"].get("pairfold"), row["systems"].get("keops")
    if not ours or not peer:
        return {"ratio": None, "passed": None, "accurate": None}
    ratio = peer["seconds"] / ours["seconds"]
    return {"ratio": ratio, "passed": row["at_least"] is None or ratio >= row["at_least"], "accurate": no_worse(ours, peer, row["dtype"])}


# --- what a warm process cannot show ------------------------------------------------------------------------------------------


def child(task: str, system: System, threads: int, cache: Path) -> dict[str, float]:
    """Run one task of `child.py` in a process of its own, with the compiled formulas kept in `cache`."""
    command = [sys.executable, "-m", "benchmarks.child", task, system.name, str(threads)]
    # The NVIDIA driver keeps what it compiles too.
    return json.loads(output(command, os.environ | environment(cache, threads) | {"CUDA_CACHE_PATH": str(cache / "driver")}))


def output(command: list[str], variables: Mapping[str, str]) -> str:
    """The last line that a command prints. Its standard error is shown only if it fails."""
    done = subprocess.run(command, cwd=ROOT, env=dict(variables), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr}")
    return done.stdout.strip().splitlines()[-1]


def limit(bar: w.Limit, values: Mapping[str, list[float]], **more: Any) -> dict[str, Any]:
    """A row on something that must stay at or below a bar: the median of the values of each system."""
    systems = {name: {"value": statistics.median(several), "all": several} for name, several in values.items()}
    ours = systems.get("pairfold")
    passed = None if ours is None or bar.at_most is None else ours["value"] <= bar.at_most
    return {"group": "limit", "name": bar.name, "unit": bar.unit, "at_most": bar.at_most, "systems": systems, "passed": passed} | more


def first_calls(systems: Mapping[str, System], threads: int, repeats: Mapping[str, int]) -> list[dict[str, Any]]:
    """The first call of a formula: with an empty cache, and then in new processes that find it on disk."""
    cold: dict[str, list[float]] = {name: [] for name in systems}
    warm: dict[str, list[float]] = {name: [] for name in systems}
    for name, system in systems.items():
        for _ in range(repeats[name]):
            with tempfile.TemporaryDirectory() as folder:
                cold[name].append(child("first_call", system, threads, Path(folder))["seconds"])
                warm[name].append(child("first_call", system, threads, Path(folder))["seconds"])
    return [limit(w.FIRST_CALL, cold), limit(w.WARM_DISK, warm)]


IMPORT_SCRIPT = "import time, numpy; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def imports(systems: Mapping[str, System], threads: int, cache: Path, repeats: int) -> dict[str, Any]:
    """Seconds that the import takes once NumPy is there. A first, untimed import leaves the byte code compiled."""
    variables = os.environ | environment(cache, threads)
    values: dict[str, list[float]] = {}
    for name, system in systems.items():
        command = [sys.executable, "-c", IMPORT_SCRIPT.format(system.modules["numpy"])]
        values[name] = [float(output(command, variables)) for _ in range(repeats + 1)][1:]
    return limit(w.IMPORT, values)


def tiny_calls(systems: Mapping[str, System], threads: int, cache: Path, repeats: int) -> list[dict[str, Any]]:
    """Seconds of a warm call too small to matter: what remains is the way from Python to the kernel and back."""
    calls: dict[str, list[float]] = {name: [] for name in systems}
    programs: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(repeats):
        for name, system in systems.items():
            found = child("tiny", system, threads, cache)
            calls[name].append(found["call"])
            programs[name].append(found["program"])
    return [limit(w.TINY_CALL, calls), limit(w.TINY_PROGRAM, programs)]


def first_calls_cuda(systems: Mapping[str, System], threads: int, repeats: Mapping[str, int]) -> list[dict[str, Any]]:
    """As `first_calls`, where PyTorch has begun to work on the GPU before."""
    cold: dict[str, list[float]] = {}
    warm_disk: dict[str, list[float]] = {}
    for name, many in repeats.items():
        for _ in range(many if name in systems else 0):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                for values in (cold, warm_disk):
                    values.setdefault(name, []).append(child("first_call_cuda", systems[name], threads, Path(folder))["seconds"])
    return [limit(w.FIRST_CALL_CUDA, cold), limit(w.WARM_DISK_CUDA, warm_disk)]


def tiny_calls_cuda(systems: Mapping[str, System], target: Target, threads: int, repeats: int) -> list[dict[str, Any]]:
    """As `tiny_calls`, on tensors on the GPU: with the wait for the result, and the time after which a program goes on without it."""
    points = w.Points.draw(100, 100, 3).on(target, "torch")
    values: dict[w.Limit, dict[str, list[float]]] = {w.TINY_CALL_CUDA: {}, w.TINY_PROGRAM_CUDA: {}, w.TINY_QUEUED: {}}
    for _ in range(repeats):
        for name, system in systems.items():
            lazy_tensor = system.lazy_tensor("torch", threads)
            matrix = w.gauss_matrix(lazy_tensor, points)
            calls: dict[w.Limit, Callable[[], object]] = {
                w.TINY_CALL_CUDA: lambda matrix=matrix: (matrix @ points.b, target.wait()),
                w.TINY_PROGRAM_CUDA: lambda lazy_tensor=lazy_tensor: (w.gauss(lazy_tensor, points), target.wait()),
                w.TINY_QUEUED: lambda matrix=matrix: matrix @ points.b,
            }
            for bar, call in calls.items():
                values[bar].setdefault(name, []).append(warm(call, before=50, calls=500))
                target.wait()
    return [limit(bar, of_systems) for bar, of_systems in values.items()]


def memory_cuda(systems: Mapping[str, System], target: Target, threads: int) -> dict[str, Any]:
    """Bytes of the GPU's memory, the results' included, that the README's program takes at most beyond its arrays; warm."""
    import torch

    workload = next(x for x in w.WORKLOADS["cuda"] if x.formula_name == "the README's program")
    points = workload.draw().on(target, "torch")
    values: dict[str, list[float]] = {}
    for name, system in systems.items():
        program = system.program(workload.formula, "torch", threads)
        if program is not None:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            outputs = program(points)
            target.wait()
            del outputs
            values[name] = [float(torch.cuda.max_memory_allocated() - before)]
    return limit(w.MEMORY_CUDA, values)


def memory(system: System, threads: int, cache: Path, repeats: int) -> list[dict[str, Any]]:
    """Bytes by which the process grows at most while it sums over the pairs, its kernel compiled before or not."""
    warm = [child("memory", system, threads, cache)["bytes"] for _ in range(repeats)]
    with tempfile.TemporaryDirectory() as folder:
        first = [child("memory_first", system, threads, Path(folder))["bytes"]]
    return [limit(w.MEMORY, {system.name: warm}), limit(w.MEMORY_FIRST, {system.name: first})]


def scaling(system: System, target: Target, threads: int, rounds: int) -> dict[str, Any]:
    """How much the time of a pair varies over the sizes."""
    lazy_tensor = system.lazy_tensor("numpy", threads)
    calls: dict[str, Callable[[], object]] = {}
    for size in w.SCALING_SIZES:
        points = w.Points.draw(size, size, 3).on(target, "numpy")
        calls[str(size)] = lambda points=points: w.gauss(lazy_tensor, points)
    calls[str(w.SCALING_SIZES[0])]()
    times = {int(size): statistics.median(several) / int(size) ** 2 for size, several in interleaved(calls, rounds).items()}
    spread = max(times.values()) / min(times.values()) - 1
    return limit(w.SCALING, {system.name: [spread]}, seconds_per_pair=times)


def batches(systems: Mapping[str, System], target: Target, threads: int, rounds: int) -> dict[str, Any]:
    """What many small problems cost, against a single one of as many pairs."""
    few, many = w.BATCHES_IN_ONE.draw().on(target, "numpy"), w.BATCHES_WORKLOAD.draw().on(target, "numpy")
    ratios: dict[str, list[float]] = {}
    for name, system in systems.items():
        lazy_tensor = system.lazy_tensor("numpy", threads)
        calls: dict[str, Callable[[], object]] = {
            key: lambda p=p, lazy_tensor=lazy_tensor: w.gauss(lazy_tensor, p) for key, p in (("one", few), ("many", many))
        }
        for call in calls.values():
            call()
        times = interleaved(calls, rounds)
        ratios[name] = [many / one for one, many in zip(times["one"], times["many"])]
    return limit(w.BATCHES, ratios)


def sparse(system: System, target: Target, threads: int, rounds: int) -> dict[str, Any]:
    """What a few of a matrix's tiles cost, against all of it."""
    framework = target.framework or "numpy"
    workload = w.SPARSE_WORKLOADS[target.kind]
    points = workload.draw().on(target, framework)
    lazy_tensor = system.lazy_tensor(framework, threads)
    whole, some = w.gauss_matrix(lazy_tensor, points), w.gauss_matrix(lazy_tensor, points)
    some.ranges = tuple(target.place(r, framework) for r in w.sparse_ranges(workload.m))

    def product(matrix: Any) -> None:
        matrix @ points.b
        target.wait()

    calls: dict[str, Callable[[], object]] = {"all": lambda: product(whole), "some": lambda: product(some)}
    for call in calls.values():
        call()
    times = interleaved(calls, rounds)
    return limit(w.SPARSE[target.kind], {system.name: [some / all_ for all_, some in zip(times["all"], times["some"])]})


def ridge_at_scale(workload: w.Workload, systems: Mapping[str, System], target: Target, threads: int) -> list[dict[str, Any]]:
    """Kernel ridge regression, once with plain conjugate gradients and once with Nyström's preconditioner, beside the peer's products."""
    from pairfold import linalg

    points = workload.draw().on(target, "numpy")
    matrix = w.MATRICES[workload.formula_name]
    atol = w.RESIDUAL / 2 * np.sqrt(workload.n)
    K = matrix(systems["pairfold"].lazy_tensor("numpy", threads), points)

    def preconditioned() -> Any:
        return K.solve(points.b, w.RIDGE, tol=0, atol=atol, preconditioner=linalg.nystrom(K, w.RIDGE), info=True)

    K @ points.b, K[: workload.n, :9] @ points.b[:9]  # the kernels are compiled
    rows, products = [], 0
    for how, solve, bar in (
        (", plain", lambda: K.solve(points.b, w.RIDGE, tol=0, atol=atol, info=True), None),
        ("", preconditioned, workload.at_least),
    ):
        start = time.perf_counter()
        a, info = solve()
        seconds = time.perf_counter() - start
        products = products or info.iterations
        found = {"pairfold": errors(workload.formula.compare((a,), points)) | {"seconds": seconds, "iterations": info.iterations}}
        if "keops" in systems:
            some = w.Points(points.x[:: workload.m // w.ROWS_MEASURED], points.y, points.b, points.g)
            part = matrix(systems["keops"].lazy_tensor("numpy", threads), some)
            part @ points.b
            times = interleaved({"keops": lambda part=part: part @ points.b}, 3)["keops"]
            product = statistics.median(times) * workload.m / len(some.x)
            found["keops"] = {"seconds": product * products, "iterations": products, "estimated": True}
        for system in found.values():
            system["pairs_per_second"] = workload.pairs * system["iterations"] / system["seconds"]
        ratio = found["keops"]["seconds"] / seconds if "keops" in found else None
        rows.append(
            {
                "group": "speed",
                "name": f"{workload.formula_name}{how}, D={workload.d}",
                "m": workload.m,
                "n": workload.n,
                "d": workload.d,
                "dtype": workload.formula.dtype,
                "framework": "numpy",
                "systems": found,
                "at_least": bar,
                "aim": None,
                "operations_per_pair": None,
                "ratio": ratio,
                "passed": None if ratio is None or bar is None else ratio >= bar,
                "accurate": None,
            }
        )
    return rows
