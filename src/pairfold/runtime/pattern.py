"""Block-sparse patterns: which ranges of columns each range of rows meets. Pairs outside take no part in a reduction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np

PATTERNS_KEPT = 4


@dataclass(frozen=True, eq=False)
class Pattern:
    """Ranges of rows, each with its ranges of columns.

    Attributes
    ----------
    rows : ndarray of int64, (R, 2)
        First row and one beyond the last of each range: in order, without overlap, all rows between them.
    slices : ndarray of int64, (R + 1,)
        Which of `columns` a range of rows meets: those from ``slices[k]`` to ``slices[k + 1]``.
    columns : ndarray of int64, (S, 2)
        Ranges of columns, in order, without overlap and without neighbours that are one range, for each range of rows.
    shape : (int, int)
        Of the matrix.
    """

    rows: np.ndarray
    slices: np.ndarray
    columns: np.ndarray
    shape: tuple[int, int]

    @staticmethod
    def of(rows: Any, slices: Any, columns: Any, shape: tuple[int, int]) -> Pattern:
        """A pattern of ranges in any order; rows in none of them meet no column.

        Parameters
        ----------
        rows : array of int, (R, 2)
        slices : array of int, (R,)
            For each range of rows, one beyond the last of its ranges of columns; the first begins at 0.
        columns : array of int, (S, 2)
        shape : (int, int)

        Raises
        ------
        TypeError
            Where they are not whole numbers.
        ValueError
            Where ranges lie outside the matrix or are reversed, rows belong to two, or a range of rows meets a column twice.
        """
        rows, columns = (_ranges(r, length, what) for r, length, what in zip((rows, columns), shape, ("rows", "columns"), strict=True))
        ends = _whole_numbers(slices, "slices").reshape(-1)
        if len(ends) != len(rows) or len(ends) and (ends[-1] > len(columns) or (np.diff(ends, prepend=0) < 0).any()):
            raise ValueError(
                f"slices must say, for each of the {len(rows)} ranges of rows, where its part of the {len(columns)} ranges of columns "
                f"ends, in increasing order; not {ends.tolist()}"
            )
        begins = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        kept = rows[:, 0] < rows[:, 1]
        order = np.flatnonzero(kept)[np.argsort(rows[kept, 0], kind="stable")]
        rows, begins, counts = rows[order], begins[order], (ends - begins)[order]
        twice = rows[1:, 0] < rows[:-1, 1]
        if twice.any():
            raise ValueError(f"row {rows[1:, 0][twice][0]} belongs to two ranges of rows: each row may be in one only")
        # Rows between ranges meet nothing.
        gaps = np.stack([np.concatenate([[0], rows[:, 1]]), np.concatenate([rows[:, 0], [shape[0]]])], axis=1)
        gaps = gaps[gaps[:, 0] < gaps[:, 1]]
        everything = np.concatenate([rows, gaps])
        order = np.argsort(everything[:, 0], kind="stable")
        counts = np.concatenate([counts, np.zeros(len(gaps), np.int64)])[order]
        begins = np.concatenate([begins, np.zeros(len(gaps), np.int64)])[order]
        slices = np.concatenate([[0], np.cumsum(counts)])
        in_place = len(counts) == len(ends) and bool((begins == slices[:-1]).all()) and slices[-1] == len(columns)
        taken = columns.copy() if in_place else columns[_runs(begins, counts)]
        return _in_order(everything[order], slices, taken, shape)

    @staticmethod
    def of_tiles(rows: Any, columns: Any, shape: tuple[int, int]) -> Pattern:
        """A pattern of tiles in any order: range k of the rows meets range k of the columns.

        Parameters
        ----------
        rows, columns : array of int, (T, 2)
        shape : (int, int)

        Raises
        ------
        TypeError
            Where they are not whole numbers.
        ValueError
            Where ranges lie outside the matrix or are reversed, or tiles overlap.
        """
        rows, columns = (_ranges(r, length, what) for r, length, what in zip((rows, columns), shape, ("rows", "columns"), strict=True))
        if len(rows) != len(columns):
            raise ValueError(f"{len(rows)} ranges of rows and {len(columns)} of columns: a tile is one of each")
        return _cut(rows, columns, shape)

    @staticmethod
    def of_six(ranges: Sequence[np.ndarray], shape: tuple[int, int]) -> Pattern:
        """That of KeOps's six arrays: ranges of rows, slices, ranges of columns; and the same for the transposed matrix."""
        if len(ranges) != 6:
            raise ValueError(
                "ranges are six arrays (ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i), not a tuple of "
                + str(len(ranges))
            )
        # Programs set the same ranges again and again: GeomLoss does for each of its reductions.
        name = (shape, *((a.shape, a.dtype, sha256(a.tobytes()).digest()) for a in ranges))
        pattern = _known.get(name)
        if pattern is None:
            rows, slices, columns, *transposed = ranges
            pattern = Pattern.of(rows, slices, columns, shape)
            rows, slices, columns = transposed
            pattern.__dict__["T"] = Pattern.of(rows, slices, columns, (shape[1], shape[0]))
            _known[name] = pattern
            if len(_known) > PATTERNS_KEPT:
                _known.pop(next(iter(_known)), None)
        return pattern

    @cached_property
    def before(self) -> np.ndarray:
        """How many columns all ranges before one have, (S + 1,) of int64."""
        return np.concatenate([[0], np.cumsum(self.columns[:, 1] - self.columns[:, 0])])

    @cached_property
    def pairs(self) -> int:
        """How many pairs take part."""
        met = np.diff(self.before[self.slices])
        return int(((self.rows[:, 1] - self.rows[:, 0]) * met).sum())

    @cached_property
    def empty(self) -> np.ndarray:
        """Which rows meet no column, (M,) of bool."""
        met = np.diff(self.before[self.slices])
        return np.repeat(met == 0, self.rows[:, 1] - self.rows[:, 0])

    @cached_property
    def typical_rows(self) -> int:
        """The length of a range of rows that meets some column, on average."""
        lengths = (self.rows[:, 1] - self.rows[:, 0])[np.diff(self.slices) > 0]
        return int(lengths.sum()) // max(1, len(lengths))

    @cached_property
    def T(self) -> Pattern:  # noqa: N802  # NumPy's name
        """The pattern of the transposed matrix."""
        return _cut(self.columns, np.repeat(self.rows, np.diff(self.slices), axis=0), (self.shape[1], self.shape[0]))

    def owner(self, rows: np.ndarray) -> np.ndarray:
        """In which range each of these rows is."""
        return np.searchsorted(self.rows[:, 1], rows, side="right")

    def holds(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Which of these pairs take part, of bool."""
        if not len(self.columns):
            return np.zeros(rows.shape, dtype=bool)
        line = self.shape[1] + 1  # so that the ranges of all rows are one increasing sequence
        starts = self.columns[:, 0] + np.repeat(np.arange(len(self.rows)) * line, np.diff(self.slices))
        owner = self.owner(rows)
        last = np.searchsorted(starts, columns + owner * line, side="right") - 1  # range that does not begin beyond
        return (last >= self.slices[owner]) & (columns < self.columns[last, 1])

    def __and__(self, other: Pattern) -> Pattern:
        """The pairs that both have, of matrices of one shape."""
        edges = np.unique(np.concatenate([self.rows.reshape(-1), other.rows.reshape(-1)]))
        stretches = np.stack([edges[:-1], edges[1:]], axis=1)
        line = self.shape[1] + 1  # so that the ranges of all stretches of rows are one increasing sequence
        sides = []
        for side in (self, other):
            owner = side.owner(stretches[:, 0])
            counts = np.diff(side.slices)[owner]
            start = np.repeat(np.arange(len(stretches)) * line, counts)
            sides.append(side.columns[_runs(side.slices[owner], counts)] + start[:, None])
        mine, its = sides
        first = np.searchsorted(its[:, 1], mine[:, 0], side="right")
        counts = np.searchsorted(its[:, 0], mine[:, 1], side="left") - first
        mine, its = np.repeat(mine, counts, axis=0), its[_runs(first, counts)]
        both = np.stack([np.maximum(mine[:, 0], its[:, 0]), np.minimum(mine[:, 1], its[:, 1])], axis=1)
        stretch = both[:, 0] // line
        slices = np.concatenate([[0], np.cumsum(np.bincount(stretch, minlength=len(stretches)))])
        return _in_order(stretches, slices, both - (stretch * line)[:, None], self.shape)

    def picked(self, rows: np.ndarray) -> Pattern:
        """The pattern of these rows, in this order."""
        owner = self.owner(rows)
        edges = np.flatnonzero(np.diff(owner, prepend=-1, append=-1)) if len(owner) else np.zeros(1, np.int64)
        owner = owner[edges[:-1]]
        counts = np.diff(self.slices)[owner]
        slices = np.concatenate([[0], np.cumsum(counts)])
        columns = self.columns[_runs(self.slices[owner], counts)]
        return Pattern(np.stack([edges[:-1], edges[1:]], axis=1), slices, columns, (len(rows), self.shape[1]))

    def of_rows(self, start: int, stop: int) -> Pattern:
        """The pattern of some rows, numbered from 0."""
        first, last = np.searchsorted(self.rows[:, 1], [start, stop - 1], side="right")
        rows = np.clip(self.rows[first : last + 1], start, stop) - start
        slices = self.slices[first : last + 2]
        return Pattern(rows, slices - slices[0], self.columns[slices[0] : slices[-1]], (stop - start, self.shape[1]))

    def blocks(self, block: int) -> np.ndarray:
        """The blocks of at most `block` rows, (B, 4): first row, rows, first and one beyond the last of its ranges of columns."""
        lengths = self.rows[:, 1] - self.rows[:, 0]
        counts = -(-lengths // block)
        owner = np.repeat(np.arange(len(counts)), counts)
        first = self.rows[owner, 0] + _runs(np.zeros_like(counts), counts) * block
        there = np.minimum(block, self.rows[owner, 1] - first)
        return np.ascontiguousarray(np.stack([first, there, self.slices[owner], self.slices[owner + 1]], axis=1))


_known: dict[tuple[Any, ...], Pattern] = {}


def _runs(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """first[0], first[0] + 1 …, counts[0] of them; then those from first[1] on, and so on."""
    return np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


def _cut(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Pattern:
    """The pattern of tiles: rows are cut where some tile begins or ends."""
    edges = np.unique(np.concatenate([rows.reshape(-1), [0, shape[0]]]))
    first, last = np.searchsorted(edges, rows[:, 0]), np.searchsorted(edges, rows[:, 1])
    counts = last - first
    stretch = _runs(first, counts)
    met = np.repeat(columns, counts, axis=0)
    slices = np.concatenate([[0], np.cumsum(np.bincount(stretch, minlength=len(edges) - 1))])
    return _in_order(np.stack([edges[:-1], edges[1:]], axis=1), slices, met[np.argsort(stretch, kind="stable")], shape)


def _in_order(rows: np.ndarray, slices: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Pattern:
    """The pattern of ranges of columns in any order for each range of rows; neighbours become one.

    Raises
    ------
    ValueError
        Where ranges of columns of the same rows overlap: pairs are there or not.
    """
    there = columns[:, 0] < columns[:, 1]
    if not there.all():
        columns, slices = columns[there], np.concatenate([[0], np.cumsum(there)])[slices]
    first = np.zeros(len(columns) + 1, dtype=bool)  # whether the rows' ranges begin there
    first[slices] = True
    begins, ends = columns[1:, 0], columns[:-1, 1]
    if not (first[1:-1] | (begins >= ends)).all():
        owner = np.repeat(np.arange(len(rows)), np.diff(slices))
        columns = columns[np.lexsort((columns[:, 0], owner))]
        begins, ends = columns[1:, 0], columns[:-1, 1]
        twice = np.flatnonzero(~first[1:-1] & (begins < ends))
        if len(twice):
            k = twice[0]
            raise ValueError(
                f"the ranges {columns[k].tolist()} and {columns[k + 1].tolist()} of columns overlap, "
                f"and the rows {rows[owner[k]].tolist()} meet both: a pair is there once"
            )
    first[1:-1] |= begins != ends
    if not first[:-1].all():
        columns = np.stack([columns[first[:-1], 0], columns[first[1:], 1]], axis=1)
        slices = np.concatenate([[0], np.cumsum(first[:-1])])[slices]
    return Pattern(rows, slices, np.ascontiguousarray(columns), shape)


def _whole_numbers(array: Any, what: str) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{what} are counted in whole numbers, not in {array.dtype}: convert them first, e.g. to int64")
    return array.astype(np.int64, copy=False)


def _ranges(ranges: Any, length: int, what: str) -> np.ndarray:
    array = _whole_numbers(ranges, f"ranges of {what}")
    if array.size and (array.ndim != 2 or array.shape[1] != 2):
        raise ValueError(f"ranges of {what} have a first one and one beyond the last: an array of shape (…, 2), not {array.shape}")
    array = array.reshape(-1, 2)
    wrong = (array[:, 0] < 0) | (array[:, 1] > length) | (array[:, 0] > array[:, 1])
    if wrong.any():
        raise ValueError(f"the range {array[wrong][0].tolist()} of {what} does not lie within 0 and {length}")
    return array
