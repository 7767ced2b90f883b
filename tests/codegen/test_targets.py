"""Other CPUs than this one: x86's architecture levels run here, NEON is compiled and looked at."""

import os
import platform
import subprocess
import sys

import llvmlite.binding as llvm
import pytest

from pairfold.codegen.cpu import emit_modules
from pairfold.formula.graph import apply, var
from pairfold.plan.plan import Numbers, make_plan
from pairfold.plan.schedule import MANY, Few, Machine
from pairfold.reductions import ArgKmin, Argmin, LogSumExp, Sum, SumSoftMaxWeight
from pairfold.runtime.compile import LEVELS

PROGRAM = """
import numpy as np
from pairfold import Vi, Vj
random = np.random.default_rng(0)
for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
    for dim in (1, 3, 20):
        x, y = (random.standard_normal((n, dim)).astype(dtype) / dim for n in (75, 301))
        b = random.standard_normal((301, 12)).astype(dtype)
        square = ((x[:, None].astype("f8") - y) ** 2).sum(-1)
        D = ((Vi(x) - Vj(y)) ** 2).sum(-1)
        np.testing.assert_allclose((-D).exp() @ b, np.exp(-square) @ b, rtol=0, atol=30 * tolerance)
        np.testing.assert_allclose((-D).logsumexp(1), np.log(np.exp(-square).sum(1)), rtol=tolerance)
        np.testing.assert_allclose(D.Kmin(7, axis=0), np.sort(square.T, axis=1)[:, :7], rtol=0, atol=tolerance)
        waves = (np.sin(square) + np.cos(square) * np.log(1 + square)).sum(0)
        np.testing.assert_allclose((D.sin() + D.cos() * (1 + D).log()).sum(0), waves, rtol=0, atol=200 * tolerance)
        assert (D.argmin(1) == square.argmin(1)).all()
    x, y = (random.standard_normal((n, 2)).astype(dtype) for n in (3, 100_001))  # few rows have a tile of their own
    square = ((x[:, None].astype("f8") - y) ** 2).sum(-1)
    np.testing.assert_allclose((-((Vi(x) - Vj(y)) ** 2).sum(-1)).exp().sum(1), np.exp(-square).sum(1), rtol=tolerance)
print("right")
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86's levels run on x86 alone")
@pytest.mark.parametrize("level", LEVELS)
def test_levels_of_x86(level, tmp_path):
    if level == "x86-64-v4" and "avx512f" not in str(llvm.get_host_cpu_features().flatten()).replace("-avx512f", ""):
        pytest.skip("this processor has no AVX-512")
    environment = {**os.environ, "PAIRFOLD_CPU": level, "PAIRFOLD_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=200)
    assert done.stdout == "right\n", done.stderr


def test_a_level_that_does_not_exist(tmp_path):
    environment = {**os.environ, "PAIRFOLD_CPU": "pentium", "PAIRFOLD_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60)
    assert "PAIRFOLD_CPU is 'pentium'; it must be one of x86-64, x86-64-v3, x86-64-v4" in done.stderr


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("dim", [3, 40])
@pytest.mark.parametrize("few", [MANY, Few(9, joined=True, in_place=True)], ids=["many", "few"])
@pytest.mark.parametrize("reduction", [Sum(), LogSumExp(), Argmin(), ArgKmin(5), SumSoftMaxWeight()], ids=lambda r: r.name)
def test_neon(reduction, few, dim, bits):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    x, y, b = var("i", 0, dim), var("j", 1, dim), var("j", 2, 1)
    kernel = apply("exp", -apply("sum", apply("square", x - y)))
    formulas = (kernel, b)[: reduction.formulas]
    plan = make_plan(formulas, reduction, Numbers(bits, (f"float{bits}",) * 9, f"float{bits}"), Machine("cpu", 128, 32), few=few)
    target = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine(cpu="neoverse-n1", opt=3)
    assembly = ""
    for text in emit_modules(plan, "aarch64-unknown-linux-gnu", frozenset({"neon"}), 128):
        module = llvm.parse_assembly(text)
        module.verify()
        assembly += target.emit_assembly(module)
    lanes = ".4s" if bits == 32 else ".2d"
    assert f"{lanes}" in assembly and "fmla" in assembly
    called = {line.split()[1] for line in assembly.splitlines() if line.split()[:1] == ["bl"]}
    assert called <= {"insert", "alone", "pack_par_task", "pack_row_task", "pack_col_task", "tile_task", "finish_task"}
