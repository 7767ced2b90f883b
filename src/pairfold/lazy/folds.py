"""Reductions along i or j, and products with arrays: the methods that compute."""

from __future__ import annotations

from typing import Any

from ..arrays import is_array
from ..fold import make_fold
from ..formula.graph import Node, to_string
from ..reductions import KMIN, REDUCTIONS, Reduction, Sum
from ..runtime.operand import Extent
from .symbolic import Leaf, Symbolic, merge, readable


class Folds(Symbolic):
    """What reduces a symbolic matrix to an array."""

    def _reduce(self, reduction: Reduction, axis: int | None, dim: int | None, weight: Any = None) -> Any:
        chosen = self._axis(reduction.name, axis, dim)
        if chosen == 2:
            raise ValueError(f"{reduction.name} runs along the rows or the columns of {self.shape}, not along its inner axis")
        if weight is None:
            return self._run((self.formula,), reduction, chosen)
        formulas, whole = merge((self, weight))
        return whole._run(tuple(formulas), reduction, chosen)

    def _run(self, formulas: tuple[Node, ...], reduction: Reduction, axis: int) -> Any:
        """Reduce formulas over self's leaves, and give the results the shapes that the user expects."""
        if self._kind is None:
            raise TypeError(f"{self!r} is made of numbers alone: nothing tells its size, type or framework")
        fold, used = make_fold(formulas, reduction, axis)
        backend = self._kind.backend
        first = next(leaf.value for leaf in self.leaves if not isinstance(leaf.value, float))
        values = [self.leaves[k].value for k in used]
        dtype = backend.real(self._kind.dtype)
        arrays = [backend.scalar(v, dtype, first) if isinstance(v, float) else v for v in values]
        lengths = [1 if n is None else n for n in self._lengths]
        extent = Extent(self._batch, lengths[1 - axis], lengths[axis])
        results = backend.results(fold, arrays, extent, dtype)
        shape = reduction.shape(fold.dims)
        if not self._inner:
            shape = shape[:-1]
        shaped = tuple(r.reshape(*self._batch, extent.kept, *shape) for r in results[: reduction.public])
        return shaped[0] if len(shaped) == 1 else shaped

    def _inner_or_outer(self, name: str, axis: int | None, dim: int | None) -> Any:
        if self._axis(name, axis, dim) == 2:
            return self._apply(name, inner=False)
        return self._reduce(REDUCTIONS[name](), axis, dim)

    def sum(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Sum along axis 0 or 1, or of the components of each vector along the inner axis, -1 or 2.

        Parameters
        ----------
        axis, dim : int
            NumPy's and PyTorch's names for the same.

        Returns
        -------
        LazyTensor
            Along the inner axis.
        array, (N,) or (N, D) along axis 0, (M,) or (M, D) along axis 1
            Sums are accumulated tile by tile.
        """
        return self._inner_or_outer("sum", axis, dim)

    def min(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Minimum along axis 0 or 1, or over the components of each vector along the inner axis; nan wins, as in NumPy."""
        return self._inner_or_outer("min", axis, dim)

    def max(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Maximum along axis 0 or 1, or over the components of each vector along the inner axis; nan wins, as in NumPy."""
        return self._inner_or_outer("max", axis, dim)

    def prod(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Product along axis 0 or 1."""
        return self._reduce(REDUCTIONS["prod"](), axis, dim)

    def argmin(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Index of the minimum along axis 0 or 1, int64; ties go to the lowest, nan counts as smallest. -1 where there is none."""
        return self._reduce(REDUCTIONS["argmin"](), axis, dim)

    def argmax(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Index of the maximum along axis 0 or 1, int64; ties go to the lowest, nan counts as largest. -1 where there is none."""
        return self._reduce(REDUCTIONS["argmax"](), axis, dim)

    def min_argmin(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Minimum and its index: two arrays from one pass."""
        return self._reduce(REDUCTIONS["min_argmin"](), axis, dim)

    def max_argmax(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Maximum and its index: two arrays from one pass."""
        return self._reduce(REDUCTIONS["max_argmax"](), axis, dim)

    def Kmin(self, K: int, axis: int | None = None, dim: int | None = None) -> Any:  # noqa: N802, N803  # KeOps's names
        """The K smallest values along axis 0 or 1, in increasing order; nan comes last.

        Returns
        -------
        array, (M, K), or (M, K, D) where each pair has a vector

        Raises
        ------
        ValueError
            Where K is no whole number from 1 to the number of columns.
        """
        return self._k_smallest("Kmin", K, axis, dim)

    def argKmin(self, K: int, axis: int | None = None, dim: int | None = None) -> Any:  # noqa: N802, N803
        """The indices, int64, of the K smallest values along axis 0 or 1; ties go to the lowest. See `Kmin`."""
        return self._k_smallest("argKmin", K, axis, dim)

    def Kmin_argKmin(self, K: int, axis: int | None = None, dim: int | None = None) -> Any:  # noqa: N802, N803
        """The K smallest values and their indices: two arrays from one pass. See `Kmin`."""
        return self._k_smallest("Kmin_argKmin", K, axis, dim)

    def _k_smallest(self, name: str, K: int, axis: int | None, dim: int | None) -> Any:  # noqa: N803
        if isinstance(K, bool) or not hasattr(K, "__index__"):
            raise TypeError(f"{name} takes a whole number K, not {K!r}")
        K = K.__index__()
        chosen = self._axis(name, axis, dim)
        there = K if chosen == 2 else self.shape[len(self._batch) + chosen]
        if not 1 <= K <= there:
            raise ValueError(
                f"{name} with K = {K}: K must lie between 1 and {there}, the length of axis {axis if dim is None else dim} of {self.shape}"
            )
        return self._reduce(KMIN[name](K), axis, dim)

    def logsumexp(self, axis: int | None = None, dim: int | None = None, weight: Any = None) -> Any:
        """log Σ exp, along axis 0 or 1, without overflow; with a weight, log Σ weight · exp.

        Parameters
        ----------
        axis, dim : int
        weight : LazyTensor or array, optional
            Of one component or as many as self; the result then has as many as the longer.
        """
        return self._reduce(REDUCTIONS["logsumexp" if weight is None else "logsumexp_weight"](), axis, dim, weight)

    def sumsoftmaxweight(self, weight: Any, axis: int | None = None, dim: int | None = None) -> Any:
        """Σ exp · weight / Σ exp along axis 0 or 1: the mean of the weights under the softmax, as in attention."""
        return self._reduce(REDUCTIONS["sumsoftmaxweight"](), axis, dim, weight)

    def __matmul__(self, b: Any) -> Any:
        """The product of the (…, M, N) matrix with an array (N,) or (…, N, E); batch axes broadcast.

        Returns
        -------
        array, (…, M) or (…, M, E)
        """
        if isinstance(b, Symbolic):
            raise TypeError("K @ b takes an array b; the product of two symbolic matrices is not computed: reduce one of them first")
        if not is_array(b):
            raise TypeError(f"K @ b takes an array b, not {type(b).__name__}")
        if self._inner and self.formula.dim != 1:
            raise ValueError(f"K @ b needs one number for each pair, but K has shape {self.shape}, in {to_string(self.formula)}")
        columns = self._lengths[1]
        if b.ndim == 0 or columns is not None and b.shape[-1 if b.ndim == 1 else -2] != columns:
            outer = self.shape[: len(self._batch) + 2]
            raise ValueError(f"K @ b: K has shape {outer}, so b must have shape ({outer[-1]},) or ({outer[-1]}, E), not {tuple(b.shape)}")
        weights = type(self).__new__(type(self))
        weights._set_leaf(Leaf(readable(b) if b.ndim > 1 else readable(b)[:, None], "j"), inner=b.ndim > 1)
        return self._without_inner()._apply("mul", weights)._reduce(Sum(), -1 if b.ndim == 1 else -2, None)

    def __rmatmul__(self, b: Any) -> Any:
        """The product of an array (M,) or (…, E, M) with the (…, M, N) matrix: (…, N) or (…, E, N)."""
        if not is_array(b):
            raise TypeError(f"b @ K takes an array b, not {type(b).__name__}")
        return self.T @ b if b.ndim <= 1 else (self.T @ b.swapaxes(-1, -2)).swapaxes(-1, -2)
