"""What an adapter does: a dozen short methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..fold import Fold
from ..runtime import memory
from ..runtime.operand import Extent, Operand
from ..runtime.pattern import Pattern

Apply = Callable[[Any], Any]
Product = Callable[[Sequence[Any]], Apply]
Solve = Callable[[Apply, Any], Any]

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
BYTES_ALONE = ("int8", "uint8")
STORED = (*FLOATS, *INTEGERS, "bool")
COMPLEX = ("complex64", "complex128")
# The largest integers that floating-point numbers of so many bits tell apart.
EXACT = {32: 2**24, 64: 2**53}


class Backend(ABC):
    """An array framework, as far as Pairfold needs one."""

    def __reduce__(self) -> tuple[Any, ...]:
        from . import backend_named

        return backend_named, (self.name,)

    name: str
    convert: str  # how a user makes an array of it float32
    module: Any  # its functions, where NumPy and PyTorch agree on their names
    correction: int  # what its variances take off the number of values

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
    def promote(self, a: str, b: str) -> str:
        """The type of what is computed from numbers of two types, by the framework's rules."""

    @abstractmethod
    def real(self, dtype: str) -> str:
        """The type of floating-point numbers that functions of such numbers have, by the framework's rules."""

    @abstractmethod
    def largest(self, array: Any) -> int:
        """The largest magnitude in a non-empty array of integers."""

    @abstractmethod
    def scalar(self, value: float, dtype: str, like: Any) -> Any:
        """A (1,) array of a Python number, on the same device as `like`."""

    @abstractmethod
    def cast(self, array: Any, dtype: str) -> Any:
        """The array in another type."""

    @abstractmethod
    def complex(self, real: Any, imag: Any) -> Any:
        """The complex numbers of these parts."""

    @abstractmethod
    def indices(self, value: Any, like: Any) -> Any:
        """Whole numbers, an array of any framework or a list, as an int64 array of this one, on the same device as `like`."""

    @abstractmethod
    def from_numpy(self, array: np.ndarray, like: Any) -> Any:
        """A NumPy array as one of this framework, on the same device as `like`."""

    @abstractmethod
    def to_numpy(self, array: Any) -> np.ndarray:
        """An array's numbers, without their derivatives, on the host; shared where that can be."""

    @abstractmethod
    def order(self, keys: Any) -> Any:
        """The indices that sort an array along its last axis, equal ones in the order that they have; nan comes last."""

    @abstractmethod
    def sum_by(self, values: Any, labels: Any, count: int) -> Any:
        """The sums of the rows (N, D) of each label, (count, D)."""

    @abstractmethod
    def take_along(self, array: Any, index: Any) -> Any:
        """For each place of the index, the number there along the last axis."""

    def free_bytes(self, like: Any) -> int | None:
        """How much memory there is for more arrays on the device of `like`; None where nothing tells."""
        return memory.free_bytes()

    def beside(self, like: Any) -> AbstractContextManager[Any]:
        """Where results are made of no array, those within are on the device of `like`."""
        return nullcontext()

    def detach(self, array: Any) -> Any:
        """The array's numbers alone, by which nothing is differentiated."""
        return array

    def solution(self, solve: Solve, product: Product, b: Any, arrays: Sequence[Any]) -> Any:
        """What `solve` finds for the product with a Hermitian matrix made of arrays, and for b; differentiable by b and the arrays where
        the framework is.

        Parameters
        ----------
        solve : callable
            Takes the matrix's product, a callable, and b; gives x such that product(x) = b.
        product : callable
            Takes arrays and gives the product of the matrix made of them.
        b : array
        arrays : sequence of array
        """
        return solve(product(arrays), b)

    def differentiable(self, arrays: Sequence[Any]) -> bool:
        """Whether results would be differentiated by some of the arrays."""
        return False

    def followed(self, array: Any) -> bool:
        """Whether the array may stand for more than its numbers: derivatives by it are asked for, say."""
        return False

    @abstractmethod
    def operand(self, array: Any, rows: bool, batch: tuple[int, ...]) -> Operand:
        """A (…, rows, dim) array, or a (…, dim) one without `rows`, whose leading axes broadcast to `batch`."""

    @abstractmethod
    def results(self, fold: Fold, arrays: Sequence[Any], extent: Extent, dtype: str, pattern: Pattern | None = None) -> tuple[Any, ...]:
        """The fold's results, (…, kept, dim) each and real ones of type `dtype`; differentiable where the framework is.

        With a pattern, those of its pairs alone.
        """

    def bits(self, arrays: Sequence[Any], dtype: str) -> int:
        """Those of the arithmetic: half precision is stored, never computed with, and integers must stay exact.

        Raises
        ------
        ValueError
            Where there are integers that no floating-point arithmetic can tell apart.
        """
        # What is made of whole numbers alone is one too as a rule, and larger than they are: a product, a squared distance.
        whole = all(self.dtype(a) in INTEGERS for a in arrays) and not all(self.dtype(a) in BYTES_ALONE for a in arrays)
        bits = 64 if dtype == "float64" or whole else 32
        for array in arrays:
            if self.dtype(array) in INTEGERS and self.dtype(array)[-2:] in ("32", "64") and 0 not in array.shape:
                largest = self.largest(array)
                if largest > EXACT[64]:
                    raise ValueError(
                        f"an array of {self.dtype(array)} holds {largest}, but formulas cannot tell whole numbers beyond 2**53 apart: "
                        "number the labels from 0, e.g. with unique(x, return_inverse=True)"
                    )
                if largest > EXACT[32]:
                    bits = 64
        return bits
