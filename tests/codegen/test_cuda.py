"""Kernels for NVIDIA GPUs without one: what LLVM writes, and what NVIDIA's assembler makes of it where that is installed."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest

from docs import generate
from pairfold.codegen.cuda import emit_module
from pairfold.codegen.mathlib_cuda import APPROXIMATE
from pairfold.fold import make_fold
from pairfold.formula.graph import apply, var, variables
from pairfold.formula.operators import OPERATORS
from pairfold.formula.reference import evaluate
from pairfold.plan.contract import Contraction, contraction
from pairfold.plan.plan import Numbers, Plan, make_plan
from pairfold.plan.schedule import MOST_ROWS
from pairfold.reductions import ACCUMULATIONS, REDUCTIONS, ArgKmin, Argmin, KminArgKmin, LogSumExp, Masked, Sum, SumSoftMaxWeight
from pairfold.runtime.compile import CAPABILITIES, compile_ptx
from pairfold.runtime.cuda import EXACT, MACHINE
from tests.codegen import one_thread
from tests.helpers import network

PTXAS = shutil.which("ptxas")
assembles = pytest.mark.skipif(PTXAS is None, reason="ptxas is not installed")
INSERTION = 16  # bytes that the rare path of the K smallest may spill


def distance(dim):
    return apply("sqdist", var("i", 0, dim), var("j", 1, dim))


def gauss(dim):
    return apply("exp", -distance(dim)) * var("j", 2, 1)


def plan_of(formulas, reduction, bits=32, contracted=False, sparse=False) -> Plan:
    numbers = Numbers(bits, (f"float{bits}",) * 9, f"float{bits}")
    if not contracted:
        return make_plan(tuple(formulas), reduction, numbers, MACHINE, sparse)
    found = contraction(tuple(formulas), reduction, bits, unrolled=True)
    assert isinstance(found, Contraction)
    condition = None if found.scale is None else apply("le", found.scale * var("p", 8, 1), 4.0)
    return make_plan(found.formulas, found.reduction, numbers, MACHINE, condition=condition, contracted=True)


def ptx_of(plan, capability=90, features=(APPROXIMATE,)) -> str:
    return compile_ptx(emit_module(plan, frozenset(features)), capability)


def assembled(plan, capability, folder, features=(APPROXIMATE,)) -> dict[str, tuple[int, int]]:
    """Registers a thread and bytes spilled, of each kernel."""
    source = folder / "kernel.ptx"
    source.write_text(ptx_of(plan, capability, features))
    command = [PTXAS, "-v", f"-arch=sm_{capability}", str(source), "-o", str(folder / "kernel.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = re.split(r"Compiling entry function '(\w+)'", done.stdout + done.stderr)[1:]
    found = {}
    for name, report in zip(parts[::2], parts[1::2], strict=True):
        spilled = re.search(r"(\d+) bytes spill stores", report)
        registers = re.search(r"Used (\d+) registers", report)
        found[name] = int(registers[1]), int(spilled[1])
    return found


def backward(dim):
    fold, _ = make_fold((gauss(dim),), Sum(), 1)
    return [pullback.fold.oriented for pullback in fold.backward((0, 1, 2))]


def matrix():
    for dim in (1, 3, 16, 64, 200):
        for bits in (32, 64):
            yield pytest.param((gauss(dim),), Sum(), bits, False, id=f"gauss-{dim}-{bits}")
            yield pytest.param((-distance(dim),), LogSumExp(), bits, False, id=f"logsumexp-{dim}-{bits}")
            yield pytest.param((distance(dim),), Argmin(), bits, False, id=f"argmin-{dim}-{bits}")
            yield pytest.param((distance(dim),), ArgKmin(10), bits, False, id=f"argKmin-{dim}-{bits}")
    for dim in (3, 16):
        for k, formulas in enumerate(backward(dim)):
            yield pytest.param(formulas, Sum(), 32, False, id=f"backward{k}-{dim}")
            yield pytest.param(formulas, Sum(), 32, True, id=f"backward{k}-{dim}-products")
        yield pytest.param((gauss(dim),), Sum(), 32, True, id=f"gauss-{dim}-products")
        yield pytest.param((-distance(dim),), LogSumExp(), 32, True, id=f"logsumexp-{dim}-products")
    yield pytest.param((distance(16),), ArgKmin(10), 32, True, id="argKmin-16-products")
    for name, accumulation in ACCUMULATIONS.items():
        yield pytest.param((gauss(3),), Sum(accumulation), 32, False, id=f"gauss-3-{name}")
        yield pytest.param((apply("sqrt", distance(2)) * var("j", 2, 1),), Sum(accumulation), 32, False, id=f"energy-2-{name}")
    near = apply("le", distance(3), 1)
    for reduction in (Sum(), LogSumExp(), Argmin(), ArgKmin(10)):
        yield pytest.param((near, distance(3)), Masked(reduction), 32, False, id=f"masked-{reduction.name}")
    yield pytest.param((apply("exp", -distance(3)) * var("j", 2, 30),), Sum(), 32, False, id="gauss-3-30-columns")
    yield pytest.param((gauss(64),), Sum(), 32, True, id="gauss-64-products")
    yield pytest.param((-distance(100),), LogSumExp(), 32, True, id="logsumexp-100-products")
    for k, formulas in enumerate(backward(64)):
        yield pytest.param(formulas, Sum(), 32, False, id=f"backward{k}-64")
        yield pytest.param(formulas, Sum(), 32, True, id=f"backward{k}-64-products")
    scores = apply("sum", var("i", 0, 64) * var("j", 1, 64))
    yield pytest.param((scores, var("j", 2, 64)), SumSoftMaxWeight(), 32, False, id="attention-64")
    for widths in ((3, 4, 1), (3, 16, 1), (3, 8, 8, 1)):
        yield pytest.param((network(*widths),), Sum(), 32, False, id=f"network-{'-'.join(map(str, widths))}")
    for widths in ((3, 12, 12, 1), (3, 16, 16, 1)):  # with more parameters than registers
        yield pytest.param((network(*widths, activation="relu"),), Sum(), 32, False, id=f"relu-{'-'.join(map(str, widths))}")


@assembles
@pytest.mark.parametrize("sparse", [False, True], ids=["all", "pattern"])
@pytest.mark.parametrize(("formulas", "reduction", "bits", "contracted"), list(matrix()))
def test_registers(formulas, reduction, bits, contracted, sparse, tmp_path):
    plan = plan_of(formulas, reduction, bits, contracted, sparse)
    for name, (registers, spilled) in assembled(plan, 90, tmp_path).items():
        assert spilled <= (INSERTION if reduction.guarded else 0), name
        threads = plan.schedule.lanes * plan.schedule.resident if name == "tile" else 128
        assert registers * threads <= 65536


# Those of a number of the pair; what turns numbers into others of another type is used within reductions alone.
FUNCTIONS = [name for name, op in OPERATORS.items() if op.doc and op.structure == "elementwise" and name not in ("unset", "widen")]


def of_pairs(name):
    """The operator of that name on numbers that each pair has, with the attributes of the docs' example."""
    example = generate.example(OPERATORS[name])
    pair = apply("dot", var("i", 0, 3), var("j", 1, 3))
    return apply(name, *[pair + k for k in range(len(example.args))], attrs=example.attrs)


