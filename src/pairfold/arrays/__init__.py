"""Adapters: what Pairfold must know of an array, one class a framework. No framework is imported unless the user already did."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .base import Backend
from .numpy import NumPyBackend

__all__ = ["Backend", "backend_of", "is_array", "number", "on_host", "owner_of"]

_numpy = NumPyBackend()
_torch: Backend | None = None
_by_type: dict[type, Backend] = {}
_cupy: Backend | None = None


def _torch_backend() -> Backend:
    global _torch
    if _torch is None:
        from .torch import TorchBackend

        _torch = TorchBackend()
    return _torch


def _cupy_backend() -> Backend:
    global _cupy
    if _cupy is None:
        from .cupy import CuPyBackend

        _cupy = CuPyBackend()
    return _cupy


def owner_of(value: Any) -> Backend | None:
    """The adapter that knows the value as an array, if one does."""
    kind = type(value)
    found = _by_type.get(kind)
    if found is None:
        found = _ask_all(value)
        if found is not None:
            _by_type[kind] = found
    return found


def _ask_all(array: Any) -> Backend | None:
    if _numpy.owns(array):
        return _numpy
    if "torch" in sys.modules and _torch_backend().owns(array):
        return _torch
    if "cupy" in sys.modules and _cupy_backend().owns(array):
        return _cupy
    return None


def backend_named(name: str) -> Backend:
    """The adapter of that name: there is one of each, in copies and in other processes too."""
    return _torch_backend() if name == "torch" else _cupy_backend() if name == "cupy" else _numpy


def is_array(value: Any) -> bool:
    """Whether some adapter knows the value as an array."""
    return owner_of(value) is not None


def on_host(values: Any) -> np.ndarray:
    """A list, or an array of any framework, as a NumPy array."""
    found = owner_of(values)
    return np.asarray(values) if found is None else found.to_numpy(values)


def number(x: Any) -> Any:
    """A Python number in place of an array of no axes that nothing is differentiated by: it has no part in choosing a type."""
    if is_array(x) and x.ndim == 0 and not (getattr(x, "is_cuda", False) or backend_of(x).followed(x)):
        value = x.item()
        value = float(value) if isinstance(value, np.longdouble) else value
        return value if isinstance(value, (int, float, complex)) and not isinstance(value, bool) else x
    return x


def backend_of(array: Any) -> Backend:
    """The adapter of an array.

    Raises
    ------
    TypeError
        Where the value is no array that Pairfold knows.
    """
    found = owner_of(array)
    if found is None:
        raise TypeError(f"expected an array of NumPy, PyTorch or CuPy, not {type(array).__name__}")
    return found
