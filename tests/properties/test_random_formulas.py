"""Random formulas, sizes, axes and reductions against dense float64 NumPy."""

from __future__ import annotations

import os

import numpy as np
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from pairfold.formula.differentiate import vjp
from pairfold.formula.graph import Node, apply, topological, var
from pairfold.formula.operators import OPERATORS, concat, extract
from pairfold.formula.reference import evaluate
from pairfold.reductions import REDUCTIONS, KminArgKmin, Sum
from tests.helpers import ARITY, compute, dense, eps, expected

EXAMPLES = int(os.environ.get("PAIRFOLD_EXAMPLES", "150"))
relaxed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)

INTERNAL = {"fmax", "fmin", "exp_nonpositive", "exp_or_zero"} | {n for n, op in OPERATORS.items() if op.internal}  # made by the planner
NAMES = sorted(name for name, op in OPERATORS.items() if op.structure != "leaf" and name not in INTERNAL)
DIMS = st.one_of(st.sampled_from([1, 3, 8, 9]), st.integers(1, 20))
SIZES = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 255, 256, 257, 300]))
JUMPS = {"sign", "step", "lt", "le", "gt", "ge", "eq", "ne", "logical_and", "logical_or", "logical_not", "isnan", "where",
         "floor", "ceil", "trunc", "round", "mod", "ifelse", "argmin", "argmax", "one_hot", "take", "bspline"}  # fmt: skip
LONGEST = 24  # components of a node


@st.composite
def formulas(draw, jumps: bool = True) -> Node:
    """A formula over the variables 0 to 5, of random axes and dimensions; depth 1 to 5."""
    axes = draw(st.lists(st.sampled_from("ijp"), min_size=4, max_size=4))
    dim = draw(DIMS)
    dims = [draw(st.sampled_from([dim, dim, 1])) for _ in range(6)]
    pool: list[Node] = [var(a, k, d) for k, (a, d) in enumerate(zip(["i", "j", *axes], dims, strict=True))]
    usable = NAMES if jumps else [n for n in NAMES if n not in JUMPS]
    for _ in range(draw(st.integers(1, 6))):
        name = draw(st.sampled_from(usable))
        first = draw(st.sampled_from(pool[-4:]))
        pool.append(shaped(draw, name, first, pool) if name in SHAPED else plain(draw, name, first, pool))
    found = pool[-1]
    assume(found.dim <= LONGEST)
    return found


def plain(draw, name: str, first: Node, pool: list[Node]) -> Node:
    """An operator on operands that broadcast."""
    fitting = [n for n in pool if n.dim in (1, first.dim)]
    if name == "concat":
        fitting = [n for n in pool if n.dim + first.dim <= LONGEST] or [pool[0]]
    others = [draw(st.sampled_from(fitting)) for _ in range(ARITY[name] - 1)]
    attrs: tuple = ()
    if name == "powi":
        attrs = (draw(st.sampled_from([-2, 3, 4])),)
    elif name == "round":
        attrs = (draw(st.integers(0, 2)),)
    elif name == "polygamma":
        attrs = (draw(st.integers(1, 3)),)
    elif name == "matern":
        first, attrs = apply("square", first), (draw(st.integers(0, 3)),)
    elif name == "extract":
        start = draw(st.integers(0, first.dim - 1))
        attrs = (start, draw(st.integers(1, first.dim - start)))
    elif name == "insert":
        start = draw(st.integers(0, 3))
        attrs = (start, first.dim + start + draw(st.integers(0, 3)))
    elif name == "spread":
        attrs = (first.dim if first.dim > 1 else draw(DIMS),)
    return apply(name, first, *others, attrs=attrs)


