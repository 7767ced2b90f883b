"""The machine's own limit: how many single-precision fused multiply-adds a second its vector units reach.

Each thread runs a dozen chains of full-width vectors that do not wait for one another, enough to hide the latency of every
processor so far. It touches no memory. A vector instruction of any other kind takes at least the slot of one multiply-add, so this
is also a limit on vector operations of every kind.
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm

CHAINS = 12
STEPS = 4  # multiply-adds of each chain in one turn of the loop


def lanes() -> int:
    """Float32 lanes of the host's widest vectors."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("fma") else 4


def module_text(width: int) -> str:
    """The loop in LLVM's language: `chains(turns, out)` runs CHAINS x STEPS multiply-adds a turn and stores their sum."""
    vector = f"<{width} x float>"
    zero = f"%zero = insertelement {vector} zeroinitializer, float %a, i32 0"
    spread = f"shufflevector {vector} %zero, {vector} zeroinitializer, <{width} x i32> zeroinitializer"
    phis = [f"  %c0_{k} = phi {vector} [ %a_all, %entry ], [ %c{STEPS}_{k}, %loop ]" for k in range(CHAINS)]
    steps = [
        f"  %c{s + 1}_{k} = call {vector} @llvm.fma.v{width}f32({vector} %c{s}_{k}, {vector} %a_all, {vector} %a_all)"
        for s in range(STEPS)
        for k in range(CHAINS)
    ]
    total, sums = f"%c{STEPS}_0", []
    for k in range(1, CHAINS):
        sums.append(f"  %s{k} = fadd {vector} {total}, %c{STEPS}_{k}")
        total = f"%s{k}"
    return "\n".join(
        [
            f"declare {vector} @llvm.fma.v{width}f32({vector}, {vector}, {vector})",
            "define void @chains(i64 %turns, float %a, ptr %out) {",
            "entry:",
            f"  {zero}",
            f"  %a_all = {spread}",
            "  br label %loop",
            "loop:",
            "  %turn = phi i64 [ 0, %entry ], [ %next, %loop ]",
            *phis,
            *steps,
            "  %next = add i64 %turn, 1",
            "  %more = icmp ult i64 %next, %turns",
            "  br i1 %more, label %loop, label %done",
            "done:",
            *sums,
            f"  store {vector} {total}, ptr %out, align 4",
            "  ret void",
            "}",
        ]
    )


@dataclass
class Peak:
    """The compiled loop, ready to run on a number of threads."""

    threads: int
    turns: int = 1_000_000

    def __post_init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.width = lanes()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
        )
        module = llvm.parse_assembly(module_text(self.width))
        self.assembly = machine.emit_assembly(module)
        self._engine = llvm.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()
        address = self._engine.get_function_address("chains")
        self._function = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p)(address)

    @property
    def operations(self) -> int:
        """Multiply-adds of single lanes in one run."""
        return self.threads * self.turns * CHAINS * STEPS * self.width

    def run(self) -> None:
        """Keep all threads' vector units busy once. The interpreter's lock is released meanwhile."""
        workers = [threading.Thread(target=self._work) for _ in range(self.threads - 1)]
        for worker in workers:
            worker.start()
        self._work()
        for worker in workers:
            worker.join()

    def _work(self) -> None:
        out: Any = (ctypes.c_float * self.width)()
        self._function(self.turns, 0.5, out)
