"""Kernels on NVIDIA GPUs: compiled to PTX once for a formula, loaded by the driver, launched on a stream.

Nothing here waits for the GPU, and nothing is imported or loaded before a GPU is asked for.
"""

from __future__ import annotations

import ctypes
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from ..codegen.cuda import FINISH_THREADS, LOG2_LEAST_LANES, LOG2_WARP, PACK_THREADS, column_length, emit_module, needs_partials
from ..codegen.layout import ALIGNMENT, FIRST_TASKS, FIRST_VARIABLE, ROW, WORDS_A_VARIABLE, Layout, ceil_div
from ..codegen.mathlib_cuda import APPROXIMATE
from ..formula.graph import Node, fingerprint
from ..plan.plan import Numbers, Plan, make_plan
from ..plan.schedule import MOST_SHARED_BYTES, Machine, Schedule
from ..reductions import Reduction
from . import accurate, cache
from .compile import CAPABILITIES, compile_ptx, llvm_version
from .operand import AT_THE_START, Extent, Operand
from .pattern import Pattern

KERNELS_KEPT = 512
LAUNCHES_KEPT = 64
TABLES_KEPT = 256
PACKING = 12  # what packing a column costs, in pairs
BUSY = 256  # threads that keep a multiprocessor busy, if they have work of their own
LEAST_COLUMNS = 64  # that a group of threads is worth waking for
LONGEST_SPLIT = 1 << 30  # within a split, columns are numbered by 32-bit integers
LARGEST_GRID = 65535  # along y and z
PARTIAL_BYTES = 1 << 28  # that splits may add up to where blocks are uneven
SCRATCH = slice(ROW, FIRST_TASKS)  # of a launch's words, those of scratch memory
# CUDA's release for each version of PTX that LLVM writes for a capability.
RELEASES = {(6, 3): "10.0", (7, 0): "11.0", (7, 1): "11.1", (7, 4): "11.4", (7, 8): "11.8", (8, 6): "12.7", (8, 7): "12.8", (8, 8): "12.9"}


class Queue(NamedTuple):
    """Where an array framework wants its work done, and where scratch memory comes from.

    Attributes
    ----------
    device : int
        The device's number.
    stream : int
        The stream's handle.
    allocate : callable
        ``allocate(bytes)``: device memory, as an object that keeps it until work queued on the stream is done with it, and its address.
    upload : callable
        ``upload(array)``: the same for a copy of a NumPy array.
    record : callable
        ``record(keep)``: what `upload` gave on another stream is used on this one.
    """

    device: int
    stream: int
    allocate: Callable[[int], tuple[Any, int]]
    upload: Callable[[np.ndarray], tuple[Any, int]]
    record: Callable[[Any], None]


class CudaError(RuntimeError):
    """What the driver refused, in its own words and ours."""


@lru_cache(maxsize=1)
def _driver() -> Any:
    """The driver's functions.

    Raises
    ------
    CudaError
        Where there is no driver, or Python has no bindings to it.
    """
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise CudaError(f"formulas on a GPU need the package cuda-bindings ({error}): pip install 'pairfold[cuda]'") from None
    try:
        (status,) = driver.cuInit(0)
    except RuntimeError as error:  # the bindings find the driver's library at the first call
        raise CudaError(
            f"there is no NVIDIA driver here ({error}): compute on the CPU, where NumPy arrays are by pairfold.backend('cpu') and tensors "
            "by x.cpu(), or install NVIDIA's driver"
        ) from None
    if status:
        raise CudaError(f"the NVIDIA driver does not start: {status.name}")
    return driver


def _check(result: tuple[Any, ...], doing: str) -> Any:
    """What a function of the driver gave."""
    status, *values = result
    if status:
        raise CudaError(f"{doing}: {status.name}")
    return values[0] if values else None


@lru_cache(maxsize=1)
def _direct(d: Any) -> tuple[Any, Any]:
    """A driver's cuCtxGetCurrent and cuLaunchKernelEx by their addresses: what each call asks for, in less time than by the bindings."""
    found = []
    for name, parameters in ((b"cuCtxGetCurrent", 1), (b"cuLaunchKernelEx", 4)):
        address = _check(d.cuGetProcAddress(name, 12000, 0)[:2], f"the driver does not know {name.decode()}")
        found.append(ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * parameters)(int(address)))
    return found[0], found[1]