def shaped(draw, name: str, first: Node, pool: list[Node]) -> Node:
    """An operator whose operands' dimensions follow rules of their own."""
    other = draw(st.sampled_from(pool))
    d, e = first.dim, other.dim
    one = extract(first, draw(st.integers(0, d - 1)), 1)
    if name == "arange":
        return apply(name, attrs=(d,)) - first
    if name == "one_hot":
        return apply(name, one * 3, attrs=(draw(DIMS),))
    if name == "take":  # between whole numbers, where the row changes
        return apply(name, concat(first, first + 1, first * 2), apply("sin", one) + 1.5, attrs=(d,))
    if name == "weightedsqnorm":
        return apply(name, draw(st.sampled_from([one, first, apply("tensorprod", first, first)] if d < 6 else [one, first])), first)
    if name == "weightedsqdist":
        return apply(name, draw(st.sampled_from([one, first])), first, other if e in (1, d) else one)
    if name == "cross":
        return apply(name, concat(one, one + 1, extract(other, 0, 1)), concat(extract(other, e - 1, 1), one * 2, one))
    if name == "bspline":
        return apply(name, concat(one - 2, one - 1, one, one + 0.5, one + 2), extract(other, 0, 1), attrs=(draw(st.integers(0, 3)),))
    if name == "softdtw_sqdist":
        return apply(name, extract(first, 0, min(d, 3)), extract(other, 0, min(e, 3)), apply("square", one) + 0.5)
    if name in ("matvecmult", "vecmatmult"):
        matrix = concat(*[first] * e)
        pair = (matrix, other) if name == "matvecmult" else (other, matrix)
        return apply(name, *pair)
    if d * e > LONGEST:
        other, e = extract(other, 0, 1), 1
    if name == "kron":
        return apply(name, first, other, attrs=((1, d), (e, 1)))
    if name == "tensordot":
        return apply(name, first, other, attrs=((d,), (e,), (), (), (1, 0)) if d != e else ((1, d), (d, 1), (1,), (0,)))
    if name == "einsum":
        wide = concat(first, one)
        return apply(name, wide, apply("square", wide), attrs=draw(st.sampled_from([("a,a->", (d + 1,)), ("a,a->a", (d + 1,))])))
    return apply(name, first, other)  # all pairs of components


SHAPED = {"arange", "one_hot", "take", "weightedsqnorm", "weightedsqdist", "cross", "bspline", "softdtw_sqdist", "matvecmult", "vecmatmult",
          "kron", "tensordot", "einsum", "tensorprod", "difference_matrix"}  # fmt: skip


def leaves(formula: Node) -> list[Node]:
    return sorted((n for n in topological([formula]) if n.op.name == "var"), key=lambda n: n.attrs[1])


def data(formula: Node, rows: int, columns: int, seed: int, dtype: str) -> list[np.ndarray]:
    """Numbers that are exact in float32, away from 0: no kink is near unless two are alike."""
    random = np.random.default_rng(seed)
    found = [np.ones(1, dtype)] * 6
    for leaf in leaves(formula):
        axis, k, d, _ = leaf.attrs
        shape = {"i": (rows, d), "j": (columns, d), "p": (d,)}[axis]
        found[k] = (random.uniform(0.3, 1.4, shape) * random.choice([-1, 1, 1], shape)).astype(np.float32).astype(dtype)
    return found


