"""Block-sparse patterns: which ranges of columns each range of rows meets. Pairs outside take no part in a reduction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


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
        Ranges of columns, in order for each range of rows; where they overlap, pairs count as often.
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
        ValueError
            Where ranges lie outside the matrix, are reversed, or rows belong to two.
        """
        rows, columns = (_ranges(r, length, what) for r, length, what in zip((rows, columns), shape, ("rows", "columns"), strict=True))
        ends = np.asarray(slices, dtype=np.int64).reshape(-1)
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
        taken = columns[np.repeat(begins - slices[:-1], counts) + np.arange(slices[-1])]
        owner = np.repeat(np.arange(len(counts)), counts)
        taken = taken[np.lexsort((taken[:, 0], owner))]
        return Pattern(everything[order], slices, taken, shape)

    @staticmethod
    def of_six(ranges: Sequence[Any], shape: tuple[int, int]) -> Pattern:
        """That of KeOps's six arrays: ranges of rows, slices, ranges of columns; and the same for the transposed matrix."""
        if len(ranges) != 6:
            raise ValueError(
                "ranges are six arrays (ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i), not a tuple of "
                + str(len(ranges))
            )
        rows, slices, columns, *transposed = [np.asarray(r.detach().cpu() if hasattr(r, "detach") else r) for r in ranges]
        pattern = Pattern.of(rows, slices, columns, shape)
        rows, slices, columns = transposed
        pattern.__dict__["T"] = Pattern.of(rows, slices, columns, (shape[1], shape[0]))
        return pattern

    @cached_property
    def pairs(self) -> int:
        """How many pairs take part."""
        lengths = np.concatenate([[0], np.cumsum(self.columns[:, 1] - self.columns[:, 0])])
        met = lengths[self.slices[1:]] - lengths[self.slices[:-1]]
        return int(((self.rows[:, 1] - self.rows[:, 0]) * met).sum())

    @cached_property
    def empty(self) -> np.ndarray:
        """Which rows meet no column, (M,) of bool."""
        lengths = np.concatenate([[0], np.cumsum(self.columns[:, 1] - self.columns[:, 0])])
        met = lengths[self.slices[1:]] - lengths[self.slices[:-1]]
        return np.repeat(met == 0, self.rows[:, 1] - self.rows[:, 0])

    @cached_property
    def T(self) -> Pattern:  # noqa: N802  # NumPy's name
        """The pattern of the transposed matrix."""
        edges = np.unique(np.concatenate([self.columns.reshape(-1), [0, self.shape[1]]]))
        first, last = np.searchsorted(edges, self.columns[:, 0]), np.searchsorted(edges, self.columns[:, 1])
        owner = np.repeat(np.arange(len(self.rows)), np.diff(self.slices))
        counts = last - first
        stretch = np.repeat(first - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
        met = np.repeat(owner, counts)
        order = np.lexsort((met, stretch))
        slices = np.concatenate([[0], np.cumsum(np.bincount(stretch, minlength=len(edges) - 1))])
        return Pattern(np.stack([edges[:-1], edges[1:]], axis=1), slices, self.rows[met[order]], (self.shape[1], self.shape[0]))

    def blocks(self, block: int) -> np.ndarray:
        """The blocks of at most `block` rows, (B, 4): first row, rows, first and one beyond the last of its ranges of columns."""
        lengths = self.rows[:, 1] - self.rows[:, 0]
        counts = -(-lengths // block)
        owner = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        first = self.rows[owner, 0] + within * block
        there = np.minimum(block, self.rows[owner, 1] - first)
        return np.ascontiguousarray(np.stack([first, there, self.slices[owner], self.slices[owner + 1]], axis=1))


def _ranges(ranges: Any, length: int, what: str) -> np.ndarray:
    array = np.asarray(ranges, dtype=np.int64).reshape(-1, 2)
    wrong = (array[:, 0] < 0) | (array[:, 1] > length) | (array[:, 0] > array[:, 1])
    if wrong.any():
        raise ValueError(f"the range {array[wrong][0].tolist()} of {what} does not lie within 0 and {length}")
    return array
