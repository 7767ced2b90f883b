"""Ready kernels against their formulas in dense NumPy, and their gradients against those of the same in PyTorch."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.special  # type: ignore[import-untyped]
from scipy.spatial import distance  # type: ignore[import-untyped]

from pairfold import LazyTensor, Pm, Vi, Vj, kernels

torch = pytest.importorskip("torch")
M, N, D = 6, 8, 3


def norm(d):
    """Of vectors, with derivative 0 at 0."""
    squared = (d**2).sum(-1)
    zero = squared == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())


def scaled(function):
    """A kernel as a function of (x - y)/lengthscale."""
    return lambda x, y, scale, **more: function((x[:, None] - y) / scale, **more)


def matern_polynomial(nu, r):
    n = int(nu)
    terms = (math.factorial(n + k) / (math.factorial(k) * math.factorial(n - k)) * (2 * r) ** (n - k) for k in range(n + 1))
    return sum(terms) * math.factorial(n) / math.factorial(2 * n)


def matern(d, nu):
    r = math.sqrt(2 * nu) * norm(d)
    return matern_polynomial(nu, r) * torch.exp(-r)


def thin_plate(d):
    squared = (d**2).sum(-1)
    return 0.5 * squared * torch.where(squared == 0, 1.0, squared).log()


DENSE = {
    "gaussian": (scaled(lambda d: torch.exp(-(d**2).sum(-1) / 2)), {}),
    "matern12": (scaled(lambda d: torch.exp(-norm(d))), {}),
    "matern32": (scaled(lambda d: matern(d, 1.5)), {}),
    "matern52": (scaled(lambda d: matern(d, 2.5)), {}),
    "matern": (scaled(matern), {"nu": 3.5}),
    "laplacian": (scaled(lambda d: torch.exp(-d.abs().sum(-1))), {}),
    "energy": (scaled(lambda d: -norm(d)), {}),
    "cauchy": (scaled(lambda d: 1 / (1 + (d**2).sum(-1))), {}),
    "rational_quadratic": (scaled(lambda d, alpha: (1 + (d**2).sum(-1) / (2 * alpha)) ** -alpha), {"alpha": 0.7}),
    "periodic": (
        lambda x, y, scale, period: torch.exp(-2 * ((torch.sin(math.pi * (x[:, None] - y) / period) / scale) ** 2).sum(-1)),
        {"period": 1.3},
    ),
    "thin_plate": (scaled(thin_plate), {}),
}
SCALES = {"one": lambda: 1.0, "number": lambda: 0.8, "parameter": lambda: torch.tensor(0.8, dtype=torch.float64, requires_grad=True),
          "array of one": lambda: torch.tensor([0.8], dtype=torch.float64, requires_grad=True),
          "each coordinate": lambda: torch.tensor([0.5, 0.8, 1.3], dtype=torch.float64, requires_grad=True)}  # fmt: skip


@pytest.fixture
def points(random):
    return random.normal(size=(M, D)), random.normal(size=(N, D))


def call(name, x, y, scale, more):
    return getattr(kernels, name)(x, y, lengthscale=scale, **more)


def close(found, wanted, tolerance=1e-10):
    np.testing.assert_allclose(found.detach().numpy(), wanted.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("which", SCALES)
@pytest.mark.parametrize("name", DENSE)
def test_values_and_gradients(name, which, points):
    dense, more = DENSE[name]
    x, y = (torch.from_numpy(p).requires_grad_() for p in points)
    scale, weights = SCALES[which](), torch.linspace(-1, 1, N, dtype=torch.float64)
    K = call(name, x, y, scale, more)
    assert isinstance(K, LazyTensor)
    assert K.shape == (M, N)
    found, wanted = K @ weights, dense(x, y, scale, **more) @ weights
    close(found, wanted)
    inputs = [x, y] + [scale] * isinstance(scale, torch.Tensor)
    for g, h in zip(*(torch.autograd.grad((v**2).sum(), inputs) for v in (found, wanted)), strict=True):
        assert g.shape == h.shape
        close(g, h)


@pytest.mark.parametrize("name", DENSE)
def test_points_that_coincide(name, points):
    """Values and gradients where x is y, finite and right."""
    dense, more = DENSE[name]
    x = torch.from_numpy(points[0]).requires_grad_()
    scale = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    results = []
    for K in (call(name, x, x, scale, more).sum(dim=1), dense(x, x, scale, **more).sum(1)):
        results.append([K, *torch.autograd.grad((K**2).sum(), [x, scale])])
    for found, wanted in zip(*results, strict=True):
        assert torch.isfinite(found).all()
        close(found, wanted)


@pytest.mark.parametrize(
    ("name", "more", "curvature"),
    [("gaussian", {}, -1), ("matern32", {}, -3), ("matern52", {}, -5 / 3), ("matern", {"nu": 4.5}, -9 / 7), ("cauchy", {}, -2),
     ("rational_quadratic", {"alpha": 2.0}, -1), ("matern12", {}, 0)],
)  # fmt: skip
def test_curvature_where_points_coincide(name, more, curvature, points):
    """The second derivative along each coordinate at r = 0; the kernel with a kink has none, and gives 0."""
    x = torch.from_numpy(points[0]).requires_grad_()
    y = x.detach()
    K = getattr(kernels, name)(x, y[:1], **more).sum(dim=1)
    (first,) = torch.autograd.grad(K[0], x, create_graph=True)
    for k in range(D):
        (second,) = torch.autograd.grad(first[0, k], x, retain_graph=True)
        np.testing.assert_allclose(second[0], np.where(np.arange(D) == k, curvature, 0), atol=1e-12)


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5, 3.5, 6.5])
def test_matern_is_a_bessel_function(nu, points):
    x, y = points
    r = np.sqrt(2 * nu) * np.linalg.norm((x[:, None] - y) / 0.7, axis=-1)
    dense = 2 ** (1 - nu) / scipy.special.gamma(nu) * r**nu * scipy.special.kv(nu, r)
    np.testing.assert_allclose(kernels.matern(x, y, nu, 0.7).dense(), dense, rtol=1e-12)


@pytest.mark.parametrize("nu", [14.5, 16.5, 20.5, 40.5, 60.5, 100.5, 200.5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matern_of_great_smoothness(nu, dtype):
    """Whose polynomial's coefficients are as small as its powers are large; far away it is 0."""
    r = np.array([0.5, 1, 2, 3, 5, 10, 20, 30, 100, 1e6])
    s = np.sqrt(2 * nu) * r
    with np.errstate(all="ignore"):
        logarithm = (1 - nu) * np.log(2) - scipy.special.gammaln(nu) + nu * np.log(s) + np.log(scipy.special.kve(nu, s)) - s
    dense = np.exp(np.where(np.isfinite(logarithm), logarithm, -np.inf))
    found = kernels.matern(np.zeros((1, 1), dtype), r[:, None].astype(dtype), nu).dense()[0]
    tiny = 1e-30 if dtype == "float32" else 1e-290
    np.testing.assert_allclose(found, dense, rtol=5e-5 if dtype == "float32" else 2e-11, atol=tiny)
    assert kernels.matern(np.zeros((1, 1), dtype), np.zeros((1, 1), dtype), nu).dense() == 1


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5, 6.5, 15.5, 16.5, 40.5, 80.5, 130.5, 200.5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matern_down_to_the_smallest_numbers(nu, dtype):
    """Its polynomial lifts what exp(-r) alone leaves to subnormal numbers."""
    d = (np.linspace(0.3, 1, 1001) * ((110 if dtype == "float32" else 820) + 2 * nu) / np.sqrt(2 * nu)).astype(dtype)
    r = np.sqrt(2 * nu) * d.astype("f8")
    logarithm = (1 - nu) * np.log(2) - scipy.special.gammaln(nu) + nu * np.log(r) + np.log(scipy.special.kve(nu, r)) - r
    dense = np.exp(logarithm)
    found = kernels.matern(np.zeros((1, 1), dtype), d[:, None], nu).dense()[0]
    normal = dense > 2 * np.finfo(dtype).tiny
    assert 100 < normal.sum() < 1000
    np.testing.assert_allclose(found[normal], dense[normal], rtol=5e-5 if dtype == "float32" else 2e-11)
    assert (found[~normal] <= 4 * np.finfo(dtype).tiny).all()


