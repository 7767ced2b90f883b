"""What stands between the brackets of ``K[…]``: read, checked, and brought to one key for each axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import is_array
from ..arrays.base import INTEGERS, Backend

Key = Any  # a whole number from 0 on, a range of such, or an int64 array of such with at least one axis


def is_points(key: Key) -> bool:
    """Whether a key is an array of indices."""
    return not isinstance(key, (int, range))


def read(key: Any, shape: tuple[int, ...], names: tuple[str, ...], backend: Backend, like: Any) -> list[Key | None]:
    """The key of each axis of that shape in order, and None for each new axis, where it is asked for.

    Raises
    ------
    IndexError
        Where there are too many, one is out of bounds, or is none that NumPy would take.
    """
    given: list[Any] = list(key) if isinstance(key, tuple) else [key]
    given = [_as_array(k) if isinstance(k, list) else k for k in given]
    taken = sum(0 if k is None or k is Ellipsis else k.ndim if _is_mask(k) else 1 for k in given)
    if taken > len(shape):
        raise IndexError(f"{taken} indices for the {len(shape)} axes of shape {shape}")
    dots = [n for n, k in enumerate(given) if k is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    at = dots[0] if dots else len(given)
    given[at : at + 1] = [slice(None)] * (len(shape) - taken)
    keys: list[Key | None] = []
    axis = 0
    for k in given:
        if k is None:
            keys.append(None)
        elif _is_mask(k):
            lengths = tuple(shape[axis : axis + k.ndim])
            if tuple(k.shape) != lengths:
                raise IndexError(f"a mask of shape {tuple(k.shape)} for {names[axis]} of length {', '.join(map(str, lengths))}")
            places = k.nonzero() if isinstance(k, np.ndarray) else k.nonzero(as_tuple=True)
            keys += [backend.indices(p, like) for p in places]
            axis += k.ndim
        else:
            keys.append(_read_one(k, shape[axis], f"axis {axis} ({names[axis]})", backend, like))
            axis += 1
    return keys


def _read_one(key: Any, length: int, where: str, backend: Backend, like: Any) -> Key:
    if isinstance(key, slice):
        return range(length)[key]
    if is_array(key) and key.ndim:
        return indices(key, length, where, backend, like)
    if isinstance(key, (bool, np.bool_)) or not hasattr(key, "__index__"):
        raise IndexError(f"{where} is indexed by whole numbers, slices, arrays of whole numbers, or masks, not by {key!r}")
    place = key.__index__()
    if not -length <= place < length:
        raise IndexError(f"index {place} is out of bounds for {where} of length {length}")
    return place % length


def indices(value: Any, length: int, where: str, backend: Backend, like: Any) -> Any:
    """Whole numbers that count from the start, or below 0 from the end, of an axis of that length, as an int64 array from 0 on.

    Raises
    ------
    IndexError
        Where some are out of bounds: with the first of them and its place.
    """
    if not is_array(value):
        value = _as_array(value)
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in INTEGERS:
        raise IndexError(f"{where} is indexed by whole numbers, not by an array of {dtype}")
    found = backend.indices(value, like)
    bad = (found < -length) | (found >= length)
    if bool(bad.any()):
        place = tuple(int(n) for n in np.argwhere(np.array(bad.tolist()))[0])
        shown = f" at position {place[0] if len(place) == 1 else place}" if place else ""
        raise IndexError(f"index {int(found[place])}{shown} is out of bounds for {where} of length {length}")
    return backend.module.where(found < 0, found + length, found)


def _as_array(value: Any) -> Any:
    found = np.asarray(value)
    return found.astype(np.int64) if found.size == 0 else found


def _is_mask(key: Any) -> bool:
    return is_array(key) and key.ndim > 0 and str(key.dtype).removeprefix("torch.") == "bool"
