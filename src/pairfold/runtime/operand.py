"""Arrays as kernels see them, on any device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Extent(NamedTuple):
    """The sizes of a fold: the lengths of the batch axes, of the axis that is kept and of the one that is reduced."""

    batch: tuple[int, ...]
    kept: int
    reduced: int

    @property
    def batches(self) -> int:
        """How many there are in all."""
        return math.prod(self.batch)

    @property
    def pairs(self) -> int:
        """Of all batches."""
        return self.batches * self.kept * self.reduced

    def flipped(self) -> Extent:
        """Those of a fold along the other axis."""
        return Extent(self.batch, self.reduced, self.kept)


class Operand(NamedTuple):
    """An array of rows of components, one for each batch; addresses and strides in bytes.

    Attributes
    ----------
    address : int
    row_stride, stride : int
        From row to row and from component to component.
    offsets : ndarray of int64, (batches,)
        Where each batch begins.
    type : str
        What is stored, e.g. ``"float32"``.
    """

    address: int
    row_stride: int
    stride: int
    offsets: np.ndarray
    type: str


AT_THE_START = np.zeros(1, dtype=np.int64)
# NumPy takes its time to name a type, and to say where an array is: what is asked for at each call is kept.
_type_name = lru_cache(maxsize=64)(lambda dtype: dtype.name)
_ITS_ADDRESS = int(AT_THE_START.__array_interface__["data"][0])


def batch_offsets(batch: tuple[int, ...], shape: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """Where each batch begins in an array whose own batch axes, the last of them, have these lengths and strides in bytes."""
    if not batch:
        return AT_THE_START
    offsets = np.zeros(batch, dtype=np.int64)
    missing = len(batch) - len(shape)
    for axis, (length, stride) in enumerate(zip(shape, strides, strict=True), missing):
        if length > 1:
            offsets += (stride * np.arange(length, dtype=np.int64)).reshape(-1, *[1] * (len(batch) - axis - 1))
    return offsets.reshape(-1)


def operand_of(array: np.ndarray, rows: bool, batch: tuple[int, ...] = ()) -> Operand:
    """A NumPy array (…, rows, dim), or (…, dim) without `rows`, whose leading axes broadcast to `batch`."""
    shape, strides = array.shape, array.strides
    own = -2 if rows else -1
    offsets = batch_offsets(batch, shape[:own], strides[:own])
    return Operand(address_of(array), strides[-2] if rows else 0, strides[-1], offsets, _type_name(array.dtype))


def address_of(array: np.ndarray) -> int:
    """Where an array begins."""
    if array is AT_THE_START:
        return _ITS_ADDRESS
    return int(array.__array_interface__["data"][0])
