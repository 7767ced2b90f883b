"""The kernels of the vector mathematics: exponentials, logarithms and powers, and the steps they are made of.

The polynomials are minimax fits (Remez exchange in 50 digits), with their coefficients rounded to the lanes' type. Those of
exp2 (float32) were then moved by a few units in the last place, to lower the measured error of the whole method;
those of exp2 (float64) are a least-squares fit at Chebyshev nodes that keeps the first one rounded.

A target without a fused multiply-add instruction would turn `fma` into a library call; every target Pairfold compiles for
has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from llvmlite import ir

from pairfold.codegen.builder import I32, Lanes, Value

# Coefficients by (name, bits), lowest order first.
POLYNOMIALS: dict[tuple[str, int], tuple[float, ...]] = {
    # 2^x = 1 + x·P(x) for |x| <= 1/2
    ("exp2", 32): (0.6931468, 0.24022233, 0.05550893, 0.009671857, 0.0013224982),
    ("exp2", 64): (
        0.6931471805599453, 0.24022650695910136, 0.055504108664822936, 0.00961812910759275, 0.0013333558146163766,
        0.00015403530458701895, 1.5252734037563779e-05, 1.3215434544689183e-06, 1.0177985276406805e-07,
        7.073902135694472e-09, 4.465599436827093e-10,
    ),
    ("exp2 closer", 32): (0.6931472, 0.2402265, 0.05550328, 0.009618003, 0.0013400271, 0.00015476492),
    # The same for 0 <= x <= 1
    ("exp2 floor", 32): (0.6931525, 0.24015263, 0.05583655, 0.008972542, 0.0018856787),
    # The same behind a table of 2^(j/32): |x| <= 1/64; and behind one of 2^(j/16): 0 <= x <= 1/16
    ("exp2 table", 32): (0.6931472, 0.2402265, 0.05550411),
    # With one term less, and an error of 5e-8 at most.
    ("exp2 short table", 32): (0.693157344, 0.240226507),
    ("exp2 table", 64): (
        0.6931471805599376, 0.2402265069614901, 0.05550410841753424, 0.009618140868392857, 0.0013330732622963456,
        0.00015736809589552266,
    ),
    # log(1 + x) = x + x²·P(x) for -1/4 <= x <= 1/2
    ("log", 32): (
        -0.5, 0.33333462, -0.25000194, 0.1999037, -0.16642529, 0.14475703, -0.13211213, 0.105952926, -0.046066757,
    ),
    # 2·artanh(s) = 2s + s·z·P(z), z = s² <= 1/25
    ("log", 64): (
        0.6666666666667271, 0.3999999999616011, 0.2857142939557123, 0.22222138478516576, 0.18186357015312396,
        0.15250169618356516, 0.1536833865446767,
    ),
    # 2·artanh(s) = 2s + s·z·(2/3 + z·P(z))
    ("pow", 64): (
        0.39999999999999725, 0.285714285715773, 0.2222222219125305, 0.18181821525482061, 0.15384406675856183,
        0.13341143882618592, 0.11592364369778231, 0.1257141480062976,
    ),
}  # fmt: skip

# log2(e) and log(2), each as a rounded value and what the rounding lost.
LOG2E = {32: (1.4426950216293335, 1.925962855864327e-08), 64: (1.4426950408889634, 2.0355273740931033e-17)}
LN2 = {32: (0.6931471824645996, -1.904654323148236e-09), 64: (0.6931471805599453, 2.3190468138462996e-17)}

SMALLEST_EXPONENT = {32: -87.3365, 64: -708.39641853}  # e^x is normal from there on

INF, NAN = math.inf, math.nan
DOWN = 9  # rounding operand of AVX-512 instructions: towards -inf


class Elementary(Lanes):
    """The elementary functions on lanes; the further functions of `Maths` build on these.

    Errors are stated in units in the last place (ulp) of the result, as measured: float32 over every bit pattern, float64
    over random bit patterns. Special values are NumPy's. The functions built on these were measured over 3·10^7 patterns of
    float32 and some 10^6 numbers in float64, where mpmath is the reference 10^4.
    """

    # ---- building blocks
    @property
    def _zmm(self) -> bool:
        """Whether a value fills one AVX-512 register, so that the instructions only AVX-512 has can be used."""
        return self.bits * self.width == 512 and {"avx512f", "avx512dq"} <= self.features

    @property
    def _mantissa(self) -> int:
        """Stored bits of the mantissa."""
        return 23 if self.bits == 32 else 52

    def _x86(self, name: str, *arguments: Value, masked: bool = True, mask: Value | None = None, rounding: int | None = 4) -> Value:
        """The AVX-512 intrinsic `name`, on all lanes or, with a mask, 0 elsewhere; `rounding` 4 means the current mode."""
        bits = ir.IntType(self.width)
        tail: list[Value] = [self.const(0.0), bits(-1) if mask is None else self.builder.bitcast(mask, bits)] if masked else []
        tail += [] if rounding is None else [I32(rounding)]
        letter = "s" if self.bits == 32 else "d"
        return self.intrinsic(f"llvm.x86.avx512.{name}.p{letter}.512", self.real, [*arguments, *tail])

    def _polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        """c0 + x·(c1 + x·(c2 + …)) by Horner's rule."""
        *rest, last = coefficients
        total = self.const(last)
        for c in reversed(rest):
            total = self.fma(total, x, self.const(c))
        return total

    def _magic(self, step: float = 1.0) -> float:
        """The number whose sum with x is rounded at multiples of `step`, and keeps the multiple in its low bits."""
        return 1.5 * 2.0**self._mantissa * step

    def _product(self, a: Value, b: Value) -> tuple[Value, Value]:
        """a·b as a rounded value and its error, exactly."""
        high = self.builder.fmul(a, b)  # no flags: this product must not be fused into a sum
        return high, self.fma(a, b, self.neg(high))

    def _sum(self, a: Value, b: Value) -> tuple[Value, Value]:
        """a + b as a rounded value and its error, exactly, where |a| >= |b| or a = 0."""
        high = self.builder.fadd(a, b)
        return high, self.builder.fadd(self.builder.fsub(a, high), b)

    def _quotient(self, a: Value, a_low: Value | None, b: Value, b_low: Value | None) -> Value:
        """(a + a_low)/(b + b_low), rounded about once, where 1/b is finite."""
        inverse = self.div(self.const(1.0), b)
        ratio = self.mul(a, inverse)
        left = self.fma(self.neg(ratio), b, a)
        left = left if a_low is None else self.add(left, a_low)
        left = left if b_low is None else self.fma(self.neg(ratio), b_low, left)
        return self.fma(left, inverse, ratio)

    def _narrow(self, x: Value, low: float | None, high: float | None) -> Value:
        """x between two bounds; nan stays."""
        if low is not None:
            x = self.fmax(self.const(low), x)
        return x if high is None else self.fmin(self.const(high), x)

    def _not_below(self, x: Value, bound: float) -> Value:
        """Whether x >= bound, or nan; a negation can then become part of other instructions."""
        if getattr(x, "opname", "") == "fneg":
            return self.builder.fcmp_unordered("<=", x.operands[0], self.const(-bound))
        return self.builder.fcmp_unordered(">=", x, self.const(bound))

    def merge(self, values: Sequence[tuple[Value, Value]], before: ir.Block, inside: ir.Block) -> list[Value]:
        """What holds after a conditional block: of each pair the first if it was skipped, else the second."""
        merged = []
        for skipped, computed in values:
            phi = self.builder.phi(skipped.type)
            phi.add_incoming(skipped, before)
            phi.add_incoming(computed, inside)
            merged.append(phi)
        return merged

    # ---- exponentials
    def exp(self, x: Value, nonpositive: bool = False, rounded: bool = False, subnormal: bool = True) -> Value:
        """e^x within 1.02 ulp (float32, AVX-512), 1.98 ulp (float32, elsewhere), 1.2 ulp (float64).

        12 instructions on float32 AVX-512 (15 on float64). `nonpositive` promises x <= 1, which saves one. `rounded` says that x
        was rounded itself, and so e^x may be off by another quarter of an ulp of x, a relative 1.3e-8 |x| (1.4e-17 |x| in float64), which
        saves one. Without `subnormal`, what would be smaller than any normal number is 0: those take a processor a hundred cycles
        each; together with `nonpositive` that saves 7 instructions elsewhere, of 20.
        """
        return self._exp(x, None, nonpositive, rounded, subnormal)

    def exp_of_rounded(self, x: Value, nonpositive: bool) -> Value:
        """`exp` of a number that was rounded itself, 0 where that would be subnormal."""
        return self.exp(x, nonpositive, rounded=True, subnormal=False)

    def exp_or_zero(self, x: Value) -> Value:
        """`exp`, 0 where that would be subnormal."""
        return self.exp(x, subnormal=False)

    def _exp(self, x: Value, tail: Value | None, nonpositive: bool = False, rounded: bool = False, subnormal: bool = True) -> Value:
        """e^(x + tail), where the tail is at most about a unit in the last place of x."""
        high, low = (self.const(c) for c in LOG2E[self.bits])
        step = (1 / 32 if self.bits == 32 else 1 / 16) if self._zmm else 1.0
        bounds = (-104.0, 89.0) if self.bits == 32 else (-746.0, 710.0)  # e^x is 0 below the first, inf above the second
        smallest = SMALLEST_EXPONENT[self.bits]
        # A result that underflows to 0 would take the processor a hundred cycles: those lanes are set to 0 instead.
        alive = self._not_below(x, bounds[0] if subnormal else smallest)
        normal = nonpositive and not subnormal and not self._zmm
        if not self._zmm and not normal:
            x = self._narrow(x, bounds[0], None if nonpositive else bounds[1])
        magic = self._magic(step) + (self._bias if normal else 0)
        # x·log2(e) = whole + rest: the product is never rounded before `whole` is taken off.
        if self._zmm and self.bits == 64:  # rounded down, for the polynomial of exp2
            shifted = self._x86("vfmadd", x, high, self.const(magic), masked=False, rounding=DOWN)
        else:
            shifted = self.fma(x, high, self.const(magic))
        whole = self.sub(shifted, self.const(magic))
        rest = self.fma(x, high, self.neg(whole))
        if not rounded:
            rest = self.fma(x, low, rest)
        if tail is not None:
            rest = self.fma(tail, high, rest)
        if normal:
            return self._normal_power(shifted, rest, alive, "exp2")
        if not self._zmm:
            return self._scaled_polynomial(shifted, rest, alive)
        if not nonpositive:
            # Huge and infinite x leave garbage in `rest`, while `whole` has the right sign and says it all: any small number
            # will do. This instruction takes the smaller in magnitude, and the other operand where one is nan.
            rest = self._x86("mask.range", rest, self.const(1.0), I32(2), masked=True)
        return self._scaled_table(shifted, rest, whole, alive)

    def _exp_parts(self, x: Value, tail: Value | None = None) -> tuple[Value, Callable[[Value], Value]]:
        """e^(x + tail) - 1 up to a power of 2 within 0.5 ulp of e^x, and what multiplies by that power.

        More precise than `exp`, for x far from where e^x overflows. Where it underflows, the second gives 0.
        """
        high, low = (self.const(c) for c in LOG2E[self.bits])
        lowest = -104.0 if self.bits == 32 else -746.0
        x = self._narrow(x, lowest - 0.5, None)
        shifted = self.fma(x, high, self.const(self._magic()))
        whole = self.sub(shifted, self.const(self._magic()))
        small = self.mul(x, low)
        if tail is not None:
            small = self.fma(tail, high, small)
        rest = self.add(self.fma(x, high, self.neg(whole)), small)
        alive = self._not_below(x, lowest)
        slope = self._polynomial(rest, POLYNOMIALS["exp2 closer" if self.bits == 32 else "exp2", self.bits])
        return self.mul(rest, slope), lambda value: self._scale(value, shifted, whole, alive)

    def _scale(self, value: Value, shifted: Value, whole: Value, alive: Value | None) -> Value:
        """value·2^whole, the whole number being in the low bits of `shifted` too; 0 in lanes that are not alive."""
        if self._zmm:
            return self._x86("mask.scalef", value, whole, mask=alive)
        k = self.isub(self.as_integer(shifted), self.as_integer(self.const(self._magic())))
        # In two factors, since 2^k itself may lie beyond the type; only the last product can round.
        half = self.shift_right(k, 1)
        power = self._power_of_two(self.isub(k, half))
        if alive is not None:
            power = self.select(alive, power, self.const(0.0))
        return self.mul(self._times_power(value, half), power)

    def exp2(self, x: Value, nonpositive: bool = False) -> Value:
        """2^x within 1.82 ulp (float32), 1.1 ulp (float64).

        8 instructions on float32 AVX-512 (11 on float64). `nonpositive` promises x <= 0, which saves one elsewhere.
        """
        if self._zmm:
            # The instruction gives x - floor(16·x)/16, or x - nearest(x), and 0 for an infinite x.
            if self.bits == 64:
                shifted = self._x86("add", x, self.const(self._magic(1 / 16)), masked=False, rounding=DOWN)
                return self._scaled_table(shifted, self._x86("mask.reduce", x, I32(0x49)), x)
            rest = self._x86("mask.reduce", x, I32(0x08))
            return self._x86("mask.scalef", self._exp2_rest(rest, "exp2"), self.sub(x, rest))
        bounds = (-151.0, 128.0) if self.bits == 32 else (-1076.0, 1024.0)
        x = self._narrow(x, bounds[0], None if nonpositive else bounds[1])
        shifted = self.add(x, self.const(self._magic()))
        return self._scaled_polynomial(shifted, self.sub(x, self.sub(shifted, self.const(self._magic()))))

    def exp2_or_zero(self, x: Value) -> Value:
        """2^x within 2.45 ulp, 0 where that would be subnormal. 9 instructions on float32 AVX-512."""
        alive = self._not_below(x, -126.0 if self.bits == 32 else -1022.0)
        if self._zmm and self.bits == 32:
            return self._exp2_by_floor(x, alive)
        return self.select(alive, self.exp2(self.select(alive, x, self.const(0.0))), self.const(0.0))

    def exp2_middling(self, x: Value) -> Value:
        """2^x for |x| <= 100 within 1.8 ulp (float32), 1.1 ulp (float64).

        8 instructions on float32 AVX-512, three of which need no multiplier (10 on float64).
        """
        if self._zmm and self.bits == 64:
            return self.exp2(x)
        magic = self.const(self._magic(1 / 32 if self._zmm else 1.0))
        shifted = self.add(x, magic)
        whole = self.sub(shifted, magic)
        rest = self.sub(x, whole)
        if self._zmm:
            return self._scaled_table(shifted, rest, whole, name="exp2 short table")
        return self._times_power(self._exp2_rest(rest, "exp2"), self.isub(self.as_integer(shifted), self.as_integer(magic)))

    def exp2_fast(self, x: Value, nonpositive: bool = False) -> Value:
        """2^x within 2.45 ulp where that is cheaper: on float32 AVX-512, with 7 instructions. Elsewhere it is `exp2`."""
        if not self._zmm or self.bits == 64:
            return self.exp2(x, nonpositive)
        return self._exp2_by_floor(x)

    def exp_fast(self, x: Value, nonpositive: bool = False) -> Value:
        """e^x with one rounded product in the exponent: within 1.25·|x| + 3 ulp. 8 instructions on float32 AVX-512."""
        return self.exp2_fast(self.mul(x, self.const(LOG2E[self.bits][0])), nonpositive)

    def _exp2_by_floor(self, x: Value, alive: Value | None = None) -> Value:
        """2^x, 0 in lanes that are not alive. float32 on AVX-512 only."""
        rest = self._x86("mask.reduce", x, I32(0x09))  # x - floor(x)
        return self._x86("mask.scalef", self._exp2_rest(rest, "exp2 floor"), x, mask=alive)  # which takes the floor of x itself

    def _exp2_rest(self, rest: Value, name: str) -> Value:
        return self.fma(self._polynomial(rest, POLYNOMIALS[name, self.bits]), rest, self.const(1.0))

    def _scaled_table(self, shifted: Value, rest: Value, whole: Value, alive: Value | None = None, name: str = "exp2 table") -> Value:
        """2^(j·step + rest)·2^floor(whole), j being the low bits of `shifted`; 0 in lanes that are not alive. AVX-512 only."""
        power = self._from_table(shifted, [2.0 ** (j / (2 * self.width)) for j in range(2 * self.width)])
        slope = self._polynomial(rest, POLYNOMIALS[name, self.bits])
        total = self.fma(self.mul(power, rest), slope, power)
        return self._x86("mask.scalef", total, whole, mask=alive)

    def _from_table(self, shifted: Value, entries: Sequence[float] | np.ndarray) -> Value:
        """The entry for the low bits of `shifted`. AVX-512 only: two registers hold the entries, and one permutation picks from both."""
        low, high = (ir.Constant(self.real, list(map(float, entries[start:][: self.width]))) for start in (0, self.width))
        return self._x86("vpermi2var", low, self.as_integer(shifted), high, masked=False, rounding=None)

    def _scaled_polynomial(self, shifted: Value, rest: Value, alive: Value | None = None) -> Value:
        """2^(k + rest), k being the integer in the low bits of `shifted`; 0 in lanes that are not alive."""
        return self._scale(self._exp2_rest(rest, "exp2"), shifted, self.sub(shifted, self.const(self._magic())), alive)

    def _normal_power(self, shifted: Value, rest: Value, alive: Value, name: str) -> Value:
        """2^(k + rest) for a normal 2^k, k and the bias of exponents being in the low bits of `shifted`; 0 in lanes that are not alive, of
        which k and rest are anything.
        """
        power = self.as_real(self.shift_left(self.as_integer(shifted), self._mantissa))
        return self.select(alive, self.mul(self._exp2_rest(rest, name), power), self.const(0.0))

    def _times_power(self, x: Value, k: Value) -> Value:
        """x·2^k for a normal 2^k."""
        return self.mul(x, self._power_of_two(k))

    def _power_of_two(self, k: Value) -> Value:
        return self.as_real(self.shift_left(self.iadd(k, self.iconst(self._bias)), self._mantissa))

    @property
    def _bias(self) -> int:
        """What is added to exponents where they are stored."""
        return (1 << (self.bits - 2 - self._mantissa)) - 1

    # ---- logarithms
    def log(self, x: Value) -> Value:
        """The natural logarithm within 0.93 ulp (float32), 1.35 ulp (float64)."""
        exponent, mantissa = self._split(x)
        return self._log_limits(x, self.fma(exponent, self.const(LN2[self.bits][0]), self._log_near_one(mantissa)))

    def log2(self, x: Value) -> Value:
        """The logarithm to base 2 within 1.8 ulp (float32), 1.85 ulp (float64)."""
        exponent, mantissa = self._split(x)
        near = self._log_near_one(mantissa)
        high, low = (self.const(c) for c in LOG2E[self.bits])
        return self._log_limits(x, self.fma(near, high, self.fma(near, low, exponent)))

    def _split(self, x: Value) -> tuple[Value, Value]:
        """x > 0 as 2^exponent·mantissa with 3/4 <= mantissa < 3/2.

        AVX-512 has instructions for it, which also give 0 and inf an infinite exponent and a negative x the mantissa nan;
        otherwise those are garbage.
        """
        if self._zmm:
            mantissa = self._x86("mask.getmant", x, I32(0b1111))
            return self.sub(self._x86("mask.getexp", x), self._x86("mask.getexp", mantissa)), mantissa
        shift, magic = self._mantissa, self._magic()
        subnormal = self.lt(x, self.const(2.0 ** (-126 if self.bits == 32 else -1022)))
        whole = self.as_integer(self.select(subnormal, self.mul(x, self.const(2.0**shift)), x))
        exponent = self.shift_right(self.isub(whole, self.as_integer(self.const(0.75))), shift)
        mantissa = self.as_real(self.isub(whole, self.shift_left(exponent, shift)))
        # A small integer becomes real through the low bits of the magic number; conversion of 64-bit ones is rare.
        real = self.as_real(self.iadd(exponent, self.as_integer(self.const(magic))))
        offset = self.select(subnormal, self.const(magic + shift), self.const(magic))
        return self.sub(real, offset), mantissa

    def _log_near_one(self, mantissa: Value) -> Value:
        """The natural logarithm between 3/4 and 3/2."""
        x = self.sub(mantissa, self.const(1.0))
        return self.fma(*self._log_bend(x), x)

    def _log_bend(self, x: Value) -> tuple[Value, Value]:
        """Two factors whose product is log(1 + x) - x, for -1/4 <= x <= 1/2."""
        if self.bits == 32:
            return self.mul(x, x), self._polynomial(x, POLYNOMIALS["log", 32])
        s = self.div(x, self.add(x, self.const(2.0)))
        z = self.mul(s, s)
        # 2s is x - s·x, which spares the rounding of s.
        return self.neg(s), self.fma(self.neg(z), self._polynomial(z, POLYNOMIALS["log", 64]), x)

    def _log_limits(self, x: Value, log: Value) -> Value:
        """The logarithm with its values at 0, inf, nan and below 0 put in."""
        return log if self._zmm else self._limits(x, log, -INF)  # or else `_split` saw to them

    def _limits(self, x: Value, result: Value, at_zero: float) -> Value:
        """A result that is nan below 0, grows beyond all bounds with x, and has a given value at 0."""
        result = self.select(self.lt(x, self.const(INF)), result, x)
        below = self.select(self.eq(x, self.const(0.0)), self.const(at_zero), self.const(NAN))
        return self.select(self.le(x, self.const(0.0)), below, result)

    # ---- powers
    def rsqrt(self, x: Value) -> Value:
        """1/sqrt(x) within 1.05 ulp (AVX-512), 1.5 ulp (elsewhere)."""
        if not self._zmm:
            return self.div(self.const(1.0), self.sqrt(x))
        # An estimate y of 14 bits, then the series of 1/sqrt(1 - e) in its error e = 1 - x·y².
        y = self._x86("rsqrt14", x, rounding=None)
        e = self.fma(self.neg(self.mul(x, y)), y, self.const(1.0))
        if self.bits == 32:
            better = self.fma(self.mul(y, self.const(0.5)), e, y)
        else:
            better = self.fma(self.mul(y, e), self._polynomial(e, (1 / 2, 3 / 8, 5 / 16, 35 / 128)), y)
        return self.select(self.eq(e, e), better, y)  # e is nan where x is 0 or inf, and the estimate exact

    def rsqrt_or_zero(self, x: Value) -> Value:
        """`rsqrt`, and 0 at 0."""
        zero = self.const(0.0)
        return self.select(self.eq(x, zero), zero, self.rsqrt(x))

    def powi(self, a: Value, n: int) -> Value:
        """a^n by squaring, with less than |n| + 1 ulp of error; a negative n gives 1/a^-n."""
        if n < 0:
            return self.div(self.const(1.0), self.powi(a, -n))
        result: Value = None
        while n:
            if n & 1:
                result = a if result is None else self.mul(result, a)
            n >>= 1
            if n:
                a = self.mul(a, a)
        return self.const(1.0) if result is None else result

    def pow(self, a: Value, b: Value) -> Value:
        """a^b within 0.51 ulp (float32), 1.35 ulp (float64)."""
        size = self.abs(a)
        if self.bits == 32:  # in float64, which leaves digits to spare
            double = Elementary(self.builder, 64, self.width, self.features)
            base, exponent = (self.builder.fpext(v, double.real) for v in (size, b))
            result = self.builder.fptrunc(double.exp(double.mul(exponent, double.log(base))), self.real)
        else:
            high, low = self._log_double(size)
            y, tail = self._product(b, high)
            # Beyond that the tail does not matter, and may be nan.
            tail = self.select(self.lt(self.abs(y), self.const(1024.0)), self.fma(b, low, tail), self.const(0.0))
            result = self._exp(y, tail)

        zero, one, infinite = self.const(0.0), self.const(1.0), self.const(INF)
        half = self.mul(b, self.const(0.5))
        whole = self.eq(self.floor(b), b)
        odd = self.land(whole, self.ne(self.floor(half), half))
        result = self.select(odd, self.copysign(result, a), result)
        fraction_of_negative = self.land(self.land(self.lt(a, zero), self.lt(size, infinite)), self.lnot(whole))
        result = self.select(fraction_of_negative, self.const(NAN), result)
        # 1 whatever the other operand is, nan included: a^0, 1^b and (-1)^±inf.
        unit = self.land(self.eq(size, one), self.eq(self.abs(b), infinite))
        unit = self.lor(self.lor(self.eq(b, zero), self.eq(a, one)), unit)
        return self.select(unit, one, result)

    def _log_double(self, x: Value) -> tuple[Value, Value]:
        """The natural logarithm of x >= 0 in float64 as a sum of two numbers, to about 64 bits."""
        add, sub, mul = self.builder.fadd, self.builder.fsub, self.builder.fmul  # nothing here may be fused unasked
        exponent, mantissa = self._split(x)
        # s = f/(2 + f) to twice the precision
        f = sub(mantissa, self.const(1.0))
        d, d_low = self._sum(self.const(2.0), f)
        inverse = self.div(self.const(1.0), d)
        s = mul(f, inverse)
        left = self.fma(self.neg(s), d_low, self.fma(self.neg(s), d, f))
        s_low = mul(left, inverse)
        z, z_low = self._product(s, s)
        z_low = self.fma(add(s, s), s_low, z_low)
        # 2s + s·z·(2/3 + z·P(z)): P alone is small enough for the plain precision
        third, slope = 2 / 3, self._polynomial(z, POLYNOMIALS["pow", 64])
        w, w_low = self._product(z, slope)
        c, c_low = self._sum(self.const(third), w)
        c_low = add(c_low, add(self.fma(z_low, slope, w_low), self.const(float(Fraction(2, 3) - Fraction(third)))))
        v, v_low = self._product(z, c)
        v_low = self.fma(z, c_low, self.fma(z_low, c, v_low))
        t, t_low = self._product(s, v)
        t_low = self.fma(s, v_low, self.fma(s_low, v, t_low))
        near, near_low = self._sum(add(s, s), t)
        near_low = add(near_low, add(add(s_low, s_low), t_low))
        far, far_low = self._product(exponent, self.const(LN2[64][0]))
        far_low = self.fma(exponent, self.const(LN2[64][1]), far_low)
        high, low = self._sum(far, near)
        low = add(low, add(far_low, near_low))
        regular = self.land(self.gt(x, self.const(0.0)), self.lt(x, self.const(INF)))
        limit = self.select(self.eq(x, self.const(0.0)), self.const(-INF), x)
        return self.select(regular, high, limit), self.select(regular, low, self.const(0.0))
