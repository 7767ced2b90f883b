"""Matrices made of symbolic ones that are no formula of a pair, such as products: they are applied to arrays, never stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from functools import reduce
from operator import add
from typing import Any, NoReturn

import numpy as np

from ..arrays import backend_of, is_array, number
from ..arrays.base import INTEGERS
from ..formula.graph import to_string
from ..runtime import memory
from .axes import BATCH, COLUMNS, ROWS, Axis, both_spellings, diagonal_within
from .parameters import whole_number
from .solvable import Solvable
from .symbolic import Kind, Symbolic, common, is_complex, kind_of, readable

Part = Any  # a LazyTensor with one number for each pair, or a LinearOperator


class LinearOperator(Solvable):
    """A matrix that is known by its products with arrays: made of LazyTensors by ``@``, `identity`, `diag` and `block`.

    ``A @ b`` applies its parts one after the other, in memory linear in the lengths of its sides, and is differentiable in PyTorch to
    any order. ``A @ B``, ``A + B``, ``A - B``, multiples and ``A.T`` are LinearOperators again, of LazyTensors, LinearOperators and
    arrays. What acts on single entries, such as ``exp``, needs the formula of a pair: only LazyTensors have it.

    Attributes
    ----------
    shape : tuple of int
        (…, M, N)
    dtype : str or None
        The type of its products with arrays of its own kind; None where no array says.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import Vi, Vj, identity
    >>> x, y, b = np.random.rand(5, 3), np.random.rand(7, 3), np.random.rand(5)
    >>> K, dense = Vi(x) | Vj(y), x @ y.T
    >>> A = K @ K.T + 0.1 * identity(5)
    >>> np.allclose(A @ b, dense @ (dense.T @ b) + 0.1 * b)
    True
    """

    # NumPy and PyTorch leave operators with an array on the left to us.
    __array_ufunc__ = None
    __array_priority__ = 2000

    shape: tuple[int, ...]
    _parts: tuple[Part, ...]
    _kind: Kind | None  # of the real parts, where entries are complex
    _complex: bool

    def __init__(self, shape: Sequence[int], parts: Sequence[Part]):
        self.shape, self._parts = (*_batch(parts), *shape), tuple(parts)
        self._complex = any(p._complex for p in parts)
        kinds = [p._kind for p in parts if p._kind is not None]
        self._kind = reduce(common, kinds) if kinds else None

    # ---- what each kind of operator says of itself

    def _times(self, b: Any) -> Any:
        """The product with an array (…, N, E)."""
        raise NotImplementedError

    @property
    def T(self) -> LinearOperator:  # noqa: N802  # NumPy's name
        """The transposed operator."""
        raise NotImplementedError

    @property
    def H(self) -> LinearOperator:  # noqa: N802  # PyTorch's name
        """The conjugate transposed operator."""
        return Conjugate(self.T) if self._complex else self.T

    def _dense(self, like: Any) -> Any:
        """All entries; where no array tells the framework, as `like`."""
        raise NotImplementedError

    def _diagonal(self, like: Any, offset: int) -> Any:
        """The entries (i, i + offset)."""
        raise TypeError(f"this diagonal of {self!r} takes all its entries: A.dense().diagonal({offset}, -2, -1)")

    def _text(self) -> str:
        raise NotImplementedError

    def _mapped(self, change: Callable[[Any], Any]) -> Any:
        made = copy(self)
        made._parts = tuple(p._mapped(change) for p in self._parts)
        kinds = [p._kind for p in made._parts if p._kind is not None]
        made._kind = reduce(common, kinds) if kinds else None
        return made

    # ---- what it is

    @property
    def dtype(self) -> str | None:
        """The name of the type of its entries; None where no array says."""
        if self._kind is None:
            return None
        real = self._kind.backend.real(self._kind.dtype)
        return {"float64": "complex128"}.get(real, "complex64") if self._complex else real

    @property
    def ndim(self) -> int:
        """The number of axes: 2, and one for each batch axis."""
        return len(self.shape)

    def __repr__(self) -> str:
        kind = f", {self.dtype}, {self._kind.backend.name}" if self._kind else ""
        return f"LinearOperator({self._text()}, shape={self.shape}{kind})"

    def _an_array(self) -> Any:
        """An array that tells the framework and the device; NumPy's where nothing does."""
        return next((p._an_array() for p in self._parts if p._kind is not None), _NUMPY)

    __iter__ = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise TypeError(f"{self!r} is not turned into an array behind your back: apply it, A @ b, or compute all of it, A.dense()")

    def __getitem__(self, key: Any) -> NoReturn:
        raise TypeError(f"{self!r} has no entries to pick, but products with arrays: A @ b, A.diagonal(), or all of them, A.dense()")

    def __getattr__(self, name: str) -> NoReturn:
        """Of what is no attribute."""
        raise AttributeError(f"a LinearOperator has no {name}: it is known by its products with arrays, or by all entries, A.dense()")

    # ---- arithmetic

    def __matmul__(self, b: Any) -> Any:
        """The product with an array (N,) or (…, N, E), or with a LazyTensor or LinearOperator.

        Returns
        -------
        array, (…, M) or (…, M, E)
            Of an array.
        LinearOperator
            Otherwise.
        """
        if isinstance(b, (Symbolic, LinearOperator)):
            return product(self, b)
        if not is_array(b):
            raise TypeError(f"A @ b takes an array b, not {type(b).__name__}")
        if b.ndim == 0 or b.shape[-1 if b.ndim == 1 else -2] != self.shape[-1]:
            n = self.shape[-1]
            raise ValueError(f"A @ b: A has shape {self.shape}, so b must have shape ({n},) or ({n}, E), not {tuple(b.shape)}")
        b = readable(b)
        kind = kind_of(b.real)
        kind = kind if self._kind is None else common(self._kind, kind)
        if backend_of(b).dtype(b) in (*INTEGERS, "bool"):  # as of any matrix of the type: products of integers wrap around
            b = kind.backend.cast(b, kind.backend.real(kind.dtype))
        return self._times(b[:, None])[..., 0] if b.ndim == 1 else self._times(b)

    def __rmatmul__(self, b: Any) -> Any:
        """The product of an array (M,) or (…, E, M), or of a LazyTensor, with the operator."""
        if isinstance(b, Symbolic):
            return product(b, self)
        if not is_array(b):
            raise TypeError(f"b @ A takes an array b, not {type(b).__name__}")
        return self.T @ b if b.ndim <= 1 else (self.T @ b.swapaxes(-1, -2)).swapaxes(-1, -2)

    def __add__(self, other: Any) -> LinearOperator:
        return total(self, other)

    def __radd__(self, other: Any) -> LinearOperator:
        return total(other, self)

    def __sub__(self, other: Any) -> LinearOperator:
        return total(self, -part_of(other))

    def __rsub__(self, other: Any) -> LinearOperator:
        return total(other, -self)

    def __neg__(self) -> LinearOperator:
        return self * -1

    def __mul__(self, factor: Any) -> LinearOperator:
        factor = number(factor)
        if isinstance(factor, bool) or not (isinstance(factor, (int, float, complex)) or is_array(factor) and math.prod(factor.shape) == 1):
            raise TypeError(f"a LinearOperator is multiplied by a number, not by {factor!r}: entry by entry only LazyTensors are")
        return Multiple(factor, self)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> LinearOperator:
        return self * (1 / number(divisor))

    # ---- what is computed

    def dense(self) -> Any:
        """All entries, as an array.

        Returns
        -------
        array, (…, M, N)

        Raises
        ------
        MemoryError
            Where it would take more than the memory that is free.
        """
        a_number = np.dtype("float16" if self.dtype == "bfloat16" else self.dtype or "float64").itemsize
        like = self._an_array()
        memory.require(math.prod(self.shape) * a_number, backend_of(like).free_bytes(like), f"the dense array of shape {self.shape}")
        return self._dense(like)

    def diagonal(self, offset: int = 0) -> Any:
        """The entries (i, i + offset), an array (…, n): of sums, multiples, and of the product of two LazyTensors; of blocks, where they
        are square, the main one.

        Raises
        ------
        TypeError
            Of other products, whose diagonal takes as much as all their entries.
        """
        return self._diagonal(self._an_array(), whole_number("diagonal", offset))

    def trace(self, offset: int = 0) -> Any:
        """The sum of the diagonal."""
        return self.diagonal(offset).sum(-1)

    @both_spellings
    def sum(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Sum of each column (axis 0 after the batch axes), of each row (axis 1), or of all entries: products with ones.

        Parameters
        ----------
        axis, dim : int or tuple of int, optional
        keepdims, keepdim : bool
        """
        axes = self._axes("sum", axis)
        flipped = self if COLUMNS in axes else self.T
        found = flipped._times(full(self._an_array(), 1.0, flipped.shape[-1], 1))[..., 0]
        if {ROWS, COLUMNS} <= axes:
            found = found.sum() if BATCH in axes else found.sum(-1)
        lengths = [1 if (BATCH if k < self.ndim - 2 else k - self.ndim + 2) in axes else n for k, n in enumerate(self.shape)]
        return found.reshape(lengths) if keepdims else found

    @both_spellings
    def mean(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Mean of each column, of each row, or of all entries; see `sum`."""
        axes = self._axes("mean", axis)
        lengths = {BATCH: math.prod(self.shape[:-2]), ROWS: self.shape[-2], COLUMNS: self.shape[-1]}
        return self.sum(axis, keepdims) / math.prod(lengths[a] for a in axes)

    def _axes(self, name: str, axis: Axis) -> set[int]:
        everything = {ROWS, COLUMNS} | ({BATCH} if self.ndim > 2 else set())
        given = range(self.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        places = sorted(a + self.ndim if a < 0 else a for a in given)
        if places == list(range(self.ndim)):
            return everything
        chosen = {a - self.ndim + 2 for a in places}
        if not chosen or len(chosen) < len(places) or not chosen <= {ROWS, COLUMNS}:
            raise ValueError(
                f"{name} runs along axis {self.ndim - 2} (rows), {self.ndim - 1} (columns), or both, not {axis}, of {self.shape}"
            )
        return chosen


_NUMPY = np.ones(())


class Identity(LinearOperator):
    """1 where row and column have one number, else 0."""

    def __init__(self, n: int):
        super().__init__((n, n), ())

    def _times(self, b: Any) -> Any:
        return b * 1  # an array of its own

    @property
    def T(self) -> LinearOperator:  # noqa: N802
        return self

    def _dense(self, like: Any) -> Any:
        return backend_of(like).module.diag(self._diagonal(like, 0))

    def _diagonal(self, like: Any, offset: int) -> Any:
        return full(like, 0.0 if offset else 1.0, diagonal_within(self.shape, offset)[-1])

    def _text(self) -> str:
        return "I"


class Diagonal(LinearOperator):
    """An array (…, N) on the diagonal, else 0."""

    def __init__(self, values: Any):
        self.values = readable(values)
        self._kind, self._complex = kind_of(values.real), is_complex(values)
        self.shape, self._parts = (*values.shape, values.shape[-1]), ()

    def _an_array(self) -> Any:
        return self.values.real

    def _mapped(self, change: Callable[[Any], Any]) -> Any:
        return Diagonal(change(self.values))

    def _times(self, b: Any) -> Any:
        return self.values[..., None] * b

    @property
    def T(self) -> LinearOperator:  # noqa: N802
        return self

    def _dense(self, like: Any) -> Any:
        return self.values[..., None] * Identity(self.shape[-1])._dense(like)

    def _diagonal(self, like: Any, offset: int) -> Any:
        found = self.values[..., : diagonal_within(self.shape, offset)[-1]]
        return backend_of(found).module.zeros_like(found) if offset else found * 1  # an array of its own

    def _text(self) -> str:
        return "diag"


class Array(LinearOperator):
    """An array (…, M, N), among other parts."""

    def __init__(self, array: Any):
        self.array = readable(array)
        self._kind, self._complex = kind_of(array.real), is_complex(array)
        self.shape, self._parts = tuple(array.shape), ()

    def _an_array(self) -> Any:
        return self.array.real

    def _mapped(self, change: Callable[[Any], Any]) -> Any:
        return Array(change(self.array))

    def _times(self, b: Any) -> Any:
        return self.array @ b

    @property
    def T(self) -> LinearOperator:  # noqa: N802
        return Array(self.array.swapaxes(-1, -2))

    def _dense(self, like: Any) -> Any:
        return self.array

    def _diagonal(self, like: Any, offset: int) -> Any:
        return backend_of(self.array).module.diagonal(self.array, offset, -2, -1)

    def _text(self) -> str:
        return "array"


class Multiple(LinearOperator):
    """A number times an operator."""

    factor: Any

    def __init__(self, factor: Any, part: LinearOperator):
        if isinstance(part, Multiple):
            factor, part = factor * part.factor, part._parts[0]
        self.factor = factor
        super().__init__(part.shape[-2:], (part,))
        self._complex = part._complex or is_complex(factor)

    def _mapped(self, change: Callable[[Any], Any]) -> Any:
        factor = change(self.factor) if is_array(self.factor) else self.factor
        return Multiple(factor, self._parts[0]._mapped(change))

    def _times(self, b: Any) -> Any:
        return self.factor * self._parts[0]._times(b)

    @property
    def T(self) -> LinearOperator:  # noqa: N802
        return Multiple(self.factor, self._parts[0].T)

    def _dense(self, like: Any) -> Any:
        return self.factor * self._parts[0]._dense(like)

    def _diagonal(self, like: Any, offset: int) -> Any:
        return self.factor * self._parts[0]._diagonal(like, offset)

    def _text(self) -> str:
        factor = f"{self.factor:g}" if isinstance(self.factor, (int, float)) else "number"
        return f"{factor} * {text_of(self._parts[0])}"


class Conjugate(LinearOperator):
    """The complex conjugate of an operator."""

    def __init__(self, part: LinearOperator):
        super().__init__(part.shape[-2:], (part,))

    def _times(self, b: Any) -> Any:
        return (self._parts[0] @ b.conj()).conj()

    @property
    def T(self) -> LinearOperator:  # noqa: N802
        return Conjugate(self._parts[0].T)

    @property
    def H(self) -> LinearOperator:  # noqa: N802
        return self._parts[0].T

    def _dense(self, like: Any) -> Any:
        return dense_of(self._parts[0], like).conj()

    def _diagonal(self, like: Any, offset: int) -> Any:
        return diagonal_of(self._parts[0], like, offset).conj()

    def _text(self) -> str:
        return f"conj({text_of(self._parts[0])})"


class Total(LinearOperator):
    """The sum of matrices of one shape."""

    def _times(self, b: Any) -> Any:
        return reduce(add, (p @ b for p in self._parts))

    @property
    def T(self) -> LinearOperator:  # noqa: N802
        return total(*(p.T for p in self._parts))

    def _dense(self, like: Any) -> Any:
        return reduce(add, (dense_of(p, like) for p in self._parts))

    def _diagonal(self, like: Any, offset: int) -> Any:
        return reduce(add, (diagonal_of(p, like, offset) for p in self._parts))

    def _text(self) -> str:
        return " + ".join(map(text_of, self._parts))


class Product(LinearOperator):
    """Matrices applied one after the other, the last first."""

    def _times(self, b: Any) -> Any:
        for part in reversed(self._parts):
            b = part @ b
        return b

    @property
    def T(self) -> LinearOperator:  # noqa: N802
        return product(*(p.T for p in reversed(self._parts)))

    def _dense(self, like: Any) -> Any:
        *others, last = self._parts
        found = dense_of(last, like)
        for part in reversed(others):
            found = part @ found
        return found

    def _diagonal(self, like: Any, offset: int) -> Any:
        if len(self._parts) != 2 or not all(isinstance(p, Symbolic) for p in self._parts):
            return super()._diagonal(like, offset)
        row, column, n = diagonal_within(self.shape, offset)
        left, right = self._parts[0][..., row : row + n, :], self._parts[1].T[..., column : column + n, :]
        if left._mask is not None and right._mask is not None:  # terms are there where both entries are
            return (left._unmasked() * right._unmasked())._masked(left._mask & right._mask).sum(-1)
        return (left * right).sum(-1)

    def _text(self) -> str:
        return " @ ".join(f"({text_of(p)})" if isinstance(p, (Total, Multiple)) else text_of(p) for p in self._parts)


# ---- how operators are made


def identity(n: int) -> LinearOperator:
    """The (n, n) identity matrix, which costs nothing to apply: ``K + 0.1 * identity(n)``.

    Parameters
    ----------
    n : int

    Returns
    -------
    LinearOperator
        Of whatever framework and type the arrays are that it meets.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import Vi, Vj, identity
    >>> x, b = np.random.rand(5, 3), np.random.rand(5)
    >>> K = Vi(x) | Vj(x)
    >>> np.allclose((K + 0.1 * identity(5)) @ b, x @ x.T @ b + 0.1 * b)
    True
    """
    n = whole_number("identity", n)
    if n < 0:
        raise ValueError(f"identity takes the number of rows, 0 or more, not {n}")
    return Identity(n)


def diag(values: Any) -> LinearOperator:
    """The diagonal matrix of an array: ``K + diag(noise)``, or ``diag(a) @ A @ diag(b)`` to scale rows and columns.

    Parameters
    ----------
    values : array, (…, N)

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import diag
    >>> diag(np.array([1.0, 2.0])) @ np.array([3.0, 4.0])
    array([3., 8.])
    """
    if not is_array(values) or values.ndim == 0:
        raise TypeError(f"diag takes an array of shape (…, N), not {values!r}")
    return Diagonal(values)


def product(*parts: Any) -> LinearOperator:
    """The operator that applies its parts one after the other, the last first."""
    flat = [q for p in map(part_of, parts) for q in (p._parts if isinstance(p, Product) else (p,))]
    for left, right in zip(flat, flat[1:], strict=False):
        if left.shape[-1] != right.shape[-2]:
            raise ValueError(f"the product of shapes {left.shape} and {right.shape}: {left.shape[-1]} columns and {right.shape[-2]} rows")
    return Product((flat[0].shape[-2], flat[-1].shape[-1]), flat)


def total(*parts: Any) -> LinearOperator:
    """The operator that adds what its parts give."""
    flat = [q for p in map(part_of, parts) for q in (p._parts if isinstance(p, Total) else (p,))]
    if len({p.shape[-2:] for p in flat}) > 1:
        raise ValueError(f"the sum of matrices of shapes {' and '.join(str(p.shape) for p in flat)}: a sum is of one shape")
    return Total(flat[0].shape[-2:], flat)


def part_of(value: Any) -> Part:
    """What can be part of an operator."""
    if isinstance(value, LinearOperator):
        return value
    if isinstance(value, Symbolic):
        if value._kind is None:
            raise TypeError(f"{value!r} is made of numbers alone: nothing tells its size, type or framework")
        if value._inner and value._dim != 1:
            raise ValueError(f"a matrix has one number for each pair, but there is one of shape {value.shape}, {value!r}")
        return value._without_inner()
    if is_array(value) and value.ndim >= 2:
        return Array(value)
    shown = f"an array of shape {tuple(value.shape)}" if is_array(value) else repr(value)
    raise TypeError(f"a LinearOperator is made of LazyTensors, LinearOperators and arrays (…, M, N), not of {shown}")


def _batch(parts: Sequence[Part]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*(p.shape[:-2] for p in parts))
    except ValueError:
        raise ValueError(f"the batch axes of shapes {' and '.join(str(p.shape) for p in parts)} do not broadcast") from None


def dense_of(part: Part, like: Any) -> Any:
    return part._dense(like) if isinstance(part, LinearOperator) else part.dense()


def diagonal_of(part: Part, like: Any, offset: int) -> Any:
    return part._diagonal(like, offset) if isinstance(part, LinearOperator) else part.diagonal(offset)


def text_of(part: Part) -> str:
    return part._text() if isinstance(part, LinearOperator) else to_string(part.formula)


def full(like: Any, value: float, *shape: int) -> Any:
    """An array of one number, of the framework, device and real type of another."""
    backend = backend_of(like)
    return backend.scalar(value, backend.real(backend.dtype(like)), like).repeat(math.prod(shape)).reshape(shape)
