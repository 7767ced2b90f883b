"""Clusters against plain loops over points, for NumPy and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfold import LazyTensor, cluster
from pairfold.cluster import cluster_centroids, cluster_ranges, cluster_ranges_centroids, grid_cluster

torch = pytest.importorskip("torch")
KINDS = ["numpy", "torch"]


def give(array, kind):
    return torch.from_numpy(np.asarray(array)) if kind == "torch" else np.asarray(array)


def is_of(array, kind, dtype):
    assert isinstance(array, torch.Tensor if kind == "torch" else np.ndarray)
    assert str(array.dtype).endswith(dtype)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 60), st.integers(1, 5), st.sampled_from([0.3, 1.0, "each"]), st.sampled_from(KINDS),
    st.sampled_from(["float32", "float64"]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_grid(m, d, size, kind, dtype, seed):
    random = np.random.default_rng(seed)
    x = random.normal(size=(m, d)).astype(dtype)
    sides = random.uniform(0.2, 2, d).astype(dtype) if size == "each" else size
    labels = cluster.grid_cluster(give(x, kind), give(sides, kind) if size == "each" else size)
    is_of(labels, kind, "int64")
    x = x - x.min(0) if m else x  # as in KeOps
    cells = [tuple(c) for c in np.floor(x / (sides if size == "each" else np.array(size, dtype))).astype(int).tolist()]
    numbers = {c: k for k, c in enumerate(sorted(set(cells)))}
    np.testing.assert_array_equal(labels, [numbers[c] for c in cells])


def test_cells_far_apart_are_told_apart():
    """However many cells there are between the points, in however many dimensions."""
    random = np.random.default_rng(0)
    x = np.sign(random.normal(size=(400, 7))) * 10.0 ** random.integers(0, 15, (400, 7))
    x = np.concatenate([x, x])
    for kind in KINDS:
        labels = np.asarray(cluster.grid_cluster(give(x, kind), 1e-2))
        assert len(np.unique(labels)) == len(np.unique(x, axis=0))
        np.testing.assert_array_equal(labels[:400], labels[400:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("points", "dtype", "size", "labels"),
    [
        ([0, 1, 2, 3], "int64", 1.5, [0, 0, 1, 2]),
        ([0, 1, 3], "int64", 0.5, [0, 1, 2]),
        ([-100, 100, 99], "int8", 50, [0, 2, 1]),
        ([-(2**31), 2**31 - 1, 0], "int32", 2.0**30, [0, 2, 1]),
        ([0, 2**25 + 1, 2**25 + 2], "int64", 1.0, [0, 1, 2]),
        ([-60000, 60000, 0], "float16", 30000, [0, 2, 1]),
    ],
)  # fmt: skip
def test_cells_of_any_type(points, dtype, size, labels, kind):
    x = np.array(points).astype(dtype)[:, None]
    assert cluster.grid_cluster(give(x, kind), size).tolist() == labels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool", "float16", "float32"])
def test_means_of_any_type(dtype, kind):
    random = np.random.default_rng(0)
    x = (random.random((3000, 2)) * 255 if dtype != "int32" else random.random((3000, 2)) * 2**31).astype(dtype)
    found = np.asarray(cluster.cluster_centroids(give(x, kind), give(np.zeros(3000, int), kind)), "f8")
    np.testing.assert_allclose(found, x.mean(0, dtype="f8")[None], rtol=1e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_cells_that_no_number_tells_apart_are_refused(kind):
    for points, size in (([[1e19], [2e19], [-1e19]], 1.0), ([[1e30], [0.0], [5.0]], 1.0), ([[0.1], [0.2]], 1e-20)):
        with pytest.raises(ValueError, match=r"cells apart, more than whole numbers"):
            cluster.grid_cluster(give(points, kind), size)
    assert cluster.grid_cluster(give([[2.0**62], [0.0]], kind), 1.0).tolist() == [1, 0]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.integers(1, 12), st.sampled_from(KINDS), st.sampled_from(["float32", "float64"]), st.integers(0, 2**32 - 1))
def test_sorted_clusters(m, labels, kind, dtype, seed):
    random = np.random.default_rng(seed)
    x, w, lab = (
        random.normal(size=(m, 3)).astype(dtype),
        random.random(m).astype(dtype) * (random.random(m) < 0.7),
        random.integers(0, labels, m),
    )
    w = w.astype(dtype)
    given = give(lab.astype(random.choice(["int32", "int64"])), kind)
    (xs, ws), sorted_lab = cluster.sort_clusters((give(x, kind), give(w, kind)), given)
    assert isinstance(cluster.sort_clusters([give(x, kind)], given)[0], list)
    order = np.array(sorted(range(m), key=lambda i: lab[i]))
    np.testing.assert_array_equal(xs, x[order])
    np.testing.assert_array_equal(ws, w[order])
    np.testing.assert_array_equal(sorted_lab, lab[order])
    lifted = np.maximum(w.astype("f8"), 1e-9)
    for weights, passed in ((np.ones(m), None), (lifted, give(w, kind))):
        ranges, centroids, totals = cluster.cluster_ranges_centroids(give(x, kind), given, passed)
        is_of(ranges, kind, "int64")
        is_of(centroids, kind, dtype)
        is_of(totals, kind, dtype)
        count = lab.max() + 1
        assert ranges.shape == (count, 2) and totals.shape == (count,)
        for k in range(count):
            own = lab == k
            assert list(map(int, ranges[k])) == [(lab < k).sum(), (lab <= k).sum()]
            want = (weights[own, None] * x[own]).sum(0) / weights[own].sum() if own.any() else np.full(3, np.nan)
            np.testing.assert_allclose(centroids[k], want, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(totals[k], weights[own].sum(), rtol=1e-6)
        np.testing.assert_array_equal(cluster.cluster_ranges(given), ranges)
        np.testing.assert_allclose(
            cluster.cluster_centroids(give(x, kind), given, weights=give(weights.astype(dtype), kind)), centroids, rtol=1e-5
        )


def test_means_are_differentiable():
    random = np.random.default_rng(1)
    x, w = (torch.tensor(random.random(s), requires_grad=True) for s in ((9, 2), (9,)))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 2])
    one_hot = torch.nn.functional.one_hot(labels).double().T

    def grads(centroids):
        return torch.autograd.grad(centroids.sin().sum(), (x, w))

    found = grads(cluster.cluster_ranges_centroids(x, labels, w)[1])
    want = grads((one_hot @ (w[:, None] * x)) / (one_hot @ w)[:, None])
    for f, v in zip(found, want, strict=True):
        torch.testing.assert_close(f, v)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_ranges_of_a_matrix(rows, columns, kind, seed):
    """They are the tiles that the matrix says, for both axes."""
    random = np.random.default_rng(seed)

    def cuts(count):
        ends = np.cumsum(random.integers(0, 7, count) + (np.arange(count) == 0))
        return np.stack([ends - np.diff(ends, prepend=0), ends], 1)

    r, c, keep = cuts(rows), cuts(columns), random.random((rows, columns)) < 0.5
    made = cluster.from_matrix(*(give(a, kind) for a in (r.astype("int32"), c, keep)))
    for a in made:
        is_of(a, kind, "int64")
    there = np.zeros((r[-1, 1], c[-1, 1]), bool)
    for k in range(rows):
        for l in range(columns):
            there[r[k, 0] : r[k, 1], c[l, 0] : c[l, 1]] = keep[k, l]
    x, y = random.random((len(there), 2)), random.random((there.shape[1], 2))
    full = ((x[:, None] - y) ** 2).sum(-1)
    K = ((LazyTensor(give(x[:, None], kind)) - LazyTensor(give(y[None], kind))) ** 2).sum(-1)
    for ranges, matrix, dense in ((made, K, full * there), (cluster.swap_axes(made), K.T, (full * there).T)):
        matrix.ranges = ranges
        for axis in (0, 1):
            np.testing.assert_allclose(matrix.sum(axis), dense.sum(axis), rtol=1e-12, atol=1e-12)
    assert cluster.swap_axes(None) is None


@pytest.mark.parametrize(
    ("act", "error", "parts"),
    [
        (lambda x, l: cluster.grid_cluster(x[:, 0], 1.0), ValueError, ["(M, D)", "(5,)"]),
        (lambda x, l: cluster.grid_cluster(x, 0.0), ValueError, ["positive", "0.0"]),
        (lambda x, l: cluster.grid_cluster(x, np.ones(3)), ValueError, ["2, one for each coordinate"]),
        (lambda x, l: cluster.grid_cluster(x / 0.0, 1.0), ValueError, ["nan or infinity"]),
        (lambda x, l: cluster.grid_cluster([[1.0]], 1.0), TypeError, ["list"]),
        (lambda x, l: cluster.sort_clusters(x, l * 1.0), TypeError, ["whole numbers", "float64"]),
        (lambda x, l: cluster.sort_clusters(x[:3], l), ValueError, ["5 labels", "(3, 2)"]),
        (lambda x, l: cluster.cluster_ranges(l - 1), ValueError, ["numbered from 0", "-1"]),
        (lambda x, l: cluster.cluster_centroids(x, l[:4]), ValueError, ["4 labels for 5 points"]),
        (lambda x, l: cluster.cluster_centroids(x, l, weights=np.ones(3)), ValueError, ["5 numbers", "(3,)"]),
        (lambda x, l: cluster.cluster_centroids(x, l, np.ones(2)), ValueError, ["Nlab", "2 numbers", "3 labels"]),
        (lambda x, l: cluster.cluster_ranges(l, 3), TypeError, ["Nlab", "(C,)", "3"]),
        (lambda x, l: cluster.grid_cluster(x, "a"), ValueError, ["size", "'a'"]),
        (lambda x, l: cluster.from_matrix(l, l, l), ValueError, ["ranges_i", "(clusters, 2)", "(5,)"]),
        (lambda x, l: cluster.from_matrix([[0, 3]], [[0, 5]], np.ones((2, 1), bool)), ValueError, ["1 clusters of rows", "(2, 1)"]),
        (lambda x, l: cluster.from_matrix([[0, 3]], [[5, 0]], np.ones((1, 1), bool)), ValueError, ["ranges_j", "one beyond the last"]),
        (lambda x, l: cluster.from_matrix([[0.0, 3.0]], [[0, 5]], np.ones((1, 1), bool)), TypeError, ["ranges_i", "float64"]),
        (lambda x, l: cluster.cluster_centroids(x, l, weights_c=np.ones(3)), ValueError, ["weights_c", "no weights"]),
        (lambda x, l: cluster.cluster_ranges(l * 10**15), MemoryError, ["label up to 2000000000000000", "bytes"]),
        (lambda x, l: cluster.sort_clusters([0.0, 1.0], l), TypeError, ["array of points", "float"]),
        (lambda x, l: cluster.from_matrix([[-1, 3]], [[0, 5]], np.ones((1, 1), bool)), ValueError, ["ranges_i", "from 0 on"]),
        (lambda x, l: cluster.from_matrix([[0, 3]], [[0, 5]], np.ones((1, 1))), TypeError, ["keep", "bool", "float64"]),
        (lambda x, l: cluster.swap_axes((1, 2, 3)), ValueError, ["six arrays", "(1, 2, 3)"]),
        (lambda x, l: cluster.swap_axes(3), ValueError, ["six arrays", "3"]),
        (lambda x, l: cluster.cluster_ranges_centroids(x, l, min_weight="a"), ValueError, ["min_weight", "'a'"]),
        (lambda x, l: cluster.cluster_ranges_centroids(x, l, min_weight=np.nan), ValueError, ["min_weight", "nan"]),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_messages(act, error, parts):
    with pytest.raises(error) as caught:
        act(np.arange(10.0).reshape(5, 2), np.array([0, 1, 1, 2, 0]))
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("points", [np.array([[2**60], [2**60 + 1]]), np.array([[2**63], [5]], np.uint64), np.array([[0], [-(2**53) - 1]])])
def test_integers_that_float64_does_not_hold(points):
    with pytest.raises(ValueError, match="grid_cluster: .*2.53.*subtract"):
        grid_cluster(points, 1)
    np.testing.assert_array_equal(grid_cluster(np.array([[2**53], [2**53 - 1]]), 1), [1, 0])


def test_numbers_of_other_points():
    x, labels = np.array([[1.0], [3.0], [10.0]]), np.array([0, 0, 1])
    with pytest.raises(ValueError, match="cluster_centroids: Nlab has 1 for label 0.*2"):
        cluster_centroids(x, labels, Nlab=np.array([1, 2]))
    with pytest.raises(ValueError, match="cluster_ranges: Nlab has 1 for label 0.*2"):
        cluster_ranges(labels, Nlab=np.array([1, 2]))
    with pytest.raises(ValueError, match="cluster_centroids: weights_c has 9 for label 1.*3"):
        cluster_centroids(x, labels, weights=np.array([1.0, 2.0, 3.0]), weights_c=np.array([3.0, 9.0]))
    found = cluster_centroids(x, labels, Nlab=np.array([2, 1]), weights=np.array([1.0, 2.0, 3.0]), weights_c=np.array([3.0, 3.0]))
    np.testing.assert_allclose(found, [[7 / 3], [10]])
    np.testing.assert_array_equal(cluster_ranges(labels, Nlab=np.array([2, 1, 0])), [[0, 2], [2, 3], [3, 3]])


def test_weights_of_half_precision_count_on():
    x = np.ones((70000, 1), np.float16)
    _, means, weights = cluster_ranges_centroids(x, np.zeros(70000, int))
    assert weights[0] == 70000 and means[0] == 1
    assert cluster_ranges_centroids(x[:2049], np.zeros(2049, int), np.ones(2049, np.float16))[2][0] == 2049


def test_clusters_are_of_real_points():
    x, labels = np.array([[1 + 5j], [3 + 7j]]), np.array([0, 0])
    there = torch.tensor(x), torch.tensor(labels)
    for act in (lambda: grid_cluster(x, 1.0), lambda: cluster_centroids(x, labels), lambda: cluster_ranges_centroids(*there)):
        with pytest.raises(TypeError, match="points are real numbers, not complex128"):
            act()
    with pytest.raises(TypeError, match="weights are real numbers, not complex128"):
        cluster_centroids(x.real, labels, weights=np.array([1j, 1j]))


@pytest.mark.parametrize(
    "act",
    [
        lambda x, lab: cluster.cluster_ranges_centroids(x, torch.from_numpy(lab)),
        lambda x, lab: cluster.cluster_ranges_centroids(torch.from_numpy(x), lab),
        lambda x, lab: cluster.cluster_ranges_centroids(x, lab, weights=torch.ones(6)),
        lambda x, lab: cluster.cluster_centroids(torch.from_numpy(x), torch.from_numpy(lab), weights=np.ones(6)),
        lambda x, lab: cluster.cluster_centroids(x, lab, weights=np.ones(6), weights_c=torch.ones(3)),
        lambda x, lab: cluster.cluster_ranges(lab, torch.ones(3)),
        lambda x, lab: cluster.sort_clusters(x, torch.from_numpy(lab)),
        lambda x, lab: cluster.sort_clusters((x, torch.from_numpy(x)), lab),
        lambda x, lab: cluster.from_matrix(torch.tensor([[0, 6]]), np.array([[0, 6]]), [[True]]),
    ],
)
def test_arrays_of_two_frameworks(act):
    with pytest.raises(TypeError, match="are arrays of one framework, not of numpy and torch: convert some"):
        act(np.random.default_rng(0).random((6, 2)), np.array([0, 1, 0, 2, 1, 2]))


def test_sides_and_matrices_of_any_kind():
    x = np.random.default_rng(0).random((50, 2))
    labels = grid_cluster(x, np.array([0.25, 0.5]))
    for points in (x, torch.tensor(x)):
        for size in ([0.25, 0.5], (0.25, 0.5), torch.tensor([0.25, 0.5]), np.array([0.25, 0.5])):
            found = grid_cluster(points, size)
            assert type(found) is type(points)
            np.testing.assert_array_equal(found, labels)
    rows = torch.tensor([[0, 3], [3, 5]])
    keep = [[True, False], [True, True]]
    made = cluster.from_matrix(rows, rows.tolist(), keep), cluster.from_matrix(rows.numpy(), rows.numpy(), np.array(keep))
    for found, wanted in zip(*made, strict=True):
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found, wanted)
