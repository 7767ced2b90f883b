"""What people who had only read the README fell over."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from pairfold import Vi, Vj, block, kernels, take

X, Y = np.random.default_rng(0).normal(size=(50, 3)), np.random.default_rng(1).normal(size=(40, 3))


def test_copies_are_as_good():
    K, b = Vi(X) | Vj(Y), np.ones(40)
    for other in (copy.deepcopy(K), pickle.loads(pickle.dumps(K))):
        np.testing.assert_allclose(other @ b, (X @ Y.T) @ b)
        np.testing.assert_allclose((other * Vi(X)).sum(1), (X @ Y.T).sum(1)[:, None] * X)


def test_shared_formulas_are_shown_briefly():
    s = (Vi(X) | Vj(Y)) / 8
    a, b = 1, s
    for _ in range(60):
        a, b = b, 2 * s * b - a  # Chebyshev's recurrence: each step uses the last two
    assert len(repr(b)) < 5000
    values = X @ Y.T / 8
    np.testing.assert_allclose(b.sum(1), np.cos(61 * np.arccos(np.clip(values, -1, 1))).sum(1), atol=1e-6)


def test_deep_formulas():
    f = Vi(X) * Vj(Y[:1])
    for _ in range(1200):
        f = f + 1.25
    np.testing.assert_allclose(f.sum(1), X * Y[0] + 1500)


@pytest.mark.parametrize("name", ["mul", "logsumexp", "sumsoftmaxweight"])
def test_a_vector_beside_a_matrix_is_no_guess(name):
    K, w = Vi(X) | Vj(Y), np.ones(40)
    with pytest.raises(ValueError, match=r"\(40,\) beside a matrix of shape \(50, 40\).*Vj\(w\)"):
        if name == "mul":
            K * w
        elif name == "logsumexp":
            K.logsumexp(1, weight=w)
        else:
            K.sumsoftmaxweight(w, axis=1)


def test_masked_arrays():
    with pytest.raises(TypeError, match="masked.*filled"):
        Vi(np.ma.masked_array(X, X > 0))


@pytest.mark.parametrize("number", [np.int64(3), np.float32(0.3), np.float64(0.3), np.longdouble(0.3), np.array(2.0), np.array(2)])
def test_scalars_take_no_part_in_choosing_a_type(number):
    for dtype in ("float32", "float64"):
        K = (Vi(X.astype(dtype)) | Vj(Y.astype(dtype))) * number
        assert K.dtype == dtype
        np.testing.assert_allclose(K.sum(1), (X @ Y.T).sum(1) * float(number), rtol=1e-4, atol=1e-4)


def test_torch_functions_keep_the_order():
    torch = pytest.importorskip("torch")
    x, y, b = torch.tensor(X), torch.tensor(Y), torch.randn(40, 2, dtype=torch.float64)
    K, dense = Vi(x) | Vj(y), x @ y.T
    assert torch.allclose(torch.matmul(K, b), dense @ b)
    assert torch.allclose(torch.matmul(torch.ones(50, dtype=torch.float64), K), dense.sum(0))
    half = torch.full((1,), 0.5, dtype=torch.float64)
    for function in (torch.sub, torch.div, torch.lt, torch.mul, torch.add):
        assert torch.allclose(function(K, half).sum(1), function(dense, half).sum(1).double())
        assert torch.allclose(function(half, K).sum(1), function(half, dense).sum(1).double())
    with pytest.raises(TypeError, match=r"torch.cumsum .*K.exp\(\)"):
        torch.cumsum(K, 1)


def test_functorch():
    torch = pytest.importorskip("torch")
    x, y = torch.tensor(X), torch.tensor(Y)

    def f(x):
        return (-((Vi(x) - Vj(y)) ** 2).sum(-1)).exp().sum(1)

    def dense(x):
        return (-((x[:, None] - y) ** 2).sum(-1)).exp().sum(1)

    assert torch.allclose(torch.func.grad(lambda x: f(x).sum())(x), torch.func.grad(lambda x: dense(x).sum())(x))
    many = torch.randn(4, 6, 3, dtype=torch.float64)
    assert torch.allclose(torch.func.vmap(f)(many), torch.stack([dense(m) for m in many]))
    assert torch.allclose(torch.func.vmap(torch.func.grad(lambda x: f(x).sum()))(many),
                          torch.func.vmap(torch.func.grad(lambda x: dense(x).sum()))(many))  # fmt: skip
    with pytest.raises(RuntimeError, match="torch.func.vmap"):
        torch.autograd.functional.jacobian(f, x, vectorize=True)


@pytest.mark.parametrize(
    ("lazy", "dense"),
    [
        (lambda D, y: D.min(1), lambda d, y: d.amin(1)),
        (lambda D, y: D.Kmin(3, axis=1), lambda d, y: d.sort(1).values[:, :3]),
        (lambda D, y: D.Kmin(3), lambda d, y: d.flatten().sort().values[:3]),
        (lambda D, y: D.max_argmax()[0], lambda d, y: d.max()),
        (lambda D, y: D.sumsoftmaxweight(Vj(y), axis=(0, 1)), lambda d, y: torch_softmax(d, y)),
    ],
)
def test_functorch_of_selections(lazy, dense):
    torch = pytest.importorskip("torch")
    x, y = torch.randn(4, 6, 3, dtype=torch.float64), torch.tensor(Y[:9])

    def f(x):
        return lazy(((Vi(x) - Vj(y)) ** 2).sum(-1), y)

    def g(x):
        return dense(((x[:, None] - y) ** 2).sum(-1), y)

    for transform in (
        torch.func.vmap,
        torch.func.jacrev,
        lambda h: torch.func.vmap(torch.func.grad(lambda x: h(x).sum())),
    ):
        of = x[0] if transform is torch.func.jacrev else x
        torch.testing.assert_close(transform(f)(of), transform(g)(of))


def torch_softmax(d, y):
    return (d.flatten().softmax(0).reshape(d.shape)[..., None] * y).sum((0, 1))


def test_torch_compile():
    """In a process of its own: memory that was freed too early would end it."""
    pytest.importorskip("torch")
    code = """
