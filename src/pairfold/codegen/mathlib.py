"""Vector mathematics: elementary functions as inlined instructions on lanes, without a call to any library.

Each function is one method of `Maths` or of a class it is made of, with its row of coefficients in the `POLYNOMIALS` of that
class's file and one row in `BOUNDS`, which the tests assert.
"""

from __future__ import annotations

from pairfold.codegen.builder import Value
from pairfold.codegen.mathlib_elementary import NAN
from pairfold.codegen.mathlib_plane import Plane
from pairfold.codegen.mathlib_special import Special

# The largest error in units in the last place, as (float32, float64), that the tests allow.
BOUNDS: dict[str, tuple[float, float]] = {
    "exp": (2.0, 2.0),
    "exp_closely": (1.1, 1.1),
    "exp2": (2.0, 2.0),
    "log": (2.0, 2.0),
    "log2": (2.0, 2.0),
    "sin": (2.0, 2.0),
    "cos": (2.0, 2.0),
    "sine_and_cosine": (2.0, 2.0),
    "rsqrt": (2.0, 2.0),
    "pow": (2.0, 2.0),
    "tan": (2.0, 2.0),
    "sinxdivx": (2.75, 2.75),
    "asin": (2.0, 2.0),
    "acos": (2.0, 2.0),
    "atan": (2.0, 2.0),
    "atan2": (2.0, 2.25),
    "sinh": (2.0, 2.0),
    "cosh": (2.0, 2.0),
    "tanh": (2.0, 2.0),
    "expm1": (2.0, 2.0),
    "log1p": (2.0, 2.0),
    "sigmoid": (2.0, 2.0),
    "softplus": (2.0, 2.25),
    "logaddexp": (2.25, 2.75),  # of the largest of the result and its two terms
    "xlogx": (2.0, 2.0),
    "hypot": (2.0, 2.0),
    "inverse": (3.0, 3.0),
    "log_hypot": (4.0, 4.0),  # of the larger of the result and the square of the smaller operand
    "root": (3.0, 3.0),
    "erf": (2.0, 2.0),
    "erfc": (2.5, 3.0),
    "gelu": (2.75, 3.5),
    "lgamma": (1.0, 4.0),
    "digamma": (1.0, 4.0),
    "polygamma": (1.0, 4.0),  # of order 1
}


class Maths(Plane, Special):
    """All functions on lanes."""

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

    def softmin(self, a: Value, b: Value, c: Value, scale: Value) -> Value:
        """-scale·log(exp(-a/scale) + exp(-b/scale) + exp(-c/scale)), without overflow."""
        least = self.minimum(self.minimum(a, b), c)
        inverse = self.div(self.const(1.0), scale)
        terms = [self.exp(self.mul(self.sub(least, v), inverse)) for v in (a, b, c)]
        return self.sub(least, self.mul(scale, self.log(self.add(self.add(terms[0], terms[1]), terms[2]))))

    def mod(self, a: Value, b: Value) -> Value:
        """The remainder of a/b with the sign of b, exactly: numpy.mod; 0 where |a/b| is 2^24 (float32), 2^53 (float64) or more."""
        zero = self.const(0.0)
        quotient = self.div(a, b)
        rest = self.fma(self.neg(self.floor(quotient)), b, a)
        # A quotient within [0, 1) leaves a as it is, also where b is infinite.
        rest = self.select(self.eq(self.floor(quotient), zero), a, rest)
        # The quotient may have been rounded up to a whole number.
        across = self.is_negative(self.ixor(self.as_integer(rest), self.as_integer(b)))
        rest = self.select(self.land(across, self.ne(rest, zero)), self.add(rest, b), rest)
        huge = self.ge(self.abs(quotient), self.const(2.0 ** (self._mantissa + 1)))
        nothing = self.select(self.eq(b, zero), self.const(NAN), self.mul(a, zero))  # nan for an infinite a too
        return self.copysign(self.select(huge, nothing, rest), b)

    def round_decimals(self, a: Value, decimals: int) -> Value:
        """The nearest multiple of 10^-decimals as numpy.round computes it, ties to even."""
        power = self.const(10.0 ** abs(decimals))
        if decimals == 0:
            return self.nearest(a)
        if decimals > 0:
            return self.div(self.nearest(self.mul(a, power)), power)
        return self.mul(self.nearest(self.div(a, power)), power)
