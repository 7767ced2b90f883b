"""Every reduction against its NumPy meaning in float64, at the edges of tiles, blocks and splits."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from pairfold import Vi, Vj
from pairfold.formula.graph import Node, apply, const, var
from pairfold.reductions import REDUCTIONS, KminArgKmin, Reduction
from tests.helpers import FLOATS, compute, dense, eps, expected

SIZES = [1, 2, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000]
NAMES = list(REDUCTIONS)
SINGLE = [n for n in NAMES if REDUCTIONS[n].formulas == 1]
WEIGHTED = [n for n in NAMES if REDUCTIONS[n].formulas == 2]


def make(name: str, K: int = 3) -> Reduction:  # noqa: N803
    kind = REDUCTIONS[name]
    return kind(K) if issubclass(kind, KminArgKmin) else kind()


def product(dim: int) -> Node:
    return var("i", 0, dim) * var("j", 1, dim)


def distance(dim: int) -> Node:
    return apply("sqdist", var("i", 0, dim), var("j", 1, dim))


def gauss(dim: int) -> Node:
    return apply("exp", -distance(dim))


def with_weight(name: str, formula: Node, dim: int = 1) -> tuple[Node, ...]:
    return (formula, var("j", 2, dim) + 0.5) if REDUCTIONS[name].formulas == 2 else (formula,)


def integers(random, *shape):
    """Many ties, and no rounding in sums and products of them."""
    return random.integers(-2, 3, shape).astype(np.float64)


def normal(random, *shape):
    return random.normal(size=shape) * 0.7


def extreme(random, *shape):
    values = integers(random, *shape)
    return np.where(random.random(shape) < 0.02, random.choice([np.nan, np.inf, -np.inf], size=shape), values)


def check(name: str, found, wanted, values: np.ndarray, dtype, exact: bool) -> None:
    """`values` are the dense ones, reduced along axis 1; exact where the kernel's values have no rounding errors."""
    kinds = REDUCTIONS[name].results
    for got, want, kind in zip(found, wanted, kinds, strict=False):
        assert got.shape == want.shape
        assert got.dtype == (np.int64 if kind == "index" else dtype)
        if kind == "index":
            if exact:
                np.testing.assert_array_equal(got, want)
            else:  # as good a choice, as far as rounding lets one see
                chosen, best = (np.take_along_axis(values, k[:, None] if k.ndim == 2 else k, 1) for k in (got, want))
                np.testing.assert_allclose(chosen, best, rtol=50 * eps(dtype), atol=50 * eps(dtype))
            continue
        with np.errstate(over="ignore"):
            want = want.astype(dtype)
        special = ~np.isfinite(want)
        np.testing.assert_array_equal(got[special], want[special])
        if exact and REDUCTIONS[name].selects:
            np.testing.assert_array_equal(got, want)
        else:
            finite = np.where(np.isfinite(values), np.abs(values), 0)
            largest = finite.max(1)[:, None] if name.startswith("Kmin") else finite.max(1)
            scale = finite.sum(1) if name == "sum" else largest + np.abs(np.nan_to_num(want, posinf=0, neginf=0))
            if name == "prod":
                scale = np.abs(want) * values.shape[1] ** 0.5 + np.finfo(dtype).tiny
            error = np.abs(got[~special].astype(np.float64) - want[~special])
            bound = np.broadcast_to(60 * eps(dtype) * (scale + 1e-30), want.shape)[~special]
            assert np.all(error <= bound), f"{name}: {np.max(error / bound)} times the bound"


def run(name, formulas, data, axis, dtype, exact, K=3, pair=None):  # noqa: N803
    rows, columns = pair or (len(data[0]), len(data[1]))
    reduction = make(name, min(K, columns if axis == 1 else rows))
    if name == "prod":  # factors whose product neither overflows nor vanishes
        formulas = (apply("sign", formulas[0]) if exact else formulas[0] * 1e-3 + 1,)
    with np.errstate(over="ignore"):
        given = [d.astype(dtype) for d in data]
    values = dense(formulas[0], given, pair)
    found = compute(formulas, reduction, axis, given, pair)
    wanted = expected(formulas, reduction, axis, given, pair)
    check(name, found, wanted, values if axis == 1 else values.swapaxes(0, 1), dtype, exact)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NAMES)
def test_sizes(name, dtype, random):
    """All pairs of sizes at the edges of vectors, blocks and tiles, on data with ties."""
    x, y, w = integers(random, 1000, 2), integers(random, 1000, 2), integers(random, 1000, 1)
    for rows in SIZES:
        for columns in SIZES:
            run(name, with_weight(name, distance(2)), [x[:rows], y[:columns], w[:columns]], 1, dtype, True)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", [normal, integers, extreme], ids=lambda f: f.__name__)
