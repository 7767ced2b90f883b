"""The CPU target: a module of four phases, each a task and the loop by which threads take tasks from a shared counter."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from ..plan.plan import Plan
from .builder import I64, POINTER, Value, loop
from .finish import emit_finish
from .frame import VOID, Frame
from .layout import ABORT, COUNTER, FIRST_TASKS, PHASES, Layout
from .pack import emit_pack
from .tile import emit_tile

ALONE = "alone"


def emit_module(plan: Plan, triple: str, features: frozenset[str], vector_bits: int) -> str:
    """The LLVM IR of a plan for a CPU.

    Each phase is an exported function ``phase(words, control, tasks)``: it takes task numbers from the counter in the control
    block until there are none left or the abort flag is set, so any number of threads may run it at once. One more,
    ``alone(words, control, 0)``, runs all phases one after the other, for work too short to share.
    """
    module = ir.Module(name="pairfold")
    module.triple = triple
    layout = Layout(plan)
    h = plan.hoisted
    phases: dict[str, Callable[[Frame], None]] = {
        f"pack_{buffer.name}": lambda frame, buffer=buffer: emit_pack(frame, layout, buffer, frame.task)  # type: ignore[misc]
        for buffer in (h.par, h.row, h.col)
        if buffer.length
    }
    phases["tile"] = lambda frame: emit_tile(frame, layout)
    phases["finish"] = lambda frame: emit_finish(frame, layout)
    functions: dict[str, ir.Function] = {}
    for name, emit in phases.items():
        frame = Frame(module, f"{name}_task", plan.bits, plan.schedule.lanes, features)
        emit(frame)
        frame.finish()
        export_driver(module, name, frame.function)
        functions[name] = frame.function
    _export_alone(module, functions)
    return text_of(module, vector_bits)


def text_of(module: ir.Module, vector_bits: int) -> str:
    """The IR of a module. LLVM would otherwise split wide vectors on CPUs where it holds narrower ones to be thriftier."""
    return str(module).replace(")\n{", f') "prefer-vector-width"="{vector_bits}" "min-legal-vector-width"="{vector_bits}"\n{{')


def export_driver(module: ir.Module, name: str, task: ir.Function) -> None:
    """The phase ``name(words, control, tasks)`` that takes tasks from the counter until none are left."""
    function = ir.Function(module, ir.FunctionType(VOID, [POINTER, POINTER, I64]), name)
    words, control, tasks = function.args
    b = ir.IRBuilder(function.append_basic_block("entry"))
    head, work, done = (function.append_basic_block(n) for n in ("head", "work", "done"))
    b.branch(head)
    b.position_at_end(head)
    number: Value = b.atomic_rmw("add", _word(b, control, COUNTER), I64(1), "monotonic")
    stop = b.load_atomic(_word(b, control, ABORT), "monotonic", 8, typ=I64)
    b.cbranch(b.and_(b.icmp_signed("<", number, tasks), b.icmp_unsigned("==", stop, I64(0))), work, done)
    b.position_at_end(work)
    b.call(task, [words, control, number])
    b.branch(head)
    b.position_at_end(done)
    b.ret_void()


def _export_alone(module: ir.Module, functions: dict[str, ir.Function]) -> None:
    function = ir.Function(module, ir.FunctionType(VOID, [POINTER, POINTER, I64]), ALONE)
    words, control, _ = function.args
    b = ir.IRBuilder(function.append_basic_block("entry"))

    def call(task: ir.Function, number: Value) -> tuple[()]:
        b.call(task, [words, control, number])
        return ()

    for position, name in enumerate(PHASES, FIRST_TASKS):
        if name in functions:
            count = b.load(_word(b, words, position), typ=I64)
            loop(b, I64(0), count, 1, (), lambda number, _, task=functions[name]: call(task, number))  # type: ignore[misc]
    b.ret_void()


def _word(b: ir.IRBuilder, pointer: Value, position: int) -> Value:
    return b.gep(pointer, [I64(position)], source_etype=I64)
