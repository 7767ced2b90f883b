"""Every operator of the table: its value from a kernel against its NumPy meaning, its derivatives against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from pairfold.formula.differentiate import jvp, vjp
from pairfold.formula.graph import Node, apply, var
from pairfold.formula.operators import OPERATORS, extract
from pairfold.formula.reference import evaluate
from pairfold.reductions import Sum
from tests.helpers import ARITY, FLOATS, compute, eps

TABLE = [name for name, op in OPERATORS.items() if op.structure != "leaf" and not op.internal]


def attributes(name: str, dim: int) -> list[tuple]:
    """Static parameters worth a test."""
    return {
        "powi": [(3,), (4,), (7,), (-2,), (-3,)],
        "round": [(0,), (2,), (-1,)],
        "extract": [(0, 1), (dim - 1, 1), (dim // 2, dim - dim // 2)],
        "spread": [(dim,)] if dim > 1 else [(1,), (5,), (20,)],
    }.get(name, [()])


def formulas(name: str, dim: int) -> list[Node]:
    """The operator on rows, columns and parameters (variables 0 to 2 and 3 to 5 of dimension `dim`, 6 to 8 of dimension 1)."""
    wide = [var(a, k, dim) for k, a in enumerate("ijpijp")]
    thin = [var(a, 6 + k, 1) for k, a in enumerate("ijp")]
    count = ARITY.get(name, 1)
    if count == 1:
        operands = [(wide[0],), (wide[1],), (wide[2],), (thin[0],), (wide[0] + wide[1],)]
    elif count == 2:
        operands = [(wide[0], wide[1]), (wide[1], wide[2]), (wide[2], wide[0]), (wide[0], wide[3]), (thin[1], wide[0]), (wide[1], thin[0])]
    else:
        operands = [(wide[0], wide[1], wide[2]), (wide[4], wide[3], wide[1]), (thin[0], wide[1], wide[3]), (wide[0], thin[1], thin[2])]
    return [apply(name, *o, attrs=attrs) for o in operands for attrs in attributes(name, dim) if _fits(name, o, attrs)]


def _fits(name, operands, attrs):
    return not isinstance(OPERATORS[name].dims([o.dim for o in operands], attrs), str)


def arrays(random, dim: int, dtype, make, rows: int = 19, columns: int = 4) -> list[np.ndarray]:
    length = {"i": (rows,), "j": (columns,), "p": ()}
    return [make(random, (*length[a], d)).astype(dtype) for a, d in zip("ijpijpijp", [dim] * 6 + [1] * 3, strict=True)]


def plain(random, shape):
    """Short enough that sums of two are exact: a function's jumps and poles are then where float64 has them."""
    return np.round(random.normal(size=shape) * 128) / 64


def special(random, shape):
    """Ties, zeros of both signs, infinities and nan."""
    values = random.choice([0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -3.0, np.inf, -np.inf, np.nan], size=shape)
    return np.where(random.random(shape) < 0.5, values, np.round(random.normal(size=shape) * 8) / 8)


def without_nan(random, shape):
    return np.nan_to_num(special(random, shape), nan=1.0, posinf=np.inf, neginf=-np.inf)


def nonpositive(random, shape):
    return -np.abs(special(random, shape))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("dim", [1, 3, 20])
@pytest.mark.parametrize("name", TABLE)
def test_value(name, dim, dtype, random):
    # All cases are one formula, so that one kernel serves them; with one column at a time every pair is seen.
    cases = formulas(name, dim)
    whole = apply("concat", *cases)
    makes = {"fmax": (plain, without_nan), "fmin": (plain, without_nan), "exp_nonpositive": (nonpositive,)}.get(name, (plain, special))
    for make in makes:
        data = arrays(random, dim, dtype, make)
        for column in range(4):
            given = [a[column : column + 1] if k % 3 == 1 else a for k, a in enumerate(data)]
            (found,) = compute([whole], Sum(), 1, given)
            # The scale of a component: that of the terms of a sum.
            start = 0
            for case in cases:
                with np.errstate(all="ignore"):
                    wanted = np.broadcast_to(evaluate(case, given), (19, 1, case.dim))[:, 0]
                    scale = np.maximum(1, np.nan_to_num(np.abs(wanted), posinf=0))
                    if name in ("sum", "dot", "sqdist"):
                        scale = scale + 40 * dim
                    wanted = wanted.astype(dtype)
                got = found[:, start : start + case.dim]
                start += case.dim
                finite = np.isfinite(wanted)
                np.testing.assert_array_equal(got[~finite], wanted[~finite], err_msg=str(case))
                bound = (16 if name != "pow" else 128) * eps(dtype) * scale
                error = np.abs(got.astype(np.float64)[finite] - wanted.astype(np.float64)[finite])
                assert np.all(error <= bound[finite]), f"{case}: {np.max(error / bound[finite])} times the bound"


def test_the_table_is_covered():
    for name in TABLE:
        for dim in (1, 3, 20):
            assert formulas(name, dim), name


