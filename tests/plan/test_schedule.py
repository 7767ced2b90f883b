"""Tiles of long formulas, which unrolling would make long to compile, and slow."""

from __future__ import annotations

import numpy as np
import pytest

from pairfold.codegen.cpu import emit_modules as emit_cpu
from pairfold.codegen.cuda import emit_module as emit_cuda
from pairfold.formula.graph import Node, apply, var
from pairfold.plan.plan import Numbers, make_plan
from pairfold.plan.schedule import Machine
from pairfold.reductions import ArgKmin, LogSumExp, Min, Prod, Sum
from pairfold.runtime.cuda import MACHINE
from tests.helpers import compute, expected, network

CPU, ZEN4, CUDA = Machine("cpu", 512, 32), Machine("cpu", 512, 32, turns=True), MACHINE


def chain(length: int) -> Node:
    formula = apply("sum", var("i", 0, 3) * var("j", 1, 3))
    for _ in range(length):
        formula = apply("sin", formula) + 0.5
    return formula


@pytest.mark.parametrize("reduction", [Sum(), LogSumExp(), ArgKmin(10)], ids=lambda reduction: reduction.name)
@pytest.mark.parametrize("formula", [chain(60), network(3, 8, 8, 1), network(3, 16, 16, 1)], ids=["chain", "8-8", "16-16"])
@pytest.mark.parametrize("machine", [CPU, CUDA], ids=["cpu", "cuda"])
def test_code_is_short(formula, reduction, machine):
    """Some tens of thousands of lines at the most: of 64 pairs at once these would have half a million."""
    plan = make_plan((formula,), reduction, Numbers(32, ("float32",) * 8, "float32"), machine)
    features = frozenset({"avx512f", "avx512dq"})
    triple = "x86_64-unknown-linux-gnu"
    texts = [emit_cuda(plan, frozenset())] if machine is CUDA else emit_cpu(plan, triple, features, machine.vector_bits)
    assert sum(text.count("\n") for text in texts) < 40_000


@pytest.mark.parametrize("machine", [CPU, ZEN4, CUDA], ids=["cpu", "zen4", "cuda"])
def test_short_formulas_are_unrolled(machine):
    """Several pairs a step hide the wait for results: of a thread of a GPU sixteen, of a processor four vectors at least."""
    distance = apply("sqdist", var("i", 0, 3), var("j", 1, 3))
    for formula, reduction in [(apply("exp", -distance), Sum()), (-distance, LogSumExp())]:
        for bits in (32,) if reduction.blocked > 1 else (32, 64):
            s = make_plan((formula,), reduction, Numbers(bits, (f"float{bits}",) * 2, f"float{bits}"), machine).schedule
            assert s.group * s.columns >= (16 if machine is CUDA and bits == 32 else 4 if machine is not ZEN4 else 2)
            assert (s.abreast == 1) == (machine is ZEN4)


@pytest.mark.parametrize("reduction", [Sum(), Prod(), LogSumExp(), ArgKmin(10), Min()], ids=lambda reduction: reduction.name)
@pytest.mark.parametrize("axis", [0, 1])
def test_long_formulas(reduction, axis, random):
    """In tiles that other formulas do not have: one column a step, and vectors of rows side by side."""
    data = [random.uniform(-1, 1, (s, 3)) for s in (70, 93)]
    for found, wanted in zip(compute([chain(30)], reduction, axis, data), expected([chain(30)], reduction, axis, data), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9)
