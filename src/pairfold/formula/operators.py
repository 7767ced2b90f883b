"""The operator table: one record an operator, and everything that Pairfold knows of it in that record.

To add an operator, add a record. Its value against NumPy, its derivative against finite differences, its printing and its
code on every target are then tested from this table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .graph import Node, Operand, apply
from .operator import OPERATORS, Bracketed, Operator, Show, bare

# ---- how dimensions combine


def broadcast(dims: Sequence[int], attrs: tuple[Any, ...] = ()) -> int | str:
    """The common dimension; operands of dimension 1 fit any."""
    longest = max(dims)
    if any(d not in (1, longest) for d in dims):
        return f"inner dimensions {' and '.join(map(str, dims))} do not broadcast"
    return longest


def _to_scalar(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    shared = broadcast(dims)
    return shared if isinstance(shared, str) else 1


def _extracted(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    start, length = attrs
    if start < 0 or length < 1 or start + length > dims[0]:
        return f"components {start} to {start + length - 1} asked of a vector of dimension {dims[0]}"
    return int(length)


def _spread(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    return int(attrs[0]) if dims[0] in (1, attrs[0]) else f"a vector of dimension {dims[0]} cannot be spread over {attrs[0]}"


# ---- how formulas are written


def _call(name: str) -> Show:
    return lambda args, attrs: f"{name}({', '.join([*map(bare, args), *map(str, attrs)])})"


def _prefix(symbol: str) -> Show:
    return lambda args, attrs: Bracketed(f"({symbol}{args[0]})")


def _infix(symbol: str) -> Show:
    return lambda args, attrs: Bracketed(f"({args[0]} {symbol} {args[1]})")


# ---- derivatives used more than once


def _positive(a: Node) -> Node:
    return apply("gt", a, 0)


def where(condition: Operand, a: Operand, b: Operand) -> Node:
    return apply("where", condition, a, b)


def _inverse_root_or_zero(a: Node) -> Node:
    """1/sqrt(a), and 0 at a = 0: the subgradient that keeps |x - x| differentiable on the diagonal, as KeOps chooses."""
    zero = apply("eq", a, 0)
    return where(zero, 0, apply("rsqrt", where(zero, 1, a)))  # the inner choice keeps further derivatives finite too


def _power_partial(node: Node) -> tuple[Operand | None, ...]:
    (a,), (n,) = node.args, node.attrs
    return (n * power(a, n - 1),)


def power(a: Node, n: int) -> Node:
    """a to the integer n, by the shortest operator."""
    short = {0: lambda: spread(1, a.dim), 1: lambda: a, 2: lambda: apply("square", a), -1: lambda: 1 / a}
    return short[n]() if n in short else apply("powi", a, attrs=(n,))


def _selected_partial(node: Node) -> tuple[Operand | None, ...]:
    """1 at the components that attain the minimum or maximum, shared evenly among ties."""
    (a,) = node.args
    attained = apply("eq", a, node)
    return (attained / apply("sum", attained),)


def _of_two(closer: str) -> Callable[[Node], tuple[Operand | None, ...]]:
    def partials(node: Node) -> tuple[Operand | None, ...]:
        a, b = node.args
        tie = apply("eq", a, b)
        return where(tie, 0.5, apply(closer, a, b)), where(tie, 0.5, apply(closer, b, a))

    return partials


def _clamp_partials(node: Node) -> tuple[Operand | None, ...]:
    a, low, high = node.args
    inside = apply("le", low, a) * apply("le", a, high)
    return inside, apply("lt", a, low) * apply("le", low, high), where(apply("gt", a, high), 1, apply("gt", low, high))


def _pow_partials(node: Node) -> tuple[Operand | None, ...]:
    a, b = node.args
    return b * apply("pow", a, b - 1), where(apply("eq", a, 0), 0, node * apply("log", a))


TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)
_erf = np.vectorize(math.erf, otypes=[float])
_erfc = np.vectorize(math.erfc, otypes=[float])


def _gelu(a: np.ndarray) -> np.ndarray:
    return np.where(a == -np.inf, -0.0, 0.5 * a * _erfc(np.where(a == -np.inf, 0.0, -a) / math.sqrt(2)))


def _gelu_partial(y: Node, a: Node) -> Node:
    density = apply("exp", -0.5 * apply("square", a)) * (1 / math.sqrt(2 * math.pi))
    return 0.5 * apply("erfc", a * -math.sqrt(0.5)) + a * density


def _atan2_partials(node: Node) -> tuple[Operand | None, ...]:
    a, b = node.args
    zero = apply("eq", apply("abs", a) + apply("abs", b), 0)
    safe = where(zero, 1, b)
    return where(zero, 0, apply("inverse_real", safe, a)), where(zero, 0, -apply("inverse_real", a, safe))


def _hypot_partials(node: Node) -> tuple[Operand | None, ...]:
    zero = apply("eq", node, 0)
    return tuple(where(zero, 0, a / where(zero, 1, node)) for a in node.args)


# ---- components moved


def zeros(dim: int) -> Node:
    return spread(0, dim)


def spread(a: Operand, dim: int) -> Node:
    return apply("spread", a, attrs=(dim,))


def extract(a: Node, start: int, length: int) -> Node:
    return a if start == 0 and length == a.dim else apply("extract", a, attrs=(start, length))


def _extract_transpose(node: Node, g: Node) -> tuple[Node, ...]:
    start, length = node.attrs
    after = node.args[0].dim - start - length
    parts = [zeros(start)] * (start > 0) + [g] + [zeros(after)] * (after > 0)
    return (apply("concat", *parts) if len(parts) > 1 else g,)


def _concat_transpose(node: Node, g: Node) -> tuple[Node, ...]:
    parts, start = [], 0
    for a in node.args:
        parts.append(extract(g, start, a.dim))
        start += a.dim
    return tuple(parts)


def _concat_numpy(*parts: np.ndarray) -> np.ndarray:
    shape = np.broadcast_shapes(*(p.shape[:-1] for p in parts))
    return np.concatenate([np.broadcast_to(p, (*shape, p.shape[-1])) for p in parts], axis=-1)


def _comparison(name: str, symbol: str, numpy: Callable[..., Any], doc: str, keops: str = "") -> Operator:
    def emit(m: Any, a: Any, b: Any) -> Any:
        return m.one_if(getattr(m, name)(a, b))

    return Operator(
        name, "elementwise", broadcast, _infix(symbol), lambda a, b: numpy(a, b) * 1.0, emit, lambda n: (None, None), doc=doc, keops=keops
    )


def _function(
    name: str,
    numpy: Callable[..., Any],
    partial: Callable[[Node, Node], Operand | None],
    doc: str,
    keops: str = "",
    method: str = "",
    cost: int = 1,
    sign: Callable[..., int] = lambda *signs: 0,
    **more: Any,
) -> Operator:
    """An elementwise function of one operand; `partial(y, a)` is its derivative at a, where its value is y."""

    def emit(m: Any, a: Any) -> Any:
        return getattr(m, method or name)(a)

    return Operator(
        name,
        "elementwise",
        broadcast,
        _call(name),
        numpy,
        emit,
        lambda n: (partial(n, n.args[0]),),
        doc=doc,
        keops=keops or name.capitalize(),
        cost=cost,
        sign=sign,
        **more,
    )


def _rectify(a: np.ndarray) -> np.ndarray:
    return np.maximum(a, 0.0)


_TABLE = [
    # ---- arithmetic
    Operator("add", "elementwise", broadcast, _infix("+"), np.add, lambda m, a, b: m.add(a, b), lambda n: (1, 1),
             doc="a + b", keops="Add", sign=lambda a, b: a if a == b else 0),
    Operator("sub", "elementwise", broadcast, _infix("-"), np.subtract, lambda m, a, b: m.sub(a, b), lambda n: (1, -1), doc="a - b",
             keops="Subtract", sign=lambda a, b: a if a == -b else 0),
    Operator("mul", "elementwise", broadcast, _infix("*"), np.multiply, lambda m, a, b: m.mul(a, b), lambda n: (n.args[1], n.args[0]),
             doc="a b", keops="Mult", sign=lambda a, b: a * b),
    Operator("div", "elementwise", broadcast, _infix("/"), np.divide, lambda m, a, b: m.div(a, b),
             lambda n: (1 / n.args[1], -n / n.args[1]), cost=8, doc="a / b", keops="Divide", sign=lambda a, b: a if b == 1 else 0),
    Operator("neg", "elementwise", broadcast, _prefix("-"), np.negative, lambda m, a: m.neg(a), lambda n: (-1,),
             doc="-a", keops="Minus", sign=lambda a: -a),
    Operator("square", "elementwise", broadcast, lambda args, attrs: Bracketed(f"({args[0]}**2)"), np.square, lambda m, a: m.mul(a, a),
             lambda n: (2 * n.args[0],), doc="a²", keops="Square", sign=lambda a: 1),
    Operator("powi", "elementwise", broadcast, lambda args, attrs: Bracketed(f"({args[0]}**{attrs[0]})"), lambda a, n: a ** float(n),
             lambda m, a, n: m.powi(a, n), _power_partial, cost=4, doc="a to a fixed integer power", keops="Pow"),
    Operator("pow", "elementwise", broadcast, _infix("**"), np.power, lambda m, a, b: m.pow(a, b),
             _pow_partials, cost=60, doc="a to the power b", keops="Powf"),
    # ---- functions
    _function("sqrt", np.sqrt, lambda y, a: 0.5 * _inverse_root_or_zero(a), "square root; its derivative at 0 is taken as 0",
              cost=6, sign=lambda a: 1),
    _function("rsqrt", lambda a: 1 / np.sqrt(a), lambda y, a: -0.5 * (y / a), "1 / sqrt(a)", cost=6, sign=lambda a: 1),
    _function("exp", np.exp, lambda y, a: y, "e to the power a", cost=11, sign=lambda a: 1),
    _function("log", np.log, lambda y, a: 1 / a, "natural logarithm", cost=14),
    _function("abs", np.abs, lambda y, a: apply("sign", a), "absolute value; its derivative at 0 is taken as 0", sign=lambda a: 1),
    _function("sign", np.sign, lambda y, a: None, "-1, 0 or 1"),
    _function("step", lambda a: np.heaviside(a, 1.0), lambda y, a: None, "1 where a ≥ 0, else 0", sign=lambda a: 1),
    _function("relu", _rectify, lambda y, a: _positive(a), "the larger of a and 0", "ReLU", sign=lambda a: 1),
    _function("sin", np.sin, lambda y, a: apply("cos", a), "sine", cost=20, twin=lambda n: apply("cos", *n.args),
              joint=lambda m, a: m.sine_and_cosine(a)),
    _function("cos", np.cos, lambda y, a: -apply("sin", a), "cosine", cost=20, twin=lambda n: apply("sin", *n.args),
              joint=lambda m, a: m.sine_and_cosine(a)[::-1]),
    _function("log1p", np.log1p, lambda y, a: 1 / (1 + a), "log(1 + a), accurate near 0", cost=28),
    _function("expm1", np.expm1, lambda y, a: y + 1, "exp(a) - 1, accurate near 0", cost=22),
    _function("tan", np.tan, lambda y, a: 1 + apply("square", y), "tangent", cost=30),
    _function("asin", np.arcsin, lambda y, a: apply("rsqrt", 1 - apply("square", a)), "inverse sine", cost=18),
    _function("acos", np.arccos, lambda y, a: -apply("rsqrt", 1 - apply("square", a)), "inverse cosine", cost=22),
    _function("atan", np.arctan, lambda y, a: 1 / (1 + apply("square", a)), "inverse tangent", cost=17),
    _function("sinh", np.sinh, lambda y, a: apply("cosh", a), "hyperbolic sine", cost=27),
    _function("cosh", np.cosh, lambda y, a: apply("sinh", a), "hyperbolic cosine", cost=26, sign=lambda a: 1),
    _function("tanh", np.tanh, lambda y, a: 1 - apply("square", y), "hyperbolic tangent", cost=27),
    _function("sigmoid", lambda a: 1 / (1 + np.exp(-a)), lambda y, a: y * (1 - y), "1 / (1 + exp(-a))", cost=24, sign=lambda a: 1),
    _function("softplus", lambda a: np.logaddexp(0, a), lambda y, a: apply("sigmoid", a), "log(1 + exp(a))", cost=38, sign=lambda a: 1),
    _function("erf", _erf, lambda y, a: TWO_OVER_ROOT_PI * apply("exp", -apply("square", a)), "error function", cost=64),
    _function("erfc", _erfc, lambda y, a: -TWO_OVER_ROOT_PI * apply("exp", -apply("square", a)), "1 - erf(a)", cost=57,
              sign=lambda a: 1),
    _function("gelu", _gelu, _gelu_partial, "a times the normal distribution function of a", cost=65),
    _function("xlogx", lambda a: np.where(a == 0, 0.0, a * np.log(np.where(a == 0, 1.0, a))), lambda y, a: apply("log", a) + 1,
              "a log(a), 0 at 0", "XLogX", cost=28),
    _function("sinxdivx", lambda a: np.where(a == 0, 1.0, np.sin(a) / np.where(a == 0, 1.0, a)),
              lambda y, a: where(apply("eq", a, 0), 0, (apply("cos", a) - y) / a), "sin(a) / a, 1 at 0", "SinXDivX", cost=30),
    _function("floor", np.floor, lambda y, a: None, "the next lower whole number"),
    _function("ceil", np.ceil, lambda y, a: None, "the next higher whole number"),
    _function("trunc", np.trunc, lambda y, a: None, "the whole number towards 0"),
    Operator("round", "elementwise", broadcast, _call("round"), np.round, lambda m, a, d: m.round_decimals(a, d), lambda n: (None,), cost=4,
             doc="a rounded to d decimals, ties to even as NumPy's", keops="Round"),
    Operator("atan2", "elementwise", broadcast, _call("atan2"), np.arctan2, lambda m, a, b: m.atan2(a, b), _atan2_partials, cost=31,
             doc="the angle of the point (b, a); its derivative at 0 is taken as 0", keops="Atan2"),
    Operator("mod", "elementwise", broadcast, _call("mod"), np.mod, lambda m, a, b: m.mod(a, b),
             lambda n: (1, -apply("floor", n.args[0] / n.args[1])), cost=15, keops="Mod",
             doc="the remainder, of the sign of b, as NumPy's mod"),
    Operator("hypot", "elementwise", broadcast, _call("hypot"), np.hypot, lambda m, a, b: m.hypot(a, b),
             _hypot_partials, cost=16, sign=lambda a, b: 1, doc="sqrt(a² + b²) without overflow; its derivative at 0 is taken as 0"),
    Operator("logaddexp", "elementwise", broadcast, _call("logaddexp"), np.logaddexp, lambda m, a, b: m.logaddexp(a, b),
             lambda n: (apply("sigmoid", n.args[0] - n.args[1]), apply("sigmoid", n.args[1] - n.args[0])), cost=50,
             doc="log(exp(a) + exp(b)) without overflow"),
    Operator("inv", "derived", broadcast, _call("inv"), lambda a: 1 / a, definition=lambda a: 1 / a, doc="1 / a", keops="Inv"),
    _function("isnan", lambda a: np.isnan(a) * 1.0, lambda y, a: None, "1 where a is nan, else 0", "IsNan", method="one_if_nan"),
    Operator("clamp", "elementwise", broadcast, _call("clamp"), lambda a, low, high: np.minimum(np.maximum(a, low), high),
             lambda m, a, low, high: m.clamp(a, low, high), _clamp_partials, doc="a kept between two bounds", keops="Clamp"),
    # ---- comparisons and choices
    _comparison("lt", "<", np.less, "1 where a < b, else 0", "LessThan"),
    _comparison("le", "<=", np.less_equal, "1 where a ≤ b, else 0", "LessOrEqual"),
    _comparison("gt", ">", np.greater, "1 where a > b, else 0"),
    _comparison("ge", ">=", np.greater_equal, "1 where a ≥ b, else 0"),
    _comparison("eq", "==", np.equal, "1 where a = b, else 0", "Equal"),
    _comparison("ne", "!=", np.not_equal, "1 where a ≠ b, else 0", "NotEqual"),
    Operator("where", "elementwise", broadcast, _call("where"), lambda c, a, b: np.where(c != 0, a, b),
             lambda m, c, a, b: m.select(m.truth(c), a, b), lambda n: (None, where(n.args[0], 1, 0), where(n.args[0], 0, 1)),
             doc="a where the condition is not 0, else b", keops="IfElse"),
    Operator("minimum", "elementwise", broadcast, _call("minimum"), np.minimum, lambda m, a, b: m.minimum(a, b), _of_two("lt"),
             doc="the smaller of two", sign=lambda a, b: a if a == b else 0),
    Operator("maximum", "elementwise", broadcast, _call("maximum"), np.maximum, lambda m, a, b: m.maximum(a, b), _of_two("gt"),
             doc="the larger of two", sign=lambda a, b: max(a, b)),
    Operator("logical_and", "elementwise", broadcast, _infix("and"), lambda a, b: np.logical_and(a, b) * 1.0,
             lambda m, a, b: m.one_if(m.land(m.truth(a), m.truth(b))), lambda n: (None, None), doc="1 where both are not 0, else 0"),
    Operator("logical_or", "elementwise", broadcast, _infix("or"), lambda a, b: np.logical_or(a, b) * 1.0,
             lambda m, a, b: m.one_if(m.lor(m.truth(a), m.truth(b))), lambda n: (None, None), doc="1 where either is not 0, else 0"),
    Operator("logical_not", "elementwise", broadcast, _call("not"), lambda a: np.logical_not(a) * 1.0,
             lambda m, a: m.one_if(m.lnot(m.truth(a))), lambda n: (None,), doc="1 where a is 0, else 0"),
    # Made by the planner where the argument's sign is known: an instruction less.
    _function("exp_nonpositive", np.exp, lambda y, a: y, "exp of a number that is not positive", method="exp_of_nonpositive", cost=10,
              sign=lambda a: 1),
    _function("exp_or_zero", np.exp, lambda y, a: y, "exp, 0 where it would be subnormal", method="exp_or_zero", cost=11, sign=lambda a: 1),
    # Made by the planner for targets whose instruction is this one.
    _function("exp2", np.exp2, lambda y, a: math.log(2) * y, "2 to the power a", cost=1, sign=lambda a: 1),
    # Used by reductions alone: a maximum that may lose a nan, and whether an index is still unset.
    Operator("fmax", "elementwise", broadcast, _call("fmax"), np.fmax, lambda m, a, b: m.fmax(a, b), _of_two("gt"),
             doc="the larger of two, in one instruction; the second where either is nan"),
    Operator("fmin", "elementwise", broadcast, _call("fmin"), np.fmin, lambda m, a, b: m.fmin(a, b), _of_two("lt"),
             doc="the smaller of two, in one instruction; the second where either is nan"),
    Operator("unset", "elementwise", broadcast, _call("unset"), lambda a: (a < 0) * 1.0,
             lambda m, a: m.one_if(m.is_negative(a)), lambda n: (None,), kind="real", doc="1 where an index is negative", internal=True),
    Operator("index", "elementwise", broadcast, _call("index"), lambda a, number: np.full_like(a, number),
             lambda m, a, number: m.whole(a, number), lambda n: (None,), doc="a number in the place of an index", internal=True),
    Operator("widen", "elementwise", broadcast, _call("widen"), np.positive, lambda m, a: m.widen(a), lambda n: (1,), kind="double",
             doc="a as float64", internal=True),
    Operator("narrow", "elementwise", broadcast, _call("narrow"), np.positive, lambda m, a: m.narrow(a), lambda n: (1,), kind="real",
             doc="a float64 as the numbers of the formula", internal=True),
    # ---- reductions of the vector itself
    Operator("sum", "reduce", _to_scalar, _call("sum"), lambda a: a.sum(-1, keepdims=True), lambda m, a, b: m.add(a, b), lambda n: (1,),
             doc="sum of the components", keops="Sum", sign=lambda a: a),
    Operator("min", "reduce", _to_scalar, _call("min"), lambda a: a.min(-1, keepdims=True), lambda m, a, b: m.minimum(a, b),
             _selected_partial, identity=float("inf"), doc="smallest component", keops="Min", sign=lambda a: a),
    Operator("max", "reduce", _to_scalar, _call("max"), lambda a: a.max(-1, keepdims=True), lambda m, a, b: m.maximum(a, b),
             _selected_partial, identity=float("-inf"), doc="largest component", keops="Max", sign=lambda a: a),
    # ---- components moved
    Operator("extract", "index", _extracted, lambda args, attrs: f"{args[0]}[{attrs[0]}:{attrs[0] + attrs[1]}]",
             lambda a, start, length: a[..., start : start + length], transpose=_extract_transpose,
             cost=0, doc="a slice of the components", keops="Extract", sign=lambda a: a),
    Operator("concat", "index", lambda dims, attrs: sum(dims), _call("concat"), _concat_numpy, transpose=_concat_transpose,
             cost=0, doc="components one after the other", keops="Concat"),
    Operator("spread", "index", _spread, lambda args, attrs: f"spread({args[0]}, {attrs[0]})",
             lambda a, dim: np.broadcast_to(a, (*a.shape[:-1], dim)),
             transpose=lambda n, g: (apply("sum", g) if n.args[0].dim == 1 else g,),
             cost=0, doc="one number, repeated", sign=lambda a: a),
    # ---- derived: these stand for a formula of the others
    Operator("dot", "derived", _to_scalar, _infix("|"),
             lambda a, b: (a * b).sum(-1, keepdims=True),
             definition=lambda a, b: apply("sum", spread_to(a * b, max(a.dim, b.dim))), doc="inner product", keops="Scalprod"),
    Operator("sqnorm2", "derived", _to_scalar, _call("sqnorm2"), lambda a: np.square(a).sum(-1, keepdims=True),
             definition=lambda a: apply("sum", apply("square", a)), doc="squared Euclidean norm", keops="SqNorm2"),
    Operator("norm2", "derived", _to_scalar, _call("norm2"), lambda a: np.sqrt(np.square(a).sum(-1, keepdims=True)),
             definition=lambda a: apply("sqrt", apply("sum", apply("square", a))), doc="Euclidean norm", keops="Norm2"),
    Operator("normalize", "derived", broadcast, _call("normalize"),
             lambda a: np.divide(a, np.sqrt(np.square(a).sum(-1, keepdims=True)), out=np.zeros_like(a),
                                 where=(a != 0).any(-1, keepdims=True)),
             definition=lambda a: a * _inverse_root_or_zero(apply("sum", apply("square", a))),
             doc="the vector over its Euclidean norm; 0 stays 0", keops="Normalize"),
    Operator("sqdist", "derived", _to_scalar, _call("sqdist"), lambda a, b: np.square(a - b).sum(-1, keepdims=True),
             definition=lambda a, b: apply("sum", apply("square", a - b)), doc="squared Euclidean distance", keops="SqDist"),
]  # fmt: skip


def spread_to(a: Node, dim: int) -> Node:
    return a if a.dim == dim else spread(a, dim)


OPERATORS.update({op.name: op for op in _TABLE})