def test_data(name, dtype, axis, data, random):
    for rows, columns in ((1, 7), (33, 70), (300, 19)):
        values = data(random, rows, 3), data(random, columns, 3), normal(random, columns, 1)
        run(name, with_weight(name, product(3)), values, axis, dtype, data is not normal)
        run(name, with_weight(name, distance(3)), values, axis, dtype, data is not normal)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NAMES)
def test_columns_are_split(name, dtype, random):
    """Few rows and many columns: the columns are split, and ties are spread over all splits."""
    for data in (integers, normal, extreme):
        x, y, w = data(random, 3, 2), data(random, 20000, 2), normal(random, 20000, 1)
        formula = with_weight(name, distance(2))
        run(name, formula, [x, y, w], 1, dtype, data is not normal, 10)
        run(name, formula, [y, x, normal(random, 3, 1)], 1, dtype, data is not normal, 2)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("dim", [9, 33, 100])
@pytest.mark.parametrize("name", NAMES)
def test_long_inner_dimensions(name, dim, dtype, random):
    for data in (integers, normal):
        x, y, w = data(random, 70, dim), data(random, 131, dim), normal(random, 131, 1)
        scale = const(1 / 64)
        run(name, with_weight(name, distance(dim) * scale), [x, y, w], 1, dtype, data is integers)
        run(name, with_weight(name, apply("dot", var("i", 0, dim), var("j", 1, dim)) * scale), [x, y, w], 0, dtype, data is integers)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("dim", [5, 40, 100])
@pytest.mark.parametrize("name", SINGLE)
def test_vectors(name, dim, dtype, random):
    for data in (integers, normal, extreme):
        x, y = data(random, 37, dim), data(random, 261, dim)
        run(name, (product(dim),), [x, y], 1, dtype, data is not normal)


@pytest.mark.parametrize(
    ("first", "second", "dtype"),
    [(1, 5, "float32"), (1, 40, "float64"), (5, 5, "float64"), (40, 40, "float32"), (5, 1, "float32"), (40, 1, "float64")],
)
@pytest.mark.parametrize("name", WEIGHTED)
def test_weighted_vectors(name, first, second, dtype, random):
    x, y, w = normal(random, 37, first), normal(random, 261, first), normal(random, 261, second) ** 2
    for axis in (0, 1):
        run(name, with_weight(name, product(first), second), [x, y, w], axis, dtype, False)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("K", [1, 2, 5, 10, 40])
@pytest.mark.parametrize("name", ["Kmin", "argKmin", "Kmin_argKmin"])
def test_nearest(name, K, dtype, random):  # noqa: N803
    for data in (integers, normal, extreme):
        for rows, columns in ((50, K), (50, K + 1), (50, 300), (2, 9000)):
            values = data(random, rows, 3), data(random, columns, 3)
            run(name, (distance(3),), values, 1, dtype, data is not normal, K)
            if columns <= 300:
                run(name, (distance(3),), values[::-1], 0, dtype, data is not normal, K)


@pytest.mark.parametrize("K", [1, 3, 12])
@pytest.mark.parametrize("dim", [2, 9])
def test_nearest_of_vectors(K, dim, random):  # noqa: N803
    x, y = integers(random, 20, dim), integers(random, 5000, dim)
    run("Kmin_argKmin", (product(dim),), [x, y], 1, "float32", True, K)
    run("Kmin_argKmin", (product(dim),), [extreme(random, 20, dim), y[:40]], 1, "float32", True, K)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "formula",
    [var("i", 0, 2), var("j", 1, 2), var("p", 2, 2), const(0.25), var("p", 2, 2) + var("i", 0, 2), apply("exp", var("j", 1, 2))],
    ids=str,
)
def test_formulas_of_one_axis(name, formula, axis, random):
    data = [integers(random, 13, 2), integers(random, 21, 2), integers(random, 2)]
    formulas = (formula, var("j", 1, 2)) if REDUCTIONS[name].formulas == 2 else (formula,)
    run(name, formulas, data, axis, "float64", formula.op.name != "exp", pair=(13, 21))


# ---- nan and infinity, alone in a place