import torch
from pairfold import Vi, Vj, kernels, take
x, y = torch.randn(5, 3, requires_grad=True), torch.randn(7, 3)
def f(x):
    return (-((Vi(x) - Vj(y)) ** 2).sum(-1)).exp().sum(1)
g = torch.compile(f, backend="eager")
for _ in range(3):
    assert torch.allclose(g(x), f(x))
    assert torch.allclose(torch.autograd.grad(g(x).sum(), x)[0], torch.autograd.grad(f(x).sum(), x)[0])
# What is inside is not looked at: neither NumPy's part of patterns and indices, nor anything that takes time.
x = x.detach()
K = (-Vi(x).sqdist(Vj(y))).exp()
same = K.same_label(torch.arange(5) % 2, torch.arange(7) % 2)
for h in (lambda v: same @ v, lambda v: K.blocks([[0, 2], [2, 5]], [[0, 3], [3, 7]]) @ v, lambda v: K[1:4, ::2] @ v[:4] * 2):
    torch._dynamo.utils.counters.clear()
    v = torch.randn(7, 2)
    assert torch.allclose(torch.compile(h, backend="eager")(v), h(v))
    assert sum(torch._dynamo.utils.counters["graph_break"].values()) <= 2
print("right")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=200)
    assert done.stdout == "right\n", done.stderr


def test_tracers_are_refused():
    """What records tensors cannot record kernels: not a wrong number later, nor an address that is none."""
    torch = pytest.importorskip("torch")
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    x, y = torch.randn(5, 3), torch.randn(7, 3)

    def f(x):
        return (-((Vi(x) - Vj(y)) ** 2).sum(-1)).exp().sum(1)

    with pytest.raises(RuntimeError, match=r"torch\.jit\.trace cannot record a fold"):
        torch.jit.trace(f, x)
    with pytest.raises(RuntimeError, match="make_fx cannot record a fold"):
        make_fx(f)(x)
    with FakeTensorMode() as mode, pytest.raises(RuntimeError, match="without numbers .* cannot record a fold"):
        y = mode.from_tensor(y)
        f(mode.from_tensor(x))


@pytest.mark.parametrize("dtype", ["float64", "bool"])
def test_truth_values_combine_as_in_numpy(dtype):
    x, y = (X[:, :1] > 0, Y[:, :1] > 0) if dtype == "bool" else (X[:, :1], Y[:, :1])
    a, b = (Vi(x[:, 0]), Vj(y[:, 0])) if dtype == "bool" else (Vi(x[:, 0]) > 0.3, Vj(y[:, 0]) < Vi(x[:, 0]))
    p, q = np.broadcast_arrays(x, y.T) if dtype == "bool" else np.broadcast_arrays(x > 0.3, y.T < x)
    for lazy, full in ((a & b, p & q), (a | b, p | q), (a ^ b, p ^ q), (~a & b, ~p & q), (np.bitwise_or(a, b), p | q)):
        np.testing.assert_array_equal(lazy.sum(1), full.sum(1))
        np.testing.assert_array_equal(lazy.all(1), full.all(1))
    np.testing.assert_allclose((Vi(X) | Vj(Y)).sum(1), (X @ Y.T).sum(1))  # of vectors it is the inner product, as in KeOps
    for act in (lambda: (Vi(X) | Vj(Y)) & a, lambda: ~Vi(X), lambda: a ^ 1.5):
        with pytest.raises(TypeError, match=r"takes truth values.*K != 0"):
            act()


def test_round():
    np.testing.assert_allclose(round(Vi(X) | Vj(Y), 1).sum(1), np.round(X @ Y.T, 1).sum(1))


