"""Complex numbers as pairs of real formulas, and the operators that they have.

A part that is the number 0 takes part in nothing: real numbers, and multiples of i, cost what they must.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .graph import Node, Operand, apply, const, value_of
from .operator import OPERATORS, Operator
from .operators_common import broadcast, call, extract, is_zero, spread_to, where


@dataclass(frozen=True, eq=False)
class Complex:
    """A complex number, or a vector of them, for each pair.

    Attributes
    ----------
    real, imag : Node
        Of one dimension, or of dimension 1 where all components share a part.
    """

    real: Node
    imag: Node

    @property
    def dim(self) -> int:
        return max(self.real.dim, self.imag.dim)

    @property
    def vector(self) -> Node:
        """The real parts of all components, then the imaginary ones."""
        return apply("concat", spread_to(self.real, self.dim), spread_to(self.imag, self.dim))

    @property
    def conj(self) -> Complex:
        return Complex(self.real, _neg(self.imag))

    def __neg__(self) -> Complex:
        return Complex(_neg(self.real), _neg(self.imag))

    def __add__(self, other: Complex) -> Complex:
        return Complex(_add(self.real, other.real), _add(self.imag, other.imag))

    def __sub__(self, other: Complex) -> Complex:
        return self + -other

    def __mul__(self, other: Complex) -> Complex:
        a, b, c, d = self.real, self.imag, other.real, other.imag
        return Complex(_add(_mul(a, c), _neg(_mul(b, d))), _add(_mul(a, d), _mul(b, c)))

    def __truediv__(self, other: Complex) -> Complex:
        if is_zero(other.imag):
            return Complex(_div(self.real, other.real), _div(self.imag, other.real))
        if is_zero(other.real):
            return Complex(_div(self.imag, other.imag), _neg(_div(self.real, other.imag)))
        return self * Complex(apply("inverse_real", other.real, other.imag), _neg(apply("inverse_real", other.imag, other.real)))


def from_vector(vector: Node) -> Complex:
    """The complex numbers whose real parts, then imaginary parts, a vector holds."""
    half = vector.dim // 2
    if vector.op.name == "concat" and [a.dim for a in vector.args] == [half, half]:
        return Complex(*vector.args)
    return Complex(extract(vector, 0, half), extract(vector, half, half))


def from_real(real: Node) -> Complex:
    return Complex(real, spread_to(const(0), real.dim))


ONE, I = from_real(const(1)), Complex(const(0), const(1))

# ---- parts that may be absent: the number 0


def _nothing(*parts: Node) -> Node:
    return spread_to(const(0), max(p.dim for p in parts))


def _neg(a: Node) -> Node:
    return a if is_zero(a) else a.args[0] if a.op.name == "neg" else -a


def _add(a: Node, b: Node) -> Node:
    if is_zero(a) or is_zero(b):
        return spread_to(b if is_zero(a) else a, max(a.dim, b.dim))
    return a - b.args[0] if b.op.name == "neg" else a + b


def _mul(a: Node, b: Node) -> Node:
    if is_zero(a) or is_zero(b):
        return _nothing(a, b)
    if value_of(a) == 1 or value_of(b) == 1:
        return spread_to(b if value_of(a) == 1 else a, max(a.dim, b.dim))
    return a * b


def _div(a: Node, b: Node) -> Node:
    return _nothing(a, b) if is_zero(a) and not is_zero(b) else a / b


def _even(name: str, a: Node) -> Node:
    """A function of an operand that is 1 where the operand is absent."""
    return spread_to(const(1), a.dim) if is_zero(a) else apply(name, a)


def _odd(name: str, a: Node) -> Node:
    """A function of an operand that is 0 where the operand is absent."""
    return a if is_zero(a) else apply(name, a)


def _sum(a: Node) -> Node:
    return const(0) if is_zero(a) else apply("sum", a)


# ---- functions


def modulus(z: Complex) -> Node:
    if is_zero(z.imag) or is_zero(z.real):
        return apply("abs", z.real if is_zero(z.imag) else z.imag)
    return apply("hypot", z.real, z.imag)


def squared_modulus(z: Complex) -> Node:
    parts = [apply("square", p) for p in (z.real, z.imag) if not is_zero(p)]
    return parts[0] + parts[1] if len(parts) == 2 else parts[0] if parts else z.real


def angle(z: Complex) -> Node:
    known = value_of(z.real)
    positive = known is not None and known > 0 or z.real.op.name == "var" and z.real.attrs[3] == 1
    return z.imag if is_zero(z.imag) and positive else apply("atan2", z.imag, z.real)


def exp(z: Complex) -> Complex:
    size = _even("exp", z.real)
    return Complex(_mul(size, _even("cos", z.imag)), _mul(size, _odd("sin", z.imag)))


def log(z: Complex) -> Complex:
    if is_zero(z.imag):
        return Complex(apply("log", apply("abs", z.real)), angle(z))
    return Complex(apply("log_hypot", z.real, z.imag), angle(z))


def sqrt(z: Complex) -> Complex:
    return Complex(apply("root_real", z.real, z.imag), apply("root_imag", z.real, z.imag))


def square(z: Complex) -> Complex:
    if is_zero(z.real) or is_zero(z.imag):
        return z * z
    twice = z.real + z.real
    return Complex((z.real - z.imag) * (z.real + z.imag), twice * z.imag)


def cosh(z: Complex) -> Complex:
    return Complex(_mul(_even("cosh", z.real), _even("cos", z.imag)), _mul(_odd("sinh", z.real), _odd("sin", z.imag)))


def sinh(z: Complex) -> Complex:
    return Complex(_mul(_odd("sinh", z.real), _even("cos", z.imag)), _mul(_even("cosh", z.real), _odd("sin", z.imag)))


def tanh(z: Complex) -> Complex:
    """From the tangents of the parts, which cannot overflow."""
    t, u = _odd("tanh", z.real), _odd("tan", z.imag)
    return Complex(t, u) / Complex(spread_to(const(1), z.dim), _mul(t, u))


def _turned(function: Callable[[Complex], Complex]) -> Callable[[Complex], Complex]:
    """f(iz)/i: sin from sinh, tan from tanh."""
    return lambda z: function(z * I) * -I


def power(z: Complex, n: int) -> Complex:
    """z to a whole power, by repeated squaring."""
    if n < 0:
        return ONE / power(z, -n)
    if n == 0:  # 1, of nan too, but a function of z: its derivatives are zeros
        one = apply("logical_or", apply("eq", z.real, z.real), apply("ne", z.real, z.real))
        return Complex(one, spread_to(const(0), z.dim))
    if n == 1:
        return z
    half = square(power(z, n // 2))
    return half * z if n % 2 else half


def general_power(z: Complex, p: Complex) -> Complex:
    """exp(p log z), and at 0 what NumPy has there."""
    zero = apply("eq", z.real, 0) if is_zero(z.imag) else apply("logical_and", apply("eq", z.real, 0), apply("eq", z.imag, 0))
    w = exp(p * log(Complex(where(zero, 1, z.real), z.imag)))
    at_zero = where(apply("gt", p.real, 0), 0, where(_equal(p, from_real(const(0))), 1, math.nan))
    return Complex(where(zero, at_zero, w.real), where(zero, at_zero * 0, w.imag))


def _equal(a: Complex, b: Complex) -> Node:
    real = apply("eq", a.real, b.real)
    return real if is_zero(a.imag) and is_zero(b.imag) else apply("logical_and", real, apply("eq", a.imag, b.imag))


def _truth(z: Complex) -> Node:
    return z.real if is_zero(z.imag) else apply("logical_or", z.real, z.imag)


def _choice(condition: Complex, a: Complex, b: Complex) -> Complex:
    c = _truth(condition)
    imag = _nothing(c, a.imag, b.imag) if is_zero(a.imag) and is_zero(b.imag) else where(c, a.imag, b.imag)
    return Complex(where(c, a.real, b.real), imag)


# ---- vectors


def _total(z: Complex) -> Complex:
    return Complex(_sum(spread_to(z.real, z.dim)), _sum(spread_to(z.imag, z.dim)))


def _dot(a: Complex, b: Complex) -> Complex:
    product = a * b
    dim = max(a.dim, b.dim)
    return _total(Complex(spread_to(product.real, dim), spread_to(product.imag, dim)))


def _joined(*parts: Complex) -> Complex:
    wide = [from_vector(p.vector) for p in parts]
    return Complex(apply("concat", *(p.real for p in wide)), apply("concat", *(p.imag for p in wide)))


# What operators of the table mean for complex numbers, by name; the others have no meaning for them.
OF_COMPLEX: dict[str, Callable[..., Complex | Node]] = {
    "add": Complex.__add__,
    "sub": Complex.__sub__,
    "mul": Complex.__mul__,
    "div": Complex.__truediv__,
    "neg": Complex.__neg__,
    "inv": lambda z: ONE / z,
    "square": square,
    "pow": general_power,
    "sqrt": sqrt,
    "rsqrt": lambda z: ONE / sqrt(z),
    "exp": exp,
    "log": log,
    "sin": _turned(sinh),
    "cos": lambda z: cosh(z * I),
    "tan": _turned(tanh),
    "sinh": sinh,
    "cosh": cosh,
    "tanh": tanh,
    "abs": modulus,
    "eq": _equal,
    "ne": lambda a, b: apply("logical_not", _equal(a, b)),
    "where": _choice,
    "sum": _total,
    "dot": _dot,
    "sqnorm2": lambda z: apply("sqnorm2", z.vector),
    "norm2": lambda z: apply("norm2", z.vector),
    "normalize": lambda z: from_vector(apply("normalize", z.vector)),
    "sqdist": lambda a, b: apply("sqnorm2", (a - b).vector),
    "concat": _joined,
}

# ---- the real operators that these need


def _inverse_partials(node: Node) -> tuple[Operand | None, ...]:
    a, b = node.args
    other = apply("inverse_real", b, a)
    return (other - node) * (other + node), -2 * node * other


def _log_partials(node: Node) -> tuple[Operand | None, ...]:
    a, b = node.args
    return apply("inverse_real", a, b), apply("inverse_real", b, a)


def _root_partials(node: Node) -> tuple[Operand | None, ...]:
    """Those of the parts (u, v) of w = sqrt(z): dw = dz/(2w), taken as 0 at z = 0."""
    u, v = (apply(name, *node.args) for name in ("root_real", "root_imag"))
    zero = apply("eq", u + apply("abs", v), 0)
    safe = where(zero, 1, u)
    along, across = (where(zero, 0, 0.5 * apply("inverse_real", *pair)) for pair in ((safe, v), (v, safe)))
    return (along, across) if node is u else (-across, along)


def _inverse_real(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(a) | np.isinf(b), 0.0, a / (a * a + b * b))


def _log_hypot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    size = np.hypot(a, b)
    large, small = np.maximum(np.abs(a), np.abs(b)), np.minimum(np.abs(a), np.abs(b))
    near_one = (size > 0.5) & (size < 2)  # where the logarithm of a rounded number is of no use
    large, small = np.where(near_one, large, 1), np.where(near_one, small, 0)
    return np.where(near_one, 0.5 * np.log1p((large - 1) * (large + 1) + small * small), np.log(size))


def _root_real(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    z = np.stack(np.broadcast_arrays(a, b), -1).view(complex)[..., 0]
    return np.sqrt(z).real


def _root_imag(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    z = np.stack(np.broadcast_arrays(a, b), -1).view(complex)[..., 0]
    return np.sqrt(z).imag


_TABLE = [
    Operator("inverse_real", "elementwise", broadcast, call("inverse_real"), _inverse_real,
             lambda m, a, b: m.inverse(a, b)[0], twin=lambda n: apply("inverse_real", *n.args[::-1]), joint=lambda m, a, b: m.inverse(a, b),
             partials=_inverse_partials, cost=22, doc="a / (a² + b²) without overflow, the real part of 1 / (a + bi)", arity=2,
             sign=lambda a, b: a),
    Operator("log_hypot", "elementwise", broadcast, call("log_hypot"), _log_hypot,
             lambda m, a, b: m.log_hypot(a, b), partials=_log_partials, cost=75, doc="log of sqrt(a² + b²), accurate near 1 too", arity=2),
    Operator("root_real", "elementwise", broadcast, call("root_real"), _root_real,
             lambda m, a, b: m.root(a, b)[0], twin=lambda n: apply("root_imag", *n.args), joint=lambda m, a, b: m.root(a, b),
             partials=_root_partials, cost=50, sign=lambda a, b: 1, arity=2,
             doc="the real part of sqrt(a + bi); its derivative at 0 is taken as 0"),
    Operator("root_imag", "elementwise", broadcast, call("root_imag"), _root_imag,
             lambda m, a, b: m.root(a, b)[1], twin=lambda n: apply("root_real", *n.args), joint=lambda m, a, b: m.root(a, b)[::-1],
             partials=_root_partials, cost=50, doc="the imaginary part of sqrt(a + bi); its derivative at 0 is taken as 0", arity=2),
]  # fmt: skip
OPERATORS.update({op.name: op for op in _TABLE})
