"""A GPU made of the CPU's threads: a stand-in for the driver that runs what is emitted for a GPU, thread block by thread block, each thread
a thread and each barrier a barrier. So launches, splits, patterns, merging and the memory they use are tested where there is no GPU.

What it does not show: PTX (which tests/codegen assembles), the real driver, and how fast anything is.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
import re
import sys
import traceback
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import llvmlite.binding as llvm
import numpy as np

from pairfold.codegen import cuda as emitted
from pairfold.runtime import cuda
from tests.codegen.one_thread import with_instructions

THREADS = 16  # of a block, where a GPU has 128 or 256
GUARD = 4096  # bytes on both sides of an allocation, of which nobody may read or write
REGISTERS = ("tid.x", "ctaid.x", "ctaid.y", "ctaid.z", "nctaid.x")
LIBRARY = ctypes.CDLL(None)


def _address(name: str) -> int:
    return ctypes.cast(getattr(LIBRARY, name), ctypes.c_void_p).value


class _Block:
    """The threads of a block: who they are, and where they wait for one another."""

    def __init__(self) -> None:
        key = ctypes.c_uint()
        assert LIBRARY.pthread_key_create(ctypes.byref(key), None) == 0
        self.key, self.barrier = key.value, ctypes.create_string_buffer(64)
        assert LIBRARY.pthread_barrier_init(self.barrier, None, THREADS) == 0
        self.pool = ThreadPoolExecutor(THREADS)
        # Threads that are one binary digit apart exchange numbers: a barrier for each pair, for each thread two places that take turns.
        self.pairs = ctypes.create_string_buffer(64 * THREADS * THREADS)
        for k in range(THREADS * THREADS):
            assert LIBRARY.pthread_barrier_init(ctypes.byref(self.pairs, 64 * k), None, 2) == 0
        self.exchanged = (ctypes.c_int32 * (2 * THREADS * THREADS))()
        self.turns = (ctypes.c_int32 * (THREADS * THREADS))()

    def run(self, function, words: bytes, grid: tuple[int, int, int]) -> None:
        arguments = ctypes.create_string_buffer(words, len(words))

        def thread(number: int) -> None:
            registers = (ctypes.c_int32 * len(REGISTERS))(number, 0, 0, 0, grid[0])
            LIBRARY.pthread_setspecific(self.key, registers)
            for registers[3], registers[2], registers[1] in itertools.product(*map(range, reversed(grid))):
                function(arguments)
                LIBRARY.pthread_barrier_wait(self.barrier)

        for done in [self.pool.submit(thread, number) for number in range(THREADS)]:
            done.result()

    def translated(self, text: str) -> str:
        """LLVM IR for a GPU as that for a CPU."""
        text = text.replace('target triple = "nvptx64-nvidia-cuda"', "").replace("ptx_kernel ", "")

        def register(match: re.Match[str]) -> str:
            return (
                f"define i32 {match[1]}() {{\n %p = call ptr inttoptr (i64 {_address('pthread_getspecific')} to ptr)(i32 {self.key})\n"
                f" %q = getelementptr i32, ptr %p, i64 {REGISTERS.index(match[2])}\n %v = load i32, ptr %q\n ret i32 %v\n}}"
            )

        text = re.sub(r'declare i32 (@"llvm\.nvvm\.read\.ptx\.sreg\.([\w.]+)")\(\)', register, text)
        wait = (
            f"call i32 inttoptr (i64 {_address('pthread_barrier_wait')} to ptr)(ptr inttoptr (i64 {ctypes.addressof(self.barrier)} to ptr))"
        )
        text = re.sub(r'declare void (@"llvm\.nvvm\.barrier0")\(\)', rf"define void \1() {{\n {wait}\n ret void\n}}", text)
        shuffled = f"(i32 %mask, i32 %value, i32 %apart, i32 %clamp) {{\n {self._shuffled()}\n}}"
        text = re.sub(r'declare i32 (@"llvm\.nvvm\.shfl\.sync\.bfly\.i32")\([^)]*\)', rf"define i32 \1{shuffled}", text)
        text = text.replace("llvm.nvvm.", "thread.")
        text = re.sub(r"external addrspace\(3\) global \[0 x (\w+)\]", r"addrspace(3) global [65536 x \1] zeroinitializer", text)
        text = with_instructions(text)
        for name, kind in re.findall(r'define\s+void @"(\w+)"\((\[\d+ x i64\]) ', text):
            text += f'\ndefine void @run_{name}(ptr %p) {{\n %w = load {kind}, ptr %p\n call void @"{name}"({kind} %w)\n ret void\n}}\n'
        return text

    def _shuffled(self) -> str:
        """The body of a function that gives ``%value`` of the thread whose number differs from one's own by ``%apart``."""
        wait = f"call i32 inttoptr (i64 {_address('pthread_barrier_wait')} to ptr)(ptr %barrier)"
        return f"""%own = call i32 @"thread.read.ptx.sreg.tid.x"()
 %other = xor i32 %own, %apart
 %below = icmp ult i32 %own, %other
 %first = select i1 %below, i32 %own, i32 %other
 %row = mul i32 %first, {THREADS}
 %pair = add i32 %row, %apart
 %barrier = getelementptr [64 x i8], ptr inttoptr (i64 {ctypes.addressof(self.pairs)} to ptr), i32 %pair
 %ours = mul i32 %own, {THREADS}
 %place = add i32 %ours, %apart
 %counter = getelementptr i32, ptr inttoptr (i64 {ctypes.addressof(self.turns)} to ptr), i32 %place
 %turn = load i32, ptr %counter
 %next = xor i32 %turn, {THREADS * THREADS}
 store i32 %next, ptr %counter
 %mine = add i32 %place, %turn
 %yours = mul i32 %other, {THREADS}
 %there = add i32 %yours, %apart
 %theirs = add i32 %there, %turn
 %to = getelementptr i32, ptr inttoptr (i64 {ctypes.addressof(self.exchanged)} to ptr), i32 %mine
 %from = getelementptr i32, ptr inttoptr (i64 {ctypes.addressof(self.exchanged)} to ptr), i32 %theirs
 store i32 %value, ptr %to
 %a = {wait}
 %found = load volatile i32, ptr %from
 ret i32 %found"""


