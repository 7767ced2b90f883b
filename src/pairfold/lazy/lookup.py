"""Tables read by symbolic numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..arrays import backend_of, is_array
from ..arrays.base import FLOATS, INTEGERS
from ..formula.complex import Complex
from ..formula.graph import Node, apply, to_string
from ..formula.operators import where
from .complex import combine_complex
from .symbolic import Leaf, Symbolic, combine, is_complex, parts_of, readable

if TYPE_CHECKING:
    from .tensor import LazyTensor


def take(table: Any, index: Any) -> LazyTensor:
    """``table[index]``, pair by pair: rows of a table by a number that depends on the row, the column or both.

    Parameters
    ----------
    table : array, (T,) or (T, D)
        Real or complex; differentiable in PyTorch.
    index : LazyTensor
        Of one component: of an array of whole numbers, ``Vi(labels)``, where those below 0 count from the end; or a formula of such,
        for instance ``Vi(a) * 10 + Vj(b)``.

    Returns
    -------
    LazyTensor, (…, M, N) or (…, M, N, D)
        Of the table's type, as ``table[index]`` is. nan where a formula gives a number that is no row's.

    Raises
    ------
    IndexError
        Where an array has a number that is no row's: with the first one and its place.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import Vi, Vj, take
    >>> costs = np.array([[0.0, 1.0], [2.0, 0.0]])
    >>> a, b = np.array([0, 1, 1]), np.array([1, 0])
    >>> take(costs.reshape(-1), Vi(a) * 2 + Vj(b)).sum(axis=1)
    array([1., 2., 2.])
    """
    if not isinstance(index, Symbolic):
        raise TypeError(f"take needs a LazyTensor as its index, e.g. Vi(labels), not {type(index).__name__}: index arrays as table[index]")
    if not is_array(table) or readable(table).ndim not in (1, 2) or 0 in table.shape:
        given = f"an array of shape {tuple(table.shape)}" if is_array(table) else type(table).__name__
        raise ValueError(f"take needs a table of shape (T,) or (T, D), not {given}")
    if index.formula.dim != 1:
        raise ValueError(f"take needs one number for each pair, but the index has shape {index.shape}, in {to_string(index.formula)}")
    if is_complex(table):
        parts = [take(part, index) for part in parts_of(table)]
        return combine_complex(lambda real, imag: Complex(real.real, imag.real), parts)
    rows, dim = int(table.shape[0]), int(table.shape[1]) if table.ndim == 2 else 1
    from_the_end = index.formula.op.name == "var" and _checked(index.leaves[0].value, rows)
    made: Any = type(index).__new__(type(index))
    made._set_leaf(Leaf(table.reshape(-1), "p"), inner=True)

    def build(entries: Node, number: Node) -> Node:
        if from_the_end:
            number = where(apply("lt", number, 0), number + rows, number)
        return apply("take", entries, number, attrs=(dim,))

    return combine(build, (made, index), table.ndim == 2, typed=(0,))


def _checked(labels: Any, rows: int) -> bool:
    """Whether some labels are below 0; an error where one is no row's."""
    backend = backend_of(labels)
    if backend.dtype(labels) not in INTEGERS + FLOATS or 0 in labels.shape:
        return False
    flat = labels.reshape(-1)
    if backend.dtype(labels) in INTEGERS:  # narrow ones have no number as large as the table is long, and PyTorch would wrap it
        flat = backend.cast(flat, "int64")
    wrong = ~((flat >= -rows) & (flat < rows))
    if backend.dtype(labels) in FLOATS:
        wrong = wrong | (flat.round() != flat)
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0].reshape(-1)[0])
        number = flat[first].item()
        why = f"is out of bounds for a table of {rows} rows" if number % 1 == 0 else "is no whole number"
        raise IndexError(f"index {number} at place {first} {why}")
    return bool((flat < 0).any())