def test_matern_of_great_smoothness_has_a_gradient():
    x = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    y = torch.zeros((1, 1), dtype=torch.float64)
    (slope,) = torch.autograd.grad(kernels.matern(x, y, 60.5).sum(), x)
    step = 1e-5
    ends = (float(kernels.matern(x.detach() + sign * step, y, 60.5).sum()) for sign in (1, -1))
    np.testing.assert_allclose(float(slope), np.subtract(*ends) / (2 * step), rtol=1e-8)


def test_limits_of_parameters(points):
    x, y = points
    np.testing.assert_allclose(kernels.rational_quadratic(x, y, 0.7, math.inf).dense(), kernels.rbf(x, y, 0.7).dense(), rtol=1e-14)
    np.testing.assert_allclose(kernels.laplacian(x, y, -0.7).dense(), kernels.laplacian(x, y, 0.7).dense(), rtol=1e-14)
    np.testing.assert_array_equal(kernels.laplacian(x, y, 1e-300).dense(), np.zeros((len(x), len(y))))
    with warnings.catch_warnings(action="error"):
        np.testing.assert_array_equal(kernels.laplacian(x.astype("f4"), y.astype("f4"), 1e300).dense(), np.ones((len(x), len(y))))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [1e6, 1e15, 1e30, math.inf])