class _Status(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222
    CUDA_ERROR_LAUNCH_FAILED = 719


class _Attribute(enum.IntEnum):
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 9
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 1
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 5


class Driver(types.ModuleType):
    """As much of `cuda.bindings.driver` as Pairfold calls, with two devices."""

    CUresult, CUdevice_attribute, CUfunction = _Status, _Attribute, int
    devices, memory = 2, 1 << 26

    def __init__(self) -> None:
        super().__init__("cuda.bindings.driver")
        self.block, self.functions, self.arrays, self.stack = _Block(), {}, {}, [0]
        self.launches, self.called_by_address = 0, []

    def cuInit(self, flags):  # noqa: N802  # the driver's names
        return (_Status.CUDA_SUCCESS,)

    def cuDeviceGetCount(self):  # noqa: N802
        return _Status.CUDA_SUCCESS, self.devices

    def cuDeviceGet(self, number):  # noqa: N802
        return (_Status.CUDA_SUCCESS, number) if number < self.devices else (_Status.CUDA_ERROR_INVALID_DEVICE, None)

    def cuDeviceGetAttribute(self, which, device):  # noqa: N802
        major, minor, count = _Attribute
        return _Status.CUDA_SUCCESS, {major: 9, minor: 0, count: 4}[which]

    def cuDevicePrimaryCtxRetain(self, device):  # noqa: N802
        return _Status.CUDA_SUCCESS, 100 + device

    def cuCtxGetCurrent(self):  # noqa: N802
        return _Status.CUDA_SUCCESS, self.stack[-1]

    def cuCtxSetCurrent(self, context):  # noqa: N802
        self.stack[-1] = context
        return (_Status.CUDA_SUCCESS,)

    def cuCtxPushCurrent(self, context):  # noqa: N802
        self.stack.append(context)
        return (_Status.CUDA_SUCCESS,)

    def cuCtxPopCurrent(self):  # noqa: N802
        return _Status.CUDA_SUCCESS, self.stack.pop()

    def cuLibraryLoadData(self, code, *options):  # noqa: N802
        text = bytes(code).rstrip(b"\0").decode()
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = llvm.get_host_cpu_features().flatten()
        target = llvm.Target.from_default_triple().create_target_machine(opt=1, cpu=llvm.get_host_cpu_name(), features=features)
        module = llvm.parse_assembly(self.block.translated(text))
        module.verify()
        engine = llvm.create_mcjit_compiler(module, target)
        engine.finalize_object()
        return _Status.CUDA_SUCCESS, (engine, int(re.search(r"\(\[(\d+) x i64\] ", text)[1]))

    def cuLibraryGetKernel(self, library, name):  # noqa: N802
        engine, count = library
        address = engine.get_function_address(f"run_{name.decode()}")
        self.functions[address] = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address), count, engine
        return _Status.CUDA_SUCCESS, address

    def cuOccupancyMaxActiveBlocksPerMultiprocessor(self, function, threads, shared):  # noqa: N802
        return _Status.CUDA_SUCCESS, 2

    def cuLaunchKernelEx(self, config, function, parameters, extra):  # noqa: N802
        *sizes, shared = (ctypes.c_uint * 7).from_address(config)
        stream, attributes, count = (ctypes.c_uint64 * 3).from_address(config + 32)
        (x, y, z), threads = sizes[:3], sizes[3:]
        assert threads == [THREADS, 1, 1] and shared <= 1 << 18 and max(y, z) <= 65535 and min(x, y, z) >= 1
        assert attributes == count == 0 and extra is None
        assert self.stack[-1] >= 100, "no context is current"
        words = ctypes.cast(parameters, ctypes.POINTER(ctypes.c_void_p))
        run, count, _ = self.functions[int(function)]
        self.block.run(run, ctypes.string_at(words[0], 8 * count), (x, y, z))
        self.launches += 1
        self.check()
        return _Status.CUDA_SUCCESS

    def cuGetProcAddress(self, name, version, flags):
        """Those functions that are called by their addresses."""
        pointer = ctypes.c_void_p

        @ctypes.CFUNCTYPE(ctypes.c_int, pointer)
        def current(place):
            pointer.from_address(place).value = self.stack[-1]
            return _Status.CUDA_SUCCESS

        @ctypes.CFUNCTYPE(ctypes.c_int, *[pointer] * 4)
        def launch(*arguments):
            try:
                return self.cuLaunchKernelEx(*arguments)
            except BaseException:  # which C would not pass on
                traceback.print_exc()
                return _Status.CUDA_ERROR_LAUNCH_FAILED

        found = {b"cuCtxGetCurrent": current, b"cuLaunchKernelEx": launch}[name]
        self.called_by_address.append(found)
        return _Status.CUDA_SUCCESS, ctypes.cast(found, pointer).value, 0

    def cuMemAlloc(self, bytes):  # noqa: N802
        if sum(a.nbytes for a in self.arrays.values()) + bytes > self.memory:
            return _Status.CUDA_ERROR_OUT_OF_MEMORY, None
        array = np.full(bytes + 2 * GUARD + 256, 0xFF, np.uint8)  # nan, wherever nobody wrote
        address = -(-(array.ctypes.data + GUARD) // 256) * 256
        self.arrays[address] = array
        return _Status.CUDA_SUCCESS, address

    def check(self) -> None:
        """Nobody wrote beyond an allocation."""
        for address, array in self.arrays.items():
            before = address - array.ctypes.data
            assert (array[:before] == 0xFF).all() and (array[-GUARD // 2 :] == 0xFF).all(), "a kernel wrote outside its memory"

    def cuMemFree(self, address):  # noqa: N802
        del self.arrays[address]
        return (_Status.CUDA_SUCCESS,)

    def cuMemGetInfo(self):  # noqa: N802
        return _Status.CUDA_SUCCESS, self.memory - sum(a.nbytes for a in self.arrays.values()), self.memory

    def cuMemcpyHtoD(self, to, source, bytes):  # noqa: N802
        ctypes.memmove(to, source, bytes)
        return (_Status.CUDA_SUCCESS,)

    cuMemcpyDtoH = cuMemcpyHtoD  # noqa: N815


def install(patch=setattr) -> Driver:
    """Have Pairfold find this driver, and give its kernels as many threads as that has.

    ``patch(module, name, value)`` puts things in their places.
    """
    driver = Driver()
    package, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    package.bindings, bindings.driver = bindings, driver
    sys.modules.update({"cuda": package, "cuda.bindings": bindings})
    for module, name in itertools.product((emitted, cuda), ("FINISH_THREADS", "PACK_THREADS")):
        patch(module, name, THREADS)
    make_plan = cuda.make_plan

    def smaller(*args, **options):
        plan = make_plan(*args, **options)
        s = plan.schedule
        slices = min(s.slices, THREADS)
        return replace(plan, schedule=replace(s, lanes=THREADS, slices=slices, unroll=s.unroll * s.slices // slices))

    patch(cuda, "make_plan", smaller)
    patch(cuda, "compile_ptx", lambda ir, capability: ir)
    cuda._driver.cache_clear()
    cuda.device.cache_clear()
    return driver
