"""Records of the operators on the vector of a pair as a whole: its reductions, its components moved, norms, distances, splines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .graph import Node, Operand, apply
from .operator import Operator, bare
from .operators_common import (
    broadcast,
    call,
    concat,
    extract,
    infix,
    insert,
    spread_to,
    to_scalar,
    where,
)

# ---- dimensions


def _extracted(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    start, length = attrs
    if start < 0 or length < 1 or start + length > dims[0]:
        return f"components {start} to {start + length - 1} asked of a vector of dimension {dims[0]}"
    return int(length)


def _taken(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    (dim,) = attrs
    if dims[1] != 1:
        return f"rows of a table are taken by one number, not by a vector of dimension {dims[1]}"
    return int(dim) if dim >= 1 and dims[0] % dim == 0 else f"a table of {dims[0]} numbers has no rows of {dim}"


def _inserted(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    start, dim = attrs
    if start < 0 or start + dims[0] > dim:
        return f"a vector of dimension {dims[0]} does not fit at component {start} of one of dimension {dim}"
    return int(dim)


def _spread(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    fits = dims[0] in (1, attrs[0]) and attrs[0] >= 1
    return int(attrs[0]) if fits else f"a vector of dimension {dims[0]} cannot be spread over {attrs[0]}"


def _numbered(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    return int(attrs[0]) if attrs[0] >= 1 else f"a vector of {attrs[0]} components does not exist"


def _one_hot(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    return f"a one-hot vector encodes one number, not {dims[0]}" if dims[0] != 1 else _numbered(dims, attrs)


def _weighted(dims: Sequence[int], attrs: tuple[Any, ...] = ()) -> int | str:
    weights, dim = dims
    if weights not in (1, dim, dim * dim):
        return f"{weights} weights for a vector of dimension {dim}, which takes 1, {dim} or {dim}² = {dim * dim}"
    return 1


def _weighted_distance(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    dim = broadcast(dims[1:])
    return dim if isinstance(dim, str) else _weighted((dims[0], dim))


def _crossed(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    return 3 if tuple(dims) == (3, 3) else f"a cross product takes two vectors of dimension 3, not {dims[0]} and {dims[1]}"


def _spline(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    (knots, at), (degree,) = dims, attrs
    if at != 1:
        return f"splines are evaluated at one number, not at {at}"
    if degree < 0 or knots < degree + 2:
        return f"splines of degree {degree} take a degree of at least 0 and at least {degree + 2} knots, not {knots}"
    return int(knots - degree - 1)


def _warped(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    return 1 if dims[2] == 1 else f"the smoothness is one number, not {dims[2]}"


# ---- derivatives and transposes


def _selected_partial(node: Node) -> tuple[Operand | None, ...]:
    """1 at the components that attain the minimum or maximum, shared evenly among ties."""
    (a,) = node.args
    attained = apply("eq", a, node)
    return (attained / apply("sum", attained),)


def _extract_transpose(node: Node, g: Node) -> tuple[Node, ...]:
    return (insert(g, node.attrs[0], node.args[0].dim),)


def _concat_transpose(node: Node, g: Node) -> tuple[Node, ...]:
    parts, start = [], 0
    for a in node.args:
        parts.append(extract(g, start, a.dim))
        start += a.dim
    return tuple(parts)


# ---- definitions


def _argument(best: str) -> Any:
    """The number of the first component that is the smallest or largest, or of the first nan."""

    def definition(a: Node) -> Node:
        attained = apply("logical_or", apply("eq", a, apply(best, a)), apply("isnan", a))
        return apply("min", where(attained, apply("arange", attrs=(a.dim,)), float("inf")))

    return definition


def _one_hot_definition(a: Node, dim: int) -> Node:
    return apply("eq", apply("floor", a + 0.5), apply("arange", attrs=(dim,)))


def _weighted_definition(weights: Node, a: Node) -> Node:
    if weights.dim == 1:
        return weights * apply("sum", apply("square", a))
    if weights.dim == a.dim:
        return apply("sum", weights * apply("square", a))
    return apply("dot", a, apply("matvecmult", weights, a))


def _cross_definition(a: Node, b: Node) -> Node:
    def turned(v: Node, by: int) -> Node:
        return concat(extract(v, by, 3 - by), extract(v, 0, by))

    return turned(a, 1) * turned(b, 2) - turned(a, 2) * turned(b, 1)


def _spline_definition(knots: Node, at: Node, degree: int) -> Node:
    """Cox and de Boor's recursion; where knots coincide, a quotient by 0 counts as 0."""
    n = knots.dim - 1
    values = apply("le", extract(knots, 0, n), at) * apply("lt", at, extract(knots, 1, n))
    for k in range(1, degree + 1):
        n = knots.dim - k
        low, high = extract(knots, 0, n), extract(knots, k, n)
        apart = apply("lt", low, high)
        rise = where(apart, (at - low) / where(apart, high - low, 1), 0)
        values = extract(rise, 0, n - 1) * extract(values, 0, n - 1) + (1 - extract(rise, 1, n - 1)) * extract(values, 1, n - 1)
    return values