def test_rational_quadratic_of_large_alpha(alpha, dtype, points):
    """Which tends to the Gaussian, however α is given."""
    x, y = (p.astype(dtype) for p in points)
    squared = np.square((points[0][:, None] - points[1]) / 0.7).sum(-1) / 2
    dense = np.exp(-squared if alpha == math.inf else -alpha * np.log1p(squared / alpha))
    for given in (alpha, np.array([alpha], dtype), np.full((), alpha, dtype)):
        found = kernels.rational_quadratic(x, y, 0.7, given).dense()
        np.testing.assert_allclose(found, dense, rtol=1e-5 if dtype == "float32" else 1e-13)
    a = torch.tensor([alpha], dtype=getattr(torch, dtype), requires_grad=True)
    kernel = kernels.rational_quadratic(torch.tensor(x), torch.tensor(y), 0.7, a)
    np.testing.assert_allclose(kernel.dense().detach(), dense, rtol=1e-5 if dtype == "float32" else 1e-13)
    (slope,) = torch.autograd.grad(kernel.sum(), a)
    assert np.isfinite(slope.item()) and (slope.item() == 0 or alpha < 1e25)


def test_matern_of_infinite_smoothness_is_gaussian(points):
    x, y = points
    assert kernels.matern(x, y, math.inf, 0.7).formula is kernels.rbf(x, y, 0.7).formula


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DENSE)
def test_other_inputs(name, dtype, points):
    """LazyTensors, single numbers as points, batches, and float32."""
    dense, more = DENSE[name]
    x, y = (p.astype(dtype) for p in points)
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    same = {"rtol": tolerance, "atol": tolerance}

    def wanted(a, b):
        return dense(*(torch.from_numpy(v.astype("f8")) for v in (a, b)), 0.8, **more).sum(1).numpy()

    np.testing.assert_allclose(call(name, Vi(x), Vj(y), 0.8, more).sum(axis=1), wanted(x, y), **same)
    np.testing.assert_allclose(call(name, x, y, Pm(np.array([0.8], dtype)), more).sum(axis=1), wanted(x, y), **same)
    np.testing.assert_allclose(call(name, x[:, 0], y[:, 1], 0.8, more).sum(axis=1), wanted(x[:, :1], y[:, 1:2]), **same)
    batches = call(name, np.stack([x, 2 * x]), y[None], 0.8, more)
    assert batches.shape == (2, M, N)
    np.testing.assert_allclose(batches.sum(axis=2), [wanted(x, y), wanted(2 * x, y)], rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("name", DENSE)
def test_many_coordinates(name, random):
    """In loops, and where squared distances may be inner products; some points coincide."""
    x, y = (random.normal(size=(n, 12)).astype("float32") for n in (40, 30))
    y[:5] = x[:5]
    scale = random.uniform(0.5, 2, 12).astype("float32")
    dense, more = DENSE[name]
    for lengthscale in (3.0, scale):
        wanted = dense(*(torch.from_numpy(v.astype("f8")) for v in (x, y)), torch.as_tensor(lengthscale, dtype=torch.float64), **more)
        np.testing.assert_allclose(call(name, x, y, lengthscale, more).dense(), wanted, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", DENSE)
def test_second_gradients(name, points):
    dense, more = DENSE[name]
    x, y = (torch.from_numpy(p).requires_grad_() for p in points)
    scale = torch.tensor([0.5, 0.8, 1.3], dtype=torch.float64, requires_grad=True)
    results = []
    for K in (call(name, x, y, scale, more).sum(dim=1), dense(x, y, scale, **more).sum(1)):
        first = torch.autograd.grad(K.sin().sum(), [x, y, scale], create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), [x, y, scale]))
    for found, wanted in zip(*results, strict=True):
        close(found, wanted, 1e-8)


