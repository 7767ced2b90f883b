"""Complex LazyTensors against dense complex128 arrays of NumPy and PyTorch."""

from __future__ import annotations

import copy
import operator
import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pairfold import ComplexLazyTensor, LazyTensor, Pm, Vi, Vj, block, concat, diag, identity, where
from pairfold.arrays.base import STORED
from tests.helpers import eps
from tests.properties.test_random_formulas import EXAMPLES

torch = pytest.importorskip("torch")

FRAMEWORKS = ["numpy", "torch"]
TYPES = ["complex64", "complex128"]
M, N, D = 6, 9, 3


def draw(random, *shape, dtype="complex128"):
    """Complex numbers, those that float32 holds."""
    z = random.normal(size=shape) + 1j * random.normal(size=shape)
    return z.astype(np.complex64).astype(dtype)


def made(framework, array):
    return torch.from_numpy(np.ascontiguousarray(array)) if framework == "torch" else array


def plain(result):
    return result.detach().resolve_conj().numpy() if isinstance(result, torch.Tensor) else result


def real_type(dtype):
    return {"complex64": "float32", "complex128": "float64"}[dtype]


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    return request.param


# ---- making them


@pytest.mark.parametrize("dtype", TYPES)
def test_arrays(framework, dtype, random):
    x, y, p = draw(random, M, D, dtype=dtype), draw(random, N, D, dtype=dtype), draw(random, D, dtype=dtype)
    of = [made(framework, a) for a in (x, y, p)]
    for x_i, y_j, p_k in (
        (Vi(of[0]), Vj(of[1]), Pm(of[2])),
        (LazyTensor(of[0][:, None]), LazyTensor(of[1][None]), LazyTensor(of[2])),
        (LazyTensor(of[0], axis=0), LazyTensor(of[1], axis=1), LazyTensor(of[2][None, None])),
        (ComplexLazyTensor(of[0], axis=0), ComplexLazyTensor(of[1], axis=1), ComplexLazyTensor(of[2])),
    ):
        assert all(isinstance(z, ComplexLazyTensor) and not isinstance(z, LazyTensor) for z in (x_i, y_j, p_k))
        K = x_i * y_j + p_k
        assert K.shape == (M, N, D) and K.ndim == 3 and K.dtype == dtype
        found = K.sum(1)
        assert str(found.dtype).removeprefix("torch.") == dtype and type(found) is type(of[0])
        np.testing.assert_allclose(plain(found), (x[:, None] * y + p).sum(1), rtol=60 * eps(real_type(dtype)), atol=1e-5)


def test_leaves_are_views(framework, random):
    x = made(framework, draw(random, M, D))
    z = Vi(x)
    before = plain(z.sum(1)).copy()
    x *= 2
    np.testing.assert_allclose(plain(z.sum(1)), 2 * before)
    assert all(leaf.value.shape == (M, D) for leaf in z.leaves) and len(z.leaves) == 2
    np.testing.assert_allclose(plain(Vi(x[::2]).sum(1)), plain(x)[::2])


def test_an_array_is_one_variable(framework, random):
    x, y = made(framework, draw(random, M, D)), made(framework, draw(random, N, D))
    K = (Vi(x) * Vj(y)).exp() + (Vi(x) * Vj(y)).exp() * Vj(x).T
    assert len(K.leaves) == 4
    dense = np.exp(plain(x)[:, None] * plain(y))
    np.testing.assert_allclose(plain(K.sum(1)), (dense + dense * plain(x)[:, None]).sum(1))


def test_numbers_of_each_row_and_parameters(framework, random):
    x, p = draw(random, M), draw(random, 1)
    for K in (Vi(made(framework, x)), LazyTensor(made(framework, x[:, None]))):
        assert K.shape == (M, 1)
        for scale in (made(framework, p), made(framework, p[0:1].reshape(1, 1)), complex(p[0]), np.complex128(p[0])):
            np.testing.assert_allclose(plain((K * scale).sum(1)), x * p[0])
    assert ComplexLazyTensor(2).dtype is None and ComplexLazyTensor(1.5j).shape == (1, 1)


def test_from_parts(framework, random):
    x, y, w = random.normal(size=(M, D)), random.normal(size=(M, D)), random.normal(size=(N, D))
    x_i, y_i, w_j = Vi(made(framework, x)), Vi(made(framework, y)), Vj(made(framework, w))
    for z in (x_i + 1j * y_i, x_i.real2complex() + y_i.imag2complex(), ComplexLazyTensor(x_i) + y_i * 1j):
        np.testing.assert_allclose(plain((z * w_j).sum(1)), ((x + 1j * y)[:, None] * w).sum(1))
        assert isinstance(z.real, LazyTensor) and isinstance(z.imag, LazyTensor)
        np.testing.assert_allclose(plain((z.real + w_j).sum(1)), (x[:, None] + w).sum(1))
        np.testing.assert_allclose(plain((z.imag + w_j).sum(1)), (y[:, None] + w).sum(1))


def test_shown():
    z, w = Vi(np.ones(4, complex)), Vj(np.ones(5, complex))
    assert repr(z * 1j + w) == "ComplexLazyTensor((-x1) + y2, x0 + y3, shape=(4, 5), complex128, numpy)"
    assert "svg" in (z * w)._repr_html_()
    told = (z * w).explain()
    assert told.pairs == 20 and "far_sine_and_cosine" in str((Vi(np.ones(4)) * w).exp().explain("llvm"))


def test_copies(random):
    x, y = draw(random, M), draw(random, N)
    K = Vi(x) / (Vj(y) + 4)
    for other in (copy.deepcopy(K), pickle.loads(pickle.dumps(K)), ComplexLazyTensor(K), LazyTensor(K)):
        np.testing.assert_allclose(other.sum(1), (x[:, None] / (y + 4)).sum(1))


# ---- types


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("complex_type", TYPES)
@pytest.mark.parametrize("other", [*STORED, *TYPES])
def test_types_are_promoted(framework, complex_type, other):
    if framework == "numpy" and other == "bfloat16" or framework == "torch" and other in ("uint16", "uint32", "uint64"):
        pytest.skip("no such type, or one that PyTorch does not promote")
    module = torch if framework == "torch" else np
    z, x = (module.ones(3, dtype=getattr(module, t if t != "bool" or framework == "torch" else "bool_")) for t in (complex_type, other))
    wanted = torch.promote_types(z.dtype, x.dtype) if framework == "torch" else np.result_type(z, x)
    assert (Vi(z) * Vj(x)).sum(1).dtype == wanted
    assert (Vi(x) @ module.ones((1, 2), dtype=z.dtype)).dtype == wanted


