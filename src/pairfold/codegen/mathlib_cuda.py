"""The vector mathematics of an NVIDIA GPU: its approximate instructions where those lose nothing that sums keep.

The functions that are not here are those of `Maths`, as on a CPU.
"""

from __future__ import annotations

from llvmlite import ir

from .builder import Value
from .mathlib import Maths
from .mathlib_elementary import LOG2E

APPROXIMATE = "approximate"  # the feature that allows these instructions


class CudaMaths(Maths):
    """All functions on a thread's scalars."""

    @property
    def _approximate(self) -> bool:
        return self.bits == 32 and APPROXIMATE in self.features

    def _ptx(self, instruction: str, *arguments: Value) -> Value:
        """One instruction of PTX on float32, without side effects."""
        operands = ", ".join(f"${k}" for k in range(len(arguments) + 1))
        kind = ir.FunctionType(self.real, [a.type for a in arguments])
        return self.builder.asm(kind, f"{instruction} {operands};", ",".join(["=f"] + ["f"] * len(arguments)), arguments, False)

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

    # ---- one instruction where `Maths` needs two, from compute capability 8.0 on
    def fmax(self, a: Value, b: Value) -> Value:
        """The larger; nan where either is."""
        return self._math("maximum", a, b) if self.bits == 32 else super().fmax(a, b)

    def maximum(self, a: Value, b: Value) -> Value:
        return self._math("maximum", a, b) if self.bits == 32 else super().maximum(a, b)

    def minimum(self, a: Value, b: Value) -> Value:
        return self._math("minimum", a, b) if self.bits == 32 else super().minimum(a, b)