def test_distances_are_scipys(points):
    x, y = points
    np.testing.assert_allclose(kernels.energy(x, y).dense(), -distance.cdist(x, y), rtol=1e-12)
    np.testing.assert_allclose(kernels.cosine(x, y).dense(), 1 - distance.cdist(x, y, "cosine"), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(kernels.laplacian(x, y, 2).dense(), np.exp(-distance.cdist(x, y, "cityblock") / 2), rtol=1e-12)
    np.testing.assert_allclose(kernels.rbf(x, y, 2).dense(), np.exp(-distance.cdist(x, y, "sqeuclidean") / 8), rtol=1e-12)


def test_a_length_scale_for_each_row(points):
    x, y = points
    scales = np.linspace(0.5, 1.5, M)
    dense = np.exp(-np.square((x[:, None] - y) / scales[:, None, None]).sum(-1) / 2)
    np.testing.assert_allclose(kernels.gaussian(x, y, Vi(scales)).sum(axis=1), dense.sum(1), rtol=1e-12)


def test_parameters_of_their_own_are_differentiated_by(points):
    x, y = (torch.from_numpy(p) for p in points)
    alpha, period, offset = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.7, [1.1, 1.3, 0.9], 0.5))
    cases = [
        (kernels.rational_quadratic(x, y, alpha=alpha), DENSE["rational_quadratic"][0](x, y, 1.0, alpha=alpha), alpha),
        (kernels.periodic(x, y, period=period), DENSE["periodic"][0](x, y, 1.0, period=period), period),
        (kernels.polynomial(x, y, scale=alpha, offset=offset), (alpha * (x @ y.T) + offset) ** 3, offset),
        (kernels.polynomial(x, y, degree=2, scale=alpha), (alpha * (x @ y.T) + 1) ** 2, alpha),
    ]
    for K, dense, parameter in cases:
        found, wanted = (torch.autograd.grad((v**2).sum(), parameter)[0] for v in (K.sum(dim=1), dense.sum(1)))
        close(found, wanted)


def test_cosine(points):
    x, y = (torch.from_numpy(p).requires_grad_() for p in points)
    found, wanted = kernels.cosine(x, y).sum(dim=1), torch.nn.functional.cosine_similarity(x[:, None], y, dim=-1).sum(1)
    close(found, wanted)
    for g, h in zip(*(torch.autograd.grad((v**2).sum(), [x, y]) for v in (found, wanted)), strict=True):
        close(g, h)
    origin = torch.zeros(2, D, dtype=torch.float64, requires_grad=True)
    value = kernels.cosine(origin, y).sum(dim=1)
    assert (value == 0).all()
    assert torch.isfinite(torch.autograd.grad(value.sum(), origin)[0]).all()


