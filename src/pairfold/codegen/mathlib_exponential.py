"""Functions made of exponentials and logarithms, without the loss of digits that the plain formulas have.

The polynomials are minimax fits; the ratio of tanh interpolates at Chebyshev nodes.
"""

from __future__ import annotations

import numpy as np

from pairfold.codegen.builder import Value
from pairfold.codegen.mathlib_elementary import INF, LN2, LOG2E, SMALLEST_EXPONENT, Elementary
from pairfold.codegen.mathlib_elementary import POLYNOMIALS as ELEMENTARY

# Coefficients by (name, bits), lowest order first; z = x² everywhere.
POLYNOMIALS: dict[tuple[str, int], tuple[float, ...]] = {
    # cosh(x) = 1 + z·P(z) and sinh(x) = x + x·z·P(z) for |x| <= log(2)/2
    ("cosh", 32): (0.5, 0.04166646, 0.0013935438),
    ("cosh", 64): (
        0.5, 0.04166666666666671, 0.001388888888886376, 2.4801587363728908e-05, 2.755724154361161e-07, 2.0924512710643836e-09,
    ),
    ("sinh", 32): (0.16666667, 0.008333175, 0.00019974068),
    ("sinh", 64): (
        0.16666666666666666, 0.008333333333333337, 0.00019841269841253093, 2.75573192654057e-06, 2.5052056607283646e-08,
        1.609087696650424e-10,
    ),
    # tanh(x) = x + x·z·P(z), or x + x·z·P(z)/Q(z), for |x| <= 0.6
    ("tanh", 32): (-0.333333, 0.13331936, -0.053784642, 0.02079811, -0.00589714),
    ("tanh over", 64): (-0.3333333333333333, -0.020499896224651797, -0.0001992266287291768),
    ("tanh under", 64): (1.0, 0.4614996886739531, 0.023292793451082844, 0.00020658577409825898),
}  # fmt: skip


