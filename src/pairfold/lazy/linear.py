"""Reductions as matrices: what is linear in one of its variables is a LinearOperator of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import backend_of
from ..formula.differentiate import is_linear
from ..formula.graph import to_string, variables
from .operators import LinearOperator, full
from .symbolic import Leaf, Symbolic


class Linear(LinearOperator):
    """The sum of a formula over an axis, as a function of a variable along that axis: its components one after the other.

    Attributes
    ----------
    lazy : LazyTensor
        The formula; the variable's own array has no meaning.
    number : int
        The variable, among its leaves.
    """

    def __init__(self, lazy: Any, number: int):
        leaf = lazy.leaves[number]
        self.number, self.axis = number, 1 if leaf.axis == "j" else 0
        self.lazy = lazy._with(lazy.formula, True)
        # A view of its own, which is no other variable's array.
        placeholder = backend_of(leaf.value).detach(leaf.value[...])
        self.lazy.leaves = tuple(Leaf(placeholder, leaf.axis) if k == number else v for k, v in enumerate(lazy.leaves))
        lengths = [1 if n is None else n for n in lazy._lengths]
        self._kept, self._reduced = lengths[1 - self.axis], lengths[self.axis]
        others = [v.batch for k, v in enumerate(lazy.leaves) if k != number and not isinstance(v.value, float)]
        self.shape = (*np.broadcast_shapes(*others), self._kept * lazy.formula.dim, self._reduced * leaf.value.shape[-1])
        self._kind, self._complex, self._parts = lazy._kind, False, ()

    def _an_array(self) -> Any:
        return self.lazy._an_array()

    def _mapped(self, change: Callable[[Any], Any]) -> Linear:
        own = self.lazy.leaves[self.number].value
        return Linear(self.lazy._mapped(lambda array: array if array is own else change(array)), self.number)

    def _times(self, b: Any) -> Any:
        # Columns become a batch axis, the last.
        columns = b.swapaxes(-1, -2)
        own = self.lazy.leaves[self.number]
        values = columns.reshape(*columns.shape[:-1], self._reduced, own.value.shape[-1])

        def apart(leaf: Leaf) -> Leaf:
            if leaf is own:
                return Leaf(values, leaf.axis)
            if not leaf.batch:
                return leaf
            return Leaf(leaf.value[..., None, :] if leaf.axis == "p" else leaf.value[..., None, :, :], leaf.axis)

        batch = np.broadcast_shapes((*self.shape[:-2], 1), tuple(columns.shape[:-1]))
        sums = self.lazy._changed(apart, batch, self.lazy._lengths).sum(len(batch) + self.axis)
        return sums.reshape(*batch, self.shape[-2]).swapaxes(-1, -2)

    @property
    def T(self) -> Linear:  # noqa: N802
        own, dim = self.lazy.leaves[self.number], self.lazy.formula.dim
        kind: Any = type(self.lazy)
        a, u = kind.__new__(kind), kind.__new__(kind)
        a._set_leaf(own, inner=True)
        u._set_leaf(Leaf(full(self._an_array(), 0.0, self._kept, dim), "ji"[self.axis]), inner=True)
        adjoint = self.lazy.adjoint_operator(a, u)
        return Linear(adjoint, next(k for k, leaf in enumerate(adjoint.leaves) if leaf.value is u.leaves[0].value))

    def _dense(self, like: Any) -> Any:
        n = self.shape[-1]
        return self._times(backend_of(like).module.diag(full(like, 1.0, n)))

    def _text(self) -> str:
        return f"sum({to_string(self.lazy.formula)}, axis={self.axis})"


def linear(formula: Any, variable: Any) -> LinearOperator:
    """The sum of a formula along the axis of a variable in which it is linear, as the matrix of that linear function.

    For what is not ``K @ b`` with one number for each pair: kernels whose values are matrices, or derivatives of kernels.

    Parameters
    ----------
    formula : LazyTensor, (…, M, N, D)
        Built as a linear function of the variable.
    variable : LazyTensor
        Along j, ``Vj(b)`` of an array (N, E), or along i, ``Vi(b)`` of (M, E): one of those that the formula is made from. What numbers
        its array holds makes no difference.

    Returns
    -------
    LinearOperator, (…, M D, N E) or (…, N D, M E)
        It takes and gives the components of the first vector, then those of the second …: arrays (N, E) and (M, D), flattened.

    Raises
    ------
    ValueError
        Where the formula is not built as a linear function of the variable, or was not made from it.

    Examples
    --------
    A kernel whose values are matrices, those of the second derivatives of a Gaussian:

    >>> import numpy as np
    >>> from pairfold import Vi, Vj
    >>> from pairfold.linalg import linear
    >>> x, b = np.random.rand(50, 2), np.random.rand(50, 2)
    >>> difference, b_j = Vi(x) - Vj(x), Vj(b)
    >>> F = (-(difference | difference) / 2).exp() * (b_j - difference * (difference | b_j))
    >>> A = linear(F, b_j)
    >>> A.shape, np.allclose((A @ b.reshape(-1)).reshape(50, 2), F.sum(axis=1))
    ((100, 100), True)
    >>> a = A.solve(b.reshape(-1), alpha=0.1)
    """
    if not isinstance(formula, Symbolic) or formula._complex or formula._kind is None:
        raise TypeError(f"linear takes a LazyTensor of real numbers, not {formula!r}")
    lazy: Any = formula
    number = lazy._real_variable(variable).attrs[1]
    if lazy.leaves[number].axis == "p":
        raise ValueError(f"linear takes a variable of rows or columns, not the parameter {variable!r}: it sums along the variable's axis")
    if not all(is_linear(lazy.formula, v) for v in variables((lazy.formula,)) if v.attrs[1] == number):
        raise ValueError(f"{lazy!r} is not built as a linear function of its variable {number}")
    return Linear(lazy, number)
