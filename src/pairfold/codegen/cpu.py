"""The CPU target: four phases, each a task and the loop by which threads take tasks from a shared counter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from ..plan.plan import Plan
from .builder import I64, Builder, Value, loop, uncollected
from .finish import emit_finish
from .frame import OF_PHASES, Frame
from .joined import JoinedTile
from .layout import ABORT, BEGUN, COUNTER, FIRST_TASKS, PHASES, Layout
from .pack import emit_pack
from .product import ProductTile
from .tail import TailTile
from .tile import Tile

ALONE, SHARES = "alone", "shares"


@uncollected()
def emit_modules(plan: Plan, triple: str, features: frozenset[str], vector_bits: int) -> list[str]:
    """The LLVM IR of a plan for a CPU: a module for each phase, so that those which kernels have in common are compiled once, and one
    for what runs them all.

    Each phase is an exported function ``phase(words, control, tasks)``: it takes task numbers from the counter in the control
    block until there are none left or the abort flag is set, so any number of threads may run it at once. One more,
    ``alone(words, control, 0)``, runs all phases one after the other, for work too short to share; and ``shares(words, control, tasks)``
    does that for many small batches, a few of them a task, so that what is packed stays in the cache of the processor that needs it.
    """
    layout = Layout(plan)
    h = plan.hoisted
    phases: dict[str, Callable[[Frame], None]] = {
        f"pack_{buffer.name}": lambda frame, buffer=buffer: emit_pack(frame, layout, buffer, frame.task)  # type: ignore[misc]
        for buffer in (h.par, h.row, h.col)
        if layout.packs(buffer)
    }
    phases["tile"] = lambda frame: tile_of(layout)(frame, layout).emit()
    phases["finish"] = lambda frame: emit_finish(frame, layout)
    modules = []
    for name, emit in phases.items():
        modules.append(new_module(triple))
        frame = Frame(modules[-1], task_of(name), plan.bits, plan.schedule.lanes, features)
        emit(frame)
        frame.finish()
        export_driver(frame.function, name)
    modules.append(new_module(triple))
    _export_shares(_export_alone(modules[-1], list(phases)), layout.words)
    return [text_of(module, vector_bits) for module in modules]


def new_module(triple: str) -> ir.Module:
    """An empty module for a kind of computer."""
    module = ir.Module(name="pairfold")
    module.triple = triple
    return module


def task_of(phase: str) -> str:
    """The name of the function that does one task of a phase."""
    return f"{phase}_task"


def tile_of(layout: Layout) -> type[Tile]:
    """The kind of tile that a plan asks for."""
    s = layout.plan.schedule
    return ProductTile if s.family == "product" else JoinedTile if s.joined else TailTile if s.tail else Tile


def text_of(module: ir.Module, vector_bits: int) -> str:
    """The IR of a module. LLVM would otherwise split wide vectors on CPUs where it holds narrower ones to be thriftier."""
    return str(module).replace(")\n{", f') "prefer-vector-width"="{vector_bits}" "min-legal-vector-width"="{vector_bits}"\n{{')


def export_driver(task: ir.Function, name: str) -> None:
    """The phase ``name(words, control, tasks)`` that takes tasks from the counter until none are left."""
    b, words, control, tasks = _open(task.module, name)
    _for_tasks(b, control, tasks, lambda number: b.call(task, [words, control, number]))


def _open(module: ir.Module, name: str) -> tuple[Builder, Value, Value, Value]:
    function = ir.Function(module, OF_PHASES, name)
    return (Builder(function.append_basic_block("entry")), *function.args)


def _for_tasks(b: Builder, control: Value, tasks: Value, body: Callable[[Value], None]) -> None:
    """Take tasks until none are left or the call is to stop, and return."""
    head, work, done = (b.append_basic_block(n) for n in ("head", "work", "done"))
    b.branch(head)
    b.position_at_end(head)
    number: Value = b.atomic_rmw("add", _word(b, control, COUNTER), I64(1), "monotonic")
    stop = b.load_atomic(_word(b, control, ABORT), "monotonic", 8, typ=I64)
    b.cbranch(b.and_(b.icmp_signed("<", number, tasks), b.icmp_unsigned("==", stop, I64(0))), work, done)
    b.position_at_end(work)
    body(number)
    b.branch(head)
    b.position_at_end(done)
    b.ret_void()


def _export_alone(module: ir.Module, phases: Sequence[str]) -> ir.Function:
    b, words, control, _ = _open(module, ALONE)

    def each(task: ir.Function) -> Callable[[Value, Sequence[Value]], Sequence[Value]]:
        def call(number: Value, _: Sequence[Value]) -> Sequence[Value]:
            b.call(task, [words, control, number])
            return ()

        return call

    for position, name in enumerate(PHASES, FIRST_TASKS):
        if name in phases:
            task, count = ir.Function(module, OF_PHASES, task_of(name)), b.load(_word(b, words, position), typ=I64)
            loop(b, I64(0), count, 1, (), each(task))
    b.ret_void()
    return b.function


def _export_shares(alone: ir.Function, count: int) -> None:
    """Behind its words this one finds two more of each: what to add to it for each task, and for each thread that began before."""
    b, words, control, tasks = _open(alone.module, SHARES)
    mine = b.alloca(I64, count)
    thread = b.atomic_rmw("add", _word(b, control, BEGUN), I64(1), "monotonic")

    def share(number: Value) -> None:
        def copy(k: Value, _: Sequence[Value]) -> Sequence[Value]:
            first, a_task, a_thread = (b.load(_word(b, words, b.add(k, I64(part * count))), typ=I64) for part in range(3))
            b.store(b.add(first, b.add(b.mul(a_task, number), b.mul(a_thread, thread))), _word(b, mine, k))
            return ()

        loop(b, I64(0), I64(count), 1, (), copy)
        b.call(alone, [mine, control, I64(0)])

    _for_tasks(b, control, tasks, share)


def _word(b: Builder, pointer: Value, position: int | Value) -> Value:
    return b.gep(pointer, [I64(position) if isinstance(position, int) else position], source_etype=I64)
