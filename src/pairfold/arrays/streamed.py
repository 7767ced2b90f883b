"""NumPy arrays computed on a GPU: what is reduced goes there whole, what is kept some rows at a time, as many as there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..fold import AXIS_OF, Fold
from ..runtime.operand import Extent, operand_of
from ..runtime.pattern import Pattern

SHARE = 0.25  # of the memory that is free, for rows and what is computed with them
MOST_BYTES = 1 << 30  # of rows and results at once: more saves no time

chosen: ContextVar[int | None] = ContextVar("pairfold_device", default=None)  # the number of the GPU that computes; None for the CPU


def results(
    number: int, fold: Fold, arrays: Sequence[Any], extent: Extent, bits: int, outputs: Sequence[np.ndarray], pattern: Pattern | None
) -> None:
    """Fill the outputs, (…, kept, dim) each.

    Raises
    ------
    CudaError
        Where there is no such GPU, or no room on it for what is reduced.
    """
    from ..runtime.cuda_memory import Memory, free_bytes, own_queue, uploaded

    queue = own_queue(number)
    result = next((o.dtype.name for o in outputs if o.dtype.kind == "f"), f"float{bits}")
    kept = AXIS_OF[1 - fold.axis]
    along = [v.attrs[0] == kept for v in fold.variables]
    arrays = [np.asarray(a, order="C") for a in arrays]
    memories = [None if rows else uploaded(a, number) for a, rows in zip(arrays, along, strict=True)]
    a_row = sum(o.nbytes for o in outputs) + sum(a.nbytes for a, rows in zip(arrays, along, strict=True) if rows)
    room = min(MOST_BYTES, int(SHARE * free_bytes(number)))
    rows = max(1, min(extent.kept, room * extent.kept // max(1, a_row)))
    for start in range(0, extent.kept, rows):
        stop = min(extent.kept, start + rows)
        here = Extent(extent.batch, stop - start, extent.reduced)
        used, held = [], []
        for array, memory, variable in zip(arrays, memories, fold.variables, strict=True):
            if memory is None:
                array = np.ascontiguousarray(array[..., start:stop, :])
                memory = uploaded(array, number)
            held.append(memory)
            used.append(operand_of(array, bool(variable.axes), extent.batch)._replace(address=memory.address))
        parts = [o[..., start:stop, :] if extent.batch else o[start:stop] for o in outputs]
        found = [Memory(p.nbytes, number) for p in parts]
        some = pattern if pattern is None or rows == extent.kept else pattern.of_rows(start, stop)
        fold.run(used, [m.address for m in found], here, bits, result, queue, some)
        for part, memory in zip(parts, found, strict=True):
            if part.flags.c_contiguous:
                memory.read(part)
            else:
                whole = np.empty(part.shape, part.dtype)
                memory.read(whole)
                part[...] = whole