def _warp_definition(a: Node, b: Node, scale: Node) -> Node:
    """The cost of the best path through the table of squared differences, with a soft minimum at each step."""
    rows, columns = ([extract(v, k, 1) for k in range(v.dim)] for v in (a, b))
    before: list[Node] = []
    for r, x in enumerate(rows):
        costs: list[Node] = []
        for c, y in enumerate(columns):
            step = apply("square", x - y)
            if r and c:
                step = step + apply("softmin", before[c - 1], before[c], costs[c - 1], scale)
            elif r or c:
                step = step + (before[c] if r else costs[c - 1])
            costs.append(step)
        before = costs
    return before[-1]


# ---- meanings


def _concat_numpy(*parts: np.ndarray) -> np.ndarray:
    shape = np.broadcast_shapes(*(p.shape[:-1] for p in parts))
    return np.concatenate([np.broadcast_to(p, (*shape, p.shape[-1])) for p in parts], axis=-1)


def _insert_numpy(a: np.ndarray, start: int, dim: int) -> np.ndarray:
    found = np.zeros((*a.shape[:-1], dim))
    found[..., start : start + a.shape[-1]] = a
    return found


def _weighted_numpy(s: np.ndarray, a: np.ndarray) -> np.ndarray:
    if s.shape[-1] in (1, a.shape[-1]):
        return (s * np.square(a)).sum(-1, keepdims=True)
    full = s.reshape(*s.shape[:-1], a.shape[-1], a.shape[-1])
    return np.einsum("...k,...kl,...l->...", a, full, a)[..., None]


def _spline_numpy(knots: np.ndarray, at: np.ndarray, degree: int) -> np.ndarray:
    values = (knots[..., :-1] <= at) * (at < knots[..., 1:]) * 1.0
    for k in range(1, degree + 1):
        low, high = knots[..., :-k], knots[..., k:]
        rise = np.where(low < high, (at - low) / np.where(low < high, high - low, 1), 0)
        values = rise[..., :-1] * values[..., :-1] + (1 - rise[..., 1:]) * values[..., 1:]
    return values


def _warp_numpy(a: np.ndarray, b: np.ndarray, scale: np.ndarray) -> np.ndarray:
    cost: dict[tuple[int, int], np.ndarray] = {}
    for r in range(a.shape[-1]):
        for c in range(b.shape[-1]):
            ways = [cost[p] for p in ((r - 1, c - 1), (r - 1, c), (r, c - 1)) if p in cost]
            least = np.minimum.reduce(ways) if ways else 0.0
            if len(ways) > 1:
                least = least - scale[..., 0] * np.log(sum(np.exp((least - w) / scale[..., 0]) for w in ways))
            cost[r, c] = np.square(a[..., r] - b[..., c]) + least
    return cost[a.shape[-1] - 1, b.shape[-1] - 1][..., None]


def _take_numpy(table: np.ndarray, number: np.ndarray, dim: int) -> np.ndarray:
    rows = table.shape[-1] // dim
    known = (number > -1) & (number < rows)  # as the emitted code, which rounds towards 0
    place = (np.where(known, np.trunc(number), 0) * dim).astype(np.int64) + np.arange(dim)
    table = np.broadcast_to(table, (*np.broadcast_shapes(table.shape[:-1], place.shape[:-1]), table.shape[-1]))
    place = np.broadcast_to(place, (*table.shape[:-1], dim))
    return np.where(known, np.take_along_axis(table, place, -1), np.nan)


def _take_transpose(node: Node, g: Node) -> tuple[Node | None, ...]:
    table, number = node.args
    rows = table.dim // node.attrs[0]
    return apply("tensorprod", apply("one_hot", apply("trunc", number), attrs=(rows,)), g), None


REDUCTIONS = [
    Operator("sum", "reduce", to_scalar, call("sum"), lambda a: a.sum(-1, keepdims=True), lambda m, a, b: m.add(a, b), lambda n: (1,),
             doc="sum of the components", keops="Sum", sign=lambda a: a),
    Operator("min", "reduce", to_scalar, call("min"), lambda a: a.min(-1, keepdims=True), lambda m, a, b: m.minimum(a, b),
             _selected_partial, identity=float("inf"), doc="smallest component", keops="Min", sign=lambda a: a),
    Operator("max", "reduce", to_scalar, call("max"), lambda a: a.max(-1, keepdims=True), lambda m, a, b: m.maximum(a, b),
             _selected_partial, identity=float("-inf"), doc="largest component", keops="Max", sign=lambda a: a),
    Operator("argmin", "derived", to_scalar, call("argmin"), lambda a: a.argmin(-1)[..., None] * 1.0, definition=_argument("min"),
             doc="number of the first smallest component", keops="ArgMin", sign=lambda a: 1),
    Operator("argmax", "derived", to_scalar, call("argmax"), lambda a: a.argmax(-1)[..., None] * 1.0, definition=_argument("max"),
             doc="number of the first largest component", keops="ArgMax", sign=lambda a: 1),
]  # fmt: skip