def test_half_precision_gives_complex64():
    for x in (np.ones(3, np.float16), torch.ones(3, dtype=torch.float16), torch.ones(3, dtype=torch.bfloat16)):
        K = Vi(x) * 2j
        assert K.dtype == "complex64" and str(K.sum(1).dtype).endswith("complex64")
        np.testing.assert_array_equal(plain(K.sum(1)), np.full(3, 2j))


# ---- arithmetic


NUMBERS = [2, 0.75, -3, 1j, 1.5 - 0.5j]
INFIX = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "==": operator.eq, "!=": operator.ne}


@pytest.mark.parametrize("sign", INFIX)
def test_mixed_arithmetic(framework, sign, random):
    """Complex and real LazyTensors, arrays and numbers, on either side."""
    f = INFIX[sign]
    z, w, x, y = draw(random, M, D), draw(random, N, D), random.normal(size=(M, D)), random.normal(size=(N, D))
    w[0, 0], y[0, 0] = z[0, 0], z[0, 0].real
    p, q = draw(random, D), random.normal(size=D)
    Z, W, X, Y, P, Q = (made(framework, a) for a in (z, w, x, y, p, q))
    z, x = z[:, None], x[:, None]
    cases = [(Vi(Z), Vj(W), z, w), (Vi(Z), Vj(Y), z, y), (Vi(X), Vj(W), x, w), (Vi(Z), P, z, p), (Vi(Z), Q, z, q), (Vi(X), P, x, p)]
    cases += [(P, Vj(W), p, w), (Q, Vj(W), q, w), (P, Vj(Y), p, y)]
    cases += [(Vi(Z), n, z, n) for n in NUMBERS] + [(Vi(X), n, x, n) for n in NUMBERS if isinstance(n, complex)]
    cases += [(n, Vi(Z), n, z) for n in NUMBERS] + [(n, Vi(X), n, x) for n in NUMBERS if isinstance(n, complex)]
    cases += [(Vi(Z), np.complex64(2j), z, 2j), (np.complex128(1 - 1j), Vj(W), 1 - 1j, w)] if framework == "numpy" else []
    for a, b, dense_a, dense_b in cases:
        K, dense = f(a, b), f(dense_a, dense_b)
        assert isinstance(K, LazyTensor if sign in ("==", "!=") else ComplexLazyTensor)
        axis = 0 if K.shape[0] == 1 else 1
        outer = np.broadcast_to(dense, K.shape)
        np.testing.assert_allclose(plain(K.sum(axis)), outer.sum(axis), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, -2, 7, 0.5, -0.5, 1.5, -2.25, 1j, 0.5 - 2j])
def test_powers(exponent, random):
    x, y = draw(random, M), draw(random, N)
    x[0] = -abs(x[0])  # on the cut
    np.testing.assert_allclose((Vi(x) ** exponent).sum(1), x**exponent, rtol=1e-12)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose((Vj(y) ** (Vi(x) * exponent)).sum(1), (y ** (x[:, None] * exponent)).sum(1), rtol=1e-10)
        np.testing.assert_allclose((2.5 ** (Vi(x) * exponent)).sum(1), 2.5 ** (x * exponent), rtol=1e-12)
    real = np.abs(y.real)
    np.testing.assert_allclose((Vj(real) ** (exponent + 0.5j)).sum(1), (real ** (exponent + 0.5j)).sum(), rtol=1e-11)


def over(high):
    """Points whose parts are up to that large."""
    return lambda random: (random.uniform(-high, high, 4000) + 1j * random.uniform(-high, high, 4000)).astype(np.complex64)


FUNCTIONS = {
    "exp": (lambda z: z.exp(), np.exp, over(9)),
    "exp1j": (lambda z: z.exp1j(), lambda z: np.exp(1j * z), over(9)),
    "log": (lambda z: z.log(), np.log, over(9)),
    "sqrt": (lambda z: z.sqrt(), np.sqrt, over(9)),
    "rsqrt": (lambda z: z.rsqrt(), lambda z: 1 / np.sqrt(z), over(9)),
    "square": (lambda z: z.square(), np.square, over(9)),
    "inv": (lambda z: z.inv(), lambda z: 1 / z, over(9)),
    "sin": (lambda z: z.sin(), np.sin, over(9)),
    "cos": (lambda z: z.cos(), np.cos, over(9)),
    "tan": (lambda z: z.tan(), np.tan, over(3)),
    "sinh": (lambda z: z.sinh(), np.sinh, over(9)),
    "cosh": (lambda z: z.cosh(), np.cosh, over(9)),
    "tanh": (lambda z: z.tanh(), np.tanh, over(3)),
    "abs": (abs, np.abs, over(1e38)),
    "abs2": (lambda z: z.abs2(), lambda z: np.abs(z) ** 2, over(1e15)),
    "angle": (lambda z: z.angle(), np.angle, over(1e38)),
    "conj": (lambda z: z.conj(), np.conj, over(1e38)),
    "neg": (lambda z: -z, np.negative, over(1e38)),
    "pos": (lambda z: +z, np.positive, over(1e38)),
    "real": (lambda z: z.real, np.real, over(1e38)),
    "imag": (lambda z: z.imag, np.imag, over(1e38)),
    "cube": (lambda z: z**3, lambda z: z**3, over(9)),
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, dtype, framework, random):
    """As accurate as NumPy's own of that type, or within a few units in the last place of the modulus."""
    ours, theirs, points = FUNCTIONS[name]
    z = points(random).astype(dtype)
    found = plain(ours(Vi(made(framework, z))).sum(1))
    wanted = theirs(z.astype(np.clongdouble))
    error = np.abs(found - wanted) / np.abs(wanted)
    allowed = 2 * (np.abs(theirs(z) - wanted) / np.abs(wanted)).max() + 6 * eps(real_type(dtype))
    assert error.max() <= allowed, (error.max() / eps(real_type(dtype)), z[error.argmax()])


def test_products_are_as_accurate_as_those_of_numpy(random):
    """The error of a product is of the order of its modulus, however its parts cancel."""
    z, w = draw(random, 200, dtype="complex64"), draw(random, 300, dtype="complex64")
    w[:200] = (z.conj() * 1j).round(3) * np.float32(0.7)  # real parts that cancel
    wanted = z.astype(complex)[:, None] * w
    errors = [np.abs(found - wanted) / np.abs(wanted) for found in ((Vi(z) * Vj(w)).dense(), z[:, None] * w)]
    assert errors[0].max() <= errors[1].max() + 0.5 * eps("float32") and errors[0].mean() <= 1.05 * errors[1].mean()


