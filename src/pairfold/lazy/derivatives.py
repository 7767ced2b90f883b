"""Symbolic derivatives: formulas of formulas, pair by pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..formula.differentiate import adjoint_operator, divergence, jacobian, jvp, laplacian, trace_operator, vjp
from ..formula.graph import Node, apply, var
from .symbolic import Symbolic, combine, same

if TYPE_CHECKING:
    from .tensor import LazyTensor


class Derivatives(Symbolic):
    """Derivatives with respect to the arrays that a formula was made from."""

    def grad(self, variable: LazyTensor, cotangent: Any = 1) -> LazyTensor:
        """The derivative of ``(cotangent | self)`` with respect to a variable, pair by pair.

        Parameters
        ----------
        variable : LazyTensor
            One that self was made from: a LazyTensor of an array as it is, of dimension D.
        cotangent : LazyTensor, array or number
            Of self's dimension, or 1.

        Returns
        -------
        LazyTensor, (M, N, D)

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(4, 3), np.random.rand(6, 3)
        >>> x_i, y_j = Vi(x), Vj(y)
        >>> K = (-((x_i - y_j) ** 2).sum(-1)).exp()
        >>> difference = x[:, None] - y
        >>> expected = (-2 * difference * np.exp(-(difference**2).sum(-1, keepdims=True))).sum(1)
        >>> np.allclose(K.grad(x_i).sum(axis=1), expected)
        True
        """
        number = self._find(variable)

        def derive(formula: Node, g: Node) -> Node:
            wrt = _variable(variable, number)
            (found,) = vjp(formula, [wrt], g)
            return found if found is not None else apply("spread", 0, attrs=(wrt.dim,))

        return combine(derive, (self, cotangent), variable._inner)

    def diff(self, variable: LazyTensor, tangent: Any) -> LazyTensor:
        """The derivative of self as a variable moves along a tangent: the Jacobian times the tangent, pair by pair.

        Parameters
        ----------
        variable : LazyTensor
            One that self was made from.
        tangent : LazyTensor, array or number
            Of the variable's dimension.

        Returns
        -------
        LazyTensor, of self's shape
        """
        number = self._find(variable)

        def derive(formula: Node, t: Node) -> Node:
            wrt = _variable(variable, number)
            return jvp(formula, {wrt: t}) or apply("spread", 0, attrs=(formula.dim,))

        return combine(derive, (self, tangent), self._inner)

    def grad_matrix(self, variable: LazyTensor) -> LazyTensor:
        """The Jacobian, pair by pair: the gradient of the first component by a variable, then that of the second …

        Returns
        -------
        LazyTensor, (…, M, N, D E)
            For self of D components and a variable of E.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(4, 3), np.random.rand(5, 3)
        >>> x_i = Vi(x)
        >>> (x_i * Vj(y)).grad_matrix(x_i).shape
        (4, 5, 9)
        """
        return self._operated(jacobian, variable, True)

    jacobian = grad_matrix

    def divergence(self, variable: LazyTensor) -> LazyTensor:
        """The trace of the Jacobian by a variable of as many components.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(4, 3), np.random.rand(5, 3)
        >>> x_i = Vi(x)
        >>> np.allclose((x_i**2 * Vj(y)).divergence(x_i).sum(axis=1), (2 * x[:, None] * y).sum((1, 2)))
        True
        """
        return self._operated(divergence, variable, False)

    def laplacian(self, variable: LazyTensor) -> LazyTensor:
        """The sum of the second derivatives by each component of a variable.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(4, 3), np.random.rand(5, 3)
        >>> x_i = Vi(x)
        >>> np.allclose(((x_i - Vj(y)) ** 2).sum(-1).laplacian(x_i).sum(axis=1), 5 * 6)
        True
        """
        return self._operated(laplacian, variable, self._inner)

    def trace_operator(self, variable: LazyTensor) -> LazyTensor:
        """The trace of the matrix of self as a function of a variable in which it is linear.

        Raises
        ------
        ValueError
            Where self is not built as a linear function of the variable, or of another dimension.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Pm, Vi
        >>> A, x = np.random.rand(3, 3), np.random.rand(4, 3)
        >>> x_i = Vi(x)
        >>> np.allclose(Pm(A.ravel()).matvecmult(x_i).trace_operator(x_i).sum(axis=1), np.trace(A))
        True
        """
        return self._operated(trace_operator, variable, False)

    def adjoint_operator(self, variable: LazyTensor, at: Any) -> LazyTensor:
        """The transpose of the matrix of self as a function of a variable in which it is linear, times another vector.

        Raises
        ------
        ValueError
            Where self is not built as a linear function of the variable.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Pm, Vi, Vj
        >>> A, x, u = np.random.rand(2, 3), np.random.rand(4, 3), np.random.rand(5, 2)
        >>> x_i = Vi(x)
        >>> adjoint = Pm(A.ravel()).matvecmult(x_i).adjoint_operator(x_i, Vj(u))
        >>> np.allclose(adjoint.sum(axis=1), (u @ A).sum(0))
        True
        """
        number = self._find(variable)
        return combine(lambda f, u: adjoint_operator(f, _variable(variable, number), u), (self, at), variable._inner)

    def _operated(self, operate: Callable[[Node, Node], Node], variable: LazyTensor, inner: bool) -> LazyTensor:
        number = self._find(variable)
        return combine(lambda f: operate(f, _variable(variable, number)), (self,), inner)

    def _find(self, variable: LazyTensor) -> int:
        """The number of a variable among self's leaves."""
        if not isinstance(variable, Symbolic) or variable.formula.op.name != "var":
            raise TypeError(f"derivatives are taken with respect to a LazyTensor made from an array, not {variable!r}")
        for number, leaf in enumerate(self.leaves):
            if same(leaf, variable.leaves[0]):
                return number
        raise ValueError(f"{self!r} was not made from {variable!r}")


def _variable(variable: LazyTensor, number: int) -> Node:
    """The variable as the formula has it."""
    return var(variable.leaves[0].axis, number, variable.formula.dim)