MOVES = [
    Operator("extract", "index", _extracted, lambda args, attrs: f"{args[0]}[{attrs[0]}:{attrs[0] + attrs[1]}]",
             lambda a, start, length: a[..., start : start + length], transpose=_extract_transpose, cost=0,
             doc="a slice of the components", keops="Extract", sign=lambda a: a, attributes={"start": int, "length": int}),
    Operator("insert", "derived", _inserted, call("insert"), _insert_numpy, definition=insert,
             doc="the components in a vector of zeros", keops="ExtractT", sign=lambda a: a, attributes={"start": int, "dim": int}),
    Operator("concat", "index", lambda dims, attrs: sum(dims), call("concat"), _concat_numpy, transpose=_concat_transpose, cost=0,
             doc="components one after the other", keops="Concat", arity=0),
    Operator("spread", "index", _spread, lambda args, attrs: f"spread({bare(args[0])}, {attrs[0]})",
             lambda a, dim: np.broadcast_to(a, (*a.shape[:-1], dim)),
             transpose=lambda n, g: (apply("sum", g) if n.args[0].dim == 1 else g,), cost=0,
             doc="one number, repeated", keops="SumT", sign=lambda a: a, attributes={"dim": int}),
    Operator("arange", "number", _numbered, call("arange"), lambda dim: np.arange(float(dim)).reshape(1, 1, dim),
             lambda m, number: number, kind="real", cost=0, doc="0, 1, 2 …", sign=lambda: 1, arity=0, attributes={"dim": int}),
    Operator("take", "lookup", _taken, call("take"), _take_numpy, transpose=_take_transpose, cost=20,
             typed=(0,), doc="a row of a table, dim components long, by its number", arity=2, attributes={"dim": int}),
    Operator("one_hot", "derived", _one_hot, call("one_hot"), lambda a, dim: (np.floor(a + 0.5) == np.arange(dim)) * 1.0,
             definition=_one_hot_definition, typed=(), doc="1 at the component whose number is a rounded, else 0", keops="OneHot",
             sign=lambda a: 1, attributes={"dim": int}),
]  # fmt: skip

GEOMETRY = [
    Operator("dot", "derived", to_scalar, infix("|"), lambda a, b: (a * b).sum(-1, keepdims=True),
             definition=lambda a, b: apply("sum", spread_to(a * b, max(a.dim, b.dim))), doc="inner product", keops="Scalprod", arity=2),
    Operator("sqnorm2", "derived", to_scalar, call("sqnorm2"), lambda a: np.square(a).sum(-1, keepdims=True),
             definition=lambda a: apply("sum", apply("square", a)), doc="squared Euclidean norm", keops="SqNorm2"),
    Operator("norm2", "derived", to_scalar, call("norm2"), lambda a: np.sqrt(np.square(a).sum(-1, keepdims=True)),
             definition=lambda a: apply("sqrt", apply("sum", apply("square", a))), doc="Euclidean norm", keops="Norm2"),
    Operator("normalize", "derived", broadcast, call("normalize"),
             lambda a: np.divide(a, np.sqrt(np.square(a).sum(-1, keepdims=True)), out=np.zeros_like(a),
                                 where=(a != 0).any(-1, keepdims=True)),
             definition=lambda a: a * apply("rsqrt_or_zero", apply("sum", apply("square", a))),
             doc="the vector over its Euclidean norm; 0 stays 0", keops="Normalize"),
    Operator("sqdist", "derived", to_scalar, call("sqdist"), lambda a, b: np.square(a - b).sum(-1, keepdims=True),
             definition=lambda a, b: apply("sum", apply("square", a - b)), doc="squared Euclidean distance", keops="SqDist", arity=2),
    Operator("weightedsqnorm", "derived", _weighted, call("weightedsqnorm"), _weighted_numpy, definition=_weighted_definition,
             doc="s a·a; Σ s_k a_k²; or Σ s_kl a_k a_l, as s has 1, D or D² components", keops="WeightedSqNorm", arity=2),
    Operator("weightedsqdist", "derived", _weighted_distance, call("weightedsqdist"), lambda s, a, b: _weighted_numpy(s, a - b),
             definition=lambda s, a, b: apply("weightedsqnorm", s, a - b), doc="weightedsqnorm of a - b", keops="WeightedSqDist",
             arity=3),
    Operator("cross", "derived", _crossed, call("cross"), np.cross, definition=_cross_definition, doc="cross product", arity=2),
    Operator("bspline", "derived", _spline, call("bspline"), _spline_numpy, definition=_spline_definition,
             doc="the B-splines of a degree on knots, at a number", keops="BSpline", arity=2, attributes={"degree": int}),
    Operator("softdtw_sqdist", "derived", _warped, call("softdtw_sqdist"), _warp_numpy, definition=_warp_definition,
             doc="dynamic time warping of a and b by squared differences, smoothed by a scale", keops="SoftDTW_SqDist", arity=3),
]  # fmt: skip