def test_logarithms_near_one(random):
    """The real part is small there, and as accurate as the imaginary one."""
    z = np.exp(1e-4 * draw(random, 4000)).astype(np.complex64)
    wanted = np.log(z.astype(complex))
    assert (np.abs(Vi(z).log().sum(1) - wanted) / np.abs(wanted)).max() < 6 * eps("float32")


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1.0, 1e18, 2e38])
def test_quotients_do_not_overflow_on_the_way(scale, random):
    z, w = ((random.uniform(0.5, 1, 500) * np.exp(1j * random.uniform(0, 7, 500)) * scale).astype(np.complex64) for _ in range(2))
    w[:3] = np.array([1, 1j, 0.8 + 0.6j]) * scale
    allowed = 1e-5 if scale == 2e38 else 8 * eps("float32")  # the reciprocals of huge numbers are subnormal
    wanted = z.astype(complex)[:, None] / w.astype(complex)
    assert (np.abs((Vi(z) / Vj(w)).dense() - wanted) / np.abs(wanted)).max() < allowed
    inverse = (1 / (Vi(z) * Vj(np.ones(1, np.complex64)))).dense()[:, 0]
    assert np.abs(inverse * z.astype(complex) - 1).max() < allowed


@pytest.mark.parametrize("dtype", TYPES)
def test_large_angles(dtype, random):
    x = (random.normal(size=3000) * 10.0 ** random.uniform(0, 12, 3000)).astype(real_type(dtype))
    wanted = np.exp(1j * x.astype(np.longdouble)) if dtype == "complex128" else np.exp(1j * x.astype(float))
    for K in (Vi(x).exp1j(), (1j * Vi(x)).exp(), Vi(1j * x.astype(real_type(dtype))).exp()):
        assert np.abs(K.sum(1) - wanted).max() < 3 * eps(real_type(dtype))


# ---- vectors


def test_vectors(framework, random):
    x, y = draw(random, M, D), draw(random, N, D)
    X, Y = Vi(made(framework, x)), Vj(made(framework, y))
    a, b = x[:, None], y[None]
    norm = np.linalg.norm(a - b, axis=-1, keepdims=True)
    for found, wanted in (
        (X | Y, (a * b).sum(-1)),
        (X.dot(Y), (a * b).sum(-1)),
        (X | made(framework, y[0].real.copy()), (a * y[0].real).sum(-1)),
        ((X - Y).sqnorm2(), norm[..., 0] ** 2),
        (X.sqdist(Y), norm[..., 0] ** 2),
        ((X - Y).norm2(), norm[..., 0]),
        ((X - Y).norm(-1), norm[..., 0]),
        ((X - Y).normalize(), (a - b) / norm),
        ((X * Y).sum(-1), (a * b).sum(-1)),
        ((X * Y).mean(-1), (a * b).mean(-1)),
        ((X * Y).var(-1, ddof=0), (a * b).var(-1)),
        ((X * Y).elem(1), (a * b)[..., 1]),
        ((X * Y).elem(-1), (a * b)[..., -1]),
        ((X * Y).extract(1, 2), (a * b)[..., 1:3]),
        ((X * Y)[..., 2], (a * b)[..., 2]),
        ((X * Y)[:, :, :2], (a * b)[..., :2]),
        ((X * Y)[..., [2, 0]], (a * b)[..., [2, 0]]),
        (X.concat(Y.real), np.concatenate(np.broadcast_arrays(a, b.real + 0j), -1)),
        (concat([X, Y, X.imag]), np.concatenate(np.broadcast_arrays(a, b, a.imag + 0j), -1)),
        (concat([X]) + Y, a + b),
        (where(X.real < Y.real, X, Y), np.where(a.real < b.real, a, b)),
        ((X.real - Y.real).ifelse(1j, Y), np.where(a.real >= b.real, 1j, b)),
        (where(X == X[..., :1], 2j, X.real), np.where(a == a[..., :1], 2j, a.real)),
    ):
        assert found.shape[2:] == wanted.shape[2:]
        np.testing.assert_allclose(plain(found.dense()), np.broadcast_to(wanted, found.shape), rtol=1e-12, atol=1e-12)


# ---- reductions


REDUCTIONS = {
    "sum": lambda K, **axis: K.sum(**axis),
    "mean": lambda K, **axis: K.mean(**axis),
    "var": lambda K, **axis: K.var(ddof=0, **axis) if isinstance(K, ComplexLazyTensor) else K.var(**axis),
    "std": lambda K, **axis: K.std(ddof=0, **axis) if isinstance(K, ComplexLazyTensor) else K.std(**axis),
    "prod": lambda K, **axis: K.prod(**axis),
    "logsumexp": lambda K, **axis: K.logsumexp(**axis) if isinstance(K, ComplexLazyTensor) else np.log(np.exp(K).sum(**axis)),
    "norm": lambda K, **axis: K.norm(**axis) if isinstance(K, ComplexLazyTensor) else np.sqrt((np.abs(K) ** 2).sum(**axis)),
    "count_nonzero": lambda K, **axis: K.count_nonzero(**axis) if isinstance(K, ComplexLazyTensor) else np.count_nonzero(K, **axis),
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [0, 1, (0, 1)])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name, axis, dtype, framework, random):
    for rows, columns, dim in ((1, 1, 1), (5, 70, 1), (300, 3, 2), (17, 9, 12)):
        logs = (draw(random, n, dim) for n in (rows, columns))
        x, y = (np.exp(log.real / (rows + columns) + 1j * log.imag).astype(dtype) for log in logs)  # products neither overflow nor vanish
        K = Vi(made(framework, x)) * Vj(made(framework, y))
        dense = x.astype(complex)[:, None] * y.astype(complex)
        for keepdims in (False, True):
            found = plain(REDUCTIONS[name](K, axis=axis, keepdims=keepdims))
            wanted = REDUCTIONS[name](dense, axis=axis, keepdims=keepdims)
            assert found.shape == wanted.shape
            scale = max(rows, columns) * np.abs(wanted).max()
            np.testing.assert_allclose(found, wanted, rtol=0, atol=40 * eps(real_type(dtype)) * scale)


