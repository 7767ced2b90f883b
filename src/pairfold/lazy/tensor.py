"""LazyTensor, and the functions that make one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arrays import is_array
from .complex import ComplexLazyTensor, ComplexParts, operate
from .derivatives import Derivatives
from .elementwise import Elementwise
from .explained import Explained
from .folds import Folds
from .masks import Masks
from .matrix import Matrix
from .names import Names
from .protocols import Protocols
from .symbolic import Leaf, Symbolic, is_complex, readable
from .vectors import Vectors


class LazyTensor(ComplexParts, Elementwise, Vectors, Derivatives, Explained, Matrix, Folds, Masks, Names, Protocols):
    """A symbolic (M, N) matrix, or an (M, N, D) array of vectors, that is never stored.

    Arithmetic, functions and comparisons build a formula; a reduction along i or j, or a product with an array, computes it
    with memory linear in M + N. Arrays may be NumPy's or PyTorch's, of any floating-point type, integers or bool; types are
    promoted by the framework's own rules. Results are arrays of the same kind, and for PyTorch take part in autograd to any order.

    Parameters
    ----------
    x : array, float or int
        (M, 1, D): a vector for each row i. (1, N, D): a vector for each column j. (D,) or (1, 1, D): a vector of parameters.
        (M, 1) and (1, N): a number for each row, for each column. A number, or an array of one number: a parameter.
        Further axes in front of three are batch axes, which broadcast as in NumPy: (…, M, 1, D), (…, 1, N, D), (…, 1, 1, D).
    axis : int, optional
        With an array of shape (M, D): 0 for rows, 1 for columns.

    Raises
    ------
    ValueError
        Where the shape is none of these.
    TypeError
        Where the numbers are of another type.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import LazyTensor
    >>> x, y = np.random.rand(5, 3), np.random.rand(7, 3)
    >>> x_i, y_j = LazyTensor(x[:, None, :]), LazyTensor(y[None, :, :])
    >>> K = (-((x_i - y_j) ** 2).sum(-1)).exp()
    >>> K.shape
    (5, 7)
    >>> K
    LazyTensor(exp(-sum((x0 - y1)**2)), shape=(5, 7), float64, numpy)
    >>> dense = np.exp(-((x[:, None, :] - y[None, :, :]) ** 2).sum(-1))
    >>> np.allclose(K.sum(axis=1), dense.sum(axis=1))
    True
    """

    def __new__(cls, x: Any = None, axis: int | None = None) -> Any:
        """A ComplexLazyTensor where the numbers are complex."""
        return ComplexLazyTensor(x, axis) if is_complex(x) else object.__new__(cls)


def Vi(x: Any) -> LazyTensor:  # noqa: N802  # KeOps's name
    """A variable along i: a vector for each row from an (M, D) array, or a number from an (M,) array.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import Vi
    >>> Vi(np.ones((5, 3))).shape
    (5, 1, 3)
    """
    return _variable(x, "i")


def Vj(x: Any) -> LazyTensor:  # noqa: N802
    """A variable along j: a vector for each column from an (N, D) array, or a number from an (N,) array. See `Vi`."""
    return _variable(x, "j")


def Pm(x: Any) -> LazyTensor:  # noqa: N802
    """A parameter, the same for all pairs: a number, or a vector from a (D,) array."""
    if is_array(x) and (x.ndim > 1 and tuple(x.shape[:-1]) not in ((1,), (1, 1))):
        raise ValueError(f"Pm takes a number or an array of shape (D,), not {tuple(x.shape)}")
    return LazyTensor(x.reshape(-1)) if is_array(x) and x.ndim else LazyTensor(x)


def _variable(x: Any, axis: str) -> LazyTensor:
    name, length = f"V{axis}", "M" if axis == "i" else "N"
    if not is_array(x):
        raise TypeError(f"{name} takes a NumPy array or a PyTorch tensor, not {type(x).__name__}")
    if readable(x).ndim not in (1, 2):
        expanded = "x[..., :, None, :]" if axis == "i" else "x[..., None, :, :]"
        raise ValueError(f"{name} takes an array of shape ({length}, D), not {tuple(x.shape)}; with batch axes: LazyTensor({expanded})")
    inner = x.ndim == 2
    if inner and x.shape[1] == 0:
        raise ValueError(f"{name} takes vectors of at least one component, not an array of shape {tuple(x.shape)}")
    made: Any = object.__new__(ComplexLazyTensor if is_complex(x) else LazyTensor)
    made._set_leaf(Leaf(x if inner else x[:, None], axis), inner)
    return made


def where(condition: Any, a: Any, b: Any) -> LazyTensor:
    """``a`` where the condition is not 0, else ``b``, pair by pair.

    Parameters
    ----------
    condition, a, b : LazyTensor, array or number
        At least one of them a LazyTensor.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import Vi, Vj, where
    >>> x, y = np.random.rand(4), np.random.rand(6)
    >>> near = where(abs(Vi(x) - Vj(y)) < 0.5, 1, 0)
    >>> np.array_equal(near.sum(axis=1), (abs(x[:, None] - y) < 0.5).sum(axis=1))
    True
    """
    return operate("where", condition, a, b)


def concat(tensors: Sequence[Any], axis: int = -1) -> LazyTensor:
    """The components of several LazyTensors one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import Vi, Vj, concat
    >>> concat([Vi(np.ones((4, 3))), Vj(np.ones((6, 2)))]).shape
    (4, 6, 5)
    """
    if axis not in (-1, 2):
        raise ValueError(f"concat joins along the inner axis, -1 or 2, not along axis {axis}")
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(f"concat takes a list of LazyTensors, not {tensors!r}")
    if not tensors:
        raise ValueError("concat takes at least one LazyTensor")
    only = tensors[0]
    if len(tensors) == 1 and isinstance(only, Symbolic):
        return only._with(only.formula, True)
    return operate("concat", *tensors, inner=True)


cat = concat


# ---- how LazyTensors are put together
