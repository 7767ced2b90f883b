"""Vector mathematics: elementary functions as inlined instructions on lanes, without a call to any library.

Each function is one method of `Maths`, with one row of coefficients in `POLYNOMIALS` and one row in `BOUNDS`, which the
tests assert. The polynomials are minimax fits (Remez exchange in 50 digits), with their coefficients rounded to the lanes'
type. Those of exp2 (float32) and sin were then moved by a few units in the last place, to lower the measured error of the
whole method, and for sin to stay at or below 1 and give cos(0) = 1.

A target without a fused multiply-add instruction would turn `fma` into a library call; every target Pairfold compiles for
has one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from llvmlite import ir

from pairfold.codegen.builder import I32, I64, Lanes, Value

# The largest error in units in the last place, as (float32, float64), that the tests allow.
BOUNDS: dict[str, tuple[float, float]] = {
    "exp": (2.0, 2.0),
    "exp2": (2.0, 2.0),
    "log": (2.0, 2.0),
    "log2": (2.0, 2.0),
    "sin": (2.0, 2.0),
    "cos": (2.0, 2.0),
    "rsqrt": (2.0, 2.0),
    "pow": (2.0, 2.0),
}

# Coefficients by (name, bits), lowest order first.
POLYNOMIALS: dict[tuple[str, int], tuple[float, ...]] = {
    # 2^x = 1 + x·P(x) for |x| <= 1/2
    ("exp2", 32): (0.6931468, 0.24022233, 0.05550893, 0.009671857, 0.0013224982),
    ("exp2", 64): (
        0.6931471805599453, 0.2402265069591016, 0.055504108664819855, 0.009618129107587041, 0.0013333558146801671,
        0.00015403530464180322, 1.5252733482340077e-05, 1.3215432229653074e-06, 1.0178199844296754e-07,
        7.0742588489872406e-09, 4.435196985296222e-10,
    ),
    # The same for 0 <= x <= 1
    ("exp2 floor", 32): (0.6931525, 0.24015263, 0.05583655, 0.008972542, 0.0018856787),
    # The same behind a table of 2^(j/32): |x| <= 1/64; and behind one of 2^(j/16): 0 <= x <= 1/16
    ("exp2 table", 32): (0.6931574, 0.24022917),
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
    # sin(x) = x + x·z·P(z), z = x², for |x| slightly beyond pi/2
    ("sin", 32): (-0.1666666, 0.008333066, -0.00019809532, 2.6054875e-06),
    ("sin", 64): (
        -0.16666666666666666, 0.008333333333333205, -0.0001984126984121156, 2.7557319211352388e-06,
        -2.5052106881468025e-08, 1.6058939725247604e-10, -7.642983481665998e-13, 2.721017783269832e-15,
    ),
}  # fmt: skip

# log2(e) and log(2), each as a rounded value and what the rounding lost.
LOG2E = {32: (1.4426950216293335, 1.925962855864327e-08), 64: (1.4426950408889634, 2.0355273740931033e-17)}
LN2 = (0.6931471805599453, 2.3190468138462996e-17)
# pi in pieces as long as the type's mantissa.
PI = {
    32: (3.141592502593994, 1.5099578831723193e-07, 1.078060505991553e-14),
    64: (3.141592653589793, 1.224646799147353e-16, 2.1657133478438278e-32),
}
# Up to here three pieces of pi reduce sin and cos to the last place.
CLOSE = {32: 2.0**17, 64: 2.0**22}

INF, NAN = math.inf, math.nan
DOWN = 9  # rounding operand of AVX-512 instructions: towards -inf
DIGIT = 0xFFFFFFFF  # of the long multiplication in `_far_turns`
PADDING = 64  # zero bits before the binary point in its table


def _inverse_turn() -> list[int]:
    """The bits of 1/(2·pi) after `PADDING` zeros: entry j holds those from 32·j to 32·j + 63."""
    bits = 1344

    def arctan(n: int) -> Fraction:  # of 1/n, far beyond the bits needed
        scale = 1 << (bits + 64)
        total, term, k = 0, scale // n, 1
        while term:
            total += term // k if k % 4 == 1 else -(term // k)
            term, k = term // (n * n), k + 2
        return Fraction(total, scale)

    turn = 8 * (4 * arctan(5) - arctan(239))  # Machin's formula for pi/4
    fraction = int((1 << (bits - PADDING)) / turn)
    return [fraction >> (bits - 64 - 32 * j) & 0xFFFFFFFFFFFFFFFF for j in range(bits // 32 - 1)]


class Maths(Lanes):
    """The primitives and the elementary functions on lanes.

    Errors are stated in units in the last place (ulp) of the result, as measured: float32 over every bit pattern, float64
    over random bit patterns. Special values are NumPy's.
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

    def _x86(
        self, name: str, *arguments: Value, masked: bool = True, mask: Value | None = None, rounding: int | None = 4
    ) -> Value:
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

    def _narrow(self, x: Value, low: float | None, high: float | None) -> Value:
        """x between two bounds; nan stays."""
        if low is not None:
            x = self.fmax(self.const(low), x)
        return x if high is None else self.fmin(self.const(high), x)

    # ---- exponentials
    def exp(self, x: Value, nonpositive: bool = False, subnormal: bool = True) -> Value:
        """e^x within 1.75 ulp (float32, AVX-512), 1.98 ulp (float32, elsewhere), 1.2 ulp (float64).

        11 instructions on float32 AVX-512 (15 on float64). `nonpositive` promises x <= 1, which saves one. Without
        `subnormal`, what would be smaller than any normal number is 0: those take a processor a hundred cycles each.
        """
        return self._exp(x, None, nonpositive, subnormal)

    def exp_of_nonpositive(self, x: Value) -> Value:
        """`exp` where x <= 1 is promised."""
        return self.exp(x, nonpositive=True)

    def exp_or_zero(self, x: Value) -> Value:
        """`exp`, 0 where that would be subnormal."""
        return self.exp(x, subnormal=False)

    def _exp(self, x: Value, tail: Value | None, nonpositive: bool = False, subnormal: bool = True) -> Value:
        """e^(x + tail), where the tail is at most about a unit in the last place of x."""
        high, low = (self.const(c) for c in LOG2E[self.bits])
        step = (1 / 32 if self.bits == 32 else 1 / 16) if self._zmm else 1.0
        bounds = (-104.0, 89.0) if self.bits == 32 else (-746.0, 710.0)  # e^x is 0 below the first, inf above the second
        smallest = -87.33 if self.bits == 32 else -708.39  # e^x is normal from there on
        # A result that underflows to 0 would take the processor a hundred cycles: those lanes are set to 0 instead.
        alive = self.builder.fcmp_unordered(">=", x, self.const(bounds[0] if subnormal else smallest))
        if not self._zmm:
            x = self._narrow(x, bounds[0], None if nonpositive else bounds[1])
        magic = self._magic(step)
        # x·log2(e) = whole + rest: the product is never rounded before `whole` is taken off.
        if self._zmm and self.bits == 64:  # rounded down, for the polynomial of exp2
            shifted = self._x86("vfmadd", x, high, self.const(magic), masked=False, rounding=DOWN)
        else:
            shifted = self.fma(x, high, self.const(magic))
        whole = self.sub(shifted, self.const(magic))
        rest = self.fma(x, low, self.fma(x, high, self.neg(whole)))
        if tail is not None:
            rest = self.fma(tail, high, rest)
        if not self._zmm:
            return self._scaled_polynomial(shifted, rest, alive)
        if not nonpositive:
            # Huge and infinite x leave garbage in `rest`, while `whole` has the right sign and says it all: any small number
            # will do. This instruction takes the smaller in magnitude, and the other operand where one is nan.
            rest = self._x86("mask.range", rest, self.const(1.0), I32(2), masked=True)
        return self._scaled_table(shifted, rest, whole, alive)

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

    def exp2_fast(self, x: Value, nonpositive: bool = False) -> Value:
        """2^x within 2.45 ulp where that is cheaper: on float32 AVX-512, with 7 instructions. Elsewhere it is `exp2`."""
        if not self._zmm or self.bits == 64:
            return self.exp2(x, nonpositive)
        rest = self._x86("mask.reduce", x, I32(0x09))  # x - floor(x)
        return self._x86("mask.scalef", self._exp2_rest(rest, "exp2 floor"), x)  # which takes the floor of x itself

    def exp_fast(self, x: Value, nonpositive: bool = False) -> Value:
        """e^x with one rounded product in the exponent: within 1.25·|x| + 3 ulp. 8 instructions on float32 AVX-512."""
        return self.exp2_fast(self.mul(x, self.const(LOG2E[self.bits][0])), nonpositive)

    def _exp2_rest(self, rest: Value, name: str) -> Value:
        return self.fma(self._polynomial(rest, POLYNOMIALS[name, self.bits]), rest, self.const(1.0))

    def _scaled_table(self, shifted: Value, rest: Value, whole: Value, alive: Value | None = None) -> Value:
        """2^(j·step + rest)·2^floor(whole), j being the low bits of `shifted`; 0 in lanes that are not alive. AVX-512 only.

        Two registers hold the powers 2^(j·step), and one permutation picks from both by the low bits of `shifted`.
        """
        n = self.width
        low, high = (ir.Constant(self.real, [2.0 ** (j / (2 * n)) for j in range(start, start + n)]) for start in (0, n))
        power = self._x86("vpermi2var", low, self.as_integer(shifted), high, masked=False, rounding=None)
        slope = self._polynomial(rest, POLYNOMIALS["exp2 table", self.bits])
        total = self.fma(self.mul(power, rest), slope, power)
        return self._x86("mask.scalef", total, whole, mask=alive)

    def _scaled_polynomial(self, shifted: Value, rest: Value, alive: Value | None = None) -> Value:
        """2^(k + rest), k being the integer in the low bits of `shifted`; 0 in lanes that are not alive."""
        total = self._exp2_rest(rest, "exp2")
        k = self.isub(self.as_integer(shifted), self.as_integer(self.const(self._magic())))
        # In two factors, since 2^k itself may lie beyond the type; only the last product can round.
        half = self.shift_right(k, 1)
        power = self._power_of_two(self.isub(k, half))
        if alive is not None:
            power = self.select(alive, power, self.const(0.0))
        return self.mul(self._times_power(total, half), power)

    def _times_power(self, x: Value, k: Value) -> Value:
        """x·2^k for a normal 2^k."""
        return self.mul(x, self._power_of_two(k))

    def _power_of_two(self, k: Value) -> Value:
        bias = (1 << (self.bits - 2 - self._mantissa)) - 1
        return self.as_real(self.shift_left(self.iadd(k, self.iconst(bias)), self._mantissa))

    # ---- logarithms
    def log(self, x: Value) -> Value:
        """The natural logarithm within 0.93 ulp (float32), 1.35 ulp (float64)."""
        exponent, mantissa = self._split(x)
        return self._log_limits(x, self.fma(exponent, self.const(LN2[0]), self._log_near_one(mantissa)))

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
        if self.bits == 32:
            return self.fma(self.mul(x, x), self._polynomial(x, POLYNOMIALS["log", 32]), x)
        s = self.div(x, self.add(x, self.const(2.0)))
        z = self.mul(s, s)
        # 2s is x - s·x, which spares the rounding of s.
        bend = self.fma(self.neg(z), self._polynomial(z, POLYNOMIALS["log", 64]), x)
        return self.fma(self.neg(s), bend, x)

    def _log_limits(self, x: Value, log: Value) -> Value:
        """The logarithm with its values at 0, inf, nan and below 0 put in."""
        if self._zmm:
            return log  # `_split` saw to them
        log = self.select(self.lt(x, self.const(INF)), log, x)
        below = self.select(self.eq(x, self.const(0.0)), self.const(-INF), self.const(NAN))
        return self.select(self.le(x, self.const(0.0)), below, log)

    # ---- trigonometry
    def sin(self, x: Value) -> Value:
        """The sine within 1.92 ulp (float32), 1.85 ulp (float64), for any finite x."""
        return self._sine(x, cosine=False)

    def cos(self, x: Value) -> Value:
        """The cosine within 1.92 ulp (float32), 1.85 ulp (float64), for any finite x."""
        return self._sine(x, cosine=True)

    def _sine(self, x: Value, cosine: bool) -> Value:
        """sin(x) = (-1)^n·sin(x - n·pi), and cos(x) = (-1)^n·sin((n + 1/2)·pi - x): one polynomial serves both."""
        magic, inverse = self.const(self._magic()), self.const(1 / math.pi)
        if cosine:
            shifted = self.add(self.fma(x, inverse, self.const(-0.5)), magic)
            turns, rest = self.add(self.sub(shifted, magic), self.const(0.5)), self.neg(x)
        else:
            shifted = self.fma(x, inverse, magic)
            turns, rest = self.neg(self.sub(shifted, magic)), x
        for piece in PI[self.bits]:
            rest = self.fma(turns, self.const(piece), rest)
        parity = self.as_integer(shifted)

        size = self.abs(x)
        far = self.land(self.gt(size, self.const(CLOSE[self.bits])), self.lt(size, self.const(INF)))
        before = self.builder.block
        with self.builder.if_then(self.any(far), likely=False):
            far_rest, far_parity = self._far_turns(x, far, cosine)
            chosen = [(rest, self.select(far, far_rest, rest)), (parity, self.select(far, far_parity, parity))]
            inside = self.builder.block
        merged = []
        for near, other in chosen:
            phi = self.builder.phi(near.type)
            phi.add_incoming(near, before)
            phi.add_incoming(other, inside)
            merged.append(phi)
        rest, parity = merged

        z = self.mul(rest, rest)
        bend = self._polynomial(z, POLYNOMIALS["sin", self.bits])
        sine = self.fma(self.mul(rest, z), bend, rest)
        sine = self.as_real(self.ixor(self.as_integer(sine), self.shift_left(parity, self.bits - 1)))
        return sine if cosine else self.select(self.eq(x, self.const(0.0)), x, sine)  # which had lost the sign of -0

    def _far_turns(self, x: Value, far: Value, cosine: bool) -> tuple[Value, Value]:
        """The rest and the parity of n in `_sine` for the large arguments, after Payne and Hanek.

        With |x| = m·2^e, the bits of 1/(2·pi) above 2^-e only add whole turns: the product of m with the next 96 (float32)
        or 192 (float64) bits, modulo 1, is the angle in turns to full precision. It is computed in digits of 32 bits.
        """
        b, wide, real = self.builder, self.lanes(I64), self.lanes(ir.DoubleType())

        def number(n: int) -> Value:
            return self._splat_constant(wide, I64, str(n))

        shift = self._mantissa
        whole = self.as_integer(self.abs(x))
        whole = b.zext(whole, wide) if self.bits == 32 else whole
        bias = (1 << (self.bits - 2 - shift)) - 1
        position = b.sub(b.lshr(whole, number(shift)), number(bias + shift - PADDING))
        m = b.or_(b.and_(whole, number((1 << shift) - 1)), number(1 << shift))
        count = 3 if self.bits == 32 else 6
        entry, offset = b.lshr(position, number(5)), b.and_(position, number(31))
        words = [b.lshr(b.shl(self._turn_bits(b.add(entry, number(k)), far), offset), number(32)) for k in range(count)]
        words.reverse()  # lowest digit first

        digits = [number(0)] * count
        for i, part in enumerate([m] if self.bits == 32 else [b.and_(m, number(DIGIT)), b.lshr(m, number(32))]):
            carry = number(0)
            for j in range(count - i):
                total = b.add(b.add(b.mul(part, words[j]), digits[i + j]), carry)
                digits[i + j], carry = b.and_(total, number(DIGIT)), b.lshr(total, number(32))

        # The highest bit is the integer part of |x|/pi modulo 2, the next says whether to round it up.
        top = digits.pop()
        if cosine:
            top = b.sub(top, number(1 << 30))  # a quarter turn
        up = b.and_(b.lshr(top, number(30)), number(1))
        parity = b.xor(b.and_(b.lshr(top, number(31)), number(1)), up)
        flip = b.sub(number(0), up)  # all ones where rounded up: 1 - fraction, but for the last bit
        digits = [b.xor(d, b.and_(flip, number(DIGIT))) for d in digits]
        digits.append(b.and_(b.xor(top, flip), number(0x7FFFFFFF)))

        double = Maths(b, 64, self.width, self.features)
        scaled = [b.fmul(b.sitofp(d, real), double.const(2.0 ** (-31 - 32 * k))) for k, d in enumerate(reversed(digits[-4:]))]
        small = scaled[-1]
        for term in scaled[-2:0:-1]:
            small = b.fadd(small, term)
        fraction, low = double._sum(scaled[0], small)
        low = double.fma(low, double.const(PI[64][0]), b.fmul(fraction, double.const(PI[64][1])))
        rest = double.fma(fraction, double.const(PI[64][0]), low)
        negative = b.shl(up, number(63))
        if cosine:  # `_sine` wants the rest's negative
            negative = b.xor(negative, number(-(1 << 63)))
        rest = double.as_real(b.xor(double.as_integer(rest), negative))
        if self.bits == 32:
            rest, parity = b.fptrunc(rest, self.real), b.trunc(parity, self.integer)
        if not cosine:  # sin is odd
            rest = self.as_real(self.ixor(self.as_integer(rest), self.as_integer(self.copysign(self.const(0.0), x))))
        return rest, parity

    def _turn_bits(self, index: Value, mask: Value) -> Value:
        """Entries of the table of bits of 1/(2·pi), where `mask` is true."""
        b, name = self.builder, "pairfold.inverse_turn"
        table = b.module.globals.get(name)
        if table is None:
            words = _inverse_turn()
            kind = ir.ArrayType(I64, len(words))
            table = ir.GlobalVariable(b.module, kind, name)
            table.initializer, table.global_constant, table.linkage = ir.Constant(kind, words), True, "internal"
        if self.width == 1:
            return b.load(b.gep(table, [I64(0), index], source_etype=table.value_type), typ=I64)
        base = self.splat(b.ptrtoint(table, I64))
        wide = self.lanes(I64)
        address = b.add(base, b.shl(index, self._splat_constant(wide, I64, "3")))
        pointers = b.inttoptr(address, ir.VectorType(ir.PointerType(), self.width))
        arguments = [pointers, I32(8), mask, ir.Constant(wide, ir.Undefined)]
        return self.intrinsic(f"llvm.masked.gather.v{self.width}i64.v{self.width}p0", wide, arguments)

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
            double = Maths(self.builder, 64, self.width, self.features)
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
        far, far_low = self._product(exponent, self.const(LN2[0]))
        far_low = self.fma(exponent, self.const(LN2[1]), far_low)
        high, low = self._sum(far, near)
        low = add(low, add(far_low, near_low))
        regular = self.land(self.gt(x, self.const(0.0)), self.lt(x, self.const(INF)))
        limit = self.select(self.eq(x, self.const(0.0)), self.const(-INF), x)
        return self.select(regular, high, limit), self.select(regular, low, self.const(0.0))

    # ---- pieces
    def sign(self, x: Value) -> Value:
        """-1, 0 or 1 with the sign of x; nan stays."""
        zero = self.const(0.0)
        below = self.select(self.lt(x, zero), self.const(-1.0), self.add(x, zero))  # -0 + 0 is 0, nan stays
        return self.select(self.gt(x, zero), self.const(1.0), below)

    def step(self, x: Value) -> Value:
        """1 where x >= 0, else 0; nan stays: numpy.heaviside(x, 1)."""
        return self.select(self.isnan(x), x, self.one_if(self.ge(x, self.const(0.0))))

    def relu(self, x: Value) -> Value:
        """The larger of x and 0; nan stays."""
        return self.fmax(self.const(0.0), x)

    def clamp(self, x: Value, low: Value, high: Value) -> Value:
        """x between low and high, nan where one of the three is: numpy.clip."""
        return self.minimum(self.maximum(x, low), high)
