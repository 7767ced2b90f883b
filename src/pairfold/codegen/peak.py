"""A kernel that does nothing but multiply and add in registers: what it reaches is the limit of all others."""

from __future__ import annotations

from .builder import I32, I64, Value, loop
from .cpu import export_driver, new_module, task_of, text_of
from .frame import Frame

CHAINS = 12  # that do not wait for one another: enough to hide the latency of every processor so far
STEPS = 4  # of each chain in a turn
TURNS = 8192  # a task
INSTRUCTIONS = CHAINS * STEPS * TURNS  # vector instructions a task


def emit_peak(triple: str, features: frozenset[str], vector_bits: int) -> str:
    """The LLVM IR of a phase ``peak(words, control, tasks)``, whose first word holds a float32 and whose second takes the result."""
    module = new_module(triple)
    frame = Frame(module, task_of("peak"), 32, vector_bits // 32, features)
    b, m = frame.builder, frame.m
    number = m.splat(b.bitcast(b.trunc(frame.word(0), I32), m.scalar))

    def turn(_: Value, chains: list[Value]) -> list[Value]:
        for _step in range(STEPS):
            chains = [m.add(m.mul(c, number), number) for c in chains]
        return chains

    # Chains that begin alike would be found to be one.
    total, *others = loop(b, I64(0), I64(TURNS), 1, [m.add(number, m.const(k)) for k in range(CHAINS)], turn)
    for c in others:
        total = m.add(total, c)
    b.store(frame.m.lane(total, 0), b.gep(frame.words, [I64(1)], source_etype=I64))
    frame.finish()
    export_driver(frame.function, "peak")
    return text_of(module, vector_bits)
