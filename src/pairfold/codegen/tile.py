"""The direct tile: a block of rows against a range of columns, everything a pair needs in registers.

No bounds are checked, no strides computed and nothing is repeated that pack could do. The columns are walked in steps; the
tile's partial meets the running one every `schedule.tile` columns, so that sums of many terms lose no accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from math import gcd
from typing import NamedTuple

from ..formula.graph import Node
from ..reductions import Field
from .blocks import Blocks
from .builder import I1, I32, I64, Value, loop
from .evaluate import Evaluator, Index, at
from .finish import Finish
from .frame import Frame
from .insert import emit_insertion
from .layout import ABORT, ADDRESS, CHUNK, COL, OFFSETS, PAR, PARTIALS, ROW, SPLITS, WIDEST, Layout, N
from .partial import Partial, identity

REMAINDER = 4  # columns a step for what whole steps leave of sums that are rescaled
LONG_STATE = 8  # components of a partial that are too many to be in registers twice
PRELOADED = 16  # row vectors that are worth keeping in registers across columns


class Columns(NamedTuple):
    """Where numbers of the columns of a batch are: in the first column, and how many numbers from one column to the next."""

    base: Value
    length: int


class Tile:
    """Emits the tile of a plan."""

    in_place: Mapping[int, Columns]  # the columns of the batch, if they are not packed: of each slot, by its place in a column

    def __init__(self, frame: Frame, layout: Layout):
        self.frame, self.layout, self.plan = frame, layout, layout.plan
        self.b, self.m, self.schedule = frame.builder, frame.m, layout.plan.schedule
        self.rows = list(range(self.schedule.rows))
        self.types = [self.m.of(f.kind) for f in self.plan.fields]

    def emit(self) -> None:
        b, s = self.b, self.schedule
        splits = self.frame.word(SPLITS)
        block, split = b.udiv(self.frame.task, splits), b.urem(self.frame.task, splits)
        blocks = Blocks(self.frame, self.layout)
        batch, in_batch = blocks.of_batch(block)
        h = self.plan.hoisted
        self.col_base = self._packed_columns(batch)
        self.par_base = self.frame.element(self.frame.address(PAR), b.mul(batch, I64(self.layout.par_length)), self.layout.real_bytes)
        row_block = b.mul(block, I64(self.plan.hoisted.row.length * s.block))
        self.row_base = self.frame.element(self.frame.address(ROW), row_block, self.layout.real_bytes)
        self.first = b.mul(split, self.frame.word(CHUNK))
        last = b.add(self.first, self.frame.word(CHUNK))

        self.row_stride, self.column_length = s.block, h.col.length
        self._allocate()

        def walk(start: Value, stop: Value) -> None:
            """The part of a range of columns that is this split's."""
            start, stop = self.frame.larger(start, self.first), self.frame.smaller(stop, last)
            loop(b, start, stop, s.tile, (), lambda at, _: self._one_tile(at, stop))

        self._meet(blocks, batch, in_batch, walk)
        self._finish(blocks, batch, in_batch, block, split)

    def _packed_columns(self, batch: Value) -> Value:
        """Where the columns of a batch are packed."""
        b = self.b
        of_batch = b.mul(self.frame.padded(self.frame.word(N), self.schedule.lanes), I64(self.plan.hoisted.col.length))
        return self.frame.element(self.frame.address(COL), b.mul(batch, of_batch), self.layout.real_bytes)

    def _columns_of(self, batch: Value) -> dict[int, Columns]:
        """Those of a batch: as packed, or as the arrays have them. Of each slot, by its place in a packed column."""
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

    def _of_column(self, found: Mapping[int, Columns], node: Node, index: Index) -> Value:
        """A number of a column, in all lanes."""
        b, (_, place, _, column, *_) = self.b, node.attrs
        base, length = found[place]
        start = self.frame.element(base, b.mul(self.j, I64(length)), self.layout.real_bytes)
        component = b.add(index.value(b), I64(column * length))
        return self.m.splat(b.load(self.frame.element(start, component, self.layout.real_bytes), typ=self.m.scalar))

    def _meet(self, blocks: Blocks, batch: Value, block: Value, walk: Callable[[Value, Value], None]) -> None:
        """Walk the columns that a block of a batch meets."""
        if self.schedule.in_place:
            self.in_place = self._columns_of(batch)
        blocks.columns(block, walk)

    def _allocate(self) -> None:
        """The partials that live in memory."""
        s, dims = self.schedule, [f.dim for f in self.plan.fields]
        self.total = Partial.on_stack(self.frame, self.types, dims, s.rows)
        self.total.reset(self.frame, self.plan.fields)
        self.tiled = not self.plan.reduction.guarded
        self.partial = self.total
        if self.tiled and not s.state_in_registers:
            kept = len(self.plan.tile_fields)
            self.partial = Partial.on_stack(self.frame, self.types[:kept], dims[:kept], s.rows)
        if not self.tiled:
            self.insert = emit_insertion(self.b.module, self.layout, self.m, self.row_stride)
            self.watched = self.frame.allocate(self.m.real, s.rows * s.columns * self.plan.hoisted.body[-1].dim, 64)

    # ---- what a formula's leaves are
    def _load(self, node: Node, index: Index, rows: Sequence[int]) -> Sequence[Value]:
        buffer, offset, _, column, *_ = node.attrs
        b, bytes = self.b, self.layout.real_bytes
        component = b.add(index.value(b), I64(offset))
        if buffer == "row":
            place, align = b.mul(component, I64(self.row_stride)), bytes * self.m.width
            return [b.load(self.frame.element(self._packed_row(r), place, bytes), typ=self.m.real, align=align) for r in rows]
        if buffer == "col" and self.schedule.in_place:
            return [self._of_column(self.in_place, node, index)]
        if buffer == "col":
            place = b.add(component, I64(column * self.column_length))
            return [self.m.splat(b.load(self.frame.element(self.column, place, bytes), typ=self.m.scalar))]
        if buffer == "par":
            # Where neighbours may be loaded together.
            align = gcd((offset + index.offset) * bytes, WIDEST) if index.base is None else bytes
            return [self.m.splat(b.load(self.frame.element(self.par_base, component, bytes), typ=self.m.scalar, align=align))]
        if buffer == "index":
            relative = b.trunc(b.sub(self.j, self.first), self.m.scalar_integer) if self.m.bits == 32 else b.sub(self.j, self.first)
            return [self.m.splat(b.add(relative, self.m.scalar_integer(column)))]
        if buffer == "state" and self.schedule.state_in_registers:
            assert index.base is None, "registers have no numbers when the kernel runs"
            return [self.state[column][index.offset][r - self.rows[0]] for r in rows]
        memory = self.total if buffer == "total" else self.partial
        return [memory.load(column, index.value(b), r) for r in rows]

    def _evaluator(self) -> Evaluator:
        return Evaluator(self.m, self.rows, self._load, self.schedule.unroll, self.known)

    def _preload(self) -> dict[tuple[Node, Index], Sequence[Value]]:
        """The block's rows and the parameters, where they are few: loaded once, not for each column."""
        known: dict[tuple[Node, Index], Sequence[Value]] = {}
        for buffer, copies in ((self.plan.hoisted.row, len(self.rows)), (self.plan.hoisted.par, 1)):
            if buffer.length * copies <= PRELOADED:
                for slot in buffer.slots:
                    for d in range(slot.dim):
                        known[slot, at(d)] = self._load(slot, at(d), self.rows)
        return known

    def _packed_row(self, r: int | Value) -> Value:
        """Where the first component of a row vector is packed; from one component to the next it is `row_stride` numbers."""
        place = I64(r * self.m.width) if isinstance(r, int) else self.b.mul(r, I64(self.m.width))
        return self.frame.element(self.row_base, place, self.layout.real_bytes)

    def _column(self, j: Value) -> Value:
        """Where a column is packed; from one to the next it is `column_length` numbers."""
        return self.frame.element(self.col_base, self.b.mul(j, I64(self.column_length)), self.layout.real_bytes)

    # ---- walking the columns
    def _one_tile(self, start: Value, last: Value) -> Sequence[Value]:
        b = self.b
        with b.if_then(b.not_(self.frame.aborted(ABORT)), likely=True):
            self._columns(start, self.frame.smaller(b.add(start, I64(self.schedule.tile)), last))
        return ()

    def _columns(self, start: Value, stop: Value) -> None:
        """Reduce a range of columns into the tile's partial, and merge that into the total."""
        s = self.schedule
        for first in range(0, s.whole, s.group):
            self.rows = list(range(first, min(first + s.group, s.whole)))
            self.known = self._preload()
            carried: Sequence[Value] = []
            if s.state_in_registers:
                fields = list(zip(self.plan.tile_fields, self.types, strict=False))
                carried = [identity(self.frame, f.identity, t) for f, t in fields for _ in range(f.dim * len(self.rows))]
            elif self.tiled:
                self.partial.reset(self.frame, self.plan.tile_fields)
            carried = self._walk(start, stop, carried)
            if self.tiled:
                self.state = self._unflatten(carried)
                targets = self.plan.merge(self.plan.state("total"), self.plan.tile_slots)
                self._store(self._evaluator(), targets, self.total)
        self.rows = list(range(s.rows))

    def _walk(self, start: Value, stop: Value, carried: Sequence[Value]) -> Sequence[Value]:
        """Reduce a range of columns into the tile's partial: in whole steps, then what remains column by column.

        To rescale for a single column is dear, so what remains there is taken in smaller steps first.
        """
        s = self.schedule
        for columns in sorted({s.columns, min(s.columns, REMAINDER)} if s.rescaled else {s.columns}, reverse=True):
            if columns > 1:
                start, carried = self._steps(start, stop, columns, carried)
        return loop(self.b, start, stop, 1, carried, lambda j, c: self._step(j, c, 1))

    def _steps(self, start: Value, stop: Value, columns: int, carried: Sequence[Value]) -> tuple[Value, Sequence[Value]]:
        """Take as many steps of so many columns as a range has; where they end, and what they carry."""
        b = self.b
        end = b.sub(stop, b.urem(b.sub(stop, start), I64(columns)))
        return end, loop(b, start, end, columns, carried, lambda j, c: self._step(j, c, columns))

    def _step(self, j: Value, carried: Sequence[Value], columns: int) -> Sequence[Value]:
        """Combine a few columns into the tile's partial."""
        plan = self.plan
        self.j = j
        self.column = self._column(j)
        if plan.reduction.guarded:
            self._guarded_step(columns)
            return ()
        lifted = [plan.lifted(c) for c in range(columns)]
        together = [plan.reduction.combine(lifted)] if self.schedule.gathered else lifted
        targets = plan.combine(plan.tile_slots, *together)
        evaluator = self._evaluator()
        if not self.schedule.state_in_registers:
            self._store(evaluator, targets, self.partial)
            return ()
        self.state = self._unflatten(carried)
        # Of a vector's lanes one would always need the longer way.
        cheaply = plan.combine_cheaply(plan.tile_slots, *lifted) if self.m.width == 1 else None
        if cheaply is None:
            return self._fresh(evaluator, targets)
        doubt, cheap = self._together(cheaply[0]), cheaply[1]
        evaluator.prepare((doubt, *cheap))
        evaluator.meet((*cheap, *targets))
        doubted = reduce(self.b.or_, map(self.m.truth, evaluator.full(doubt)))
        if sum(f.dim for f in plan.tile_fields) > LONG_STATE:  # so that not both are in registers
            with self.b.if_else(doubted, likely=False) as (then, otherwise):
                with then:
                    careful, inside = self._fresh(evaluator.branch(), targets), self.b.block
                with otherwise:
                    fresh, before = self._fresh(evaluator.branch(), cheap), self.b.block
        else:
            fresh, before = self._fresh(evaluator, cheap), self.b.block
            with self.b.if_then(doubted, likely=False):
                careful, inside = self._fresh(evaluator.branch(), targets), self.b.block
        return self.m.merge(list(zip(fresh, careful, strict=True)), before, inside)

    def _together(self, condition: Node) -> Node:
        """A condition that all who share a row find the same."""
        return condition

    def _fresh(self, evaluator: Evaluator, targets: Sequence[Node]) -> list[Value]:
        """New fields of a partial in registers, in the order in which they are carried."""
        evaluator.prepare(targets)
        return [value for target in targets for d in range(target.dim) for value in evaluator.full(target, at(d))]

    def _guarded_step(self, columns: int) -> None:
        """Note which pairs of row vectors and columns matter to the guard, and combine those one after the other."""
        plan, b = self.plan, self.b
        evaluator = self._evaluator()
        watched = [plan.values(c)[-1] for c in range(columns)]  # what guards look at
        evaluator.prepare(watched)
        guards = [plan.reduction.guard(plan.field_slots, plan.values(c)) for c in range(columns)]
        conditions = [self.m.any(self.m.truth(condition)) for guard in guards for condition in evaluator.full(guard)]

        def numbered() -> Value:
            return reduce(b.or_, [b.shl(b.zext(hit, I32), I32(k)) for k, hit in enumerate(conditions)])

        dim = watched[0].dim
        hits = numbered() if self.m.width > 1 else None  # a scalar's condition costs nothing to join, its number does
        with b.if_then(reduce(b.or_, conditions) if hits is None else b.icmp_unsigned("!=", hits, I32(0)), likely=False):
            for c, value in enumerate(watched):
                for d in range(dim):
                    for r, lanes in enumerate(evaluator.full(value, at(d))):
                        b.store(lanes, self._watched_place(I64((c * len(self.rows) + r) * dim + d)))
            self._insert_each(numbered() if hits is None else hits, dim)

    def _insert_each(self, hits: Value, dim: int) -> None:
        """Call `insert` for each bit that is set, the columns in order."""
        b, bytes = self.b, self.layout.real_bytes
        before, turn, after = b.block, b.append_basic_block("hit"), b.append_basic_block("hits.done")
        b.branch(turn)
        b.position_at_end(turn)
        left = b.phi(I32)
        left.add_incoming(hits, before)
        number = b.zext(b.cttz(left, I1(1)), I64)
        column, row = self.frame.divide(number, len(self.rows))
        b.call(
            self.insert,
            [
                *(self.partial.place(k, I64(0), row) for k in range(len(self.types))),
                self.frame.generic(self._packed_row(row)),
                self.frame.generic(self.frame.element(self.column, b.mul(column, I64(self.column_length)), bytes)),
                self.frame.generic(self.par_base),
                self._watched_place(b.mul(number, I64(dim))),
                b.add(b.sub(self.j, self.first), column),
            ],
        )
        rest = b.and_(left, b.sub(left, I32(1)))
        left.add_incoming(rest, b.block)
        b.cbranch(b.icmp_unsigned("!=", rest, I32(0)), turn, after)
        b.position_at_end(after)

    def _watched_place(self, number: Value) -> Value:
        return self.b.gep(self.watched, [number], source_etype=self.m.real)

    def _store(self, evaluator: Evaluator, targets: Sequence[Node], memory: Partial) -> None:
        def store(field: int, index: Index, values: list[Value]) -> None:
            component = index.value(self.b)
            for r, value in zip(evaluator.rows, values, strict=True):
                memory.store(field, component, r, value)

        evaluator.update(targets, store)

    def _unflatten(self, carried: Sequence[Value]) -> list[list[list[Value]]]:
        """Values carried through a loop, as [field][component][row vector]."""
        values = iter(carried)
        if not self.schedule.state_in_registers:
            return []
        return [[[next(values) for _ in self.rows] for _ in range(f.dim)] for f in self.plan.tile_fields]

    def _finish(self, blocks: Blocks, batch: Value, in_batch: Value, block: Value, split: Value) -> None:
        """Results where the columns are in one part, else a partial."""
        b = self.b
        with b.if_else(b.icmp_unsigned("==", self.frame.word(SPLITS), I64(1))) as (whole, part):
            with whole:
                first, there = blocks.rows(in_batch)

                def write(r: Value, _: Sequence[Value]) -> Sequence[Value]:
                    within = b.mul(r, I64(self.m.width))
                    Finish(self.frame, self.layout, self.total, r).write(batch, b.add(first, within), b.sub(there, within))
                    return ()

                loop(b, I64(0), I64(len(self.rows)), 1, (), write)
            with part:
                self._write(block, split)

    def _write(self, block: Value, split: Value) -> None:
        """The partial of this block and split to memory; indices become 64-bit column numbers."""
        b, layout = self.b, self.layout
        number = b.add(b.mul(block, self.frame.word(SPLITS)), split)
        base = self.frame.offset(self.frame.address(PARTIALS), b.mul(number, I64(layout.partial_bytes())))
        for k, f in enumerate(self.plan.fields):
            array = self.frame.offset(base, I64(layout.field_offset(k)))

            def copy(d: Value, _: Sequence[Value], k: int = k, f: Field = f, array: Value = array) -> Sequence[Value]:
                for r in self.rows:
                    value = self.total.load(k, d, r)
                    if f.kind == "index":
                        value = self._absolute(value)
                    place = b.add(b.mul(d, I64(self.schedule.rows)), I64(r))
                    b.store(value, b.gep(array, [place], source_etype=value.type))
                return ()

            loop(b, I64(0), I64(f.dim), 1, (), copy)

    def _absolute(self, index: Value) -> Value:
        """An index within this split as a column's 64-bit number; a negative one stays."""
        wide = self.m.lanes(I64)
        index = self.b.sext(index, wide) if index.type != wide else index
        return self.b.select(self.m.is_negative(index), index, self.b.add(index, self.m.splat(self.first)))
