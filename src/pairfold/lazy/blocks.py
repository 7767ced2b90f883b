"""Matrices of matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from ..arrays import backend_of, number
from ..reductions import REDUCTIONS
from .axes import BATCH, COLUMNS, ROWS, Axis, both_spellings
from .operators import LinearOperator, Part, dense_of, diagonal_of, full, part_of, text_of
from .symbolic import Symbolic


class Block(LinearOperator):
    """Matrices beside and below one another; None stands for zeros.

    Products, sums and means take blocks of any kind. The other reductions merge those of the blocks, so they need blocks that are
    LazyTensors or zeros, and run along one axis; minima, maxima, products and logsumexp run along both too.
    """

    def __init__(self, rows: Sequence[Sequence[Part | None]], heights: Sequence[int], widths: Sequence[int]):
        self.rows, self.heights, self.widths = rows, heights, widths
        parts = [p for row in rows for p in row if p is not None]
        super().__init__((sum(heights), sum(widths)), parts)

    def _times(self, b: Any) -> Any:
        parts = [b[..., start : start + width, :] for start, width in zip(_starts(self.widths), self.widths, strict=True)]
        products = [[p @ part for p, part in zip(row, parts, strict=True) if p is not None] for row in self.rows]
        sums = [reduce(add, of_row) if of_row else full(b, 0.0, n, 1) for of_row, n in zip(products, self.heights, strict=True)]
        return _below(sums, np.broadcast_shapes(self.shape[:-2], b.shape[:-2]), b.shape[-1])

    def _mapped(self, change: Callable[[Any], Any]) -> Block:
        rows = [[None if p is None else p._mapped(change) for p in row] for row in self.rows]
        return Block(rows, self.heights, self.widths)

    @property
    def T(self) -> Block:  # noqa: N802
        rows = [[None if p is None else p.T for p in column] for column in zip(*self.rows, strict=True)]
        return Block(rows, self.widths, self.heights)

    def _dense(self, like: Any) -> Any:
        batch = self.shape[:-2]
        rows = []
        for row, height in zip(self.rows, self.heights, strict=True):
            parts = [full(like, 0.0, height, n) if p is None else dense_of(p, like) for p, n in zip(row, self.widths, strict=True)]
            rows.append(_below([p.swapaxes(-1, -2) for p in parts], batch, height).swapaxes(-1, -2))
        return _below(rows, batch, self.shape[-1])

    def _diagonal(self, like: Any, offset: int) -> Any:
        if self.heights != self.widths or offset:
            return super()._diagonal(like, offset)
        own = [self.rows[k][k] for k in range(len(self.heights))]
        parts = [full(like, 0.0, n) if p is None else diagonal_of(p, like, 0) for p, n in zip(own, self.heights, strict=True)]
        return _below([p[..., None] for p in parts], self.shape[:-2], 1)[..., 0]

    def _text(self) -> str:
        return "[" + "; ".join(", ".join("0" if p is None else text_of(p) for p in row) for row in self.rows) + "]"

    # ---- reductions that are no products

    @both_spellings
    def min(self, axis: Axis = None) -> Any:
        """Minimum of each column (axis 0), of each row (axis 1), or of all entries."""
        return self._merged("min", axis, "minimum")

    @both_spellings
    def max(self, axis: Axis = None) -> Any:
        """Maximum of each column, of each row, or of all entries."""
        return self._merged("max", axis, "maximum")

    @both_spellings
    def prod(self, axis: Axis = None) -> Any:
        """Product of each column, of each row, or of all entries."""
        return self._merged("prod", axis, "multiply")

    @both_spellings
    def logsumexp(self, axis: Axis = None) -> Any:
        """log Σ exp of each column, of each row, or of all entries: a zero adds exp(0) = 1."""
        return self._merged("logsumexp", axis, "logaddexp")

    @both_spellings
    def argmin(self, axis: Axis) -> Any:
        """Index of the minimum of each column or row, int64; ties go to the lowest, nan counts as smallest."""
        return self.min_argmin(axis)[1]

    @both_spellings
    def argmax(self, axis: Axis) -> Any:
        """Index of the maximum of each column or row, int64; ties go to the lowest, nan counts as largest."""
        return self.max_argmax(axis)[1]

    @both_spellings
    def min_argmin(self, axis: Axis) -> Any:
        """Minimum of each column or row, and its index."""
        return self._selected("min_argmin", axis)

    @both_spellings
    def max_argmax(self, axis: Axis) -> Any:
        """Maximum of each column or row, and its index."""
        return self._selected("max_argmax", axis)

    @both_spellings
    def Kmin(self, K: int, axis: Axis) -> Any:  # noqa: N802, N803  # KeOps's names
        """The K smallest values of each column or row in increasing order, (…, M, K)."""
        return self.Kmin_argKmin(K, axis)[0]

    @both_spellings
    def argKmin(self, K: int, axis: Axis) -> Any:  # noqa: N802, N803
        """The indices, int64, of the K smallest values of each column or row, (…, M, K)."""
        return self.Kmin_argKmin(K, axis)[1]

    @both_spellings
    def Kmin_argKmin(self, K: int, axis: Axis) -> Any:  # noqa: N802, N803
        """The K smallest values of each column or row, and their indices."""
        side = self._side("Kmin_argKmin", axis)
        length = side.shape[-1]
        if isinstance(K, bool) or not hasattr(K, "__index__") or not 1 <= K.__index__() <= length:
            raise ValueError(f"Kmin_argKmin with K = {K}: K must be a whole number from 1 to {length}, of {self.shape}")

        def smallest(results: Sequence[tuple[int, Any]]) -> tuple[Any, ...]:
            backend = backend_of(results[0][1][0])
            values = backend.module.concatenate([v for _, (v, _) in results], -1)
            index = backend.module.concatenate([i + start for start, (_, i) in results], -1)
            # Blocks come in the order of their columns, each with the lowest of equal ones first: so do the indices then.
            order = backend.order(values)[..., :K]
            return backend.take_along(values, order), backend.take_along(index, order)

        return side._row_by_row("Kmin_argKmin", smallest, lambda width: (min(K, width),))

    def _merged(self, name: str, axis: Axis, function: str) -> Any:
        axes = self._axes(name, axis)
        side = self if COLUMNS in axes else self.T
        join = getattr(backend_of(self._an_array()).module, function)
        (found,) = side._row_by_row(name, lambda results: (reduce(join, (r for _, r in results))[..., None],))
        found = found[..., 0]
        if axes <= {ROWS} or axes <= {COLUMNS}:
            return found
        return self._parts[0]._merged(found.reshape(-1) if BATCH in axes else found, REDUCTIONS[name]())

    def _selected(self, name: str, axis: Axis) -> Any:
        where = backend_of(self._an_array()).module.where

        def first(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
            (v, i), (w, j) = a, b
            later = ((w < v if name == "min_argmin" else w > v) | (w != w)) & (v == v)
            return where(later, w, v), where(later, j, i)

        def best(results: Sequence[tuple[int, Any]]) -> tuple[Any, ...]:
            return reduce(first, ((v[..., None], i[..., None] + start) for start, (v, i) in results))

        return tuple(found[..., 0] for found in self._side(name, axis)._row_by_row(name, best))

    def _side(self, name: str, axis: Axis) -> Block:
        """The operator or its transpose, so that what is reduced are its columns."""
        axes = self._axes(name, axis)
        if len(axes) > 1:
            raise ValueError(f"{name} runs along the rows or the columns of {self.shape}: along one axis, not {axis}")
        return self if axes == {COLUMNS} else self.T

    def _row_by_row(
        self, name: str, merge: Callable[..., tuple[Any, ...]], arguments: Callable[[int], tuple[Any, ...]] = lambda width: ()
    ) -> tuple[Any, ...]:
        """The reduction of that name of each block along its columns, merged: arrays (…, M, K).

        `merge` takes, for each block in a row, the number of its first column and the result or results.
        """
        others = [p for p in self._parts if not isinstance(p, Symbolic)]
        if others:
            raise TypeError(f"{name} of a block matrix takes blocks that are LazyTensors or 0, not {others[0]!r}")
        batch = self.shape[:-2]
        found = []
        for row, height in zip(self.rows, self.heights, strict=True):
            results = []
            for part, start, width in zip(row, _starts(self.widths), self.widths, strict=True):
                if width or not self.shape[-1]:
                    lazy = self._zeros(height, width) if part is None else part
                    result = getattr(lazy, name)(*arguments(width), axis=-1)
                    several = result if isinstance(result, tuple) else (result,)
                    spread = tuple(_spread(r, (*batch, *r.shape[len(lazy.shape) - 2 :])) for r in several)
                    results.append((start, spread if isinstance(result, tuple) else spread[0]))
            found.append(merge(results))
        return tuple(_below(parts, batch, parts[0].shape[-1]) for parts in zip(*found, strict=True))

    def _zeros(self, height: int, width: int) -> Any:
        """A LazyTensor of zeros, of the kind of the others."""
        made = self._parts[0]._with(self._parts[0]._lift(0).formula, False)
        made._batch, made._lengths = (), (height, width)
        return made


def _starts(lengths: Sequence[int]) -> list[int]:
    return [sum(lengths[:k]) for k in range(len(lengths))]


def _spread(array: Any, shape: Sequence[int]) -> Any:
    return backend_of(array).module.broadcast_to(array, tuple(shape))


def _below(parts: Sequence[Any], batch: Sequence[int], width: int) -> Any:
    """Arrays of so many columns one below the other."""
    return backend_of(parts[0]).module.concatenate([_spread(p, (*batch, p.shape[-2], width)) for p in parts], -2)


def block(rows: Sequence[Sequence[Any]]) -> LinearOperator:
    """A matrix of matrices: ``block([[A, B], [C, D]])``.

    Parameters
    ----------
    rows : sequence of sequences
        Of LazyTensors, LinearOperators, arrays (…, M, N), or 0 for zeros. All in a row are of one height, all in a column of one width.

    Returns
    -------
    LinearOperator

    Raises
    ------
    ValueError
        Where heights or widths differ, or nothing tells them.
    TypeError
        Where it is no list of rows of matrices.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import Vi, Vj, block
    >>> x, y = np.random.rand(5, 3), np.random.rand(7, 3)
    >>> K, b = Vi(x) | Vj(y), np.random.rand(12)
    >>> A = block([[0, K], [K.T, 0]])
    >>> np.allclose(A @ b, np.block([[np.zeros((5, 5)), x @ y.T], [y @ x.T, np.zeros((7, 7))]]) @ b)
    True
    """
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, (list, tuple)) for row in rows):
        raise TypeError("block takes a list of rows, each a list of matrices: block([[A, B], [C, D]])")
    if not rows or len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError("block takes rows of as many matrices each: block([[A, B], [C, D]])")
    grid = [[None if isinstance(number(p), (int, float)) and p == 0 else part_of(p) for p in row] for row in rows]
    heights = [_common_length(row, -2, f"row {k}") for k, row in enumerate(grid)]
    widths = [_common_length(column, -1, f"column {k}") for k, column in enumerate(zip(*grid, strict=True))]
    return Block(grid, heights, widths)


def _common_length(parts: Sequence[Part | None], axis: int, where: str) -> int:
    lengths = {p.shape[axis] for p in parts if p is not None}
    side = "height" if axis == -2 else "width"
    if not lengths:
        raise ValueError(f"block: nothing but zeros in {where}, so that nothing tells its {side}: give an array of zeros")
    if len(lengths) > 1:
        shapes = " and ".join(str(p.shape) for p in parts if p is not None)
        raise ValueError(f"block: in {where} there are matrices of shapes {shapes}, but it has one {side}")
    return lengths.pop()
