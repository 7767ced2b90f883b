"""LLVM IR to machine code for this computer, and machine code to callable functions. All use of LLVM's libraries is here."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

import llvmlite.binding as llvm

PHASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)  # calls release the GIL

# LLVM's own state is not safe to share between threads.
_lock = threading.Lock()

OBJECTS_KEPT = 512
_objects: OrderedDict[bytes, bytes] = OrderedDict()  # by digests of their modules' texts

# x86's architecture levels, which PAIRFOLD_CPU may name: kernels are then the same on all computers that share a cache.
LEVELS = {
    "x86-64": frozenset({"sse2"}),
    "x86-64-v3": frozenset({"sse2", "avx", "avx2", "fma"}),
    "x86-64-v4": frozenset({"sse2", "avx", "avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl"}),
}


class Host(NamedTuple):
    """The computer, as far as generated code depends on it."""

    triple: str
    cpu: str
    features: frozenset[str]
    flags: str
    vector_bits: int
    registers: int

    @property
    def key(self) -> str:
        """What a cached object is good for."""
        return " ".join([self.triple, self.cpu, *sorted(self.features), llvm_version()])


def llvm_version() -> str:
    return ".".join(map(str, llvm.llvm_version_info))


@lru_cache(maxsize=1)
def host() -> Host:
    """Find out what this computer's vector units are."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, flags = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    features = frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)
    wanted = os.environ.get("PAIRFOLD_CPU")
    if wanted is not None:
        if wanted not in LEVELS:
            raise ValueError(f"PAIRFOLD_CPU is {wanted!r}; it must be one of {', '.join(LEVELS)}")
        cpu, flags, features = wanted, "", LEVELS[wanted]
    if "avx512f" in features:
        bits, registers = 512, 32
    elif "avx" in features:
        bits, registers = 256, 16
    else:  # SSE2 or NEON
        bits, registers = 128, 32 if platform.machine().lower() in ("aarch64", "arm64") else 16
    return Host(llvm.get_process_triple(), cpu, features, flags, bits, registers)


def _new_machine() -> llvm.TargetMachine:
    here = host()
    return llvm.Target.from_triple(here.triple).create_target_machine(
        cpu=here.cpu, features=here.flags, opt=3, reloc="static", codemodel="jitdefault"
    )


# The machine that compiles is kept; each loaded object owns one of its own.
_machine = lru_cache(maxsize=1)(_new_machine)


def compile_objects(modules: Sequence[str]) -> list[bytes]:
    """Machine code, an object file for each module. Those of the newest modules are kept: kernels have phases in common."""
    with _lock:
        return [_object_of(ir) for ir in modules]


def _object_of(ir: str) -> bytes:
    digest = sha256(ir.encode()).digest()
    if digest not in _objects:
        module = llvm.parse_assembly(ir)
        module.verify()
        _objects[digest] = bytes(_machine().emit_object(_optimised(module)))
        while len(_objects) > OBJECTS_KEPT:
            _objects.popitem(last=False)
    _objects.move_to_end(digest)
    return _objects[digest]


def linked(modules: Sequence[str]) -> str:
    """All in one module, to be read."""
    with _lock:
        first, *others = map(llvm.parse_assembly, modules)
        for other in others:
            first.link_in(other)
        return str(first)


def compile_assembly(ir: str) -> str:
    """Machine code as text, to be read."""
    with _lock:
        return str(_machine().emit_assembly(_optimised(llvm.parse_assembly(ir))))


def _optimised(module: llvm.ModuleRef) -> llvm.ModuleRef:
    """The code comes vectorised, unrolled and scheduled as it should be: LLVM's -O1 takes three times as long and undoes some of it."""
    passes = llvm.create_new_module_pass_manager()
    passes.add_loop_rotate_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, llvm.create_pass_builder(_machine(), llvm.create_pipeline_tuning_options(speed_level=1)))
    return module


class Loaded:
    """Object files in memory: callable functions that live as long as this does."""

    def __init__(self, objects: Sequence[bytes]):
        with _lock:
            self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _new_machine())
            for code in objects:
                self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
            self._engine.finalize_object()

    def functions(self, names: Sequence[str]) -> dict[str, Callable[[int, int, int], None]]:
        """Those of the named functions that there are."""
        found = {name: self._engine.get_function_address(name) for name in names}
        return {name: PHASE(address) for name, address in found.items() if address}


# ---- NVIDIA GPUs
CAPABILITIES = (75, 80, 86, 87, 88, 89, 90, 100, 103, 120, 121)  # that LLVM knows; code for one runs on all later ones


@lru_cache(maxsize=8)
def _cuda_machine(capability: int) -> llvm.TargetMachine:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    # At level 3 the same PTX comes out, a tenth later, or four times later where a block has thousands of instructions.
    return llvm.Target.from_triple("nvptx64-nvidia-cuda").create_target_machine(cpu=f"sm_{capability}", opt=2)


def compile_ptx(ir: str, capability: int) -> str:
    """PTX, the assembly language that NVIDIA's drivers take, for GPUs of a compute capability and later ones."""
    with _lock:
        machine = _cuda_machine(capability)
        module = llvm.parse_assembly(ir)
        module.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = False
        builder = llvm.create_pass_builder(machine, options)
        passes = builder.getModulePassManager()
        passes.run(module, builder)
        return str(machine.emit_assembly(module))
