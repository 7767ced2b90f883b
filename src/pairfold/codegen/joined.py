"""The tile for many batches of few rows each: rows of all batches follow one another, so that no vector is nearly empty."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..formula.graph import Node
from .blocks import Blocks
from .builder import I32, I64, Value
from .evaluate import Index
from .layout import M
from .tile import Columns, Tile


class JoinedTile(Tile):
    """Emits a tile whose vector may have rows of two batches: each lane meets the columns of its own."""

    earlier: Mapping[int, Columns]
    later: Mapping[int, Columns]
    in_earlier: Value | None = None  # where a vector has rows of two batches: which lanes have those of the earlier one

    def _meet(self, blocks: Blocks, batch: Value, block: Value, walk: Callable[[Value, Value], None]) -> None:
        b = self.b
        first, there = blocks.rows(block)
        rows = self.frame.word(M)
        batch = b.udiv(first, rows)
        until = b.sub(b.mul(b.add(batch, I64(1)), rows), first)  # the rows of the later one begin there
        self.earlier = self._columns_of(batch)
        with b.if_else(b.icmp_signed("<", until, self.frame.smaller(there, I64(self.m.width)))) as (two, one):
            with two:
                self.later = self._columns_of(b.add(batch, I64(1)))
                self.in_earlier = self.m.below(b.trunc(until, I32))
                blocks.columns(block, walk)
                self.in_earlier = None
            with one:
                blocks.columns(block, walk)

    def _load(self, node: Node, index: Index, rows: Sequence[int]) -> Sequence[Value]:
        if node.attrs[0] != "col":
            return super()._load(node, index, rows)
        earlier = self._of_column(self.earlier, node, index)
        if self.in_earlier is None:
            return [earlier]
        return [self.b.select(self.in_earlier, earlier, self._of_column(self.later, node, index))]
