"""LazyTensor: a symbolic matrix, made of arrays and operators, that is only ever computed when it is reduced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from .arrays import backend_of, is_array
from .arrays.base import BITS, Backend
from .fold import flip, make_fold, renumber
from .formula.differentiate import jvp, vjp
from .formula.graph import J, Node, apply, const, to_string, var
from .formula.operators import extract, power
from .reductions import KMIN, REDUCTIONS, Reduction

Number = int | float


class Kind(NamedTuple):
    """What all arrays of a formula share."""

    backend: Backend
    dtype: str
    device: str


class Leaf:
    """An array, or a Python number, that a formula's variable stands for.

    Attributes
    ----------
    value : array or float
        (M, D) along i, (N, D) along j, (D,) for a parameter; read in place, never copied.
    axis : str
        ``"i"``, ``"j"`` or ``"p"``.
    """

    __slots__ = ("axis", "value")

    def __init__(self, value: Any, axis: str):
        self.value, self.axis = value, axis


class LazyTensor:
    """A symbolic (M, N) matrix, or an (M, N, D) array of vectors, that is never stored.

    Arithmetic, functions and comparisons build a formula; a reduction along i or j, or a product with an array, computes it
    with memory linear in M + N. Arrays may be NumPy's or PyTorch's, float32 or float64; results are arrays of the same kind,
    and for PyTorch take part in autograd to any order.

    Parameters
    ----------
    x : array, float or int
        (M, 1, D): a vector for each row i. (1, N, D): a vector for each column j. (D,) or (1, 1, D): a vector of parameters.
        (M, 1) and (1, N): a number for each row, for each column. A number, or an array of one number: a parameter.
    axis : int, optional
        With an array of shape (M, D): 0 for rows, 1 for columns.

    Raises
    ------
    ValueError
        Where the shape is none of these.
    TypeError
        Where the numbers are neither float32 nor float64.

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

    # NumPy and PyTorch leave operators with an array on the left to us.
    __array_ufunc__ = None
    __array_priority__ = 1000
    __iter__ = None

    formula: Node
    leaves: tuple[Leaf, ...]
    _inner: bool  # whether the shape has an inner axis
    _kind: Kind | None  # None while it is made of Python numbers alone
    _lengths: tuple[int | None, int | None]  # along i and j; None where nothing depends on the axis

    def __init__(self, x: Any, axis: int | None = None):
        if isinstance(x, LazyTensor):
            self.formula, self.leaves, self._inner, self._kind, self._lengths = x.formula, x.leaves, x._inner, x._kind, x._lengths
            return
        self._kind, self._lengths = None, (None, None)
        if is_array(x) and backend_of(x).dtype(x) not in BITS:
            x = _number(x)
        if isinstance(x, bool) or not (isinstance(x, (int, float)) or is_array(x)):
            raise TypeError(f"a LazyTensor is made from a NumPy array, a PyTorch tensor or a number, not from {type(x).__name__}")
        if isinstance(x, (int, float)):
            self._inner = False
            if isinstance(x, int) or (2 * x).is_integer() and abs(x) <= 4:
                # Whole numbers and simple halves are part of the formula; other numbers may change without compiling anew.
                self.formula, self.leaves = const(x), ()
            else:
                magnitude = var("p", 0, 1, 1) if x == x else var("p", 0, 1)
                self.formula, self.leaves = (-magnitude if x < 0 else magnitude), (Leaf(abs(x), "p"),)
            return
        self._set_leaf(*_classify(x, axis))

    def _set_leaf(self, leaf: Leaf, inner: bool) -> None:
        """Become the variable that stands for an array."""
        self.leaves, self._inner = (leaf,), inner
        self.formula = var(leaf.axis, 0, int(leaf.value.shape[-1]))
        self._kind = _kind_of(leaf.value)
        length = None if leaf.axis == "p" else int(leaf.value.shape[0])
        self._lengths = (length, None) if leaf.axis == "i" else (None, length)

    def _with(self, formula: Node, inner: bool) -> LazyTensor:
        """Another formula of the same variables."""
        made = LazyTensor.__new__(LazyTensor)
        made.formula, made._inner = formula, inner
        made.leaves, made._kind, made._lengths = self.leaves, self._kind, self._lengths
        return made

    # ---- what it is
    @property
    def shape(self) -> tuple[int, ...]:
        """(M, N), or (M, N, D) where each pair has a vector; an axis on which nothing depends has length 1."""
        outer = tuple(1 if n is None else n for n in self._lengths)
        return (*outer, self.formula.dim) if self._inner else outer

    @property
    def ndim(self) -> int:
        """The number of axes, 2 or 3."""
        return len(self.shape)

    @property
    def dtype(self) -> str | None:
        """``"float32"`` or ``"float64"``; None while it is made of Python numbers alone."""
        return self._kind.dtype if self._kind else None

    def __repr__(self) -> str:
        kind = f", {self._kind.dtype}, {self._kind.backend.name}" if self._kind else ""
        return f"LazyTensor({to_string(self.formula)}, shape={self.shape}{kind})"

    def __len__(self) -> int:
        return self.shape[0]

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"the truth value of a symbolic {self.shape} matrix is not known: it has an entry for each pair. "
            "Reduce it first, e.g. K.sum(dim=1) or K.max(dim=1)"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise TypeError(
            f"a symbolic matrix of shape {self.shape} is not turned into an array behind your back: "
            "reduce it, e.g. K.sum(axis=1) or K @ b, or compute the dense formula with NumPy"
        )

    def __float__(self) -> NoReturn:
        self.__array__()

    __int__ = __index__ = __complex__ = __float__

    __hash__ = object.__hash__

    # ---- building formulas
    def _apply(self, name: str, *others: Any, attrs: tuple[Any, ...] = (), inner: bool | None = None) -> LazyTensor:
        """The operator of that name on self and others, which may be LazyTensors, arrays or numbers."""
        return _combine(lambda *nodes: apply(name, *nodes, attrs=attrs), (self, *others), inner)

    def __add__(self, other: Any) -> LazyTensor:
        return self._apply("add", other)

    def __sub__(self, other: Any) -> LazyTensor:
        return self._apply("sub", other)

    def __mul__(self, other: Any) -> LazyTensor:
        return self._apply("mul", other)

    def __truediv__(self, other: Any) -> LazyTensor:
        return self._apply("div", other)

    def __or__(self, other: Any) -> LazyTensor:
        return self._apply("dot", other, inner=False)

    def __radd__(self, other: Any) -> LazyTensor:
        return _lift(other)._apply("add", self)

    def __rsub__(self, other: Any) -> LazyTensor:
        return _lift(other)._apply("sub", self)

    def __rmul__(self, other: Any) -> LazyTensor:
        return _lift(other)._apply("mul", self)

    def __rtruediv__(self, other: Any) -> LazyTensor:
        return _lift(other)._apply("div", self)

    def __ror__(self, other: Any) -> LazyTensor:
        return _lift(other) | self

    def __neg__(self) -> LazyTensor:
        return self._apply("neg")

    def __pos__(self) -> LazyTensor:
        return self

    def __abs__(self) -> LazyTensor:
        return self.abs()

    def __pow__(self, exponent: Any) -> LazyTensor:
        """Whole powers by multiplication, 0.5 and -0.5 by roots, others by the general power."""
        if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
            if float(exponent).is_integer() and abs(exponent) < 2**31:
                return _combine(lambda a: power(a, int(exponent)), (self,))
            if abs(exponent) == 0.5:
                return self.sqrt() if exponent > 0 else self.rsqrt()
        return self._apply("pow", exponent)

    def __rpow__(self, base: Any) -> LazyTensor:
        return _lift(base)._apply("pow", self)

    def __lt__(self, other: Any) -> LazyTensor:
        return self._apply("lt", other)

    def __le__(self, other: Any) -> LazyTensor:
        return self._apply("le", other)

    def __gt__(self, other: Any) -> LazyTensor:
        return self._apply("gt", other)

    def __ge__(self, other: Any) -> LazyTensor:
        return self._apply("ge", other)

    def __eq__(self, other: Any) -> LazyTensor:  # type: ignore[override]
        return self._apply("eq", other)

    def __ne__(self, other: Any) -> LazyTensor:  # type: ignore[override]
        return self._apply("ne", other)

    def exp(self) -> LazyTensor:
        """The exponential."""
        return self._apply("exp")

    def log(self) -> LazyTensor:
        """The natural logarithm."""
        return self._apply("log")

    def sqrt(self) -> LazyTensor:
        """The square root; its derivative at 0 is taken as 0."""
        return self._apply("sqrt")

    def rsqrt(self) -> LazyTensor:
        """One over the square root."""
        return self._apply("rsqrt")

    def square(self) -> LazyTensor:
        """The square."""
        return self._apply("square")

    def abs(self) -> LazyTensor:
        """The absolute value."""
        return self._apply("abs")

    def sign(self) -> LazyTensor:
        """-1, 0 or 1."""
        return self._apply("sign")

    def step(self) -> LazyTensor:
        """1 where ≥ 0, else 0; nan stays nan."""
        return self._apply("step")

    def relu(self) -> LazyTensor:
        """The larger of the value and 0."""
        return self._apply("relu")

    def sin(self) -> LazyTensor:
        """The sine."""
        return self._apply("sin")

    def cos(self) -> LazyTensor:
        """The cosine."""
        return self._apply("cos")

    def log1p(self) -> LazyTensor:
        """log(1 + value), accurate near 0."""
        return self._apply("log1p")

    def expm1(self) -> LazyTensor:
        """exp(value) - 1, accurate near 0."""
        return self._apply("expm1")

    def tan(self) -> LazyTensor:
        """The tangent."""
        return self._apply("tan")

    def asin(self) -> LazyTensor:
        """The inverse sine."""
        return self._apply("asin")

    def acos(self) -> LazyTensor:
        """The inverse cosine."""
        return self._apply("acos")

    def atan(self) -> LazyTensor:
        """The inverse tangent."""
        return self._apply("atan")

    def sinh(self) -> LazyTensor:
        """The hyperbolic sine."""
        return self._apply("sinh")

    def cosh(self) -> LazyTensor:
        """The hyperbolic cosine."""
        return self._apply("cosh")

    def tanh(self) -> LazyTensor:
        """The hyperbolic tangent."""
        return self._apply("tanh")

    def sigmoid(self) -> LazyTensor:
        """1 / (1 + exp(-value))."""
        return self._apply("sigmoid")

    def softplus(self) -> LazyTensor:
        """log(1 + exp(value))."""
        return self._apply("softplus")

    def erf(self) -> LazyTensor:
        """The error function."""
        return self._apply("erf")

    def erfc(self) -> LazyTensor:
        """One minus the error function."""
        return self._apply("erfc")

    def gelu(self) -> LazyTensor:
        """The value times the normal distribution function of it."""
        return self._apply("gelu")

    def xlogx(self) -> LazyTensor:
        """value · log(value), 0 at 0."""
        return self._apply("xlogx")

    def sinxdivx(self) -> LazyTensor:
        """sin(value) / value, 1 at 0."""
        return self._apply("sinxdivx")

    def floor(self) -> LazyTensor:
        """The next lower whole number."""
        return self._apply("floor")

    def ceil(self) -> LazyTensor:
        """The next higher whole number."""
        return self._apply("ceil")

    def trunc(self) -> LazyTensor:
        """The whole number towards 0."""
        return self._apply("trunc")

    def inv(self) -> LazyTensor:
        """One over the value."""
        return self._apply("inv")

    sinc = sinxdivx

    def round(self, decimals: int = 0) -> LazyTensor:
        """The value rounded to a number of decimals, ties to even, as NumPy does."""
        if isinstance(decimals, bool) or not hasattr(decimals, "__index__"):
            raise TypeError(f"round takes a whole number of decimals, not {decimals!r}")
        return self._apply("round", attrs=(decimals.__index__(),))

    def atan2(self, other: Any) -> LazyTensor:
        """The angle of the point (other, self), pair by pair."""
        return self._apply("atan2", other)

    def hypot(self, other: Any) -> LazyTensor:
        """sqrt(self² + other²) without overflow, pair by pair."""
        return self._apply("hypot", other)

    def logaddexp(self, other: Any) -> LazyTensor:
        """log(exp(self) + exp(other)) without overflow, pair by pair."""
        return self._apply("logaddexp", other)

    def mod(self, modulus: Any, offset: Any = 0) -> LazyTensor:
        """The value less the multiple of the modulus that brings it to [offset, offset + modulus)."""
        if isinstance(offset, (int, float)) and offset == 0:
            return self._apply("mod", modulus)
        return (self - offset)._apply("mod", modulus) + offset

    def __mod__(self, modulus: Any) -> LazyTensor:
        return self.mod(modulus)

    def power(self, exponent: Any) -> LazyTensor:
        """As ``**``."""
        return self**exponent

    pow = power

    def clamp(self, low: Any, high: Any) -> LazyTensor:
        """The value kept between two bounds, which may be numbers, arrays or LazyTensors."""
        return self._apply("clamp", low, high)

    def minimum(self, other: Any) -> LazyTensor:
        """The smaller of two, pair by pair."""
        return self._apply("minimum", other)

    def maximum(self, other: Any) -> LazyTensor:
        """The larger of two, pair by pair."""
        return self._apply("maximum", other)

    def ifelse(self, a: Any, b: Any) -> LazyTensor:
        """``a`` where self is ≥ 0, else ``b``, as in KeOps."""
        return where(self >= 0, a, b)

    def sqnorm2(self) -> LazyTensor:
        """The squared Euclidean norm of each vector."""
        return self._apply("sqnorm2", inner=False)

    def norm2(self) -> LazyTensor:
        """The Euclidean norm of each vector."""
        return self._apply("norm2", inner=False)

    def norm(self, dim: int = -1) -> LazyTensor:
        """The Euclidean norm of each vector; ``dim`` can only be the inner axis."""
        self._inner_axis("norm", dim)
        return self.norm2()

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
        if isinstance(i, int) and -self.formula.dim <= i < 0:
            i += self.formula.dim
        return self.extract(i, 1)._without_inner()

    def extract(self, i: int, d: int) -> LazyTensor:
        """The ``d`` components of each vector from component ``i`` on.

        Raises
        ------
        ValueError
            Where the vectors have fewer.
        """
        for name, value in (("i", i), ("d", d)):
            if not isinstance(value, int):
                raise TypeError(f"extract takes whole numbers, not {name} = {value!r}")
        return _combine(lambda a: apply("extract", a, attrs=(i, d)) if (i, d) != (0, a.dim) else extract(a, i, d), (self,), True)

    def __getitem__(self, key: Any) -> LazyTensor:
        """Components: ``K[..., k]`` and ``K[:, :, a:b]``; rows and columns cannot be indexed yet."""
        inner = _inner_key(key)
        dim = self.formula.dim
        if isinstance(inner, int):
            if not -dim <= inner < dim:
                raise IndexError(f"component {inner} of vectors of dimension {dim}, in {self!r}")
            return self.elem(inner % dim)
        start, stop, step = inner.indices(dim)
        if step != 1 or stop <= start:
            raise IndexError(f"components are taken by a non-empty slice of step 1, not {inner}, of vectors of dimension {dim}")
        return self.extract(start, stop - start)

    def _without_inner(self) -> LazyTensor:
        return self._with(self.formula, False)

    @property
    def T(self) -> LazyTensor:  # noqa: N802  # NumPy's name
        """The transposed matrix: rows and columns exchanged, vectors kept."""
        other = {"i": "j", "j": "i", "p": "p"}
        (formula,) = flip((self.formula,))
        transposed = self._with(formula, self._inner)
        transposed.leaves = tuple(Leaf(leaf.value, other[leaf.axis]) for leaf in self.leaves)
        transposed._lengths = (self._lengths[1], self._lengths[0])
        return transposed

    def t(self) -> LazyTensor:
        """As ``T``."""
        return self.T

    # ---- derivatives, symbolic
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
            wrt = var(variable.leaves[0].axis, number, variable.formula.dim)
            (found,) = vjp(formula, [wrt], g)
            return found if found is not None else apply("spread", 0, attrs=(wrt.dim,))

        return _combine(derive, (self, cotangent), variable._inner)

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
            wrt = var(variable.leaves[0].axis, number, variable.formula.dim)
            return jvp(formula, {wrt: t}) or apply("spread", 0, attrs=(formula.dim,))

        return _combine(derive, (self, tangent), self._inner)

    def _find(self, variable: LazyTensor) -> int:
        """The number of a variable among self's leaves."""
        if not isinstance(variable, LazyTensor) or variable.formula.op.name != "var":
            raise TypeError(f"derivatives are taken with respect to a LazyTensor made from an array, not {variable!r}")
        for number, leaf in enumerate(self.leaves):
            if _same(leaf, variable.leaves[0]):
                return number
        raise ValueError(f"{self!r} was not made from {variable!r}")

    # ---- reductions
    def _reduce(self, reduction: Reduction, axis: int | None, dim: int | None, weight: Any = None) -> Any:
        chosen = _choose_axis(reduction.name, axis, dim)
        if chosen not in (0, 1):
            raise ValueError(f"{reduction.name} runs along axis 0 (rows) or 1 (columns) of {self.shape}, not along axis {chosen}")
        if weight is None:
            return _run(self, (self.formula,), reduction, chosen)
        formulas, whole = _merge((self, weight))
        return _run(whole, tuple(formulas), reduction, chosen)

    def _inner_axis(self, name: str, axis: int) -> None:
        if axis not in (-1, 2):
            raise ValueError(f"{name} works along the inner axis, -1 or 2, not along axis {axis} of {self.shape}")

    def _inner_or_outer(self, name: str, axis: int | None, dim: int | None) -> Any:
        chosen = _choose_axis(name, axis, dim)
        if chosen in (-1, 2):
            return self._apply(name, inner=False)
        return self._reduce(REDUCTIONS[name](), chosen, None)

    def sum(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Sum along axis 0 or 1, or of the components of each vector along the inner axis, -1 or 2.

        Parameters
        ----------
        axis, dim : int
            NumPy's and PyTorch's names for the same.

        Returns
        -------
        LazyTensor
            Along the inner axis.
        array, (N,) or (N, D) along axis 0, (M,) or (M, D) along axis 1
            Sums are accumulated tile by tile.
        """
        return self._inner_or_outer("sum", axis, dim)

    def min(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Minimum along axis 0 or 1, or over the components of each vector along the inner axis; nan wins, as in NumPy."""
        return self._inner_or_outer("min", axis, dim)

    def max(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Maximum along axis 0 or 1, or over the components of each vector along the inner axis; nan wins, as in NumPy."""
        return self._inner_or_outer("max", axis, dim)

    def prod(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Product along axis 0 or 1."""
        return self._reduce(REDUCTIONS["prod"](), axis, dim)

    def argmin(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Index of the minimum along axis 0 or 1, int64; ties go to the lowest, nan counts as smallest. -1 where there is none."""
        return self._reduce(REDUCTIONS["argmin"](), axis, dim)

    def argmax(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Index of the maximum along axis 0 or 1, int64; ties go to the lowest, nan counts as largest. -1 where there is none."""
        return self._reduce(REDUCTIONS["argmax"](), axis, dim)

    def min_argmin(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Minimum and its index: two arrays from one pass."""
        return self._reduce(REDUCTIONS["min_argmin"](), axis, dim)

    def max_argmax(self, axis: int | None = None, dim: int | None = None) -> Any:
        """Maximum and its index: two arrays from one pass."""
        return self._reduce(REDUCTIONS["max_argmax"](), axis, dim)

    def Kmin(self, K: int, axis: int | None = None, dim: int | None = None) -> Any:  # noqa: N802, N803  # KeOps's names
        """The K smallest values along axis 0 or 1, in increasing order; nan comes last.

        Returns
        -------
        array, (M, K), or (M, K, D) where each pair has a vector

        Raises
        ------
        ValueError
            Where K is no whole number from 1 to the number of columns.
        """
        return self._k_smallest("Kmin", K, axis, dim)

    def argKmin(self, K: int, axis: int | None = None, dim: int | None = None) -> Any:  # noqa: N802, N803
        """The indices, int64, of the K smallest values along axis 0 or 1; ties go to the lowest. See `Kmin`."""
        return self._k_smallest("argKmin", K, axis, dim)

    def Kmin_argKmin(self, K: int, axis: int | None = None, dim: int | None = None) -> Any:  # noqa: N802, N803
        """The K smallest values and their indices: two arrays from one pass. See `Kmin`."""
        return self._k_smallest("Kmin_argKmin", K, axis, dim)

    def _k_smallest(self, name: str, K: int, axis: int | None, dim: int | None) -> Any:  # noqa: N803
        if isinstance(K, bool) or not hasattr(K, "__index__"):
            raise TypeError(f"{name} takes a whole number K, not {K!r}")
        K = K.__index__()
        chosen = _choose_axis(name, axis, dim)
        there = self.shape[chosen] if chosen in (0, 1) else K
        if not 1 <= K <= there:
            raise ValueError(f"{name} with K = {K}: K must lie between 1 and {there}, the length of axis {chosen} of {self.shape}")
        return self._reduce(KMIN[name](K), chosen, None)

    def logsumexp(self, axis: int | None = None, dim: int | None = None, weight: Any = None) -> Any:
        """log Σ exp, along axis 0 or 1, without overflow; with a weight, log Σ weight · exp.

        Parameters
        ----------
        axis, dim : int
        weight : LazyTensor or array, optional
            Of one component or as many as self; the result then has as many as the longer.
        """
        return self._reduce(REDUCTIONS["logsumexp" if weight is None else "logsumexp_weight"](), axis, dim, weight)

    def sumsoftmaxweight(self, weight: Any, axis: int | None = None, dim: int | None = None) -> Any:
        """Σ exp · weight / Σ exp along axis 0 or 1: the mean of the weights under the softmax, as in attention."""
        return self._reduce(REDUCTIONS["sumsoftmaxweight"](), axis, dim, weight)

    def __matmul__(self, b: Any) -> Any:
        """The product of the (M, N) matrix with an array (N,) or (N, E).

        Returns
        -------
        array, (M,) or (M, E)
        """
        if isinstance(b, LazyTensor):
            raise TypeError("K @ b takes an array b; the product of two symbolic matrices is not computed: reduce one of them first")
        if not is_array(b):
            raise TypeError(f"K @ b takes an array b, not {type(b).__name__}")
        if self._inner and self.formula.dim != 1:
            raise ValueError(f"K @ b needs one number for each pair, but K has shape {self.shape}, in {to_string(self.formula)}")
        columns = self.shape[1]
        if b.ndim not in (1, 2) or b.shape[0] != columns and self.formula.axes & J:
            raise ValueError(
                f"K @ b: K has shape {self.shape[:2]}, so b must have shape ({columns},) or ({columns}, E), not {tuple(b.shape)}"
            )
        return self._without_inner()._apply("mul", Vj(b)).sum(1)

    def __rmatmul__(self, b: Any) -> Any:
        """The product of an array (M,) or (E, M) with the (M, N) matrix: (N,) or (E, N)."""
        if not is_array(b):
            raise TypeError(f"b @ K takes an array b, not {type(b).__name__}")
        backend = backend_of(b)
        return self.T @ b if b.ndim == 1 else backend.transpose(self.T @ backend.transpose(b))

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """A PyTorch operator with a tensor on the left and a LazyTensor on the right."""
        name = getattr(function, "__name__", "")
        reflected = {"add": "__radd__", "sub": "__rsub__", "mul": "__rmul__", "div": "__rtruediv__", "true_divide": "__rtruediv__",
                     "pow": "__rpow__", "matmul": "__rmatmul__", "lt": "__gt__", "le": "__ge__", "gt": "__lt__", "ge": "__le__",
                     "eq": "__eq__", "ne": "__ne__"}.get(name.strip("_").removeprefix("r"))  # fmt: skip
        if reflected and not kwargs and len(args) == 2:
            if isinstance(args[1], cls) and not isinstance(args[0], cls):
                tensor, lazy = args
                if name.startswith("__r"):  # Tensor.__rsub__(tensor, lazy) is lazy - tensor
                    return getattr(lazy, name.replace("__r", "__", 1))(tensor)
                return getattr(lazy, reflected)(tensor)
            direct = {"div": "truediv", "true_divide": "truediv"}.get(name, name.strip("_"))
            return getattr(args[0], f"__{direct}__")(args[1])
        raise TypeError(
            f"torch.{name} does not take a symbolic matrix: use its methods, e.g. K.exp(), or reduce it first, e.g. K.sum(dim=1)"
        )


# ---- functions


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
    """A variable along j: a vector for each column from an (N, D) array, or a number from an (N,) array."""
    return _variable(x, "j")


def Pm(x: Any) -> LazyTensor:  # noqa: N802
    """A parameter, the same for all pairs: a number, or a vector from a (D,) array."""
    if is_array(x) and (x.ndim > 1 and tuple(x.shape[:-1]) not in ((1,), (1, 1))):
        raise ValueError(f"Pm takes a number or an array of shape (D,), not {tuple(x.shape)}")
    return LazyTensor(x.reshape(-1)) if is_array(x) and x.ndim else LazyTensor(x)


def _variable(x: Any, axis: str) -> LazyTensor:
    name = f"V{axis}"
    if not is_array(x):
        raise TypeError(f"{name} takes a NumPy array or a PyTorch tensor, not {type(x).__name__}")
    if _readable(x).ndim not in (1, 2):
        raise ValueError(f"{name} takes an array of shape ({'M' if axis == 'i' else 'N'}, D), not {tuple(x.shape)}")
    inner = x.ndim == 2
    if inner and x.shape[1] == 0:
        raise ValueError(f"{name} takes vectors of at least one component, not an array of shape {tuple(x.shape)}")
    value = x if inner else x[:, None]
    made = LazyTensor.__new__(LazyTensor)
    made._set_leaf(Leaf(value, axis), inner)
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
    return _combine(lambda *nodes: apply("where", *nodes), (condition, a, b))


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
    if not tensors:
        raise ValueError("concat takes at least one LazyTensor")
    return _combine(lambda *nodes: apply("concat", *nodes) if len(nodes) > 1 else nodes[0], tuple(tensors), True)


cat = concat


# ---- how LazyTensors are put together


def _number(x: Any) -> Any:
    """A Python number in place of an array of no axes that nothing is differentiated by: it has no part in choosing a type."""
    if is_array(x) and x.ndim == 0 and not getattr(x, "requires_grad", False):
        value = x.item()
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else x
    return x


def _kind_of(x: Any) -> Kind:
    backend = backend_of(x)
    dtype = backend.dtype(x)
    if dtype not in BITS:
        hint = "complex numbers are not supported yet" if dtype.startswith("complex") else f"convert it first, e.g. {backend.convert}"
        raise TypeError(f"arrays must be float32 or float64, not {dtype}: {hint}")
    return Kind(backend, dtype, backend.device(x))


def _readable(x: Any) -> Any:
    """The array, if formulas can be computed from it."""
    why = backend_of(x).unreadable(x)
    if why is not None:
        raise TypeError(f"the array {why}")
    return x


def _classify(x: Any, axis: int | None) -> tuple[Leaf, bool]:
    """Which variable an array is, by its shape, and whether it has an inner axis."""
    shape = tuple(_readable(x).shape)
    if axis is not None:
        if axis not in (0, 1):
            raise ValueError(f"axis must be 0 (rows) or 1 (columns), not {axis!r}")
        if len(shape) != 2:
            raise ValueError(f"with axis={axis} an array has shape ({'MN'[axis]}, D), not {shape}")
        return Leaf(x, "ij"[axis]), True
    if shape and shape[-1] == 0 and len(shape) != 2:
        raise ValueError(f"vectors have at least one component, but the array has shape {shape}")
    if len(shape) == 0:
        return Leaf(x.reshape(1), "p"), False
    if len(shape) == 1:
        return Leaf(x, "p"), shape != (1,)
    if len(shape) == 2:
        if shape == (1, 1):
            return Leaf(x[0], "p"), False
        if shape[1] == 1:
            return Leaf(x, "i"), False
        if shape[0] == 1:
            return Leaf(x[0][:, None], "j"), False
        raise ValueError(
            f"an array of shape {shape} is neither rows nor columns: pass x[:, None, :] for vectors of rows (M, 1, D), "
            "x[None, :, :] for vectors of columns (1, N, D), or LazyTensor(x, axis=0 or 1). "
            "A dense (M, N) matrix cannot be part of a formula"
        )
    if len(shape) == 3:
        if shape[:2] == (1, 1):
            return Leaf(x[0, 0], "p"), True
        if shape[1] == 1:
            return Leaf(x[:, 0], "i"), True
        if shape[0] == 1:
            return Leaf(x[0], "j"), True
        raise ValueError(
            f"an array of shape {shape} has a vector for each pair; a LazyTensor is made from one for each row, (M, 1, D), "
            "or for each column, (1, N, D)"
        )
    raise ValueError(f"an array of shape {shape} has too many axes: a LazyTensor is made from (M, 1, D), (1, N, D) or (D,)")


def _same(a: Leaf, b: Leaf) -> bool:
    return a is b or a.axis == b.axis and a.value is b.value and not isinstance(a.value, float)


def _lift(value: Any) -> LazyTensor:
    return value if isinstance(value, LazyTensor) else LazyTensor(_number(value))


def _merge(parts: Sequence[Any]) -> tuple[list[Node], LazyTensor]:
    """The formulas of several LazyTensors over common leaves, and the first of them with those leaves."""
    lazies = [_lift(p) for p in parts]
    if any(isinstance(p, LazyTensor) and not p._inner for p in parts) and not any(isinstance(p, LazyTensor) and p._inner for p in parts):
        for p in parts:
            if is_array(p) and p.ndim == 1 and p.shape[0] > 1:
                matrix = next(str(q.shape) for q in parts if isinstance(q, LazyTensor))
                raise ValueError(
                    f"an array of shape {tuple(p.shape)} beside a matrix of shape {matrix}: say what it is, Vj(w) for a number for each "
                    "column, Vi(w) for each row, Pm(w) for a vector of parameters"
                )
    kind, lengths = _check(lazies)
    leaves = list(lazies[0].leaves)
    formulas = [lazies[0].formula]
    for lazy in lazies[1:]:
        numbers = []
        for leaf in lazy.leaves:
            found = next((k for k, known in enumerate(leaves) if _same(known, leaf)), None)
            if found is None:
                found = len(leaves)
                leaves.append(leaf)
            numbers.append(found)
        formulas.append(lazy.formula if numbers == list(range(len(numbers))) else renumber((lazy.formula,), tuple(numbers))[0])
    whole = LazyTensor.__new__(LazyTensor)
    whole.formula, whole.leaves, whole._inner = formulas[0], tuple(leaves), any(lazy._inner for lazy in lazies)
    whole._kind, whole._lengths = kind, lengths
    return formulas, whole


def _check(lazies: Sequence[LazyTensor]) -> tuple[Kind | None, tuple[int | None, int | None]]:
    """The arrays' common kind and lengths; they must be of one framework, type and device, and fit along each axis."""
    kind: Kind | None = None
    lengths: list[int | None] = [None, None]
    for lazy in lazies:
        if lazy._kind is not None and lazy._kind != kind:
            if kind is None:
                kind = lazy._kind
            elif kind.backend is not lazy._kind.backend:
                raise TypeError(f"a formula mixes {kind.backend.name} and {lazy._kind.backend.name} arrays: convert one of them")
            else:
                what = "dtype" if kind.dtype != lazy._kind.dtype else "device"
                a, b = getattr(kind, what), getattr(lazy._kind, what)
                raise TypeError(f"a formula mixes arrays of {what} {a} and {b}: convert one of them")
        for axis, length in enumerate(lazy._lengths):
            if length is None:
                continue
            if lengths[axis] is None:
                lengths[axis] = length
            elif lengths[axis] != length:
                shapes = " and ".join(str(z.shape) for z in lazies)
                written = ", ".join(to_string(z.formula) for z in lazies)
                raise ValueError(f"shapes {shapes} do not broadcast: {lengths[axis]} and {length} along axis {axis}, in {written}")
    return kind, (lengths[0], lengths[1])


def _combine(build: Callable[..., Node], parts: Sequence[Any], inner: bool | None = None) -> LazyTensor:
    formulas, whole = _merge(parts)
    try:
        formula = build(*formulas)
    except ValueError as error:
        shapes = " and ".join(str(_lift(p).shape) for p in parts)
        raise ValueError(f"shapes {shapes} do not fit: {error}") from None
    return whole._with(formula, (whole._inner or formula.dim > 1) if inner is None else inner)


def _inner_key(key: Any) -> Any:
    """The part of an index that picks components."""
    keys = key if isinstance(key, tuple) else (key,)
    whole = slice(None)
    outer_whole = keys[:-1] in ((Ellipsis,), (whole, whole), (Ellipsis, whole))
    if not outer_whole or not (isinstance(keys[-1], slice) or hasattr(keys[-1], "__index__")):
        raise TypeError(f"only components can be indexed, as K[..., k] or K[:, :, a:b], not K[{key!r}]")
    return keys[-1] if isinstance(keys[-1], slice) else keys[-1].__index__()


def _choose_axis(name: str, axis: int | None, dim: int | None) -> int:
    if axis is not None and dim is not None and axis != dim:
        raise ValueError(f"{name} was given axis={axis} and dim={dim}: they are two names for the same, give one")
    chosen = axis if axis is not None else dim
    if chosen is None:
        raise ValueError(f"{name} needs an axis: 0 to reduce the rows, 1 the columns")
    if isinstance(chosen, bool) or not hasattr(chosen, "__index__"):
        raise TypeError(f"{name} takes a whole number as its axis, not {chosen!r}")
    if chosen not in (0, 1, 2, -1):
        raise ValueError(f"{name}: axis must be 0 (rows), 1 (columns), or -1 or 2 (the inner one), not {chosen}")
    return int(chosen)


def _run(lazy: LazyTensor, formulas: tuple[Node, ...], reduction: Reduction, axis: int) -> Any:
    """Reduce formulas over lazy's leaves, and give the results the shapes that the user expects."""
    if lazy._kind is None:
        raise TypeError(f"{lazy!r} is made of numbers alone: nothing tells its size, type or framework")
    fold, used = make_fold(formulas, reduction, axis)
    backend = lazy._kind.backend
    first = next(leaf.value for leaf in lazy.leaves if not isinstance(leaf.value, float))
    values = [lazy.leaves[k].value for k in used]
    arrays = [backend.scalar(v, first) if isinstance(v, float) else v for v in values]
    kept, reduced = lazy.shape[1 - axis], lazy.shape[axis]
    results = backend.results(fold, arrays, kept, reduced, backend.bits(first))
    shape = reduction.shape(fold.dims)
    if not lazy._inner:
        shape = shape[:-1]
    shaped = tuple(r.reshape(kept, *shape) for r in results[: reduction.public])
    return shaped[0] if len(shaped) == 1 else shaped
