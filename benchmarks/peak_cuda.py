"""A GPU's own limits: how many single-precision multiply-adds, and how many powers of 2, all its multiprocessors do a second.

Chains of instructions that do not wait for one another, in PTX: no memory is touched. A multiply-add takes an issue slot of 32 lanes, as
any other instruction does, so their rate limits all instructions together; powers of 2 have a unit of their own, an eighth as wide on
the generations from 7.5 to 12.x (16 a clock and multiprocessor).
"""

from __future__ import annotations

import ctypes
from typing import Any

CHAINS, STEPS = 8, 16
THREADS, BLOCKS = 256, 8  # of a block, and of a multiprocessor
TURNS = {"multiply_adds": 2_000, "powers": 400}
INSTRUCTIONS = {"multiply_adds": "fma.rn.f32 %f{k}, %f{k}, %a, %a;", "powers": "ex2.approx.ftz.f32 %f{k}, %f{k};"}


def ptx() -> str:
    """Two kernels; each stores what its chains come to, so that nothing is left out."""
    return ".version 6.3\n.target sm_75\n.address_size 64\n" + "\n".join(kernel(name) for name in INSTRUCTIONS)


def kernel(name: str) -> str:
    steps = [INSTRUCTIONS[name].format(k=k) for _ in range(STEPS) for k in range(CHAINS)]
    return "\n".join(
        [
            f".visible .entry {name}(.param .u64 out, .param .u32 turns)",
            "{",
            f".reg .f32 %f<{CHAINS}>, %a; .reg .u32 %t, %n; .reg .u64 %p, %o; .reg .pred %q;",
            "ld.param.u64 %p, [out]; ld.param.u32 %n, [turns]; mov.u32 %t, %tid.x; cvt.rn.f32.u32 %a, %t; mul.f32 %a, %a, 0f3A000000;",
            *[f"add.f32 %f{k}, %a, 0f{0x3C000000 + (k << 16):08X};" for k in range(CHAINS)],
            "again:",
            *steps,
            "sub.u32 %n, %n, 1; setp.ne.u32 %q, %n, 0;",
            "@%q bra again;",
            *[f"add.f32 %f0, %f0, %f{k};" for k in range(1, CHAINS)],
            "mul.wide.u32 %o, %t, 4; add.u64 %o, %p, %o; st.global.f32 [%o], %f0;",
            "ret;",
            "}",
        ]
    )


class CudaPeak:
    """The kernels, loaded on PyTorch's current device."""

    def __init__(self) -> None:
        import torch
        from cuda.bindings import driver

        self._torch, self._driver = torch, driver
        self._out = torch.empty(THREADS, device="cuda")
        _, self._module = driver.cuModuleLoadData(ptx().encode() + b"\0")
        self._blocks = BLOCKS * torch.cuda.get_device_properties(0).multi_processor_count

    def run(self, name: str) -> None:
        """All multiprocessors at one kind of instruction, once."""
        _, function = self._driver.cuModuleGetFunction(self._module, name.encode())
        values: tuple[Any, Any] = (ctypes.c_uint64(self._out.data_ptr()), ctypes.c_uint32(TURNS[name]))
        places = (ctypes.c_void_p * 2)(*(ctypes.addressof(v) for v in values))
        stream = self._torch.cuda.current_stream().cuda_stream
        (status,) = self._driver.cuLaunchKernel(function, self._blocks, 1, 1, THREADS, 1, 1, 0, stream, ctypes.addressof(places), 0)
        if status:
            raise RuntimeError(f"the kernel {name} does not start: {status.name}")
        self._torch.cuda.synchronize()

    def operations(self, name: str) -> int:
        """Instructions of single lanes in one run."""
        return self._blocks * THREADS * TURNS[name] * CHAINS * STEPS


def pairs_per_second(multiply_adds: float, powers: float, d: int) -> float:
    """The most Gaussian pairs of dimension D a second: each a power of 2 and D + 3 instructions: product, norms, power, weight."""
    return min(powers, multiply_adds / (d + 3))
