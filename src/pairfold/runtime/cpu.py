"""Kernels on the CPU: made once for a formula, then launched on addresses."""

from __future__ import annotations

import ctypes
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache, partial
from threading import Lock
from typing import NamedTuple

import numpy as np

from ..codegen.cpu import ALONE, SHARES, emit_modules
from ..codegen.layout import ALIGNMENT, INDEX_BYTES, OFFSETS, PARTIALS, PHASES, ROW, Layout, ceil_div
from ..codegen.storage import BYTES
from ..formula.graph import I, J, Node, fingerprint, variables
from ..plan.plan import Numbers, Plan, make_plan
from ..plan.schedule import MANY, Few, Machine
from ..reductions import Reduction
from . import cache, progress, threads
from .compile import Loaded, compile_objects, host
from .operand import Extent, Operand, address_of
from .pattern import Pattern

KERNELS_KEPT = 512
# Estimates for one thread, good to a factor of a few.
OPERATIONS_A_SECOND = 3e10
PACKED_A_SECOND = 3e8
# The columns are split where there are few rows: enough tasks to balance any number of threads, each long enough to be worth it.
TASKS_WANTED = 128
COLUMNS_A_SPLIT = 4096
SCRATCH_BYTES = 1 << 26  # of many batches, computed in turns
# Small batches are computed some at a time, each share of them by one thread: so much scratch memory stays in its cache.
SHARE_BYTES = 1 << 16
FEWEST_SHARES = 64
OFFSET_BYTES = 8
MOST_FEW = 4  # vectors of rows: no tile of many rows owns more
MOST_WHOLE = 8  # vectors of rows, besides one that is half empty, that are worth a kernel
LONG_RANGE = 32  # vectors of rows, from which on empty places in the last block of a range are not worth a kernel
PAIRS_WORTH_A_KERNEL = 1 << 18
LONGEST_SPLIT = 1 << 30  # within a split, columns are numbered by 32-bit integers


class Turn(NamedTuple):
    """Batches that are computed at once, or several such alike.

    Attributes
    ----------
    first : int
        The first batch.
    batches, repeats : int
        How many batches, and how many turns alike follow one another; more than one where each is one thread's.
    head : tuple of int
        The first words of the launch.
    tasks : tuple of int
        Of each phase.
    seconds : tuple of float
        Of each phase: see `expected_seconds`.
    """

    first: int
    batches: int
    repeats: int
    head: tuple[int, ...]
    tasks: tuple[int, ...]
    seconds: tuple[float, ...]


class Launch(NamedTuple):
    """How a call is cut up.

    Attributes
    ----------
    splits : int
        In how many parts the columns of each block of rows are taken.
    scratch : tuple of int
        Bytes of scratch memory of a turn, aligned: rows, columns and parameters as packed, partials.
    outputs : tuple of int
        Bytes of a batch of each result.
    shared : bool
        Whether each turn is one thread's.
    turns : tuple of Turn
    """

    splits: int
    scratch: tuple[int, ...]
    outputs: tuple[int, ...]
    shared: bool
    turns: tuple[Turn, ...]


class Run(NamedTuple):
    """A call that was measured: its sizes, how many pairs took part, and its seconds."""

    extent: Extent
    pairs: int
    seconds: float


def machine() -> Machine:
    """The CPU, as the planner sees it."""
    here = host()
    # Measured of sums of Gaussians: turns gain a tenth on a Zen 4; on a Xeon they lose a tenth, and a quarter beside busy neighbours.
    return Machine("cpu", here.vector_bits, here.registers, turns=here.cpu == "znver4")