def count() -> int:
    """How many GPUs there are; 0 where nothing can tell."""
    try:
        driver = _driver()
        return int(_check(driver.cuDeviceGetCount(), "the driver does not count its GPUs"))
    except CudaError:
        return 0


class Device(NamedTuple):
    """A GPU, as far as kernels depend on it."""

    number: int
    capability: int
    multiprocessors: int
    context: Any


@lru_cache(maxsize=64)
def device(number: int) -> Device:
    """Find out what a GPU is.

    Raises
    ------
    CudaError
        Where there is none of that number, or its compute capability is less than 7.5.
    """
    d = _driver()
    there = count()
    if not 0 <= number < there:
        raise CudaError(
            f"there is no GPU of number {number}: {'there is one, cuda:0' if there == 1 else f'there are {there}, from cuda:0 on'}"
        )
    handle = _check(d.cuDeviceGet(number), f"no GPU of number {number}")
    attribute = d.CUdevice_attribute
    major, minor, multiprocessors = (
        _check(d.cuDeviceGetAttribute(which, handle), "the driver does not describe the GPU")
        for which in (
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
        )
    )
    known = [c for c in CAPABILITIES if c <= 10 * major + minor]
    if not known:
        raise CudaError(f"GPU {number} has compute capability {major}.{minor}; formulas need 7.5 or later: move the arrays to the CPU")
    return Device(number, known[-1], multiprocessors, _check(d.cuDevicePrimaryCtxRetain(handle), f"GPU {number} gives no context"))


class Current:
    """Makes a device's context the thread's own, where it is not."""

    def __init__(self, chosen: Device):
        self.context = chosen.context

    def __enter__(self) -> None:
        d = _driver()
        current = int(d.cuCtxGetCurrent()[1])
        self.pushed = current not in (0, int(self.context))
        if not current:  # as in a thread of autograd's: it keeps this one
            _check(d.cuCtxSetCurrent(self.context), "the GPU's context cannot be used")
        elif self.pushed:
            _check(d.cuCtxPushCurrent(self.context), "the GPU's context cannot be used")

    def __exit__(self, *_: object) -> None:
        if self.pushed:
            _driver().cuCtxPopCurrent()


class Phase(NamedTuple):
    """A launch of one of a kernel's functions: its grid, threads and shared memory, and its words but for addresses."""

    name: str
    function: Any
    grid: tuple[int, int, int]
    threads: int
    shared: int
    words: tuple[int, ...]


class Call:
    """A kernel on arrays of given sizes, strides and types: all of its launches but for where the arrays lie.

    Attributes
    ----------
    phases : sequence of Phase
    scratch : sequence of int
        The bytes of packed rows, columns and parameters, and of partials.
    """

    def __init__(self, here: Device, phases: Sequence[Phase], scratch: Sequence[int], tables: Any):
        self.here, self.phases, self.scratch, self.tables = here, phases, scratch, tables
        self._context = int(here.context)
        self._bytes, self._starts = _placed(scratch)
        self._idle: list[_Words] = []

    def __call__(self, addresses: Sequence[int], results: Callable[[], Sequence[int]], queue: Queue) -> None:
        """Queue the computation for operands at these addresses.

        Where the results are to lie is asked when all but the last launch are on their way: that one alone writes them, and to allocate
        them takes its time.
        """
        context_of, launch = _direct(_driver())
        # The driver copies the words as it takes a launch, so that the next call may have them; no other thread has them meanwhile.
        words = self._idle.pop() if self._idle else _Words(self.phases, [word for word, _ in self._starts], len(addresses))
        context_of(words.place_of_context)
        if words.context.value != self._context:
            with Current(self.here):
                self(addresses, results, queue)
            return
        keep, base = queue.allocate(self._bytes) if self._bytes else (None, 0)
        words.fill(queue.stream, [*[base + start for _, start in self._starts], *addresses])
        last = len(self.phases) - 1
        for k, (shape, function, parameters) in enumerate(words.launches):
            if k == last:
                words.fill_results(results())
            status = launch(shape, function, parameters, None)
            if status:
                name = self.phases[k].name
                raise CudaError(f"the kernel {name} does not start on GPU {queue.device}: {_driver().CUresult(status).name}")
        self._idle.append(words)
        del keep


