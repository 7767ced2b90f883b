"""How sums are accumulated: what each way must reach, on sums that rounding would ruin."""

from __future__ import annotations

import numpy as np
import pytest

import pairfold
from pairfold import Vi, Vj

torch = pytest.importorskip("torch")

WAYS = ["block", "compensated", "float64"]
OPTIONS = [{"accumulate": "compensated"}, {"accumulate": "float64"}, {"dtype_acc": "float64"}, {"use_double_acc": True},
           {"sum_scheme": "kahan_scheme"}, {"dtype_acc": np.float64}, {"dtype_acc": torch.float64}]  # fmt: skip


def cancelling(rng, n, dtype="float32"):
    """Large numbers that cancel in pairs, small ones that stay, in random order."""
    large = (rng.random(n) * 1e6).astype(dtype)
    return rng.permutation(np.concatenate([large, -large, rng.random(n).astype(dtype)]))[:, None]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("columns", [1, 3, 4, 30])
def test_what_cancels_does_no_harm(options, columns):
    rng = np.random.default_rng(columns)
    y = np.concatenate([cancelling(rng, 7000) for _ in range(columns)], axis=1)
    x = np.ones((37, 1), np.float32)
    want = np.broadcast_to(y.astype("f8").sum(0), (37, columns))
    np.testing.assert_allclose((Vi(x) * Vj(y)).sum(1, **options), want, rtol=2e-7)
    np.testing.assert_allclose((Vi(y) * Vj(x)).sum(0, **options)[0], want[0], rtol=2e-7)
    assert abs((Vi(x) * Vj(y)).sum(1, accumulate="block") / want - 1).max() > 1e-6  # else the test would show nothing


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exponential_sums(way, dtype):
    rng = np.random.default_rng(4)
    x, y, w = rng.random((45, 3)).astype(dtype), rng.random((5000, 3)).astype(dtype), rng.random((5000, 2)).astype(dtype)
    D, full = ((Vi(x) - Vj(y)) ** 2).sum(-1), ((x[:, None].astype("f8") - y) ** 2).sum(-1)
    rtol = 3e-7 if dtype == "float32" else 1e-14
    e = np.exp(-full)
    np.testing.assert_allclose((-D).logsumexp(1, accumulate=way), np.log(e.sum(1)), rtol=rtol, atol=rtol)
    np.testing.assert_allclose((-D).sumsoftmaxweight(Vj(w), axis=1, accumulate=way), e @ w.astype("f8") / e.sum(1)[:, None], rtol=4 * rtol)
    np.testing.assert_allclose((-D).logsumexp(1, weight=Vj(w), accumulate=way), np.log(e @ w.astype("f8")), rtol=rtol, atol=rtol)


def test_the_default_is_for_a_block_and_for_products():
    rng = np.random.default_rng(5)
    y = cancelling(rng, 3000)
    K = Vi(np.ones((5, 1), np.float32)) * Vj(np.ones((9000, 1), np.float32))
    with pairfold.accumulate("float64"):
        inside = K @ y
    np.testing.assert_allclose(inside[:, 0], y.astype("f8").sum(), rtol=2e-7)
    assert abs((K @ y)[0, 0] / y.astype("f8").sum() - 1) > 1e-7


@pytest.mark.parametrize("way", WAYS)
def test_derivatives_are_summed_alike(way):
    """To second order; and the gradient's own sum takes the accumulation of its fold."""
    rng = np.random.default_rng(6)
    x = torch.tensor(rng.random((9, 2)), requires_grad=True)
    y = torch.tensor(rng.random((30, 2)), requires_grad=True)

    def both(f):
        out = f()
        first = torch.autograd.grad(out.sin().sum(), (x, y), create_graph=True)
        return (out, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), (x, y)))

    got = both(lambda: (-((Vi(x) - Vj(y)) ** 2).sum(-1)).logsumexp(1, accumulate=way))
    want = both(lambda: (-((x[:, None] - y) ** 2).sum(-1)).logsumexp(1))
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-11, atol=1e-12)
    weights = torch.tensor(cancelling(rng, 2000))
    z = torch.ones(1, 1, requires_grad=True)
    ((Vi(z) * Vj(weights)).sum(1, accumulate=way)).sum().backward()
    if way != "block":
        np.testing.assert_allclose(z.grad.item(), weights.double().sum().item(), rtol=2e-7)


@pytest.mark.parametrize(
    ("options", "part"),
    [({"accumulate": "kahan"}, "'compensated'"), ({"sum_scheme": "best"}, "kahan_scheme"), ({"dtype_acc": "int32"}, "float64")],
)
def test_unknown_names(options, part):
    K = Vi(np.ones((5, 1))) * Vj(np.ones((9, 1)))
    with pytest.raises(ValueError, match=part):
        K.sum(1, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["block", "compensated", "float64"])
def test_of_masked_matrices(name, dtype):
    x, y = (np.random.default_rng(k).random(n).astype(dtype) for k, n in ((0, 300), (1, 200)))
    found = (Vi(x) * Vj(y)).tril().sum(axis=1, accumulate=name)
    wanted = np.tril(x[:, None].astype("f8") * y).sum(1)
    np.testing.assert_allclose(found, wanted, rtol=1e-6 if dtype == "float32" else 1e-15)


def test_columns_of_a_step_meet_before_the_running_sum():
    """Terms that are exact, so that rounding is that of the additions alone: three of four are of small numbers."""
    y = np.random.default_rng(9).standard_normal((20_000, 64)).astype("f4")
    error = (Vi(np.eye(64, dtype="f4")) | Vj(y)).sum(1) - y.sum(0, dtype="f8")
    assert np.sqrt(np.mean(error**2)) < 1.7e-5  # 2e-5 where each term meets the running sum