def spilled(name, width, machine, features, folder):
    plan = make_plan((of_pairs(name) * var("j", 2, width),), Sum(), Numbers(32, ("float32",) * 3, "float32"), machine)
    return [bytes for _, bytes in assembled(plan, 90, folder, features).values()]


@assembles
@pytest.mark.parametrize("name", FUNCTIONS)
def test_registers_of_every_function(name, tmp_path):
    assert spilled(name, 1, MACHINE, (APPROXIMATE,), tmp_path) == spilled(name, 3, MACHINE, (APPROXIMATE,), tmp_path) == [0, 0]


@assembles
@pytest.mark.parametrize("name", ["exp", "exp2", "sqrt", "rsqrt", "div", "round"])
def test_registers_of_exact_functions(name, tmp_path):
    assert spilled(name, 1, EXACT, (), tmp_path) == [0, 0]


@assembles
@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("dim", [3, 4])
@pytest.mark.parametrize("accumulate", ACCUMULATIONS)
def test_registers_of_weights(accumulate, dim, width, tmp_path):
    laplace = apply("exp", -apply("sqrt", distance(dim))) * var("j", 2, width)
    found = assembled(plan_of((laplace,), Sum(ACCUMULATIONS[accumulate])), 90, tmp_path)
    assert [bytes for _, bytes in found.values()] == [0, 0]