class _Shape(ctypes.Structure):
    """The driver's CUlaunchConfig."""

    _fields_ = [  # noqa: RUF012  # ctypes's
        ("grid", 3 * ctypes.c_uint),
        ("threads", 3 * ctypes.c_uint),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("attribute_count", ctypes.c_uint),
    ]


class _Words:
    """All that a call's launches say to the driver, in memory.

    Attributes
    ----------
    launches : sequence of tuple of int
        For each launch where its shape is, its function, and where the address of its words is.
    context : ctypes.c_void_p
        Room for the driver to say which context is the thread's own.
    """

    def __init__(self, phases: Sequence[Phase], scratch: Sequence[int], operands: int):
        # The words of one launch after the other, then where each begins.
        self._memory = array("q", [*(word for p in phases for word in p.words), *[0] * len(phases)])
        length, end = len(phases[0].words), len(self._memory) - len(phases)
        begins, address = range(0, end, length), self._memory.buffer_info()[0]
        for k, begin in enumerate(begins, end):
            self._memory[k] = address + 8 * begin
        self._shapes = [_Shape(p.grid, (p.threads, 1, 1), p.shared) for p in phases]
        starts = range(address + 8 * end, address + 8 * len(self._memory), 8)
        self.launches = [(ctypes.addressof(s), int(p.function), at) for s, p, at in zip(self._shapes, phases, starts, strict=True)]
        first_result = FIRST_VARIABLE + WORDS_A_VARIABLE * operands
        places = [*scratch, *range(FIRST_VARIABLE, first_result, WORDS_A_VARIABLE)]
        self._places = [[begin + place for begin in begins] for place in places]
        self._first_result = begins[-1] + first_result
        self.context = ctypes.c_void_p()
        self.place_of_context = ctypes.byref(self.context)

    def fill(self, stream: int, addresses: Sequence[int]) -> None:
        """Say on which stream, and put addresses into their places, in all launches."""
        for shape in self._shapes:
            shape.stream = stream
        memory = self._memory
        for places, address in zip(self._places, addresses):
            for place in places:
                memory[place] = address

    def fill_results(self, addresses: Sequence[int]) -> None:
        """Put those of the results into theirs, in the last launch."""
        for place, address in enumerate(addresses, self._first_result):
            self._memory[place] = address


class Launch(NamedTuple):
    """How a kernel runs on arrays of given sizes: the words that follow from those, and each phase's grid and shared memory."""

    words: tuple[int, ...]
    finish_words: tuple[int, ...]
    scratch: tuple[int, ...]  # bytes of packed rows, columns and parameters, and of partials
    packs: tuple[tuple[str, int], ...]
    tile: tuple[int, int, int]
    shared: int
    finish: tuple[int, int, int] | None