@pytest.mark.parametrize("name", ["sum", "prod", "logsumexp"])
def test_long_reductions(name, random):
    """Several tiles, and columns in splits; zeros among the factors."""
    x, y = np.exp(1j * random.normal(size=3)), np.exp(1j * random.normal(size=30_000) + random.normal(size=30_000) / 200)
    K, dense = Vi(x) * Vj(y), x[:, None] * y
    wanted = REDUCTIONS[name](dense, axis=1)
    np.testing.assert_allclose(REDUCTIONS[name](K, axis=1), wanted, rtol=1e-10)
    y[[5, 20_000]] = 0
    np.testing.assert_array_equal((Vi(x) * Vj(y)).prod(1), np.zeros(3))


def test_logsumexp_does_not_overflow(random):
    z = draw(random, 50) + 900
    found = (Vi(np.ones(2)) * Vj(z)).logsumexp(1)
    np.testing.assert_allclose(found, np.full(2, np.log(np.exp(z - 900).sum()) + 900), rtol=1e-13)
    assert np.all(np.abs(found.imag) <= np.pi)


def test_reductions_of_nothing():
    K = Vi(np.ones(3, complex)) * Vj(np.ones(0, complex))
    np.testing.assert_array_equal(K.sum(1), np.zeros(3, complex))
    np.testing.assert_array_equal(K.prod(1), np.ones(3, complex))
    assert K.sum(0).shape == (0,) and K.sum(0).dtype == complex


@pytest.mark.parametrize("accumulation", ["block", "compensated", "float64"])
def test_accumulation(accumulation, random):
    z = np.tile(np.array([1e8 + 1j, 1 - 1e8j, -1e8 + 1j, 1 + 1e8j], np.complex64), 100)
    K = Vi(np.ones(1, np.complex64)) * Vj(z)
    found = K.sum(1, accumulate=accumulation)
    np.testing.assert_allclose(found, [200 + 200j], rtol=1 if accumulation == "block" else 1e-6)


# ---- products with arrays


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("which", ["complex, complex", "complex, real", "real, complex"])
def test_products(which, dtype, framework, random):
    of_matrix, of_array = (t == "complex" for t in which.split(", "))
    for rows, columns, width in ((1, 1, 1), (5, 70, 1), (33, 9, 3), (8, 12, 20)):
        x, y, b = (draw(random, *s, dtype=dtype) for s in ((rows, 2), (columns, 2), (columns, width)))
        c = draw(random, width, rows, dtype=dtype)
        x, y = (x, y) if of_matrix else (x.real.copy(), y.real.copy())
        b, c = (b, c) if of_array else (b.real.copy(), c.real.copy())
        K, dense = Vi(made(framework, x)) | Vj(made(framework, y)), x.astype(complex) @ y.astype(complex).T
        for found, wanted in (
            (K @ made(framework, b), dense @ b),
            (K @ made(framework, b[:, 0]), dense @ b[:, 0]),
            (made(framework, c) @ K, c @ dense),
            (made(framework, c[0]) @ K, c[0] @ dense),
            (K.T @ made(framework, c.T), dense.T @ c.T),
            (K.H @ made(framework, c.T), dense.conj().T @ c.T),
        ):
            assert str(found.dtype).endswith(dtype) and tuple(found.shape) == wanted.shape
            np.testing.assert_allclose(plain(found), wanted, rtol=0, atol=30 * eps(real_type(dtype)) * max(rows, columns))


def test_one_pass(monkeypatch, random):
    """Both parts are reduced by one fold, and sine and cosine of an angle are computed together."""
    from pairfold.fold import Fold

    folds = []
    run = Fold.run
    monkeypatch.setattr(Fold, "run", lambda self, *rest, **options: folds.append(self) or run(self, *rest, **options))
    x, y, b = draw(random, M), draw(random, N), draw(random, N)
    for compute in (lambda: (Vi(x) * Vj(y)) @ b, lambda: (Vi(x.real) * Vj(y.real)).exp1j() @ b, lambda: (Vi(x) + Vj(y)).mean(1)):
        folds.clear()
        compute()
        assert len(folds) == 1
    angle = Vi(x.real) * Vj(y.real)
    assert "sine_and_cosine" in str(angle.exp1j().explain("llvm", reduction="@", b=b))
    assert "sine_and_cosine" in str((angle.sin() + angle.cos()).explain("llvm"))
    assert "sine_and_cosine" not in str(angle.sin().explain("llvm"))


def test_matrices(random):
    x, y = draw(random, M, D), draw(random, N, D)
    K, dense = Vi(x) | Vj(y), x @ y.T
    np.testing.assert_allclose(K.dense(), dense)
    np.testing.assert_allclose(K.T.dense(), dense.T)
    np.testing.assert_allclose(K.H.dense(), dense.conj().T)
    np.testing.assert_allclose(K.conj().dense(), dense.conj())
    np.testing.assert_allclose(K[1:4, ::-2].dense(), dense[1:4, ::-2])
    np.testing.assert_allclose(K[2], dense[2])
    np.testing.assert_allclose(K.at([0, 3, 5], [8, 0, 1]), dense[[0, 3, 5], [8, 0, 1]])
    np.testing.assert_allclose(K.diagonal(), np.diagonal(dense))
    np.testing.assert_allclose(K.trace(), np.trace(dense))
    real = Vi(x.real) | Vj(y.real)
    np.testing.assert_allclose(real.H.dense(), (x.real @ y.real.T).T)
    assert real.conj().real.imag.dense().shape == (M, N) and not real.imag.dense().any()
    np.testing.assert_allclose((-real).angle().dense(), np.angle(-(x.real @ y.real.T)))


def test_linear_operators(framework, random):
    x, y, z = draw(random, M, D), draw(random, N, D), draw(random, M)
    K, dense, v = Vi(made(framework, x)) | Vj(made(framework, y)), x @ y.T, made(framework, draw(random, M))
    d, array = made(framework, z), made(framework, draw(random, M, M))
    square = dense @ dense.conj().T
    for A, wanted in (
        (K @ K.H + 0.5 * identity(M), square + 0.5 * np.eye(M)),
        (2j * (K @ K.H) - diag(d), 2j * square - np.diag(z)),
        ((K @ K.T) * np.complex128(1 - 1j), (1 - 1j) * dense @ dense.T),
        ((diag(d) @ K @ K.H).H, square.conj().T @ np.diag(z.conj())),
        ((diag(d) @ K @ K.H).H.H, np.diag(z) @ square),
        ((diag(d) @ K @ K.H).H.T, (square.conj().T @ np.diag(z.conj())).T),
        (identity(M) * 1j + array, 1j * np.eye(M) + plain(array)),
    ):
        assert A.dtype == "complex128" and A.shape == (M, M)
        np.testing.assert_allclose(plain(A @ v), wanted @ plain(v))
        np.testing.assert_allclose(plain(A.dense()), wanted)
    np.testing.assert_allclose(plain((K @ K.H - identity(M)).trace()), np.trace(square) - M)
    A, wanted = block([[K, 0], [0, K.H]]), np.block([[dense, np.zeros((M, M))], [np.zeros((N, N)), dense.conj().T]])
    np.testing.assert_allclose(plain(A.dense()), wanted)
    np.testing.assert_allclose(plain(A.H @ plain_like(v, wanted)), wanted.conj().T @ np.ones(len(wanted)))
    np.testing.assert_allclose(plain(block([[K, K]]).prod(1)), (dense**2).prod(1))
    assert (Vi(x.real) | Vj(y.real)).H.dense().dtype == float


