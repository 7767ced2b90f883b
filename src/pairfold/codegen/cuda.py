"""The CUDA target: kernels whose lanes are threads, so that a value is a thread's scalar.

A thread block has ``L = 2**SHIFT`` threads beside one another for the rows and as many groups of L threads as fit; each thread owns
`schedule.rows` rows, each group a stretch of columns of its own. L follows from the number of rows at each launch: one kernel serves few
rows and many. ``tile`` computes what is packed itself and keeps it where it is used, rows in registers and columns in shared memory;
only vectors too long for that are packed into global memory by kernels that run before, and are read from there.

The partials of groups are merged by the tile, in global memory, those of splits by ``finish``: neighbours by neighbours in the order of
their columns, so that results depend on nothing but the sizes and the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from llvmlite import ir

from ..formula.graph import Node, apply, topological, variables
from ..plan.hoist import Buffer
from ..plan.plan import Plan
from ..plan.slices import is_long, segments, unit_of
from .blocks import Blocks, Gathered
from .builder import I32, I64, Builder, Value, loop, uncollected
from .evaluate import FIRST, Evaluator, Index, at, of_slice
from .finish import Finish
from .frame import VOID, Frame
from .layout import (
    CHUNK,
    COL,
    FIRST_TASKS,
    FIRST_VARIABLE,
    PAR,
    PARTIALS,
    ROW,
    SPLITS,
    WIDEST,
    Layout,
    M,
    N,
)
from .mathlib_cuda import CudaMaths
from .pack import Rows, emit_pack, from_arrays, of_rows
from .partial import IN_REGISTERS, Partial, for_dim
from .tile import Tile

# Words of a launch, where the CPU has its numbers of tasks: log2 of the threads beside one another; columns of a group's tile, or splits
# that a group of `finish` merges; tiles of a chunk; rows that a thread block of `tile` owns, and its groups.
SHIFT, TILE, TRIPS, ROWS, GROUPS = range(FIRST_TASKS, FIRST_VARIABLE)
FINISH_THREADS = 128
PACK_THREADS = 128
SHORT_PARTIAL = 4  # numbers that `finish` keeps in registers
GLOBAL, SHARED = 1, 3  # address spaces
LOG2_LEAST_LANES = 2
LOG2_WARP = 5  # lanes that share rows meet as whole warps do


class Grid(Frame):
    """The kernel ``name(words)``, open for instructions; the words are its parameters."""

    def __init__(self, module: ir.Module, name: str, bits: int, features: frozenset[str], words: int):
        self.function = ir.Function(module, ir.FunctionType(VOID, [ir.ArrayType(I64, words)]), name)
        self.function.calling_convention = "ptx_kernel"
        self.entry = self.function.append_basic_block("entry")
        self.builder = Builder(self.function.append_basic_block("start"))
        self.m = CudaMaths(self.builder, bits, 1, features)
        (self.words,) = self.function.args
        self._words: dict[int, Value] = {}
        self._reached: dict[tuple[Value, Value | None], tuple[ir.Block, int, Value]] = {}  # components of vectors
        self._setup, self._on_heap = Builder(self.entry), []
        self.thread = self.register("tid.x")

    def word(self, position: int) -> Value:
        if position not in self._words:
            self._words[position] = self._setup.extract_value(self.words, position)
        return self._words[position]

    def anew(self, value: Value) -> Value:
        """The same, but new to LLVM: what follows from it is computed here, and no register keeps it until then."""
        return self.builder.asm(ir.FunctionType(value.type, [value.type]), "", "=l,0", [value], True)

    def address(self, position: int) -> Value:
        return self.builder.inttoptr(self.word(position), ir.PointerType(addrspace=GLOBAL))

    def components(self, starts: Sequence[Value], index: Index, stride: Value) -> list[Value]:
        """From the component before: else registers would keep the stride's multiples, one for each component, all along."""
        return [self._component(start, index, stride) for start in starts]

    def _component(self, start: Value, index: Index, stride: Value) -> Value:
        b, key = self.builder, (start, index.base)
        block, offset, place = self._reached.get(key, (None, 0, start))
        further = b.mul(I64(index.offset - offset), stride) if block is b.block else b.mul(index.value(b), stride)
        place = self.offset(place if block is b.block else start, further)
        self._reached[key] = b.block, index.offset, place
        return place

    def scatter(self, value: Value, base: Value, first: Value, step: int, count: Value) -> None:
        b = self.builder
        with b.if_then(b.icmp_signed(">", count, I64(0))):
            b.store(value, b.gep(base, [first], source_etype=value.type))

    def register(self, name: str) -> Value:
        """One of the numbers that tell threads apart."""
        return self._setup.zext(self._read(name), I64)

    def _read(self, name: str) -> Value:
        full = f"llvm.nvvm.read.ptx.sreg.{name}"
        module = self.builder.module
        function = module.globals.get(full) or ir.Function(module, ir.FunctionType(I32, []), full)
        return self._setup.call(function, [])

    def barrier(self) -> None:
        """Wait for all threads of the block, and see what they wrote."""
        module, name = self.builder.module, "llvm.nvvm.barrier0"
        self.builder.call(module.globals.get(name) or ir.Function(module, ir.FunctionType(VOID, []), name), [])

    def power(self, exponent: Value) -> Value:
        """2 to that."""
        return self.builder.shl(I64(1), exponent)