class Kernel:
    """A compiled plan."""

    def __init__(self, plan: Plan):
        self.plan, self.layout = plan, Layout(plan)
        here = host()
        name = cache.key(
            here.key,
            repr(plan.numbers),
            str((plan.sparse, plan.contracted)),
            repr(plan.schedule),
            repr(plan.reduction),
            plan.reduction.name,
            fingerprint(plan.formulas),
        )
        code = cache.load(name)
        if code is None:
            code = compile_objects(emit(plan))
            cache.store(name, code)
        self._loaded = Loaded(code)
        self.functions = self._loaded.functions([*PHASES, ALONE, SHARES])
        self.last: Run | None = None  # the newest call
        self._launch_of = lru_cache(maxsize=16)(partial(launch_of, self.layout))

    def __call__(self, operands: Sequence[Operand], outputs: Sequence[int], extent: Extent, pattern: Pattern | None = None) -> None:
        """Compute.

        Parameters
        ----------
        operands : sequence of Operand
            One for each variable of the plan.
        outputs : sequence of int
            The address of each result, C-contiguous (batches, rows, dim).
        extent : Extent
            At least one batch, row and column.
        pattern : Pattern, optional
            For a sparse plan.
        """
        begun = time.perf_counter()
        table = None if pattern is None else pattern.blocks(self.plan.schedule.block)
        launch = self._launch_of(extent, *(() if table is None or pattern is None else (len(table), pattern.pairs)))
        workers = threads.get_num_threads() if launch.shared else 1
        # One allocation holds the packed buffers and the partials; it lives for this call alone, and for as many batches as fit.
        a_worker = sum(launch.scratch)
        scratch = np.empty(workers * a_worker + ALIGNMENT, dtype=np.uint8)
        address = ceil_div(address_of(scratch), ALIGNMENT) * ALIGNMENT
        places = []
        for size in launch.scratch:
            places.append(address)
            address += size
        pairs = extent.pairs if pattern is None else extent.batches * pattern.pairs
        for first, batches, repeats, head, tasks, seconds in launch.turns:
            values = [*head, *places, *tasks]
            for address, row_stride, stride, offsets, _ in operands:
                values += address, row_stride, stride, address_of(offsets) + OFFSET_BYTES * first
            values += [output + first * size for output, size in zip(outputs, launch.outputs, strict=True)]
            if pattern is not None and table is not None:
                values += len(table), address_of(table), address_of(pattern.columns)
            some = pairs * repeats * batches // extent.batches
            if repeats == 1:
                self._launch(values, tasks, seconds, some)
            else:
                a_share, a_thread = [0] * len(values), [0] * len(values)
                for k in range(len(operands)):
                    a_share[self.layout.variable(k) + OFFSETS] = OFFSET_BYTES * batches
                for k, size in enumerate(launch.outputs):
                    a_share[self.layout.output(k)] = batches * size
                a_thread[ROW : PARTIALS + 1] = [a_worker] * len(launch.scratch)
                self._share([*values, *a_share, *a_thread], repeats, sum(seconds), some, workers)
        # Kernels know it by address alone: it is named here, so that nobody who rewrites this frame (torch.compile does) frees it any
        # earlier.
        del scratch, table, pattern
        self.last = Run(extent, pairs, time.perf_counter() - begun)

    def _launch(self, values: Sequence[int], tasks: Sequence[int], seconds: Sequence[float], pairs: int) -> None:
        """Run the phases on argument words."""
        words = (ctypes.c_int64 * len(values))(*values)
        start = ctypes.addressof(words)
        if sum(seconds) < threads.ALONE_SECONDS:
            control = threads.Control()
            self.functions[ALONE](start, ctypes.addressof(control), 0)
            del control, words  # as above
            return
        for phase, count, expected in zip(PHASES, tasks, seconds, strict=True):
            if count and phase in self.functions:
                with progress.bar(phase == "tile", pairs, count, expected) as report:
                    threads.run(self.functions[phase], start, count, expected, report)
        del words

    def _share(self, values: Sequence[int], shares: int, seconds: float, pairs: int, workers: int) -> None:
        """Run all phases for each share of the batches, on argument words and what to add to them for each share and each thread."""
        words = (ctypes.c_int64 * len(values))(*values)
        with progress.bar(True, pairs, shares, seconds) as report:
            threads.run(self.functions[SHARES], ctypes.addressof(words), shares, seconds, report, workers)
        del words


def emit(plan: Plan) -> list[str]:
    """A plan's modules of LLVM IR for this computer."""
    here = host()
    return emit_modules(plan, here.triple, here.features, here.vector_bits)


