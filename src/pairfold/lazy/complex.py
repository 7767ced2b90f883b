"""Complex numbers: a symbolic matrix of them is one real formula, of a vector that holds the real parts, then the imaginary ones.

Its leaves are the real parts and the imaginary parts of the user's arrays, as strided views: nothing is copied, and PyTorch's own
derivatives of `real` and `imag` give gradients in its convention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import partial
from typing import TYPE_CHECKING, Any

from ..arrays import number
from ..formula import complex as numbers
from ..formula.complex import OF_COMPLEX, Complex, from_real, from_vector
from ..formula.graph import Node, apply, to_string, var
from ..formula.operators import OPERATORS
from ..reductions import OF_COMPLEX as MONOIDS
from ..reductions import Reduction
from .axes import Axis, both_spellings
from .derivatives import Derivatives
from .elementwise import Elementwise
from .explained import Explained
from .masks import Masks
from .matrix import Matrix
from .names import Names
from .protocols import Protocols
from .symbolic import Leaf, Symbolic, combine, is_complex, lift, merge, parts_of, unfit
from .vectors import Vectors

if TYPE_CHECKING:
    from .tensor import LazyTensor

# What asks which of two numbers is the larger.
ORDERED = {"lt", "le", "gt", "ge", "minimum", "maximum", "clamp", "relu", "step", "sign", "min", "max", "argmin", "argmax", "min_argmin",
           "max_argmax", "Kmin", "argKmin", "Kmin_argKmin"}  # fmt: skip


class ComplexParts(Symbolic):
    """What real LazyTensors have to do with complex ones."""

    def _apply(self, name: str, *others: Any, attrs: tuple[Any, ...] = (), inner: bool | None = None) -> Any:
        if others or self._complex or OPERATORS[name].typed is not None:
            return operate(name, self, *others, attrs=attrs, inner=inner)
        try:  # without a look at what there is none of: programs build their formulas anew for each call
            formula = apply(name, self.formula, attrs=attrs)
        except ValueError as error:
            raise unfit((self,), type(self), error) from None
        return self._with(formula, (self._inner or formula.dim > 1) if inner is None else inner)

    def real2complex(self) -> ComplexLazyTensor:
        """The same numbers as complex ones, with no imaginary part."""
        return ComplexLazyTensor(self)

    def imag2complex(self) -> ComplexLazyTensor:
        """The numbers times i."""
        return combine_complex(lambda z: z * numbers.I, (self,))

    def exp1j(self) -> ComplexLazyTensor:
        """exp(i · value), accurate for large values too.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, w, b = np.random.randn(4), np.random.randn(6), np.random.randn(6) + 1j * np.random.randn(6)
        >>> np.allclose((Vi(x) * Vj(w)).exp1j() @ b, np.exp(1j * x[:, None] * w) @ b)
        True
        """
        return combine_complex(lambda z: numbers.exp(z * numbers.I), (self,))

    def angle(self) -> LazyTensor:
        """The angle of a complex number, in (-π, π]: for real numbers 0, or π where negative."""
        return combine_complex(numbers.angle, (self,))

    @property
    def real(self) -> LazyTensor:
        """The real part."""
        return combine_complex(lambda z: z.real, (self,))

    @property
    def imag(self) -> LazyTensor:
        """The imaginary part."""
        return combine_complex(lambda z: z.imag, (self,))

    def conj(self) -> Any:
        """The complex conjugate; real numbers are their own."""
        return self._with(self.formula, self._inner)

    @property
    def H(self) -> Any:  # noqa: N802  # PyTorch's name
        """The conjugate transposed matrix: rows and columns exchanged, vectors and batches kept."""
        return self.T.conj()


class ComplexLazyTensor(ComplexParts, Elementwise, Vectors, Derivatives, Explained, Matrix, Masks, Names, Protocols):
    """A symbolic (M, N) matrix of complex numbers, or an (M, N, D) array of vectors of them, that is never stored.

    Made wherever complex numbers come in: by `LazyTensor`, `Vi`, `Vj` and `Pm` of complex arrays and numbers, by arithmetic with
    them, by ``x + 1j * y`` and ``x.exp1j()`` of real LazyTensors. It has their arithmetic and functions, as far as those have a
    meaning for complex numbers; sums, means, products and logsumexp; and products with arrays. ``abs(z)``, ``z.real``, ``z.imag``
    and ``z.angle()`` are real LazyTensors, which have all the rest.

    Parameters
    ----------
    x : array, complex, float, int or LazyTensor
        Of the shapes that `LazyTensor` takes; complex64, complex128, or real.
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
    >>> z, w = np.random.randn(5, 2).view(complex), np.random.randn(7, 2).view(complex)
    >>> K = 1 / (LazyTensor(z) - LazyTensor(w.T))
    >>> K.shape, K.dtype
    ((5, 7), 'complex128')
    >>> np.allclose(K @ w, (1 / (z - w.T)) @ w)
    True
    """

    _complex = True

    def __init__(self, x: Any, axis: int | None = None):
        x = number(x)
        if isinstance(x, complex):
            formulas, whole = merge([lift(part, _real_class()) for part in (x.real, x.imag)])
            x = whole._with(Complex(*formulas).vector, False, ComplexLazyTensor)
        super().__init__(x, axis)
        if isinstance(x, (int, float)) or isinstance(x, Symbolic) and not x._complex:  # arrays have found their parts in `_set_leaf`
            self.formula = from_real(self.formula).vector

    def _set_leaf(self, leaf: Leaf, inner: bool) -> None:
        if not is_complex(leaf.value):
            super()._set_leaf(leaf, inner)
            self.formula = from_real(self.formula).vector
            return
        real, imag = (
            Leaf(part, leaf.axis, (leaf.value, name, getattr(part, "requires_grad", False)))
            for name, part in zip(("real", "imag"), parts_of(leaf.value), strict=True)
        )
        super()._set_leaf(real, inner)
        self.leaves += (imag,)
        self.formula = Complex(self.formula, var(leaf.axis, 1, self.formula.dim)).vector

    @property
    def _dim(self) -> int:
        return self.formula.dim // 2

    @property
    def dtype(self) -> str | None:
        """``"complex64"`` or ``"complex128"``; None while it is made of Python numbers alone."""
        if self._kind is None:
            return None
        return "complex128" if self._kind.backend.real(self._kind.dtype) == "float64" else "complex64"

    def __repr__(self) -> str:
        z = from_vector(self.formula)
        kind = f", {self.dtype}, {self._kind.backend.name}" if self._kind else ""
        return f"ComplexLazyTensor({to_string(z.real)}, {to_string(z.imag)}, shape={self.shape}{kind})"

    # ---- operators
    def _power(self, exponent: int) -> Any:
        return combine_complex(lambda z: numbers.power(z, exponent), (self,))

    def conj(self) -> ComplexLazyTensor:
        """The complex conjugate."""
        return combine_complex(lambda z: z.conj, (self,))

    def abs2(self) -> LazyTensor:
        """The squared absolute value, which costs less than `abs`."""
        return combine_complex(numbers.squared_modulus, (self,))

    def extract(self, i: int, d: int) -> Any:
        """The ``d`` components of each vector from component ``i`` on."""
        return self._of_both(lambda part: part.extract(i, d))

    def _components(self, key: Any) -> Any:
        return self._of_both(lambda part: part._components(key))

    def _of_both(self, pick: Callable[[LazyTensor], LazyTensor]) -> ComplexLazyTensor:
        """What picks components, of both parts."""
        real, imag = map(pick, (self.real, self.imag))
        return self._with(Complex(real.formula, imag.formula).vector, real._inner)

    # ---- reductions
    def _variable(self, array: Any, axis: str) -> LazyTensor:
        return self.real._variable(array, axis)

    def _run(self, formulas: tuple[Node, ...], reduction: Reduction, axis: int, dtype: str | None = None) -> Any:
        """Reduce both parts in one pass."""
        monoid = MONOIDS.get(type(reduction))
        if monoid is None or len(formulas) > 1:
            raise no_meaning(reduction.name, self)
        vectors = self._with(formulas[0], True, _real_class())
        if self._kind:
            dtype = _at_least_single(dtype or self._kind.backend.real(self._kind.dtype))
        parts = vectors._run(formulas, monoid(reduction), axis, dtype)
        found = self._kind.backend.complex(parts[..., : self._dim], parts[..., self._dim :])  # type: ignore[union-attr]
        return found if self._inner else found[..., 0]

    def _results(self, formulas: tuple[Node, ...], reduction: Reduction, axis: int, dtype: str | None = None) -> tuple[Any, ...]:
        raise no_meaning(reduction.name, self)

    def _finished(self, result: Any, axes: Set[int], keepdims: bool) -> Any:
        return self._kept(result, axes) if keepdims else result[()]

    @both_spellings
    def var(self, axis: Axis = None, keepdims: bool = False, ddof: float | None = None, correction: float | None = None) -> Any:
        """Variance, the mean squared distance to the mean: that of the real parts and that of the imaginary parts. See `LazyTensor.var`."""
        of_real, of_imag = (part.var(axis, keepdims, ddof, correction) for part in (self.real, self.imag))
        return of_real + of_imag

    @both_spellings
    def norm(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Euclidean norm of each row or column, or of each vector; the Frobenius norm along both axes. See `LazyTensor.norm`."""
        return abs(self).norm(axis, keepdims)