@uncollected()
def emit_module(plan: Plan, features: frozenset[str]) -> str:
    """The LLVM IR of a plan for a GPU: kernels ``tile`` and ``finish``, and ``pack_row`` … where the tile does not pack itself."""
    module = ir.Module(name="pairfold")
    module.triple = "nvptx64-nvidia-cuda"
    layout = Layout(plan)
    threads = {"tile": plan.schedule.lanes, "finish": FINISH_THREADS}
    emit: dict[str, Callable[[Grid], None]] = {
        "tile": lambda grid: GridTile(grid, layout).emit(),
        "finish": lambda grid: emit_grid_finish(grid, layout),
    }
    if plan.schedule.packed:
        for buffer in plan.hoisted.buffers:
            if buffer.length:
                threads[f"pack_{buffer.name}"] = PACK_THREADS
                emit[f"pack_{buffer.name}"] = lambda grid, buffer=buffer: emit_grid_pack(grid, layout, buffer)  # type: ignore[misc]
    for name, body in emit.items():
        grid = Grid(module, name, plan.bits, features, word_count(layout))
        if plan.condition is None:
            body(grid)
        else:
            with grid.builder.if_then(holds(grid, layout, plan.condition)):
                body(grid)
        grid.finish()
    text = str(module)
    for name, count in threads.items():
        resident = plan.schedule.resident if name == "tile" else 1
        head, rest = text.split(f'@"{name}"(', 1)
        text = f'{head}@"{name}"(' + rest.replace("\n{", f' "nvvm.maxntid"="{count}" "nvvm.minctasm"="{resident}"\n{{', 1)
    return text


def holds(grid: Grid, layout: Layout, condition: Node) -> Value:
    """Whether a formula of parameters is not 0."""
    read = from_arrays(grid, layout, variables((condition,)), I64(0), Rows(I64(0)))
    evaluator = Evaluator(grid.m, [0], lambda node, index, rows: read(node, index), layout.plan.schedule.unroll)
    return grid.m.truth(evaluator.full(condition)[0])


def word_count(layout: Layout) -> int:
    """How many words a launch has."""
    return layout.words


def emit_grid_pack(grid: Grid, layout: Layout, buffer: Buffer) -> None:
    """One thread a task; of all rows and columns, whichever a pattern has."""
    b = grid.builder
    layout = Layout(replace(layout.plan, sparse=False))
    task = b.add(b.mul(grid.register("ctaid.x"), I64(PACK_THREADS)), grid.thread)
    emit_pack(grid, layout, buffer, task, 1)


