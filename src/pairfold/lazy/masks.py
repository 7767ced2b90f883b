"""Masked matrices: pairs that are not there take no part in reductions, and blocks without pairs cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import backend_of, is_array, on_host
from ..formula.graph import Node
from ..reductions import Masked, Reduction
from ..runtime.pattern import Pattern
from .parameters import whole_number
from .symbolic import Leaf, Symbolic, merge

if TYPE_CHECKING:
    from .tensor import LazyTensor

BLOCK = 64  # rows for which bands share their columns, before the condition looks at each pair


Test = Callable[[], Any]


class Mask:
    """Which pairs of a matrix there are.

    Attributes
    ----------
    pattern : Pattern
        The blocks that hold them.
    condition : LazyTensor or None
        Not 0 where a pair of such a block is there; None where all are.
    name : tuple
        Masks of one name are the same.
    orders : (array or None, array or None)
        In which order rows and columns are taken, where blocks are of reordered ones.
    test : callable or None
        Makes the LazyTensor that is not 0 where any pair of the matrix is there; None where the blocks alone tell. Where rows or columns
        are reordered there is one.
    ranges : sequence of array or None
        KeOps's six arrays, where the newest part of the mask was made of them.
    beside : Mask or None
        Then what it was before.
    """

    ranges: Sequence[Any] | None = None
    beside: Mask | None = None

    def __init__(
        self,
        pattern: Pattern,
        condition: Any,
        name: tuple[Any, ...],
        orders: tuple[Any, Any] = (None, None),
        test: Test | None = None,
    ):
        self.pattern, self.condition, self.name, self.orders, self.test = pattern, condition, name, orders, test

    @property
    def T(self) -> Mask:  # noqa: N802  # NumPy's name
        """That of the transposed matrix."""
        condition, test, ranges = self.condition, self.test, self.ranges
        made = Mask(
            self.pattern.T,
            None if condition is None else condition.T,
            ("transposed", self.name),
            (self.orders[1], self.orders[0]),
            None if test is None else partial(_transposed, test),
        )
        made.ranges, made.beside = None if ranges is None else (*ranges[3:6], *ranges[:3]), self.beside and self.beside.T
        return made

    def picked(self, rows: Any, columns: Any) -> Mask:
        """That of some rows and columns, a range or an array of their numbers each."""
        places, orders = [], []
        for axis, (key, order) in enumerate(zip((rows, columns), self.orders, strict=True)):
            place = np.arange(key.start, key.stop, key.step) if isinstance(key, range) else on_host(key).reshape(-1)
            if order is not None:  # those of a block one after the other, in the order that they have now
                place = np.argsort(on_host(order))[place]
                own = np.argsort((self.pattern.T if axis else self.pattern).owner(place), kind="stable")
                place, order = place[own], backend_of(order).indices(own, order)
            places.append(place)
            orders.append(order)
        condition, test = self.condition, self.test
        return Mask(
            self.pattern.picked(places[0]).T.picked(places[1]).T,
            None if condition is None else condition._sub(rows, columns),
            ("picked", self.name, *(place.tobytes() for place in places)),
            (orders[0], orders[1]),
            None if test is None else partial(_picked, test, rows, columns),
        )

    def __and__(self, other: Mask) -> Mask:
        """The pairs that both have. Where rows are reordered one has the blocks, which others cannot be cut along, and one is a test."""
        mine, its = self.test, other.test
        test = None if mine is None or its is None else partial(_both, mine, its)
        name = ("and", self.name, other.name)
        if self._reorders or other._reorders:
            blocks, others = (self, other) if self._reorders else (other, self)
            if others.test is None:
                blocks, others = others, blocks
            assert others.test is not None, "what reorders has a test"
            return Mask(blocks.pattern, _product(blocks.condition, others.test()), name, blocks.orders, test)
        return Mask(self.pattern & other.pattern, _product(self.condition, other.condition), name, test=test)

    @property
    def _reorders(self) -> bool:
        return any(order is not None for order in self.orders)

    def dense(self) -> np.ndarray:
        """Which pairs there are, (M, N) of bool, in the user's order."""
        there = np.zeros(self.pattern.shape, dtype=bool)
        for k, (start, stop) in enumerate(self.pattern.rows):
            for first, last in self.pattern.columns[self.pattern.slices[k] : self.pattern.slices[k + 1]]:
                there[start:stop, first:last] = True
        for axis, order in enumerate(self.orders):
            if order is not None:
                there = np.take(there, np.argsort(on_host(order)), axis)
        return there if self.condition is None else there & (on_host(self.condition.dense()) != 0)

    def at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Which of these pairs there are, of bool; rows and columns are those of the user's order."""
        rows, columns = np.broadcast_arrays(rows, columns)
        places = [n if order is None else np.argsort(on_host(order))[n] for n, order in zip((rows, columns), self.orders, strict=True)]
        there = self.pattern.holds(*places)
        return there if self.condition is None else there & (on_host(self.condition.at(rows, columns)) != 0)

    def apply(
        self, lazy: Any, formulas: tuple[Node, ...], reduction: Reduction, axis: int
    ) -> tuple[Any, tuple[Node, ...], Reduction, Pattern]:
        """A reduction of these pairs alone: over which leaves, of which formulas, by which reduction, over which blocks."""
        pattern = self.pattern if axis == 1 else self.pattern.T
        if self.condition is not None:
            (_, condition), lazy = merge((lazy, self.condition))
            formulas, reduction = (condition, *formulas), Masked(reduction)
        if self._reorders:
            order = dict(zip("ij", self.orders, strict=True))
            leaves = [leaf if leaf.axis == "p" else Leaf(leaf.value[..., order[leaf.axis], :], leaf.axis) for leaf in lazy.leaves]
            lazy = lazy._with(lazy.formula, lazy._inner)
            lazy.leaves = tuple(leaves)
        return lazy, formulas, reduction, pattern

    def put_back(self, result: Any, kind: str, axis: int, rows_axis: int) -> Any:
        """A result in the user's order of rows, its indices as the user counts columns."""
        kept, reduced = self.orders[1 - axis], self.orders[axis]
        if kind == "index" and reduced is not None:
            there = result >= 0
            result = reduced[result * there] * there - 1 * ~there
        if kept is not None:
            inverse = kept.argsort()
            result = result[(*[slice(None)] * rows_axis, inverse)]
        return result


