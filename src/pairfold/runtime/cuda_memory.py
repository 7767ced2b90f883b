"""Memory of a GPU that no array framework manages, and copies to and from it."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from .cuda import CudaError, Current, Queue, _check, _driver, device


class OutOfMemory(CudaError, MemoryError):
    """A GPU has no room for what was asked; what was there before stays, and the GPU can be used as before."""


def free_bytes(number: int) -> int:
    """How much memory of a GPU is free."""
    with Current(device(number)):
        return int(_check(_driver().cuMemGetInfo(), f"GPU {number} does not tell its free memory"))


class Memory:
    """Bytes on a GPU, freed with the object, once what uses them is done."""

    def __init__(self, bytes: int, number: int):
        self.number = number
        d = _driver()
        with Current(device(number)):
            status, address = d.cuMemAlloc(max(1, bytes))
        if status == d.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            free = free_bytes(number)
            raise OutOfMemory(
                f"GPU {number} has no room for {bytes:,} bytes ({bytes / 2**30:.3g} GiB): {free:,} ({free / 2**30:.3g} GiB) are free. "
                "Take fewer columns at a time, or compute on the CPU"
            )
        _check((status,), f"GPU {number} gives no memory")
        self.address = int(address)
        weakref.finalize(self, _free, self.address, number).atexit = False  # the driver frees all then

    def write(self, array: np.ndarray) -> None:
        """Copy a C-contiguous array here."""
        with Current(device(self.number)):
            _check(_driver().cuMemcpyHtoD(self.address, array.ctypes.data, array.nbytes), f"GPU {self.number} takes no data")

    def read(self, array: np.ndarray) -> None:
        """Copy to a C-contiguous array, once what was queued before is done."""
        with Current(device(self.number)):
            _check(_driver().cuMemcpyDtoH(array.ctypes.data, self.address, array.nbytes), f"GPU {self.number} gives no data back")


def _free(address: int, number: int) -> None:
    with Current(device(number)):
        _driver().cuMemFree(address)


def uploaded(array: np.ndarray, number: int) -> Memory:
    """A copy of a C-contiguous array."""
    memory = Memory(array.nbytes, number)
    memory.write(array)
    return memory


def own_queue(number: int) -> Queue:
    """A GPU's default stream, and plain memory."""

    def allocate(bytes: int) -> tuple[Any, int]:
        memory = Memory(bytes, number)
        return memory, memory.address

    def upload(array: np.ndarray) -> tuple[Any, int]:
        memory = uploaded(np.ascontiguousarray(array), number)
        return memory, memory.address

    return Queue(number, 0, allocate, upload, lambda keep: None)
