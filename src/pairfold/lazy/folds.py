"""Reductions along rows, columns or both, and products with arrays: the methods that compute."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence, Set
from contextvars import ContextVar
from functools import lru_cache
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from ..arrays import backend_of, is_array, number
from ..arrays.base import COMPLEX, Backend
from ..fold import Fold, make_fold
from ..formula.graph import Node, const, to_string
from ..reductions import KMIN, REDUCTIONS, LogSumExp, Reduction, Sum, SumSoftMaxWeight, WeightedLogSumExp
from ..runtime.operand import Extent
from ..runtime.pattern import Pattern
from .accuracy import accumulation_of
from .axes import BATCH, COLUMNS, INNER, ROWS, Axis, both_spellings
from .operators import LinearOperator, product
from .symbolic import Leaf, Symbolic, kind_of, merge, place_of, readable

# Sums of ones are exact in float32 up to here.
COUNTED_EXACTLY = 1 << 24
NOWHERE = 2**63 - 1
FEW = 8  # of the K smallest, those that a row is first asked for
# More numbers than this for each row are found by sorting: to insert one takes as long as there are others.
FEW_ENOUGH_TO_INSERT = 1024
SORTED_AT_ONCE = 1 << 22
PRODUCTS_KEPT = 1024


_sum = lru_cache(maxsize=8)(Sum)  # there are few, and each product asks for one


def _wide(dtype: str) -> str:
    """The type of what is only on its way to a result of that type."""
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def _over(total: Any, count: Any) -> Any:
    """A total over a count: nan where nothing was counted."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return total / count


def _placed(backend: Backend, index: Any) -> Any:
    """Indices with -1 for `NOWHERE`."""
    return backend.module.where(index == NOWHERE, -1, index)[()]


class Asked(Exception):
    """Thrown in the place of a fold's results where somebody is asking: who would compute them, and what of."""

    def __init__(self, backend: Backend, fold: Fold, arrays: Sequence[Any], extent: Extent, dtype: str, pattern: Pattern | None):
        self.backend, self.fold, self.arrays, self.extent, self.dtype, self.pattern = backend, fold, arrays, extent, dtype, pattern


asking: ContextVar[bool] = ContextVar("pairfold_asking", default=False)


class Question(NamedTuple):
    """What is asked of arrays: all of a reduction that does not depend on their numbers.

    Attributes
    ----------
    backend : Backend
    fold : Fold
    used : tuple of int
        Which leaves are its operands.
    extent : Extent
    dtype : str
        Of real results.
    pattern : Pattern or None
        The pairs that there are, where it is not all.
    """

    backend: Backend
    fold: Fold
    used: tuple[int, ...]
    extent: Extent
    dtype: str
    pattern: Pattern | None

    def results(self, leaves: Sequence[Leaf]) -> tuple[Any, ...]:
        """All results, those that only derivatives use included: (…, kept, dim) each."""
        arrays = [leaves[k].value for k in self.used]
        like: Any = None
        if not arrays or float in map(type, arrays):
            like = next(leaf.value for leaf in leaves if not isinstance(leaf.value, float))
            arrays = [self.backend.scalar(v, _wide(self.dtype), like) if isinstance(v, float) else v for v in arrays]
        if asking.get():
            raise Asked(self.backend, self.fold, arrays, self.extent, self.dtype, self.pattern)
        if not arrays:
            with self.backend.beside(like):
                return self.backend.results(self.fold, arrays, self.extent, self.dtype, self.pattern)
        return self.backend.results(self.fold, arrays, self.extent, self.dtype, self.pattern)


# The questions of products with arrays, by all that they depend on: a product in a loop is asked for again and again.
_products: OrderedDict[tuple[Any, ...], Question] = OrderedDict()