class Masks(Symbolic):
    """Matrices of which some pairs are there: those outside take no part in a reduction, as if they were not in the matrix.

    Masks one after the other leave the pairs that all of them have: ``K.same_label(a, a).tril()`` is causal within each label.
    """

    def tril(self, k: int = 0) -> LazyTensor:
        """The pairs with j ≤ i + k, on and below a diagonal. Sums and `K @ b` are those of `numpy.tril`; for products of entries, means,
        minima, softmax and the like the other pairs are not there (causal attention, say). Blocks above the diagonal are skipped. What is
        made of a masked matrix and others has the mask too.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(6), np.random.rand(5)
        >>> K = (-abs(Vi(x) - Vj(y))).exp()
        >>> np.allclose(K.tril().sum(axis=1), np.tril(np.exp(-abs(x[:, None] - y))).sum(axis=1))
        True
        """
        return self._band("tril", None, whole_number("tril", k))

    def triu(self, k: int = 0) -> LazyTensor:
        """The pairs with j ≥ i + k, on and above a diagonal: see `tril`."""
        return self._band("triu", -whole_number("triu", k), None)

    def band(self, lower: int, upper: int) -> LazyTensor:
        """The pairs with i - lower ≤ j ≤ i + upper: `lower` diagonals below the main one and `upper` above. See `tril`."""
        return self._band("band", lower, upper)

    def _band(self, name: str, lower: int | None, upper: int | None) -> LazyTensor:
        rows, columns = (1 if n is None else n for n in self._lengths)
        # Beyond a matrix's corners there are no more diagonals.
        below = rows if lower is None else max(-columns, min(whole_number(name, lower), rows))
        above = columns if upper is None else max(-rows, min(whole_number(name, upper), columns))
        starts = np.arange(0, rows, BLOCK)
        stops = np.minimum(starts + BLOCK, rows)
        ranges = np.stack([np.clip(starts - below, 0, columns), np.clip(stops + above, 0, columns)], axis=1)
        ranges[:, 1] = np.maximum(ranges[:, 1], ranges[:, 0])
        pattern = Pattern.of(np.stack([starts, stops], axis=1), np.arange(1, len(starts) + 1), ranges, (rows, columns))
        number_i, number_j = (self._variable(np.arange(n)[:, None], axis) for n, axis in ((rows, "i"), (columns, "j")))
        difference = number_j - number_i
        # The bounds are parameters, so that a band of another width is not compiled anew.
        first, last = (self._variable(np.array([bound]), "p") for bound in (-below, above))
        condition = (difference >= first) * (difference <= last)
        return self._masked(Mask(pattern, condition, ("band", rows, columns, below, above), test=partial(_itself, condition)))

    def same_label(self, rows: Any, columns: Any) -> LazyTensor:
        """The pairs whose row and column have the same label. Only blocks of equal labels are computed.

        With another mask, what that one leaves of them: ``K.same_label(a, a).tril()`` of words of several texts one after the other.

        Parameters
        ----------
        rows, columns : array of int, (M,) and (N,)
            In any order.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(6), np.random.rand(5)
        >>> a, b = np.array([0, 1, 0, 2, 1, 0]), np.array([1, 0, 0, 1, 3])
        >>> K = (-abs(Vi(x) - Vj(y))).exp().same_label(a, b)
        >>> np.allclose(K.sum(axis=1), (np.exp(-abs(x[:, None] - y)) * (a[:, None] == b)).sum(axis=1))
        True
        """
        sides = []
        for labels, length, what in zip((rows, columns), self._lengths, ("rows", "columns"), strict=True):
            own = on_host(labels)
            if own.dtype.kind not in "iub" and own.size:
                raise TypeError(f"same_label takes whole numbers as labels, not {own.dtype}: number them, e.g. by numpy.unique")
            if own.shape != (1 if length is None else length,):
                raise ValueError(
                    f"same_label needs a label for each of the {length} {what} of {self.shape}, not an array of shape {own.shape}"
                )
            order = np.argsort(own, kind="stable")
            sides.append((own[order], order))
        (a, order_i), (b, order_j) = sides
        values, first = np.unique(a, return_index=True)
        row_ranges = np.stack([first, np.append(first, len(a))[1:]], axis=1).reshape(-1, 2)
        column_ranges = np.stack([np.searchsorted(b, values, "left"), np.searchsorted(b, values, "right")], axis=1)
        pattern = Pattern.of(row_ranges, np.arange(1, len(values) + 1), column_ranges, (len(a), len(b)))
        orders = (self._index(order_i), self._index(order_j))
        name = ("labels", a.tobytes(), b.tobytes(), order_i.tobytes(), order_j.tobytes())
        return self._masked(Mask(pattern, None, name, orders, partial(_same, self, (a, order_i), (b, order_j))))

    def blocks(self, rows: Any, columns: Any, keep: Any = None) -> LazyTensor:
        """The pairs of some blocks, given by ranges of rows, ranges of columns and which of them meet. Others cost nothing.

        Parameters
        ----------
        rows : array of int, (R, 2)
            First row and one beyond the last of each range, in any order; with `keep`, no row in two of them.
        columns : array of int, (C, 2)
            Those of the columns.
        keep : array of bool, (R, C), optional
            Which ranges of rows meet which of columns. Without it block k is range k of the rows and range k of the columns, of as
            many; they may share rows, or columns.

        Raises
        ------
        TypeError
            Where ranges are not of whole numbers, or `keep` is not of bool.
        ValueError
            Where ranges lie outside the matrix, or a pair is in two blocks.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(6), np.random.rand(5)
        >>> K = (-abs(Vi(x) - Vj(y))).exp()
        >>> near = K.blocks([[0, 4], [4, 6]], [[0, 3], [3, 5]], np.eye(2, dtype=bool))
        >>> np.allclose(near.sum(axis=1)[:4], np.exp(-abs(x[:4, None] - y[:3])).sum(axis=1))
        True
        >>> same = K.blocks([[0, 4], [4, 6]], [[0, 3], [3, 5]])
        >>> np.array_equal(same.dense(), near.dense())
        True
        """
        rows, columns = on_host(rows), on_host(columns)
        shape = tuple(1 if n is None else n for n in self._lengths)
        name: tuple[Any, ...] = ("blocks", rows.tobytes(), columns.tobytes())
        if keep is None:
            return self._masked(Mask(Pattern.of_tiles(rows, columns, (shape[0], shape[1])), None, name))
        keep = on_host(keep)
        if keep.dtype != bool:
            raise TypeError(f"keep must be of bool, not {keep.dtype}: say keep != 0")
        if keep.shape != (len(rows), len(columns)):
            raise ValueError(
                f"keep must be of shape ({len(rows)}, {len(columns)}), for each range of rows and of columns, not {keep.shape}"
            )
        pattern = Pattern.of(rows, np.cumsum(keep.sum(1)), columns[np.nonzero(keep)[1]], (shape[0], shape[1]))
        return self._masked(Mask(pattern, None, (*name, keep.tobytes())))

    @property
    def ranges(self) -> Sequence[Any] | None:
        """KeOps's six arrays (ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i): set them to reduce over these blocks.

        The first three say which ranges of columns each range of rows meets, ``redranges_j[slices_i[k - 1] : slices_i[k]]``; the others
        the same for the transposed matrix. `pairfold.cluster.from_matrix` makes them. Rows in none of the ranges meet no column. Of a
        matrix that is masked already, what that mask leaves of these blocks. Ranges that are there are replaced, by None taken off; not
        once another mask came after them.

        Raises
        ------
        TypeError
            Where they are not a tuple or list, or not of whole numbers.
        ValueError
            Where they are not six, lie outside the matrix or overlap; or of None, where the ranges are part of a later mask.
        """
        return None if self._mask is None else self._mask.ranges

    @ranges.setter
    def ranges(self, ranges: Sequence[Any] | None) -> None:
        before = self._mask.beside if self._mask is not None and self._mask.ranges is not None else self._mask
        if ranges is None:
            if before is not None and before is self._mask and _has_ranges(before.name):
                raise ValueError("the ranges are part of a mask that came after them: take them off first, or start from the whole matrix")
            self._mask = before
            return
        if not isinstance(ranges, (tuple, list)):
            raise TypeError(f"ranges are six arrays, or None, not {ranges!r}")
        rows, columns = (1 if n is None else n for n in self._lengths)
        six = [on_host(r) for r in ranges]
        mask = Mask(Pattern.of_six(six, (rows, columns)), None, ("ranges", *(r.tobytes() for r in six)))
        self._mask = mask if before is None else before & mask
        self._mask.ranges, self._mask.beside = ranges, before

    def _masked(self, mask: Mask) -> LazyTensor:
        made = self._with(self.formula, self._inner)
        made._mask = mask if self._mask is None or self._mask.name == mask.name else self._mask & mask
        return made

    def _variable(self, array: np.ndarray, axis: str) -> LazyTensor:
        """A variable of whole numbers, of self's framework."""
        made: Any = type(self).__new__(type(self))
        made._set_leaf(Leaf(self._index(array), axis), inner=False)
        return made

    def _index(self, array: np.ndarray) -> Any:
        """Whole numbers as an array of self's framework."""
        if self._kind is None:
            raise TypeError(f"{self!r} is made of numbers alone: nothing tells its size, type or framework")
        like = next(leaf.value for leaf in self.leaves if is_array(leaf.value))
        return self._kind.backend.indices(array, like)