def test_linear_operators_keep_single_precision(random):
    x = draw(random, M, dtype="complex64")
    K = Vi(x) * Vj(x)
    for A in (K @ K, K + identity(M), diag(x) @ K, block([[K, 0], [0, K]])):
        n = A.shape[1]
        assert A.dtype == "complex64" == (A @ np.ones(n, np.complex64)).dtype == A.dense().dtype


def plain_like(v, wanted):
    """Ones that fit a matrix, of the framework of an array."""
    return v.new_ones(len(wanted)) if isinstance(v, torch.Tensor) else np.ones(len(wanted), complex)


def test_batches(framework, random):
    x, y, b, p = draw(random, 2, 1, M, D), draw(random, 4, N, D), draw(random, 4, N, 2), draw(random, 2, 4, D)
    K = LazyTensor(made(framework, x[..., :, None, :])) * LazyTensor(made(framework, p[..., None, None, :]))
    K = K | LazyTensor(made(framework, y[..., None, :, :]))
    dense = np.einsum("abid,abd,bjd->abij", np.broadcast_to(x, (2, 4, M, D)), p, y)
    assert K.shape == (2, 4, M, N)
    np.testing.assert_allclose(plain(K @ made(framework, b)), dense @ b)
    np.testing.assert_allclose(plain(K.sum(2)), dense.sum(2))
    np.testing.assert_allclose(plain(K.logsumexp(3)), np.log(np.exp(dense).sum(3)))
    np.testing.assert_allclose(plain(K.dense()), dense)
    np.testing.assert_allclose(plain(K.mean()), dense.mean())


# ---- derivatives, in PyTorch's convention: those of the same dense formula


def tensors(random, *shapes):
    return [torch.from_numpy(draw(random, *s)).requires_grad_() for s in shapes]


DIFFERENTIATED = {
    "product": (lambda x, y, b: (Vi(x) | Vj(y)) @ b, lambda x, y, b: (x @ y.T) @ b),
    "quotient": (lambda x, y, b: (Vi(x) / Vj(y)).sum(-1) @ b, lambda x, y, b: (x[:, None] / y).sum(-1) @ b),
    "vandermonde": (lambda x, y, b: (Vi(x) | Vj(y)).exp() @ b, lambda x, y, b: (x @ y.T).exp() @ b),
    "cauchy": (lambda x, y, b: (1 / (Vi(x) - Vj(y))).sum(-1) @ b, lambda x, y, b: (1 / (x[:, None] - y)).sum(-1) @ b),
    "gauss": (
        lambda x, y, b: (-Vi(x).sqdist(Vj(y)) / 4).exp() @ b,
        lambda x, y, b: (-(x[:, None] - y).abs().square().sum(-1) / 4).exp() + 0j,
    ),
    "roots": (lambda x, y, b: (Vi(x) + Vj(y)).sqrt().sum(-1) @ b, lambda x, y, b: (x[:, None] + y).sqrt().sum(-1) @ b),
    "log": (lambda x, y, b: (Vi(x) - Vj(y)).log().sum(-1) @ b, lambda x, y, b: (x[:, None] - y).log().sum(-1) @ b),
    "abs": (lambda x, y, b: abs(Vi(x) - Vj(y)).sum(-1) @ b, lambda x, y, b: ((x[:, None] - y).abs() + 0j).sum(-1) @ b),
    "angle": (lambda x, y, b: (Vi(x) - Vj(y)).angle().sum(-1) @ b, lambda x, y, b: ((x[:, None] - y).angle() + 0j).sum(-1) @ b),
    "waves": (lambda x, y, b: (Vi(x).real | Vj(y).imag).exp1j() @ b, lambda x, y, b: (1j * (x.real @ y.imag.T)).exp() @ b),
    "sin": (lambda x, y, b: (Vi(x) * Vj(y)).sin().sum(-1) @ b, lambda x, y, b: (x[:, None] * y).sin().sum(-1) @ b),
    "tanh": (lambda x, y, b: (Vi(x) * Vj(y)).tanh().sum(-1) @ b, lambda x, y, b: (x[:, None] * y).tanh().sum(-1) @ b),
    "power": (lambda x, y, b: (Vi(x) ** 3 * Vj(y) ** -2).sum(-1) @ b, lambda x, y, b: (x[:, None] ** 3 * y**-2).sum(-1) @ b),
    "general power": (lambda x, y, b: (Vi(x) ** Vj(y)).sum(-1) @ b, lambda x, y, b: (x[:, None] ** y).sum(-1) @ b),
    "power 0": (lambda x, y, b: ((Vi(x) + Vj(y)) ** 0).sum(-1) @ b, lambda x, y, b: ((x[:, None] + y) ** 0).sum(-1) @ b),
    "prod": (lambda x, y, b: (Vi(x) + Vj(y)).prod(1), lambda x, y, b: (x[:, None] + y).prod(1)),
    "logsumexp": (lambda x, y, b: (Vi(x) * Vj(y)).logsumexp(0), lambda x, y, b: (x[:, None] * y).exp().sum(0).log()),
    "conj": (lambda x, y, b: b.conj() @ (Vi(y).conj() | Vj(x)), lambda x, y, b: b.conj() @ (y.conj() @ x.T)),
    "real weights": (lambda x, y, b: (Vi(x) | Vj(y)) @ b.real, lambda x, y, b: (x @ y.T) @ (b.real + 0j)),
    "dense": (lambda x, y, b: (Vi(x) | Vj(y)).dense() * b, lambda x, y, b: (x @ y.T) * b),
}


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_gradients(name, random):
    lazy, dense = DIFFERENTIATED[name]
    if name == "gauss":

        def dense(x, y, b):
            return (-(x[:, None] - y).abs().square().sum(-1) / 4).exp().to(b.dtype) @ b

    variables = tensors(random, (3, 2), (4, 2), (4,))
    found, wanted = lazy(*variables), dense(*variables)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    weights = torch.from_numpy(draw(random, *found.shape))
    outer = [torch.from_numpy(draw(random, *v.shape)) for v in variables]
    firsts, seconds = [], []
    for value in (found, wanted):
        used = torch.autograd.grad((value * weights).sum().real, variables, create_graph=True, allow_unused=True)
        firsts.append(used)
        whole = sum((g * o).sum().imag for g, o in zip(used, outer, strict=True) if g is not None and g.requires_grad)
        seconds.append(torch.autograd.grad(whole, variables, allow_unused=True))
    for order in (firsts, seconds):
        for got, want in zip(*order, strict=True):
            got, want = (torch.zeros(1) if g is None else g for g in (got, want))
            torch.testing.assert_close(*torch.broadcast_tensors(got + 0j, want + 0j), rtol=1e-8, atol=1e-9, check_dtype=False)


