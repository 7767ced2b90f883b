"""Functions of the vector that a pair has: norms, products, components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..arrays import number
from ..formula.graph import apply
from ..formula.operators import extract
from .parameters import whole_number, whole_numbers
from .symbolic import Symbolic, combine

if TYPE_CHECKING:
    from .tensor import LazyTensor


class Vectors(Symbolic):
    """What acts on the inner axis."""

    def sqnorm2(self) -> LazyTensor:
        """The squared Euclidean norm of each vector."""
        return self._apply("sqnorm2", inner=False)

    def norm2(self) -> LazyTensor:
        """The Euclidean norm of each vector."""
        return self._apply("norm2", inner=False)

    def normalize(self) -> LazyTensor:
        """Each vector over its Euclidean norm; 0 stays 0."""
        return self._apply("normalize")

    def sqdist(self, other: Any) -> LazyTensor:
        """The squared Euclidean distance between vectors."""
        return self._apply("sqdist", other, inner=False)

    def dot(self, other: Any) -> LazyTensor:
        """The inner product of vectors, as ``|``."""
        return self | other

    def concat(self, other: Any, axis: int = -1) -> LazyTensor:
        """The components of self, then those of other."""
        self._inner_axis("concat", axis)
        return self._apply("concat", other, inner=True)

    def elem(self, i: int) -> LazyTensor:
        """Component ``i`` of each vector."""
        if isinstance(i, int) and -self._dim <= i < 0:
            i += self._dim
        return self.extract(i, 1)._without_inner()

    def extract(self, i: int, d: int) -> LazyTensor:
        """The ``d`` components of each vector from component ``i`` on.

        Raises
        ------
        ValueError
            Where the vectors have fewer.
        """
        i, d = whole_number("extract", i), whole_number("extract", d)
        return combine(lambda a: apply("extract", a, attrs=(i, d)) if (i, d) != (0, a.dim) else extract(a, i, d), (self,), True)

    def elemT(self, i: int, n: int) -> LazyTensor:  # noqa: N802  # KeOps's names
        """A vector of ``n`` components that is self at component ``i`` and 0 elsewhere: the transpose of `elem`."""
        return self.extractT(i, n)

    def extractT(self, i: int, d: int) -> LazyTensor:  # noqa: N802
        """A vector of ``d`` components that holds self's from component ``i`` on, and 0 elsewhere: the transpose of `extract`."""
        return self._apply("insert", attrs=(whole_number("extractT", i), whole_number("extractT", d)), inner=True)

    def one_hot(self, D: int) -> LazyTensor:  # noqa: N803
        """A vector of ``D`` components: 1 at the component whose number self is, rounded, and 0 elsewhere.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi
        >>> Vi(np.array([2, 0])).one_hot(3).sum(axis=1)
        array([[0., 0., 1.],
               [1., 0., 0.]])
        """
        return self._apply("one_hot", attrs=(whole_number("one_hot", D),), inner=True)

    def bspline(self, t: Any, k: int = 0) -> LazyTensor:
        """The values at ``t`` of all B-splines of degree ``k`` on the knots that self holds in increasing order (de Boor, 1978).

        Unlike in KeOps, they have derivatives, by ``t`` and by the knots. Intervals hold their left ends alone: at the last knot all
        are 0, where SciPy takes the limit from below.

        Parameters
        ----------
        t : LazyTensor or array
            Of one component.
        k : int
            The degree; n knots have n - k - 1 splines.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Pm, Vi
        >>> Pm(np.array([0.0, 1.0, 2.0, 3.0])).bspline(Vi(np.array([0.25])), 1).sum(axis=1)
        array([[0.25, 0.  ]])
        """
        return self._apply("bspline", t, attrs=(whole_number("bspline", k),), inner=True)

    def matvecmult(self, v: Any) -> LazyTensor:
        """The matrix that self holds, row after row, times a vector.

        Parameters
        ----------
        v : LazyTensor or array
            Of D components, where self has E · D.

        Returns
        -------
        LazyTensor, (…, M, N, E)

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Pm, Vi
        >>> A, x = np.random.rand(2, 3), np.random.rand(4, 3)
        >>> np.allclose(Pm(A.ravel()).matvecmult(Vi(x)).sum(axis=1), x @ A.T)
        True
        """
        return self._apply("matvecmult", v, inner=True)

    def vecmatmult(self, A: Any) -> LazyTensor:  # noqa: N803
        """Self as a row times the matrix that ``A`` holds, row after row: see `matvecmult`."""
        return self._apply("vecmatmult", A, inner=True)

    def tensorprod(self, other: Any) -> LazyTensor:
        """All products of a component of self and one of other, those of self's first component first."""
        return self._apply("tensorprod", other, inner=True)

    def difference_matrix(self, other: Any) -> LazyTensor:
        """All differences of a component of self and one of other, those of self's first component first."""
        return self._apply("difference_matrix", other, inner=True)

    def tensordot(self, other: Any, shape: Any, other_shape: Any, axes: Any = (), other_axes: Any = (), places: Any = ()) -> LazyTensor:
        """The tensors that self and other hold, summed over pairs of their axes, as `numpy.tensordot`.

        Parameters
        ----------
        other : LazyTensor or array
        shape, other_shape : tuple of int
            Of the two tensors.
        axes, other_axes : tuple of int
            Which axes are summed over.
        places : tuple of int, optional
            Where each axis that stays goes, self's first.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Pm
        >>> a, b = np.random.rand(2, 3), np.random.rand(3, 4)
        >>> product = Pm(a.ravel()).tensordot(Pm(b.ravel()), (2, 3), (3, 4), (1,), (0,))
        >>> np.allclose(product.sum(axis=1), (a @ b).ravel())
        True
        """
        given = (shape, other_shape, axes, other_axes, places)
        attrs = tuple(whole_numbers("tensordot", some) for some in given)
        return self._apply("tensordot", other, attrs=attrs if attrs[-1] else attrs[:-1], inner=True)

    def keops_tensordot(self, other: Any, dimfa: Any, dimfb: Any, contfa: Any, contfb: Any, *permute: Any) -> LazyTensor:
        """As `tensordot`, by KeOps's name."""
        return self.tensordot(other, dimfa, dimfb, contfa, contfb, *permute)

    def kron(self, other: Any, shape: Any, other_shape: Any) -> LazyTensor:
        """The Kronecker product of the tensors of these shapes that self and other hold, as `numpy.kron`."""
        shapes = whole_numbers("kron", shape), whole_numbers("kron", other_shape)
        return self._apply("kron", other, attrs=shapes, inner=True)

    keops_kron = kron

    def weightedsqnorm(self, s: Any) -> LazyTensor:
        """The squared norm weighted by ``s``: s |a|², Σ s_k a_k² or Σ s_kl a_k a_l, as s has 1, D or D² components.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Pm, Vi
        >>> x, s = np.random.rand(4, 3), np.random.rand(3)
        >>> np.allclose(Vi(x).weightedsqnorm(Pm(s)).sum(axis=1), (s * x**2).sum(1))
        True
        """
        return combine(lambda a, w: apply("weightedsqnorm", w, a), (self, s), False)

    def weightedsqdist(self, other: Any, s: Any) -> LazyTensor:
        """The squared distance weighted by ``s``: see `weightedsqnorm`."""
        return combine(lambda a, b, w: apply("weightedsqdist", w, a, b), (self, other, s), False)

    def symsqnorm(self, s: Any) -> LazyTensor:
        """As `weightedsqnorm`, by KeOps's name for a symmetric matrix of weights.

        Raises
        ------
        ValueError
            Where `s` does not have D² components.
        """
        weights = self._lift(s)
        if weights._dim != self._dim**2:
            raise ValueError(f"symsqnorm takes a matrix of {self._dim}² = {self._dim**2} numbers, not {weights._dim}")
        return self.weightedsqnorm(weights)

    def softdtw_sqdist(self, other: Any, gamma: Any) -> LazyTensor:
        """Soft dynamic time warping: the cost of aligning two sequences of numbers, by squared differences.

        Parameters
        ----------
        other : LazyTensor or array
            A sequence of any length; self is one too.
        gamma : LazyTensor, array or number
            The smoothness, above 0; near 0 the cost is that of the best alignment.

        Notes
        -----
        The minimum over all alignments is replaced by -γ log Σ exp(-cost/γ) (Cuturi and Blondel, 2017). Unlike in KeOps, it has
        derivatives of any order, and by gamma too. The code grows with the product of the lengths.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 0.0, 1.0, 2.0], [1.0, 2.0, 3.0, 3.0]])
        >>> Vi(x).softdtw_sqdist(Vj(y), 1e-3).dense().round(3)
        array([[0., 3.]])
        """
        if isinstance(number(gamma), (int, float)) and not number(gamma) > 0:
            raise ValueError(f"softdtw_sqdist takes a gamma above 0, not {gamma!r}")
        return self._apply("softdtw_sqdist", other, gamma, inner=False)

    def cross(self, other: Any) -> LazyTensor:
        """The cross product of vectors of three components.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(4, 3), np.random.rand(5, 3)
        >>> np.allclose(Vi(x).cross(Vj(y)).sum(axis=1), np.cross(x[:, None], y).sum(1))
        True
        """
        return self._apply("cross", other, inner=True)
