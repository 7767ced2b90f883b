"""Clusters of points, and the block-sparse masks that they make: KeOps's helpers, for NumPy arrays and PyTorch tensors alike.

A mask of tiles is cheap where points that belong together lie next to each other: label the points (`grid_cluster`, or labels of your
own), sort them by their labels (`sort_clusters`), see where each cluster begins and ends and where it lies (`cluster_ranges_centroids`),
decide which clusters meet, and set ``K.ranges = from_matrix(...)`` or use ``K.blocks(...)``.

Results are arrays of the framework of those that are given, on the same device; labels and ranges are int64.

Examples
--------
>>> import numpy as np
>>> from pairfold import Vi, Vj
>>> from pairfold.cluster import cluster_ranges_centroids, from_matrix, grid_cluster, sort_clusters
>>> x = np.random.default_rng(0).random((500, 2))
>>> x, labels = sort_clusters(x, grid_cluster(x, 0.1))
>>> ranges, centroids, _ = cluster_ranges_centroids(x, labels)
>>> near = ((centroids[:, None] - centroids) ** 2).sum(-1) < 0.4**2
>>> K = (-((Vi(x) - Vj(x)) ** 2).sum(-1) / (2 * 0.02**2)).exp()
>>> K.ranges = from_matrix(ranges, ranges, near)
>>> dense = np.exp(-((x[:, None] - x) ** 2).sum(-1) / (2 * 0.02**2))
>>> np.allclose(K.sum(axis=1), dense.sum(axis=1))
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import backend_of, is_array, number, on_host
from .arrays.base import COMPLEX, INTEGERS
from .runtime import memory

__all__ = [
    "cluster_centroids",
    "cluster_ranges",
    "cluster_ranges_centroids",
    "from_matrix",
    "grid_cluster",
    "sort_clusters",
    "swap_axes",
]

LARGEST_CELL = 2.0**63  # cells are counted by 64-bit integers
LARGEST_KEY = 2**62  # of a cell, as one whole number
LARGEST_INTEGER = 2**53  # up to which float64 has all
ROUNDING_OF_HALF = 1e-2  # of weights that somebody summed in half precision


def grid_cluster(x: Any, size: Any) -> Any:
    """Label points by the cell of a grid in which they lie.

    Parameters
    ----------
    x : array, (M, D)
        Of any dimension.
    size : float or array, (D,)
        The lengths of a cell's sides. The first cell begins at the smallest coordinates of all points.

    Returns
    -------
    array of int64, (M,)
        From 0 to C - 1 for C cells that hold points, in the order of the cells' coordinates. Two points have one label if and only if
        they lie in one cell.

    Raises
    ------
    ValueError
        Where x has another shape or holds nan, infinity or integers beyond 2^53, a side is not positive, or points lie
        2^63 cells apart or more.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.cluster import grid_cluster
    >>> grid_cluster(np.array([[0.0], [0.1], [0.9], [0.05], [0.5]]), 0.2)
    array([0, 0, 2, 0, 1])
    """
    x = _points("grid_cluster", x)
    backend = backend_of(x)
    try:
        sides = np.asarray(on_host(size), dtype="float64")
    except (TypeError, ValueError):
        sides = np.zeros(0)  # which no size is
    if not (sides > 0).all() or sides.shape not in ((), (1,), (x.shape[1],)):
        raise ValueError(f"grid_cluster: size must be positive, one number or {x.shape[1]}, one for each coordinate, not {size!r}")
    if backend.dtype(x) in INTEGERS and len(x) and max(int(x.max()), -int(x.min())) > LARGEST_INTEGER:
        raise ValueError("grid_cluster: the points hold integers beyond 2^53, which float64 does not tell apart: subtract a corner first")
    x = backend.cast(x, "float64")  # differences of integers may be larger than integers
    corner = backend.module.amin(x, 0) if len(x) else 0
    scaled = (x - corner) / backend.from_numpy(sides, x)
    if not bool(backend.module.isfinite(scaled).all()):
        raise ValueError("grid_cluster: the points hold nan or infinity, which lie in no cell")
    if bool((scaled >= LARGEST_CELL).any()):
        raise ValueError(
            f"grid_cluster: the points lie up to {float(scaled.max()):.3g} cells apart, more than whole numbers of 64 bits tell apart: "
            f"take larger cells than {size!r}, or scale the points"
        )
    cells = backend.cast(backend.module.floor(scaled), "int64")

    def numbered(keys: Any) -> Any:
        return backend.module.unique(keys, return_inverse=True)[1].reshape(-1)

    keys, count = cells[:, 0] * 0, 1
    for column in (cells[:, d] for d in range(cells.shape[1] if len(cells) else 0)):
        column = column - column.min()
        length = int(column.max()) + 1
        if count * length > LARGEST_KEY:  # as many numbers as there are points at most
            keys, column = numbered(keys), numbered(column)
            count, length = len(cells), len(cells)
        keys, count = keys * length + column, count * length
    return numbered(keys)


def sort_clusters(x: Any, lab: Any) -> tuple[Any, Any]:
    """Sort points by their labels, so that those of a cluster lie next to each other. Points of one label keep their order.

    Parameters
    ----------
    x : array, (M, …), or tuple or list of such arrays
    lab : array of int, (M,)

    Returns
    -------
    array, or tuple or list of arrays
        Like x, sorted.
    array of int, (M,)
        The labels, sorted.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.cluster import sort_clusters
    >>> sort_clusters(np.array([0.0, 5.0, 0.4, 2.0]), np.array([0, 2, 0, 1]))
    (array([0. , 0.4, 2. , 5. ]), array([0, 0, 1, 2]))
    """
    lab = _labels("sort_clusters", lab)
    for array in x if isinstance(x, (tuple, list)) else (x,):
        if not is_array(array):
            raise TypeError(f"sort_clusters takes an array of points, or a tuple or list of such, not {type(array).__name__}")
        _alike("sort_clusters", x=array, lab=lab)
        if array.ndim == 0 or len(array) != len(lab):
            raise ValueError(f"sort_clusters: {len(lab)} labels of an array of shape {tuple(array.shape)}")
    order = backend_of(lab).order(lab)
    return (type(x)(a[order] for a in x) if isinstance(x, (tuple, list)) else x[order]), lab[order]


def cluster_ranges(lab: Any, Nlab: Any = None) -> Any:  # noqa: N803  # KeOps's name
    """Where each cluster begins and ends among points that are sorted by their labels.

    Parameters
    ----------
    lab : array of int, (M,)
        From 0 to C - 1, in any order.
    Nlab : array, (C,), optional
        The number of points of each label, where it is known.

    Returns
    -------
    array of int64, (C, 2)
        The first point and one beyond the last.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.cluster import cluster_ranges
    >>> cluster_ranges(np.array([0, 0, 0, 1, 2]))
    array([[0, 3],
           [3, 4],
           [4, 5]])
    """
    _alike("cluster_ranges", lab=lab, Nlab=Nlab)
    counts = _counts(_labels("cluster_ranges", lab)) if Nlab is None else _of_labels("cluster_ranges", "Nlab", Nlab)
    if Nlab is not None:
        _belong("cluster_ranges", "Nlab", counts, _counts(_labels("cluster_ranges", lab), len(counts)))
    return _ranges(counts)


def cluster_centroids(
    x: Any,
    lab: Any,
    Nlab: Any = None,  # noqa: N803
    weights: Any = None,
    weights_c: Any = None,
) -> Any:
    """The mean of the points of each cluster. In PyTorch it is differentiable by the points and the weights.

    Parameters
    ----------
    x : array, (M, D)
    lab : array of int, (M,)
        From 0 to C - 1, in any order.
    Nlab : array, (C,), optional
        The number of points of each label, where it is known.
    weights : array, (M,), optional
        Of each point; 1 by default.
    weights_c : array, (C,), optional
        Their sum over each cluster, where it is known.

    Returns
    -------
    array, (C, D)
        nan where a label has no points. Of the points' type, of integers of the framework's own for numbers; summed in float64.

    Raises
    ------
    ValueError
        Where there are labels, weights or numbers of points that do not belong to one another.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.cluster import cluster_centroids
    >>> cluster_centroids(np.array([[0.0], [1.0], [4.0], [5.0], [4.5]]), np.array([0, 0, 1, 1, 1]))
    array([[0.5],
           [4.5]])
    """
    x, lab = _points("cluster_centroids", x), _labels("cluster_centroids", lab, len(x))
    _alike("cluster_centroids", x=x, lab=lab, Nlab=Nlab, weights=weights, weights_c=weights_c)
    backend = backend_of(x)
    Nlab, weights_c = (v if v is None else _of_labels("cluster_centroids", n, v) for n, v in (("Nlab", Nlab), ("weights_c", weights_c)))
    if weights is None and weights_c is not None:
        raise ValueError("cluster_centroids: weights_c are sums of weights, but there are no weights")
    weights = None if weights is None else _weights("cluster_centroids", weights, len(x))
    many = _many(lab)
    count = many if Nlab is None and weights_c is None else len(weights_c if Nlab is None else Nlab)
    for name, given in (("Nlab", Nlab), ("weights_c", weights_c)):
        if given is not None and (count < many or len(given) != count):
            raise ValueError(f"cluster_centroids: {name} has {len(given)} numbers, but there are {max(many, count)} labels")
    if Nlab is not None:
        _belong("cluster_centroids", "Nlab", Nlab, _counts(lab, count))
    if weights is None:
        return _means(x, lab, _counts(lab, count) if Nlab is None else Nlab)
    totals = backend.sum_by(backend.cast(weights[:, None], "float64"), lab, count)
    if weights_c is not None:
        _belong("cluster_centroids", "weights_c", weights_c, totals, within=ROUNDING_OF_HALF)
        totals = weights_c
    return _means(x, lab, totals, weights)


def cluster_ranges_centroids(x: Any, lab: Any, weights: Any = None, min_weight: float = 1e-9) -> tuple[Any, Any, Any]:
    """The ranges, the means and the weights of the clusters.

    Parameters
    ----------
    x : array, (M, D)
    lab : array of int, (M,)
        From 0 to C - 1, in any order.
    weights : array, (M,), optional
        Of each point; 1 by default.
    min_weight : float
        Smaller weights count as this one, so that a cluster of weights 0 has a mean too.

    Returns
    -------
    array of int64, (C, 2)
        As `cluster_ranges`.
    array, (C, D)
        As `cluster_centroids`.
    array, (C,)
        The sum of the weights of each cluster, in float32 where weights are of half precision.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.cluster import cluster_ranges_centroids
    >>> x, labels = np.array([[0.0], [0.5], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1, 1])
    >>> ranges, centroids, total = cluster_ranges_centroids(x, labels, weights=np.array([1, 0.5, 1, 1, 10]))
    >>> ranges.tolist(), centroids.round(4).tolist(), total.tolist()
    ([[0, 2], [2, 5]], [[0.1667], [2.75]], [1.5, 12.0])
    """
    least = number(min_weight)
    if not isinstance(least, (int, float)) or isinstance(least, bool) or not 0 <= least < math.inf:
        raise ValueError(f"cluster_ranges_centroids: min_weight is a finite number, 0 or more, not {min_weight!r}")
    x, lab = _points("cluster_ranges_centroids", x), _labels("cluster_ranges_centroids", lab, len(x))
    _alike("cluster_ranges_centroids", x=x, lab=lab, weights=weights)
    weights = None if weights is None else _weights("cluster_ranges_centroids", weights, len(x))
    backend, counts = backend_of(x), _counts(lab)
    kind = backend.dtype(x if weights is None else weights)
    kind = "float32" if kind in ("float16", "bfloat16") else kind  # halves cannot count to 2049
    if weights is None:
        totals = backend.cast(counts, kind)
    else:
        weights = backend.cast(weights, kind).clip(least)
        totals = backend.sum_by(weights[:, None], lab, len(counts))[:, 0]
    return _ranges(counts), _means(x, lab, counts if weights is None else totals, weights), totals


def from_matrix(ranges_i: Any, ranges_j: Any, keep: Any) -> tuple[Any, ...]:
    """KeOps's six arrays for a matrix that says which clusters of rows meet which clusters of columns: see ``K.ranges``.

    Parameters
    ----------
    ranges_i : array of int, (R, 2)
        The first row of each cluster, and one beyond the last.
    ranges_j : array of int, (C, 2)
        Those of the columns.
    keep : array of bool, (R, C)

    Returns
    -------
    ranges_i, slices_i, redranges_j : arrays of int64, (R, 2), (R,) and (S, 2)
        The clusters of rows; for each, where its part of the ranges of columns ends; and the ranges of columns that they meet.
    ranges_j, slices_j, redranges_i : arrays of int64, (C, 2), (C,) and (S, 2)
        The same for the transposed matrix.

    Raises
    ------
    ValueError
        Where shapes do not fit together, or ranges end before they begin.
    TypeError
        Where ranges are not of whole numbers, or some are NumPy's and some PyTorch's.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.cluster import from_matrix
    >>> rows, columns = np.array([[2, 5], [7, 12]]), np.array([[1, 4], [4, 9], [20, 30]])
    >>> made = from_matrix(rows, columns, np.array([[True, True, False], [False, True, False]]))
    >>> [a.tolist() for a in made[:3]]
    [[[2, 5], [7, 12]], [2, 3], [[1, 4], [4, 9], [4, 9]]]
    >>> [a.tolist() for a in made[3:]]
    [[[1, 4], [4, 9], [20, 30]], [1, 3, 3], [[2, 5], [2, 5], [7, 12]]]
    """
    like = next((a for a in (ranges_i, ranges_j, keep) if is_array(a)), np.zeros(0))
    ranges_i, ranges_j, keep = (a if is_array(a) else backend_of(like).from_numpy(np.asarray(a), like) for a in (ranges_i, ranges_j, keep))
    _alike("from_matrix", ranges_i=ranges_i, ranges_j=ranges_j, keep=keep)
    for name, ranges in (("ranges_i", ranges_i), ("ranges_j", ranges_j)):
        if ranges.ndim != 2 or ranges.shape[1] != 2:
            raise ValueError(f"from_matrix: {name} must have shape (clusters, 2), not {tuple(ranges.shape)}")
        kind = backend_of(ranges).dtype(ranges)
        if len(ranges) and kind not in INTEGERS:
            raise TypeError(f"from_matrix: {name} must be whole numbers, not {kind}: convert them, e.g. to int64")
        if bool(((ranges[:, 0] > ranges[:, 1]) | (ranges[:, 0] < 0)).any()):
            raise ValueError(f"from_matrix: {name} are a first number, from 0 on, and one beyond the last, but some are not")
    if tuple(keep.shape) != (len(ranges_i), len(ranges_j)):
        raise ValueError(
            f"from_matrix: keep must say for each of {len(ranges_i)} clusters of rows and {len(ranges_j)} of columns whether they meet, "
            f"but has shape {tuple(keep.shape)}"
        )
    backend = backend_of(keep)
    if backend.dtype(keep) not in (*INTEGERS, "bool"):
        raise TypeError(f"from_matrix: keep must be of bool, not {backend.dtype(keep)}: say keep != 0")
    keep = keep != 0

    def of_rows(rows: Any, columns: Any, keep: Any) -> tuple[Any, Any, Any]:
        _, met = backend.module.where(keep)
        return backend.cast(rows, "int64"), backend.cast(keep.sum(1).cumsum(0), "int64"), backend.cast(columns[met], "int64")

    return (*of_rows(ranges_i, ranges_j, keep), *of_rows(ranges_j, ranges_i, keep.T))


def swap_axes(ranges: Sequence[Any] | None) -> tuple[Any, ...] | None:
    """The six arrays of the transposed matrix; None where there are none.

    Examples
    --------
    >>> from pairfold.cluster import swap_axes
    >>> swap_axes(("ranges_i", "slices_i", "redranges_j", "ranges_j", "slices_j", "redranges_i"))
    ('ranges_j', 'slices_j', 'redranges_i', 'ranges_i', 'slices_i', 'redranges_j')
    """
    if ranges is None:
        return None
    if not isinstance(ranges, (tuple, list)) or len(ranges) != 6:
        raise ValueError(f"swap_axes takes the six arrays of a matrix's ranges, or None, not {ranges!r}")
    return (*ranges[3:6], *ranges[0:3])


def _alike(name: str, **given: Any) -> None:
    """Refuse arrays of several frameworks."""
    arrays = {argument: backend_of(a).name for argument, a in given.items() if is_array(a)}
    if len(set(arrays.values())) > 1:
        *some, last = arrays
        kinds = " and ".join(sorted(set(arrays.values())))
        raise TypeError(f"{name}: {', '.join(some)} and {last} are arrays of one framework, not of {kinds}: convert some")


def _points(name: str, x: Any) -> Any:
    if not is_array(x):
        raise TypeError(f"{name} takes an array of points, (M, D), not {type(x).__name__}")
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"{name} takes an array of points, (M, D), not one of shape {tuple(x.shape)}")
    return _real(name, "points", x)


def _real(name: str, argument: str, array: Any) -> Any:
    if backend_of(array).dtype(array) in COMPLEX:
        raise TypeError(f"{name}: {argument} are real numbers, not {backend_of(array).dtype(array)}: take real and imaginary parts apart")
    return array


def _weights(name: str, weights: Any, length: int) -> Any:
    """Weights as an array (M,)."""
    if not is_array(weights) or math.prod(weights.shape) != length:
        given = f"an array of shape {tuple(weights.shape)}" if is_array(weights) else repr(weights)
        raise ValueError(f"{name}: weights is an array of {length} numbers, one for each point, not {given}")
    return _real(name, "weights", weights).reshape(-1)


def _labels(name: str, lab: Any, length: int | None = None) -> Any:
    """Labels as an array (M,) of whole numbers."""
    if not is_array(lab) or backend_of(lab).dtype(lab) not in INTEGERS:
        kind = backend_of(lab).dtype(lab) if is_array(lab) else type(lab).__name__
        raise TypeError(f"{name}: labels must be an array of whole numbers, (M,), not {kind}")
    lab = lab.reshape(-1)
    if length is not None and len(lab) != length:
        raise ValueError(f"{name}: {len(lab)} labels for {length} points")
    return lab


def _of_labels(name: str, argument: str, value: Any) -> Any:
    """What there is one of for each label."""
    if not is_array(value) or value.ndim == 0:
        raise TypeError(f"{name}: {argument} is an array (C,), a number for each of the labels, not {value!r}")
    return value


def _ranges(counts: Any) -> Any:
    """Where each cluster begins and ends, of so many points each."""
    backend = backend_of(counts)
    counts = backend.cast(counts, "int64")
    ends = counts.cumsum(0)
    return backend.module.stack([ends - counts, ends], 1)


def _means(x: Any, lab: Any, totals: Any, weights: Any = None) -> Any:
    """The mean of the points of each cluster, whose weights have these sums. Sums of many small numbers lose digits, and those of integers
    may be larger than integers, so they are taken in float64.
    """
    backend = backend_of(x)
    kind, x = backend.real(backend.dtype(x)), backend.cast(x, "float64")
    weighted = x if weights is None else x * backend.cast(weights[:, None], "float64")
    sums = backend.sum_by(weighted, lab, len(totals))
    totals = backend.cast(totals.reshape(-1, 1), "float64")
    return backend.cast(sums / backend.module.where(totals == 0, math.nan, totals), kind)


def _belong(name: str, argument: str, given: Any, found: Any, within: float = 0.0) -> None:
    """Refuse numbers of labels that are not those of the points, but for their rounding."""
    backend = backend_of(given)
    ours, theirs = (backend.to_numpy(backend.detach(a)).astype("f8").reshape(-1) for a in (found, given))
    wrong = np.flatnonzero(~(np.abs(theirs - ours) <= within * np.abs(ours))) if len(ours) == len(theirs) else np.zeros(1, int)
    if len(wrong):
        what = f"{len(theirs)} numbers" if len(ours) != len(theirs) else f"{theirs[wrong[0]]:g} for label {wrong[0]}"
        known = f"there are {len(ours)} labels" if len(ours) != len(theirs) else f"those of its points are {ours[wrong[0]]:g}"
        raise ValueError(f"{name}: {argument} has {what}, but {known}")


def _many(lab: Any) -> int:
    """How many clusters there are: labels are numbered from 0."""
    if len(lab) == 0:
        return 0
    if int(lab.min()) < 0:
        raise ValueError(
            f"labels are numbered from 0, but one is {int(lab.min())}: number them, e.g. by unique(labels, return_inverse=True)"
        )
    return int(lab.max()) + 1


def _counts(lab: Any, least: int = 0) -> Any:
    """The number of points of each label, of so many at least, int64."""
    count, backend = max(least, _many(lab)), backend_of(lab)
    memory.require(8 * count, backend.free_bytes(lab), f"a number for each label up to {count - 1}")
    return backend.module.bincount(lab, minlength=count)
