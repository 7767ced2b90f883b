"""Special functions on lanes: the error function and its kin, the logarithm of the gamma function and its derivative.

The polynomials are minimax or least-squares fits, the ratios of two interpolate at Chebyshev nodes in log(x).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from pairfold.codegen.builder import Value
from pairfold.codegen.mathlib_circular import PI, Circular
from pairfold.codegen.mathlib_elementary import INF, NAN
from pairfold.formula.operators_elementary import cotangent_derivative

# Coefficients by (name, bits), lowest order first; z = x² everywhere.
POLYNOMIALS: dict[tuple[str, int], tuple[float, ...]] = {
    # erf(x) = x + x·P(z) for |x| <= 0.85
    ("erf", 32): (0.12837917, -0.37612593, 0.11282905, -0.026808972, 0.0050604786, -0.00063642766),
    ("erf", 64): (
        0.12837916709551256, -0.3761263890318335, 0.11283791670932895, -0.02686617064031332, 0.005223977571810821,
        -0.000854832353534914, 0.00012055191254295863, -1.4921939727710844e-05, 1.639933782212434e-06,
        -1.569852281320052e-07, 1.0679610760619395e-08,
    ),
    # (x + m)·e^z·erfc(x) = P(u), u = (x - m)/(x + m), for 0 <= x <= 10 (float32), 27 (float64)
    ("erfc", 32): (
        1.0024036, -0.6231394, 0.19826029, 0.007814569, -0.023760911, -0.0011933619, 0.0037210705, 0.0007991615, -0.00048382455,
        -0.00023982578, -1.7503547e-05,
    ),
    ("erfc", 64): (
        1.066243556996939, -0.8521642934166663, 0.5342263381644198, -0.2498453396395632, 0.07588435113405735,
        -0.006697940344255648, -0.0054718835853109805, 0.0019404772527082106, 0.00036375151586467774,
        -0.00029982042161045945, -3.548417817480475e-05, 4.692072534835031e-05, 7.137204167190321e-06,
        -7.635591483928577e-06, -2.0584913926021443e-06, 1.16511574991094e-06, 5.824479829215448e-07,
        -1.270127364049368e-07, -1.3540566486455794e-07, -1.1659039046239345e-09, 2.0343589985582475e-08,
        2.852915080393626e-09, -9.34828775902044e-10,
    ),
    # log(gamma(1 + x)) = x·(x - 1)·P(x)/Q(x) for -0.2 <= x <= 3
    ("lgamma over", 32): (0.5772156645128034, 0.927663704983404, 0.4501607243339183, 0.06906516289758789, 0.002220633226477966),
    ("lgamma under", 32): (
        1.0, 2.0320222375575234, 1.3739797520080315, 0.3557363889277725, 0.030566493593841552, 0.0005072532779127157,
    ),
    ("lgamma over", 64): (
        0.5772156649015329, 1.9529793053636848, 2.6357211683949653, 1.8148111567128788, 0.6775705781502416,
        0.13484082815938403, 0.013129601169835027, 0.0005154325925419964, 5.026630017282372e-06,
    ),
    ("lgamma under", 64): (
        1.0, 3.808335094753988, 5.91509639104206, 4.831291983355092, 2.2336893690934034, 0.5870455613587056,
        0.08374195734666472, 0.005820823678076597, 0.00015767237013736008, 9.419364896426922e-07,
    ),
    # log(gamma(x)) = (x - 1/2)·log(x) - x + log(2·pi)/2 + P(1/z)/x for x >= 4
    ("lgamma far", 32): (0.08333333, -0.0027766337, 0.00074302196),
    ("lgamma far", 64): (
        0.08333333333333307, -0.0027777777772136475, 0.0007936505955698777, -0.0005952114126835357, 0.0008399589976962604,
        -0.001850193275139284, 0.004916205443862655, -0.009355993476593097,
    ),
    # The derivative of that at 1 + x is (1 + x - ROOT)·P(x)/Q(x) for -0.1 <= x <= 4
    ("digamma over", 32): (1.2503801377387727, 1.3437135518105343, 0.3829161744990902, 0.02695278429577412, 0.00010461243222160079),
    ("digamma under", 32): (1.0, 1.758190865973302, 0.9062539987175, 0.15441542769801692, 0.006478337144592181),
    ("digamma over", 64): (
        1.2503801375034054, 2.067584294345099, 1.2660029987217025, 0.3668525049719203, 0.052778045154109395,
        0.0035779610770104537, 9.60041272866534e-05, 6.318911839666731e-07,
    ),
    ("digamma under", 64): (
        1.0, 2.3371113850078475, 2.008227925947885, 0.8311153499525148, 0.17882301405090184, 0.01984860123307305,
        0.0010455584183082223, 2.1257478830705195e-05, 9.547663668433877e-08,
    ),
    # It is log(x) - 1/(2·x) - P(1/z)/z for x >= 5
    ("digamma far", 32): (0.08333329, -0.0083268, 0.0036768874),
    ("digamma far", 64): (
        0.08333333333332875, -0.008333333329513843, 0.003968252875411816, -0.0041665143194268344, 0.007563848634341128,
        -0.02053637033750778, 0.06743521758450122, -0.16526943253970808,
    ),
}  # fmt: skip

# The m of "erfc", and that times sqrt(2): short enough for their sums with any x to lose only digits of x.
ERFC_CENTRE = {32: (470832 / 2**18, 665857 / 2**18), 64: (93222358 / 2**25, 131836323 / 2**25)}
SQRT2 = {32: (1.4142135381698608, 2.4203234971764687e-08), 64: (1.4142135623730951, -9.667293313452913e-17)}
# What the rounding of the first coefficient of "erfc" lost.
ERFC_LOST = {32: -2.7182653e-08, 64: -5.849566147956632e-17}
# The root of digamma, and what its rounding lost.
ROOT = (1.4616321449683622, 9.549995429965697e-17)
HALF_LOG_TURN = 0.9189385332046727  # log(2·pi)/2


class Special(Circular):
    """Special functions on lanes. Those of the gamma function compute in float64 for float32 too."""

    # ---- of the normal distribution
    def erf(self, x: Value) -> Value:
        """The error function within 0.9 ulp (float32), 1 ulp (float64)."""
        size = self.abs(x)
        near = self.fma(size, self._polynomial(self.mul(x, x), POLYNOMIALS["erf", self.bits]), size)
        value, scale = self._erfc(self._narrow(size, None, 7.0), 1.0)
        far = self.sub(self.const(1.0), scale(value))
        return self.copysign(self.select(self.lt(size, self.const(0.85)), near, far), x)

    def erfc(self, x: Value) -> Value:
        """1 - erf(x), also where that is tiny, within 2.15 ulp (float32), 2.8 ulp (float64)."""
        value, scale = self._erfc(self._narrow(self.abs(x), None, 10.5 if self.bits == 32 else 28.0), 1.0)
        value = scale(value)
        return self.select(self.lt(x, self.const(0.0)), self.sub(self.const(2.0), value), value)

    def gelu(self, x: Value) -> Value:
        """x/2·erfc(-x/sqrt(2)), x times the normal distribution function, within 2.35 ulp (float32), 3.15 ulp (float64)."""
        limit = 15.0 if self.bits == 32 else 39.0
        y = self._narrow(x, -limit, limit)
        negative = self.lt(x, self.const(0.0))
        # The factor x is there before the scaling, which would give subnormal numbers too early without it.
        value, scale = self._erfc(self.abs(y), 0.5, self.select(negative, self.mul(y, self.const(0.5)), self.const(0.5)))
        value = scale(value)
        return self.copysign(self.select(negative, value, self.fma(self.neg(y), value, x)), x)

    def _erfc(self, x: Value, share: float, factor: Value | None = None) -> tuple[Value, Callable[[Value], Value]]:
        """factor·erfc(x·sqrt(share)) up to a power of 2, and what multiplies by that power, for x >= 0 and share 1 or 1/2."""
        m, one = self.const(ERFC_CENTRE[self.bits][share != 1.0]), self.const(1.0)
        add, sub = self.builder.fadd, self.builder.fsub
        total = add(x, m)
        total_low = sub(x, sub(total, m))
        # 1/(x + m) is the inverse·(1 + error), but for a factor sqrt(share)
        root, root_low = (one, None) if share == 1.0 else (self.const(c) for c in SQRT2[self.bits])
        inverse = self.div(root, total)
        error = self.fma(self.neg(inverse), total_low, self.fma(self.neg(inverse), total, root))
        if root_low is not None:
            error = self.mul(self.add(error, root_low), self.const(math.sqrt(0.5)))
        twice, twice_low = self._product(inverse, self.const(2 * ERFC_CENTRE[self.bits][0]))
        u, u_low = sub(one, twice), self.neg(self.fma(twice, error, twice_low))
        # inverse·P(u + u_low)·(1 + error)·(1 + rise), all products but the small ones to twice the precision
        constant, *others = POLYNOMIALS["erfc", self.bits]
        first, slope = self.const(constant), self._polynomial(u, others)
        derivative = self._polynomial(u, [k * c for k, c in enumerate(others[:4], 1)])
        slow = self.fma(slope, u, first)
        slow_low = self.fma(derivative, u_low, self.fma(slope, u, sub(first, slow)))
        slow_low = add(slow_low, self.const(ERFC_LOST[self.bits]))
        rise, scale = self._exp_parts(*self._product(self.mul(x, self.const(-share)), x))
        rise = self.add(rise, self.fma(rise, error, error))
        if factor is not None:
            inverse, inverse_low = self._product(inverse, factor)
        value, value_low = self._product(inverse, slow)
        value_low = self.fma(inverse, slow_low, value_low)
        if factor is not None:
            value_low = self.fma(inverse_low, slow, value_low)
        return add(value, self.fma(value, rise, value_low)), scale

    # ---- of the gamma function
    def lgamma(self, x: Value) -> Value:
        """log|gamma(x)| within 0.52 ulp (float32), 3.75 ulp (float64) for x > 0.

        Below 0 it is 9 ulp of the larger of two terms, which cancel near a root.
        """
        if self.bits == 64:
            return self._lgamma(x, 64)
        double = type(self)(self.builder, 64, self.width, self.features)
        return self.builder.fptrunc(double._lgamma(self.builder.fpext(x, double.real), 32), self.real)

    def _lgamma(self, x: Value, precision: int) -> Value:
        """`lgamma` in float64 to the precision of a type of so many bits."""
        zero, one = self.const(0.0), self.const(1.0)
        reflected = self.lt(x, self.const(-0.2))
        a = self.select(reflected, self.neg(x), x)
        size = self.abs(x)
        log, log_low = self._log_double(size) if precision == 64 else (self.log(size), zero)

        # Below 0.8 it is that of x + 1, less log(x).
        small = self.lt(a, self.const(0.8))
        from_one = self._narrow(self.select(small, a, self.sub(a, one)), None, 3.0)
        near = self._times_ratio(self.fma(from_one, from_one, self.neg(from_one)), from_one, "lgamma", precision)
        near = self.select(small, self.sub(self.sub(near, log_low), log), near)

        inverse = self.div(one, a)
        bend = self._polynomial(self.mul(inverse, inverse), POLYNOMIALS["lgamma far", precision])
        less, less_low = self._sum(log, self.const(-1.0))
        factor = self.sub(a, self.const(0.5))
        far, far_low = self._product(factor, less)
        far_low = self.fma(factor, self.add(less_low, log_low), self.add(far_low, self.const(HALF_LOG_TURN - 0.5)))
        far_low = self.select(self.lt(a, self.const(2.0**100)), far_low, zero)  # beyond, it does not matter and may be nan
        far = self.add(far, self.fma(inverse, bend, far_low))
        result = self.select(self.lt(a, self.const(4.0)), near, far)

        # log|gamma(-a)| = -log(a·|sin(pi·a)|/pi) - log(gamma(a))
        before = self.builder.block
        with self.builder.if_then(self.any(reflected), likely=False):
            sine, _ = self._sine_of_half_turns(a)
            mirrored = self.sub(self.neg(self.log(self.mul(self.mul(a, self.abs(sine)), self.const(1 / PI[64][0])))), result)
            mirrored = self.select(self.lt(a, self.const(INF)), mirrored, a)
            mirrored = self.select(reflected, mirrored, result)
            inside = self.builder.block
        return self.merge([(result, mirrored)], before, inside)[0]

    def _times_ratio(self, factor: Value, x: Value, name: str, precision: int) -> Value:
        """factor·P(x)/Q(x), with the last steps of both polynomials to twice the precision."""
        sums = []
        for part in ("over", "under"):
            first, *others = POLYNOMIALS[f"{name} {part}", precision]
            high, low = self._product(self._polynomial(x, others), x)
            high, error = self._sum(high, self.const(first))
            sums.append((high, self.add(low, error)))
        (over, over_low), (under, under_low) = sums
        high, low = self._product(factor, over)
        return self._quotient(high, self.fma(factor, over_low, low), under, under_low)

    def _sine_of_half_turns(self, x: Value) -> tuple[Value, Value]:
        """sin(pi·x) and cos(pi·x) but for the sign of both, for x >= 0."""
        rest = self.sub(x, self.nearest(x))
        turn = self.const(PI[self.bits][0])
        sine = self._sine_polynomial(self.mul(rest, turn))
        return sine, self._sine_polynomial(self.mul(self.sub(self.const(0.5), self.abs(rest)), turn))

    def digamma(self, x: Value) -> Value:
        """The derivative of log(gamma(x)) within 0.53 ulp (float32), 3.2 ulp (float64) for x > 0.

        Below 0 it is 9 ulp of the larger of two terms, which cancel near a root.
        """
        if self.bits == 64:
            return self._digamma(x, 64)
        double = type(self)(self.builder, 64, self.width, self.features)
        return self.builder.fptrunc(double._digamma(self.builder.fpext(x, double.real), 32), self.real)

    def _digamma(self, x: Value, precision: int) -> Value:
        """`digamma` in float64 to the precision of a type of so many bits."""
        one = self.const(1.0)
        reflected = self.lt(x, self.const(-0.1))
        a = self.select(reflected, self.neg(x), x)
        inverse = self.div(one, a)

        # Below 1 it is that of x + 1, less 1/x.
        small = self.lt(a, one)
        from_one = self._narrow(self.select(small, a, self.sub(a, one)), None, 4.0)
        from_root = self.sub(self.sub(from_one, self.const(ROOT[0] - 1)), self.const(ROOT[1]))
        near = self._times_ratio(from_root, from_one, "digamma", precision)
        near = self.select(small, self.sub(near, inverse), near)

        z = self.mul(inverse, inverse)
        bend = self.mul(z, self._polynomial(z, POLYNOMIALS["digamma far", precision]))
        far = self.sub(self.log(a), self.fma(self.const(0.5), inverse, bend))
        result = self.select(self.lt(a, self.const(5.0)), near, far)

        # That of -a is that of a, and 1/a + pi/tan(pi·a).
        before = self.builder.block
        with self.builder.if_then(self.any(reflected), likely=False):
            sine, cosine = self._sine_of_half_turns(a)
            slope = self.div(self.mul(cosine, self.const(PI[64][0])), sine)
            mirrored = self.add(self.add(result, inverse), slope)
            mirrored = self.select(self.eq(sine, self.const(0.0)), self.const(NAN), mirrored)
            mirrored = self.select(reflected, mirrored, result)
            inside = self.builder.block
        return self.merge([(result, mirrored)], before, inside)[0]

    def polygamma(self, x: Value, n: int) -> Value:
        """The n-th derivative of digamma, n >= 1, for n = 1 within 0.5 ulp (float32), 3 ulp (float64) for x > 0.

        Higher orders lose another ulp each. Below 0 it is 5 ulp of the larger of two terms, which cancel near a root where n is even.
        """
        if self.bits == 64:
            return self._polygamma(x, n, 64)
        double = type(self)(self.builder, 64, self.width, self.features)
        return self.builder.fptrunc(double._polygamma(self.builder.fpext(x, double.real), n, 32), self.real)

    def _polygamma(self, x: Value, n: int, precision: int) -> Value:
        """`polygamma` in float64 to the precision of a type of so many bits: (-1)^(n+1) n! Σ_k 1/(x + k)^(n+1)."""
        one, zero = self.const(1.0), self.const(0.0)
        far, bend = _polygamma_tail(n, precision)
        size = self.abs(x)

        # The terms from k = 1 on, which x and -x share, the last ones summed by Euler and Maclaurin: n! Σ 1/y^(n+1) from y on is
        # (n-1)!/y^n (1 + n/(2y) + P(1/y²)/y²).
        inverse = self.div(one, self.add(size, self.const(far)))
        square = self.mul(inverse, inverse)
        tail = self.fma(self.mul(square, self._polynomial(square, bend)), one, self.fma(self.const(n / 2), inverse, one))
        rest = self.mul(self.mul(self.powi(inverse, n), self.const(math.factorial(n - 1))), tail)
        terms = [self.powi(self.div(one, self.add(size, self.const(k))), n + 1) for k in range(far - 1, 0, -1)]
        total = terms[0]
        for term in terms[1:]:
            total = self.add(total, term)
        factorial = self.const(math.factorial(n))
        rest = self.fma(total, factorial, rest)
        first = self.mul(self.powi(self.div(one, x), n + 1), factorial)
        result = self.add(rest, first)
        result = result if n % 2 else self.neg(result)

        # That of x < 0 is less by the n-th derivative of pi/tan(pi·x), a polynomial in 1/tan(pi·x).
        reflected = self.lt(x, zero)
        before = self.builder.block
        with self.builder.if_then(self.any(reflected), likely=False):
            sine, cosine = self._sine_of_half_turns(size)
            cotangent = self.neg(self.div(cosine, sine))
            slope = self._polynomial(cotangent, [PI[64][0] ** (n + 1) * c for c in cotangent_derivative(n)])
            pole = self.const(INF if n % 2 else NAN)
            mirrored = self.select(self.eq(sine, zero), pole, self.neg(self.add(slope, rest)))
            mirrored = self.select(reflected, mirrored, result)
            inside = self.builder.block
        return self.merge([(result, mirrored)], before, inside)[0]


@lru_cache(maxsize=64)
def _polygamma_tail(n: int, precision: int) -> tuple[int, list[float]]:
    """From which term on polygamma's series is summed by its expansion, and that expansion's coefficients: the shortest that will do."""
    tolerance = 2.0 ** -(30 if precision == 32 else 58)
    bernoulli = _bernoulli_numbers(24)
    coefficients = [float(b * math.prod(range(n, n + 2 * k)) / math.factorial(2 * k)) for k, b in enumerate(bernoulli, 1)]
    found = [
        (far + length, far, length)
        for length in range(2, len(coefficients) - 1)
        for far in range(2, 60)
        if abs(coefficients[length]) / far ** (2 * length + 2) < tolerance
    ]
    _, far, length = min(found)
    return far, coefficients[:length]


def _bernoulli_numbers(count: int) -> list[Fraction]:
    """B_2, B_4 …"""
    numbers = [Fraction(1)]
    for m in range(1, 2 * count + 1):
        numbers.append(-sum((math.comb(m + 1, k) * b for k, b in enumerate(numbers)), Fraction(0)) / (m + 1))
    return numbers[2::2]
