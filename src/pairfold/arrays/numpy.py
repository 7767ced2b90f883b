"""NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..fold import Fold
from ..runtime.operand import Extent, Operand, address_of, operand_of
from ..runtime.pattern import Pattern
from . import streamed
from .base import FLOATS, STORED, Backend

NAMES = {np.dtype(name): name for name in STORED if name != "bfloat16"}  # NumPy works a name out anew each time it is asked


class NumPyBackend(Backend):
    """NumPy: results are plain arrays, nothing is differentiated."""

    name = "numpy"
    convert = "x.astype('float32')"
    module = np
    correction = 0

    def owns(self, value: Any) -> bool:
        return isinstance(value, (np.ndarray, np.generic))

    def dtype(self, array: Any) -> str:
        return NAMES.get(array.dtype) or str(array.dtype.name) + ("" if array.dtype.isnative else " in foreign byte order")

    def device(self, array: Any) -> str:
        return "cpu"

    def unreadable(self, array: Any) -> str | None:
        if isinstance(array, np.ma.MaskedArray):
            return "is masked, and its mask would be lost: fill it first, e.g. x.filled(0)"
        return None

    def promote(self, a: str, b: str) -> str:
        return np.result_type(np.dtype(a), np.dtype(b)).name

    def real(self, dtype: str) -> str:
        return dtype if dtype in FLOATS else "float64"

    def largest(self, array: Any) -> int:
        return max(int(array.max()), -int(array.min()))

    def scalar(self, value: float, dtype: str, like: Any) -> Any:
        return np.full(1, value, dtype=dtype)

    def cast(self, array: Any, dtype: str) -> Any:
        return array.astype(dtype)

    def complex(self, real: Any, imag: Any) -> Any:
        found = np.empty(real.shape, np.result_type(real, np.complex64))
        found.real, found.imag = real, imag
        return found

    def indices(self, value: Any, like: Any) -> Any:
        from . import on_host  # which knows this module

        return on_host(value).astype(np.int64, copy=False)

    def from_numpy(self, array: np.ndarray, like: Any) -> Any:
        return array

    def to_numpy(self, array: Any) -> np.ndarray:
        return array

    def order(self, keys: Any) -> Any:
        return np.argsort(keys, kind="stable")

    def sum_by(self, values: Any, labels: Any, count: int) -> Any:
        sums = [np.bincount(labels, weights=column, minlength=count) for column in values.T]
        return np.stack(sums, 1).astype(values.dtype, copy=False)

    def take_along(self, array: Any, index: Any) -> Any:
        return np.take_along_axis(array, index, -1)

    def operand(self, array: Any, rows: bool, batch: tuple[int, ...]) -> Operand:
        return operand_of(array, rows, batch)

    def results(self, fold: Fold, arrays: Sequence[Any], extent: Extent, dtype: str, pattern: Pattern | None = None) -> tuple[Any, ...]:
        bits = self.bits(arrays, dtype)
        shape = (*extent.batch, extent.kept)
        outputs = [np.empty((*shape, r.dim), dtype=np.int64 if r.kind == "index" else dtype) for r in fold.results]
        number = streamed.chosen.get()
        if extent.pairs and number is not None:
            streamed.results(number, fold, arrays, extent, bits, outputs, pattern)
        elif extent.pairs:
            operands = [self.operand(a, bool(v.axes), extent.batch) for a, v in zip(arrays, fold.variables, strict=True)]
            fold.run(operands, [address_of(o) for o in outputs], extent, bits, dtype, pattern=pattern)
        empty: Any = None if extent.reduced else slice(None)
        if pattern is not None and extent.reduced and number is None and pattern.empty.any():  # kernels on a GPU see to it
            empty = pattern.empty
        if empty is not None:
            for output, value in zip(outputs, fold.of_nothing(), strict=True):
                output[..., empty, :] = value
        return tuple(outputs)
