"""Pack: compute what depends on a row, a column or on neither once, and lay it out as the tile reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

from ..formula.graph import Node, topological, variables
from ..plan.hoist import Buffer
from .blocks import Blocks
from .builder import I32, I64, Value, loop
from .evaluate import Evaluator, Index, at
from .frame import Frame
from .layout import ADDRESS, BATCHES, COL, OFFSETS, PACK_VECTORS, PAR, ROW, ROW_STRIDE, STRIDE, Layout, N
from .mathlib import Maths
from .storage import load
from .transpose import load_vectors, store_vectors

WORDS = {"row": ROW, "col": COL, "par": PAR}
SHORT = 8  # numbers a row: up to so many are read and written whole registers at a time


class Rows(NamedTuple):
    """Neighbouring rows, one a lane: from `first` on; lanes beyond `last`, if that is said, have the last one again."""

    first: Value
    last: Value | None = None
    there: Value | None = None  # where they are neighbours in memory too: how many there are

    def number(self, m: Maths, lane: Value) -> Value:
        """Which rows the lanes of those numbers have."""
        b, number = m.builder, m.builder.add(lane, m.splat(self.first))
        if self.last is None:
            return number
        last = m.splat(self.last)
        return b.select(b.icmp_signed("<", number, last), number, last)


def emit_pack(frame: Frame, layout: Layout, buffer: Buffer, task: Value, a_task: int = PACK_VECTORS) -> None:
    """The body of one task: so many vectors of one buffer, whichever batches they belong to."""
    b, lanes = frame.builder, frame.m.width
    blocks, a_block = Blocks(frame, layout), I64(layout.plan.schedule.block // lanes)
    vectors = {
        "par": lambda: I64(1),
        "row": lambda: b.mul(blocks.count(), a_block),
        "col": lambda: b.udiv(frame.padded(frame.word(N), lanes), I64(lanes)),
    }[buffer.name]()
    first = b.mul(task, I64(a_task))
    batches = blocks.batches() if buffer.name == "row" else frame.word(BATCHES)
    last = frame.smaller(b.add(first, I64(a_task)), b.mul(batches, vectors))

    def pack(number: Value, _: Sequence[Value]) -> Sequence[Value]:
        batch, vector = (number, I64(0)) if buffer.name == "par" else (b.udiv(number, vectors), b.urem(number, vectors))
        row, start, there = b.mul(vector, I64(lanes)), I64(0), I64(1) if buffer.name == "par" else frame.word(N)
        if buffer.name == "row":
            start, there = blocks.rows(b.udiv(vector, a_block))
            row = b.mul(b.urem(vector, a_block), I64(lanes))
        apart = Rows(b.add(start, row), b.add(start, b.sub(there, I64(1))))
        if in_line is None:
            _pack_vector(frame, layout, buffer, number, batch, apart)
            return ()
        with b.if_else(in_line, likely=True) as (then, otherwise):
            with then:
                count = frame.larger(I64(0), frame.smaller(b.sub(there, row), I64(lanes)))
                # No pair is made of columns beyond the last.
                rows = Rows(apart.first, None if buffer.name == "col" else apart.last, b.trunc(count, I32))
                _pack_vector(frame, layout, buffer, number, batch, rows)
            with otherwise:
                _pack_vector(frame, layout, buffer, number, batch, apart)
        return ()

    in_line = _in_line(frame, layout, buffer)
    loop(b, first, last, 1, (), pack)


def _in_line(frame: Frame, layout: Layout, buffer: Buffer) -> Value | None:
    """Whether what the rows are made of lies there one row after the other; None where that cannot be."""
    b, plan = frame.builder, layout.plan
    needed = [v for v in variables(tuple(buffer.formulas)) if v.axes]
    short = buffer.length <= SHORT and all(n.dim <= SHORT for n in topological(buffer.formulas))
    plain = all(plan.numbers.stored[v.attrs[1]] == f"float{plan.bits}" for v in needed)
    if not (needed and short and plain and frame.m.width > 1 and "avx" in frame.m.features):
        return None
    conditions = []
    for v in needed:
        word = layout.variable(v.attrs[1])
        conditions.append(b.icmp_signed("==", frame.word(word + ROW_STRIDE), I64(v.dim * layout.real_bytes)))
        if v.dim > 1:
            conditions.append(b.icmp_signed("==", frame.word(word + STRIDE), I64(layout.real_bytes)))
    return reduce(b.and_, conditions)


def _pack_vector(frame: Frame, layout: Layout, buffer: Buffer, number: Value, batch: Value, rows: Rows) -> None:
    """The buffer's vector of that number: these rows of a batch."""
    b, m, plan = frame.builder, frame.m, layout.plan

    def parameter(slot: Node, index: Index) -> Value:  # packed before
        component = b.add(b.mul(batch, I64(layout.par_length)), b.add(index.value(b), I64(slot.attrs[1])))
        return m.splat(b.load(frame.element(frame.address(PAR), component, layout.real_bytes), typ=m.scalar))

    def copied(formula: Node) -> bool:
        return rows.there is None and formula.op.name == "var" and bool(formula.axes)

    evaluator = of_rows(frame, layout, [f for f in buffer.formulas if not copied(f)], batch, rows, parameter)
    base = frame.address(WORDS[buffer.name])
    if buffer.name == "row":
        # Numbers go through all batches, as blocks do: a batch is a whole number of them.
        block, within = frame.divide(number, plan.schedule.block // m.width)
        base = frame.element(base, b.mul(block, I64(buffer.length * plan.schedule.block)), layout.real_bytes)
        base, step, between = frame.element(base, b.mul(within, I64(m.width)), layout.real_bytes), plan.schedule.block, 1
    else:
        base, step, between = frame.element(base, b.mul(number, I64(m.width * buffer.length)), layout.real_bytes), 1, buffer.length
    if buffer.name == "par":
        base = frame.element(frame.address(PAR), b.mul(batch, I64(layout.par_length)), layout.real_bytes)

    if buffer.name == "col" and rows.there is not None:
        formulas = zip(buffer.formulas, buffer.slots, strict=True)
        components = {slot.attrs[1] + d: evaluator.full(formula, at(d))[0] for formula, slot in formulas for d in range(formula.dim)}
        store_vectors(m, [components[k] for k in range(buffer.length)], base)
        return

    def emit(formula: Node, offset: int) -> None:
        """A formula's components: `step` apart, and each row's `between` apart."""

        def store(index: Index, carried: Sequence[Value]) -> Sequence[Value]:
            place = frame.element(base, b.mul(b.add(index.value(b), I64(offset)), I64(step)), layout.real_bytes)
            if buffer.name == "par":
                b.store(m.lane(evaluator.full(formula, index)[0], 0), place)
            elif between == 1:
                b.store(evaluator.full(formula, index)[0], place, align=layout.real_bytes * m.width)
            else:
                frame.scatter(evaluator.full(formula, index)[0], place, I64(0), between, I64(m.width))
            return carried

        evaluator.for_components([formula], (), store)

    def copy(variable: Node, offset: int) -> None:
        """The same of a variable, number by number, since nothing is computed."""
        single, word = type(m)(b, m.bits, 1, m.features), layout.variable(variable.attrs[1])
        start, row_stride, stride = _start(frame, layout, variable, batch), frame.word(word + ROW_STRIDE), frame.word(word + STRIDE)

        def row(k: Value, _: Sequence[Value]) -> Sequence[Value]:
            source = frame.offset(start, b.mul(rows.number(single, k), row_stride))
            target = frame.element(base, b.mul(k, I64(between)), layout.real_bytes)

            def store(index: Index, carried: Sequence[Value]) -> Sequence[Value]:
                value = load(single, plan.numbers.stored[variable.attrs[1]], frame.components([source], index, stride))
                b.store(value, frame.element(target, b.mul(b.add(index.value(b), I64(offset)), I64(step)), layout.real_bytes))
                return carried

            evaluator.for_components([variable], (), store)
            return ()

        if m.width == 1:
            row(I64(0), ())
        else:
            loop(b, I64(0), I64(m.width), 1, (), row)

    for formula, slot in zip(buffer.formulas, buffer.slots, strict=True):
        (copy if copied(formula) else emit)(formula, slot.attrs[1])


def of_rows(
    frame: Frame, layout: Layout, formulas: Sequence[Node], batch: Value, rows: Rows, parameter: Callable[[Node, Index], Value]
) -> Evaluator:
    """An evaluator that has prepared formulas of these rows."""
    arrays = from_arrays(frame, layout, variables(tuple(formulas)), batch, rows)

    def leaf(node: Node, index: Index, rows: Sequence[int]) -> Sequence[Value]:
        return [parameter(node, index)] if node.op.name == "slot" else arrays(node, index)

    evaluator = Evaluator(frame.m, [0], leaf, layout.plan.schedule.unroll)
    evaluator.prepare(formulas)
    return evaluator


def from_arrays(frame: Frame, layout: Layout, needed: Sequence[Node], batch: Value, rows: Rows) -> Callable[[Node, Index], Sequence[Value]]:
    """What reads variables in these rows, straight from the arrays."""
    b, m = frame.builder, frame.m
    starts: dict[int, list[Value]] = {}
    together: dict[tuple[int, int], Value] = {}
    for v in needed:
        start, stride = _start(frame, layout, v, batch), frame.word(layout.variable(v.attrs[1]) + ROW_STRIDE)
        if not v.axes:
            starts[v.attrs[1]] = [start]
        elif rows.there is None:
            along = b.mul(rows.number(m, m.lane_numbers(I64)), m.splat(stride))
            starts[v.attrs[1]] = [frame.offset(start, m.lane(along, k)) for k in range(m.width)]
        else:
            begin = frame.offset(start, b.mul(rows.first, stride))
            end = None if rows.last is None else frame.offset(start, b.mul(rows.last, stride))
            components = load_vectors(m, begin, v.dim, rows.there, end)
            together.update({(v.attrs[1], d): component for d, component in enumerate(components)})

    def read(node: Node, index: Index) -> Sequence[Value]:
        variable = node.attrs[1]
        if variable not in starts:
            return [together[variable, index.offset]]
        stride = frame.word(layout.variable(variable) + STRIDE)
        return [load(m, layout.plan.numbers.stored[variable], frame.components(starts[variable], index, stride))]

    return read


def _start(frame: Frame, layout: Layout, variable: Node, batch: Value) -> Value:
    """Where a batch's rows of a variable begin."""
    word = layout.variable(variable.attrs[1])
    offset = frame.builder.load(frame.element(frame.address(word + OFFSETS), batch, 8), typ=I64)
    return frame.offset(frame.address(word + ADDRESS), offset)
