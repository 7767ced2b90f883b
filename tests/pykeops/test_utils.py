"""`pykeops.torch.utils` and `pykeops.numpy.utils`, and the clusters, against dense NumPy."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from scipy import special
from scipy.spatial.distance import cdist

from .helpers import FRAMEWORKS, array, close, module

frameworks = pytest.mark.parametrize("framework", FRAMEWORKS)

KERNELS = {
    "gaussian": lambda d, s: np.exp(-d / s**2),
    "laplacian": lambda d, s: np.exp(-np.sqrt(d) / s),
    "cauchy": lambda d, s: 1 / (1 + d / s**2),
    "inverse_multiquadric": lambda d, s: 1 / np.sqrt(1 + d / s**2),
}


def utils(framework):
    module(framework)
    return import_module(f"pairfold.pykeops.{framework}.utils")


@pytest.mark.parametrize("name", KERNELS)
@frameworks
def test_kernels(framework, name, random):
    x, y = random.standard_normal((5, 3)), random.standard_normal((6, 3))
    given = array(framework, x), array(framework, y)
    squared = cdist(x, y, "sqeuclidean")
    close(utils(framework).squared_distances(*given), squared)
    kernel = KERNELS[name]
    if framework == "torch":
        close(utils("torch").torch_kernel(*given, 0.8, name), kernel(squared, 0.8))
        return
    close(utils("numpy").np_kernel(*given, 0.8, name), kernel(squared, 0.8))
    close(utils("numpy").log_np_kernel(*given, kernel=name, s=0.8), np.log(kernel(squared, 0.8)))
    step = 1e-6
    slope = (kernel(squared + step, 0.8) - kernel(squared - step, 0.8)) / (2 * step)
    close(utils("numpy").grad_np_kernel(*given, 0.8, name), slope, 1e-7)
    with pytest.raises(ValueError, match="kernel must be one of"):
        utils("numpy").np_kernel(*given, 0.8, "box")


def test_other_functions_of_arrays(random):
    u = utils("numpy")
    x, y = random.standard_normal((5, 3)), random.standard_normal((6, 3))
    close(u.differences(x, y), np.moveaxis(x[:, None] - y, -1, 0))
    m = 800 * random.standard_normal((4, 7))
    for axis in (0, 1):
        close(u.log_sum_exp(m, axis), special.logsumexp(m, axis=axis))
    a, b = x / np.linalg.norm(x, axis=1, keepdims=True), y / np.linalg.norm(y, axis=1, keepdims=True)
    spheres = {"binet": (a @ b.T) ** 2, "linear": a @ b.T}
    spheres |= {"gaussian_oriented": np.exp((2 * a @ b.T - 2) / 0.49), "gaussian_unoriented": np.exp((2 * (a @ b.T) ** 2 - 2) / 0.49)}
    for name, expected in spheres.items():
        close(u.np_kernel_sphere(a, b, 0.7, name), expected)
    # The derivative of Σ k(|x_i - y_j|²) <q_i, p_j> by x_i.
    q, p = random.standard_normal((5, 2)), random.standard_normal((6, 2))

    def energy(x):
        return (u.np_kernel(x, y, 0.9, "gaussian") * (q @ p.T)).sum()

    found = u.chain_rules(q, x, y, u.grad_np_kernel(x, y, 0.9, "gaussian"), p)
    step = 1e-6
    for i, k in ((0, 0), (3, 2), (4, 1)):
        moved = np.zeros_like(x)
        moved[i, k] = step
        assert found[i, k] == pytest.approx((energy(x + moved) - energy(x - moved)) / (2 * step), abs=1e-6)


@pytest.mark.cpu
@frameworks
def test_tools(framework, random):
    tools = module(framework).LazyTensor.tools
    x = random.standard_normal((4, 6))
    a = array(framework, x)
    z = x[:, :3] + 1j * x[:, 3:]
    assert tools.is_tensor(a) and not tools.is_tensor(x.tolist()) and tools.dtypename(tools.dtype(a)) == "float64"
    assert tools.detect_complex(array(framework, z)) and tools.detect_complex([1j, 2]) and not tools.detect_complex(a)
    pairs = tools.view_as_real(array(framework, z))
    close(pairs, np.stack([z.real, z.imag], -1).reshape(4, 6))
    close(tools.view_as_complex(pairs), z)
    close(tools.transpose(a), x.T)
    close(tools.arraysum(a), x.sum())
    close(tools.exp(a), np.exp(x))
    close(tools.numpy(tools.copy(a)), x)
    close(tools.view(a, (6, 4)), x.reshape(6, 4))
    close(tools.array([1, 2.5], "float64", None), np.array([1, 2.5]))
    close(tools.zeros((2, 3), tools.dtype(a)), np.zeros((2, 3)))
    close(tools.solve(tools.eye(4, tools.dtype(a)) * 2, a), x / 2)
    close(tools.long(a), x.astype(int))
    assert tools.size(a) == 24 and tools.swap_axes(None) is None and tools.swap_axes(tuple("abcdef")) == tuple("defabc")
    assert tools.rand(2, 3, tools.dtype(a), None).shape == (2, 3) and tools.contiguous(a).shape == (4, 6)
    assert isinstance(tools.get_pointer(a), int)


def test_labels_of_clusters():
    """In NumPy the grid has a corner at the origin, in PyTorch at the smallest coordinates, and labels are int32."""
    points = np.array([[0.15], [0.25], [0.35], [-0.1], [0.55]])
    assert import_module("pairfold.pykeops.numpy.cluster").grid_cluster(points, 0.2).tolist() == [1, 2, 2, 0, 3]
    torch = pytest.importorskip("torch")
    labels = import_module("pairfold.pykeops.torch.cluster").grid_cluster(torch.from_numpy(points + 0.1), 0.2)
    assert labels.tolist() == [1, 1, 2, 0, 3] and labels.dtype == torch.int32


@frameworks
def test_clusters(framework, random):
    """A sum over near cells alone, as programs with block sparsity write it."""
    keops = module(framework)
    cluster = import_module(f"pairfold.pykeops.{framework}.cluster")
    x, y, b = random.random((300, 2)), random.random((200, 2)), random.standard_normal((200, 1))
    x, y, b = (array(framework, a) for a in (x, y, b))
    labels_x, labels_y = cluster.grid_cluster(x, 0.25), cluster.grid_cluster(y, 0.25)
    ranges_x, centres_x, _ = cluster.cluster_ranges_centroids(x, labels_x)
    ranges_y, centres_y, _ = cluster.cluster_ranges_centroids(y, labels_y)
    x, _ = cluster.sort_clusters(x, labels_x)
    (y, b), _ = cluster.sort_clusters((y, b), labels_y)
    keep = ((centres_x[:, None] - centres_y[None]) ** 2).sum(-1) < 0.2
    K = (-((keops.Vi(x) - keops.Vj(y)) ** 2).sum(-1) / 0.01).exp()
    K.ranges = cluster.from_matrix(ranges_x, ranges_y, keep)
    mask = np.zeros((300, 200))
    for i, (start, stop) in enumerate(np.asarray(ranges_x)):
        for j, (first, last) in enumerate(np.asarray(ranges_y)):
            mask[start:stop, first:last] = bool(keep[i, j])
    assert 0.1 < mask.mean() < 0.9
    dense = np.exp(-cdist(np.asarray(x), np.asarray(y), "sqeuclidean") / 0.01)
    close(K @ b, (dense * mask) @ np.asarray(b))
    close(K.T @ x, (dense * mask).T @ np.asarray(x))
