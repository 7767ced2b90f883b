"""NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..fold import Fold
from ..runtime.cpu import Operand, address_of, operand_of
from .base import Backend

DTYPES: dict[int, np.dtype] = {32: np.dtype(np.float32), 64: np.dtype(np.float64)}
NAMES = {np.dtype(name): name for name in ("float32", "float64")}  # NumPy works a name out anew each time it is asked


class NumPyBackend(Backend):
    """NumPy: results are plain arrays, nothing is differentiated."""

    name = "numpy"
    convert = "x.astype('float32')"

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

    def scalar(self, value: float, like: Any) -> Any:
        return np.full(1, value, dtype=like.dtype)

    def operand(self, array: Any) -> Operand:
        return operand_of(array)

    def results(self, fold: Fold, arrays: Sequence[Any], kept: int, reduced: int, bits: int) -> tuple[Any, ...]:
        outputs = [np.empty((kept, r.dim), dtype=np.int64 if r.kind == "index" else DTYPES[bits]) for r in fold.results]
        if reduced == 0:
            for output, value in zip(outputs, fold.of_nothing(), strict=True):
                output[:] = value
        elif kept:
            fold.run([self.operand(a) for a in arrays], [address_of(o) for o in outputs], kept, reduced, bits)
        return tuple(outputs)

    def transpose(self, array: Any) -> Any:
        return array.T