class Partials:
    """The partials in global memory: for each thread block of `tile`, one for each split and group, of the block's rows."""

    def __init__(self, grid: Grid, layout: Layout, block: Value):
        self.grid, self.layout, self.block = grid, layout, block
        self.types = [I64 if f.kind == "index" else grid.m.of(f.kind) for f in layout.plan.fields]

    def of(self, split: Value, group: Value) -> Partial:
        grid, b, rows = self.grid, self.grid.builder, self.grid.word(ROWS)
        number = b.add(b.mul(b.add(b.mul(self.block, grid.word(SPLITS)), split), grid.word(GROUPS)), group)
        sizes = [f.dim * self.layout.element_bytes(k) for k, f in enumerate(self.layout.plan.fields)]
        base = grid.offset(grid.address(PARTIALS), b.mul(number, b.mul(rows, I64(sum(sizes)))))
        arrays = [grid.offset(base, b.mul(rows, I64(sum(sizes[:k])))) for k in range(len(sizes))]
        return Partial(b, arrays, self.types, rows)


def merge_neighbours(grid: Grid, levels: Value, group: Value, merge: Callable[[Value], None]) -> None:
    """A tree over groups: ``merge(g)`` takes the partial of group g in, for all threads of a group that does."""
    b = grid.builder

    def level(k: Value, _: Sequence[Value]) -> Sequence[Value]:
        grid.barrier()
        step = grid.power(k)
        mask = b.sub(b.add(step, step), I64(1))
        with b.if_then(b.icmp_unsigned("==", b.and_(group, mask), I64(0))):
            merge(b.add(group, step))
        return ()

    loop(b, I64(0), levels, 1, (), level)


