"""What an adapter does: a dozen short methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ..fold import Fold
from ..runtime.cpu import Operand

BITS = {"float32": 32, "float64": 64}


class Backend(ABC):
    """An array framework, as far as Pairfold needs one."""

    def __reduce__(self) -> tuple[Any, ...]:
        from . import backend_named

        return backend_named, (self.name,)

    name: str
    convert: str  # how a user makes an array of it float32

    @abstractmethod
    def owns(self, value: Any) -> bool:
        """Whether the value is an array of this framework."""

    @abstractmethod
    def dtype(self, array: Any) -> str:
        """The name of its type of numbers, e.g. ``"float32"``."""

    @abstractmethod
    def device(self, array: Any) -> str:
        """Where it lives, e.g. ``"cpu"``."""

    def unreadable(self, array: Any) -> str | None:
        """Why the array's numbers cannot be read in place, and how to mend it; None where they can."""
        return None

    @abstractmethod
    def scalar(self, value: float, like: Any) -> Any:
        """A (1,) array of a Python number, of the same framework, type and device as `like`."""

    @abstractmethod
    def operand(self, array: Any) -> Operand:
        """Address and strides of a (rows, dim) or (dim,) array."""

    @abstractmethod
    def results(self, fold: Fold, arrays: Sequence[Any], kept: int, reduced: int, bits: int) -> tuple[Any, ...]:
        """The fold's results, (kept, dim) each, for its operands, of that many bits; differentiable where the framework is."""

    @abstractmethod
    def transpose(self, array: Any) -> Any:
        """A 2-D array with its axes exchanged."""

    def bits(self, array: Any) -> int:
        """32 or 64."""
        return BITS[self.dtype(array)]