class Exponential(Elementary):
    """Functions made of exponentials and logarithms on lanes."""

    # ---- differences and sums of exponentials
    def expm1(self, x: Value) -> Value:
        """e^x - 1 within 1.45 ulp (float32), 1.65 ulp (float64)."""
        y = self._narrow(x, *((-18.0, 89.0) if self.bits == 32 else (-38.0, 710.0)))
        k, rest, bend, c = self._short_exp(y)
        half = self.const(0.5)
        power = self._power(half, k)
        total = self.fma(self.add(rest, self.add(bend, c)), power, self.sub(power, half))
        return self.copysign(self.add(total, total), x)

    def sinh(self, x: Value) -> Value:
        """The hyperbolic sine within 1.75 ulp."""
        difference, total, c, s = self._hyperbolic(x)
        half = self.add(difference, self.fma(difference, c, self.mul(total, s)))
        return self.copysign(self.add(half, half), x)

    def cosh(self, x: Value) -> Value:
        """The hyperbolic cosine within 1.9 ulp (float32), 1.6 ulp (float64)."""
        difference, total, c, s = self._hyperbolic(x)
        half = self.add(total, self.fma(total, c, self.mul(difference, s)))
        return self.add(half, half)

    def _hyperbolic(self, x: Value) -> tuple[Value, Value, Value, Value]:
        """With |x| = k·log(2) + r: 2^(k-2) - 2^(-k-2) and their sum, cosh(r) - 1, sinh(r).

        A quarter of the powers keeps all in range where the result is.
        """
        k, rest, bend, c = self._short_exp(self._narrow(self.abs(x), None, 89.7 if self.bits == 32 else 710.8))
        quarter = self.const(0.25)
        growing, shrinking = self._power(quarter, k), self._power(quarter, self.neg(k))
        return self.sub(growing, shrinking), self.add(growing, shrinking), c, self.add(rest, bend)

    def _short_exp(self, x: Value) -> tuple[Value, Value, Value, Value]:
        """For x = k·log(2) + r: k, sinh(r) as r, rounded, and the rest, and cosh(r) - 1."""
        magic = self.const(self._magic())
        k = self.sub(self.fma(x, self.const(LOG2E[self.bits][0]), magic), magic)
        high, low = (self.const(-piece) for piece in LN2[self.bits])
        first = self.fma(k, high, x)  # exactly
        rest = self.fma(k, low, first)
        tail = self.fma(k, low, self.sub(first, rest))
        z = self.mul(rest, rest)
        bend = self.fma(self.mul(rest, z), self._polynomial(z, POLYNOMIALS["sinh", self.bits]), tail)
        return k, rest, bend, self.mul(z, self._polynomial(z, POLYNOMIALS["cosh", self.bits]))

    def _power(self, factor: Value, k: Value) -> Value:
        """factor·2^k for a power of 2 as the factor and a whole k; 0 where that would be subnormal, or almost."""
        if self._zmm:
            return self._x86("mask.scalef", factor, k)
        magic = self.const(self._magic())
        whole = self.isub(self.as_integer(self.add(k, magic)), self.as_integer(magic))
        power = self.iadd(self.as_integer(factor), self.shift_left(whole, self._mantissa))
        return self.as_real(self.select(self.is_negative(power), self.iconst(0), power))

    def tanh(self, x: Value) -> Value:
        """The hyperbolic tangent within 1.5 ulp (float32), 1.55 ulp (float64)."""
        size, one = self.abs(x), self.const(1.0)
        small = self.lt(size, self.const(0.6))
        large = self._narrow(size, None, 20.0)
        rise, scale = self._exp_parts(self.add(large, large))
        over, under = self.const(-2.0), self.add(scale(self.add(rise, one)), one)
        z = self.mul(size, size)
        cube = self.mul(size, z)
        if self.bits == 32:
            bend = self.select(small, self.mul(cube, self._polynomial(z, POLYNOMIALS["tanh", 32])), self.div(over, under))
        else:
            over = self.select(small, self.mul(cube, self._polynomial(z, POLYNOMIALS["tanh over", 64])), over)
            bend = self.div(over, self.select(small, self._polynomial(z, POLYNOMIALS["tanh under", 64]), under))
        return self.copysign(self.add(self.select(small, size, one), bend), x)

    def sigmoid(self, x: Value) -> Value:
        """1/(1 + e^-x) within 1.5 ulp."""
        one, e = self.const(1.0), self.exp_closely(self.neg(self.abs(x)))
        return self._quotient(self.select(self.lt(x, self.const(0.0)), e, one), None, *self._sum(one, e))

    def exp_or_zero_closely(self, x: Value, rounded: bool) -> Value:
        """`exp_closely`, 0 where that would be subnormal, within 1.12 ulp (float32, without AVX-512); `rounded` as in `exp`."""
        if self._zmm and self.bits == 32:
            return self._exp_by_close_table(x, rounded, subnormal=False)
        alive = self._not_below(x, SMALLEST_EXPONENT[self.bits])
        if self._zmm:
            return self.exp_closely(self.select(alive, x, self.const(-INF)))
        high, low = (self.const(c) for c in LOG2E[self.bits])
        magic = self.const(self._magic() + self._bias)
        shifted = self.fma(x, high, magic)
        rest = self.fma(x, high, self.neg(self.sub(shifted, magic)))
        rest = rest if rounded else self.fma(x, low, rest)
        return self._normal_power(shifted, rest, alive, "exp2 closer" if self.bits == 32 else "exp2")

    def exp_closely(self, x: Value, tail: Value | None = None) -> Value:
        """e^(x + tail) for x <= 0 within 0.75 ulp (float32, AVX-512), 1.1 ulp (float32, elsewhere), 1.1 ulp (float64)."""
        if self._zmm and self.bits == 32 and tail is None:
            return self._exp_by_close_table(x, rounded=False, subnormal=True)
        rise, scale = self._exp_parts(x, tail)
        return scale(self.add(rise, self.const(1.0)))

    def _exp_by_close_table(self, x: Value, rounded: bool, subnormal: bool) -> Value:
        """e^x for x <= 0 by a table of 2^(j/32) in two pieces: 14 instructions. `rounded` and `subnormal` as in `exp`."""
        size = 2 * self.width
        exact = 2.0 ** (np.arange(size) / size)
        high = exact.astype(np.float32)
        alive = self._not_below(x, -104.0 if subnormal else SMALLEST_EXPONENT[32])
        scale, scale_low = (self.const(c) for c in LOG2E[32])
        magic = self.const(self._magic(1 / size))
        shifted = self.fma(x, scale, magic)
        whole = self.sub(shifted, magic)
        rest = self.fma(x, scale, self.neg(whole))
        if not rounded:
            rest = self.fma(x, scale_low, rest)
        lost = self._from_table(shifted, (exact / high - 1).astype(np.float32))
        rise = self.fma(rest, self._polynomial(rest, ELEMENTARY["exp2 table", 32]), lost)
        if subnormal:
            power = self._from_table(shifted, high)
            return self._x86("mask.scalef", self.fma(power, rise, power), whole, mask=alive)
        # 32·(whole + j/32), in the low bits of `shifted`, is added to the entry's exponent in one sum, which scales it sooner: the
        # entries lack what the bits of j add to their mantissas.
        places = self._mantissa - (size.bit_length() - 1)
        entries = (high.view(np.int32) - (np.arange(size, dtype=np.int32) << places)).view(np.float32)
        bits = self.shift_left(self.as_integer(shifted), places)
        power = self.as_real(self.iadd(self.as_integer(self._from_table(shifted, entries)), bits))
        return self.select(alive, self.fma(power, rise, power), self.const(0.0))

    # ---- logarithms of sums
    def log1p(self, x: Value) -> Value:
        """log(1 + x) within 0.95 ulp (float32), 1.3 ulp (float64)."""
        total = self.add(x, self.const(1.0))
        return self.copysign(self._limits(total, self._log1p(x, total), -INF), x)

    def _log1p(self, x: Value, total: Value) -> Value:
        """log(1 + x) for 0 < total < inf, total being 1 + x, rounded."""
        k, mantissa = self._split(total)
        minus_one = self.const(-1.0)
        if self._zmm:
            power = self._x86("mask.scalef", self.const(1.0), self.neg(k))
        else:
            power = self.as_real(self.isub(self.as_integer(self.const(1.0)), self.isub(self.as_integer(total), self.as_integer(mantissa))))
        # (1 + x)·2^-k - 1, without the rounding of 1 + x, which matters only while x is small.
        rest = self.fma(x, power, self.add(power, minus_one))
        rest = self.select(self.gt(x, self.const(2.0**60)), self.add(mantissa, minus_one), rest)
        return self.fma(k, self.const(LN2[self.bits][0]), self.fma(*self._log_bend(rest), rest))

    def softplus(self, x: Value) -> Value:
        """log(1 + e^x) within 1.7 ulp (float32), 1.95 ulp (float64)."""
        return self.add(self.fmax(self.const(0.0), x), self._log_of_one_and_exp(self.neg(self.abs(x))))

    def logaddexp(self, a: Value, b: Value) -> Value:
        """log(e^a + e^b) within 1.9 ulp (float32), 2.35 ulp (float64).

        That is of the largest of the result and its two terms, the greater operand and the rest, which may cancel.
        """
        add, sub, zero = self.builder.fadd, self.builder.fsub, self.const(0.0)
        greater, less = self.fmax(a, b), self.fmin(a, b)
        difference = self.neg(self.abs(sub(a, b)))
        part = add(difference, greater)
        lost = sub(sub(less, part), sub(greater, sub(part, difference)))
        lost = self.select(self.gt(difference, self.const(-1e3)), lost, zero)  # beyond, it does not matter and may be nan
        difference = self.select(self.eq(a, b), zero, difference)  # of infinities too
        return self.add(greater, self._log_of_one_and_exp(difference, lost))

    def _log_of_one_and_exp(self, x: Value, tail: Value | None = None) -> Value:
        """log(1 + e^(x + tail)) for x <= 0."""
        e = self.exp_closely(x, tail)
        return self._log1p(e, self.add(e, self.const(1.0)))

    def xlogx(self, x: Value) -> Value:
        """x·log(x) within 1.2 ulp, 0 at 0."""
        k, mantissa = self._split(x)
        rest = self.sub(mantissa, self.const(1.0))
        slope, bend = self._log_bend(rest)
        ln2, ln2_low = (self.const(piece) for piece in LN2[self.bits])
        far, far_low = self._product(k, ln2)
        high, low = self._sum(far, rest)
        low = self.fma(slope, bend, self.add(low, self.fma(k, ln2_low, far_low)))
        return self._limits(x, self.fma(x, high, self.mul(x, low)), 0.0)
