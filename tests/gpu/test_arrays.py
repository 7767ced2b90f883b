"""NumPy and CuPy arrays on a GPU, types of numbers, options, and what is said where the GPU cannot."""

from __future__ import annotations

import numpy as np
import pytest

import pairfold
from pairfold import LazyTensor, Vi, Vj
from pairfold.arrays import streamed
from pairfold.runtime import cuda
from tests.gpu import sample

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(cuda.count() == 0, reason="there is no GPU")]


def points(n, dim, seed=0, dtype="float32"):
    return np.random.default_rng(seed).random((n, dim)).astype(dtype)


def squares(x, y):
    return ((x[:, None].astype("f8") - y) ** 2).sum(-1)


def lazy(x, y):
    return ((Vi(x) - Vj(y)) ** 2).sum(-1)


@pytest.mark.parametrize("case", sample.CASES, ids=str)
def test_the_sample(case):
    with pairfold.backend("cuda"):
        assert sample.check(*case) >= 6


def test_the_sample_of_batches():
    with pairfold.backend("cuda"):
        assert sample.check_batches()


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "GPU", "GPU_1D"])
def test_numpy(name):
    x, y, b = points(70, 3), points(90, 3, 1), points(90, 2, 2)
    exact = squares(x, y)
    K = (-lazy(x, y)).exp()
    found = K.sum(1, backend=name)
    assert isinstance(found, np.ndarray) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.exp(-exact).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(lazy(x, y).argKmin(3, dim=1, backend=name), np.argsort(exact, 1)[:, :3])
    with pairfold.backend(name):
        np.testing.assert_allclose(K @ b, np.exp(-exact) @ b, rtol=1e-5)
        np.testing.assert_allclose(K.T @ points(70, 1), np.exp(-exact).T @ points(70, 1), rtol=1e-5)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_rows_are_streamed(batch, mask, monkeypatch):
    monkeypatch.setattr(streamed, "MOST_BYTES", 2000)
    rng = np.random.default_rng(4)
    x, y = rng.random((*batch, 301, 1, 3)).astype("f4"), rng.random((*batch, 1, 203, 3)).astype("f4")
    K = (-((LazyTensor(x) - LazyTensor(y)) ** 2).sum(-1)).exp()
    K = K.tril(7) if mask else K
    dense = np.exp(-((x.astype("f8") - y) ** 2).sum(-1)) * (np.tri(301, 203, 7) if mask else 1)
    for axis in (-1, -2):
        found = K.sum(len(batch) + 2 + axis, backend="cuda")
        np.testing.assert_allclose(found, dense.sum(axis), rtol=2e-5)
    if mask:
        index = K.argmax(len(batch) + 1, backend="cuda")
        np.testing.assert_allclose(np.take_along_axis(dense, index[..., None], -1)[..., 0], dense.max(-1), rtol=1e-5)


def test_no_room_for_columns_leaves_the_gpu_usable(monkeypatch):
    from pairfold.runtime.cuda_memory import Memory, OutOfMemory

    with pytest.raises(OutOfMemory, match=r"no room for 1,125,899,906,842,624 bytes .* free"):
        Memory(1 << 50, 0)
    x = points(50, 3)
    np.testing.assert_allclose((-lazy(x, x)).exp().sum(1, backend="cuda"), np.exp(-squares(x, x)).sum(1), rtol=1e-5)


def test_no_such_gpu():
    x = points(5, 3)
    with pytest.raises(cuda.CudaError, match="no GPU of number 63"):
        lazy(x, x).sum(1, backend="cuda:63")
    with pytest.raises(ValueError, match="backend must be"):
        lazy(x, x).sum(1, backend="tpu")


@pytest.mark.parametrize("K", [1, 2, 7, 10, 40, 128, 200])
@pytest.mark.parametrize("columns", [150, 5000])
def test_many_smallest(K, columns):
    x, y = points(65, 3), points(columns, 3, 1)
    exact = np.sort(squares(x, y), 1)[:, :K]
    K = min(K, columns)
    values, index = lazy(x, y).Kmin_argKmin(K, 1, backend="cuda")
    np.testing.assert_allclose(values, exact, rtol=1e-5, atol=1e-7)
    assert all(len(set(row)) == K for row in index)
    np.testing.assert_allclose(np.take_along_axis(squares(x, y), index, 1), exact, rtol=1e-5, atol=1e-7)


def test_fast_math():
    x, y = points(70, 3), points(90, 3, 1)
    K = (-lazy(x, y) * 30).exp()
    exact = np.exp(-30 * squares(x, y))
    fast = K.sum(1, backend="cuda")
    with pairfold.fast_math(False):
        slow = K.sum(1, backend="cuda")
    assert not np.array_equal(fast, slow)
    error = [np.abs(v - exact.sum(1)).max() / exact.sum(1).max() for v in (fast, slow)]
    assert error[0] < 1e-5 and error[1] < 2e-6


def test_fast_math_of_factors_of_the_row(random):
    """nan and infinity go where NumPy sends them, and nothing that is finite overflows on its way."""
    x, z = random.normal(size=(6, 1)).astype("f4"), random.normal(size=(7, 1)).astype("f4")
    w = np.array([np.inf, 1, 0, -2, np.nan, 0.5], "f4")
    K, full = (Vi(x) - Vj(z)).sin() * Vi(w), np.sin(x - z.T).astype("f8") * w[:, None]
    np.testing.assert_allclose(K.sum(1, backend="cuda")[:, 0], full.sum(1), rtol=1e-4)
    met = K.same_label(np.arange(6), np.full(7, 1)).sum(1, backend="cuda")[:, 0]
    np.testing.assert_allclose(met, [0, full[1].sum(), 0, 0, 0, 0], rtol=1e-4)
    large, small = Vj(np.full((7, 1), 3e38, "f4")) + Vi(x), Vi(np.full((6, 1), 1e-5, "f4"))
    np.testing.assert_allclose((large * small).sum(1, backend="cuda"), 7 * 3e33, rtol=1e-5)


