"""The direct tile: a block of rows against a range of columns, everything a pair needs in registers.

No bounds are checked, no strides computed and nothing is repeated that pack could do. The columns are walked in steps; the
tile's partial meets the running one every `schedule.tile` columns, so that sums of many terms lose no accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from ..formula.graph import Node
from ..formula.simplify import simplify
from .builder import I64, POINTER, Value, loop
from .evaluate import Evaluator, Index, at
from .frame import Frame
from .layout import ABORT, CHUNK, COL, PAR, PARTIALS, ROW, SPLITS, Layout, N
from .mathlib import Maths

PRELOADED = 16  # row vectors that are worth keeping in registers across columns


@dataclass
class Partial:
    """A partial in memory: for each field an array of components, each of `rows` vectors."""

    builder: ir.IRBuilder
    arrays: Sequence[Value]
    types: Sequence[ir.Type]
    rows: int

    @staticmethod
    def on_stack(frame: Frame, types: Sequence[ir.Type], dims: Sequence[int], rows: int) -> Partial:
        arrays = [frame.allocate(t, dim * rows, 64) for dim, t in zip(dims, types, strict=True)]
        return Partial(frame.builder, arrays, types, rows)

    def _place(self, field: int, component: Value, row: int) -> Value:
        b = self.builder
        index = b.add(b.mul(component, I64(self.rows)), I64(row))
        return b.gep(self.arrays[field], [index], source_etype=self.types[field])

    def load(self, field: int, component: Value, row: int) -> Value:
        return self.builder.load(self._place(field, component, row), typ=self.types[field])

    def store(self, field: int, component: Value, row: int, value: Value) -> None:
        self.builder.store(value, self._place(field, component, row))

    def row(self, r: int) -> list[Value]:
        """The arrays, from row vector `r` on."""
        return [self._place(k, I64(0), r) for k in range(len(self.arrays))]

    def reset(self, frame: Frame, layout: Layout) -> None:
        """Fill with the identity."""
        for k, (f, t) in enumerate(zip(layout.plan.fields, self.types, strict=True)):
            value = identity(frame, f.identity, t)
            loop(self.builder, I64(0), I64(f.dim), 1, (), lambda d, _, k=k, v=value: self._fill(k, d, v))  # type: ignore[misc]

    def _fill(self, field: int, component: Value, value: Value) -> Sequence[Value]:
        for r in range(self.rows):
            self.store(field, component, r, value)
        return ()


def identity(frame: Frame, number: float, lanes: ir.Type) -> Value:
    """A field's identity in every lane of a type."""
    if lanes == frame.m.real:
        return frame.m.const(number)
    scalar = lanes.element if isinstance(lanes, ir.VectorType) else lanes
    return frame.m.splat(scalar(int(number)))


def emit_tile(frame: Frame, layout: Layout) -> None:
    """The body of one task: one block of rows, one split of the columns."""
    Tile(frame, layout).emit()


