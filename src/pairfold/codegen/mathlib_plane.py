"""Functions of a point (a, b) of the plane, the complex number a + b·i, without overflow or underflow on the way."""

from __future__ import annotations

from pairfold.codegen.builder import Value
from pairfold.codegen.mathlib_elementary import INF, LN2
from pairfold.codegen.mathlib_exponential import Exponential


class Plane(Exponential):
    """Functions of points of the plane on lanes."""

    def hypot(self, a: Value, b: Value) -> Value:
        """sqrt(a² + b²) within 1.2 ulp, without overflow or underflow on the way."""
        a, b = self.abs(a), self.abs(b)
        infinite = self.lor(self.eq(a, self.const(INF)), self.eq(b, self.const(INF)))
        factor, exponent = self._scale_of(self.fmax(a, b))
        a, b = self.mul(a, factor), self.mul(b, factor)
        root = self.sqrt(self.fma(a, a, self.mul(b, b)))
        back = self.as_real(self.isub(exponent, self.iconst(1 << self._mantissa)))
        return self.select(infinite, self.const(INF), self.mul(root, back))

    def inverse(self, a: Value, b: Value) -> tuple[Value, Value]:
        """a/(a² + b²) and b/(a² + b²), the parts of 1/(a - b·i), within 2.8 ulp; 0 where an operand is infinite, nan at 0."""
        width, height = self.abs(a), self.abs(b)
        factor, _ = self._scale_of(self.fmax(width, height))
        x, y = self.mul(a, factor), self.mul(b, factor)
        inverse = self.div(self.const(1.0), self.fma(x, x, self.mul(y, y)))
        infinite = self.lor(self.eq(width, self.const(INF)), self.eq(height, self.const(INF)))
        x, y = (self.select(infinite, self.const(0.0), self.mul(self.mul(part, factor), inverse)) for part in (x, y))
        return x, y

    def log_hypot(self, a: Value, b: Value) -> Value:
        """log(sqrt(a² + b²)) within 3.7 ulp, of the larger of the result and the square of the smaller operand, which may cancel."""
        a, b, one = self.abs(a), self.abs(b), self.const(1.0)
        greater, less = self.fmax(a, b), self.fmin(b, a)  # one of them is nan where either operand is
        # Half of log(1 + (a² + b² - 1)), which is accurate where the point is near the circle.
        square = self.fma(self.sub(greater, one), self.add(greater, one), self.mul(less, less))
        near = self.mul(self.log1p(square), self.const(0.5))
        factor, power = self._into_range(greater)
        far = self.fma(power, self.const(-LN2[self.bits][0]), self.log(self.hypot(self.mul(a, factor), self.mul(b, factor))))
        inside = self.land(self.gt(square, self.const(-0.5)), self.lt(square, one))
        return self.select(inside, near, far)

    def root(self, a: Value, b: Value) -> tuple[Value, Value]:
        """The parts of the square root of a + b·i that is not left of the imaginary axis, within 2.7 ulp."""
        x, y, zero = self.abs(a), self.abs(b), self.const(0.0)
        factor, power = self._into_range(self.fmax(x, y))
        x, y = self.mul(x, factor), self.mul(y, factor)
        half = self.const(0.5)
        longer = self.sqrt(self.fma(half, x, self.mul(half, self.hypot(x, y))))
        shorter = self.select(self.eq(longer, zero), zero, self.div(y, self.add(longer, longer)))
        infinite = self.eq(y, self.const(INF))
        longer, shorter = self.select(infinite, y, longer), self.select(infinite, y, shorter)
        back = self._power(self.const(1.0), self.mul(power, self.const(-0.5)))
        longer, shorter = self.mul(longer, back), self.mul(shorter, back)
        left = self.lt(a, zero)
        return self.select(left, shorter, longer), self.copysign(self.select(left, longer, shorter), b)

    def _into_range(self, size: Value) -> tuple[Value, Value]:
        """A power of 4 by which huge and tiny numbers are multiplied before they are added, and its exponent to base 2: mostly 1 and 0."""
        exponent = self.select(self.gt(size, self.const(2.0**60)), self.const(-4.0), self.const(0.0))
        exponent = self.select(self.lt(size, self.const(2.0**-60)), self.const(2.0 * self._mantissa), exponent)
        return self._power(self.const(1.0), exponent), exponent

    def _scale_of(self, size: Value) -> tuple[Value, Value]:
        """The power of 2 that brings a number to [2, 4), or nearer if it is tiny, and the bits of the exponent of the number."""
        infinity = self.as_integer(self.const(INF))
        exponent = self.as_integer(self._narrow(size, 2.0**-100 if self.bits == 32 else 2.0**-900, None))
        exponent = self.iand(exponent, infinity)
        return self.as_real(self.isub(infinity, exponent)), exponent
