"""Reductions along rows, columns or both, and products with arrays: the methods that compute."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..arrays import is_array
from ..arrays.base import Backend
from ..fold import Fold, make_fold
from ..formula.graph import Node, to_string
from ..reductions import KMIN, REDUCTIONS, LogSumExp, Reduction, Sum, SumSoftMaxWeight, WeightedLogSumExp
from ..runtime.operand import Extent
from ..runtime.pattern import Pattern
from .accuracy import accumulation_of
from .axes import BATCH, COLUMNS, INNER, ROWS, Axis, both_spellings
from .operators import LinearOperator, product
from .symbolic import Leaf, Symbolic, is_complex, merge, readable

# Sums of ones are exact in float32 up to here.
COUNTED_EXACTLY = 1 << 24


def _wide(dtype: str) -> str:
    """The type of what is only on its way to a result of that type."""
    return "float32" if dtype in ("float16", "bfloat16") else dtype


class Asked(Exception):
    """Thrown in the place of a fold's results where somebody is asking: who would compute them, and what of."""

    def __init__(self, backend: Backend, fold: Fold, arrays: Sequence[Any], extent: Extent, dtype: str, pattern: Pattern | None):
        self.backend, self.fold, self.arrays, self.extent, self.dtype, self.pattern = backend, fold, arrays, extent, dtype, pattern


asking: ContextVar[bool] = ContextVar("pairfold_asking", default=False)