def quotients(a, b):
    """a / b of each row, in float32 on a GPU."""
    return (Vi(a) / Vi(b) * Vj(np.ones(1, "f4"))).sum(1, backend="cuda")


def test_fast_math_of_quotients(random):
    special = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-45, -1e-38, 3e38, 2.0**127], "f4")
    a, b = (v.ravel() for v in np.meshgrid(special, special))
    whole, divisor = (random.integers(1, 4000, 5000).astype("f4") for _ in range(2))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(quotients(a, b), a / b)
    np.testing.assert_array_equal(quotients(whole * divisor, divisor), whole)

    def wide(smallest, largest):
        return np.ldexp(1 + random.random(20_000), random.integers(smallest, largest, 20_000)).astype("f4")

    for smallest, largest, tolerance in ((-60, 60, 0.501), (-149, 127, 2)):
        a, b = wide(smallest, largest), wide(smallest, largest)
        exact = a.astype("f8") / b
        normal = (exact < 2.0**127) & (exact > 2.0**-125)
        assert normal.sum() > 9000
        apart = np.abs(quotients(a, b) - exact)[normal] / np.spacing(exact[normal].astype("f4"))
        assert apart.max() <= tolerance


class TestCuPy:
    @pytest.fixture(autouse=True)
    def its_module(self):
        self.cupy = pytest.importorskip("cupy")

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_reductions(self, dtype):
        x, y, b = points(70, 3, 0, dtype), points(90, 3, 1, dtype), points(90, 2, 2, dtype)
        exact = squares(x, y)
        X, Y, B = map(self.cupy.asarray, (x, y, b))
        K = lazy(X, Y)
        tolerance = {"float16": 4e-3, "float32": 1e-5, "float64": 1e-13}[dtype]
        found = (-K).exp() @ B
        assert isinstance(found, self.cupy.ndarray) and found.dtype == np.dtype(dtype)
        np.testing.assert_allclose(found.get(), np.exp(-exact) @ b, rtol=tolerance)
        np.testing.assert_allclose((-K).logsumexp(0).get(), np.logaddexp.reduce(-exact, 0), rtol=tolerance, atol=tolerance)
        np.testing.assert_array_equal(K.argKmin(3, 1).get(), np.argsort(exact, 1, kind="stable")[:, :3])
        np.testing.assert_allclose((-K).exp().tril().sum(1).get(), np.tril(np.exp(-exact)).sum(1), rtol=tolerance)
        np.testing.assert_allclose((-K).exp().mean(1).get(), np.exp(-exact).mean(1), rtol=tolerance)

    def test_views_are_read_in_place(self):
        x, y = points(140, 6), points(90, 3, 1)
        X = self.cupy.asarray(x)[::2, ::-2]
        found = (-lazy(X, self.cupy.asarray(y))).exp().sum(1)
        np.testing.assert_allclose(found.get(), np.exp(-squares(x[::2, ::-2], y)).sum(1), rtol=1e-5)

    def test_on_its_stream(self):
        x, y = points(2000, 3), points(50_000, 3, 1)
        stream = self.cupy.cuda.Stream(non_blocking=True)
        with stream:
            X, Y = self.cupy.asarray(x), self.cupy.asarray(y)
            found = (-lazy(X + 1, Y)).exp().sum(1).get(stream=stream)
        np.testing.assert_allclose(found, np.exp(-squares(x + np.float32(1), y)).sum(1), rtol=2e-5)

    def test_other_frameworks_are_refused(self):
        x = points(5, 3)
        with pytest.raises(TypeError, match="mixes cupy and numpy arrays"):
            lazy(self.cupy.asarray(x), x)

    def test_labels(self):
        x, y = points(60, 3), points(80, 3, 1)
        a, b = np.arange(60) % 4, np.arange(80) % 5
        X, Y = self.cupy.asarray(x), self.cupy.asarray(y)
        found = (-lazy(X, Y)).exp().same_label(a, b).sum(1)
        np.testing.assert_allclose(found.get(), (np.exp(-squares(x, y)) * (a[:, None] == b)).sum(1), rtol=1e-5)


def test_two_gpus():
    if cuda.count() < 2:
        pytest.skip("there is one GPU")
    x, y = points(300, 3), points(400, 3, 1)
    wanted = np.exp(-squares(x, y)).sum(1)
    for number in (0, 1, 0):
        np.testing.assert_allclose((-lazy(x, y)).exp().sum(1, backend=f"cuda:{number}"), wanted, rtol=1e-5)
    torch = pytest.importorskip("torch")
    if torch.cuda.device_count() < 2:
        return
    X = [torch.from_numpy(x).to(f"cuda:{k}").requires_grad_() for k in (0, 1)]
    Y = [torch.from_numpy(y).to(f"cuda:{k}") for k in (0, 1)]
    for k in (1, 0, 1):
        found = (-lazy(X[k], Y[k])).exp().blocks([[0, 300]], [[0, 400]]).sum(1)
        found.sum().backward()
        assert found.device.index == k and X[k].grad.device.index == k
        np.testing.assert_allclose(found.detach().cpu().numpy(), wanted, rtol=1e-5)
    with pytest.raises(TypeError, match="device cuda:0 and cuda:1"):
        lazy(X[0], Y[1])
