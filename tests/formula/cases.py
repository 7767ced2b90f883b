"""Formulas that try an operator: operands of all kinds, and static parameters worth a test."""

from __future__ import annotations

from pairfold.formula.graph import Node, apply, var
from pairfold.formula.operators import OPERATORS
from tests.helpers import ARITY


def attributes(name: str, dim: int) -> list[tuple]:
    """Static parameters worth a test, for a first operand of that dimension."""
    return {
        "powi": [(3,), (4,), (7,), (-2,), (-3,), (0,)],
        "round": [(0,), (2,), (-1,)],
        "round_away": [(0,), (2,), (-1,)],
        "polygamma": [(1,), (2,), (4,)],
        "matern": [(0,), (1,), (2,), (5,), (-1,), (-2,)],
        "extract": [(0, 1), (dim - 1, 1), (dim // 2, dim - dim // 2)],
        "insert": [(0, dim), (0, dim + 2), (3, dim + 3), (1, dim + 2)],
        "spread": [(dim,)] if dim > 1 else [(1,), (5,), (20,)],
        "one_hot": [(1,), (3,), (20,)],
        "bspline": [(k,) for k in range(4)],
        "exp_of_rounded": [(0,), (1,)],
        "exp_closely": [(0,), (1,)],
    }.get(name, [()])


def formulas(name: str, dim: int) -> list[Node]:
    """The operator on rows, columns and parameters (variables 0 to 2 and 3 to 5 of dimension `dim`, 6 to 8 of dimension 1)."""
    wide = [var(a, k, dim) for k, a in enumerate("ijpijp")]
    thin = [var(a, 6 + k, 1) for k, a in enumerate("ijp")]
    if name in SHAPED:
        return [apply(name, *operands, attrs=tuple(attrs)) for *operands, attrs in SHAPED[name](wide, thin)]
    count = ARITY[name]
    if count == 0:
        return [apply(name, attrs=(dim,)) + thin[k] for k in range(3)]
    if count == 1:
        operands = [(wide[0],), (wide[1],), (wide[2],), (thin[0],), (wide[0] + wide[1],)]
    elif count == 2:
        operands = [(wide[0], wide[1]), (wide[1], wide[2]), (wide[2], wide[0]), (wide[0], wide[3]), (thin[1], wide[0]), (wide[1], thin[0])]
    elif count == 3:
        operands = [(wide[0], wide[1], wide[2]), (wide[4], wide[3], wide[1]), (thin[0], wide[1], wide[3]), (wide[0], thin[1], thin[2])]
    else:
        operands = [(wide[0], wide[1], wide[3], thin[2]), (thin[0], wide[1], wide[0], apply("square", wide[2]) + 1)]
    return [apply(name, *o, attrs=attrs) for o in operands for attrs in attributes(name, o[0].dim) if fits(name, o, attrs)]


def fits(name, operands, attrs):
    return not isinstance(OPERATORS[name].dims([o.dim for o in operands], attrs), str)


def _matrices(wide, thin):
    """Pairs of a matrix and a vector of its columns: of one row, one column, two rows, of as many as columns."""
    dim = wide[0].dim
    yield wide[0], wide[1], ()
    yield wide[1], thin[0], ()
    yield apply("concat", wide[2], wide[0]), wide[1], ()
    yield apply("concat", *[wide[k % 4] * (k + 1) for k in range(dim)]), wide[3] - wide[1], ()


def _tensors(wide, thin):
    """Contractions along one, several, no and all axes, with and without a permutation; large ones too."""
    dim = wide[0].dim
    two, four = apply("concat", wide[0], wide[1]), apply("concat", wide[2], wide[0], wide[3], wide[1])
    yield two, wide[1], ((2, dim), (dim,), (1,), (0,))
    yield two, two, ((2, dim), (dim, 2), (1, 0), (0, 1))
    yield two, wide[3], ((dim, 2), (dim,), (), (), (2, 0, 1))
    yield four, two, ((2, dim, 2), (dim, 2), (1,), (0,), (1, 2, 0))
    yield four, two, ((2, dim, 2), (2, dim), (0, 1), (0, 1))
    yield four, four, ((2, 2, dim), (2, dim, 2), (2,), (1,), (2, 0, 3, 1))
    yield wide[0], thin[1], ((dim,), (1,), (), ())


def _einsums(wide, thin):
    dim = wide[0].dim
    if dim == 1:
        wide = [apply("concat", w, w + 1) for w in wide]
        dim = 2
    two = apply("concat", wide[0], wide[1])
    yield two, wide[2], ("ab,b->a", (2, dim))
    yield wide[0], wide[1], ("a,b->ba", (dim, dim))
    yield thin[0], two, (",ab->ba", (2, dim))
    yield two, wide[0], ("ab,b->ab", (2, dim))


def _splines(wide, thin):
    """Knots in increasing order, some of them alike."""
    steps = [apply("square", thin[2]) * 0.5, thin[1] * 0, apply("abs", thin[1])] * 3
    knots = [thin[2] - 2]
    for step in steps:
        knots.append(knots[-1] + step)
    for degree in range(4):
        yield apply("concat", *knots[: degree + 4]), thin[0], (degree,)


def _warps(wide, thin):
    """Short: a path goes through all products."""
    vectors = [apply("extract", w, attrs=(0, min(w.dim, 4))) for w in wide]
    scale = apply("square", thin[2]) + 0.5
    yield vectors[0], vectors[1], scale
    yield vectors[1], apply("concat", vectors[3], thin[0]), scale
    yield thin[0], thin[1], scale


# Operators whose operands' dimensions follow rules of their own: operands, and attributes behind them.
SHAPED = {
    "weightedsqnorm": lambda wide, thin: [
        (thin[0], wide[1], ()), (wide[0], wide[1], ()), (apply("tensorprod", wide[2], wide[0]), wide[1], ()),
    ],
    "weightedsqdist": lambda wide, thin: [
        (thin[2], wide[1], wide[0], ()), (wide[2], wide[1], wide[0], ()), (apply("tensorprod", wide[2], wide[2]), wide[1], wide[0], ()),
    ],
    "take": lambda wide, thin: [  # of three rows or six, between whole numbers, where the row changes
        (table, number, (dim,))
        for number in (apply("sin", thin[0]) + 1.5, apply("cos", thin[1]) * 1.2 + 1.3, apply("sin", thin[0] * thin[1] + thin[2]) + 1.5)
        for table, dim in ((apply("concat", *wide[:3]), wide[0].dim), (apply("concat", *[wide[2] * k for k in range(1, 7)]), wide[0].dim))
    ],
    "cross": lambda wide, thin: [
        (apply("concat", a, b, c), apply("concat", c, a, b) + b, ())
        for a, b, c in [[apply("extract", w, attrs=(w.dim - 1, 1)) for w in some] for some in (wide[:3], wide[2:5], wide[1:4])]
    ],
    "bspline": _splines,
    "softdtw_sqdist": lambda wide, thin: [(*o, ()) for o in _warps(wide, thin)],
    "matvecmult": _matrices,
    "vecmatmult": lambda wide, thin: [(v, m, ()) for m, v, _ in _matrices(wide, thin)],
    "tensorprod": lambda wide, thin: [
        (wide[0], wide[1], ()), (wide[2], thin[0], ()), (wide[1], apply("extract", wide[2], attrs=(0, 1)), ()),
    ],
    "difference_matrix": lambda wide, thin: [(wide[0], wide[1], ()), (wide[2], thin[0], ()), (thin[1], wide[0], ())],
    "kron": lambda wide, thin: [
        (wide[0], wide[1], ((1, wide[0].dim), (wide[0].dim, 1))),
        (apply("concat", wide[0], wide[1]), apply("concat", wide[3], wide[2]), ((2, wide[0].dim), (wide[0].dim, 2))),
    ],
    "tensordot": _tensors,
    "einsum": _einsums,
}  # fmt: skip