class Kernel:
    """A compiled plan, for all devices of a capability."""

    def __init__(self, plan: Plan, capability: int, features: frozenset[str]):
        self.plan, self.layout = plan, Layout(plan)
        name = cache.key(
            f"cuda sm_{capability} {' '.join(sorted(features))} {llvm_version()}",
            repr(plan.numbers),
            repr(plan.schedule),
            str((plan.sparse, plan.length)),
            repr(plan.reduction),
            plan.reduction.name,
            fingerprint((*plan.formulas, *plan.hoisted.body, *([plan.condition] if plan.condition else []))),
        )
        code = cache.load(name)
        if code is None:
            code = [compile_ptx(emit_module(plan, features), capability).encode()]
            cache.store(name, code)
        (ptx,) = code
        d = _driver()
        status, self._library = d.cuLibraryLoadData(ptx + b"\0", None, None, 0, None, None, 0)
        if status == d.CUresult.CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
            version = ptx.split(b".version", 1)[1].split(None, 1)[0].decode()
            needed = RELEASES.get((int(version.split(".")[0]), int(version.split(".")[1])), "a later release")
            there = _check(d.cuDriverGetVersion(), "the driver does not tell its version")
            raise CudaError(
                f"the NVIDIA driver is made for CUDA {there // 1000}.{there % 1000 // 10}, but PTX {version} for this GPU needs "
                f"CUDA {needed}: update the driver"
            )
        _check((status,), "the driver does not take the kernel")
        names = ["tile", "finish"]
        if plan.schedule.packed:
            names += [f"pack_{buffer.name}" for buffer in plan.hoisted.buffers if buffer.length]
        self._functions = {
            phase: d.CUfunction(int(_check(d.cuLibraryGetKernel(self._library, phase.encode()), f"the kernel has no phase {phase}")))
            for phase in names
        }
        self._launches: OrderedDict[tuple[int, ...], Launch] = OrderedDict()
        self._resident: dict[int, int] = {}

    def __call__(
        self, operands: Sequence[Operand], outputs: Sequence[int], extent: Extent, queue: Queue, pattern: Pattern | None = None
    ) -> None:
        """Queue the computation; see `runtime.cpu.Kernel`. Addresses are those of the device."""
        a_batch = [extent.kept * r.dim * bytes for r, bytes in zip(self.plan.results, self._result_bytes, strict=True)]
        for first in range(0, extent.batches, LARGEST_GRID):
            call = self.call(operands, extent, queue, pattern, first)
            results = [output + first * size for output, size in zip(outputs, a_batch, strict=True)]
            call([o.address for o in operands], results.copy, queue)

    def call(self, operands: Sequence[Operand], extent: Extent, queue: Queue, pattern: Pattern | None = None, first: int = 0) -> Call:
        """The computation of batches from the first on, at most `LARGEST_GRID` of them, for operands such as these."""
        here = device(queue.device)
        with Current(here):
            tables = [_table(o.offsets, queue) for o in operands]
            launch = self._launch(here, min(LARGEST_GRID, extent.batches - first), extent.kept, extent.reduced, pattern)
            sparse = [] if pattern is None else blocks_of(pattern, launch.words[-2], queue)
        tail = [w for o, (_, table) in zip(operands, tables, strict=True) for w in (0, o.row_stride, o.stride, table + 8 * first)]
        tail += [*[0] * len(self.plan.results), *sparse]
        head, places = launch.words, [0] * len(launch.scratch)
        words = (*head[: SCRATCH.start], *places, *head[SCRATCH.start :], *tail)
        phases = [Phase(name, self._functions[name], (blocks, 1, 1), PACK_THREADS, 0, words) for name, blocks in launch.packs]
        phases.append(Phase("tile", self._functions["tile"], launch.tile, self.plan.schedule.lanes, launch.shared, words))
        if launch.finish:
            words = (*words[: FIRST_VARIABLE - len(launch.finish_words)], *launch.finish_words, *tail)
            phases.append(Phase("finish", self._functions["finish"], launch.finish, FINISH_THREADS, 0, words))
        return Call(here, phases, launch.scratch, tables)

    @cached_property
    def _result_bytes(self) -> list[int]:
        width = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}[self.plan.numbers.result]
        return [8 if r.kind == "index" else width for r in self.plan.results]

    # ---- sizes
    def _launch(self, here: Device, batches: int, rows: int, columns: int, pattern: Pattern | None) -> Launch:
        if pattern is not None:
            known = _patterns.setdefault(pattern, {})
            if (self, here.number, batches) not in known:
                known[self, here.number, batches] = self._size(here, batches, rows, columns, pattern)
            return known[self, here.number, batches]
        key = (here.number, batches, rows, columns)
        found = self._launches.get(key)
        if found is None:
            found = self._launches[key] = self._size(here, batches, rows, columns)
            if len(self._launches) > LAUNCHES_KEPT:
                self._launches.popitem(last=False)
        return found

    def _size(self, here: Device, batches: int, rows: int, columns: int, pattern: Pattern | None = None) -> Launch:
        plan, layout, s = self.plan, self.layout, self.plan.schedule
        column_bytes = 0 if s.packed else column_length(plan) * layout.real_bytes
        most_groups = min(s.tile // s.columns, MOST_SHARED_BYTES // (column_bytes or 1) - s.tile)  # a column between them
        shift = lanes_shift(rows if pattern is None else np.diff(pattern.rows), s, most_groups)
        groups, a_block = s.lanes >> shift, s.rows * (1 << shift) // s.slices
        blocks, most, equal = ceil_div(rows, a_block), columns, ceil_div(rows, a_block)
        if pattern is not None:
            *_, begin, end = pattern.blocks(a_block).T
            counts = pattern.before[end] - pattern.before[begin]
            blocks, most = len(counts), max(1, int(counts.max()))
            equal = ceil_div(int(counts.sum()), most)  # blocks as long as the longest would be as much work
        resident = self._resident_blocks(here, (s.tile + groups) * column_bytes)
        splits = choose_splits(max(1, equal) * batches, most, groups, here.multiprocessors, resident, s.lanes)
        sizes = [f.dim * layout.element_bytes(k) for k, f in enumerate(plan.fields)]
        if pattern is not None:
            splits = min(splits, max(1, PARTIAL_BYTES // (batches * blocks * groups * a_block * sum(sizes))))
        chunk, tile, splits = cut_columns(most, splits, groups, s.tile if s.packed else max(s.columns, s.tile // groups), s.columns)
        partials = batches * blocks * splits * groups * a_block * sum(sizes)
        if splits * groups == 1 and not needs_partials(plan):
            partials = 0
        packed: Sequence[int] = layout.bytes(batches, layout.blocks(batches, rows), columns, 1)[:3] if s.packed else (0, 0, 0)
        packs: list[tuple[str, int]] = []
        if s.packed:
            counts_of = {"par": 1, "row": ceil_div(rows, s.block) * s.block, "col": columns}
            packs = [(f"pack_{b.name}", ceil_div(batches * counts_of[b.name], PACK_THREADS)) for b in plan.hoisted.buffers if b.length]
        # In `finish` few threads beside one another where there are many splits: the others share those.
        beside = min(a_block, FINISH_THREADS, max(1 << LOG2_LEAST_LANES, 1 << (4 * FINISH_THREADS // splits).bit_length() >> 1))
        finish_groups = FINISH_THREADS // beside
        return Launch(
            (batches, rows, columns, splits, chunk, shift, tile, ceil_div(chunk, tile), a_block, groups),
            (beside.bit_length() - 1, ceil_div(splits, finish_groups), 0, a_block, groups),
            (*packed, partials),
            tuple(packs),
            (blocks, splits, batches),
            (tile + 1) * groups * column_bytes,
            (blocks, a_block // beside, batches) if splits > 1 else None,
        )

    def _resident_blocks(self, here: Device, shared: int) -> int:
        """Thread blocks of the tile that a multiprocessor runs at once."""
        found = self._resident.get(here.number)
        if found is None:
            count = _driver().cuOccupancyMaxActiveBlocksPerMultiprocessor(self._functions["tile"], self.plan.schedule.lanes, shared)
            found = self._resident[here.number] = max(1, _check(count, "the driver does not tell how many blocks fit"))
        return found


def lanes_shift(rows: int | np.ndarray, schedule: Schedule, most_groups: int) -> int:
    """log2 of the threads beside one another: few are left without a row of their own, and many rows share a column's packing.

    Rows are one range, or several that share no thread block.
    """

    def cost(shift: int) -> float:
        a_block = (schedule.rows << shift) // schedule.slices
        return int(np.sum(-(-rows // a_block))) * (a_block + PACKING)

    most = schedule.lanes.bit_length() - 1
    least = LOG2_LEAST_LANES if schedule.slices == 1 else min(LOG2_WARP, most)
    shifts = [k for k in range(least, most + 1) if schedule.lanes >> k <= max(1, most_groups)]
    return min(reversed(shifts), key=cost)


def choose_splits(blocks: int, columns: int, groups: int, multiprocessors: int, resident: int, threads: int) -> int:
    """In how many parts the columns of each thread block are taken, so that all multiprocessors have as much to do."""

    def time(blocks: int) -> float:
        """Of a multiprocessor, where one of as many blocks as fit takes 1: the last round's few, if they have few threads, do not keep it
        busy.
        """
        rounds, rest = divmod(ceil_div(blocks, multiprocessors), resident)
        if rounds and rest:
            return rounds * resident + rest / min(1.0, rest * threads / BUSY) ** 0.5
        return rounds * resident + rest

    most = min(max(1, columns // (groups * LEAST_COLUMNS)), LARGEST_GRID)
    least = ceil_div(columns, LONGEST_SPLIT)
    best, best_share = least, 0.0
    for each in range(1, 4 * resident + 1):  # thread blocks for each multiprocessor
        splits = max(least, min(most, each * multiprocessors // blocks or 1))
        share = blocks * splits / multiprocessors
        full = min(1.0, share / resident) ** 0.5 * share / time(blocks * splits)
        if full > best_share + 0.02:
            best, best_share = splits, full
    return best


def cut_columns(columns: int, splits: int, groups: int, longest: int, step: int) -> tuple[int, int, int]:
    """The columns of each group, those of its tile, and the splits that then remain."""
    chunk = ceil_div(ceil_div(columns, splits * groups), step) * step
    return chunk, min(chunk, longest), ceil_div(columns, chunk * groups)


def _placed(sizes: Sequence[int]) -> tuple[int, list[tuple[int, int]]]:
    """Buffers in one allocation: its bytes, and the word of each buffer that is not empty, with where it begins."""
    starts, end = [], 0
    for word, size in enumerate(sizes, ROW):
        if size:
            starts.append((word, end))
            end = ceil_div(end + size, ALIGNMENT) * ALIGNMENT
    return end, starts


_tables: OrderedDict[tuple[int, bytes], tuple[Any, int]] = OrderedDict()
_kernels: OrderedDict[tuple[object, ...], Kernel] = OrderedDict()
_lock = Lock()


def _table(offsets: np.ndarray, queue: Queue) -> tuple[Any, int]:
    """A table of the batches' offsets on the device: kept, since calls with the same shapes share it."""
    key = (queue.device, b"" if offsets is AT_THE_START else offsets.tobytes())
    found = _tables.get(key)
    if found is None:
        found = _tables[key] = queue.upload(offsets)
        if len(_tables) > TABLES_KEPT:
            _tables.popitem(last=False)
    return found


# What follows from a pattern, for as long as somebody has it: how kernels are launched on it, and its tables on devices.
_patterns: WeakKeyDictionary[Pattern, dict[Any, Any]] = WeakKeyDictionary()


def blocks_of(pattern: Pattern, a_block: int, queue: Queue) -> tuple[int, int, int]:
    """The thread blocks of so many rows of a pattern: how many there are, and where the device has their table and that of the ranges."""
    known = _patterns.setdefault(pattern, {})
    found = known.get((queue.device, a_block))
    if found is None:
        blocks = pattern.blocks(a_block)
        ranges = np.stack([np.append(pattern.columns[:, 0], 0), pattern.before], axis=1)
        keep, address = queue.upload(np.concatenate([blocks.reshape(-1), ranges.reshape(-1)]))
        found = known[queue.device, a_block] = keep, (len(blocks), address, address + blocks.nbytes), queue.stream
    keep, words, stream = found
    if stream != queue.stream:
        queue.record(keep)
    return words


def kernel(
    formulas: tuple[Node, ...],
    reduction: Reduction,
    numbers: Numbers,
    number: int,
    condition: Node | None = None,
    contracted: bool = False,
    length: int | None = None,
    sparse: bool = False,
) -> Kernel:
    """The kernel that reduces formulas over their columns on a GPU of that number; compiled on first use. See `make_plan`."""
    capability = device(number).capability
    features = frozenset({APPROXIMATE} if accurate.fast_math else ())
    key = (formulas, reduction, numbers, capability, condition, contracted, length, sparse, features)
    with _lock:
        found = _kernels.get(key)
        if found is not None:
            _kernels.move_to_end(key)
            return found
    machine = MACHINE if features else EXACT
    with Current(device(number)):
        made = Kernel(make_plan(formulas, reduction, numbers, machine, sparse, condition, contracted, length), capability, features)
    with _lock:
        _kernels[key] = made
        while len(_kernels) > KERNELS_KEPT:
            _kernels.popitem(last=False)
    return made


MACHINE = Machine("cuda", 32, 255, base_two=True)
EXACT = Machine("cuda", 32, 255)  # where approximate instructions are not allowed
