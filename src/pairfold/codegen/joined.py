"""The tile for many batches of few rows each: rows of all batches follow one another, so that no vector is nearly empty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..formula.graph import Node
from .blocks import Blocks
from .builder import I32, I64, Value
from .evaluate import Index
from .layout import ADDRESS, OFFSETS, M
from .tile import Tile


class Columns(NamedTuple):
    """Where numbers of the columns of a batch are: in the first column, and how many numbers from one column to the next."""

    base: Value
    length: int


class JoinedTile(Tile):
    """Emits a tile whose vector may have rows of two batches: each lane meets the columns of its own."""

    earlier: dict[int, Columns]  # of each slot, by its place in a packed column
    later: dict[int, Columns]
    in_earlier: Value | None = None  # where a vector has rows of two batches: which lanes have those of the earlier one

    def _meet(self, blocks: Blocks, block: Value, walk: Callable[[Value, Value], None]) -> None:
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

    def _columns_of(self, batch: Value) -> dict[int, Columns]:
        """Those of a batch: as packed, or as the arrays have them."""
        b, frame, buffer, bytes = self.b, self.frame, self.plan.hoisted.col, self.layout.real_bytes
        found = {}
        for formula, slot in zip(buffer.formulas, buffer.slots, strict=True):
            place = slot.attrs[1]
            if self.schedule.in_place:
                word = self.layout.variable(formula.attrs[1])
                offset = b.load(frame.element(frame.address(word + OFFSETS), batch, 8), typ=I64)
                found[place] = Columns(frame.offset(frame.address(word + ADDRESS), offset), formula.dim)
            else:
                found[place] = Columns(frame.element(self._packed_columns(batch), I64(place), bytes), buffer.length)
        return found

    def _load(self, node: Node, index: Index, rows: Sequence[int]) -> Sequence[Value]:
        buffer, place, _, column, *_ = node.attrs
        if buffer != "col":
            return super()._load(node, index, rows)
        b = self.b

        def number(of_batch: dict[int, Columns]) -> Value:
            base, length = of_batch[place]
            start = self.frame.element(base, b.mul(self.j, I64(length)), self.layout.real_bytes)
            component = b.add(index.value(b), I64(column * length))
            return self.m.splat(b.load(self.frame.element(start, component, self.layout.real_bytes), typ=self.m.scalar))

        if self.in_earlier is None:
            return [number(self.earlier)]
        return [b.select(self.in_earlier, number(self.earlier), number(self.later))]
