"""Which rows a block has and which columns it meets: all of them, or those that a table says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .builder import I64, Value, loop
from .frame import Frame
from .layout import BLOCKS, RANGES, TABLE, Layout, M, N

FIRST, THERE, BEGIN, END = range(4)  # of a line of the table


class Blocks:
    """The blocks of a batch, for a function being emitted."""

    def __init__(self, frame: Frame, layout: Layout):
        self.frame, self.layout = frame, layout
        self.block = layout.plan.schedule.block

    def count(self) -> Value:
        """How many a batch has."""
        if self.layout.plan.sparse:
            return self.frame.word(self.layout.sparse(BLOCKS))
        return self.frame.builder.udiv(self.frame.padded(self.frame.word(M), self.block), I64(self.block))

    def of_batch(self, number: Value) -> tuple[Value, Value]:
        """The batch that a block belongs to, and its number there."""
        count = self.count()
        return self.frame.builder.udiv(number, count), self.frame.builder.urem(number, count)

    def rows(self, number: Value) -> tuple[Value, Value]:
        """The first row of a block of a batch, and how many there are from it on (in this block, where a table says)."""
        if self.layout.plan.sparse:
            return self._entry(number, FIRST), self._entry(number, THERE)
        first = self.frame.builder.mul(number, I64(self.block))
        return first, self.frame.builder.sub(self.frame.word(M), first)

    def columns(self, number: Value, body: Callable[[Value, Value], None]) -> None:
        """Emit ``body(start, stop)`` for each range of columns that a block of a batch meets, in order."""
        if not self.layout.plan.sparse:
            body(I64(0), self.frame.word(N))
            return
        b, ranges = self.frame.builder, self.frame.address(self.layout.sparse(RANGES))

        def one(k: Value, _: Sequence[Value]) -> Sequence[Value]:
            place = self.frame.element(ranges, b.mul(k, I64(2)), 8)
            body(b.load(place, typ=I64), b.load(self.frame.element(place, I64(1), 8), typ=I64))
            return ()

        loop(b, self._entry(number, BEGIN), self._entry(number, END), 1, (), one)

    def _entry(self, number: Value, field: int) -> Value:
        b = self.frame.builder
        table = self.frame.address(self.layout.sparse(TABLE))
        return b.load(self.frame.element(table, b.add(b.mul(number, I64(4)), I64(field)), 8), typ=I64)