def launch_of(layout: Layout, extent: Extent, blocks: int | None = None, pairs: int | None = None) -> Launch:
    """How a call of these sizes is cut up; with so many blocks and pairs a batch, if they are a pattern's."""
    (batches, rows, columns), plan = (extent.batches, *extent[1:]), layout.plan

    def blocks_of(count: int) -> int:
        return layout.blocks(count, rows) if blocks is None else count * blocks

    splits, chunk = split_columns(blocks_of(batches), columns, plan.schedule.tile)
    a_batch = max(1, sum(layout.bytes(1, blocks_of(1), columns, splits)))
    a_turn = min(SHARE_BYTES // a_batch, batches // FEWEST_SHARES)
    shared = a_turn > 0
    if not shared:
        a_turn = min(batches, max(1, SCRATCH_BYTES // a_batch))
    whole, rest = divmod(batches, a_turn)
    cut = [(0, a_turn, whole)] if shared else [(k * a_turn, a_turn, 1) for k in range(whole)]
    if rest:
        cut.append((batches - rest, rest, 1))
    return Launch(
        splits,
        tuple(ceil_div(size, ALIGNMENT) * ALIGNMENT for size in layout.bytes(a_turn, blocks_of(a_turn), columns, splits)),
        tuple(rows * r.dim * (INDEX_BYTES if r.kind == "index" else BYTES[plan.numbers.result]) for r in plan.results),
        shared,
        tuple(
            Turn(
                first,
                count,
                repeats,
                (count, rows, columns, splits, chunk),
                layout.tasks(count, blocks_of(count), columns, splits),
                expected_seconds(layout, repeats * count, rows, columns, pairs),
            )
            for first, count, repeats in cut
        ),
    )


def expected_seconds(layout: Layout, batches: int, rows: int, columns: int, pairs: int | None = None) -> tuple[float, ...]:
    """How long each phase would take one thread, good to a factor of a few; with so many pairs a batch, if they are a pattern's."""
    plan, packed = layout.plan, layout.plan.hoisted
    all_pairs = layout.blocks(batches, rows) * plan.schedule.filled * columns if pairs is None else batches * pairs
    return (
        batches * packed.par.length / PACKED_A_SECOND,
        batches * rows * packed.row.length / PACKED_A_SECOND,
        batches * columns * packed.col.length * layout.packs(packed.col) / PACKED_A_SECOND,
        all_pairs * plan.operations / OPERATIONS_A_SECOND,
        batches * rows * sum(f.dim for f in plan.fields) / PACKED_A_SECOND,
    )


def split_columns(blocks: int, columns: int, tile: int) -> tuple[int, int]:
    """In how many parts the columns of each block are taken, and how long a part is: by the sizes alone, never by the threads."""
    wanted = min(ceil_div(TASKS_WANTED, blocks), ceil_div(columns, COLUMNS_A_SPLIT))
    wanted = max(wanted, ceil_div(columns, LONGEST_SPLIT))
    chunk = ceil_div(ceil_div(columns, wanted), tile) * tile
    return ceil_div(columns, chunk), chunk


_kernels: OrderedDict[tuple[object, ...], Kernel] = OrderedDict()
_lock = Lock()


def few_rows(formulas: Sequence[Node], operands: Sequence[Operand], extent: Extent, bits: int, pattern: Pattern | None = None) -> Few:
    """What to plan by where rows are so few, and the work so long, that they are worth a kernel of their own.

    Rows that leave a vector half empty are rounded up to a power of two, so that few kernels serve all. Where the ranges of a pattern
    are short, it is one vector: that leaves the fewest places empty. Where they are longer, `MOST_FEW`: a tile of so many can do with one
    at a time.
    """
    lanes = host().vector_bits // bits
    if pattern is not None:
        vectors = ceil_div(pattern.typical_rows, lanes)
        worth = vectors < LONG_RANGE and extent.batches * pattern.pairs >= PAIRS_WORTH_A_KERNEL
        return Few(lanes * (1 if vectors < MOST_FEW else MOST_FEW)) if worth else MANY
    whole, tail = divmod(extent.kept, lanes)
    vectors = whole + (tail > 0)
    if extent.pairs < PAIRS_WORTH_A_KERNEL or whole > MOST_WHOLE:
        return MANY
    half_empty = 0 < tail <= lanes // 2
    if not half_empty and vectors >= MOST_FEW:
        return MANY

    def of_axes(axes: int) -> list[tuple[Operand, int]]:
        return [(operands[v.attrs[1]], v.dim) for v in variables(formulas) if v.axes == axes]

    bytes = bits // 8
    in_place = all(o.type == f"float{bits}" and o.row_stride == d * bytes and (d == 1 or o.stride == bytes) for o, d in of_axes(J))
    joined = half_empty and 2 * tail < lanes and whole > 0 and extent.batches > 1  # else joining costs more than empty places
    if joined:
        numbers = np.arange(extent.batches) * extent.kept
        joined = all(np.array_equal(o.offsets, o.row_stride * numbers) for o, _ in of_axes(I))
    rows = whole * lanes + (1 << (tail - 1).bit_length()) if half_empty else vectors * lanes
    return Few(rows, joined, in_place)


def known(
    formulas: tuple[Node, ...],
    reduction: Reduction,
    numbers: Numbers,
    sparse: bool = False,
    contracted: bool = False,
    few: Few = MANY,
) -> Kernel | None:
    """The kernel, if this process has used it."""
    return _kernels.get((formulas, reduction, numbers, sparse, contracted, few))


def kernel(
    formulas: tuple[Node, ...],
    reduction: Reduction,
    numbers: Numbers,
    sparse: bool = False,
    contracted: bool = False,
    few: Few = MANY,
) -> Kernel:
    """The kernel that reduces formulas over their columns; compiled on first use. See `make_plan`."""
    key = (formulas, reduction, numbers, sparse, contracted, few)
    with _lock:
        found = _kernels.get(key)
        if found is not None:
            _kernels.move_to_end(key)
            return found
    made = Kernel(make_plan(formulas, reduction, numbers, machine(), sparse, contracted=contracted, few=few))
    with _lock:
        _kernels[key] = made
        while len(_kernels) > KERNELS_KEPT:
            _kernels.popitem(last=False)
    return made
