"""Pack: compute what depends on a row, a column or on neither once, and lay it out as the tile reads it."""

from __future__ import annotations

from collections.abc import Sequence

from ..formula.graph import Node, variables
from ..plan.hoist import Buffer
from .builder import I64, Value, loop
from .evaluate import Evaluator, Index
from .frame import Frame
from .layout import COL, PACK_VECTORS, PAR, ROW, Layout, M, N

WORDS = {"row": ROW, "col": COL, "par": PAR}
COUNTS = {"row": M, "col": N}


def emit_pack(frame: Frame, layout: Layout, buffer: Buffer, task: Value) -> None:
    """The body of one task: `PACK_VECTORS` vectors of rows of one buffer, or the whole parameter buffer."""
    b = frame.builder
    if buffer.name == "par":
        _pack_rows(frame, layout, buffer, I64(0), I64(1))
        return
    count = frame.word(COUNTS[buffer.name])
    lanes = frame.m.width
    first = b.mul(task, I64(PACK_VECTORS * lanes))
    last = frame.smaller(
        b.add(first, I64(PACK_VECTORS * lanes)), frame.padded(count, lanes if buffer.name == "col" else layout.plan.schedule.block)
    )
    loop(b, first, last, lanes, (), lambda row, _: _pack_rows(frame, layout, buffer, row, count))


def _pack_rows(frame: Frame, layout: Layout, buffer: Buffer, row: Value, count: Value) -> Sequence[Value]:
    """One vector of rows from `row` on; rows beyond the last repeat it."""
    b, m = frame.builder, frame.m
    last = b.sub(count, I64(1))
    numbers = [frame.smaller(b.add(row, I64(k)), last) for k in range(m.width)]

    offsets = {
        v.attrs[1]: [b.mul(number, frame.word(layout.variable(v.attrs[1]) + 1)) for number in numbers]
        for v in variables(tuple(buffer.formulas))
        if v.axes
    }

    def leaf(node: Node, index: Index, rows: Sequence[int]) -> Sequence[Value]:
        if node.op.name == "slot":  # a parameter, already packed
            address = frame.element(frame.address(PAR), b.add(index.value(b), I64(node.attrs[1])), layout.real_bytes)
            return [m.splat(b.load(address, typ=m.scalar))]
        variable = node.attrs[1]
        word = layout.variable(variable)
        start = frame.offset(frame.address(word), b.mul(index.value(b), frame.word(word + 2)))
        if node.axes == 0:
            return [m.splat(b.load(start, typ=m.scalar))]
        return [frame.gather([frame.offset(start, offset) for offset in offsets[variable]])]

    evaluator = Evaluator(m, [0], leaf, layout.plan.schedule.unroll)
    evaluator.prepare(buffer.formulas)
    base = frame.address(WORDS[buffer.name])
    for formula, slot in zip(buffer.formulas, buffer.slots, strict=True):
        offset = slot.attrs[1]

        def store(index: Index, carried: Sequence[Value], formula: Node = formula, offset: int = offset) -> Sequence[Value]:
            value = evaluator.full(formula, index)[0]
            component = b.add(index.value(b), I64(offset))
            if buffer.name == "row":
                block, within = frame.divide(row, layout.plan.schedule.block)
                place = b.mul(b.add(b.mul(block, I64(buffer.length)), component), I64(layout.plan.schedule.block))
                b.store(value, frame.element(base, b.add(place, within), layout.real_bytes), align=layout.real_bytes * m.width)
            elif buffer.name == "col":
                first = b.add(b.mul(row, I64(buffer.length)), component)
                frame.scatter(value, base, first, buffer.length, I64(m.width))
            else:
                b.store(frame.lane(value, 0), frame.element(base, component, layout.real_bytes))
            return carried

        evaluator.for_components([formula], (), store)
    return ()
