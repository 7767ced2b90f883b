"""Which rows a block has and which columns it meets: all of them, or those that a table says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .builder import I1, I64, Value, loop
from .frame import Frame
from .layout import BATCHES, BLOCKS, RANGES, TABLE, Layout, M, N

FIRST, THERE, BEGIN, END = range(4)  # of a line of the table


class Blocks:
    """The blocks of a batch, for a function being emitted; where batches are joined, all rows are those of one."""

    def __init__(self, frame: Frame, layout: Layout):
        self.frame, self.layout = frame, layout
        self.block, self.joined = layout.plan.schedule.block, layout.plan.schedule.joined

    def batches(self) -> Value:
        """How many there are that have blocks of their own."""
        return I64(1) if self.joined else self.frame.word(BATCHES)

    def count(self) -> Value:
        """How many a batch has."""
        if self.layout.plan.sparse:
            return self.frame.word(self.layout.sparse(BLOCKS))
        return self.frame.builder.udiv(self.frame.padded(self._all_rows(), self.block), I64(self.block))

    def _all_rows(self) -> Value:
        rows = self.frame.word(M)
        return self.frame.builder.mul(self.frame.word(BATCHES), rows) if self.joined else rows

    def of_batch(self, number: Value) -> tuple[Value, Value]:
        """The batch that a block belongs to, and its number there."""
        if self.joined:
            return I64(0), number
        count = self.count()
        return self.frame.builder.udiv(number, count), self.frame.builder.urem(number, count)

    def rows(self, number: Value) -> tuple[Value, Value]:
        """The first row of a block of a batch, and how many there are from it on (in this block, where a table says)."""
        if self.layout.plan.sparse:
            return self.entry(number, FIRST), self.entry(number, THERE)
        first = self.frame.builder.mul(number, I64(self.block))
        return first, self.frame.builder.sub(self._all_rows(), first)

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

        loop(b, self.entry(number, BEGIN), self.entry(number, END), 1, (), one)

    def entry(self, number: Value, field: int) -> Value:
        """A number of a block's line in the table."""
        b = self.frame.builder
        table = self.frame.address(self.layout.sparse(TABLE))
        return b.load(self.frame.element(table, b.add(b.mul(number, I64(4)), I64(field)), 8), typ=I64)


class Gathered:
    """The columns that a block of a table meets, numbered one after the other, as if they were neighbours: on a GPU, where many threads
    share them. For each range the table holds its first column and how many columns all ranges before have; a last line, all of them.
    """

    def __init__(self, frame: Frame, layout: Layout, block: Value):
        self.frame, b = frame, frame.builder
        self.ranges = frame.address(layout.sparse(RANGES))
        blocks = Blocks(frame, layout)
        self.first_row, self.rows = blocks.rows(block)
        self.begin, self.end = blocks.entry(block, BEGIN), blocks.entry(block, END)
        self.before = self._line(self.begin, 1)
        self.count = b.sub(self._line(self.end, 1), self.before)
        # Bisection takes as many steps as the number of ranges has binary digits.
        self.steps = b.sub(I64(64), b.ctlz(b.sub(self.end, self.begin), I1(0)))

    def range_of(self, number: Value) -> Value:
        """The range that holds a column: the last one that does not begin beyond."""
        b, wanted = self.frame.builder, self.frame.builder.add(number, self.before)

        def halve(step: Value, carried: Sequence[Value]) -> Sequence[Value]:
            (low,) = carried
            half = b.shl(I64(1), b.sub(b.sub(self.steps, step), I64(1)))
            middle = self.frame.smaller(b.add(low, half), self.end)
            return (b.select(b.icmp_signed("<=", self._line(middle, 1), wanted), middle, low),)

        (found,) = loop(b, I64(0), self.steps, 1, (self.begin,), halve)
        return found

    def stretch(self, k: Value) -> tuple[Value, Value, Value]:
        """The numbers of a range's first column and of one beyond its last, and what to add to its numbers for the matrix's columns."""
        b = self.frame.builder
        start, stop = (b.sub(self._line(line, 1), self.before) for line in (k, b.add(k, I64(1))))
        return start, stop, b.sub(self._line(k, 0), start)

    def column(self, number: Value) -> Value:
        """Which of the matrix's columns has a number."""
        b, k = self.frame.builder, self.range_of(number)
        return b.add(number, b.sub(b.add(self._line(k, 0), self.before), self._line(k, 1)))

    def _line(self, k: Value, field: int) -> Value:
        b = self.frame.builder
        return b.load(self.frame.element(self.ranges, b.add(b.mul(k, I64(2)), I64(field)), 8), typ=I64)
