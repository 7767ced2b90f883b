"""The vector mathematics of an NVIDIA GPU: its approximate instructions where those lose nothing that sums keep.

The functions that are not here are those of `Maths`, as on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from .builder import I32, I64, Builder, Value
from .mathlib import Maths
from .mathlib_elementary import LOG2E

APPROXIMATE = "approximate"  # the feature that allows these instructions


class CudaMaths(Maths):
    """All functions on a thread's scalars.

    Attributes
    ----------
    diverged : bool
        Whether the code may be run by some of a warp's threads alone.
    """

    def __init__(self, builder: Builder, bits: int, width: int, features: frozenset[str] = frozenset(), diverged: bool = False):
        super().__init__(builder, bits, width, features)
        self.diverged = diverged
        self._own_units: dict[tuple[int, int], Value] = {}

    @property
    def _approximate(self) -> bool:
        return self.bits == 32 and APPROXIMATE in self.features

    def _ptx(self, instruction: str, *arguments: Value) -> Value:
        """One instruction of PTX on float32, without side effects."""
        operands = ", ".join(f"${k}" for k in range(len(arguments) + 1))
        kind = ir.FunctionType(self.real, [a.type for a in arguments])
        return self.builder.asm(kind, f"{instruction} {operands};", ",".join(["=f"] + ["f"] * len(arguments)), arguments, False)

    def of_function(self, builder: Builder) -> CudaMaths:
        return CudaMaths(builder, self.bits, self.width, self.features, diverged=True)

    # ---- lanes that share a row
    def own_unit(self, lanes: int, unit: int) -> Value:
        """The number of the first component of this lane's slice."""
        if (lanes, unit) not in self._own_units:
            b = self.builder
            with b.goto_entry_block():
                own = b.mul(b.zext(b.and_(self._lane(), I32(lanes - 1)), I64), I64(unit))
            self._own_units[lanes, unit] = own
        return self._own_units[lanes, unit]

    def across(self, value: Value, lanes: int, join: Callable[[Maths, Value, Value], Value]) -> Value:
        """The values of so many neighbouring lanes joined: the same in all of them, to the last digit."""
        step = 1
        while step < lanes:
            value = join(self, value, self._from_lane(value, step, lanes))
            step *= 2
        return value

    def _from_lane(self, value: Value, apart: int, lanes: int) -> Value:
        """The value of the lane whose number differs in one binary digit."""
        b = self.builder
        if self.bits == 64:
            whole = b.bitcast(value, I64)
            halves = [b.trunc(whole, I32), b.trunc(b.lshr(whole, I64(32)), I32)]
            low, high = (b.zext(self._shuffled(half, apart, lanes), I64) for half in halves)
            return b.bitcast(b.or_(low, b.shl(high, I64(32))), self.real)
        return b.bitcast(self._shuffled(b.bitcast(value, I32), apart, lanes), self.real)

    def _shuffled(self, value: Value, apart: int, lanes: int) -> Value:
        # Where not all threads of a warp come by, those that share the row do.
        b, everyone = self.builder, I32(-1)
        if self.diverged:
            everyone = b.shl(I32((1 << lanes) - 1), b.and_(self._lane(), I32(32 - lanes)))
        return self.intrinsic("llvm.nvvm.shfl.sync.bfly.i32", I32, [everyone, value, I32(apart), I32(31)])

    def _lane(self) -> Value:
        """A thread's number; in a warp, but for whole ones before."""
        return self.intrinsic("llvm.nvvm.read.ptx.sreg.tid.x", I32, [])

    # ---- exponentials: 2 ulp, and 0 for what would be subnormal; the product with log2(e) is rounded
    def exp2(self, x: Value, nonpositive: bool = False) -> Value:
        return self._ptx("ex2.approx.ftz.f32", x) if self._approximate else super().exp2(x, nonpositive)

    def exp2_or_zero(self, x: Value) -> Value:
        return self.exp2(x) if self._approximate else super().exp2_or_zero(x)

    def exp(self, x: Value, nonpositive: bool = False, rounded: bool = False, subnormal: bool = True) -> Value:
        if not self._approximate:
            return super().exp(x, nonpositive, rounded, subnormal)
        return self.exp2(self.mul(x, self.const(LOG2E[32][0])))

    # ---- roots: 1 ulp
    def sqrt(self, a: Value) -> Value:
        return self._ptx("sqrt.approx.f32", a) if self._approximate else super().sqrt(a)

    def rsqrt(self, x: Value) -> Value:
        return self._ptx("rsqrt.approx.f32", x) if self._approximate else super().rsqrt(x)

    # ---- quotients: the nearest number but in rare cases, then the one beside it; rounded divisions call what few of them need
    def div(self, a: Value, b: Value) -> Value:
        """A quotient by the approximate reciprocal, and once what is left of the dividend (Markstein, IA-64 and Elementary Functions, 8).

        Divisors whose reciprocal would not be a normal number are scaled, with the dividend.
        """
        if not self._approximate:
            return super().div(a, b)
        size = self.abs(b)
        scale = self.select(self.lt(size, self.const(2.0**-126)), self.const(2.0**24), self.const(1.0))
        scale = self.select(self.gt(size, self.const(2.0**126)), self.const(0.25), scale)
        a, b = self.mul(a, scale), self.mul(b, scale)
        reciprocal = self._ptx("rcp.approx.ftz.f32", b)
        quotient = self.mul(a, reciprocal)
        left = self.fma(self.neg(b), quotient, a)
        nearest = self.fma(left, reciprocal, quotient)
        # Of an infinite quotient, or one by infinity, nothing is left that has a meaning.
        return self.select(self.builder.fcmp_ordered("ord", nearest, nearest), nearest, quotient)

    # ---- one instruction where `Maths` needs two, from compute capability 8.0 on
    def fmax(self, a: Value, b: Value) -> Value:
        """The larger; nan where either is."""
        return self._math("maximum", a, b) if self.bits == 32 else super().fmax(a, b)

    def maximum(self, a: Value, b: Value) -> Value:
        return self._math("maximum", a, b) if self.bits == 32 else super().maximum(a, b)

    def minimum(self, a: Value, b: Value) -> Value:
        return self._math("minimum", a, b) if self.bits == 32 else super().minimum(a, b)