def test_labels_stored_as_floats():
    table = np.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(take(table, Vi(np.array([3.0, -4.0]))).sum(1), table[[3, 0]])
    for labels, message in (([1, 0.5], "0.5 at place 1 is no whole number"), ([1, np.nan], "nan at place 1"), ([4, 1], "out of bounds")):
        with pytest.raises(IndexError, match=message):
            take(table, Vi(np.array(labels, dtype="float64")))


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda K: X @ K, ValueError, r"b @ K: K has shape \(50, 40\), so b must have shape \(50,\) or \(E, 50\), not \(50, 3\)"),
        (lambda K: K.sum(1, accumulation="block"), TypeError, "sums take axis .*accumulate.* not accumulation"),
        (lambda K: (K @ K.T)[3], TypeError, "no entries to pick.*dense"),
        (lambda K: np.asarray(K @ K.T), TypeError, "behind your back.*dense"),
        (lambda K: (K @ K.T).exp(), AttributeError, "a LinearOperator has no exp.*dense"),
        (lambda K: kernels.gaussian(X, Y, 0), ValueError, "lengthscale is 0"),
        (lambda K: kernels.periodic(X, Y, period=0.0), ValueError, "period is 0"),
        (lambda K: kernels.polynomial(X, Y, 1.5), ValueError, "whole degree.*not 1.5"),
        (lambda K: kernels.polynomial(X, Y, 2, scale=np.ones(3)), ValueError, "scale is one number, not 3"),
        (lambda K: kernels.rational_quadratic(X, Y, alpha=np.ones(2)), ValueError, "alpha is one number, not 2"),
        (lambda K: kernels.gaussian(X, Y, [1, 2, 3]), TypeError, r"lengthscale is a number, an array.*not \[1, 2, 3\]"),
        (lambda K: kernels.periodic(X, Y, period="a"), TypeError, "period is a number"),
        (lambda K: kernels.matern(X, Y, 1.0), ValueError, "smoothness nu of 0.5.*not 1.0"),
        (lambda K: K.std(1, ddof="a"), TypeError, "ddof .*not 'a'"),
        (lambda K: K.at([0, 1, 2], [0, 4]), IndexError, r"shapes \(3,\) and \(2,\), which do not broadcast"),
        (lambda K: block(3), TypeError, "a list of rows"),
    ],
)
def test_messages(act, error, message):
    with pytest.raises(error, match=message):
        act(Vi(X) | Vj(Y))


def test_a_smoothness_of_any_kind():
    torch = pytest.importorskip("torch")
    expected = kernels.matern32(X, Y).sum(1)
    for nu in (np.float32(1.5), np.float64(1.5), torch.tensor(1.5)):
        np.testing.assert_array_equal(kernels.matern(X, Y, nu).sum(1), expected)


@pytest.mark.parametrize("exponent", [0, 0.0])
def test_the_power_0_is_a_constant_function(exponent):
    """1 of nan too, as in NumPy, and with gradients that are zeros."""
    torch = pytest.importorskip("torch")
    values = X.copy()
    values[0, 0] = np.nan
    np.testing.assert_array_equal(((Vi(values) | Vj(Y)) ** exponent).sum(1), 40)
    x = torch.tensor(X, requires_grad=True)
    (g,) = torch.autograd.grad(((Vi(x) * Vj(torch.tensor(Y))) ** exponent).sum(1).sum(), x)
    assert (g == 0).all()


@pytest.mark.parametrize("one", [1, 1.0, np.int8(1), np.uint8(1), np.float16(1)])
def test_degrees_of_freedom_of_any_kind(one):
    K, dense = Vi(np.tile(X, (6, 1))) | Vj(Y), np.tile(X, (6, 1)) @ Y.T
    np.testing.assert_allclose(K.var(axis=(0, 1), ddof=one), dense.var(ddof=1))
    np.testing.assert_allclose(K.std(axis=0, correction=one), dense.std(0, ddof=1))


@pytest.mark.parametrize("scale", [np.float32(2), np.int64(2), np.array(2.0)])
def test_numpy_scalars_are_numbers_to_kernels(scale):
    torch = pytest.importorskip("torch")
    x, y = (torch.tensor(a, dtype=torch.float32) for a in (X, Y))
    found = kernels.rational_quadratic(x, y, scale, scale).sum(1)
    assert found.dtype == torch.float32 and torch.equal(found, kernels.rational_quadratic(x, y, 2, 2).sum(1))
    with pytest.raises(ValueError, match="lengthscale is 0"):
        kernels.rbf(x, y, scale * 0)


def test_zeros_of_any_kind_in_blocks():
    K, b = Vi(X) | Vj(Y), np.ones(80)
    np.testing.assert_allclose(block([[K, np.float32(0)], [np.int64(0), K]]) @ b, np.tile((X @ Y.T).sum(1), 2))
