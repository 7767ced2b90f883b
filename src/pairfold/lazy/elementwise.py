"""Arithmetic and functions of one number at a time: each is the operator of that name in the table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..formula.operators import power
from .operators import LinearOperator
from .parameters import whole_number
from .symbolic import Symbolic, is_complex

if TYPE_CHECKING:
    from .tensor import LazyTensor


MOST_DECIMALS = 308  # whose power of ten is a float64
# What gives 1 or 0.
TRUTH = {"lt", "le", "gt", "ge", "eq", "ne", "logical_and", "logical_or", "logical_not", "isnan"}


class Elementwise(Symbolic):
    """What acts on each component of each pair alone. Arrays and numbers mix with LazyTensors on either side."""

    def __add__(self, other: Any) -> LazyTensor:
        return NotImplemented if isinstance(other, LinearOperator) else self._apply("add", other)

    def __sub__(self, other: Any) -> LazyTensor:
        return NotImplemented if isinstance(other, LinearOperator) else self._apply("sub", other)

    def __mul__(self, other: Any) -> LazyTensor:
        return NotImplemented if isinstance(other, LinearOperator) else self._apply("mul", other)

    def __truediv__(self, other: Any) -> LazyTensor:
        return self._apply("div", other)

    def __or__(self, other: Any) -> LazyTensor:
        """The inner product; of truth values, one for each pair, whether either holds, as NumPy has it."""
        if not self._inner and self._holds() and isinstance(other, Elementwise) and not other._inner and other._holds():
            return self._apply("logical_or", other)
        return self._apply("dot", other, inner=False)

    def __and__(self, other: Any) -> LazyTensor:
        return self._of_truth("&", "logical_and", other)

    __rand__ = __and__

    def __xor__(self, other: Any) -> LazyTensor:
        return self._of_truth("^", "ne", other)

    __rxor__ = __xor__

    def __invert__(self) -> LazyTensor:
        return self._of_truth("~", "logical_not")

    def _holds(self) -> bool:
        """Whether this is a truth value: what comparisons give, and arrays of bool."""
        return self.formula.op.name in TRUTH or self.formula.op.name == "var" and self.dtype == "bool"

    def _of_truth(self, symbol: str, name: str, *others: Any) -> LazyTensor:
        operands = [self, *map(self._lift, others)]
        for operand in operands:
            if not operand._holds():
                raise TypeError(f"{symbol} takes truth values, as comparisons give them, not {operand!r}: K != 0 says where K is not 0")
        return self._apply(name, *operands[1:])

    def __radd__(self, other: Any) -> LazyTensor:
        return self._lift(other)._apply("add", self)

    def __rsub__(self, other: Any) -> LazyTensor:
        return self._lift(other)._apply("sub", self)

    def __rmul__(self, other: Any) -> LazyTensor:
        return self._lift(other)._apply("mul", self)

    def __rtruediv__(self, other: Any) -> LazyTensor:
        return self._lift(other)._apply("div", self)

    def __ror__(self, other: Any) -> LazyTensor:
        return self._lift(other) | self

    def __neg__(self) -> LazyTensor:
        return self._apply("neg")

    def __pos__(self) -> LazyTensor:
        return self._with(self.formula, self._inner)

    def __abs__(self) -> LazyTensor:
        return self.abs()

    def __pow__(self, exponent: Any) -> LazyTensor:
        """Whole powers by multiplication, 0.5 and -0.5 by roots, others by the general power."""
        if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
            if float(exponent).is_integer() and abs(exponent) < 2**31:
                return self._power(int(exponent))
            if abs(exponent) == 0.5:
                return self.sqrt() if exponent > 0 else self.rsqrt()
        return self._apply("pow", exponent)

    def _power(self, exponent: int) -> Any:
        if exponent == 0:  # 1, of nan too, but a function of what it is made of: its derivatives are zeros
            return self._apply("eq", self)._apply("logical_or", self._apply("ne", self))
        return self._with(power(self.formula, exponent), self._inner)

    def __rpow__(self, base: Any) -> LazyTensor:
        return self._lift(base)._apply("pow", self)

    def __lt__(self, other: Any) -> LazyTensor:
        return self._apply("lt", other)

    def __le__(self, other: Any) -> LazyTensor:
        return self._apply("le", other)

    def __gt__(self, other: Any) -> LazyTensor:
        return self._apply("gt", other)

    def __ge__(self, other: Any) -> LazyTensor:
        return self._apply("ge", other)

    def __eq__(self, other: Any) -> LazyTensor:  # type: ignore[override]
        return self._apply("eq", other)

    __hash__ = Symbolic.__hash__  # which `__eq__` takes away

    def __ne__(self, other: Any) -> LazyTensor:  # type: ignore[override]
        return self._apply("ne", other)

    def exp(self) -> LazyTensor:
        """The exponential."""
        return self._apply("exp")

    def log(self) -> LazyTensor:
        """The natural logarithm."""
        return self._apply("log")

    def sqrt(self) -> LazyTensor:
        """The square root; its derivative at 0 is taken as 0."""
        return self._apply("sqrt")

    def rsqrt(self) -> LazyTensor:
        """One over the square root."""
        return self._apply("rsqrt")

    def square(self) -> LazyTensor:
        """The square."""
        return self._apply("square")

    def abs(self) -> LazyTensor:
        """The absolute value."""
        return self._apply("abs")

    def sign(self) -> LazyTensor:
        """-1, 0 or 1."""
        return self._apply("sign")

    def step(self) -> LazyTensor:
        """1 where ≥ 0, else 0; nan stays nan."""
        return self._apply("step")

    def relu(self) -> LazyTensor:
        """The larger of the value and 0."""
        return self._apply("relu")

    def sin(self) -> LazyTensor:
        """The sine."""
        return self._apply("sin")

    def cos(self) -> LazyTensor:
        """The cosine."""
        return self._apply("cos")

    def log1p(self) -> LazyTensor:
        """log(1 + value), accurate near 0."""
        return self._apply("log1p")

    def expm1(self) -> LazyTensor:
        """exp(value) - 1, accurate near 0."""
        return self._apply("expm1")

    def tan(self) -> LazyTensor:
        """The tangent."""
        return self._apply("tan")

    def asin(self) -> LazyTensor:
        """The inverse sine."""
        return self._apply("asin")

    def acos(self) -> LazyTensor:
        """The inverse cosine."""
        return self._apply("acos")

    def atan(self) -> LazyTensor:
        """The inverse tangent."""
        return self._apply("atan")

    def sinh(self) -> LazyTensor:
        """The hyperbolic sine."""
        return self._apply("sinh")

    def cosh(self) -> LazyTensor:
        """The hyperbolic cosine."""
        return self._apply("cosh")

    def tanh(self) -> LazyTensor:
        """The hyperbolic tangent."""
        return self._apply("tanh")

    def sigmoid(self) -> LazyTensor:
        """1 / (1 + exp(-value))."""
        return self._apply("sigmoid")

    def softplus(self) -> LazyTensor:
        """log(1 + exp(value))."""
        return self._apply("softplus")

    def erf(self) -> LazyTensor:
        """The error function."""
        return self._apply("erf")

    def erfc(self) -> LazyTensor:
        """One minus the error function."""
        return self._apply("erfc")

    def gelu(self) -> LazyTensor:
        """The value times the normal distribution function of it."""
        return self._apply("gelu")

    def lgamma(self) -> LazyTensor:
        """The logarithm of the absolute value of the gamma function."""
        return self._apply("lgamma")

    def digamma(self) -> LazyTensor:
        """The derivative of `lgamma`."""
        return self._apply("digamma")

    def polygamma(self, n: int) -> LazyTensor:
        """The n-th derivative of `digamma`, n ≥ 1.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi
        >>> np.allclose(Vi(np.array([1.0])).polygamma(1).sum(), np.pi**2 / 6)
        True
        """
        return self._apply("polygamma", attrs=(whole_number("polygamma", n),))

    def xlogx(self) -> LazyTensor:
        """value · log(value), 0 at 0."""
        return self._apply("xlogx")

    def sinxdivx(self) -> LazyTensor:
        """sin(value) / value, 1 at 0."""
        return self._apply("sinxdivx")

    def floor(self) -> LazyTensor:
        """The next lower whole number."""
        return self._apply("floor")

    def ceil(self) -> LazyTensor:
        """The next higher whole number."""
        return self._apply("ceil")

    def trunc(self) -> LazyTensor:
        """The whole number towards 0."""
        return self._apply("trunc")

    def inv(self) -> LazyTensor:
        """One over the value."""
        return self._apply("inv")

    sinc = sinxdivx

    def round(self, decimals: int = 0) -> LazyTensor:
        """The value rounded to a number of decimals, -308 to 308, ties to even, as NumPy does."""
        decimals = whole_number("round", decimals)
        if abs(decimals) > MOST_DECIMALS:
            raise ValueError(f"round takes from {-MOST_DECIMALS} to {MOST_DECIMALS} decimals, not {decimals}")
        return self._apply("round", attrs=(decimals,))

    def atan2(self, other: Any) -> LazyTensor:
        """The angle of the point (other, self), pair by pair."""
        return self._apply("atan2", other)

    def hypot(self, other: Any) -> LazyTensor:
        """sqrt(self² + other²) without overflow, pair by pair."""
        return self._apply("hypot", other)

    def logaddexp(self, other: Any) -> LazyTensor:
        """log(exp(self) + exp(other)) without overflow, pair by pair."""
        return self._apply("logaddexp", other)

    def __round__(self, decimals: int = 0) -> LazyTensor:
        return self.round(decimals)

    def mod(self, modulus: Any, offset: Any = 0) -> LazyTensor:
        """The value less the multiple of the modulus that brings it to [offset, offset + modulus)."""
        if isinstance(offset, (int, float)) and offset == 0:
            return self._apply("mod", modulus)
        return (self - offset)._apply("mod", modulus) + offset

    def __mod__(self, modulus: Any) -> LazyTensor:
        return self.mod(modulus)

    def __rmod__(self, value: Any) -> LazyTensor:
        return self._lift(value) % self

    def __floordiv__(self, divisor: Any) -> LazyTensor:
        found = ((self - self % divisor) / divisor).round()  # a whole number but for rounding, as NumPy finds it
        if isinstance(divisor, (int, float)) and divisor and abs(divisor) < math.inf:
            return found
        # By infinity what remains is the number or infinity, by 0 it is nan; NumPy's quotients are then -1 or 0, and those of a division.
        by = self._lift(divisor)
        infinite = abs(by)._apply("eq", math.inf) * (abs(self) < math.inf)
        found = infinite._apply("where", -(self * by.sign() < 0), found)
        return by._apply("eq", 0)._apply("where", (self / by).round(), found)

    def __rfloordiv__(self, value: Any) -> LazyTensor:
        return self._lift(value) // self

    def __divmod__(self, divisor: Any) -> tuple[LazyTensor, LazyTensor]:
        return self // divisor, self % divisor

    def __rdivmod__(self, value: Any) -> tuple[LazyTensor, LazyTensor]:
        return value // self, value % self

    def power(self, exponent: Any) -> LazyTensor:
        """As ``**``."""
        return self**exponent

    pow = power

    def clamp(self, low: Any, high: Any) -> LazyTensor:
        """The value kept between two bounds, which may be numbers, arrays or LazyTensors."""
        return self._apply("clamp", low, high)

    def minimum(self, other: Any) -> LazyTensor:
        """The smaller of two, pair by pair."""
        return self._apply("minimum", other)

    def maximum(self, other: Any) -> LazyTensor:
        """The larger of two, pair by pair."""
        return self._apply("maximum", other)

    def ifelse(self, a: Any, b: Any) -> LazyTensor:
        """``a`` where self is ≥ 0, else ``b``, as in KeOps."""
        if is_complex(a) or is_complex(b):
            return (self >= 0)._apply("where", a, b)
        return self._apply("ifelse", a, b)

    def logical_and(self, other: Any) -> LazyTensor:
        """1 where both are not 0, else 0."""
        return self._apply("logical_and", other)

    def logical_or(self, other: Any) -> LazyTensor:
        """1 where either is not 0, else 0."""
        return self._apply("logical_or", other)

    def logical_not(self) -> LazyTensor:
        """1 where the value is 0, else 0."""
        return self._apply("logical_not")

    def isnan(self) -> LazyTensor:
        """1 where the value is nan, else 0."""
        return self._apply("isnan")
