"""Finish: merge the partials of the splits, apply what follows the reduction, and write the results row by row."""

from __future__ import annotations

from collections.abc import Sequence

from ..formula.graph import Node
from .builder import I64, Value, loop
from .evaluate import Evaluator, Index
from .frame import Frame
from .layout import BATCHES, FINISH_BLOCKS, PARTIALS, SPLITS, Layout, M
from .partial import Partial
from .storage import stored


def emit_finish(frame: Frame, layout: Layout) -> None:
    """The body of one task: `FINISH_BLOCKS` blocks of rows."""
    b, block = frame.builder, layout.plan.schedule.block
    blocks = b.mul(frame.word(BATCHES), b.udiv(frame.padded(frame.word(M), block), I64(block)))
    first = b.mul(frame.task, I64(FINISH_BLOCKS))
    last = frame.smaller(b.add(first, I64(FINISH_BLOCKS)), blocks)
    finish = Finish(frame, layout)
    loop(b, first, last, 1, (), lambda k, _: loop(b, I64(0), I64(layout.plan.schedule.rows), 1, (), lambda r, __: finish.emit(k, r)))


class Finish:
    """Emits the end of one vector of rows."""

    def __init__(self, frame: Frame, layout: Layout):
        self.frame, self.layout, self.plan = frame, layout, layout.plan
        self.types = [frame.m.lanes(I64) if f.kind == "index" else frame.m.of(f.kind) for f in self.plan.fields]
        self.state = Partial.on_stack(frame, self.types, [f.dim for f in self.plan.fields], 1)

    def emit(self, block: Value, r: Value) -> Sequence[Value]:
        b, plan = self.frame.builder, self.plan
        splits = self.frame.word(SPLITS)
        partials = b.mul(block, splits)
        for k, f in enumerate(plan.fields):
            loop(b, I64(0), I64(f.dim), 1, (), lambda d, _, k=k: self._copy(k, d, partials, r))  # type: ignore[misc]

        def merge(split: Value, _: Sequence[Value]) -> Sequence[Value]:
            partial = b.add(partials, split)
            loop(b, I64(0), I64(plan.reduction.entries), 1, (), lambda entry, _: self._combine(partial, entry, r))
            return ()

        loop(b, I64(1), splits, 1, (), merge)
        a_batch = b.udiv(self.frame.padded(self.frame.word(M), plan.schedule.block), I64(plan.schedule.block))
        row = b.add(b.mul(b.urem(block, a_batch), I64(plan.schedule.block)), b.mul(r, I64(self.frame.m.width)))
        self._write(b.udiv(block, a_batch), row)
        return ()

    def _read(self, field: int, component: Value, partial: Value, r: Value) -> Value:
        """A component of a partial in memory."""
        b, layout = self.frame.builder, self.layout
        start = b.add(b.mul(partial, I64(layout.partial_bytes())), I64(layout.field_offset(field)))
        place = b.add(b.mul(component, I64(self.plan.schedule.rows)), r)
        base = self.frame.offset(self.frame.address(PARTIALS), start)
        return b.load(b.gep(base, [place], source_etype=self.types[field]), typ=self.types[field])

    def _copy(self, field: int, component: Value, partial: Value, r: Value) -> Sequence[Value]:
        self.state.store(field, component, 0, self._read(field, component, partial, r))
        return ()

    def _evaluator(self, partial: Value | None = None, entry: Value | None = None, r: Value | None = None) -> Evaluator:
        b = self.frame.builder

        def leaf(node: Node, index: Index, rows: Sequence[int]) -> Sequence[Value]:
            buffer, _, dim, field, *_ = node.attrs
            if buffer == "state":
                return [self.state.load(field, index.value(b), 0)]
            assert entry is not None and partial is not None and r is not None
            return [self._read(field, b.add(b.mul(entry, I64(dim)), index.value(b)), partial, r)]

        return Evaluator(self.frame.m, [0], leaf, self.plan.schedule.unroll)

    def _combine(self, partial: Value, entry: Value, r: Value) -> Sequence[Value]:
        b, plan = self.frame.builder, self.plan
        targets = plan.merge(plan.field_slots, plan.entry("entry"))

        def store(field: int, index: Index, values: list[Value]) -> None:
            self.state.store(field, index.value(b), 0, values[0])

        self._evaluator(partial, entry, r).update(targets, store)
        return ()

    def _write(self, batch: Value, row: Value) -> None:
        """The results of a batch's rows from `row` on, as far as there are."""
        frame, b = self.frame, self.frame.builder
        there = frame.smaller(b.sub(frame.word(M), row), I64(frame.m.width))
        place = b.add(b.mul(batch, frame.word(M)), row)
        evaluator = self._evaluator()
        evaluator.prepare(self.plan.results)
        for number, result in enumerate(self.plan.results):
            base = frame.address(self.layout.output(number))

            def store(index: Index, carried: Sequence[Value], result: Node = result, base: Value = base) -> Sequence[Value]:
                value = evaluator.full(result, index)[0]
                if result.kind == "real":
                    value = stored(frame.m, value, self.plan.numbers.result)
                frame.scatter(value, base, b.add(b.mul(place, I64(result.dim)), index.value(b)), result.dim, there)
                return carried

            evaluator.for_components([result], (), store)
