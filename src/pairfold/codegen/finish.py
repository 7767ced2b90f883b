"""Finish: merge the partials of the splits, apply what follows the reduction, and write the results row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..formula.graph import Node, variables
from .blocks import Blocks
from .builder import I64, Value, loop
from .evaluate import SHORT, Evaluator, Index
from .frame import Frame
from .layout import FINISH_BLOCKS, PARTIALS, SPLITS, Layout, M
from .pack import Rows, from_arrays
from .partial import Partial
from .storage import stored


def emit_finish(frame: Frame, layout: Layout) -> None:
    """The body of one task: `FINISH_BLOCKS` blocks of rows."""
    b = frame.builder
    blocks = Blocks(frame, layout)
    first = b.mul(frame.task, I64(FINISH_BLOCKS))
    last = frame.smaller(b.add(first, I64(FINISH_BLOCKS)), b.mul(blocks.batches(), blocks.count()))
    fields = layout.plan.fields
    types = [frame.m.lanes(I64) if f.kind == "index" else frame.m.of(f.kind) for f in fields]
    state = Partial.on_stack(frame, types, [f.dim for f in fields], 1)
    finish = Finish(frame, layout, state)
    loop(b, first, last, 1, (), lambda k, _: loop(b, I64(0), I64(layout.plan.schedule.rows), 1, (), lambda r, __: _vector(finish, k, r)))


def _vector(finish: Finish, block: Value, r: Value) -> Sequence[Value]:
    """One vector of rows of a block: merge what the splits left."""
    frame, layout, schedule = finish.frame, finish.layout, finish.plan.schedule
    b = frame.builder
    splits = frame.word(SPLITS)

    def partial(split: Value) -> Partial:
        base = frame.offset(frame.address(PARTIALS), b.mul(b.add(b.mul(block, splits), split), I64(layout.partial_bytes())))
        arrays = [frame.offset(base, I64(layout.field_offset(k))) for k in range(len(finish.plan.fields))]
        return Partial(b, arrays, finish.state.types, schedule.rows)

    def merge(split: Value, _: Sequence[Value]) -> Sequence[Value]:
        finish.merge(partial(split), r)
        return ()

    finish.state.copy(finish.row, partial(I64(0)), r, finish.plan.fields)
    loop(b, I64(1), splits, 1, (), merge)
    blocks = Blocks(frame, layout)
    batch, in_batch = blocks.of_batch(block)
    first, there = blocks.rows(in_batch)
    within = b.mul(r, I64(frame.m.width))
    finish.write(batch, b.add(first, within), b.sub(there, within))
    return ()


class Finish:
    """Emits the end of one vector of rows, whose partial is row vector `row` of `state`."""

    def __init__(self, frame: Frame, layout: Layout, state: Partial, row: int | Value = 0):
        self.frame, self.layout, self.plan = frame, layout, layout.plan
        self.state, self.row = state, row

    def merge(self, later: Partial, row: int | Value) -> None:
        """Merge with a row vector of the partial of later columns, entry by entry."""
        targets = self.plan.merge(self.plan.field_slots, self.plan.entry("entry"))
        b = self.frame.builder

        def store(field: int, index: Index, values: list[Value]) -> None:
            self.state.store(field, index.value(b), self.row, values[0])

        def combine(entry: Value, _: Sequence[Value]) -> Sequence[Value]:
            self._evaluator(later, row, entry).update(targets, store)
            return ()

        loop(b, I64(0), I64(self.plan.reduction.entries), 1, (), combine)

    def _evaluator(
        self,
        later: Partial | None = None,
        row: int | Value = 0,
        entry: Value | None = None,
        rows: tuple[Value, Value] | None = None,
    ) -> Evaluator:
        b, wide = self.frame.builder, self.frame.m.lanes(I64)
        arrays = self._arrays(*rows) if rows else None

        def leaf(node: Node, index: Index, rows: Sequence[int]) -> Sequence[Value]:
            if node.op.name == "var":
                assert arrays is not None
                return arrays(node, index)
            buffer, _, dim, field, *_ = node.attrs
            if buffer == "state":
                value = self.state.load(field, index.value(b), self.row)
                return [b.sext(value, wide) if node.kind == "index" and value.type != wide else value]
            assert entry is not None and later is not None
            return [later.load(field, b.add(b.mul(entry, I64(dim)), index.value(b)), row)]

        return Evaluator(self.frame.m, [0], leaf, SHORT)

    def _arrays(self, batch: Value, row: Value) -> Callable[[Node, Index], Sequence[Value]]:
        """The variables in the rows from `row` on; rows beyond the last repeat it."""
        rows = Rows(row, self.frame.builder.sub(self.frame.word(M), I64(1)))
        return from_arrays(self.frame, self.layout, variables(self.plan.results), batch, rows)

    def write(self, batch: Value, row: Value, there: Value | None = None) -> None:
        """The results of a batch's rows from `row` on, as far as there are: `there`, or up to the last."""
        frame, b = self.frame, self.frame.builder
        there = frame.smaller(b.sub(frame.word(M), row) if there is None else there, I64(frame.m.width))
        place = b.add(b.mul(batch, frame.word(M)), row)
        evaluator = self._evaluator(rows=(batch, row))
        evaluator.prepare(self.plan.results)
        for number, result in enumerate(self.plan.results):
            base = frame.address(self.layout.output(number))

            def store(index: Index, carried: Sequence[Value], result: Node = result, base: Value = base) -> Sequence[Value]:
                value = evaluator.full(result, index)[0]
                if result.kind == "real":
                    value = stored(frame.m, value, self.plan.numbers.result)
                frame.scatter(value, base, b.add(b.mul(place, I64(self.plan.length or result.dim)), index.value(b)), result.dim, there)
                return carried

            evaluator.for_components([result], (), store)