@assembles
@pytest.mark.parametrize("capability", [80, 90, 120])
@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_every_reduction_on_every_generation(name, stored, capability, tmp_path):
    kind = REDUCTIONS[name]
    reduction = kind(5) if issubclass(kind, KminArgKmin) else kind()
    formulas = (distance(3), var("j", 2, 2))[: reduction.formulas]
    bits = 64 if stored == "float64" else 32
    plan = make_plan(formulas, reduction, Numbers(bits, (stored,) * 3, stored), MACHINE, sparse=stored == "bfloat16")
    found = assembled(plan, capability, tmp_path)
    assert found.keys() == {"tile", "finish"}
    for name, (registers, spilled) in found.items():
        assert spilled <= (INSERTION if reduction.guarded else 0), name
        assert registers * (plan.schedule.lanes * plan.schedule.resident if name == "tile" else 128) <= 65536


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_llvm_knows_the_capability(capability):
    assert f".target sm_{capability}" in ptx_of(plan_of((gauss(3),), Sum()), capability)


def test_the_pair_of_a_gaussian():
    """A multiple of 16 bytes of shared memory a load, one exponential a pair, no call, no local memory."""
    plan = plan_of((gauss(3),), Sum())
    ptx = ptx_of(plan)
    tile = ptx[ptx.index(".entry tile") : ptx.index(".entry finish")]
    assert "ld.shared.v4" in tile and "ex2.approx.ftz.f32" in tile
    assert "call" not in tile and ".local" not in tile
    pairs = plan.schedule.rows * plan.schedule.columns
    assert tile.count("ex2.approx") == pairs + plan.schedule.rows  # those of a whole step, and of a single column


def test_correctly_rounded_functions_on_request():
    ptx = ptx_of(plan_of((gauss(3),), Sum()), features=())
    assert "approx" not in ptx


def test_the_same_plan_gives_the_same_ptx():
    plan = plan_of((gauss(3),), Sum())
    assert ptx_of(plan) == ptx_of(plan)


# ---- what a thread computes


def wanted(reduction, formulas, arrays, rows):
    values = [np.broadcast_to(evaluate(f, arrays), (len(arrays[0]), len(arrays[1]), f.dim))[:rows] for f in formulas]
    return reduction.numpy(*values)


def near(found, expected, tolerance):
    expected = np.asarray(expected).reshape(found.shape)
    if found.dtype == np.int64:
        np.testing.assert_array_equal(found, expected)
    else:
        assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("columns", [1, 7, 1000])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_every_reduction_of_one_thread(name, columns, bits, random):
    kind = REDUCTIONS[name]
    reduction = kind(min(5, columns)) if issubclass(kind, KminArgKmin) else kind()
    formula = 1 + 0.001 * distance(3) if name == "prod" else distance(3) * var("p", 3, 1)
    formulas = (formula, var("j", 2, 2))[: reduction.formulas]
    arrays = [a.astype(f"f{bits // 8}") for a in (random.normal(size=(9, 3)), random.normal(size=(columns, 3)),
                                                  random.uniform(0.5, 1, (columns, 2)), random.uniform(0.2, 1, 1))]  # fmt: skip
    plan = plan_of(formulas, reduction, bits)
    found = one_thread.run(plan, arrays, columns)
    expected = wanted(reduction, formulas, [a.astype("f8") for a in arrays], plan.schedule.rows)
    for got, exact in zip(found[: reduction.public], expected, strict=True):
        near(got, exact, 1e-5 if bits == 32 else 1e-13)