def test_gradcheck(random):
    variables = tensors(random, (2, 2), (3, 2), (3, 2))

    def f(x, y, b):
        return ((Vi(x) | Vj(y)).exp() / (2 + (Vi(x) - Vj(y)).sqnorm2())) @ b

    assert torch.autograd.gradcheck(f, variables, atol=1e-6) and torch.autograd.gradgradcheck(f, variables, atol=1e-6)


def test_gradients_at_zero():
    z = torch.zeros(3, dtype=torch.complex128, requires_grad=True)
    one = torch.ones(2, dtype=torch.complex128)
    for K in (abs(Vi(z)) * abs(Vj(one)), Vi(z).angle() * abs(Vj(one)), Vi(z).sqrt() * Vj(one)):
        (g,) = torch.autograd.grad(K.sum().real, z, create_graph=True)
        np.testing.assert_array_equal(plain(g), np.zeros(3))
        assert torch.isfinite(torch.view_as_real(torch.autograd.grad(g.abs().square().sum(), z)[0])).all()


def test_products_with_zeros_have_gradients(random):
    for zeros in (0, 1, 2):
        x, y = draw(random, 3), draw(random, 5)
        y[:zeros] = -x[0]
        variables = [torch.from_numpy(a).requires_grad_() for a in (x, y)]
        values = (Vi(variables[0]) + Vj(variables[1])).prod(1), (variables[0][:, None] + variables[1]).prod(1)
        torch.testing.assert_close(*values)
        got, want = (torch.autograd.grad(v.real.sum() + 2 * v.imag.sum(), variables) for v in values)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_transforms(random):
    """Of functions, by torch.func, and tensors that are conjugated or negated lazily."""
    x, y, b = (t.detach() for t in tensors(random, (3, 2), (4, 2), (5, 4)))

    def f(x, b):
        return (Vi(x) | Vj(y)).exp() @ b

    wanted = (x @ y.T).exp()
    torch.testing.assert_close(torch.func.vmap(f, (None, 0))(x, b), b @ wanted.T)
    gradient = torch.func.grad(lambda x: f(x, b[0]).abs().square().sum())(x)
    dense = torch.func.grad(lambda x: ((x @ y.T).exp() @ b[0]).abs().square().sum())(x)
    torch.testing.assert_close(gradient, dense)
    torch.testing.assert_close(f(x.conj(), b[0].conj()), (x.conj() @ y.T).exp() @ b[0].conj())
    torch.testing.assert_close((Vi(x.conj().imag) | Vj(y.real)) @ b[0], (x.conj().imag @ y.real.T + 0j) @ b[0])


def test_the_example(monkeypatch, capsys):
    """Fourier sums and kernels of state-space models, which it checks itself."""
    example = Path(__file__).parents[1] / "examples" / "vandermonde.py"
    sizes = ["--points", "300", "--length", "128", "--channels", "3", "--states", "8"]
    monkeypatch.setattr("sys.argv", [str(example), *sizes])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.count("largest error") == 7


# ---- errors


Z, W = Vi(np.ones((4, 2), complex)), Vj(np.ones((5, 2), complex))


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        (lambda: Z < W, TypeError, ["lt", "no order", "abs(z)", "z.real"]),
        (lambda: Z >= 1, TypeError, ["ge", "no order"]),
        (lambda: Vi(np.ones((4, 2))) > W, TypeError, ["gt", "no order"]),
        (lambda: (Z | W).min(1), TypeError, ["min", "no order"]),
        (lambda: (Z | W).max(), TypeError, ["max", "no order"]),
        (lambda: Z.max(-1), TypeError, ["max", "no order"]),
        (lambda: (Z | W).argmin(0), TypeError, ["argmin", "no order"]),
        (lambda: (Z | W).argKmin(2, axis=1), TypeError, ["argKmin", "no order"]),
        (lambda: Z.minimum(W), TypeError, ["minimum", "no order"]),
        (lambda: Z.clamp(0, 1), TypeError, ["clamp", "no order"]),
        (lambda: Z.relu(), TypeError, ["relu", "no order"]),
        (lambda: Z.floor(), TypeError, ["floor", "real ones alone"]),
        (lambda: Z.atan2(W), TypeError, ["atan2", "real ones alone"]),
        (lambda: Vi(np.ones((4, 2))).hypot(1j), TypeError, ["hypot", "real ones alone"]),
        (lambda: Z % 2, TypeError, ["mod", "real ones alone"]),
        (lambda: (Z | W).logsumexp(1, weight=W), TypeError, ["logsumexp_weight", "real ones alone"]),
        (lambda: (Z | W).sumsoftmaxweight(W, axis=1), TypeError, ["sumsoftmaxweight", "real ones alone"]),
        (lambda: Vi(np.ones(4)).sumsoftmaxweight(W, axis=1), TypeError, ["real numbers alone", "complex"]),
        (lambda: Vi(np.ones((4, 2), np.clongdouble)), TypeError, ["complex64, complex128"]),
        (lambda: Vi(torch.ones(4, 2, dtype=torch.complex32)), TypeError, ["complex64, complex128, not complex32", "to complex64"]),
        (lambda: Vi(np.ma.masked_array(np.ones(4, complex))), TypeError, ["masked"]),
        (lambda: Z + Vi(np.ones((3, 2), complex)), ValueError, ["(4, 1, 2)", "(3, 1, 2)", "4 and 3"]),
        (lambda: Z + Vj(np.ones((5, 3), complex)), ValueError, ["2 and 3", "(4, 1, 2)", "(1, 5, 3)"]),
        (lambda: (Z | W) + np.ones(5, complex), ValueError, ["Vj(w)", "(5,)"]),
        (lambda: (Z | W) @ np.ones(4, complex), ValueError, ["(4, 5)", "(5,)", "not (4,)"]),
        (lambda: (Z + W) @ np.ones(5), ValueError, ["one number for each pair", "(4, 5, 2)"]),
        (lambda: Z + Vj(torch.ones(5, 2, dtype=torch.complex64)), TypeError, ["numpy", "torch"]),
        (lambda: Z.extract(1, 2), ValueError, ["components 1 to 2"]),
        (lambda: bool(Z), TypeError, ["truth value"]),
        (lambda: complex(Z), TypeError, ["K.sum"]),
        (lambda: ComplexLazyTensor(2j).sum(1), TypeError, ["numbers alone"]),
        (lambda: LazyTensor(np.ones((4, 5), complex)), ValueError, ["neither rows nor columns"]),
    ],
)
def test_errors(wrong, kind, words):
    with pytest.raises(kind) as error:
        wrong()
    assert all(word in str(error.value) for word in words), error.value


