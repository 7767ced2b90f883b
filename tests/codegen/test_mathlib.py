"""The vector mathematics against NumPy, mpmath and wider types, on the host's own instructions and on common ones."""

from __future__ import annotations

import ctypes
import functools
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
import scipy.special  # type: ignore[import-untyped]
from llvmlite import ir

from pairfold.codegen.builder import I64
from pairfold.codegen.mathlib import BOUNDS, Maths
from pairfold.codegen.mathlib_elementary import SMALLEST_EXPONENT

Array = Any  # numpy.ndarray

INF, NAN = math.inf, math.nan
RANDOM = np.random.default_rng(7)

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
FEATURES = {name for name, present in llvm.get_host_cpu_features().items() if present}
TARGETS = [(32, 16, "host"), (32, 8, "common"), (32, 1, "common"), (64, 8, "host"), (64, 4, "common"), (64, 1, "common")]
TARGET = pytest.mark.parametrize(("bits", "width", "kind"), TARGETS, ids=lambda v: str(v))


@functools.cache
def compiled(bits: int, width: int, kind: str, name: str, arity: int = 1, *extra: Any) -> Callable[..., Array]:
    """The method `name` of Maths as a function of `arity` arrays; `extra` are its further Python arguments.

    Of a method that gives several values, ``"name/k"`` is the k-th.
    """
    module = ir.Module(name)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.PointerType()] * (arity + 1) + [I64]), "apply")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    maths = Maths(builder, bits, width, frozenset(FEATURES) if kind == "host" else frozenset())
    entry, loop, done = builder.block, function.append_basic_block("loop"), function.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    i = builder.phi(I64)
    i.add_incoming(I64(0), entry)
    places = [builder.gep(p, [i], source_etype=maths.scalar) for p in function.args[:-1]]
    values = [builder.load(p, typ=maths.real, align=bits // 8) for p in places[:-1]]
    method, _, part = name.partition("/")
    result = getattr(maths, method)(*values, *extra)
    builder.store(result[int(part)] if part else result, places[-1], align=bits // 8)
    following = builder.add(i, I64(width))
    i.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, function.args[-1]), loop, done)
    builder.position_at_end(done)
    builder.ret_void()

    # llvmlite knows no string attributes
    wide = '"prefer-vector-width"="512" "min-legal-vector-width"="512"'
    parsed = llvm.parse_assembly(re.sub(r"(define .*\))\n\{", rf"\1 {wide}\n{{", str(module)))
    parsed.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2, jit=True
    )
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(2))
    passes.getModulePassManager().run(parsed, passes)
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    address = engine.get_function_address("apply")
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (arity + 1), ctypes.c_int64)(address)
    dtype = np.dtype(f"f{bits // 8}")

    def apply(*arrays: Array, engine: Any = engine) -> Array:
        """Of arrays of one length, padded to whole vectors."""
        size = len(arrays[0])
        padded = [np.resize(np.asarray(a, dtype), -(-size // width) * width) for a in arrays]
        out = np.empty_like(padded[0])
        call(*[a.ctypes.data for a in padded], out.ctypes.data, len(out))
        return out[:size]

    apply.assembly = machine.emit_assembly(parsed)  # type: ignore[attr-defined]
    return apply


def ulps(got: Array, exact: Array, size: Array = None) -> Array:
    """The distance in units of got's last place at `exact`, or at `size`; inf where only one is nan."""
    kind = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        size = exact if size is None else size
        exponent = np.maximum(np.frexp(np.where(np.isfinite(size), size, 1))[1] - 1, kind.minexp)
        limit = np.ldexp(exact.dtype.type(1), int(kind.maxexp))  # stands for an overflow
        a, b = (np.clip(v.astype(exact.dtype), -limit, limit) for v in (got, exact))
        error = np.ldexp(np.abs(a - b), kind.nmant - exponent)
    return np.where(same & ~np.isfinite(got), 0, np.where(np.isnan(error), np.inf, error))


def worst(apply: Callable[..., Array], reference: Callable[..., Array], *arrays: Array) -> tuple[float, tuple[float, ...]]:
    """The largest error and where it is; the reference works in the next wider type."""
    wide = np.float64 if arrays[0].dtype == np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        error = ulps(apply(*arrays), reference(*[a.astype(wide) for a in arrays]))
    place = int(np.argmax(error))
    return float(error[place]), tuple(float(a[place]) for a in arrays)


@functools.cache
def patterns(bits: int, count: int) -> Array:
    """Numbers all over the type: every n-th bit pattern of float32, random ones of float64."""
    if bits == 32:
        return np.arange(0, 2**32, 2**32 // count | 1, dtype=np.int64).astype(np.uint32).view(np.float32)
    return RANDOM.integers(0, 2**64, count, dtype=np.uint64).view(np.float64)


class Row(NamedTuple):
    """One function: its reference, where float64 is worth a close look, results to be met exactly, and where it is tested."""

    reference: Callable[..., Array]
    dense: list[tuple[float, float]]
    exact: list[tuple[float, float]]
    domain: tuple[float, float] = (-INF, INF)
    count: int = 300_000  # numbers tested in float64
    extra: tuple[Any, ...] = ()  # further Python arguments


def with_mpmath(fast: Callable[[Array], Array], function: Callable[[Any], Any]) -> Callable[[Array], Array]:
    """`fast` in float64; in longdouble, where SciPy has no such function, `function` of mpmath's numbers, one by one."""

    def reference(x: Array) -> Array:
        if x.dtype == np.float64:
            return fast(x)
        values = []
        with mpmath.workprec(160):
            for v in x:
                v = float(v)
                try:
                    exact = function(mpmath.mpf(v)) if math.isfinite(v) else mpmath.mpf(float(fast(v)))
                except ValueError:  # a pole
                    exact = mpmath.mpf(float(fast(v)))
                high = float(exact)
                values.append(np.longdouble(high) + (np.longdouble(float(exact - high)) if math.isfinite(high) else 0))
        return np.array(values)

    return reference


def clip(x: Any) -> Any:
    """Beyond that, mpmath's erfc fails."""
    return max(min(x, 60), -60)


def gelu(x: Array) -> Array:
    return np.where(x < -50, -0.0, x / 2 * scipy.special.erfc(-np.maximum(x, -50) / np.sqrt(2)))


def xlogx(x: Array) -> Array:
    return np.where(x == 0, 0, x * np.log(x))


ROWS = {
    "exp": Row(
        np.exp,
        [(-746, 710), (-1, 1), (-1e-3, 1e-3)],
        [(0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (1e9, INF), (-1e9, 0), (1e38, INF), (-1e38, 0)],
    ),
    "exp_closely": Row(np.exp, [(-746, 0), (-1, 0), (-1e-3, 0)], [(0, 1), (-0.0, 1), (-INF, 0), (-1e9, 0), (-1e38, 0)], (-INF, 0)),
    "exp2": Row(
        np.exp2,
        [(-1076, 1025), (-1, 1), (-1e-3, 1e-3)],
        [(0, 1), (1, 2), (-3, 1 / 8), (-126, 2.0**-126), (INF, INF), (-INF, 0), (1e38, INF), (-1e38, 0)],
    ),
    "log": Row(
        np.log,
        [(0.5, 2), (0.99, 1.01), (0, 1e5)],
        [(1, 0), (0, -INF), (-0.0, -INF), (INF, INF), (-1, NAN), (-INF, NAN), (-1e-40, NAN)],
    ),
    "log2": Row(
        np.log2,
        [(0.5, 2), (0.99, 1.01), (0, 1e5)],
        [(1, 0), (8, 3), (0.25, -2), (0, -INF), (-0.0, -INF), (INF, INF), (-1, NAN), (-INF, NAN)],
    ),
    "sin": Row(
        np.sin,
        [(-4, 4), (-1e5, 1e5), (-1e9, 1e9)],
        [(0, 0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (1e-30, 1e-30)],
    ),
    "cos": Row(
        np.cos,
        [(-4, 4), (-1e5, 1e5), (-1e9, 1e9)],
        [(0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN), (1e-30, 1)],
    ),
    "rsqrt": Row(
        lambda x: 1 / np.sqrt(x),
        [(0, 4), (0, 1e5)],
        [(1, 1), (4, 0.5), (0, INF), (-0.0, -INF), (INF, 0), (-1, NAN), (-INF, NAN)],
    ),
    "tan": Row(np.tan, [(-4, 4), (-1e5, 1e5), (-1e9, 1e9)], [(0, 0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (1e-30, 1e-30)]),
    "sinxdivx": Row(
        lambda x: np.where(x == 0, 1, np.sin(x) / x), [(-9, 9), (-1e5, 1e5)], [(0, 1), (-0.0, 1), (1e-30, 1), (INF, NAN), (-INF, NAN)]
    ),
    "asin": Row(np.arcsin, [(-1, 1), (0.99, 1)], [(0, 0), (-0.0, -0.0), (1, math.pi / 2), (-1, -math.pi / 2), (2, NAN), (-INF, NAN)]),
    "acos": Row(np.arccos, [(-1, 1), (0.99, 1)], [(1, 0), (-1, math.pi), (0, math.pi / 2), (1.5, NAN), (-1.5, NAN), (INF, NAN)]),
    "atan": Row(
        np.arctan, [(-1, 1), (-9, 9)], [(0, 0), (-0.0, -0.0), (INF, math.pi / 2), (-INF, -math.pi / 2), (1, math.pi / 4), (1e-30, 1e-30)]
    ),
    "sinh": Row(np.sinh, [(-1, 1), (-9, 9), (-711, 711)], [(0, 0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (1e30, INF), (-1e30, -INF)]),
    "cosh": Row(np.cosh, [(-1, 1), (-9, 9), (-711, 711)], [(0, 1), (-0.0, 1), (INF, INF), (-INF, INF), (1e30, INF), (-1e30, INF)]),
    "tanh": Row(np.tanh, [(-1, 1), (-20, 20)], [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (1e30, 1), (-1e30, -1)]),
    "expm1": Row(np.expm1, [(-1, 1), (-40, 40), (0, 710)], [(0, 0), (-0.0, -0.0), (INF, INF), (-INF, -1), (1e30, INF), (-1e30, -1)]),
    "log1p": Row(
        np.log1p, [(-1, 1), (-1e-3, 1e-3), (0, 1e5)], [(0, 0), (-0.0, -0.0), (1e-30, 1e-30), (-1, -INF), (-2, NAN), (INF, INF), (-INF, NAN)]
    ),
    "sigmoid": Row(
        lambda x: np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x))),
        [(-1, 1), (-40, 40), (-746, 0)],
        [(0, 0.5), (INF, 1), (-INF, 0), (1e30, 1), (-1e30, 0)],
    ),
    "softplus": Row(
        lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
        [(-1, 1), (-40, 40), (-746, 0)],
        [(INF, INF), (-INF, 0), (1e30, 1e30), (-1e30, 0)],
    ),
    "xlogx": Row(xlogx, [(0, 2), (0.99, 1.01), (0, 1e5)], [(0, 0), (-0.0, 0), (1, 0), (INF, INF), (-1, NAN), (-INF, NAN)]),
    "erf": Row(
        with_mpmath(scipy.special.erf, lambda x: mpmath.erf(clip(x))),
        [(-1, 1), (-6, 6)],
        [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (1e30, 1), (-1e30, -1)],
        count=6000,
    ),
    "erfc": Row(
        with_mpmath(scipy.special.erfc, lambda x: mpmath.erfc(clip(x))),
        [(-1, 1), (-6, 6), (0, 27.3)],
        [(0, 1), (-0.0, 1), (INF, 0), (-INF, 2), (1e30, 0), (-1e30, 2)],
        count=6000,
    ),
    "gelu": Row(
        with_mpmath(gelu, lambda x: x / 2 * mpmath.erfc(-clip(x) / mpmath.sqrt(2))),
        [(-1, 1), (-9, 9), (-39, 0)],
        [(0, 0), (-0.0, -0.0), (INF, INF), (-INF, -0.0), (1e30, 1e30), (-1e30, -0.0)],
        count=6000,
    ),
    "lgamma": Row(
        with_mpmath(scipy.special.gammaln, lambda x: mpmath.re(mpmath.loggamma(x))),
        [(0, 3), (0.99, 1.01), (1.99, 2.01), (3, 9), (9, 1e5)],
        [(1, 0), (2, 0), (0, INF), (-0.0, INF), (-1, INF), (-7, INF), (-1e20, INF), (INF, INF), (-INF, INF)],
        domain=(0, INF),
        count=2000,
    ),
    "digamma": Row(
        with_mpmath(scipy.special.digamma, mpmath.digamma),
        [(0, 3), (1.46, 1.47), (3, 9), (9, 1e5)],
        [(0, -INF), (-0.0, INF), (-1, NAN), (-7, NAN), (-1e20, NAN), (INF, INF), (-INF, NAN)],
        domain=(0, INF),
        count=2000,
    ),
    "polygamma": Row(
        with_mpmath(functools.partial(scipy.special.polygamma, 1), lambda x: mpmath.psi(1, x)),
        [(0, 3), (3, 9), (9, 1e5)],
        [(0, INF), (-0.0, INF), (-1, INF), (-7, INF), (-1e20, INF), (INF, 0), (-INF, NAN)],
        domain=(0, INF),
        count=2000,
        extra=(1,),
    ),
}


# A method that gives several values is tested by each: "name/k" is the k-th.
ROWS |= {"sine_and_cosine/0": ROWS["sin"], "sine_and_cosine/1": ROWS["cos"]}


def inverse(a: Array, b: Array) -> Array:
    return np.where(np.isinf(a) | np.isinf(b), 0, a / (a * a + b * b))


def point(a: Array, b: Array) -> Array:
    z = np.empty(a.shape, np.result_type(a, np.complex64))
    z.real, z.imag = a, b
    return z


PAIRS = {
    "atan2": np.arctan2,
    "hypot": np.hypot,
    "logaddexp": np.logaddexp,
    "inverse/0": inverse,
    "inverse/1": lambda a, b: inverse(b, a),
    "log_hypot": lambda a, b: np.where(np.isinf(a) | np.isinf(b), INF, np.log(point(a, b)).real),
    "root/0": lambda a, b: np.sqrt(point(a, b)).real,
    "root/1": lambda a, b: np.sqrt(point(a, b)).imag,
}


def bound(name: str, bits: int) -> float:
    return BOUNDS[name.split("/")[0]][bits == 64]


@TARGET
@pytest.mark.parametrize("name", ROWS)
def test_bound_over_the_whole_type(name: str, bits: int, width: int, kind: str) -> None:
    row = ROWS[name]
    # Scalars are slow, and run the same instructions as the vectors of the common path.
    count = (6_000_000 if bits == 32 else row.count) // (10 if width == 1 else 1)
    x = patterns(bits, count)
    if bits == 64:
        x = np.concatenate([x, *(RANDOM.uniform(low, high, count // 4) for low, high in row.dense)])
    with np.errstate(invalid="ignore"):
        x = x[~((x < row.domain[0]) | (x > row.domain[1]))]
    error, where = worst(compiled(bits, width, kind, name, 1, *row.extra), row.reference, x)
    assert error <= bound(name, bits), where


@TARGET
@pytest.mark.parametrize("name", ROWS)
def test_special_values(name: str, bits: int, width: int, kind: str) -> None:
    x, want = np.array([*ROWS[name].exact, (NAN, NAN)]).astype(f"f{bits // 8}").T
    got = compiled(bits, width, kind, name, 1, *ROWS[name].extra)(x)
    np.testing.assert_array_equal(got, want)
    assert np.array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))


@TARGET
@pytest.mark.parametrize(
    ("name", "meaning"), [("sin", "sin"), ("cos", "cos"), ("tan", "tan"), ("sine_and_cosine/0", "sin"), ("sine_and_cosine/1", "cos")]
)
def test_circular_functions_of_huge_arguments(name: str, meaning: str, bits: int, width: int, kind: str) -> None:
    """Against mpmath, at numbers near multiples of pi/2 too, and with near and far arguments side by side."""
    dtype = np.dtype(f"f{bits // 8}")
    hard = [16367173 * 2.0**72] if bits == 32 else [6381956970095103 * 2.0**797, math.ldexp(5319372648326541, 255)]
    top = 37 if bits == 32 else 307
    x = np.array([*hard, *(-v for v in hard), *10.0 ** RANDOM.uniform(4, top, 300), *np.arange(1, 99) * math.pi / 2, 2.0**17, 2.0**22])
    x = x.astype(dtype)
    x = np.concatenate([x, RANDOM.permutation(x)])
    with mpmath.workprec(1300):
        values = [getattr(mpmath, meaning)(mpmath.mpf(float(v))) for v in x]
        # longdouble, from two halves
        exact = np.array([np.longdouble(float(v)) + np.longdouble(float(v - mpmath.mpf(float(v)))) for v in values])
    error = ulps(compiled(bits, width, kind, name)(x), exact)
    assert error.max() <= bound(name, bits), x[np.argmax(error)]


@TARGET
@pytest.mark.parametrize("name", ["sin", "cos", "sine_and_cosine/0", "sine_and_cosine/1"])
def test_circular_functions_stay_within_one(name: str, bits: int, width: int, kind: str) -> None:
    x = np.concatenate(
        [np.linspace(-4, 4, 200_000), np.linspace(-1e-3, 1e-3, 50_000) + (math.pi / 2 if name in ("sin", "sine_and_cosine/0") else 0)]
    )
    assert np.abs(compiled(bits, width, kind, name)(x)).max() <= 1


@TARGET
@pytest.mark.parametrize("name", ["exp", "exp2"])
def test_nonpositive_promise(name: str, bits: int, width: int, kind: str) -> None:
    x = -np.concatenate([RANDOM.uniform(0, 1200, 20_000), [0.0, INF, NAN, 1e38, 1e-38]]).astype(f"f{bits // 8}")
    plain, promised = compiled(bits, width, kind, name), compiled(bits, width, kind, name, 1, True)
    np.testing.assert_array_equal(plain(x), promised(x))


@TARGET
def test_fast_exponentials(bits: int, width: int, kind: str) -> None:
    dtype = np.dtype(f"f{bits // 8}")
    x = np.concatenate([RANDOM.uniform(-80, 80, 50_000), [0.0, 1.0]]).astype(dtype)
    assert worst(compiled(bits, width, kind, "exp2_fast"), np.exp2, x)[0] <= 2.5
    assert worst(compiled(bits, width, kind, "exp2_middling"), np.exp2, x)[0] <= 2.0
    assert worst(compiled(bits, width, kind, "exp2_or_zero"), np.exp2, x)[0] <= 2.5
    wide = np.longdouble if bits == 64 else np.float64
    error = ulps(compiled(bits, width, kind, "exp_fast")(x), np.exp(x.astype(wide)))
    assert np.all(error <= 1.25 * np.abs(x) + 3)
    below = -np.abs(x)
    error = ulps(compiled(bits, width, kind, "exp", 1, True, True)(below), np.exp(below.astype(wide)))  # of rounded numbers
    assert np.all(error <= 0.25 * np.abs(x) + 2)
    ends = np.array([0, INF, -INF, NAN])
    lowest = -126.0 if bits == 32 else -1022.0
    found = compiled(bits, width, kind, "exp2_or_zero")(np.array([lowest, np.nextafter(dtype.type(lowest), -INF), -1e30], dtype))
    np.testing.assert_array_equal(found, [2.0**lowest, 0, 0])
    for name in ("exp_fast", "exp2_fast", "exp2_or_zero"):
        np.testing.assert_array_equal(compiled(bits, width, kind, name)(ends), [1, INF, 0, NAN])


@TARGET
@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.parametrize("closely", [True, False])
def test_exponentials_of_what_is_not_positive(closely: bool, rounded: bool, bits: int, width: int, kind: str) -> None:
    """0 where the result would be subnormal, of all numbers down to -infinity."""
    dtype, lowest = np.dtype(f"f{bits // 8}"), SMALLEST_EXPONENT[bits]
    x = np.concatenate([RANDOM.uniform(lowest, 0, 50_000), RANDOM.uniform(-1e-2, 0, 20_000), [lowest, 0.0, -0.0]]).astype(dtype)
    x = x[x >= lowest]
    name, arguments = ("exp_or_zero_closely", (rounded,)) if closely else ("exp", (True, rounded, False))
    exponential = compiled(bits, width, kind, name, 1, *arguments)
    error = ulps(exponential(x), np.exp(x.astype(np.longdouble if bits == 64 else np.float64)))
    most = (1.12 if closely else 2.0) + (0.25 * np.abs(x) if rounded else 0)
    assert np.all(error <= most), x[np.argmax(error - most)]
    far = np.concatenate([np.nextafter(dtype.type(lowest), -INF)[None], -(10.0 ** RANDOM.uniform(3.1, 37, 1000)), [-INF, NAN]])
    np.testing.assert_array_equal(exponential(far), [*[0.0] * 1002, NAN])


@TARGET
def test_pow_bound(bits: int, width: int, kind: str) -> None:
    dtype = np.dtype(f"f{bits // 8}")
    top, count = (88, 30_000) if bits == 32 else (709, 30_000)
    base = np.exp(np.concatenate([RANDOM.uniform(-top, top, count), RANDOM.uniform(-0.7, 0.7, count)])).astype(dtype)
    with np.errstate(all="ignore"):  # exponents that make the result fill the type, subnormal numbers included
        exponent = (RANDOM.uniform(-1.06 * top, 1.02 * top, 2 * count) / np.log(base.astype(np.longdouble))).astype(dtype)
    exponent[::4] = np.rint(exponent[::4])
    base[::4] *= RANDOM.choice(np.array([-1, 1], dtype), len(base[::4]))
    base[:200] *= dtype.type(np.finfo(dtype).smallest_normal) ** dtype.type(0.5)
    error, where = worst(compiled(bits, width, kind, "pow", 2), lambda a, b: np.power(a.astype(np.longdouble), b), base, exponent)
    assert error <= BOUNDS["pow"][bits == 64], where


@TARGET
def test_pow_special_values(bits: int, width: int, kind: str) -> None:
    values = [0.0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, -3, INF, -INF, NAN, 2.5, -2.5, 1e30, -1e30, 7]
    a, b = (v.ravel().astype(f"f{bits // 8}") for v in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        want = np.power(a, b)
    got = compiled(bits, width, kind, "pow", 2)(a, b)
    np.testing.assert_allclose(got, want, rtol=4 * np.finfo(got.dtype).eps)
    zero = want == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@TARGET
@pytest.mark.parametrize("name", PAIRS)
def test_bound_of_two_operands(name: str, bits: int, width: int, kind: str) -> None:
    dtype, count = np.dtype(f"f{bits // 8}"), 200_000 if width > 1 else 20_000
    some = [*(RANDOM.normal(0, scale, count) for scale in (1, 1, 30)), *np.split(patterns(bits, 7 * count)[: 2 * count], 2)]
    a, b = (np.concatenate([RANDOM.permutation(v) for v in RANDOM.permutation(some)]).astype(dtype) for _ in range(2))
    with np.errstate(invalid="ignore"):
        b[::5] = a[::5] * dtype.type(1.0001)
    angle, radius = RANDOM.uniform(0, 7, count), 1 + 10.0 ** RANDOM.uniform(-9, 0, count) * RANDOM.choice([-1, 1], count)
    a, b = (np.concatenate([v, (radius * f(angle)).astype(dtype)]) for v, f in ((a, np.cos), (b, np.sin)))  # near the circle too
    wide = np.float64 if bits == 32 else np.longdouble
    with np.errstate(all="ignore"):
        exact = PAIRS[name](a.astype(wide), b.astype(wide))
        greater = np.maximum(a, b).astype(wide)  # it and the rest may cancel
        unit = np.maximum(np.abs(exact), np.maximum(np.abs(greater), exact - greater)) if name == "logaddexp" else exact
        if name == "log_hypot":
            unit = np.maximum(np.abs(exact), np.minimum(np.abs(a), np.abs(b)).astype(wide) ** 2)
    error = ulps(compiled(bits, width, kind, name, 2)(a, b), exact, unit)
    assert error.max() <= bound(name, bits), (error.max(), a[np.argmax(error)], b[np.argmax(error)])


@TARGET
@pytest.mark.parametrize("name", [*PAIRS, "mod"])
def test_special_values_of_two_operands(name: str, bits: int, width: int, kind: str) -> None:
    tiny, huge = float(np.finfo(f"f{bits // 8}").smallest_subnormal), float(np.finfo(f"f{bits // 8}").max)
    values = [0.0, -0.0, 1, -1, 2, -2.5, 7, INF, -INF, NAN, tiny, -tiny, huge, -huge]
    a, b = (v.ravel().astype(f"f{bits // 8}") for v in np.meshgrid(values, values))
    wide = np.float64 if bits == 32 else np.longdouble
    with np.errstate(all="ignore"):
        want = np.mod(a, b) if name == "mod" else PAIRS[name](a.astype(wide), b.astype(wide)).astype(a.dtype)
        if name == "mod":
            want = np.where(np.isfinite(want) & (np.abs(a / b) >= 2 / np.finfo(a.dtype).eps), np.copysign(0, b), want)
    got = compiled(bits, width, kind, name, 2)(a, b)
    np.testing.assert_allclose(got, want, rtol=4 * np.finfo(got.dtype).eps, atol=2 * tiny)
    zero = want == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@TARGET
def test_mod_is_exact(bits: int, width: int, kind: str) -> None:
    dtype = np.dtype(f"f{bits // 8}")
    a = np.concatenate([RANDOM.normal(0, 10.0 ** RANDOM.uniform(-5, 6, 20_000)), RANDOM.integers(-99, 99, 5_000)]).astype(dtype)
    b = np.concatenate([RANDOM.normal(0, 1, 20_000), RANDOM.integers(1, 9, 5_000) / 8]).astype(dtype)
    b[:2000] = a[:2000] / RANDOM.integers(1, 50, 2000).astype(dtype)
    got, close = compiled(bits, width, kind, "mod", 2)(a, b), np.abs(a / b) < 1 / np.finfo(dtype).eps
    np.testing.assert_array_equal(got[close], np.mod(a, b)[close])
    assert np.all(np.abs(got) <= np.abs(b))


@TARGET
@pytest.mark.parametrize("decimals", [-2, -1, 0, 1, 3])
def test_round_decimals(decimals: int, bits: int, width: int, kind: str) -> None:
    x = np.concatenate([RANDOM.normal(0, 300, 3_000), np.arange(-50, 50) / 2, np.arange(-500, 500, 5), [0.0, -0.0, INF, -INF, NAN, 1e30]])
    x = x.astype(f"f{bits // 8}")
    got, want = compiled(bits, width, kind, "round_decimals", 1, decimals)(x), np.round(x, decimals)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))


@TARGET
@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_gamma_functions_of_negative_numbers(name: str, bits: int, width: int, kind: str) -> None:
    """Where the reflection cancels, the error is that of its terms."""
    x = np.concatenate([RANDOM.uniform(-9, 0, 1500), RANDOM.uniform(-300, 0, 500), [-1e-5, -1e-30, -0.1, -0.2]]).astype(f"f{bits // 8}")
    exact = ROWS[name].reference(x.astype(np.longdouble))
    with np.errstate(all="ignore"):
        term = np.log(np.pi / np.abs(x * np.sin(np.pi * x))) if name == "lgamma" else np.pi / np.tan(np.pi * x) - 1 / x
    size = np.maximum(np.abs(exact), np.maximum(np.abs(term), np.abs(exact - term)))
    error = ulps(compiled(bits, width, kind, name)(x), exact, size)
    assert error.max() <= 9, x[np.argmax(error)]


@TARGET
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_polygamma_of_any_order(n: int, bits: int, width: int, kind: str) -> None:
    """Above 0 to a few ulp; below, the error is that of the two terms, which cancel where n is even."""
    negative = np.concatenate([RANDOM.uniform(-9, 0, 300), [-1e-5, -0.1, -0.5, -2.5]])
    x = np.concatenate([RANDOM.uniform(0, 4, 300), RANDOM.uniform(0, 300, 100), negative]).astype(f"f{bits // 8}")
    with mpmath.workprec(160):
        exact = [mpmath.psi(n, mpmath.mpf(float(v))) for v in x]
        sizes = [float(abs(e) + 2 * abs(mpmath.psi(n, 1 + abs(mpmath.mpf(float(v)))))) for e, v in zip(exact, x, strict=True)]
        wide = np.array([np.longdouble(float(e)) + np.longdouble(float(e - float(e))) for e in exact])
    got = compiled(bits, width, kind, "polygamma", 1, n)(x)
    above = x > 0
    assert ulps(got[above], wide[above]).max() <= 4 + 2 * n
    assert ulps(got[~above], wide[~above], np.array(sizes)[~above]).max() <= 16 + 8 * n


@TARGET
def test_softmin(bits: int, width: int, kind: str) -> None:
    a, b, c = (RANDOM.normal(0, 3, 4000).astype(f"f{bits // 8}") for _ in range(3))
    scale = RANDOM.uniform(0.1, 2, 4000).astype(a.dtype)
    x, y, z, s = (v.astype(np.longdouble) for v in (a, b, c, scale))
    exact = -s * np.logaddexp(np.logaddexp(-x / s, -y / s), -z / s)
    largest = np.maximum(np.maximum(np.abs(x), np.abs(y)), np.maximum(np.abs(z), s * np.log(3)))
    assert ulps(compiled(bits, width, kind, "softmin", 4)(a, b, c, scale), exact, largest).max() <= 4


@TARGET
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 7, 10, -1, -2, -5])
def test_powi(n: int, bits: int, width: int, kind: str) -> None:
    x = np.concatenate([RANDOM.uniform(-5, 5, 5_000), [0.0, 1.0, -1.0]]).astype(f"f{bits // 8}")
    error, where = worst(compiled(bits, width, kind, "powi", 1, n), lambda a: a.astype(np.longdouble) ** n, x)
    assert error <= 1 + abs(n), where
    with np.errstate(all="ignore"):
        ends = np.array([0, -0.0, INF, -INF, NAN], x.dtype)
        np.testing.assert_array_equal(compiled(bits, width, kind, "powi", 1, n)(ends), np.power(ends, n, dtype=x.dtype))


@TARGET
def test_pieces(bits: int, width: int, kind: str) -> None:
    x = np.concatenate([RANDOM.normal(0, 2, 999), [0.0, -0.0, INF, -INF, NAN, 1e-40]]).astype(f"f{bits // 8}")
    for name, reference in (("sign", np.sign), ("step", lambda v: np.heaviside(v, 1)), ("relu", lambda v: np.maximum(v, 0))):
        np.testing.assert_array_equal(compiled(bits, width, kind, name)(x), reference(x))
    low, high = np.full_like(x, -1), np.full_like(x, 0.5)
    low[5], high[7] = NAN, NAN
    np.testing.assert_array_equal(compiled(bits, width, kind, "clamp", 3)(x, low, high), np.clip(x, low, high))


@pytest.mark.skipif(not {"avx512f", "avx512dq"} <= FEATURES, reason="counts AVX-512 instructions")
@pytest.mark.parametrize(("name", "count"), [("exp", 11), ("exp2", 8), ("exp2_fast", 7), ("exp_fast", 8)])
def test_instructions_of_the_exponentials(name: str, count: int) -> None:
    """Of the loop in `compiled`, without loads, stores and copies between registers."""
    loop = compiled(32, 16, "host", name).assembly.split("\tjl\t")[0].rsplit(":\n", 1)[1]  # type: ignore[attr-defined]
    # Processors differ by a copy or a mask; some first write 0 where an instruction would else wait for what was there.
    used = [op for op in re.findall(r"^\t(v\w+)", loop, re.M) if not op.startswith(("vmov", "vpxor", "vxorps"))]
    assert abs(len(used) - count) <= 1, used