def _real_class() -> Any:
    from .tensor import LazyTensor

    return LazyTensor


def _at_least_single(dtype: str) -> str:
    """The type of the parts of a result: there are no complex numbers of half precision."""
    return "float64" if dtype == "float64" else "float32"


def no_meaning(name: str, of: Any) -> TypeError:
    why = "they have no order" if name in ORDERED else "it takes real ones alone"
    return TypeError(f"{name} of complex numbers: {why}; take abs(z), z.real, z.imag or z.angle() first, of z = {of!r}")


def operate(name: str, *parts: Any, attrs: tuple[Any, ...] = (), inner: bool | None = None) -> Any:
    """The operator of that name on LazyTensors, arrays and numbers, real or complex; see `combine`.

    Raises
    ------
    TypeError
        Where some are complex, and the operator has no meaning for complex numbers.
    """
    if True not in map(is_complex, parts):
        return combine(partial(apply, name, attrs=attrs), parts, inner, OPERATORS[name].typed)
    if name not in OF_COMPLEX:
        raise no_meaning(name, next(filter(is_complex, parts)))
    return combine_complex(OF_COMPLEX[name], parts, inner)


def combine_complex(build: Callable[..., Complex | Node], parts: Sequence[Any], inner: bool | None = None) -> Any:
    """What a function of complex formulas makes of several LazyTensors, arrays and numbers, real or complex: as `combine`."""
    formulas, whole = merge([ComplexLazyTensor(p) if isinstance(p, Symbolic) else p for p in parts])
    try:
        found = build(*map(from_vector, formulas))
        formula = found if isinstance(found, Node) else found.vector
    except ValueError as error:
        raise unfit(parts, ComplexLazyTensor, error) from None
    of = _real_class() if isinstance(found, Node) else ComplexLazyTensor
    return whole._with(formula, (whole._inner or found.dim > 1) if inner is None else inner, of)