PLACES = [0, 1, 15, 16, 255, 256, 299]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_one_special_value(name, value, dtype, random):
    for place in PLACES:
        x, y, w = np.ones((3, 1)), normal(random, 300, 1), normal(random, 300, 1) ** 2 + 0.1
        y[place] = value
        run(name, with_weight(name, product(1)), [x, y, w], 1, dtype, name not in ("sum", "prod"))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e38, -1e38, 1e-42], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_one_value(name, value, dtype):
    for columns in (1, 5, 300, 9000):
        data = [np.ones((3, 1)), np.full((columns, 1), value), np.full((columns, 1), 0.5)]
        if name == "sum" and abs(value) > 1:
            continue  # beyond float32
        run(name, with_weight(name, product(1)), data, 1, dtype, True, 1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("offset", [-1e4, -200.0, 200.0, 1e4])
@pytest.mark.parametrize("name", ["logsumexp", "logsumexp_weight", "sumsoftmaxweight"])
def test_exponentials_do_not_overflow(name, offset, dtype, random):
    y = np.linspace(-5, 5, 700)[:, None] + offset
    run(name, with_weight(name, product(1)), [np.ones((5, 1)), y, normal(random, 700, 1) ** 2], 1, dtype, False)


def test_rising_and_falling_maxima():
    for y in (np.linspace(-300, 300, 5000), np.linspace(300, -300, 5000)):
        run("logsumexp", (product(1),), [np.ones((5, 1)), y[:, None]], 1, "float32", False)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("special", [[], [np.inf], [np.inf, -np.inf], [np.nan]], ids=str)
@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_products(zeros, special, dtype, random):
    y = 1 + normal(random, 300, 1) / 100
    y[[17, 211][:zeros]] = 0
    y[[5, 288][: len(special)], 0] = special
    (found,) = compute((product(1),), make("prod"), 1, [np.ones((5, 1), dtype), y.astype(dtype)])
    with np.errstate(invalid="ignore"):  # 0 · inf
        wanted = y.prod()
    np.testing.assert_allclose(found, np.full((5, 1), wanted), rtol=300 * eps(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_products_overflow_and_vanish(dtype):
    for value, wanted in ((10.0, np.inf), (0.1, 0.0), (-10.0, np.inf)):
        (found,) = compute((product(1),), make("prod"), 1, [np.ones((2, 1), dtype), np.full((1000, 1), value, dtype)])
        np.testing.assert_array_equal(found, np.full((2, 1), wanted))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("place", [0, 500, 999])
def test_products_with_a_zero_are_zero_where_others_overflow(place, dtype):
    y = np.full((1000, 1), -10.0, dtype)
    y[place] = 0
    for special, wanted in ((1, 0), (np.inf, np.nan), (np.nan, np.nan)):
        y[(place + 7) % 1000] = special
        (found,) = compute((product(1),), make("prod"), 1, [np.ones((2, 1), dtype), y])
        np.testing.assert_array_equal(found, np.full((2, 1), wanted))
    z = y.astype(dtype) * (1 + 1j)
    z[np.isnan(y)] = 1
    assert not (Vi(np.ones(2, dtype)) * Vj(z)).prod(1).any()


# ---- nothing to reduce

IDENTITIES = {"sum": 0, "prod": 1, "min": np.inf, "max": -np.inf, "argmin": -1, "argmax": -1, "min_argmin": (np.inf, -1),
              "max_argmax": (-np.inf, -1), "logsumexp": -np.inf, "logsumexp_weight": -np.inf, "sumsoftmaxweight": np.nan}  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", IDENTITIES)
def test_no_columns(name, dtype):
    formulas = with_weight(name, product(3), 3)
    x, y = np.ones((4, 3), dtype), np.ones((0, 3), dtype)
    wanted = IDENTITIES[name] if isinstance(IDENTITIES[name], tuple) else (IDENTITIES[name],)
    for data, axis in (([x, y, y], 1), ([y, x, x], 0)):
        found = compute(formulas, make(name), axis, data)
        for got, want, kind in zip(found, wanted, REDUCTIONS[name].results, strict=False):
            assert got.dtype == (np.int64 if kind == "index" else dtype)
            np.testing.assert_array_equal(got, np.full((4, 3), want))


@pytest.mark.parametrize("name", NAMES)
def test_no_rows(name):
    formulas = with_weight(name, product(3), 3)
    data = [np.ones((0, 3)), np.ones((4, 3)), np.ones((4, 3))]
    for got in compute(formulas, make(name), 1, data):
        assert got.shape == (0, *make(name).shape([f.dim for f in formulas]))


# ---- accuracy


def test_sums_accumulate_tile_by_tile(random):
    x, y = np.ones((40, 1), np.float32), (random.random((400_000, 1)) + 0.5).astype(np.float32)
    (found,) = compute((product(1),), make("sum"), 1, [x, y])
    np.testing.assert_allclose(found, np.full((40, 1), y.astype(np.float64).sum()), rtol=1e-6)


@functools.cache
def _reduction_values():
    return [make(n) for n in NAMES]


def test_reductions_are_values():
    assert _reduction_values() == [make(n) for n in NAMES]
    assert len({*_reduction_values(), *(make(n) for n in NAMES)}) == len(NAMES)
    assert make("Kmin", 2) != make("Kmin", 3)
