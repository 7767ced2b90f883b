"""Arrays of every type: half precision is stored and not computed with, types are promoted as the framework does, integers stay exact."""

from __future__ import annotations

import numpy as np
import pytest

from pairfold import LazyTensor, Pm, Vi, Vj, where
from pairfold.arrays.base import FLOATS, INTEGERS

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(11)


def numpy_data(dtype, shape, rng):
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype in INTEGERS:
        return rng.integers(0 if dtype.startswith("u") else -9, 10, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("a", [d for d in (*FLOATS, *INTEGERS, "bool") if d != "bfloat16"])
@pytest.mark.parametrize("b", ["float16", "float32", "float64", "int8", "int64", "bool"])
def test_numpy(a, b):
    rng = np.random.default_rng(1)
    x, y = numpy_data(a, (21, 3), rng), numpy_data(b, (35, 3), rng)
    got = (Vi(x) * Vj(y)).sum(-1).sum(1)
    kept = np.result_type(x, y)
    wanted_type = kept if kept.kind == "f" else np.float64
    assert got.dtype == wanted_type
    want = x.astype("f8") @ y.astype("f8").sum(0)
    scale = (abs(x).astype("f8") @ abs(y).astype("f8").sum(0)).max()
    np.testing.assert_allclose(got, want, atol=2 * np.finfo(wanted_type).eps * scale)


@pytest.mark.parametrize("a", ["float16", "bfloat16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("b", ["float16", "bfloat16", "float32", "float64", "int64"])
def test_torch(a, b):
    rng = np.random.default_rng(2)
    x, y = (torch.tensor(numpy_data("float64" if d in FLOATS else d, (n, 3), rng)).to(getattr(torch, d)) for d, n in ((a, 21), (b, 35)))
    got = (Vi(x) * Vj(y)).sum(-1).sum(1)
    kept = torch.promote_types(x.dtype, y.dtype)
    wanted_type = kept if kept.is_floating_point else torch.get_default_dtype()
    assert got.dtype == wanted_type
    x, y = x.double(), y.double()
    scale = (x.abs() @ y.abs().sum(0)).max()
    torch.testing.assert_close(got.double(), x @ y.sum(0), rtol=0, atol=2 * torch.finfo(wanted_type).eps * float(scale))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_all_halves_there_and_back(dtype):
    """Every pattern of 16 bits, subnormal numbers, infinities and nan included, through a sum over one column."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    x = bits.view(dtype)
    got = (Vi(x) * Vj(torch.ones(1, dtype=dtype))).sum(1)
    assert got.dtype == dtype
    nan = x.isnan()
    assert torch.equal(got.isnan(), nan)
    assert torch.equal(got[~nan], x[~nan])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_results_are_rounded_to_nearest_even(dtype):
    values = torch.cat([torch.tensor(RNG.normal(size=20_000) * 10.0 ** RNG.uniform(-9, 6, 20_000)).float(),
                        torch.tensor([65519.0, 65520.0, 2.0**-25, 2.0**-24 * 1.5, 1 + 2.0**-11, 1 + 3 * 2.0**-11, -0.0])])  # fmt: skip
    high = values.to(dtype)
    low = (values - high.float()).to(dtype)
    ones = torch.ones(1, dtype=dtype)
    got = (Vi(high) + Vi(low) * Vj(ones)).sum(1)
    want = (high.float() + low.float()).to(dtype)
    assert torch.equal(torch.nan_to_num(got), torch.nan_to_num(want))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_in_float32(dtype):
    x, y = (torch.tensor(RNG.random((n, 3))).to(dtype).requires_grad_() for n in (200, 3000))
    a = (-((Vi(x) - Vj(y)) ** 2).sum(-1)).exp().sum(1)
    xd, yd = x.detach().double().requires_grad_(), y.detach().double().requires_grad_()
    want = torch.exp(-((xd[:, None] - yd) ** 2).sum(-1)).sum(1)
    torch.testing.assert_close(a.double(), want, rtol=torch.finfo(dtype).eps, atol=0)
    got = torch.autograd.grad(a.float().log().sum(), (x, y))
    for g, w in zip(got, torch.autograd.grad(want.log().sum(), (xd, yd)), strict=True):
        assert g.dtype == dtype
        torch.testing.assert_close(g.double(), w, rtol=0.02, atol=0.02 * float(w.abs().max()))


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "int64", "uint64"])
def test_labels(kind):
    """Labels of integers, beyond what float32 tells apart where the type reaches there."""
    top = {"int8": 100, "uint8": 250, "int32": 2**31 - 1, "int64": 2**40, "uint64": 2**52}[kind]
    a = (top - RNG.integers(0, 6, 300)).astype(kind)
    b = (top - RNG.integers(0, 6, 400)).astype(kind)
    weights = RNG.random(400).astype("f4")
    same = Vi(a) == Vj(b)
    np.testing.assert_array_equal(same.sum(1), (a[:, None] == b).sum(1))
    np.testing.assert_allclose((same * Vj(weights)).sum(1), ((a[:, None] == b) * weights).sum(1, dtype="f8"), rtol=1e-6)
    got = where(Vi(torch.tensor(a.astype("int64"))) == Vj(torch.tensor(b.astype("int64"))), Vj(torch.tensor(weights)), 0).sum(1)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, ((a[:, None] == b) * weights).sum(1, dtype="f8"), rtol=1e-6)


@pytest.mark.cpu
def test_numbers_beside_arrays_choose_no_type():
    x = np.ones((4, 3), np.float32)
    for number in (2, 0.1, np.float64(0.1), np.array(0.1), True * 1):
        assert (Vi(x) * number).sum(-1).sum(0).dtype == np.float32
    assert (Vi(torch.ones(4, 3)) * torch.tensor(0.1, dtype=torch.float64)).sum(0).dtype == torch.float32
    assert (Vi(x.astype("f2")) * 0.1).sum(0).dtype == np.float16
    np.testing.assert_allclose((Vi(x.astype("f2")) * 0.1 * Vj(np.full(1, 7, "f2"))).sum(1), 0.7 * x, rtol=1e-3)


def test_parameters_of_another_type():
    x = np.ones((4, 3), np.float32)
    assert (Vi(x) * Pm(np.array([1.0, 2, 3]))).sum(0).dtype == np.float64
    assert LazyTensor(x[:, None]).dtype == "float32"
    assert (LazyTensor(x[:, None]) * Vj(np.ones((5, 3), np.float16))).dtype == "float32"


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
def test_unsigned_tensors(dtype):
    torch = pytest.importorskip("torch")
    x = torch.tensor([[1], [2], [300]], dtype=getattr(torch, dtype))
    assert (Vi(x) * Vj(x)).sum(axis=0).tolist() == [[303.0], [606.0], [90900.0]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_conditions_on_integers_give_no_type(dtype):
    x, a = RNG.normal(size=(21, 3)).astype(dtype), RNG.integers(0, 4, 21)
    same = a[:, None] == a
    for given in (lambda z: z, torch.tensor):
        i, j, rows = Vi(given(a)), Vj(given(a)), Vi(given(x))
        hot = np.eye(4, dtype=dtype)[a]
        for found, want in (
            ((i == j) * rows, same[..., None] * x[:, None]),
            (((i < j) | (i == 0)) * rows, ((a[:, None] < a) | (a[:, None] == 0))[..., None] * x[:, None]),
            (where(i > j, rows, 0.5), np.where((a[:, None] > a)[..., None], x[:, None], 0.5)),
            (i.one_hot(4) * Pm(given(x[0, :1])), (hot * x[0, 0])[:, None]),
        ):
            result = found.mean(1)
            assert str(result.dtype).removeprefix("torch.") == dtype
            np.testing.assert_allclose(result, np.asarray(want, "f8").mean(1), rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)
    assert (Vi(a) == Vj(a)).dtype == "bool" and (Vi(a) == Vj(a)).sum(1).dtype == "float64"
    assert (Vi(x) > Vj(x)).sum(1).dtype == dtype  # 1 and 0 of the numbers' own type
    assert where(Vi(a) > 1, Vi(a), 0).dtype == "int64"
    assert where(Vi(x[:, 0].astype("f8")) > 0, Vi(x), 0).sum(1).dtype == "float64"  # it is computed in


def test_labels_that_are_compared_stay_exact():
    x, a = RNG.normal(size=(3, 1)).astype("f4"), 2**24 + np.array([0, 1, 2])
    np.testing.assert_array_equal(((Vi(a) == Vj(a)) * Vj(x)).sum(1), x)