# Tests, which are pickled with their masks.


def _itself(condition: LazyTensor) -> LazyTensor:
    return condition


def _transposed(test: Test) -> LazyTensor:
    return test().T


def _picked(test: Test, rows: Any, columns: Any) -> LazyTensor:
    return test()._sub(rows, columns)


def _both(test: Test, other: Test) -> LazyTensor:
    return test() * other()


def _same(matrix: Masks, rows: tuple[np.ndarray, np.ndarray], columns: tuple[np.ndarray, np.ndarray]) -> LazyTensor:
    """Whether labels are the same, sorted ones and their order: by their places among those of the rows, -1 for those that no row has."""
    (a, order_i), (b, order_j) = rows, columns
    values = np.unique(a)
    place_i, place_j = (np.searchsorted(values, own) for own in (a, b))
    there = np.append(values, values[:1])[place_j] == b if len(values) else np.zeros(len(b), bool)
    numbers = (place_i, order_i, "i"), (np.where(there, place_j, -1), order_j, "j")
    mine, its = (matrix._variable(place[np.argsort(order)][:, None], axis) for place, order, axis in numbers)
    return mine == its


def _has_ranges(name: tuple[Any, ...]) -> bool:
    """Whether ranges are part of the mask of that name."""
    kind, *parts = name
    return kind == "ranges" or kind in ("and", "transposed", "picked") and any(_has_ranges(p) for p in parts if isinstance(p, tuple))


def _product(a: Any, b: Any) -> Any:
    """Where both conditions hold, of which either may be None: that it always does."""
    return b if a is None else a if b is None else a * b