def stable(formula: Node, arrays, pair, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The dense values, and how far rounding may carry them: seen by moving every variable and every operator's value a little."""
    values = dense(formula, arrays, pair)
    assume(np.isfinite(values).all() and np.abs(values).max() < 1e4)
    spread = np.zeros_like(values)
    for seed in range(3):
        spread = np.maximum(spread, np.abs(perturbed(formula, arrays, 1e-7, seed) - values))
    assume(np.isfinite(spread).all())
    sensitivity = spread / 1e-7
    assume(sensitivity.max() < 1e4)  # neither ill-conditioned nor at a jump
    # Terms of order 1 may cancel exactly in float64, and leave their rounding here.
    return values, (20 * sensitivity + np.abs(values) + 1) * 8 * eps(dtype)


def perturbed(formula: Node, arrays, by: float, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    values: dict[Node, np.ndarray] = {}
    for node in topological([formula]):
        if node.args:
            with np.errstate(all="ignore"):
                value = np.asarray(node.op.numpy(*(values[a] for a in node.args), *node.attrs), dtype=np.float64)
        else:
            value = evaluate(node, arrays)
        exact = node.op.structure == "index" or node.op.name in JUMPS or node.op.name == "const"
        values[node] = value if exact else value * (1 + by * random.choice([-1, 1], value.shape))
    return values[formula]


def assert_near(found: np.ndarray, wanted: np.ndarray, bound: np.ndarray, formula: Node) -> None:
    assert found.shape == wanted.shape
    error = np.abs(found.astype(np.float64) - wanted)
    worst = np.nanmax(error / bound) if error.size else 0
    assert np.all(error <= bound), f"{formula}: {worst} times the bound"


@given(formulas(), st.sampled_from(sorted(REDUCTIONS)), st.integers(0, 1), SIZES, SIZES, st.sampled_from(["float32", "float64"]), st.data())
@relaxed
def test_value(formula, name, axis, rows, columns, dtype, more):
    arrays = data(formula, rows, columns, more.draw(st.integers(0, 99)), dtype)
    values, bound = stable(formula, arrays, (rows, columns), dtype)
    kind = REDUCTIONS[name]
    length = (rows, columns)[axis]
    reduction = kind(more.draw(st.integers(1, min(6, length)))) if issubclass(kind, KminArgKmin) else kind()
    if name == "prod":
        assume(np.abs(values).max() ** length < 1e30 and (np.abs(values).min() + 1e-9) ** length > 1e-30)
    parts = [formula]
    if reduction.formulas == 2:
        weight = var("j" if axis else "i", 6, 1)
        parts.append(weight)
        arrays.append(np.random.default_rng(5).uniform(0.5, 1.5, (length, 1)).astype(np.float32).astype(dtype))
    event(name)
    found = compute(parts, reduction, axis, arrays, (rows, columns))
    wanted = expected(parts, reduction, axis, arrays, (rows, columns))
    turned, limit = (values, bound) if axis == 1 else (values.swapaxes(0, 1), bound.swapaxes(0, 1))
    largest = limit.max(1) + eps(dtype) * np.abs(turned).max(1)
    for got, want, sort in zip(found, wanted, reduction.results, strict=False):
        if sort == "index":
            assert got.dtype == np.int64 and got.min() >= 0 and got.max() < length
            chosen, best = (np.take_along_axis(turned, k if k.ndim == 3 else k[:, None], 1) for k in (got, want))
            assert_near(chosen, best, np.broadcast_to(2 * largest[:, None], best.shape) + 1e-300, formula)
            continue
        assert got.dtype == dtype
        if name == "sum":
            reach = limit.sum(1) + 64 * eps(dtype) * np.abs(turned).sum(1)  # equal terms round alike
        elif name == "prod":
            with np.errstate(divide="ignore", invalid="ignore"):
                relative = np.where(turned == 0, np.where(limit > 0, np.inf, 0), limit / np.abs(turned)).sum(1)
            assume(relative.max() < 0.1)
            reach = np.abs(want) * (2 * relative + 4 * length * eps(dtype)) + 1e-37
        elif name.startswith("Kmin"):
            reach = np.broadcast_to(largest[:, None], want.shape)
        elif name in ("min", "max", "min_argmin", "max_argmax"):
            reach = largest
        else:
            reach = (4 * largest + 40 * eps(dtype)) * (2 + np.abs(want))
        assert_near(got, want, np.broadcast_to(reach, want.shape) + 1e-300, formula)


@given(formulas(), SIZES, SIZES, st.sampled_from(["float32", "float64"]), st.integers(0, 99))
@relaxed
def test_derivative(formula, rows, columns, dtype, seed):
    """The kernel of a derivative's formula against that formula, evaluated densely."""
    cotangent = var("i", 6, formula.dim)
    arrays = data(formula, rows, columns, seed, dtype)
    arrays.append(np.random.default_rng(seed).uniform(0.5, 1.5, (rows, formula.dim)).astype(np.float32).astype(dtype))
    gradients = [g for g in vjp(formula, leaves(formula), cotangent) if g is not None]
    assume(gradients)
    whole = apply("concat", *gradients) if len(gradients) > 1 else gradients[0]
    assume(whole.dim <= 60)
    values, bound = stable(whole, arrays, (rows, columns), dtype)
    for axis in (0, 1):
        (found,) = compute([whole], Sum(), axis, arrays, (rows, columns))
        reach = (bound + 64 * eps(dtype) * np.abs(values)).sum(axis)
        assert_near(found, values.sum(axis), reach + 1e-300, whole)


@given(formulas(jumps=False), st.integers(0, 99))
@relaxed
def test_derivative_against_differences(formula, seed):
    arrays = data(formula, 3, 4, seed, "float64")
    values, _ = stable(formula, arrays, (3, 4), "float64")
    assume(all(np.isfinite(evaluate(node, arrays)).all() for node in topological([formula])))  # else nothing has a derivative
    cotangent = var("j", 6, formula.dim)
    weights = np.random.default_rng(seed).normal(size=(4, formula.dim))
    wrt = leaves(formula)
    gradients = vjp(formula, wrt, cotangent)
    h = 1e-5
    for leaf, gradient in zip(wrt, gradients, strict=True):
        k, component = leaf.attrs[1], seed % leaf.dim
        sides = []
        for step in (h, -h, h / 2, -h / 2):
            moved = list(arrays)
            moved[k] = moved[k].copy()
            moved[k][..., component] += step
            sides.append((dense(formula, moved, (3, 4)) * weights).sum(-1))
        coarse, fine = (sides[0] - sides[1]) / (2 * h), (sides[2] - sides[3]) / h
        wanted = fine + (fine - coarse) / 3
        # Where the two do not agree there is a kink, or the function bends too much to tell.
        assume(np.isfinite(wanted).all() and np.abs(fine - coarse).max() < 1e-3 * (1 + np.abs(fine).max()))
        found = 0 * wanted if gradient is None else dense(gradient, [*arrays, weights], (3, 4))[..., component]
        scale = 1 + np.abs(wanted).max() + np.abs(values).max()
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5 * scale, err_msg=f"d {formula} / d {leaf}[{component}]")
