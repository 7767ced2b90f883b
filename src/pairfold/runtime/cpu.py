"""Kernels on the CPU: made once for a formula, then launched on addresses."""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np

from ..codegen.cpu import ALONE, emit_module
from ..codegen.layout import ALIGNMENT, FINISH_BLOCKS, FIRST_TASKS, PACK_VECTORS, PHASES, Layout, ceil_div
from ..formula.graph import Node, fingerprint
from ..plan.plan import Plan, make_plan
from ..plan.schedule import Machine
from ..reductions import Reduction
from . import cache, progress, threads
from .compile import Loaded, compile_object, host

KERNELS_KEPT = 512
# Estimates for one thread, good to a factor of a few.
OPERATIONS_A_SECOND = 3e10
PACKED_A_SECOND = 3e8
# The columns are split where there are few rows: enough tasks to balance any number of threads, each long enough to be worth it.
TASKS_WANTED = 128
COLUMNS_A_SPLIT = 4096
LONGEST_SPLIT = 1 << 30  # within a split, columns are numbered by 32-bit integers


class Operand(NamedTuple):
    """An array as a kernel sees it; strides in bytes."""

    address: int
    row_stride: int
    stride: int


def machine() -> Machine:
    """The CPU, as the planner sees it."""
    here = host()
    return Machine("cpu", here.vector_bits, here.registers)


class Kernel:
    """A compiled plan."""

    def __init__(self, plan: Plan):
        self.plan, self.layout = plan, Layout(plan)
        here = host()
        name = cache.key(
            here.key, str(plan.bits), repr(plan.schedule), repr(plan.reduction), plan.reduction.name, fingerprint(plan.formulas)
        )
        code = cache.load(name)
        if code is None:
            code = compile_object(self.ir())
            cache.store(name, code)
        self._loaded = Loaded(code)
        self.functions = self._loaded.functions([*PHASES, ALONE])

    def ir(self) -> str:
        """The kernel's LLVM IR."""
        here = host()
        return emit_module(self.plan, here.triple, here.features, here.vector_bits)

    def __call__(self, operands: Sequence[Operand], outputs: Sequence[int], rows: int, columns: int) -> None:
        """Compute.

        Parameters
        ----------
        operands : sequence of Operand
            One for each variable of the plan.
        outputs : sequence of int
            The address of each result, C-contiguous (rows, dim).
        rows, columns : int
            At least 1 each.
        """
        plan, layout, schedule = self.plan, self.layout, self.plan.schedule
        blocks = ceil_div(rows, schedule.block)
        splits, chunk = split_columns(blocks, columns, schedule.tile)
        # One allocation holds the packed buffers and the partials; they live for this call alone.
        sizes = [layout.row_bytes(blocks), layout.col_bytes(columns), layout.par_bytes(), blocks * splits * layout.partial_bytes()]
        scratch = np.empty(sum(sizes) + ALIGNMENT * (len(sizes) + 1), dtype=np.uint8)
        address = address_of(scratch)
        places = []
        for size in sizes:
            address = ceil_div(address, ALIGNMENT) * ALIGNMENT
            places.append(address)
            address += size
        values = [rows, columns, splits, chunk, *places]
        assert len(values) == FIRST_TASKS
        a_task = PACK_VECTORS * schedule.lanes
        tasks = (1, ceil_div(rows, a_task), ceil_div(columns, a_task), blocks * splits, ceil_div(blocks, FINISH_BLOCKS))
        values += tasks
        for operand in operands:
            values += operand
        values += outputs
        words = (ctypes.c_int64 * len(values))(*values)
        start = ctypes.addressof(words)

        packed = plan.hoisted
        seconds = (
            0.0,
            rows * packed.row.length / PACKED_A_SECOND,
            columns * packed.col.length / PACKED_A_SECOND,
            blocks * schedule.block * columns * plan.operations / OPERATIONS_A_SECOND,
            rows * sum(f.dim for f in plan.fields) / PACKED_A_SECOND,
        )
        if sum(seconds) < threads.ALONE_SECONDS:
            control = threads.Control()
            self.functions[ALONE](start, ctypes.addressof(control), 0)
            del control, words, scratch  # addresses do not keep them; see below
            return
        for phase, count, expected in zip(PHASES, tasks, seconds, strict=True):
            if phase in self.functions:
                with progress.bar(phase == "tile", rows * columns, count, expected) as report:
                    threads.run(self.functions[phase], start, count, expected, report)
        # Kernels know these by address alone: they are named here, so that nobody who rewrites this frame (torch.compile does)
        # frees them any earlier.
        del words, scratch


def address_of(array: np.ndarray) -> int:
    """Where an array begins."""
    return int(array.__array_interface__["data"][0])


def operand_of(array: np.ndarray) -> Operand:
    """A (rows, dim) or (dim,) NumPy array as a kernel sees it."""
    strides = array.strides
    return Operand(address_of(array), strides[0] if len(strides) == 2 else 0, strides[-1])


def split_columns(blocks: int, columns: int, tile: int) -> tuple[int, int]:
    """In how many parts the columns of each block are taken, and how long a part is: by the sizes alone, never by the threads."""
    wanted = min(ceil_div(TASKS_WANTED, blocks), ceil_div(columns, COLUMNS_A_SPLIT))
    wanted = max(wanted, ceil_div(columns, LONGEST_SPLIT))
    chunk = ceil_div(ceil_div(columns, wanted), tile) * tile
    return ceil_div(columns, chunk), chunk


_kernels: OrderedDict[tuple[object, ...], Kernel] = OrderedDict()
_lock = Lock()


def kernel(formulas: tuple[Node, ...], reduction: Reduction, bits: int) -> Kernel:
    """The kernel that reduces formulas over their columns; compiled on first use."""
    key = (formulas, reduction, bits)
    with _lock:
        found = _kernels.get(key)
        if found is not None:
            _kernels.move_to_end(key)
            return found
    made = Kernel(make_plan(formulas, reduction, bits, machine()))
    with _lock:
        _kernels[key] = made
        while len(_kernels) > KERNELS_KEPT:
            _kernels.popitem(last=False)
    return made