class Tile:
    """Emits the tile of a plan."""

    def __init__(self, frame: Frame, layout: Layout):
        self.frame, self.layout, self.plan = frame, layout, layout.plan
        self.b, self.m, self.schedule = frame.builder, frame.m, layout.plan.schedule
        self.rows = list(range(self.schedule.rows))
        self.types = [self.m.integer if f.kind == "index" else self.m.real for f in self.plan.fields]

    def emit(self) -> None:
        b, s = self.b, self.schedule
        splits = self.frame.word(SPLITS)
        block, split = b.udiv(self.frame.task, splits), b.urem(self.frame.task, splits)
        row_block = b.mul(block, I64(self.plan.hoisted.row.length * s.block))
        self.row_base = self.frame.element(self.frame.address(ROW), row_block, self.layout.real_bytes)
        self.first = b.mul(split, self.frame.word(CHUNK))
        last = self.frame.smaller(b.add(self.first, self.frame.word(CHUNK)), self.frame.word(N))

        dims = [f.dim for f in self.plan.fields]
        self.total = Partial.on_stack(self.frame, self.types, dims, s.rows)
        self.total.reset(self.frame, self.layout)
        self.tiled = not self.plan.reduction.guarded
        self.partial = self.total
        if self.tiled and not s.state_in_registers:
            self.partial = Partial.on_stack(self.frame, self.types, dims, s.rows)
        if not self.tiled:
            self.entry = Partial.on_stack(self.frame, self.types, [f.dim // self.plan.reduction.entries for f in self.plan.fields], 1)
            self.insert = self._insertion()
        self.known = self._preload()
        loop(b, self.first, last, s.tile, (), lambda start, _: self._one_tile(start, last))
        self._write(block, split)

    # ---- what a formula's leaves are
    def _load(self, node: Node, index: Index, rows: Sequence[int]) -> Sequence[Value]:
        buffer, offset, _, column, *_ = node.attrs
        b, bytes = self.b, self.layout.real_bytes
        component = b.add(index.value(b), I64(offset))
        if buffer == "row":
            place = b.mul(component, I64(self.schedule.block))
            return [
                b.load(
                    self.frame.element(self.row_base, b.add(place, I64(r * self.m.width)), bytes),
                    typ=self.m.real,
                    align=bytes * self.m.width,
                )
                for r in rows
            ]
        if buffer == "col":
            place = b.add(component, I64(column * self.plan.hoisted.col.length))
            return [self.m.splat(b.load(self.frame.element(self.column, place, bytes), typ=self.m.scalar))]
        if buffer == "par":
            return [self.m.splat(b.load(self.frame.element(self.frame.address(PAR), component, bytes), typ=self.m.scalar))]
        if buffer == "index":
            relative = b.trunc(b.sub(self.j, self.first), self.m.scalar_integer) if self.m.bits == 32 else b.sub(self.j, self.first)
            return [self.m.splat(b.add(relative, self.m.scalar_integer(column)))]
        if buffer == "state" and self.schedule.state_in_registers:
            return [self.state[column][index.offset][r] for r in rows]
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

    # ---- walking the columns
    def _one_tile(self, start: Value, last: Value) -> Sequence[Value]:
        b, s = self.b, self.schedule
        with b.if_then(b.not_(self.frame.aborted(ABORT)), likely=True):
            stop = self.frame.smaller(b.add(start, I64(s.tile)), last)
            carried: list[Value] = []
            if s.state_in_registers:
                fields = zip(self.plan.fields, self.types, strict=True)
                carried = [identity(self.frame, f.identity, t) for f, t in fields for _ in range(f.dim * s.rows)]
            elif self.tiled:
                self.partial.reset(self.frame, self.layout)
            if s.columns > 1:  # whole steps, then what remains column by column
                whole = b.sub(stop, b.urem(b.sub(stop, start), I64(s.columns)))
                carried = loop(b, start, whole, s.columns, carried, lambda j, c: self._step(j, c, s.columns))
                start = whole
            carried = loop(b, start, stop, 1, carried, lambda j, c: self._step(j, c, 1))
            if self.tiled:
                self.state = self._unflatten(carried)
                targets = self.plan.combine(self.plan.state("total"), self.plan.field_slots)
                self._store(self._evaluator(), targets, self.total)
        return ()

    def _step(self, j: Value, carried: Sequence[Value], columns: int) -> Sequence[Value]:
        """Combine a few columns into the tile's partial."""
        plan = self.plan
        self.j = j
        self.column = self.frame.element(self.frame.address(COL), self.b.mul(j, I64(plan.hoisted.col.length)), self.layout.real_bytes)
        if plan.reduction.guarded:
            self._guarded_step(columns)
            return ()
        lifted = [plan.lifted(c) for c in range(columns)]
        targets = plan.combine(plan.field_slots, *lifted)
        evaluator = self._evaluator()
        if not self.schedule.state_in_registers:
            self._store(evaluator, targets, self.partial)
            return ()
        self.state = self._unflatten(carried)
        evaluator.prepare(targets)
        fresh: list[Value] = []
        for target in targets:
            for d in range(target.dim):
                fresh += evaluator.full(target, at(d))
        return fresh

    def _guarded_step(self, columns: int) -> None:
        """Combine the columns one by one, each row vector only where the guard says that it matters."""
        plan = self.plan
        evaluator = self._evaluator()
        watched = [plan.values(c)[-1] for c in range(columns)]  # what guards look at
        evaluator.prepare(watched)
        for value in watched:
            for d in range(value.dim):
                evaluator.values(value, at(d))
        for c in range(columns):
            guard, state = plan.reduction.guard(plan.field_slots, plan.values(c)), plan.lifted(c)
            for r in self.rows:
                # An evaluator of its own: what it reads of the partial holds until that is next written.
                watcher = evaluator.row(r)
                condition = self.m.any(self.m.truth(watcher.full(guard)[0]))
                with self.b.if_then(condition, likely=False):
                    for k, field in enumerate(state):
                        for d in range(field.dim):
                            self.entry.store(k, I64(d), 0, watcher.full(field, at(d))[0])
                    self.b.call(self.insert, [*self.partial.row(r), *self.entry.arrays])

    def _insertion(self) -> ir.Function:
        """A function ``insert(partial, entry)`` for one vector of rows: rarely called, so that it is kept out of the loop."""
        plan, count = self.plan, len(self.types)
        void = ir.FunctionType(ir.VoidType(), [POINTER] * (2 * count))
        function = ir.Function(self.b.module, void, "insert")
        function.linkage = "internal"
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        partial = Partial(builder, function.args[:count], self.types, self.schedule.rows)
        entry = Partial(builder, function.args[count:], self.types, 1)

        def leaf(node: Node, index: Index, rows: Sequence[int]) -> Sequence[Value]:
            memory = partial if node.attrs[0] == "state" else entry
            return [memory.load(node.attrs[3], index.value(builder), 0)]

        def store(field: int, index: Index, values: list[Value]) -> None:
            partial.store(field, index.value(builder), 0, values[0])

        m = Maths(builder, self.m.bits, self.m.width, self.m.features)
        old, new = plan.field_slots, plan.entry("entry")

        def evaluator() -> Evaluator:
            return Evaluator(m, [0], leaf, self.schedule.unroll)

        shortcut = plan.reduction.shortcut(old, new)
        if shortcut is None:
            evaluator().update(plan.combine(old, new), store)
        else:
            suspect, targets = shortcut
            with builder.if_else(m.any(m.truth(evaluator().full(suspect)[0]))) as (then, otherwise):
                with then:
                    evaluator().update(plan.combine(old, new), store)
                with otherwise:
                    evaluator().update(simplify(targets), store)
        builder.ret_void()
        return function

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
        return [[[next(values) for _ in self.rows] for _ in range(f.dim)] for f in self.plan.fields]

    def _write(self, block: Value, split: Value) -> None:
        """The partial of this block and split to memory; indices become 64-bit column numbers."""
        b, layout = self.b, self.layout
        number = b.add(b.mul(block, self.frame.word(SPLITS)), split)
        base = self.frame.offset(self.frame.address(PARTIALS), b.mul(number, I64(layout.partial_bytes())))
        wide = self.m.lanes(I64)
        for k, (f, t) in enumerate(zip(self.plan.fields, self.types, strict=True)):
            array = self.frame.offset(base, I64(layout.field_offset(k)))

            def copy(d: Value, _: Sequence[Value], k: int = k, t: ir.Type = t, kind: str = f.kind, array: Value = array) -> Sequence[Value]:
                for r in self.rows:
                    value = self.total.load(k, d, r)
                    if kind == "index":
                        value = b.sext(value, wide) if t != wide else value
                        value = b.select(self.m.is_negative(value), value, b.add(value, self.m.splat(self.first)))
                    place = b.add(b.mul(d, I64(self.schedule.rows)), I64(r))
                    b.store(value, b.gep(array, [place], source_etype=value.type))
                return ()

            loop(b, I64(0), I64(f.dim), 1, (), copy)
