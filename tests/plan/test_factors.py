"""What leaves the inner loop: formulas rewritten for it have the values that they had."""

from __future__ import annotations

import numpy as np
import pytest

from pairfold import LazyTensor, Vi, Vj
from pairfold.formula.graph import apply, slot, substitute, var
from pairfold.formula.operators import extract
from pairfold.formula.reference import evaluate
from pairfold.formula.simplify import expand, simplify
from pairfold.plan.contract import contraction
from pairfold.plan.exponent import push_factors, to_base_two
from pairfold.plan.hoist import hoist
from pairfold.plan.separate import components, separate
from pairfold.reductions import LogOfSum, LogSumExp, Sum

X, Y, B, G, P = var("i", 0, 3), var("j", 1, 3), var("j", 2, 1), var("i", 3, 1), var("p", 4, 1)
E = apply("exp", -apply("sum", apply("square", X - Y)) * P)
FORMULAS = {
    "gauss": E * B,
    "row factor": G * (E * B),
    "quotient": (E * B) / G,
    "parameter": -(P * E),
    "gradient": (2 * (X - Y)) * (E * (B * G)),
    "two gradients": apply("concat", -((X - Y) * (E * G)), E * G),
    "row alone": X * G,
    "sum of products": X * Y + Y,
    "vector factor": apply("exp", -apply("square", X - Y)) * X,
}


@pytest.fixture
def arrays(random):
    sizes = [(7, 3), (11, 3), (11, 1), (7, 1), (1,)]
    return [random.normal(size=s) if k != 3 else random.uniform(0.5, 2, size=s) for k, s in enumerate(sizes)]


def summed(formula, arrays):
    return np.broadcast_to(evaluate(formula, arrays), (7, 11, formula.dim)).sum(1)


@pytest.mark.parametrize("differences", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_separated_sums(name, differences, arrays):
    (formula,) = simplify(expand((FORMULAS[name],)))
    parted = separate(formula, differences)
    sums = summed(parted.formula, arrays)
    total = slot("total", 0, parted.formula.dim)
    # The sums stand in for a variable of the row, at the end.
    (result,) = substitute([parted.result(total)], {total: var("i", 5, total.dim)})
    found = np.broadcast_to(evaluate(result, [*arrays, sums]), (7, 1, formula.dim))[:, 0]
    np.testing.assert_allclose(found, summed(formula, arrays), rtol=1e-12, atol=1e-12)


def test_a_factor_of_the_row_is_not_multiplied_pair_by_pair():
    (formula,) = simplify(expand((FORMULAS["gradient"],)))
    assert G not in _below(separate(formula, False).formula)
    assert separate(formula, True).formula.dim == 4  # Σ f and Σ y f


def _below(node):
    return {node}.union(*map(_below, node.args))


@pytest.mark.parametrize("name", FORMULAS)
def test_powers_of_two(name, arrays):
    (formula,) = simplify(expand((FORMULAS[name],)))
    (changed,) = to_base_two((formula,))
    assert not {"exp", "exp_of_rounded"} & {n.op.name for n in _below(changed)}
    np.testing.assert_allclose(evaluate(changed, arrays), evaluate(formula, arrays), rtol=1e-12)


def test_coordinates_are_not_scaled_before_they_are_subtracted():
    one = apply("exp", var("i", 0, 1) - var("j", 1, 1))
    (changed,) = to_base_two((one,))
    assert var("i", 0, 1) - var("j", 1, 1) in _below(changed)


@pytest.mark.parametrize("reduction", [Sum(), LogSumExp()], ids=lambda r: r.name)
def test_factors_of_inner_products(reduction, arrays):
    formula = -apply("sum", apply("square", X - Y)) * P
    formula = formula if isinstance(reduction, LogSumExp) else apply("exp", formula)
    found = contraction((formula,), reduction, 32, unrolled=True)
    (changed,) = to_base_two(push_factors(found.formulas))
    centre = np.array([0.3, -0.1, 0.2])
    pairs = formula if reduction == Sum() else apply("exp", formula)  # the logarithm of whose sum is taken
    np.testing.assert_allclose(evaluate(changed, [*arrays, centre]), evaluate(pairs, arrays), rtol=1e-12, atol=1e-12)
    assert isinstance(found.reduction, Sum if reduction == Sum() else LogOfSum)
    assert changed.args[0].op.name == "sum"  # the scale went into one of the sides


@pytest.mark.parametrize("name", ["gradient", "two gradients", "vector factor", "sum of products"])
def test_components(name, arrays):
    (formula,) = expand((FORMULAS[name],))
    for start in range(formula.dim):
        for length in range(1, formula.dim - start + 1):
            part = components(formula, start, length)
            assert part.dim == length
            np.testing.assert_allclose(evaluate(part, arrays), evaluate(extract(formula, start, length), arrays))


HALVES = {"quotient": (lambda a: a / 2, 0.5), "quarter": (lambda a: a * 0.25, 0.25), "product": (lambda a: 0.5 * a, 0.5)}


@pytest.mark.parametrize(("half", "part"), HALVES.values(), ids=HALVES)
def test_halves_leave_the_loop(half, part, arrays):
    """A power of 2 moves to what is computed once: the same numbers, to the last bit."""
    square = apply("sum", apply("square", X - Y))
    (formula,) = simplify((B - P * half(square),))
    (body,) = hoist((formula,)).body
    multiplied = [n for n in _below(body) if n.op.name in ("mul", "div")]
    assert len(multiplied) == 1 and not any(n.op.name == "const" for n in multiplied[0].args)
    single = [a.astype(np.float32) for a in arrays]
    whole = LazyTensor(single[4])
    square_ij = ((Vi(single[0]) - Vj(single[1])) ** 2).sum(-1)
    np.testing.assert_array_equal((whole * half(square_ij)).sum(1), (whole * part * square_ij).sum(1))


def test_other_factors_stay():
    """3 · (a/3) rounds otherwise than (3/3) · a, and doubling may overflow."""
    square = apply("sum", apply("square", X - Y))
    for factor in (2.0, 0.3, 1 / 3):
        (body,) = hoist(simplify((P * (square * factor),))).body
        assert any(n.op.name == "const" for m in _below(body) if m.op.name == "mul" for n in m.args)