class GridTile(Tile):
    """Emits the tile of a thread.

    `plan` and `layout` are those of one of the lanes that share a row, each with a slice of what is long; `whole` is the layout of all.
    """

    frame: Grid
    gathered: Gathered | None = None  # the columns, where a pattern says which

    def __init__(self, grid: Grid, layout: Layout):
        super().__init__(grid, Layout(layout.plan.of_a_lane))
        self.whole, self.slices, self.unit = layout, self.schedule.slices, unit_of(self.plan.bits)

    def emit(self) -> None:
        f, b, s = self.frame, self.b, self.schedule
        shift = f.word(SHIFT)
        lanes = f.power(shift)
        self.lane, self.group = b.and_(f.thread, b.sub(lanes, I64(1))), b.lshr(f.thread, shift)
        self.block, self.split, self.batch = f.register("ctaid.x"), f.register("ctaid.y"), f.register("ctaid.z")
        self.partials = Partials(f, self.whole, b.add(b.mul(self.batch, f.register("nctaid.x")), self.block))
        # Rows of the block are numbered across lanes first; rows beyond the last repeat it.
        self.abreast, self.row_lane = b.udiv(lanes, I64(self.slices)), b.udiv(self.lane, I64(self.slices))
        self.is_first = b.icmp_unsigned("==", b.urem(self.lane, I64(self.slices)), I64(0))
        self.within = [b.add(b.mul(I64(r), self.abreast), self.row_lane) for r in self.rows]
        chunk, trips = self._cut()
        self.first = b.mul(b.add(b.mul(self.split, f.word(GROUPS)), self.group), chunk)
        last = f.smaller(b.add(self.first, chunk), self.count)
        self._place()
        self._allocate()
        self.kept = self._keep_rows()

        def trip(k: Value, _: Sequence[Value]) -> Sequence[Value]:
            self.start = b.add(self.first, b.mul(k, f.word(TILE)))
            stop = f.smaller(b.add(self.start, f.word(TILE)), last)
            if not s.packed:
                f.barrier()
                self._share()
                f.barrier()
            self._columns(self.start, b.select(b.icmp_signed("<", stop, self.start), self.start, stop))
            return ()

        loop(b, I64(0), trips, 1, (), trip)
        self._end()

    def _cut(self) -> tuple[Value, Value]:
        """The columns of each group and their tiles; and which rows and how many columns the block has."""
        f, b = self.frame, self.b
        if not self.plan.sparse:
            self.first_row, self.last_row, self.count = b.mul(self.block, f.word(ROWS)), b.sub(f.word(M), I64(1)), f.word(N)
            return f.word(CHUNK), f.word(TRIPS)
        self.gathered = Gathered(f, self.whole, self.block)
        self.first_row, self.count = self.gathered.first_row, self.gathered.count
        self.last_row = b.sub(b.add(self.first_row, self.gathered.rows), I64(1))
        step = self.schedule.columns
        shared_out = f.ceil_div(self.count, b.mul(b.mul(f.word(SPLITS), f.word(GROUPS)), I64(step)))
        chunk = b.mul(shared_out, I64(step))
        return chunk, f.ceil_div(chunk, f.word(TILE))

    # ---- where rows, columns and parameters are
    def _number(self, within: Value) -> Value:
        """A row of the batch by its number in the block; rows beyond the last repeat it."""
        return self.frame.smaller(self.b.add(self.first_row, within), self.last_row)

    def _place(self) -> None:
        f, b, h, bytes = self.frame, self.b, self.plan.hoisted, self.layout.real_bytes
        s = self.schedule
        if s.packed:
            self.row_stride, self.column_length = s.block, h.col.length
            self.row_places = [self._packed_row(I64(r)) for r in self.rows]
            columns = b.mul(self.batch, f.word(N))
            self.col_base = f.element(f.address(COL), b.mul(columns, I64(h.col.length)), bytes)
            self.par_base = f.element(f.address(PAR), b.mul(self.batch, I64(self.whole.par_length)), bytes)
            return
        self.row_stride, self.column_length = s.rows, column_length(self.whole.plan)
        shared = ir.GlobalVariable(b.module, ir.ArrayType(self.m.scalar, 0), "columns", SHARED)
        shared.linkage, shared.align, shared.type = "external", 16, ir.PointerType(addrspace=SHARED)
        # A column between the groups' tiles keeps them out of one another's banks.
        self.shared = f.element(shared, b.mul(self.group, b.mul(b.add(f.word(TILE), I64(1)), I64(self.column_length))), bytes)
        self.par_base = self.local_par = f.allocate(self.m.scalar, max(1, h.par.length), 16)
        self.local_rows = f.allocate(self.m.scalar, max(1, h.row.length * s.rows), 16)

    def _packed_row(self, r: int | Value) -> Value:
        f, b, s = self.frame, self.b, self.schedule
        if s.packed and isinstance(r, int):
            return self.row_places[r]
        r = I64(r) if isinstance(r, int) else r
        if not s.packed:
            return f.element(self.local_rows, r, self.layout.real_bytes)
        within = b.add(b.mul(r, f.power(f.word(SHIFT))), self.lane)
        row = b.add(b.mul(self.batch, f.padded(f.word(M), s.block)), self._number(within))
        block, within = f.divide(row, s.block)
        place = b.add(b.mul(block, I64(self.plan.hoisted.row.length * s.block)), within)
        return f.element(f.address(ROW), place, self.layout.real_bytes)

    def _column(self, j: Value) -> Value:
        if self.schedule.packed:
            return super()._column(self.b.add(j, self.moved) if self.gathered else j)
        return self.frame.element(self.shared, self.b.mul(self.b.sub(j, self.start), I64(self.column_length)), self.layout.real_bytes)

    def _step(self, j: Value, carried: Sequence[Value], columns: int) -> Sequence[Value]:
        if not self.schedule.packed:
            return super()._step(j, carried, columns)
        # Parameters too many for registers are read anew for each step: before the loop, as compilers would have it, they would be spilled.
        # No column has so large a number, but nobody is told.
        b, kept = self.b, self.par_base
        self.par_base = self.frame.offset(kept, b.lshr(j, I64(62)))
        carried = super()._step(j, carried, columns)
        self.par_base = kept
        return carried

    def _columns(self, start: Value, stop: Value) -> None:
        if not (self.gathered and self.schedule.packed):
            super()._columns(start, stop)
            return
        # Columns stay where they are, so each range is walked for itself.
        f, b, gathered = self.frame, self.b, self.gathered
        reduce_range = super()._columns

        def one(k: Value, _: Sequence[Value]) -> Sequence[Value]:
            begin, end, self.moved = gathered.stretch(k)
            begin, end = f.larger(start, begin), f.smaller(stop, end)
            with b.if_then(b.icmp_signed("<", begin, end)):
                reduce_range(begin, end)
            return ()

        with b.if_then(b.icmp_signed("<", start, stop)):
            ends = b.add(gathered.range_of(b.sub(stop, I64(1))), I64(1))
            loop(b, gathered.range_of(start), ends, 1, (), one)

    # ---- packing in the tile
    def _preload(self) -> dict[tuple[Node, Index], Sequence[Value]]:
        """A thread has its rows for good: they are not read again for each tile of columns."""
        return self.kept

    def _keep_rows(self) -> dict[tuple[Node, Index], Sequence[Value]]:
        if self.schedule.packed:
            return super()._preload()
        f, b, h, bytes = self.frame, self.b, self.plan.hoisted, self.layout.real_bytes
        known: dict[tuple[Node, Index], Sequence[Value]] = {}

        def keep(buffer: Buffer, evaluators: Sequence[Evaluator], base: Value) -> None:
            for formula, slot in zip(buffer.formulas, buffer.slots, strict=True):
                for d in range(slot.dim):
                    known[slot, at(d)] = [e.full(formula, at(d))[0] for e in evaluators]
                    # In memory too, for who reads them by numbers known at run time alone; where nobody does, LLVM drops it.
                    for r, value in enumerate(known[slot, at(d)]):
                        b.store(value, f.element(base, I64((slot.attrs[1] + d) * len(evaluators) + r), bytes))

        def parameter(slot: Node, index: Index) -> Value:
            if index.base is None:
                return known[slot, FIRST if slot.dim == 1 else index][0]
            place = b.add(index.value(b), I64(slot.attrs[1]))
            return b.load(f.element(self.local_par, place, bytes), typ=self.m.scalar)

        self._parameter = parameter
        keep(h.par, [of_rows(f, self.layout, h.par.formulas, self.batch, Rows(I64(0)), parameter)], self.local_par)
        keep(
            h.row,
            [of_rows(f, self.layout, h.row.formulas, self.batch, Rows(self._number(w)), parameter) for w in self.within],
            self.local_rows,
        )
        return known

    def _share(self) -> None:
        """The group's threads pack its tile's columns into shared memory."""
        f, b, h, bytes = self.frame, self.b, self.plan.hoisted, self.layout.real_bytes
        last = b.sub(self.count, I64(1))

        def pack(turn: Value, _: Sequence[Value]) -> Sequence[Value]:
            c = b.add(b.mul(turn, self.abreast), self.row_lane)
            there = b.icmp_signed("<", c, f.word(TILE))

            def prepared() -> Evaluator:
                number = f.smaller(b.add(self.start, c), last)
                number = self.gathered.column(number) if self.gathered else number
                return of_rows(f, self.layout, h.col.formulas, self.batch, Rows(number), self._parameter)

            def store(evaluator: Evaluator, long: bool) -> None:
                base = f.element(self.shared, b.mul(c, I64(self.column_length)), bytes)
                for formula, slot in zip(h.col.formulas, h.col.slots, strict=True):
                    if (formula.dim != slot.dim) == long:
                        for d in range(formula.dim):
                            place = self._of_slice(at(d), formula.dim, slot.dim).value(b)
                            value = evaluator.full(formula, at(d))[0]
                            b.store(value, f.element(base, b.add(place, I64(slot.attrs[1])), bytes), align=bytes)

            if self.slices == 1:
                with b.if_then(there):
                    store(prepared(), long=False)
                return ()
            evaluator = prepared()  # by all lanes of a warp
            evaluator.meet(h.col.formulas)
            with b.if_then(there):
                store(evaluator.branch(), long=True)
                with self._one_lane_a_row():
                    store(evaluator.branch(), long=False)
            return ()

        turns = f.ceil_div(f.word(TILE), self.abreast)
        loop(b, I64(0), turns, 1, (), pack)

    def _of_slice(self, index: Index, dim: int, whole: int) -> Index:
        """Which component of a vector this lane has as a component of its slice, where it is in slices."""
        return index if dim == whole else of_slice(self.m, index, self.slices, self.unit, whole)

    def _one_lane_a_row(self) -> AbstractContextManager[Any]:
        """What follows is for the first of the lanes that share a row."""
        return self.b.if_then(self.is_first) if self.slices > 1 else nullcontext()

    def _together(self, condition: Node) -> Node:
        looks_at_slices = self.slices > 1 and any(n.op.structure == "reduce" for n in topological((condition,)))
        return apply("across", condition, attrs=(self.slices, "max")) if looks_at_slices else condition

    # ---- the end
    def _end(self) -> None:
        """Results where nobody else has a part in these rows, else a partial, merged with those of the other groups."""
        f, b = self.frame, self.b
        full = self.slices > 1 or self.plan.reduction.guarded  # of registers; elsewhere ptxas makes the loop over columns 4 % slower
        if full and not self.gathered:
            self.first_row = b.mul(self.block, f.anew(f.word(ROWS)))
        if needs_partials(self.whole.plan):
            self._merge_groups(self._keep())
            return
        whole = b.icmp_unsigned("==", b.mul(f.word(SPLITS), f.word(GROUPS)), I64(1))
        with b.if_else(whole) as (then, otherwise):
            with then:
                with self._one_lane_a_row():
                    for r in self.rows:
                        self._write_row(Finish(f, self.whole, self.total, r), self.within[r])
            with otherwise:
                self._merge_groups(self._keep())

    def _keep(self) -> Partial:
        """The partial of this split and group, in memory."""
        own, b = self.partials.of(self.split, self.group), self.b
        bodies = self.whole.plan.hoisted.body, self.plan.hoisted.body
        for k, field in enumerate(self.whole.plan.fields):
            start, kept = 0, 0
            for whole, dim in segments(*bodies, field.dim) if self.slices > 1 else [(field.dim, field.dim)]:

                def copy(d: Value, k: int = k, whole: int = whole, dim: int = dim, start: int = start, kept: int = kept) -> None:
                    component = b.add(self._of_slice(Index(d, 0, 0, dim), dim, whole).value(b), I64(start))
                    for r in self.rows:
                        value = self.total.load(k, b.add(d, I64(kept)), r)
                        own.store(k, component, self.within[r], self._absolute(value) if self.plan.fields[k].kind == "index" else value)

                with self._one_lane_a_row() if whole == dim else nullcontext():
                    for_dim(b, dim, copy)
                start, kept = start + whole, kept + dim
        if self.slices > 1:
            self.frame.barrier()  # the first of the lanes that share a row goes on, with what all of them have written
        return own

    def _merge_groups(self, own: Partial) -> None:
        f, b = self.frame, self.b

        def each_row(body: Callable[[Finish, Value], None]) -> None:
            def turn(r: Value, _: Sequence[Value]) -> Sequence[Value]:
                row = b.add(b.mul(r, self.abreast), self.row_lane)
                body(Finish(f, self.whole, own, row), row)
                return ()

            with self._one_lane_a_row():
                loop(b, I64(0), I64(len(self.rows)), 1, (), turn)

        def merge(group: Value) -> None:
            later = self.partials.of(self.split, group)
            each_row(lambda finish, row: finish.merge(later, row))

        merge_neighbours(f, b.sub(I64(self.schedule.lanes.bit_length() - 1), f.word(SHIFT)), self.group, merge)
        alone = b.icmp_unsigned("==", b.add(f.word(SPLITS), self.group), I64(1))
        with b.if_then(alone):
            each_row(self._write_row)

    def _write_row(self, finish: Finish, within: Value) -> None:
        """The results of a row by its number in the block, if there is one."""
        row = self.b.add(self.first_row, within)
        finish.write(self.batch, row, self.b.sub(self.last_row, self.b.sub(row, I64(1))))

    def _absolute(self, index: Value) -> Value:
        if not self.gathered:
            return super()._absolute(index)
        b = self.b
        index = b.sext(index, I64) if index.type != I64 else index
        return b.select(b.icmp_signed("<", index, I64(0)), index, self.gathered.column(b.add(index, self.first)))


