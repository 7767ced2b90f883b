"""CuPy arrays: NumPy's functions on a GPU, on CuPy's current stream and from its memory pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cupy
import numpy as np

from ..fold import Fold
from ..runtime.operand import Extent, Operand, batch_offsets
from ..runtime.pattern import Pattern
from .numpy import NAMES, NumPyBackend


class CuPyBackend(NumPyBackend):
    """CuPy: results are plain arrays on the operands' device, nothing is differentiated."""

    name = "cupy"
    module = cupy

    def owns(self, value: Any) -> bool:
        return isinstance(value, cupy.ndarray)

    def device(self, array: Any) -> str:
        return f"cuda:{array.device.id}"

    def unreadable(self, array: Any) -> str | None:
        return None

    def scalar(self, value: float, dtype: str, like: Any) -> Any:
        with like.device:
            return cupy.full(1, value, dtype=dtype)

    def complex(self, real: Any, imag: Any) -> Any:
        found = cupy.empty(real.shape, np.result_type(real.dtype, np.complex64))
        found.real, found.imag = real, imag
        return found

    def indices(self, value: Any, like: Any) -> Any:
        with like.device:
            return cupy.asarray(value).astype(np.int64, copy=False)

    def from_numpy(self, array: np.ndarray, like: Any) -> Any:
        with like.device:
            return cupy.asarray(array)

    def to_numpy(self, array: Any) -> np.ndarray:
        return array.get()

    def order(self, keys: Any) -> Any:
        return cupy.argsort(keys, kind="stable")

    def sum_by(self, values: Any, labels: Any, count: int) -> Any:
        sums = cupy.zeros((count, values.shape[1]), values.dtype)
        cupy.add.at(sums, labels, values)
        return sums

    def take_along(self, array: Any, index: Any) -> Any:
        return cupy.take_along_axis(array, index, -1)

    def free_bytes(self, like: Any) -> int | None:
        with like.device:
            return int(like.device.mem_info[0] + cupy.get_default_memory_pool().free_bytes())

    def beside(self, like: Any) -> Any:
        return like.device

    def operand(self, array: Any, rows: bool, batch: tuple[int, ...]) -> Operand:
        own = -2 if rows else -1
        offsets = batch_offsets(batch, array.shape[:own], array.strides[:own])
        return Operand(array.data.ptr, array.strides[-2] if rows else 0, array.strides[-1], offsets, NAMES[array.dtype])

    def results(self, fold: Fold, arrays: Sequence[Any], extent: Extent, dtype: str, pattern: Pattern | None = None) -> tuple[Any, ...]:
        bits = self.bits(arrays, dtype)
        shape = (*extent.batch, extent.kept)
        with arrays[0].device if arrays else cupy.cuda.Device() as device:
            outputs = [cupy.empty((*shape, r.dim), dtype=np.int64 if r.kind == "index" else dtype) for r in fold.results]
            if extent.pairs:
                operands = [self.operand(a, bool(v.axes), extent.batch) for a, v in zip(arrays, fold.variables, strict=True)]
                fold.run(operands, [o.data.ptr for o in outputs], extent, bits, dtype, _queue(device.id), pattern)
            if not extent.reduced:  # rows that meet none of the columns there are the kernel sees to
                for output, value in zip(outputs, fold.of_nothing(), strict=True):
                    output[...] = cupy.asarray(value, dtype=output.dtype)
        return tuple(outputs)


def _queue(number: int) -> Any:
    from ..runtime.cuda import Queue

    def allocate(bytes: int) -> tuple[Any, int]:
        scratch = cupy.cuda.alloc(bytes)
        return scratch, scratch.ptr

    def upload(array: np.ndarray) -> tuple[Any, int]:
        copy = cupy.asarray(array)
        return copy, copy.data.ptr

    stream = cupy.cuda.get_current_stream()
    # The pool gives memory to the stream that it was taken for, once freed: tables that another stream reads wait for that.
    return Queue(number, stream.ptr, allocate, upload, lambda keep: stream.synchronize())