# ---- random formulas

UNARY = {
    "neg": (operator.neg, np.negative),
    "conj": (lambda z: z.conj(), np.conj),
    "exp": (lambda z: z.exp(), np.exp),
    "exp1j": (lambda z: z.exp1j(), lambda z: np.exp(1j * z)),
    "sin": (lambda z: z.sin(), np.sin),
    "cosh": (lambda z: z.cosh(), np.cosh),
    "tanh": (lambda z: z.tanh(), np.tanh),
    "square": (lambda z: z.square(), np.square),
    "power": (lambda z: z**-3, lambda z: z**-3.0),
    "sqrt": (lambda z: z.sqrt(), lambda z: np.sqrt(z if np.iscomplexobj(z) else np.abs(z))),
    "log": (lambda z: z.log(), lambda z: np.log(z if np.iscomplexobj(z) else np.abs(z))),
    "abs": (abs, np.abs),
    "angle": (lambda z: z.angle(), np.angle),
    "real": (lambda z: z.real, np.real),
    "imag": (lambda z: z.imag, np.imag),
    "normalize": (lambda z: z.normalize(), lambda z: z / np.sqrt((np.abs(z) ** 2).sum(-1, keepdims=True))),
    "i": (lambda z: 1j * z, lambda z: 1j * z),
    "shift": (lambda z: z - (0.5 + 2j), lambda z: z - (0.5 + 2j)),
}
OF_REAL_ABS = {"sqrt", "log"}  # real ones of what is not negative
BINARY = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}


@st.composite
def programs(draw):
    """Kinds and dimensions of five variables, and steps that make numbers of earlier ones."""
    dim = draw(st.sampled_from([1, 1, 2, 3, 9]))
    leaves = [(draw(st.sampled_from("ijp")), draw(st.booleans()), draw(st.sampled_from([dim, dim, 1]))) for _ in range(3)]
    leaves = [("i", True, dim), ("j", draw(st.booleans()), dim), *leaves]
    steps = []
    for k in range(draw(st.integers(1, 5))):
        count = len(leaves) + k
        last = draw(st.integers(max(0, count - 3), count - 1))
        if draw(st.booleans()):
            steps.append((draw(st.sampled_from(sorted(UNARY))), last))
        else:
            steps.append((draw(st.sampled_from(sorted(BINARY))), last, draw(st.integers(0, count - 1))))
    return leaves, steps


def follow(steps, values, which, change=lambda z: z):
    """The last number of a program, of LazyTensors (0) or of dense arrays (1)."""
    values = list(values)
    for name, *operands in steps:
        given_to = [values[k] for k in operands]
        if name in BINARY:
            made = BINARY[name](*given_to)
        elif name in OF_REAL_ABS and which == 0 and isinstance(given_to[0], LazyTensor):
            made = UNARY[name][0](abs(given_to[0]))
        else:
            made = UNARY[name][which](*given_to)
        values.append(change(made))
    return values[-1]


