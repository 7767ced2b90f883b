"""The axes of a symbolic matrix, and how users name them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from .device import backend

Axis = int | tuple[int, ...] | None
# Those in front of the rows, the batch, are only ever reduced together with all others.
BATCH, ROWS, COLUMNS, INNER = -1, 0, 1, 2


def diagonal_within(shape: Sequence[int], offset: int) -> tuple[int, int, int]:
    """The first row and the first column of a diagonal of a matrix (…, M, N), and its length."""
    row, column = max(0, -offset), max(0, offset)
    return row, column, max(0, min(shape[-2] - row, shape[-1] - column))


def both_spellings(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that takes NumPy's ``axis`` and ``keepdims`` by PyTorch's names too, ``dim`` and ``keepdim``; and ``backend``, which says
    what computes with NumPy arrays as `pairfold.backend` does.
    """

    @wraps(method)
    def spelt(self: Any, *args: Any, **options: Any) -> Any:
        if not options:
            return method(self, *args)
        for ours, theirs in (("axis", "dim"), ("keepdims", "keepdim")):
            if theirs in options:
                value = options.pop(theirs)
                if options.setdefault(ours, value) != value:
                    given = f"{ours}={options[ours]} and {theirs}={value}"
                    raise ValueError(f"{method.__name__} was given {given}: they are two names for the same, give one")
        keepdims = options.get("keepdims", False)
        if not isinstance(keepdims, (bool, np.bool_, int)):
            raise TypeError(f"{method.__name__} takes keepdims=True or keepdims=False, not {keepdims!r}")
        if "backend" in options:
            with backend(options.pop("backend")):
                return method(self, *args, **options)
        return method(self, *args, **options)

    return spelt
