"""On an NVIDIA GPU: routes that only large problems take, streams, graphs and devices. The rest of the suite runs there too,
with PAIRFOLD_TEST_DEVICE=cuda."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pairfold import LazyTensor, Vi, Vj

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]


def points(n, dim, scale=1.0, shift=0.0):
    return torch.rand(n, dim, device="cuda") * (2 * scale / math.sqrt(dim)) + shift


def squares(x, y):
    return torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").square()


def lazy(x, y):
    return ((Vi(x) - Vj(y)) ** 2).sum(-1)


def error(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (1, 100), (6, 0), (1, 1e4)])
@pytest.mark.parametrize("dim", [2, 3, 16, 64])
def test_large(dim, scale, shift):
    """Inner products or differences, as the data allow."""
    n = 66_000
    x, y, b = points(n, dim, scale, shift), points(n, dim, scale, shift), torch.randn(n, 1, device="cuda")
    some = torch.arange(0, n, n // 40, device="cuda")
    exact = squares(x[some], y)
    K = lazy(x, y)
    assert error(((-K).exp() @ b)[some], (-exact).exp() @ b.double()) < 4e-6
    found, wanted = (-K).logsumexp(1)[some].double(), (-exact).logsumexp(1)
    # Exponents are rounded at their own size, and may be far larger than the result.
    assert float((found - wanted).norm() / (wanted.abs() + exact.amin(1)).norm()) < 3e-7
    found, wanted = exact.gather(1, K.argKmin(10, 1)[some]), exact.topk(10, 1, largest=False).values
    assert error(found, wanted) < 1e-6  # far from the origin float32 has many points in one place


@pytest.mark.parametrize("rows", [1, 3, 33, 100, 500, 1030])
def test_few_rows(rows):
    x, y, b = points(rows, 3), points(300_000, 3), torch.randn(300_000, 1, device="cuda")
    exact = squares(x, y)
    assert error((-lazy(x, y)).exp() @ b, (-exact).exp() @ b.double()) < 2e-6
    assert torch.equal(lazy(x, y).argmin(1).flatten(), exact.argmin(1))
    assert torch.equal(lazy(x, y).argKmin(7, 1), exact.topk(7, 1, largest=False).indices)


@pytest.mark.parametrize("columns", [1, 2, 30, 100, 130])
def test_long_sums(columns):
    x, y, b = points(500, 3), points(3000, 3), torch.randn(3000, columns, device="cuda")
    assert error((-lazy(x, y)).exp() @ b, (-squares(x, y)).exp() @ b.double()) < 2e-6


@pytest.mark.parametrize("dim", [3, 16, 64, 128])
def test_derivatives(dim):
    x, y, b = (t.requires_grad_() for t in (points(700, dim), points(900, dim), torch.randn(900, 1, device="cuda")))
    g = torch.randn(700, 1, device="cuda")
    found = torch.autograd.grad((-lazy(x, y)).exp() @ b, (x, y, b), g)
    doubles = [t.detach().double().requires_grad_() for t in (x, y, b)]
    dense = (-((doubles[0][:, None] - doubles[1]) ** 2).sum(-1)).exp() @ doubles[2]
    for got, wanted in zip(found, torch.autograd.grad(dense, doubles, g.double()), strict=True):
        assert error(got, wanted) < 1e-5


def test_the_same_twice():
    x, y, b = points(100, 3), points(500_000, 3), torch.randn(500_000, 1, device="cuda")
    assert torch.equal((-lazy(x, y)).exp() @ b, (-lazy(x, y)).exp() @ b)


def test_another_stream():
    x, y = points(2000, 3), points(50_000, 3)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        later = x + 1  # queued on that stream, as the fold must be
        found = (-lazy(later, y)).exp().sum(1)
    stream.synchronize()
    assert error(found.reshape(-1), (-squares(x + 1, y)).exp().sum(1)) < 2e-6


def test_graph():
    x, y, b = points(300, 3), points(400, 3), torch.randn(400, 1, device="cuda")
    (-lazy(x, y)).exp() @ b
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        found = (-lazy(x, y)).exp() @ b
    for _ in range(2):
        x.copy_(points(300, 3))
        graph.replay()
        assert error(found, (-squares(x, y)).exp() @ b.double()) < 2e-6


def test_batches():
    x, y = torch.rand(5, 70, 3, device="cuda"), torch.rand(1, 90, 3, device="cuda")
    found = (-((LazyTensor(x[:, :, None]) - LazyTensor(y[:, None])) ** 2).sum(-1)).exp().sum(2)
    wanted = (-((x.double()[:, :, None] - y.double()[:, None]) ** 2).sum(-1)).exp().sum(2)
    assert error(found.reshape(wanted.shape), wanted) < 1e-6


def test_out_of_memory_leaves_all_usable():
    x = points(100, 3)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        torch.empty(1 << 45, dtype=torch.uint8, device="cuda")
    assert error((-lazy(x, x)).exp().sum(1).reshape(-1), (-squares(x, x)).exp().sum(1)) < 1e-6


def test_two_devices():
    with pytest.raises(TypeError, match="device cuda:0 and cpu"):
        lazy(points(5, 3), points(6, 3).cpu())


def tiles(rows, columns, share, seed=0):
    """Ranges of rows, ranges of columns and which of them meet, the first range of rows none."""
    rng = np.random.default_rng(seed)
    ends = [np.unique([0, n // 3, n, *rng.integers(0, n, n // 40)]) for n in (rows, columns)]
    keep = rng.random([len(e) - 1 for e in ends]) < share
    keep[0] = False
    return *(np.stack([e[:-1], e[1:]], 1) for e in ends), keep


@pytest.mark.parametrize("dim", [3, 16, 200])
@pytest.mark.parametrize("share", [0.05, 0.7])
@pytest.mark.parametrize(("rows", "columns"), [(5000, 7001), (33, 20_000), (9000, 50)])
def test_patterns(rows, columns, share, dim):
    x, y, b = points(rows, dim), points(columns, dim), torch.randn(columns, 1, device="cuda")
    i, j, keep = tiles(rows, columns, share)
    there = torch.from_numpy(np.repeat(np.repeat(keep, np.diff(i).ravel(), 0), np.diff(j).ravel(), 1)).cuda()
    exact, K = squares(x, y), lazy(x, y).blocks(i, j, keep)
    assert error((-K).exp() @ b, (-exact).exp() * there @ b.double()) < 4e-6
    wanted = torch.where(there, -exact, -math.inf).logsumexp(1)
    found = (-K).logsumexp(1).flatten().double()
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)
    nearest = torch.where(there, exact, math.inf)
    index = K.argKmin(4, 1)
    wanted, places = nearest.topk(4, 1, largest=False)
    assert torch.equal(index < 0, wanted.isinf())
    got = torch.where(index < 0, math.inf, exact.gather(1, index.clamp(min=0)))
    assert torch.allclose(got, wanted, rtol=1e-5) and bool((there.gather(1, index.clamp(min=0)) | (index < 0)).all())


def test_derivatives_of_patterns():
    x, y, b = (t.requires_grad_() for t in (points(3000, 3), points(4000, 3), torch.randn(4000, 2, device="cuda")))
    i, j, keep = tiles(3000, 4000, 0.1)
    there = torch.from_numpy(np.repeat(np.repeat(keep, np.diff(i).ravel(), 0), np.diff(j).ravel(), 1)).cuda()
    g = torch.randn(3000, 2, device="cuda")
    found = torch.autograd.grad((-lazy(x, y)).exp().blocks(i, j, keep) @ b, (x, y, b), g)
    doubles = [t.detach().double().requires_grad_() for t in (x, y, b)]
    dense = (-((doubles[0][:, None] - doubles[1]) ** 2).sum(-1)).exp() * there @ doubles[2]
    for got, wanted in zip(found, torch.autograd.grad(dense, doubles, g.double()), strict=True):
        assert error(got, wanted) < 1e-5


def test_patterns_on_two_streams_and_in_graphs():
    x, y = points(3000, 3), points(4000, 3)
    i, j, keep = tiles(3000, 4000, 0.3)
    there = torch.from_numpy(np.repeat(np.repeat(keep, np.diff(i).ravel(), 0), np.diff(j).ravel(), 1)).cuda()
    K = (-lazy(x, y)).exp().blocks(i, j, keep)
    K.sum(1)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        found = K.sum(1)
    x.copy_(points(3000, 3))
    graph.replay()
    assert error(found.flatten(), ((-squares(x, y)).exp() * there).sum(1)) < 2e-6


def test_calls_alike():
    """What is kept of a call holds for arrays alike, wherever they lie; others are looked at anew."""
    x, y = points(100, 3), points(150, 3)
    K = (-lazy(x, y)).exp()
    exact = (-squares(x, y)).exp()
    for _ in range(3):
        for b in (torch.randn(150, 1, device="cuda"), torch.randn(150, 2, device="cuda"), torch.randn(1, 150, device="cuda").T):
            assert error(K @ b, exact @ b.double()) < 2e-6
        b = torch.randn(150, 1, device="cuda", dtype=torch.float64)
        assert (K @ b).dtype == torch.float64 and error(K @ b, exact @ b) < 1e-6
        turned = torch.complex(torch.zeros(150, 1, device="cuda"), torch.randn(150, 1, device="cuda")).conj().imag
        assert turned.is_neg() and error(K @ turned, exact @ turned.double()) < 2e-6
        x.copy_(points(100, 3))
        exact = (-squares(x, y)).exp()


def test_calls_alike_in_threads():
    x, y = points(100, 3), points(3000, 3)
    K, exact = (-lazy(x, y)).exp(), (-squares(x, y)).exp()

    def work(seed):
        found = []
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.manual_seed(seed)
            for _ in range(50):
                b = torch.randn(3000, 1, device="cuda")
                found.append((b, K @ b))
        torch.cuda.synchronize()
        return max(error(a, exact @ b.double()) for b, a in found)

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(work, range(8))) < 2e-6