def test_one_kernel_for_all_length_scales(points):
    """Length scales are parameters: a new one compiles nothing."""
    x, y = points
    assert kernels.gaussian(x, y, 0.7).formula is kernels.gaussian(x, y, 0.9).formula


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x, y: kernels.gaussian(x, y[:, :2]), ValueError, "the points x have 3 coordinates, the points y 2"),
        (lambda x, y: kernels.gaussian(x, [1, 2]), TypeError, r"the points y are an array of shape \(M, D\) or \(M,\), or a LazyTensor"),
        (lambda x, y: kernels.gaussian(x, y, np.ones(2)), ValueError, "the points have 3 coordinates, but lengthscale has 2"),
        (lambda x, y: kernels.laplacian(x, y, np.ones(2)), ValueError, "the points have 3 coordinates, but lengthscale has 2"),
        (lambda x, y: kernels.matern(x, y, 2), ValueError, "matern takes a smoothness nu of 0.5, 1.5, 2.5 … or inf, not 2"),
        (lambda x, y: kernels.matern(x, y, 201.5), ValueError, "at most 200.5, or inf, the Gaussian"),
        (lambda x, y: kernels.rbf(x, y, 1e-200), ValueError, "lengthscale is 1e-200, whose square is too small for numbers of float64"),
        (lambda x, y: kernels.rbf(x.astype("f4"), y.astype("f4"), 1e-20), ValueError, "too small for numbers of float32"),
        (lambda x, y: kernels.rbf(x, y, math.nan), ValueError, "lengthscale is nan, but the kernel divides by it"),
        (lambda x, y: kernels.rational_quadratic(x, y, 1.0, np.zeros(1)), ValueError, "alpha is .0.*, but the kernel divides by it"),
        (lambda x, y: kernels.matern(x, y, -0.5), ValueError, "or inf, not -0.5"),
        (lambda x, y: kernels.matern(x, y, "1.5"), ValueError, "or inf, not '1.5'"),
        (lambda x, y: kernels.matern(x, y, np.array([1.5, 2.5])), ValueError, "or inf, not array"),
        (lambda x, y: kernels.periodic(x, y, 1.0, np.ones(2)), ValueError, "the points have 3 coordinates, but period has 2"),
        (lambda x, y: kernels.rbf(x, y, np.ones((2, 2))), ValueError, r"lengthscale is one number or an array of shape .*\(2, 2\)"),
        (lambda x, y: kernels.laplacian(x, y, np.array([1, math.nan, 1])), ValueError, "lengthscale is .*nan.*, but the kernel divides"),
        (lambda x, y: kernels.laplacian(x.astype("f4"), y.astype("f4"), 1e-40), ValueError, "which is too small for numbers of float32"),
    ],
)  # fmt: skip
def test_errors(make, error, message, points):
    with pytest.raises(error, match=message):
        make(*points)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda x: kernels.rbf(x + 1j, x), "the points x.*complex128"),
        (lambda x: kernels.rbf(x, LazyTensor(x[None] + 1j)), "the points y.*ComplexLazyTensor"),
        (lambda x: kernels.rbf(x, x, 1j), "lengthscale.*real.*1j"),
        (lambda x: kernels.rbf(x, x, np.array([1j])), "lengthscale.*complex128"),
    ],
)
def test_kernels_are_of_real_numbers(act, words):
    with pytest.raises(TypeError, match=words):
        act(np.ones((4, 2)))


def test_alpha_is_positive():
    with pytest.raises(ValueError, match="alpha is above 0, not -1"):
        kernels.rational_quadratic(np.ones((4, 2)), np.ones((4, 2)), alpha=-1.0)