RANGES = [(3, 4), (10, 10), (11, 60), (60, 75), (300, 900)]


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("ranges", [RANGES, RANGES[:1], [(0, 1000)]])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_every_reduction_of_some_columns(name, ranges, bits, random):
    kind = REDUCTIONS[name]
    met = np.concatenate([np.arange(*r) for r in ranges])
    reduction = kind(min(5, len(met))) if issubclass(kind, KminArgKmin) else kind()
    formula = 1 + 0.001 * distance(3) if name == "prod" else distance(3)
    formulas = (formula, var("j", 2, 2))[: reduction.formulas]
    arrays = [a.astype(f"f{bits // 8}") for a in (random.normal(size=(9, 3)), random.normal(size=(1000, 3)),
                                                  random.uniform(0.5, 1, (1000, 2)))]  # fmt: skip
    plan = plan_of(formulas, reduction, bits, sparse=True)
    found = one_thread.run(plan, arrays, 1000, ranges)
    doubles = [a.astype("f8") for a in arrays]
    expected = wanted(reduction, formulas, [doubles[0], *(a[met] for a in doubles[1:])], plan.schedule.rows)
    for got, exact in zip(found[: reduction.public], expected, strict=True):
        near(got, met[exact] if got.dtype == np.int64 else exact, 1e-5 if bits == 32 else 1e-13)


@pytest.mark.parametrize("contracted", [False, True])
@pytest.mark.parametrize("dim", [2, 3, 16, 64])
def test_no_error_grows_with_the_number_of_tiles(dim, contracted, random):
    """Over a wide range of exponents, of which few matter: what rescales a sum must be 1 where the maximum stays."""
    scale = 1 if contracted else 6
    arrays = [(random.random(s) * 2 * scale / dim**0.5).astype("f4") for s in ((MOST_ROWS, dim), (60_000, dim))]
    exact = np.stack([((a.astype("f8") - arrays[1]) ** 2).sum(-1) for a in arrays[0]])
    arrays.append(random.normal(size=(60_000, 1)).astype("f4"))
    extra = [arrays[1][:1000].mean(0), np.zeros(1, "f4"), np.zeros(1, "f4")] if contracted else []
    for formulas, reduction, expected, tolerance in (
        ((gauss(dim),), Sum(), np.exp(-exact) @ arrays[2], 4e-6),
        ((-distance(dim),), LogSumExp(), np.logaddexp.reduce(-exact, axis=1)[:, None], 6e-7),
        ((distance(dim),), ArgKmin(10), np.argsort(exact, axis=1, kind="stable")[:, :10], 0),
    ):
        if contracted and isinstance(reduction, ArgKmin) and dim < 6:
            continue
        plan = plan_of(formulas, reduction, contracted=contracted)
        used = len(variables(formulas))
        operands = [*arrays[:used], *extra]
        operands += [np.zeros(1, "f4")] * (9 - len(operands))
        (found,) = one_thread.run(plan, operands, 60_000)
        near(found, expected[: plan.schedule.rows], tolerance)


def test_a_condition(random):
    arrays = [random.normal(size=s).astype("f4") for s in ((4, 3), (50, 3), (50, 1))]
    numbers = Numbers(32, ("float32",) * 4, "float32")
    for value, runs in ((1.0, True), (0.0, False)):
        plan = make_plan((gauss(3),), Sum(), numbers, MACHINE, condition=apply("le", 0.5, var("p", 3, 1)))
        (found,) = one_thread.run(plan, [*arrays, np.array([value], "f4")], 50)
        assert (found != -7).all() == runs and (found == -7).all() == (not runs)


@pytest.mark.parametrize("dim", [3, 16, 64])
def test_rows_are_read_once(dim):
    """A thread reads its rows and shares out the columns of a tile: it does not read its rows again for each tile."""
    plan = plan_of([gauss(dim)], Sum())
    tile = emit_module(plan, frozenset({APPROXIMATE})).split('@"tile"(', 1)[1].split("\n}", 1)[0]
    loads = len(re.findall(r"load float, ptr addrspace\(1\)", tile))
    assert not plan.schedule.packed and loads < (plan.schedule.rows + 1) * dim + 12