class Folds(Symbolic):
    """What reduces a symbolic matrix to an array.

    Reductions take ``axis`` and ``keepdims``, or ``dim`` and ``keepdim``, with NumPy's meaning: ``axis`` is one axis or several, and
    those that take none reduce all axes then, batches included. Along the inner axis alone the result is a LazyTensor.
    """

    # ---- how they are computed

    def _run(self, formulas: tuple[Node, ...], reduction: Reduction, axis: int, dtype: str | None = None) -> Any:
        """Reduce formulas over self's leaves along the rows or the columns, and give the results the shapes that the user expects."""
        if self._kind is None:
            raise TypeError(f"{self!r} is made of numbers alone: nothing tells its size, type or framework")
        backend, mask = self._kind.backend, self._mask
        dtype = dtype or backend.real(self._kind.dtype)
        whole, formulas, reduction, pattern = mask.apply(self, formulas, reduction, axis) if mask else (self, formulas, reduction, None)
        fold, used = make_fold(formulas, reduction, axis)
        first = self._an_array()
        values = [whole.leaves[k].value for k in used]
        arrays = [backend.scalar(v, _wide(dtype), first) if isinstance(v, float) else v for v in values]
        lengths = [1 if n is None else n for n in self._lengths]
        extent = Extent(self._batch, lengths[1 - axis], lengths[axis])
        if asking.get():
            raise Asked(backend, fold, arrays, extent, dtype, pattern)
        results = backend.results(fold, arrays, extent, dtype, pattern)
        if mask:
            kinds = [r.kind for r in fold.results]
            results = tuple(mask.put_back(r, kind, axis, len(self._batch)) for r, kind in zip(results, kinds, strict=True))
        shape = reduction.shape(fold.dims)
        if not self._inner:
            shape = shape[:-1]
        shaped = tuple(r.reshape(*self._batch, extent.kept, *shape) for r in results[: reduction.public])
        return shaped[0] if len(shaped) == 1 else shaped

    def _an_array(self) -> Any:
        """One of the arrays that self is made of: it tells the framework and the device."""
        return next(leaf.value for leaf in self.leaves if not isinstance(leaf.value, float))

    def _axes(self, name: str, axis: Axis) -> Set[int]:
        """The axes that a user means."""
        everything = {ROWS, COLUMNS} | ({INNER} if self._inner else set()) | ({BATCH} if self._batch else set())
        if axis is None:
            return everything
        axes = axis if isinstance(axis, tuple) else (axis,)
        if sorted(a.__index__() % self.ndim for a in axes if hasattr(a, "__index__")) == list(range(self.ndim)):
            return everything
        chosen = {self._axis(name, a, None) for a in axes}
        if not axes or len(chosen) < len(axes):
            raise ValueError(f"{name} takes one axis or several different ones, not {axis}, of {self.shape}")
        return chosen

    def _along_one(self, reduction: Reduction, axis: Axis, keepdims: bool = False, weight: Any = None) -> Any:
        """A reduction that runs along the rows or along the columns."""
        name = reduction.name
        chosen = self._axis(name, axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis, None)  # type: ignore[arg-type]
        if chosen == INNER:
            raise ValueError(f"{name} runs along the rows or the columns of {self.shape}, not along its inner axis")
        formulas, whole = merge((self,) if weight is None else (self, weight))
        results = whole._run(tuple(formulas), reduction, chosen)
        if not keepdims:
            return results
        return tuple(whole._kept(r, {chosen}) for r in results) if isinstance(results, tuple) else whole._kept(results, {chosen})

    def _along_any(self, reduction: Reduction, axis: Axis, keepdims: bool, weight: Any = None, merging: Reduction | None = None) -> Any:
        """A reduction that runs along any axes; along the inner one as the operator of its name, where there is one."""
        name = reduction.name
        axes = self._axes(name, axis)
        of_vectors = name in ("sum", "min", "max")
        if axes == {INNER}:
            if not of_vectors:
                raise ValueError(f"{name} runs along the rows or the columns of {self.shape}, not along its inner axis")
            return self._apply(name, inner=keepdims)
        formulas, whole = merge((self,) if weight is None else (self, weight))
        if INNER in axes and of_vectors:  # of each pair first: less to accumulate
            result = whole._apply(name, inner=False)._total(reduction, axes - {INNER})
        else:
            result = whole._total(reduction, axes, formulas, merging)
        return whole._kept(result, axes) if keepdims else result

    def _total(
        self,
        reduction: Reduction,
        axes: Set[int],
        formulas: list[Node] | None = None,
        merging: Reduction | None = None,
        dtype: str | None = None,
    ) -> Any:
        """A reduction along several axes: along one, then of the results, by the same reduction or by the one that merges them."""
        whole = tuple(formulas or [self.formula])
        first = COLUMNS if COLUMNS in axes else ROWS
        if axes == {first}:
            return self._run(whole, reduction, first, dtype)
        if dtype is None and self._kind:
            dtype = self._kind.backend.real(self._kind.dtype)
        values = self._run(whole, reduction, first, dtype and _wide(dtype))
        return self._merged(self._flat(values, axes), merging or reduction, dtype)

    def _flat(self, values: Any, axes: Set[int]) -> Any:
        """The results of a reduction along rows or columns, with what is left to reduce as the last axis."""
        assert self._kind is not None
        if self._inner and INNER not in axes:
            values = self._kind.backend.module.moveaxis(values, -1, 0 if BATCH in axes else len(self._batch))
        left = (len(self._batch) if BATCH in axes else 0) + ({ROWS, COLUMNS} <= axes) + (INNER in axes)
        kept, reduced = values.shape[: values.ndim - left], values.shape[values.ndim - left :]
        return values.reshape(*kept, math.prod(reduced))

    def _merged(self, values: Any, reduction: Reduction, dtype: str | None = None) -> Any:
        """An array reduced along its last axis."""
        row: Any = type(self).__new__(type(self))
        row._set_leaf(Leaf(values[..., None], "j"), inner=False)
        results = row._run((row.formula,), reduction, COLUMNS, dtype)
        return tuple(r[..., 0, :] for r in results) if isinstance(results, tuple) else results[..., 0][()]

    def _kept(self, result: Any, axes: Set[int]) -> Any:
        """A result with the axes that were reduced put back, of length 1."""
        batch = [1 if BATCH in axes else n for n in self._batch]
        outer = [1 if axis in axes or n is None else n for axis, n in enumerate(self._lengths)]
        inner = [1 if INNER in axes else self._dim] if self._inner else []
        return result.reshape(*batch, *outer, *inner)

    def _count(self, axes: Set[int]) -> int:
        """How many numbers a reduction along these axes takes to one."""
        if self._mask is not None:
            raise ValueError(
                f"how many pairs there are differs from row to row of a masked matrix {self.shape}: divide sums by counts of your own"
            )
        lengths = {BATCH: math.prod(self._batch), ROWS: self._lengths[0], COLUMNS: self._lengths[1], INNER: self._dim}
        return math.prod(1 if n is None else n for a in axes for n in [lengths[a]])

    # ---- sums

    @both_spellings
    def sum(self, axis: Axis = None, keepdims: bool = False, **accuracy: Any) -> Any:
        """Sum along rows, columns, both, or of the components of each vector.

        Parameters
        ----------
        axis, dim : int or tuple of int, optional
            0 for the rows, 1 for the columns (after batch axes), -1 or 2 for the inner axis where there is one; all by default.
        keepdims, keepdim : bool
            Whether axes that are reduced stay, of length 1.
        accumulate, dtype_acc, use_double_acc, sum_scheme
            How sums are accumulated: ``"block"``, ``"compensated"`` or ``"float64"`` as in `accumulate`, or in KeOps's words.

        Returns
        -------
        LazyTensor
            Along the inner axis alone.
        array, (N,) or (N, D) along axis 0, (M,) or (M, D) along axis 1, () or (D,) along both

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(5, 3), np.random.rand(7, 3)
        >>> K = Vi(x) | Vj(y)
        >>> np.allclose(K.sum(axis=1), (x @ y.T).sum(axis=1)), np.allclose(K.sum(), (x @ y.T).sum())
        (True, True)
        """
        return self._along_any(Sum(accumulation_of(**accuracy)), axis, keepdims)

    @both_spellings
    def mean(self, axis: Axis = None, keepdims: bool = False, **accuracy: Any) -> Any:
        """Mean; see `sum` for the parameters."""
        axes = self._axes("mean", axis)
        if axes == {INNER}:
            return self._apply("sum", inner=keepdims) / self._dim
        mean = self._sums(axes, **accuracy) / self._count(axes)
        return self._finished(mean, axes, keepdims)

    @both_spellings
    def var(self, axis: Axis = None, keepdims: bool = False, ddof: float | None = None, correction: float | None = None) -> Any:
        """Variance, in two passes: about the mean, so that data far from 0 lose nothing.

        Parameters
        ----------
        axis, keepdims
            As for `sum`.
        ddof, correction : float, optional
            NumPy's and PyTorch's names for what is taken off the number of values; by default as the framework of the arrays has it,
            0 for NumPy and 1 for PyTorch.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(5, 3), np.random.rand(7, 3)
        >>> np.allclose((Vi(x) | Vj(y)).var(axis=1), (x @ y.T).var(axis=1))
        True
        """
        axes = self._axes("var", axis)
        if ddof is not None and correction is not None and ddof != correction:
            raise ValueError(f"var was given ddof={ddof} and correction={correction}: they are two names for the same, give one")
        off = ddof if ddof is not None else correction
        if off is None:
            off = self._kind.backend.correction if self._kind else 0
        if axes == {INNER}:
            about = self - self._apply("sum", inner=True) / self.formula.dim
            return about._apply("square")._apply("sum", inner=keepdims) / max(self.formula.dim - off, 0)
        # What is left of the mean's own rounding is the mean of the deviations.
        mean = self._kept(self._sums(axes) / self._count(axes), axes)
        about = self - (self._lift(mean) if self._inner else self._lift(mean[..., None])._without_inner())
        squares = about._apply("square")
        if INNER in axes:
            about, squares = about._apply("sum", inner=False), squares._apply("sum", inner=False)
        both = about._apply("concat", squares, inner=True)._sums(axes - {INNER})
        n, half = self._count(axes), both.shape[-1] // 2
        rest, total = both[..., :half], both[..., half:]
        found = total - rest * rest / n
        found = self._kind.backend.module.maximum(found, found * 0) / max(n - off, 0)  # type: ignore[union-attr]
        return self._finished(found if self._inner and INNER not in axes else found[..., 0], axes, keepdims)

    @both_spellings
    def std(self, axis: Axis = None, keepdims: bool = False, ddof: float | None = None, correction: float | None = None) -> Any:
        """Standard deviation: the root of `var`."""
        return self._root(self.var(axis, keepdims, ddof, correction))

    @both_spellings
    def norm(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Euclidean norm of each row or column, or of each vector; the Frobenius norm along both axes.

        Parameters
        ----------
        axis, keepdims
            As for `sum`; by default the inner axis where there is one, as in KeOps, else all axes.
        """
        axes = {INNER} if axis is None and self._inner else self._axes("norm", axis)
        if axes == {INNER}:
            return self._apply("norm2", inner=keepdims)
        return self._finished(self._root(self._apply("square")._sums(axes)), axes, keepdims)

    @both_spellings
    def prod(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Product; see `sum` for the axes. Along the inner axis together with others alone."""
        return self._along_any(REDUCTIONS["prod"](), axis, keepdims)

    @both_spellings
    def logsumexp(self, axis: Axis = None, keepdims: bool = False, weight: Any = None, **accuracy: Any) -> Any:
        """log Σ exp, without overflow; with a weight, log Σ weight · exp.

        Parameters
        ----------
        axis, keepdims, accumulate
            As for `sum`. Along the inner axis together with others alone.
        weight : LazyTensor or array, optional
            Of one component or as many as self; the result then has as many as the longer.
        """
        accumulation = accumulation_of(**accuracy)
        plain = LogSumExp(accumulation)
        if weight is None:
            return self._along_any(plain, axis, keepdims)
        return self._along_any(WeightedLogSumExp(accumulation), axis, keepdims, weight, plain)

    @both_spellings
    def sumsoftmaxweight(self, weight: Any, axis: Axis = None, keepdims: bool = False, **accuracy: Any) -> Any:
        """Σ exp · weight / Σ exp along the rows or the columns: the mean of the weights under the softmax, as in attention."""
        return self._along_one(SumSoftMaxWeight(accumulation_of(**accuracy)), axis, keepdims, weight)

    def _sums(self, axes: Set[int], dtype: str | None = None, **accuracy: Any) -> Any:
        """Sums as they are needed on the way to a result, of numbers of that type."""
        if dtype is None and self._kind:
            dtype = _wide(self._kind.backend.real(self._kind.dtype))
        terms = self._apply("sum", inner=False) if INNER in axes else self
        return terms._total(Sum(accumulation_of(**accuracy)), axes - {INNER}, dtype=dtype)

    def _finished(self, result: Any, axes: Set[int], keepdims: bool) -> Any:
        """A result in the type that it should have."""
        assert self._kind is not None
        result = self._kind.backend.cast(result, self._kind.backend.real(self._kind.dtype))
        return self._kept(result, axes) if keepdims else result[()]

    def _root(self, squared: Any) -> Any:
        """The square root; its derivative at 0 is 0, as that of the operator."""
        if isinstance(squared, Symbolic):
            return squared._apply("sqrt")
        where, sqrt = (getattr(self._kind.backend.module, name) for name in ("where", "sqrt"))  # type: ignore[union-attr]
        zero = squared == 0
        return where(zero, squared * 0, sqrt(where(zero, squared + 1, squared)))[()]

    # ---- what counts

    @both_spellings
    def any(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Whether some number is not 0, as booleans; see `sum` for the axes. Along the inner axis alone, 1 or 0."""
        return self._truth("max", axis, keepdims)

    @both_spellings
    def all(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Whether no number is 0, as booleans; see `sum` for the axes. Along the inner axis alone, 1 or 0."""
        return self._truth("min", axis, keepdims)

    def _truth(self, name: str, axis: Axis, keepdims: bool) -> Any:
        found = self._apply("ne", 0)._along_any(REDUCTIONS[name](), axis, keepdims)
        return found if isinstance(found, Symbolic) else found > 0

    @both_spellings
    def count_nonzero(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """How many numbers are not 0, int64; see `sum` for the axes. Along the inner axis alone a LazyTensor."""
        axes = self._axes("count_nonzero", axis)
        ones = self._apply("ne", 0)
        if axes == {INNER}:
            return ones._apply("sum", inner=keepdims)
        exact = "float32" if self._count(axes) <= COUNTED_EXACTLY else "float64"
        counts = self._kind.backend.cast(ones._sums(axes, exact), "int64")  # type: ignore[union-attr]
        return self._kept(counts, axes) if keepdims else counts[()]

    # ---- selections

    @both_spellings
    def min(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Minimum; nan wins, as in NumPy. See `sum` for the axes."""
        return self._along_any(REDUCTIONS["min"](), axis, keepdims)

    @both_spellings
    def max(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Maximum; nan wins, as in NumPy. See `sum` for the axes."""
        return self._along_any(REDUCTIONS["max"](), axis, keepdims)

    @both_spellings
    def argmin(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Index of the minimum, int64; ties go to the lowest, nan counts as smallest. -1 where there is none.

        Along several axes it counts in the order of the numbers of the dense array, as in NumPy: ``i * N + j``. Along the inner axis
        alone the result is a LazyTensor.
        """
        return self._place("min", axis, keepdims)

    @both_spellings
    def argmax(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Index of the maximum, int64; ties go to the lowest, nan counts as largest. -1 where there is none. See `argmin`."""
        return self._place("max", axis, keepdims)

    def _place(self, name: str, axis: Axis, keepdims: bool) -> Any:
        axes = self._axes(f"arg{name}", axis)
        if axes == {INNER}:
            return self._apply(f"arg{name}", inner=keepdims)
        if len(axes) == 1:
            return self._along_one(REDUCTIONS[f"arg{name}"](), axis, keepdims)
        first = COLUMNS if COLUMNS in axes else ROWS
        kind = self._kind
        dtype = _wide(kind.backend.real(kind.dtype)) if kind else None
        values, index = self._run((self.formula,), REDUCTIONS[f"{name}_arg{name}"](), first, dtype)
        assert kind is not None
        backend = kind.backend
        if 0 in self.shape:
            missing = self._flat(values, axes).shape[:-1]
            found = backend.indices(np.full(missing, -1), values)
            return self._kept(found, axes) if keepdims else found[()]

        def numbers(count: int, behind: int) -> Any:
            """0, 1 … along an axis, with so many axes behind it."""
            return backend.indices(np.arange(count).reshape(-1, *[1] * behind), values)

        inner = int(self._inner)
        if {ROWS, COLUMNS} <= axes:
            index = index + numbers(values.shape[len(self._batch)], inner) * self._count({COLUMNS})
        if INNER in axes:
            index = index * self.formula.dim + numbers(self.formula.dim, 0)
        if BATCH in axes:
            a_batch = self._count(axes - {BATCH})
            index = index + numbers(math.prod(self._batch), 1 + inner).reshape(*self._batch, *[1] * (1 + inner)) * a_batch
        found = self._best(self._flat(values, axes), self._flat(index, axes), name)
        return self._kept(found, axes) if keepdims else found

    def _best(self, values: Any, index: Any, name: str) -> Any:
        """The lowest index of a minimum or maximum along the last axis of an array of at least one number there."""
        module = self._kind.backend.module  # type: ignore[union-attr]
        best = self._merged(values, REDUCTIONS[name]())[..., None]
        return module.amin(module.where((values == best) | (values != values), index, 2**63 - 1), -1)

    @both_spellings
    def min_argmin(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Minimum along the rows or the columns, and its index: two arrays from one pass; along the inner axis two LazyTensors."""
        if axis is not None and self._axes("min_argmin", axis) == {INNER}:
            return self.min(axis, keepdims), self.argmin(axis, keepdims)
        return self._along_one(REDUCTIONS["min_argmin"](), axis, keepdims)

    @both_spellings
    def max_argmax(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Maximum along the rows or the columns, and its index: two arrays from one pass; along the inner axis two LazyTensors."""
        if axis is not None and self._axes("max_argmax", axis) == {INNER}:
            return self.max(axis, keepdims), self.argmax(axis, keepdims)
        return self._along_one(REDUCTIONS["max_argmax"](), axis, keepdims)

    @both_spellings
    def Kmin(self, K: int, axis: Axis = None) -> Any:  # noqa: N802, N803  # KeOps's names
        """The K smallest values along the rows or the columns, in increasing order; nan comes last.

        Returns
        -------
        array, (M, K), or (M, K, D) where each pair has a vector

        Raises
        ------
        ValueError
            Where K is no whole number from 1 to the number of columns.
        """
        return self._k_smallest("Kmin", K, axis)

    @both_spellings
    def argKmin(self, K: int, axis: Axis = None) -> Any:  # noqa: N802, N803
        """The indices, int64, of the K smallest values along the rows or the columns; ties go to the lowest. See `Kmin`."""
        return self._k_smallest("argKmin", K, axis)

    @both_spellings
    def Kmin_argKmin(self, K: int, axis: Axis = None) -> Any:  # noqa: N802, N803
        """The K smallest values and their indices: two arrays from one pass. See `Kmin`."""
        return self._k_smallest("Kmin_argKmin", K, axis)

    def _k_smallest(self, name: str, K: int, axis: Any) -> Any:  # noqa: N803
        if isinstance(K, bool) or not hasattr(K, "__index__"):
            raise TypeError(f"{name} takes a whole number K, not {K!r}")
        K = K.__index__()
        chosen = self._axis(name, axis, None)
        there = K if chosen == INNER else self.shape[len(self._batch) + chosen]
        if not 1 <= K <= there:
            raise ValueError(f"{name} with K = {K}: K must lie between 1 and {there}, the length of axis {axis} of {self.shape}")
        return self._along_one(KMIN[name](K), axis)

    # ---- products

    def __matmul__(self, b: Any) -> Any:
        """The product of the (…, M, N) matrix with an array (N,) or (…, N, E); batch axes broadcast.

        Returns
        -------
        array, (…, M) or (…, M, E)
        LinearOperator
            Of a LazyTensor or LinearOperator: it applies one after the other.
        """
        if isinstance(b, (Symbolic, LinearOperator)):
            return product(self, b)
        if not is_array(b):
            raise TypeError(f"K @ b takes an array b, not {type(b).__name__}")
        if is_complex(b) and not self._complex:
            return self.real2complex() @ b  # type: ignore[attr-defined]
        if self._inner and self._dim != 1:
            raise ValueError(f"K @ b needs one number for each pair, but K has shape {self.shape}, in {to_string(self.formula)}")
        columns = self._lengths[1]
        if b.ndim == 0 or columns is not None and b.shape[-1 if b.ndim == 1 else -2] != columns:
            outer = self.shape[: len(self._batch) + 2]
            raise ValueError(f"K @ b: K has shape {outer}, so b must have shape ({outer[-1]},) or ({outer[-1]}, E), not {tuple(b.shape)}")
        weights = type(self).__new__(type(self))
        weights._set_leaf(Leaf(readable(b) if b.ndim > 1 else readable(b)[:, None], "j"), inner=b.ndim > 1)
        return self._without_inner()._apply("mul", weights)._along_one(Sum(accumulation_of()), -1 if b.ndim == 1 else -2)

    def __rmatmul__(self, b: Any) -> Any:
        """The product of an array (M,) or (…, E, M) with the (…, M, N) matrix: (…, N) or (…, E, N)."""
        if not is_array(b):
            raise TypeError(f"b @ K takes an array b, not {type(b).__name__}")
        return self.T @ b if b.ndim <= 1 else (self.T @ b.swapaxes(-1, -2)).swapaxes(-1, -2)