class Folds(Symbolic):
    """What reduces a symbolic matrix to an array.

    Reductions take ``axis`` and ``keepdims``, or ``dim`` and ``keepdim``, with NumPy's meaning: ``axis`` is one axis or several, and
    those that take none reduce all axes then, batches included. Along the inner axis alone the result is a LazyTensor.
    """

    # ---- how they are computed

    def _run(self, formulas: tuple[Node, ...], reduction: Reduction, axis: int, dtype: str | None = None) -> Any:
        """Reduce formulas over self's leaves along the rows or the columns, and give the results the shapes that the user expects."""
        shape = reduction.shape([f.dim for f in formulas])
        if not self._inner:
            shape = shape[:-1]
        results = self._results(formulas, reduction, axis, dtype)[: reduction.public]
        shaped = tuple(r.reshape(*r.shape[:-1], *shape) for r in results)
        return shaped[0] if len(shaped) == 1 else shaped

    def _results(self, formulas: tuple[Node, ...], reduction: Reduction, axis: int, dtype: str | None = None) -> tuple[Any, ...]:
        """All results of a reduction, those that only derivatives use included: (…, kept, dim) each."""
        mask = self._mask
        whole, formulas, reduction, pattern = mask.apply(self, formulas, reduction, axis) if mask else (self, formulas, reduction, None)
        question = self._question(formulas, reduction, axis, dtype, pattern)
        results = question.results(whole.leaves)
        if mask:
            kinds = [r.kind for r in question.fold.results]
            results = tuple(mask.put_back(r, kind, axis, len(self._batch)) for r, kind in zip(results, kinds, strict=True))
        return results

    def _question(
        self, formulas: tuple[Node, ...], reduction: Reduction, axis: int, dtype: str | None = None, pattern: Pattern | None = None
    ) -> Question:
        """What a reduction asks of the leaves."""
        if self._kind is None:
            raise TypeError(f"{self!r} is made of numbers alone: nothing tells its size, type or framework")
        backend = self._kind.backend
        fold, used = make_fold(formulas, reduction, axis)
        lengths = [1 if n is None else n for n in self._lengths]
        extent = Extent(self._batch, lengths[1 - axis], lengths[axis])
        return Question(backend, fold, used, extent, dtype or backend.real(self._kind.dtype), pattern)

    def _an_array(self) -> Any:
        """One of the arrays that self is made of: it tells the framework and the device."""
        return next(leaf.value for leaf in self.leaves if not isinstance(leaf.value, float))

    def _axes(self, name: str, axis: Axis) -> Set[int]:
        """The axes that a user means."""
        if type(axis) is int:
            return {self._axis(name, axis, None)}
        everything = {ROWS, COLUMNS} | ({INNER} if self._inner else set()) | ({BATCH} if self._batch else set())
        if axis is None:
            return everything
        axes = axis if isinstance(axis, tuple) else (axis,)
        whole = [a.__index__() for a in axes if hasattr(a, "__index__")]
        if len(whole) == self.ndim and sorted(a + self.ndim if a < 0 else a for a in whole) == list(range(self.ndim)):
            return everything
        chosen = {self._axis(name, a, None) for a in axes}
        if not axes or len(chosen) < len(axes):
            raise ValueError(f"{name} takes one axis or several different ones, not {axis}, of {self.shape}")
        return chosen

    def _with_weight(self, name: str, weight: Any) -> tuple[list[Node], Any]:
        """The formulas over common leaves, that of a weight too where there is one."""
        if weight is None:
            return [self.formula], self
        formulas, whole = merge((self, weight))
        dims = {f.dim for f in formulas} - {1}
        if len(dims) > 1 and not whole._complex:  # complex numbers have no such reductions, which is said where they are run
            raise ValueError(
                f"{name.removesuffix('_weight')} of {formulas[0].dim} numbers a pair, {self.shape}, takes weights of as many or of one, "
                f"not of {formulas[1].dim}: if each pair is to have one exponent, sum or multiply (K | L) along the last axis first"
            )
        return formulas, whole

    def _along_one(self, reduction: Reduction, axis: Axis, keepdims: bool = False, weight: Any = None) -> Any:
        """A reduction that runs along the rows or along the columns."""
        name = reduction.name
        chosen = self._axis(name, axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis, None)  # type: ignore[arg-type]
        if chosen == INNER:
            raise ValueError(f"{name} runs along the rows or the columns of {self.shape}, not along its inner axis")
        formulas, whole = self._with_weight(name, weight)
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
        formulas, whole = self._with_weight(name, weight)
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
        """The results of a reduction along rows or columns, with what is left to reduce as the last axis; K best are left too."""
        several = values.ndim - len(self._batch) - 1 - self._inner
        if self._inner and INNER not in axes:
            for k in range(values.ndim - 1, 0 if BATCH in axes else len(self._batch), -1):
                values = values.swapaxes(k, k - 1)
        left = (len(self._batch) if BATCH in axes else 0) + ({ROWS, COLUMNS} <= axes) + several + (INNER in axes)
        kept, reduced = values.shape[: values.ndim - left], values.shape[values.ndim - left :]
        return values.reshape(*kept, math.prod(reduced))

    def _merged(self, values: Any, reduction: Reduction, dtype: str | None = None, weight: Any = None) -> Any:
        """An array reduced along its last axis."""
        rows: list[Any] = []
        for array in (values,) if weight is None else (values, weight):
            rows.append(type(self).__new__(type(self)))
            rows[-1]._set_leaf(Leaf(array[..., None], "j"), inner=False)
        formulas, row = merge(rows)
        result = row._run(tuple(formulas), reduction, COLUMNS, dtype)
        return result.reshape((*values.shape[:-1], *result.shape[values.ndim :]))[()]

    def _kept(self, result: Any, axes: Set[int], places: int = 1) -> Any:
        """A result with the axes that were reduced put back, of length 1; the last of them has the `places` that are left of it."""
        batch = [1 if BATCH in axes else n for n in self._batch]
        lengths = [1 if axis in axes or n is None else n for axis, n in enumerate(self._lengths)]
        lengths += [1 if INNER in axes else result.shape[-1]] if self._inner else []  # weights may have more components than self
        lengths[max(axes)] = places
        return result.reshape(*batch, *lengths)

    def _size(self, axes: Set[int]) -> int:
        """How many numbers there are along these axes, masked ones too."""
        lengths = {BATCH: math.prod(self._batch), ROWS: self._lengths[0], COLUMNS: self._lengths[1], INNER: self._dim}
        return math.prod(1 if n is None else n for a in axes for n in [lengths[a]])

    def _count(self, axes: Set[int]) -> Any:
        """How many numbers a reduction along these axes takes to one: an array where a mask lets that differ."""
        if self._mask is None:
            return self._size(axes)
        real: Any = self
        ones = real.real._with(const(1), False)
        ones._batch = ()  # which share the mask
        counts = ones._sums(axes & {ROWS, COLUMNS}, self._exact(axes)) * self._size(axes - {ROWS, COLUMNS})
        return counts[..., None] if self._inner and INNER not in axes else counts

    def _exact(self, axes: Set[int]) -> str:
        """The type in which what is along these axes is counted exactly."""
        return "float32" if self._size(axes) <= COUNTED_EXACTLY else "float64"

    # ---- sums

    @both_spellings
    def sum(self, axis: Axis = None, keepdims: bool = False, **accuracy: Any) -> Any:
        """Sum along rows, columns, both, or of the components of each vector.

        Parameters
        ----------
        axis, dim : int or tuple of int, optional
            0 for the rows, 1 for the columns (after batch axes), -1 or 2 for the inner axis where there is one; by default all, the
            batch axes too, which stay otherwise: reduce the result along them.
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
        return self._along_any(_sum(accumulation_of(**accuracy)), axis, keepdims)

    @both_spellings
    def mean(self, axis: Axis = None, keepdims: bool = False, **accuracy: Any) -> Any:
        """Mean; see `sum` for the parameters.

        Of a masked matrix it is that of the pairs that are there, as of NumPy's masked arrays: nan for a row without any.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(5, 3), np.random.rand(7, 3)
        >>> K, dense = Vi(x) | Vj(y), x @ y.T
        >>> np.allclose(K.mean(axis=1), dense.mean(axis=1))
        True
        >>> np.allclose(K.tril().mean(axis=1), [dense[i, : i + 1].mean() for i in range(5)])
        True
        """
        axes = self._axes("mean", axis)
        if axes == {INNER}:
            return self._apply("sum", inner=keepdims) / self._dim
        return self._finished(_over(self._sums(axes, **accuracy), self._count(axes)), axes, keepdims)

    @both_spellings
    def var(self, axis: Axis = None, keepdims: bool = False, ddof: float | None = None, correction: float | None = None) -> Any:
        """Variance, in two passes: about the mean, so that data far from 0 lose nothing. Of a masked matrix see `mean`.

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
        off: Any = number(ddof if ddof is not None else correction)
        if off is None:
            off = self._kind.backend.correction if self._kind else 0
        if not isinstance(off, Real) or off != off:
            raise TypeError(f"ddof (correction) is a number that the count of terms is lessened by, not {off!r}")
        off = float(off)  # NumPy's own would be computed with in their own type
        off = int(off) if off.is_integer() else off
        if axes == {INNER}:
            about = self - self._apply("sum", inner=True) / self.formula.dim
            return about._apply("square")._apply("sum", inner=keepdims) / max(self.formula.dim - off, 0)
        # What is left of the mean's own rounding is the mean of the deviations.
        n = self._count(axes)
        mean = self._kept(_over(self._sums(axes), n), axes)
        about = self - (self._lift(mean) if self._inner else self._lift(mean[..., None])._without_inner())
        squares = about._apply("square")
        if INNER in axes:
            about, squares = about._apply("sum", inner=False), squares._apply("sum", inner=False)
        both = about._apply("concat", squares, inner=True)._sums(axes - {INNER})
        half = both.shape[-1] // 2
        rest, total = both[..., :half], both[..., half:]
        if self._mask is not None and not (self._inner and INNER not in axes):
            n = n[..., None]
        assert self._kind is not None, "else the sums would have been refused"
        module = self._kind.backend.module
        found = total - module.where(module.isfinite(total), _over(rest * rest, n), 0)  # inf where squares are too large, not nan
        found = _over(module.where(found < 0, 0, found), (n - off) * (n > off))
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
        """Product; see `sum` for the axes. Along the inner axis together with others alone.

        Where factors are 0 derivatives up to the third are right, and further ones where not more than two factors of a product are 0.
        """
        return self._along_any(REDUCTIONS["prod"](), axis, keepdims)

    @both_spellings
    def logsumexp(self, axis: Axis = None, keepdims: bool = False, weight: Any = None, **accuracy: Any) -> Any:
        """log Σ exp, without overflow; with a weight, log Σ weight · exp.

        Parameters
        ----------
        axis, keepdims, accumulate
            As for `sum`. Along the inner axis together with others alone.
        weight : LazyTensor or array, optional
            Of one component or as many as self; the result then has as many as the longer, along an inner axis if one of them has that
            axis, be it of length 1.
        """
        accumulation = accumulation_of(**accuracy)
        plain = LogSumExp(accumulation)
        if weight is None:
            return self._along_any(plain, axis, keepdims)
        return self._along_any(WeightedLogSumExp(accumulation), axis, keepdims, weight, plain)

    @both_spellings
    def sumsoftmaxweight(self, weight: Any, axis: Axis = None, keepdims: bool = False, **accuracy: Any) -> Any:
        """Σ exp · weight / Σ exp: the mean of the weights under the softmax, as in attention.

        Parameters
        ----------
        weight : LazyTensor or array
            Of one component or as many as self; the result then has as many as the longer, along an inner axis if one of them has that
            axis, be it of length 1.
        axis, keepdims, accumulate
            As for `sum`. Along the inner axis together with others alone.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> q, k, v = np.random.rand(5, 3), np.random.rand(7, 3), np.random.rand(7, 2)
        >>> shares = np.exp(q @ k.T)
        >>> np.allclose((Vi(q) | Vj(k)).sumsoftmaxweight(Vj(v), axis=1), shares @ v / shares.sum(1, keepdims=True))
        True
        """
        reduction = SumSoftMaxWeight(accumulation_of(**accuracy))
        axes = self._axes(reduction.name, axis)
        if len(axes) == 1:
            return self._along_one(reduction, axis, keepdims, weight)
        formulas, whole = self._with_weight(reduction.name, weight)
        assert whole._kind is not None
        module, dtype = whole._kind.backend.module, whole._kind.backend.real(whole._kind.dtype)
        # The mean of those of rows or columns, as the sums of their exponentials have it.
        first = COLUMNS if COLUMNS in axes else ROWS
        means, logs = whole._results(tuple(formulas), reduction, first, _wide(dtype))
        logs = module.broadcast_to(logs, means.shape)
        means = module.where(logs > -math.inf, means, 0)
        if not whole._inner:
            means, logs = means[..., 0], logs[..., 0]
        result = whole._merged(whole._flat(logs, axes), reduction, dtype, whole._flat(means, axes))
        return whole._kept(result, axes) if keepdims else result

    def _sums(self, axes: Set[int], dtype: str | None = None, **accuracy: Any) -> Any:
        """Sums as they are needed on the way to a result, of numbers of that type."""
        if dtype is None and self._kind:
            dtype = _wide(self._kind.backend.real(self._kind.dtype))
        terms = self._apply("sum", inner=False) if INNER in axes else self
        return terms._total(_sum(accumulation_of(**accuracy)), axes - {INNER}, dtype=dtype)

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
        return self._truth("any", "max", axis, keepdims)

    @both_spellings
    def all(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Whether no number is 0, as booleans; see `sum` for the axes. Along the inner axis alone, 1 or 0."""
        return self._truth("all", "min", axis, keepdims)

    def _truth(self, called: str, name: str, axis: Axis, keepdims: bool) -> Any:
        self._axes(called, axis)  # what is wrong with them is said of what the user called
        found = self._apply("ne", 0)._along_any(REDUCTIONS[name](), axis, keepdims)
        return found if isinstance(found, Symbolic) else found > 0

    @both_spellings
    def count_nonzero(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """How many numbers are not 0, int64; see `sum` for the axes. Along the inner axis alone a LazyTensor."""
        axes = self._axes("count_nonzero", axis)
        ones = self._apply("ne", 0)
        if axes == {INNER}:
            return ones._apply("sum", inner=keepdims)
        # The formula is computed in the type of the counts: no narrower one than its own.
        wide = self._kind is not None and self._kind.backend.real(self._kind.dtype) == "float64"
        counts = ones._sums(axes, "float64" if wide else self._exact(axes))
        counts = backend_of(counts).cast(counts, "int64")
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
        return self._extreme("argmin", axis, keepdims)

    @both_spellings
    def argmax(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Index of the maximum, int64; ties go to the lowest, nan counts as largest. -1 where there is none. See `argmin`."""
        return self._extreme("argmax", axis, keepdims)

    @both_spellings
    def min_argmin(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Minimum and its index, as of `min` and `argmin`: two arrays from one pass; along the inner axis alone two LazyTensors."""
        return self._extreme("min_argmin", axis, keepdims)

    @both_spellings
    def max_argmax(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Maximum and its index, as of `max` and `argmax`: two arrays from one pass; along the inner axis alone two LazyTensors."""
        return self._extreme("max_argmax", axis, keepdims)

    def _extreme(self, name: str, axis: Axis, keepdims: bool) -> Any:
        axes = self._axes(name, axis)
        *of_values, of_indices = name.split("_")
        if axes == {INNER}:
            found = tuple(self._apply(part, inner=keepdims) for part in (*of_values, of_indices))
            return found if of_values else found[0]
        if len(axes) == 1:
            return self._along_one(REDUCTIONS[name](), axis, keepdims)
        plain = of_indices.removeprefix("arg")
        values, index = self._candidates(REDUCTIONS[f"{plain}_{of_indices}"](), axes)
        backend = self._kind.backend  # type: ignore[union-attr]
        value = self._merged(values, REDUCTIONS[plain]())
        if 0 in self.shape:
            place = backend.indices(np.full(value.shape, -1), values)[()]
        else:
            best = (values == value[..., None]) | (values != values)
            place = _placed(backend, backend.module.amin(backend.module.where(best, index, NOWHERE), -1))
        found = (self._finished(value, axes, keepdims), self._kept(place, axes) if keepdims else place)
        return found if of_values else found[1]

    def _candidates(self, reduction: Reduction, axes: Set[int]) -> tuple[Any, Any]:
        """Of each row, or each column, what a reduction to values and indices selects: those along several axes are among them.

        As the last axis of two arrays, the indices as the dense array along those axes has them, `NOWHERE` where there is no pair.
        """
        first = COLUMNS if COLUMNS in axes else ROWS
        kind = self._kind
        values, index = self._run((self.formula,), reduction, first, kind and _wide(kind.backend.real(kind.dtype)))
        assert kind is not None
        backend, behind = kind.backend, values.ndim - len(self._batch) - 1

        def numbers(count: int, behind: int) -> Any:
            """0, 1 … along an axis, with so many axes behind it."""
            return backend.indices(np.arange(count).reshape(-1, *[1] * behind), values)

        there = index >= 0
        if {ROWS, COLUMNS} <= axes:
            index = index + numbers(values.shape[len(self._batch)], behind) * self._size({COLUMNS})
        if INNER in axes:
            index = index * self._dim + numbers(self._dim, 0)
        if BATCH in axes:
            a_batch = self._size(axes - {BATCH})
            index = index + numbers(math.prod(self._batch), 0).reshape(*self._batch, *[1] * (1 + behind)) * a_batch
        return self._flat(values, axes), self._flat(backend.module.where(there, index, NOWHERE), axes)

    @both_spellings
    def Kmin(self, K: int, axis: Axis = None, keepdims: bool = False) -> Any:  # noqa: N802, N803  # KeOps's names
        """The K smallest values along rows, columns or several axes, in increasing order; nan comes last, and stands where there are
        fewer: where a mask leaves some rows fewer pairs than K.

        Parameters
        ----------
        K : int
            At most as many as there are along these axes.
        axis, keepdims
            As for `sum`, but for the inner axis alone. With ``keepdims`` the K values stay where the axis was that is reduced, the last
            one of several, as in `torch.topk`.

        Returns
        -------
        array, (…, M, K) along the columns, (…, N, K) along the rows, (…, K) along both
            With D behind, where each pair has a vector and the inner axis is not reduced.

        Raises
        ------
        ValueError
            Where K is no whole number from 1 to the number of values.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(5, 3), np.random.rand(7, 3)
        >>> K, dense = Vi(x) | Vj(y), x @ y.T
        >>> np.allclose(K.Kmin(2, axis=1), np.sort(dense, axis=1)[:, :2]), np.allclose(K.Kmin(2), np.sort(dense.ravel())[:2])
        (True, True)
        """
        return self._k_smallest("Kmin", K, axis, keepdims)

    @both_spellings
    def argKmin(self, K: int, axis: Axis = None, keepdims: bool = False) -> Any:  # noqa: N802, N803
        """The indices, int64, of the K smallest values; ties go to the lowest; -1 where there is none. See `Kmin`.

        Along several axes they count in the order of the numbers of the dense array, as for `argmin`.
        """
        return self._k_smallest("argKmin", K, axis, keepdims)

    @both_spellings
    def Kmin_argKmin(self, K: int, axis: Axis = None, keepdims: bool = False) -> Any:  # noqa: N802, N803
        """The K smallest values and their indices: two arrays from one pass. See `Kmin` and `argKmin`."""
        return self._k_smallest("Kmin_argKmin", K, axis, keepdims)

    def _k_smallest(self, name: str, K: int, axis: Axis, keepdims: bool) -> Any:  # noqa: N803
        if isinstance(K, bool) or not hasattr(K, "__index__"):
            raise TypeError(f"{name} takes a whole number K, not {K!r}")
        K, axes = K.__index__(), self._axes(name, axis)
        if axes == {INNER}:
            raise ValueError(f"{name} runs along the rows or the columns of {self.shape}, not along its inner axis")
        there = self._size(axes)
        if not 1 <= K <= there:
            what = f"the length of axis {axis}" if len(axes) == 1 else "how many numbers there are"
            raise ValueError(f"{name} with K = {K}: K must lie between 1 and {there}, {what}, of {self.shape}")
        if len(axes) > 1:
            results = self._k_of_several(name, K, axes)
        elif K * self._dim > FEW_ENOUGH_TO_INSERT and self._mask is None and self._kind and not self._complex:
            results = self._k_by_sorting(name, K, axes)
        else:
            results = self._along_one(KMIN[name](K), axis)
        if not keepdims:
            return results

        def kept(result: Any) -> Any:
            return self._kept(result if axes != {ROWS} else result.swapaxes(len(self._batch), len(self._batch) + 1), axes, K)

        return tuple(map(kept, results)) if isinstance(results, tuple) else kept(results)

    def _k_by_sorting(self, name: str, K: int, axes: Set[int]) -> Any:  # noqa: N803
        """Those along the rows or the columns, of some rows at a time: a kernel inserts each into all that it has found before."""
        assert self._kind is not None
        side: Any = self if axes == {COLUMNS} else self.T
        backend = self._kind.backend
        (kept, reduced), first = side._outer_lengths(), len(self._batch)
        at_once = max(1, SORTED_AT_ONCE // (reduced * self._dim * max(1, math.prod(self._batch))))
        parts = []
        for start in range(0, max(1, kept), at_once):
            values = side._sub(range(start, min(kept, start + at_once)), range(reduced)).dense()
            values = values.swapaxes(-1, -2) if self._inner else values
            order = backend.order(values)[..., :K]
            found = {"Kmin": (backend.take_along(values, order),), "argKmin": (order,)}
            pair = found.get(name, (*found["Kmin"], order))
            parts.append([r.swapaxes(-1, -2) if self._inner else r for r in pair])
        results = tuple(backend.module.concatenate(p, first) for p in zip(*parts, strict=True))
        return results if len(results) > 1 else results[0]

    def _k_of_several(self, name: str, K: int, axes: Set[int]) -> Any:  # noqa: N803
        """Those along several axes are among those of each row, or of each column; of most of them few are enough."""
        along = {COLUMNS if COLUMNS in axes else ROWS}
        most, components = min(K, self._size(along)), self._size(axes & {INNER})
        of_each = min(most, max(FEW, -(-2 * K // self._size(axes - along))))
        kind = self._kind
        assert kind is not None
        backend = kind.backend
        while True:
            values, index = self._candidates(KMIN["Kmin_argKmin"](of_each), axes)
            order = backend.order(index)  # so that ties go to the lowest index, and places without pairs come last
            values, index = backend.take_along(values, order), backend.take_along(index, order)
            best = backend.order(values)[..., :K]
            places = backend.take_along(order, best) // components % of_each
            # A row of which the last candidate is taken may have more.
            if of_each == most or not ((places == of_each - 1) & (backend.take_along(index, best) != NOWHERE)).any():
                break
            of_each = min(most, 4 * of_each)
        values = backend.cast(backend.take_along(values, best), backend.real(kind.dtype))
        index = _placed(backend, backend.take_along(index, best))
        found = {"Kmin": (values,), "argKmin": (index,)}.get(name, (values, index))
        if self._inner and INNER not in axes:
            found = tuple(r.swapaxes(-1, -2) for r in found)
        return found if len(found) > 1 else found[0]

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
        kind = kind_of(b)
        if kind.dtype in COMPLEX and not self._complex:
            return self.real2complex() @ b  # type: ignore[attr-defined]
        if self._inner and self._dim != 1:
            raise ValueError(f"K @ b needs one number for each pair, but K has shape {self.shape}, in {to_string(self.formula)}")
        columns, shape = self._lengths[1], b.shape
        vector = len(shape) == 1
        if not shape or columns is not None and shape[-1 if vector else -2] != columns:
            outer = self.shape[: len(self._batch) + 2]
            raise ValueError(f"K @ b: K has shape {outer}, so b must have shape ({outer[-1]},) or ({outer[-1]}, E), not {tuple(shape)}")
        if not shape[-1] and not vector:  # no column of a product with zeros: of the right type, on the right device, with a gradient
            return (self @ b.sum(-1, dtype=b.dtype)[..., None])[..., :0]
        b = readable(b)
        leaf = Leaf(b[:, None] if vector else b, "j")
        if self._mask is not None or self._complex:
            return self._weighted(leaf, not vector)._along_one(_sum(accumulation_of()), -1 if vector else -2)
        place = place_of(leaf, self.leaves)
        leaves = (*self.leaves, leaf)
        alike = (self.formula, self._kind, self._batch, self._lengths, kind, shape, len(leaves), place, accumulation_of())
        question = _products.get(alike)
        if question is None:
            whole = self._weighted(leaf, not vector)
            question = _products[alike] = whole._question((whole.formula,), _sum(accumulation_of()), COLUMNS)
            if len(_products) > PRODUCTS_KEPT:
                _products.popitem(last=False)
        result = question.results(leaves)[0]
        return result[..., 0] if vector else result

    def _weighted(self, weights: Leaf, inner: bool) -> Any:
        """Each pair times the number or the vector of its column."""
        lazy = type(self).__new__(type(self))
        lazy._set_leaf(weights, inner=inner)
        return self._without_inner()._apply("mul", lazy)

    def __rmatmul__(self, b: Any) -> Any:
        """The product of an array (M,) or (…, E, M) with the (…, M, N) matrix: (…, N) or (…, E, N)."""
        if not is_array(b):
            raise TypeError(f"b @ K takes an array b, not {type(b).__name__}")
        outer = self.shape[: len(self._batch) + 2]
        if b.ndim == 0 or self._lengths[0] is not None and b.shape[-1] != outer[-2]:
            raise ValueError(f"b @ K: K has shape {outer}, so b must have shape ({outer[-2]},) or (E, {outer[-2]}), not {tuple(b.shape)}")
        return self.T @ b if b.ndim <= 1 else (self.T @ b.swapaxes(-1, -2)).swapaxes(-1, -2)
