"""Static parameters of operators, as users give them: whole numbers, and shapes and axes made of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def whole_number(name: str, value: Any) -> int:
    """A whole number that a method was given.

    Raises
    ------
    TypeError
        Where it is none.
    """
    try:
        if not isinstance(value, bool):
            return int(value.__index__())
    except (AttributeError, TypeError):  # arrays have an index where they are one whole number
        pass
    raise TypeError(f"{name} takes whole numbers, not {value!r}")


def whole_numbers(name: str, value: Any) -> tuple[int, ...]:
    """Several of them; one alone stands for itself."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return (whole_number(name, value),)
    return tuple(whole_number(name, v) for v in value)