@given(
    programs(), st.sampled_from(TYPES), st.sampled_from(FRAMEWORKS), st.sampled_from([(), (2,), (3, 1)]),
    st.sampled_from(["sum", "mean", "logsumexp", "prod", "@"]), st.integers(0, 1), st.integers(1, 40), st.integers(1, 90),
    st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
def test_random_formulas(program, dtype, framework, batch, reduction, axis, rows, columns, seed):
    leaves, steps = program
    random = np.random.default_rng(seed)
    lazies, arrays = [], []
    for kind, is_complex, dim in leaves:
        shape = {"i": (rows, 1), "j": (1, columns), "p": (1, 1)}[kind]
        z = (random.uniform(0.3, 1.2, (*batch, *shape, dim)) * np.exp(1j * random.uniform(-3, 3, (*batch, *shape, dim)))).astype(
            np.complex64
        )
        z = z.astype(dtype) if is_complex else z.real.astype(real_type(dtype))
        lazies.append(LazyTensor(made(framework, z)))
        arrays.append(z.astype(complex) if is_complex else z.astype(float))
    K = follow(steps, lazies, 0)
    with np.errstate(all="ignore"):
        dense = follow(steps, arrays, 1)

        def moved(z):
            return z * (1 + 1e-7 * random.choice([-1, 1], np.shape(z))) + (1e-7j * np.abs(z) if np.iscomplexobj(z) else 0)

        spread = max(
            (np.abs(follow(steps, [moved(a) for a in arrays], 1, moved) - dense) for _ in range(3)), key=lambda s: np.nan_to_num(s).max()
        )
    assume(np.isfinite(dense).all() and np.abs(dense).max() < 1e3)
    sensitivity = spread.max() / 1e-7
    assume(np.isfinite(sensitivity) and sensitivity < 1e4)  # neither ill-conditioned nor at a cut
    assert isinstance(K, ComplexLazyTensor) == np.iscomplexobj(dense)
    unit = eps(real_type(dtype)) * (10 * sensitivity + np.abs(dense).max() + 1)
    shape = (*batch, rows, columns, dense.shape[-1])
    lengths = [1 if n is None else n for n in K._lengths]
    dense = np.broadcast_to(dense, np.broadcast_shapes(dense.shape, (*[1] * len(batch), *lengths, 1)))
    assert tuple(K.shape)[-3:] == dense.shape[-3:] and all(a <= b for a, b in zip(dense.shape, shape, strict=True))
    along = len(dense.shape) - 3 + axis
    terms = dense.shape[along]
    if reduction == "@":
        K, dense = K[..., 0], dense[..., 0]
        b = random.normal(size=(dense.shape[-1], 2)) + 1j * random.normal(size=(dense.shape[-1], 2))
        b = b.astype(np.complex64).astype(dtype)
        found, wanted, allowed = K @ made(framework, b), dense @ b, 20 * unit * dense.shape[-1]
    elif reduction in ("logsumexp", "prod"):
        assume(isinstance(K, ComplexLazyTensor))
        found, wanted = getattr(K, reduction)(axis=axis + len(K.shape) - 3), REDUCTIONS[reduction](dense, axis=along)
        with np.errstate(all="ignore"):
            scale = (
                np.abs(np.exp(dense)).sum(along) / np.abs(np.exp(dense).sum(along))
                if reduction == "logsumexp"
                else terms / np.abs(dense).min()
            )
            scale = scale * (np.abs(wanted) if reduction == "prod" else 1)
        assume(np.isfinite(scale).all() and np.max(scale) * unit < 1e-2 and np.isfinite(wanted).all())
        assume(reduction == "prod" or np.abs(np.abs(wanted.imag) - np.pi).min() > 0.05)
        assume(reduction == "logsumexp" or np.abs(wanted).max() < 1e30 and np.abs(wanted).min() > 1e-30)
        allowed = 20 * unit * np.max(scale) + 20 * eps(real_type(dtype)) * np.abs(wanted).max()
    else:
        found, wanted = getattr(K, reduction)(axis=axis + len(K.shape) - 3), REDUCTIONS[reduction](dense, axis=along)
        allowed = 10 * unit * (terms if reduction == "sum" else 1)
    found = plain(found)
    assert found.shape == np.broadcast_shapes(found.shape, wanted.shape)
    assert np.abs(found - wanted).max() <= allowed, (np.abs(found - wanted).max() / allowed, K)


# ---- symbolic derivatives

SYMBOLIC = {  # of real vectors a, complex ones u, and c of the other axis
    "exp1j": (lambda a, u, c: (a * c.real).exp1j(), lambda a, u, c: torch.exp(1j * a * c.real)),
    "holomorphic": (lambda a, u, c: (u * c).exp() / (1 + u), lambda a, u, c: (u * c).exp() / (1 + u)),
    "both": (lambda a, u, c: ((u * c).sum(-1) * a.sum(-1)).exp(), lambda a, u, c: ((u * c).sum(-1) * a.sum(-1)).exp()),
    "modulus": (lambda a, u, c: abs(u - c), lambda a, u, c: (u - c).abs()),
    "conj": (lambda a, u, c: u.conj() * c * a, lambda a, u, c: u.conj() * c * a),
}


@pytest.mark.parametrize(
    ("name", "by"),
    [("exp1j", "real"), ("holomorphic", "complex"), ("modulus", "complex")]
    + [(name, by) for name in ("both", "conj") for by in ("real", "complex")],
)
def test_symbolic_derivatives(name, by):
    """As PyTorch's autograd has them, each pair with rows of its own."""
    rng = np.random.default_rng(12)
    a = torch.tensor(rng.normal(size=(4, 2)))
    u, c, t = (torch.tensor(rng.normal(size=(n, 2)) + 1j * rng.normal(size=(n, 2))) for n in (4, 5, 5))
    lazy, full = SYMBOLIC[name]
    a_i, u_i, c_j = Vi(a), Vi(u), Vj(c)
    K, variable = lazy(a_i, u_i, c_j), a_i if by == "real" else u_i
    pairs = [v[:, None].repeat(1, 5, 1).requires_grad_() for v in (a, u)]
    pair = pairs[by == "complex"]
    dense = full(*pairs, c)
    for cotangent in (1, 1j, c)[: 3 if K._complex else 1]:
        (want,) = torch.autograd.grad(dense, pair, torch.ones_like(dense) * _first_components(cotangent, dense), retain_graph=True)
        found = K.grad(variable, c_j[..., : K.shape[-1] if len(K.shape) == 3 else 1] if cotangent is c else cotangent).dense()
        torch.testing.assert_close(found, want)
    tangent = t if by == "complex" else t.real.contiguous()
    (want,) = _directional(lambda v: full(*([v, pairs[1]] if by == "real" else [pairs[0], v]), c), pair, tangent.expand_as(pair))
    torch.testing.assert_close(K.diff(variable, Vj(tangent)).dense(), want)


def _first_components(cotangent, dense):
    """A number, or vectors of the columns, as the cotangent of each pair."""
    if not isinstance(cotangent, torch.Tensor):
        return cotangent
    return cotangent if dense.ndim == 3 else cotangent[:, 0]


def _directional(function, at, tangent):
    """The derivative along a tangent, by PyTorch's forward mode."""
    from torch.autograd import forward_ad

    with forward_ad.dual_level():
        return (forward_ad.unpack_dual(function(forward_ad.make_dual(at.detach(), tangent))).tangent,)


def test_symbolic_derivatives_by_parts():
    z, w = np.random.default_rng(13).normal(size=(2, 4, 2)) @ np.array([1, 1j])
    z_i, w_j = Vi(z), Vj(w)
    K = (z_i * w_j).exp()
    np.testing.assert_allclose(K.grad(z_i).dense(), np.conj(w * np.exp(z[:, None] * w)))  # holomorphic
    np.testing.assert_allclose(K.real.grad(z_i).dense(), K.grad(z_i).dense())
    np.testing.assert_allclose(K.imag.grad(z_i).dense(), K.grad(z_i, 1j).dense())
    np.testing.assert_allclose(z_i.imag.exp().grad(z_i.imag).dense(), np.exp(z.imag)[:, None])


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda x, z: (x * z).grad(3), ["made from an array", "not 3"]),
        (lambda x, z: (x * z).divergence(x), ["no meaning for complex", "z.real"]),
        (lambda x, z: abs(z).laplacian(z), ["real variables", "grad and diff"]),
        (lambda x, z: abs(z).grad(z, 1j), ["which are real"]),
        (lambda x, z: (x * z).diff(x, 1j), ["which are real"]),
    ],
)
def test_symbolic_derivatives_refused(act, words):
    with pytest.raises(TypeError) as caught:
        act(Vi(np.ones(4)), Vi(np.ones(4) * 1j))
    for word in words:
        assert word in str(caught.value)