# ---- derivatives


def positive(random, shape):
    """Random, so that no kink is near."""
    return random.uniform(0.5, 1.5, shape)


def inside(random, shape):
    """Where the inverse sine of a sum of two is smooth."""
    return random.uniform(0.1, 0.45, shape)


def differences(formula: Node, data, variable: Node, component: int) -> np.ndarray:
    """The derivative by one component of a variable, (M, N, D), from central differences."""
    h = 1e-5
    moved = []
    for sign in (h, -h):
        given = list(data)
        given[variable.attrs[1]] = given[variable.attrs[1]].copy()
        given[variable.attrs[1]][..., component] += sign
        moved.append(evaluate(formula, given))
    return (moved[0] - moved[1]) / (2 * h)


def check_derivatives(formula: Node, data, tolerance: float = 3e-5) -> None:
    variables = sorted(set(_leaves(formula)), key=str)
    weight = var("i", len(data), formula.dim)
    data = [*data, np.random.default_rng(3).normal(size=(len(data[0]), formula.dim))]
    gradients = vjp(formula, variables, weight)
    for v, gradient in zip(variables, gradients, strict=True):
        for component in range(min(v.dim, 4)):
            change = differences(formula, data, v, component)
            wanted = (change * data[-1][:, None, :]).sum(-1)
            found = 0 * wanted if gradient is None else np.broadcast_to(evaluate(gradient, data)[..., component], wanted.shape)
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance, err_msg=f"d {formula} / d {v}[{component}]")
            tangent = apply("concat", *[apply("spread", float(k == component), attrs=(1,)) for k in range(v.dim)])
            forward = jvp(formula, {v: tangent})
            moved = 0 * change if forward is None else np.broadcast_to(evaluate(forward, data), change.shape)
            np.testing.assert_allclose(moved, change, rtol=tolerance, atol=tolerance, err_msg=f"d {formula} along {v}[{component}]")
            assert forward is None or forward.dim == formula.dim
        assert gradient is None or gradient.dim == v.dim


def _leaves(node):
    return [node] if node.op.name == "var" else [leaf for a in node.args for leaf in _leaves(a)]


@pytest.mark.parametrize("dim", [1, 3, 10])
@pytest.mark.parametrize("name", TABLE)
def test_derivatives(name, dim, random):
    data = arrays(random, dim, np.float64, inside if name in ("asin", "acos") else positive, rows=3, columns=2)
    for formula in formulas(name, dim):
        check_derivatives(formula, data)


@pytest.mark.parametrize("name", TABLE)
def test_second_derivatives(name, random):
    dim = 2
    data = arrays(random, dim, np.float64, inside if name in ("asin", "acos") else positive, rows=3, columns=2)
    for formula in formulas(name, dim):
        for gradient in vjp(formula, _leaves(formula), var("j", 4, 2) if formula.dim == 2 else var("j", 7, 1)):
            if gradient is not None:
                check_derivatives(gradient, data, 1e-3)


@pytest.mark.parametrize(
    ("build", "at", "wanted"),
    [
        (lambda a: apply("sqrt", a), 0.0, 0.0),
        (lambda a: apply("norm2", a), 0.0, 0.0),
        (lambda a: apply("normalize", a), 0.0, 0.0),
        (lambda a: apply("abs", a), 0.0, 0.0),
        (lambda a: apply("relu", a), 0.0, 0.0),
        (lambda a: apply("pow", a, 2), 0.0, 0.0),
        (lambda a: apply("sqnorm2", a), 0.0, 0.0),
        (lambda a: apply("powi", a, attrs=(3,)), 0.0, 0.0),
        (lambda a: apply("maximum", a, 0), 0.0, 0.5),
        (lambda a: apply("minimum", a, 0), 0.0, 0.5),
        (lambda a: apply("max", apply("concat", a, a, a)), 1.0, 1.0),
        (lambda a: apply("where", apply("gt", a, 0), apply("sqrt", a), 0), 0.0, 0.0),
    ],
)
def test_derivatives_at_kinks(build, at, wanted):
    x = var("i", 0, 1)
    (gradient,) = vjp(build(x), [x], apply("spread", 1, attrs=(1,)))
    np.testing.assert_array_equal(evaluate(gradient, [np.full((1, 1), at)]).ravel(), [wanted])


def test_what_does_not_depend_has_no_derivative():
    x, y = var("i", 0, 2), var("j", 1, 2)
    assert vjp(x * 2, [x, y], x)[1] is None
    assert jvp(x * 2, {y: y}) is None


def test_a_derivative_of_a_variable_used_twice():
    x, y = var("i", 0, 3), var("j", 1, 3)
    shared = apply("exp", -apply("sqdist", x, y))
    formula = shared * shared + shared * apply("dot", x, x)
    check_derivatives(formula, [np.random.default_rng(k).normal(size=(2, 3)) / 2 for k in (1, 2)])


def test_extract_of_a_whole_is_the_vector():
    x = var("i", 0, 3)
    assert extract(x, 0, 3) is x