def emit_grid_finish(f: Grid, layout: Layout) -> None:
    """A thread block merges the splits of some rows: each group a stretch of splits, then groups with their neighbours."""
    b = f.builder
    shift = f.word(SHIFT)
    lane, group = b.and_(f.thread, b.sub(f.power(shift), I64(1))), b.lshr(f.thread, shift)
    # Thread blocks along y take a tile's rows one after the other.
    row = b.add(b.shl(f.register("ctaid.y"), shift), lane)
    tile, batch = f.register("ctaid.x"), f.register("ctaid.z")
    partials = Partials(f, layout, b.add(b.mul(batch, f.register("nctaid.x")), tile))
    splits, stretch = f.word(SPLITS), f.word(TILE)
    first = b.mul(group, stretch)
    has_some = b.icmp_signed("<", first, splits)
    own = partials.of(f.smaller(first, b.sub(splits, I64(1))), I64(0))
    fields = layout.plan.fields
    dims = [field.dim for field in fields]
    in_registers = sum(dims) <= SHORT_PARTIAL and max(dims) <= IN_REGISTERS
    # In registers the next splits are on their way while one is merged.
    state, place = (Partial.on_stack(f, own.types, dims, 1), 0) if in_registers else (own, row)
    finish = Finish(f, layout, state, place)

    def keep() -> None:
        """Let other groups read it."""
        if in_registers:
            own.copy(row, state, place, fields)

    if in_registers:
        state.copy(place, own, row, fields)

    def take(split: Value, _: Sequence[Value]) -> Sequence[Value]:
        finish.merge(partials.of(split, I64(0)), row)
        return ()

    loop(b, b.add(first, I64(1)), f.smaller(b.add(first, stretch), splits), 1, (), take)
    with b.if_then(has_some):
        keep()

    def merge(other: Value) -> None:
        start = b.mul(other, stretch)
        with b.if_then(b.icmp_signed("<", start, splits)):
            finish.merge(partials.of(start, I64(0)), row)
            keep()

    merge_neighbours(f, b.sub(I64(FINISH_THREADS.bit_length() - 1), shift), group, merge)
    with b.if_then(b.icmp_unsigned("==", group, I64(0))):
        if not layout.plan.sparse:
            finish.write(batch, b.add(b.mul(tile, f.word(ROWS)), row))
            return
        first_row, there = Blocks(f, layout).rows(tile)
        finish.write(batch, b.add(first_row, row), b.sub(there, row))


def needs_partials(plan: Plan) -> bool:
    """Whether every row has a partial in memory, even if nothing is merged: what the matrix calls columns that a pattern gathers is worked
    out on the way there, and there the slices of a vector meet.
    """
    slices = plan.schedule.slices
    return any(plan.sparse and f.kind == "index" or slices > 1 and is_long(f, slices) for f in plan.fields)


def column_length(plan: Plan) -> int:
    """Numbers from column to column in shared memory."""
    return padded_length(plan.of_a_lane.hoisted.col.length, plan.bits // 8)


def padded_length(length: int, bytes: int) -> int:
    """A length of so many numbers, with room for loads of 16 bytes where there are as many, none astride."""
    widest = min(WIDEST // bytes, 1 << max(0, length - 1).bit_length())
    return -(-length // widest) * widest
