"""Every operator of the table: its value from a kernel against its NumPy meaning, its derivatives against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.interpolate  # type: ignore[import-untyped]
import scipy.special  # type: ignore[import-untyped]

from pairfold.formula.differentiate import jvp, vjp
from pairfold.formula.graph import Node, apply, var
from pairfold.formula.operators import OPERATORS, extract
from pairfold.formula.reference import evaluate
from pairfold.reductions import Sum
from tests.formula.cases import formulas
from tests.helpers import FLOATS, compute, eps

TABLE = [name for name, op in OPERATORS.items() if op.structure != "leaf" and not op.internal]


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
    makes = {
        "fmax": (plain, without_nan),
        "fmin": (plain, without_nan),
        "exp_of_rounded": (nonpositive,),
        "exp_closely": (nonpositive,),
        "exp2_middling": (plain,),
        "exp2_or_zero": (plain,),
    }.get(name, (plain, special))
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
                    if name in SUMS:
                        scale = scale + np.nan_to_num(np.broadcast_to(size_of_terms(case, given), (19, 1, case.dim))[:, 0], posinf=0)
                    wanted = wanted.astype(dtype)
                got = found[:, start : start + case.dim]
                start += case.dim
                finite = np.isfinite(wanted)
                np.testing.assert_array_equal(got[~finite], wanted[~finite], err_msg=str(case))
                bound = (128 if name == "pow" else 32 if name == "polygamma" else 16) * eps(dtype) * scale
                error = np.abs(got.astype(np.float64)[finite] - wanted.astype(np.float64)[finite])
                assert np.all(error <= bound[finite]), f"{case}: {np.max(error / bound[finite])} times the bound"


def size_of_terms(case: Node, given: list[np.ndarray]) -> np.ndarray:
    """What a sum of products is without cancellation."""
    values = [np.abs(evaluate(a, given)) for a in case.args]
    if case.op.name in ("sqdist", "weightedsqdist"):
        values[-1] = -values[-1]
    return case.op.numpy(*values, *case.attrs)


SUMS = {"sum", "dot", "sqnorm2", "sqdist", "weightedsqnorm", "weightedsqdist", "einsum", "matvecmult", "vecmatmult", "tensordot"}


def test_the_table_is_covered():
    for name in TABLE:
        for dim in (1, 3, 20):
            assert formulas(name, dim), name


def test_meanings_of_the_gamma_functions_are_scipys(random):
    x = np.concatenate([random.uniform(0, 30, 200), random.uniform(-9, 0, 200)])
    ends = OPERATORS["lgamma"].numpy(np.array([np.inf, -np.inf, np.nan, 0.0, -3.0]))
    np.testing.assert_array_equal(ends, [np.inf, np.inf, np.nan, np.inf, np.inf])  # as in C and PyTorch; SciPy has -inf at -inf
    for name, attrs, exact in [
        ("lgamma", (), scipy.special.gammaln(x)),
        ("digamma", (), scipy.special.digamma(x)),
        *[("polygamma", (n,), scipy.special.polygamma(n, x)) for n in (1, 2, 3, 5)],
    ]:
        np.testing.assert_allclose(OPERATORS[name].numpy(x, *attrs), exact, rtol=1e-11, atol=1e-11, err_msg=f"{name}{attrs}")


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5])
def test_meaning_of_splines_is_scipys(degree, random):
    knots = np.sort(random.normal(size=14))
    knots[4] = knots[5]
    at = np.setdiff1d(random.uniform(knots[degree], knots[-degree - 1], 50), knots)
    design = scipy.interpolate.BSpline.design_matrix(at, knots, degree).toarray()
    np.testing.assert_allclose(OPERATORS["bspline"].numpy(knots, at[:, None], degree), design, rtol=1e-12, atol=1e-12)


def test_meaning_of_soft_warping_by_every_path(random):
    """The soft minimum over all monotone paths of the sum of squared differences along it."""
    a, b, scale = random.normal(size=4), random.normal(size=3), 0.7

    def paths(r, c):
        here = (a[r] - b[c]) ** 2
        if r == c == 0:
            return [here]
        before = [(r - 1, c - 1), (r - 1, c), (r, c - 1)]
        return [here + cost for p, q in before if p >= 0 and q >= 0 for cost in paths(p, q)]

    wanted = -scale * scipy.special.logsumexp(-np.array(paths(3, 2)) / scale)
    np.testing.assert_allclose(OPERATORS["softdtw_sqdist"].numpy(a, b, np.array([scale])), [wanted], rtol=1e-13)


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
