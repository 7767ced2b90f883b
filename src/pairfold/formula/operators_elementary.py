"""Records of the operators that work component by component: arithmetic, functions, comparisons and choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .graph import Node, Operand, apply
from .operator import Bracketed, Operator
from .operators_common import broadcast, call, infix, power, prefix, where

# ---- dimensions


def _of_order(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    return broadcast(dims) if attrs[0] >= 1 else f"a polygamma function has an order of at least 1, not {attrs[0]}"


# ---- derivatives


def _power_partial(node: Node) -> tuple[Operand | None, ...]:
    (a,), (n,) = node.args, node.attrs
    return (n * power(a, n - 1) if n else None,)


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
    return where(apply("eq", b, 0), 0, b * apply("pow", a, b - 1)), where(apply("eq", a, 0), 0, node * apply("log", a))


def _atan2_partials(node: Node) -> tuple[Operand | None, ...]:
    a, b = node.args
    zero = apply("eq", apply("abs", a) + apply("abs", b), 0)
    safe = where(zero, 1, b)
    return where(zero, 0, apply("inverse_real", safe, a)), where(zero, 0, -apply("inverse_real", a, safe))


def _hypot_partials(node: Node) -> tuple[Operand | None, ...]:
    zero = apply("eq", node, 0)
    return tuple(where(zero, 0, a / where(zero, 1, node)) for a in node.args)


def _sinxdivx_partial(y: Node, a: Node) -> Node:
    """By its Taylor series below 1, where the difference of cos(a) and sin(a)/a cancels, and its derivatives' all the more.

    Each branch has numbers of its own, so that what overflows in the other has no part in further derivatives.
    """
    near = apply("lt", apply("abs", a), 1)
    small, large = where(near, a, 0), where(near, 1, a)
    square = apply("square", small)
    series: Operand = 0.0
    for k in range(10, 0, -1):  # what is left off is below 1e-21
        series = series * square + (-1) ** k * 2 * k / math.factorial(2 * k + 1)
    return where(near, small * series, (apply("cos", large) - y) / large)


def _gelu_partial(y: Node, a: Node) -> Node:
    density = apply("exp", -0.5 * apply("square", a)) * (1 / math.sqrt(2 * math.pi))
    return 0.5 * apply("erfc", a * -math.sqrt(0.5)) + a * density


def _softmin_partials(node: Node) -> tuple[Operand | None, ...]:
    *values, scale = node.args
    shares = [apply("exp", (node - a) / scale) for a in values]
    mean = sum((s * a for s, a in zip(shares[1:], values[1:], strict=True)), shares[0] * values[0])
    return (*shares, (node - mean) / scale)


# ---- meanings

TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)
_erf = np.vectorize(math.erf, otypes=[float])
_erfc = np.vectorize(math.erfc, otypes=[float])


def _gelu(a: np.ndarray) -> np.ndarray:
    return np.where(a == -np.inf, -0.0, 0.5 * a * _erfc(np.where(a == -np.inf, 0.0, -a) / math.sqrt(2)))


@np.vectorize
def _lgamma(a: float) -> float:
    return math.inf if a == -math.inf or a <= 0 and a == math.floor(a) else math.lgamma(a)


# The coefficients of digamma's expansion at infinity in powers of 1/a²: those of Bernoulli numbers B_2k, over 2k.
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
_FAR = 16  # where that is exact to the last digits


def _digamma(a: np.ndarray) -> np.ndarray:
    pole = (a < 0) & (a == np.floor(a))  # -inf included
    b = np.where(a < 0, 1 - a, a)
    lower = 1 / b + sum(1 / (b + k) for k in range(1, _FAR))  # 1/-0 is -inf
    far = b + _FAR
    value = np.log(far) - 0.5 / far - sum(c / (2 * k * far ** (2 * k)) for k, c in enumerate(_BERNOULLI, 1)) - lower
    return np.where(pole, np.nan, np.where(a == np.inf, np.inf, value - np.where(a < 0, np.pi * _cotangent(a), 0)))


def _polygamma(a: np.ndarray, n: int) -> np.ndarray:
    """The n-th derivative of digamma: (-1)^(n+1) n! Σ_k 1/(a + k)^(n+1), reflected below 0."""
    size = np.abs(a)
    near = sum(1 / (size + k) ** (n + 1) for k in range(1, _FAR))
    far = size + _FAR
    tail = 1 / (n * far**n) + 0.5 / far ** (n + 1)
    for k, c in enumerate(_BERNOULLI, 1):
        tail = tail + c * math.prod(range(n + 1, n + 2 * k)) / (math.factorial(2 * k) * far ** (n + 2 * k))
    rest = math.factorial(n) * (near + tail)
    above = (-1) ** (n + 1) * (rest + math.factorial(n) / a ** (n + 1))
    below = -rest - np.pi ** (n + 1) * np.polynomial.Polynomial(cotangent_derivative(n))(_cotangent(a))
    pole = (a < 0) & (a == np.floor(a))
    at_pole = np.where(np.isfinite(a), np.inf if n % 2 else np.nan, np.nan)
    return np.where(pole, at_pole, np.where(a < 0, below, above))


def _cotangent(a: np.ndarray) -> np.ndarray:
    """1/tan(πa)."""
    rest = a - np.round(np.where(np.isfinite(a), a, 0))
    half = np.abs(rest) > 0.25  # where it is 0 exactly, at 1/2, and small nearby
    return np.where(half, np.copysign(np.tan(np.pi * (0.5 - np.abs(rest))), rest), 1 / np.tan(np.pi * np.where(half, 0.25, rest)))


def cotangent_derivative(n: int) -> list[float]:
    """The polynomial in c = 1/tan(pi·x), lowest order first, that pi^n times is the n-th derivative of c."""
    found = [0.0, 1.0]
    for _ in range(n):  # the derivative by x is that by c, times -(1 + c²)
        slope = [k * c for k, c in enumerate(found)][1:]
        found = [-a - b for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    return found


LONGEST_MATERN = 15  # the degree from which on a polynomial's coefficients are too small for float32, or its values too large


def _matern(a: np.ndarray, p: int) -> np.ndarray:
    r = np.sqrt(a)
    bounded = np.minimum(r, 2.0 * max(p, 0) + 820.0)
    if p > LONGEST_MATERN:
        parts = matern_parts(p)
        part, value, one = np.exp(-r / parts), np.ones_like(r), np.ones_like(r)
        for ratio, decays in matern_ratios(p, parts):
            value = value * (bounded * ratio) + one
            for _ in range(decays):
                value, one = value * part, one * part
        return value
    half = np.exp(-r / 2)
    value = half * np.polynomial.Polynomial(matern_polynomial(p))(bounded) * half
    return value if p >= 0 else np.where(a == 0, 0.0, value / np.where(a == 0, 1.0, r ** (-2 * p - 1)))


def matern_polynomial(p: int) -> list[float]:
    """The polynomial of r by which exp(-r) is multiplied, lowest order first: for p >= 0, 1 at r = 0.

    It is that of the Bessel function of the second kind of order p + 1/2, which is that of order -p - 1/2 too.
    """
    n = p if p >= 0 else -p - 1
    found = [math.factorial(2 * n - k) / (math.factorial(n - k) * math.factorial(k) * 2 ** (n - k)) for k in range(n + 1)]
    return [c / found[0] for c in found] if p >= 0 else found


def matern_parts(p: int) -> int:
    """In how many parts exp(-r) is: between two of them no product grows beyond float32, up to an r for which all of it is 0."""
    return p // 5 + 2


def matern_ratios(p: int, parts: int) -> Iterator[tuple[float, int]]:
    """The same for p > 0 as 1 + c₁r (1 + c₂r (1 + …)), from the inside: each c, and how many parts of exp(-r) are to be multiplied in
    behind it. The coefficients themselves would underflow; and the parts come as the products grow, where r is about p.
    """
    ratios = [2 * (p - k + 1) / (k * (2 * p - k + 1)) for k in range(p, 0, -1)]
    grown = np.cumsum([max(0.0, math.log(c * p)) for c in ratios])
    done = np.floor(parts * grown / grown[-1]).astype(int)
    done[-1] = parts
    return zip(ratios, np.diff(done, prepend=0), strict=True)


def _matern_partials(node: Node) -> tuple[Operand | None, ...]:
    (p,) = node.attrs
    lower = apply("matern", *node.args, attrs=(p - 1,))
    return (lower * (-0.5 / (2 * p - 1) if p > 0 else -0.5),)


def _emit_matern(m: Any, a: Any, p: int) -> Any:
    r = m.sqrt(a)
    # Beyond, all of it is 0, and the product with infinity would be nan.
    bounded = m.fmin(r, m.const(2.0 * max(p, 0) + (110.0 if m.bits == 32 else 820.0)))
    if p > LONGEST_MATERN:
        parts = matern_parts(p)
        part = m.exp(m.mul(r, m.const(-1 / parts)), True)
        value = one = m.const(1.0)
        for ratio, decays in matern_ratios(p, parts):
            value = m.fma(value, m.mul(bounded, m.const(ratio)), one)
            for _ in range(decays):
                value, one = m.mul(value, part), m.mul(one, part)
        return value
    first, *others = [m.const(c) for c in reversed(matern_polynomial(p))]
    for c in others:
        first = m.fma(first, bounded, c)
    if p > 0:  # in halves, since the polynomial lifts what would be subnormal by itself
        half = m.exp_of_rounded(m.mul(r, m.const(-0.5)), True)
        return m.mul(m.mul(half, first), half)
    value = m.mul(m.exp_of_rounded(m.neg(r), True), first)
    if p == 0:
        return value
    zero = m.eq(a, m.const(0.0))
    return m.select(zero, m.const(0.0), m.div(value, m.powi(r, -2 * p - 1)))


def _softmin(a: np.ndarray, b: np.ndarray, c: np.ndarray, scale: np.ndarray) -> np.ndarray:
    least = np.minimum(np.minimum(a, b), c)
    return least - scale * np.log(np.exp((least - a) / scale) + np.exp((least - b) / scale) + np.exp((least - c) / scale))


def _round_away(a: np.ndarray, d: int) -> np.ndarray:
    scaled = a * 10.0**d
    whole = np.trunc(scaled)
    return (whole + np.where(np.abs(scaled - whole) >= 0.5, np.sign(scaled), 0.0)) / 10.0**d


def _round_away_definition(a: Node, d: int) -> Node:
    scaled = a * 10.0**d if d else a
    whole = apply("trunc", scaled)
    rounded = whole + where(apply("ge", apply("abs", scaled - whole), 0.5), apply("sign", scaled), 0)
    return rounded / 10.0**d if d else rounded


# ---- records of one form


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

    def partials(node: Node) -> tuple[Operand | None, ...]:
        return (partial(node, node.args[0]),)

    return Operator(name, "elementwise", broadcast, call(name), numpy, emit, partials, doc=doc, keops=keops, cost=cost, sign=sign, **more)


def _comparison(name: str, symbol: str, numpy: Callable[..., Any], doc: str, keops: str = "") -> Operator:
    def emit(m: Any, a: Any, b: Any) -> Any:
        return m.one_if(getattr(m, name)(a, b))

    def meaning(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return numpy(a, b) * 1.0

    return Operator(name, "elementwise", broadcast, infix(symbol), meaning, emit, lambda n: (None, None), typed=(), doc=doc, keops=keops,
                    arity=2)  # fmt: skip


ARITHMETIC = [
    Operator("add", "elementwise", broadcast, infix("+"), np.add, lambda m, a, b: m.add(a, b), lambda n: (1, 1),
             doc="a + b", keops="Add", arity=2, sign=lambda a, b: a if a == b else 0),
    Operator("sub", "elementwise", broadcast, infix("-"), np.subtract, lambda m, a, b: m.sub(a, b), lambda n: (1, -1),
             doc="a - b", keops="Subtract", arity=2, sign=lambda a, b: a if a == -b else 0),
    Operator("mul", "elementwise", broadcast, infix("*"), np.multiply, lambda m, a, b: m.mul(a, b), lambda n: (n.args[1], n.args[0]),
             doc="a b", keops="Mult", arity=2, sign=lambda a, b: a * b),
    Operator("div", "elementwise", broadcast, infix("/"), np.divide, lambda m, a, b: m.div(a, b),
             lambda n: (1 / n.args[1], -n / n.args[1]), cost=8,
             doc="a / b", keops="Divide", arity=2, sign=lambda a, b: a if b == 1 else 0),
    Operator("neg", "elementwise", broadcast, prefix("-"), np.negative, lambda m, a: m.neg(a), lambda n: (-1,),
             doc="-a", keops="Minus", sign=lambda a: -a),
    Operator("inv", "derived", broadcast, call("inv"), lambda a: 1 / a, definition=lambda a: 1 / a, doc="1 / a", keops="Inv"),
    Operator("square", "elementwise", broadcast, lambda args, attrs: Bracketed(f"({args[0]}**2)"), np.square, lambda m, a: m.mul(a, a),
             lambda n: (2 * n.args[0],), doc="a²", keops="Square", sign=lambda a: 1),
    Operator("powi", "elementwise", broadcast, lambda args, attrs: Bracketed(f"({args[0]}**{attrs[0]})"), lambda a, n: a ** float(n),
             lambda m, a, n: m.powi(a, n), _power_partial, cost=4,
             doc="a to a fixed whole power n", keops="Pow", attributes={"n": int}),
    Operator("pow", "elementwise", broadcast, infix("**"), np.power, lambda m, a, b: m.pow(a, b), _pow_partials, cost=60,
             doc="a to the power b", keops="Powf", arity=2),
    Operator("mod", "elementwise", broadcast, call("mod"), np.mod, lambda m, a, b: m.mod(a, b),
             lambda n: (1, -apply("floor", n.args[0] / n.args[1])), cost=15,
             doc="the remainder, of the sign of b, as NumPy's mod; 0 where a / b is 2^24 (in float64 2^53) or more", arity=2),
    Operator("hypot", "elementwise", broadcast, call("hypot"), np.hypot, lambda m, a, b: m.hypot(a, b),
             _hypot_partials, cost=16, sign=lambda a, b: 1,
             doc="sqrt(a² + b²) without overflow; its derivative at 0 is taken as 0", arity=2),
]  # fmt: skip

FUNCTIONS = [
    _function("sqrt", np.sqrt, lambda y, a: 0.5 * apply("rsqrt_or_zero", a), "square root; its derivative at 0 is taken as 0", "Sqrt",
              cost=6, sign=lambda a: 1),
    _function("rsqrt", lambda a: 1 / np.sqrt(a), lambda y, a: -0.5 * (y / a), "1 / sqrt(a)", cost=6, sign=lambda a: 1),
    _function("rsqrt_or_zero", lambda a: np.where(a == 0, 0.0, 1 / np.sqrt(a)), lambda y, a: -0.5 * (y * apply("square", y)),
              "1 / sqrt(a), and 0 at 0, as KeOps has it", "Rsqrt", cost=8, sign=lambda a: 1),
    _function("exp", np.exp, lambda y, a: y, "e to the power a", "Exp", cost=12, sign=lambda a: 1),
    _function("log", np.log, lambda y, a: 1 / a, "natural logarithm", "Log", cost=14),
    _function("abs", np.abs, lambda y, a: apply("sign", a), "absolute value; its derivative at 0 is taken as 0", "Abs", sign=lambda a: 1),
    _function("sign", np.sign, lambda y, a: None, "-1, 0 or 1", "Sign"),
    _function("step", lambda a: np.heaviside(a, 1.0), lambda y, a: None, "1 where a ≥ 0, else 0", "Step", sign=lambda a: 1),
    _function("relu", lambda a: np.maximum(a, 0.0), lambda y, a: apply("gt", a, 0), "the larger of a and 0", "ReLU", sign=lambda a: 1),
    _function("sin", np.sin, lambda y, a: apply("cos", a), "sine", "Sin", cost=20,
              twin=lambda n: apply("cos", *n.args), joint=lambda m, a: m.sine_and_cosine(a)),
    _function("cos", np.cos, lambda y, a: -apply("sin", a), "cosine", "Cos", cost=20,
              twin=lambda n: apply("sin", *n.args), joint=lambda m, a: m.sine_and_cosine(a)[::-1]),
    _function("tan", np.tan, lambda y, a: 1 + apply("square", y), "tangent", cost=30),
    _function("asin", np.arcsin, lambda y, a: apply("rsqrt_or_zero", 1 - apply("square", a)),
              "inverse sine; its derivative at -1 and 1 is taken as 0", "Asin", cost=18),
    _function("acos", np.arccos, lambda y, a: -apply("rsqrt_or_zero", 1 - apply("square", a)),
              "inverse cosine; its derivative at -1 and 1 is taken as 0", "Acos", cost=22),
    _function("atan", np.arctan, lambda y, a: 1 / (1 + apply("square", a)), "inverse tangent", "Atan", cost=17),
    Operator("atan2", "elementwise", broadcast, call("atan2"), np.arctan2, lambda m, a, b: m.atan2(a, b), _atan2_partials, cost=31,
             doc="the angle of the point (b, a); its derivative at 0 is taken as 0", keops="Atan2", arity=2),
    _function("sinxdivx", lambda a: np.where(a == 0, 1.0, np.sin(a) / np.where(a == 0, 1.0, a)),
              _sinxdivx_partial, "sin(a) / a, 1 at 0", "SinXDivX", cost=30),
    _function("sinh", np.sinh, lambda y, a: apply("cosh", a), "hyperbolic sine", cost=27),
    _function("cosh", np.cosh, lambda y, a: apply("sinh", a), "hyperbolic cosine", cost=26, sign=lambda a: 1),
    _function("tanh", np.tanh, lambda y, a: 1 - apply("square", y), "hyperbolic tangent", cost=27),
    _function("sigmoid", lambda a: 1 / (1 + np.exp(-a)), lambda y, a: y * (1 - y), "1 / (1 + exp(-a))", cost=24, sign=lambda a: 1),
    _function("softplus", lambda a: np.logaddexp(0, a), lambda y, a: apply("sigmoid", a), "log(1 + exp(a))", cost=38, sign=lambda a: 1),
    _function("log1p", np.log1p, lambda y, a: 1 / (1 + a), "log(1 + a), accurate near 0", cost=28),
    _function("expm1", np.expm1, lambda y, a: y + 1, "exp(a) - 1, accurate near 0", cost=22),
    _function("xlogx", lambda a: np.where(a == 0, 0.0, a * np.log(np.where(a == 0, 1.0, a))), lambda y, a: apply("log", a) + 1,
              "a log(a), 0 at 0", "XLogX", cost=28),
    Operator("logaddexp", "elementwise", broadcast, call("logaddexp"), np.logaddexp, lambda m, a, b: m.logaddexp(a, b),
             lambda n: (apply("sigmoid", n.args[0] - n.args[1]), apply("sigmoid", n.args[1] - n.args[0])), cost=50,
             doc="log(exp(a) + exp(b)) without overflow", arity=2),
    Operator("softmin", "elementwise", broadcast, call("softmin"), _softmin,
             lambda m, *v: m.outlined("softmin", [m.real], lambda m, *v: [m.softmin(*v)], v)[0], _softmin_partials, cost=70,
             doc="-scale log(exp(-a/scale) + exp(-b/scale) + exp(-c/scale)) without overflow", arity=4),
    _function("erf", _erf, lambda y, a: TWO_OVER_ROOT_PI * apply("exp", -apply("square", a)), "error function", cost=64),
    _function("erfc", _erfc, lambda y, a: -TWO_OVER_ROOT_PI * apply("exp", -apply("square", a)), "1 - erf(a)", cost=57,
              sign=lambda a: 1),
    _function("gelu", _gelu, _gelu_partial, "a times the normal distribution function of a", cost=65),
    _function("lgamma", _lgamma, lambda y, a: apply("digamma", a), "logarithm of the absolute value of the gamma function", cost=150),
    _function("digamma", _digamma, lambda y, a: apply("polygamma", a, attrs=(1,)), "derivative of lgamma", cost=100),
    Operator("polygamma", "elementwise", _of_order, call("polygamma"), _polygamma, lambda m, a, n: m.polygamma(a, n),
             lambda n: (apply("polygamma", n.args[0], attrs=(n.attrs[0] + 1,)),), cost=200,
             doc="n-th derivative of digamma, n ≥ 1", attributes={"n": int}),
    Operator("matern", "elementwise", broadcast, call("matern"), _matern, _emit_matern, _matern_partials, cost=24,
             doc="Matérn's function of a squared distance, of smoothness p + 1/2; for p < 0 those it differentiates to",
             attributes={"p": int}),
    _function("floor", np.floor, lambda y, a: None, "the next lower whole number", "Floor"),
    _function("ceil", np.ceil, lambda y, a: None, "the next higher whole number"),
    _function("trunc", np.trunc, lambda y, a: None, "the whole number towards 0"),
    Operator("round", "elementwise", broadcast, call("round"), np.round, lambda m, a, d: m.round_decimals(a, d), lambda n: (None,), cost=4,
             doc="a rounded to d decimals, ties to even as NumPy's", attributes={"d": int}),
    Operator("round_away", "derived", broadcast, call("round_away"), _round_away, definition=_round_away_definition,
             doc="a rounded to d decimals, ties away from 0, as KeOps has it", keops="Round", attributes={"d": int}),
    _function("isnan", lambda a: np.isnan(a) * 1.0, lambda y, a: None, "1 where a is nan, else 0", method="one_if_nan"),
]  # fmt: skip

CHOICES = [
    _comparison("lt", "<", np.less, "1 where a < b, else 0", "LessThan"),
    _comparison("le", "<=", np.less_equal, "1 where a ≤ b, else 0", "LessOrEqual"),
    _comparison("gt", ">", np.greater, "1 where a > b, else 0"),
    _comparison("ge", ">=", np.greater_equal, "1 where a ≥ b, else 0"),
    _comparison("eq", "==", np.equal, "1 where a = b, else 0", "Equal"),
    _comparison("ne", "!=", np.not_equal, "1 where a ≠ b, else 0", "NotEqual"),
    Operator("where", "elementwise", broadcast, call("where"), lambda c, a, b: np.where(c != 0, a, b),
             lambda m, c, a, b: m.select(m.truth(c), a, b), lambda n: (None, where(n.args[0], 1, 0), where(n.args[0], 0, 1)),
             typed=(1, 2), doc="a where the condition is not 0, else b", arity=3),
    Operator("ifelse", "derived", broadcast, call("ifelse"), lambda c, a, b: np.where(c >= 0, a, b),
             definition=lambda c, a, b: where(apply("ge", c, 0), a, b), typed=(1, 2), doc="a where c ≥ 0, else b", keops="IfElse",
             arity=3),
    Operator("minimum", "elementwise", broadcast, call("minimum"), np.minimum, lambda m, a, b: m.minimum(a, b), _of_two("lt"),
             doc="the smaller of two", arity=2, sign=lambda a, b: a if a == b else 0),
    Operator("maximum", "elementwise", broadcast, call("maximum"), np.maximum, lambda m, a, b: m.maximum(a, b), _of_two("gt"),
             doc="the larger of two", arity=2, sign=lambda a, b: max(a, b)),
    Operator("clamp", "elementwise", broadcast, call("clamp"), lambda a, low, high: np.minimum(np.maximum(a, low), high),
             lambda m, a, low, high: m.clamp(a, low, high), _clamp_partials,
             doc="a kept between two bounds", keops="Clamp", arity=3),
    Operator("logical_and", "elementwise", broadcast, infix("and"), lambda a, b: np.logical_and(a, b) * 1.0,
             lambda m, a, b: m.one_if(m.land(m.truth(a), m.truth(b))), lambda n: (None, None),
             typed=(), doc="1 where both are not 0, else 0", arity=2),
    Operator("logical_or", "elementwise", broadcast, infix("or"), lambda a, b: np.logical_or(a, b) * 1.0,
             lambda m, a, b: m.one_if(m.lor(m.truth(a), m.truth(b))), lambda n: (None, None),
             typed=(), doc="1 where either is not 0, else 0", arity=2),
    Operator("logical_not", "elementwise", broadcast, call("not"), lambda a: np.logical_not(a) * 1.0,
             lambda m, a: m.one_if(m.lnot(m.truth(a))), lambda n: (None,), typed=(), doc="1 where a is 0, else 0"),
]  # fmt: skip

INTERNAL = [
    # Made by the planner: an instruction less, another where the argument is not positive, and no subnormal results, which take long.
    Operator("exp_of_rounded", "elementwise", broadcast, call("exp_of_rounded"),
             lambda a, nonpositive: np.exp(a), lambda m, a, nonpositive: m.exp_of_rounded(a, bool(nonpositive)), lambda n: (n,), cost=10,
             doc="exp of a number that carries a rounding error; 0 where that would be subnormal", sign=lambda a: 1,
             attributes={"nonpositive": int}),
    # Made where sums are accumulated with care, which the exponential's own rounding would spoil.
    Operator("exp_closely", "elementwise", broadcast, call("exp_closely"),
             lambda a, rounded: np.exp(a), lambda m, a, rounded: m.exp_or_zero_closely(a, bool(rounded)), lambda n: (n,), cost=14,
             doc="exp of a number that is not positive, within 1 ulp, of one that carries a rounding error within a little more; 0 where"
             " that would be subnormal", sign=lambda a: 1, attributes={"rounded": int}),
    _function("exp_or_zero", np.exp, lambda y, a: y, "exp, 0 where it would be subnormal", method="exp_or_zero", cost=12, sign=lambda a: 1),
    # Made by the planner for targets whose instruction is this one.
    _function("exp2", np.exp2, lambda y, a: math.log(2) * y, "2 to the power a", cost=1, sign=lambda a: 1),
    _function("exp2_or_zero", np.exp2, lambda y, a: math.log(2) * y, "2 to the power a, 0 where that would be subnormal", cost=9,
              sign=lambda a: 1),
    _function("exp2_middling", np.exp2, lambda y, a: math.log(2) * y, "2 to the power a, between -100 and 100", cost=9, sign=lambda a: 1),
    # Used by reductions: a maximum that may lose a nan, a sum that rounds a product but once, and whether an index is still unset.
    Operator("fmax", "elementwise", broadcast, call("fmax"), np.fmax, lambda m, a, b: m.fmax(a, b), _of_two("gt"),
             doc="the larger of two, in one instruction; the second where either is nan", arity=2),
    Operator("fmin", "elementwise", broadcast, call("fmin"), np.fmin, lambda m, a, b: m.fmin(a, b), _of_two("lt"),
             doc="the smaller of two, in one instruction; the second where either is nan", arity=2),
    Operator("fma", "elementwise", broadcast, call("fma"), lambda a, b, c: a * b + c, lambda m, a, b, c: m.fma(a, b, c),
             lambda n: (n.args[1], n.args[0], 1), doc="a · b + c, rounded once", arity=3),
    Operator("unset", "elementwise", broadcast, call("unset"), lambda a: (a < 0) * 1.0,
             lambda m, a: m.one_if(m.is_negative(a)), lambda n: (None,), kind="real", doc="1 where an index is negative", internal=True),
    Operator("index", "elementwise", broadcast, call("index"), lambda a, number: np.full_like(a, number),
             lambda m, a, number: m.whole(a, number), lambda n: (None,), doc="a number in the place of an index", internal=True),
    Operator("widen", "elementwise", broadcast, call("widen"), np.positive, lambda m, a: m.widen(a), lambda n: (1,), kind="double",
             doc="a as float64", internal=True),
    Operator("narrow", "elementwise", broadcast, call("narrow"), np.positive, lambda m, a: m.narrow(a), lambda n: (1,), kind="real",
             doc="a float64 as the numbers of the formula", internal=True),
]  # fmt: skip
