"""A GPU's kernel run on the CPU, by one thread: its arithmetic and its reading and writing, without a GPU."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import replace

import llvmlite.binding as llvm
import numpy as np

from pairfold.codegen.cuda import emit_module, word_count
from pairfold.codegen.layout import PARTIALS, Layout
from pairfold.codegen.mathlib_cuda import APPROXIMATE
from pairfold.plan.plan import Plan

SHARED = 1 << 16
ANEW = r'call i64 asm sideeffect "", "=l,0"\s*\(i64 (%\S+)\)', r"add i64 0, \1"  # what only LLVM's eyes are to take for another number
INSTRUCTIONS = {
    "ex2.approx.ftz.f32": '%v = call float @"llvm.exp2.f32"(float %x)',
    "rcp.approx.ftz.f32": "%v = fdiv float 1.0, %x",
    "sqrt.approx.f32": '%v = call float @"llvm.sqrt.f32"(float %x)',
    "rsqrt.approx.f32": '%r = call float @"llvm.sqrt.f32"(float %x)\n %v = fdiv float 1.0, %r',
}


def run(plan: Plan, arrays: Sequence[np.ndarray], columns: int, ranges: Sequence[tuple[int, int]] = ()) -> list[np.ndarray]:
    """The results in the first rows, as many as a thread owns, of arrays (rows, dim) or (dim,); of a sparse plan those of some columns."""
    plan = replace(plan, schedule=replace(plan.schedule, lanes=1, slices=1))
    assert not plan.schedule.packed and plan.sparse == bool(ranges)
    layout, rows = Layout(plan), plan.schedule.rows
    width = f"f{plan.bits // 8}"
    outputs = [np.full((rows, r.dim), -7, dtype="i8" if r.kind == "index" else width) for r in plan.results]
    nowhere, offsets = 0, np.zeros(1, dtype="i8")
    tile = plan.schedule.tile
    trips = -(-columns // tile)
    words = [1, rows, columns, 1, trips * tile, *[nowhere] * 4, 0, tile, trips, rows, 1]
    for a in arrays:
        words += [a.ctypes.data, a.strides[0] if a.ndim == 2 else 0, a.strides[-1], offsets.ctypes.data]
    words += [0] * (layout.output(0) - len(words)) + [o.ctypes.data for o in outputs]
    if ranges:
        before = np.cumsum([0] + [stop - start for start, stop in ranges])
        lines = np.stack([[*(start for start, _ in ranges), 0], before], axis=1)
        block = np.array([0, rows, 0, len(ranges)])
        partial = np.zeros(8 * rows * sum(f.dim for f in plan.fields), "u1")
        words += [1, block.ctypes.data, lines.ctypes.data]
        words[PARTIALS] = partial.ctypes.data
    engine = _compiled(_for_one_thread(emit_module(plan, frozenset({APPROXIMATE})), word_count(layout)))
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address("run"))((ctypes.c_int64 * len(words))(*words))
    return outputs


def _for_one_thread(text: str, words: int) -> str:
    """LLVM IR for a GPU as that for a CPU: every number that tells threads apart is 0, and nobody else has to be waited for."""
    text = text.replace('target triple = "nvptx64-nvidia-cuda"', "").replace("ptx_kernel ", "")
    text = re.sub(r'declare i32 (@"llvm.nvvm.read.ptx.sreg.[\w.]+")\(\)', r"define i32 \1() {\n ret i32 0\n}", text)
    text = re.sub(r'declare void (@"llvm.nvvm.barrier0")\(\)', r"define void \1() {\n ret void\n}", text)
    text = text.replace("llvm.nvvm.", "thread.")
    text = re.sub(r"external addrspace\(3\) global \[0 x (\w+)\]", rf"addrspace(3) global [{SHARED} x \1] zeroinitializer", text)
    text = with_instructions(text)
    kind = f"[{words} x i64]"
    return text + f'\ndefine void @run(ptr %p) {{\n %w = load {kind}, ptr %p\n call void @"tile"({kind} %w)\n ret void\n}}\n'


def with_instructions(text: str) -> str:
    """LLVM IR in which a GPU's instructions are functions that a CPU can compute."""
    for instruction, definition in INSTRUCTIONS.items():
        name = f'@"{instruction}"'
        text, found = re.subn(rf'call float asm\s+"{instruction} [^"]*", "=f,f"\s*\(', f"call float {name}(", text)
        text += f"\ndefine float {name}(float %x) {{\n {definition}\n ret float %v\n}}\n" if found else ""
    for function in ("exp2", "sqrt"):
        declared = f'declare float @"llvm.{function}.f32"(float'
        text += f"\n{declared})\n" if f"llvm.{function}.f32" in text and declared not in text else ""
    text = re.sub(*ANEW, text)
    assert " asm " not in text, re.findall(r'asm\s+"[^"]*"', text)
    return text


def _compiled(text: str):
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple().create_target_machine(opt=1, cpu=llvm.get_host_cpu_name(), features=features)
    module = llvm.parse_assembly(text)
    module.verify()
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    return engine
