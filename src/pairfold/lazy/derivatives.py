"""Symbolic derivatives: formulas of formulas, pair by pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..formula.complex import from_vector
from ..formula.differentiate import adjoint_operator, divergence, jacobian, jvp, laplacian, to_dim, trace_operator, vjp
from ..formula.graph import Node, var
from ..formula.operators import concat, spread_to, zeros
from .symbolic import Symbolic, combine, is_complex, merge, refuse_lists, same

if TYPE_CHECKING:
    from .tensor import LazyTensor


class Derivatives(Symbolic):
    """Derivatives with respect to the arrays that a formula was made from."""

    def grad(self, variable: Any, cotangent: Any = 1) -> Any:
        """The derivative of ``(cotangent | self)`` with respect to a variable, pair by pair.

        Of complex numbers it is as PyTorch's: the gradient of the real part of ``(conj(cotangent) | self)``, and of a complex variable
        that by its real parts plus i times that by its imaginary parts. So by a real variable ``K.grad(x)`` is the gradient of
        ``K.real``, and ``K.grad(x, 1j)`` that of ``K.imag``.

        Parameters
        ----------
        variable : LazyTensor
            One that self was made from: a LazyTensor of an array as it is, of dimension D.
        cotangent : LazyTensor, array or number
            Of self's dimension, or 1.

        Returns
        -------
        LazyTensor, (M, N, D)

        Raises
        ------
        TypeError
            Where the variable is no LazyTensor of an array.
        ValueError
            Where self was not made from it.

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
        parts = self._find(variable)

        def derive(formula: Node, along: tuple[Node, ...]) -> Node:
            dim = formula.dim // len(along)
            if any(part.dim not in (1, dim) for part in along):
                raise ValueError(f"a cotangent has one number a pair or {dim}, as what is derived")
            g = concat(*(to_dim(part, dim) for part in along))
            found = vjp(formula, parts, g)
            return concat(*(zeros(v.dim) if d is None else d for v, d in zip(parts, found, strict=True)))

        return self._derived(derive, self, cotangent, variable)

    def diff(self, variable: Any, tangent: Any) -> Any:
        """The derivative of self as a variable moves along a tangent: the Jacobian times the tangent, pair by pair.

        Parameters
        ----------
        variable : LazyTensor
            One that self was made from.
        tangent : LazyTensor, array or number
            Of the variable's dimension; complex where the variable is.

        Returns
        -------
        LazyTensor, of self's shape

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, w = np.random.rand(4), np.random.rand(6)
        >>> x_i = Vi(x)
        >>> np.allclose((x_i * Vj(w)).exp1j().diff(x_i, 1).dense(), 1j * w * np.exp(1j * x[:, None] * w))
        True
        """
        parts = self._find(variable)

        def derive(formula: Node, along: tuple[Node, ...]) -> Node:
            for v, t in zip(parts, along, strict=True):
                if t.dim not in (1, v.dim):
                    raise ValueError(f"a tangent has one number or {v.dim}, as the variable")
            tangents = {v: spread_to(t, v.dim) for v, t in zip(parts, along, strict=True)}
            return jvp(formula, tangents) or zeros(formula.dim)

        return self._derived(derive, variable, tangent, self)

    def _derived(self, derive: Callable[[Node, tuple[Node, ...]], Node], beside: Any, direction: Any, like: Any) -> Any:
        """What `derive` makes of self's formula and of a direction, in two parts where `beside` is complex; of the kind of `like`."""
        if is_complex(direction) and not beside._complex:
            raise TypeError(f"complex numbers beside those of {beside!r}, which are real: give real ones")
        refuse_lists((self, direction), (self,))
        other = type(beside)(direction)
        formulas, whole = merge((self, other._with(other.formula, other._inner, type(self))))
        formula, along = formulas
        try:
            found = derive(formula, _parts(along) if beside._complex else (along,))
        except ValueError as error:
            raise ValueError(f"a derivative of {self.shape} along {other.shape}: shapes do not fit, {error}") from None
        return whole._with(found, like._inner, type(like))

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
        v = self._real_variable(variable)
        return combine(lambda f, u: adjoint_operator(f, v, u), (self, at), variable._inner)

    def _operated(self, operate: Callable[[Node, Node], Node], variable: LazyTensor, inner: bool) -> LazyTensor:
        v = self._real_variable(variable)
        return combine(lambda f: operate(f, v), (self,), inner)

    def _real_variable(self, variable: Any) -> Node:
        v, *imaginary = self._find(variable)
        if imaginary:
            raise TypeError(f"this is taken with respect to real variables, not {variable!r}: grad and diff take complex ones")
        return v

    def _find(self, variable: Any) -> list[Node]:
        """A variable as self's formula has it; the real and the imaginary part of a complex one."""
        parts = [variable.formula] if isinstance(variable, Symbolic) else []
        if parts and variable._complex:
            parts = [*_parts(variable.formula)]
        if not parts or any(part.op.name != "var" for part in parts):
            raise TypeError(f"derivatives are taken with respect to a LazyTensor made from an array, not {variable!r}")
        found = []
        for part in parts:
            axis, number, *rest = part.attrs
            place = next((k for k, leaf in enumerate(self.leaves) if same(leaf, variable.leaves[number])), None)
            if place is None:
                raise ValueError(f"{self!r} was not made from {variable!r}")
            found.append(var(axis, place, *rest))
        return found


def _parts(vector: Node) -> tuple[Node, Node]:
    """The real and the imaginary part of a complex number's formula."""
    z = from_vector(vector)
    return z.real, z.imag
