"""What a symbolic matrix is made of: a formula, the arrays behind its variables, a shape; and how several are put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial, reduce
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from ..arrays import backend_of, is_array, number, owner_of
from ..arrays.base import COMPLEX, FLOATS, STORED, Backend
from ..fold import flip, renumber
from ..formula.graph import Node, apply, const, substitute, to_string, var, variables
from ..formula.operators import OPERATORS
from ..formula.parse import to_keops
from .solvable import Solvable

if TYPE_CHECKING:
    from .masks import Mask
    from .tensor import LazyTensor

Lengths = tuple["int | None", "int | None"]


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
        (…, M, D) along i, (…, N, D) along j, (…, D) for a parameter, after batch axes; read in place, never copied.
    axis : str
        ``"i"``, ``"j"`` or ``"p"``.
    part_of : tuple, optional
        The array that it is a view of, and which: new views of it stand for the same variable.
    """

    __slots__ = ("axis", "part_of", "value")

    def __init__(self, value: Any, axis: str, part_of: tuple[Any, ...] | None = None):
        self.value, self.axis, self.part_of = value, axis, part_of

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch axes of an array."""
        return tuple(self.value.shape[: -1 if self.axis == "p" else -2])


class Symbolic(Solvable):
    """The state of a `LazyTensor`; its methods are in the classes that it inherits, by subject."""

    # NumPy and PyTorch leave operators with an array on the left to us.
    __array_ufunc__: Any = None
    __array_priority__ = 1000
    __iter__ = None

    _complex = False  # whether the formula holds the parts of complex numbers

    formula: Node
    leaves: tuple[Leaf, ...]
    _inner: bool  # whether the shape has an inner axis
    _kind: Kind | None  # None while it is made of Python numbers alone
    _batch: tuple[int, ...]  # the lengths of the batch axes
    _lengths: Lengths  # along i and j; None where nothing depends on the axis
    _mask: Mask | None  # which pairs there are, where it is not all

    def __init__(self, x: Any, axis: int | None = None):
        if isinstance(x, Symbolic):
            self.__dict__.update(x.__dict__)
            return
        owner = owner_of(x)
        if owner is not None and not isinstance(x, float) and owner.dtype(x) in STORED:  # a float64 of NumPy is both
            self._set_leaf(*classify(x, axis))
            return
        x = number(x)
        if isinstance(x, bool) or not (isinstance(x, (int, float)) or is_array(x)):
            raise TypeError(f"a LazyTensor is made from a NumPy array, a PyTorch tensor or a number, not from {type(x).__name__}")
        if isinstance(x, (int, float)):
            self._kind, self._batch, self._lengths, self._mask = None, (), (None, None), None
            self._inner = False
            if isinstance(x, int) or (2 * x).is_integer() and abs(x) <= 4:
                # Whole numbers and simple halves are part of the formula; other numbers may change without compiling anew.
                try:
                    self.formula, self.leaves = const(x), ()
                except OverflowError:
                    raise OverflowError(f"a whole number of {int(x).bit_length()} bits is larger than formulas are computed with") from None
            else:
                magnitude = var("p", 0, 1, 1) if x == x else var("p", 0, 1)
                self.formula, self.leaves = (-magnitude if x < 0 else magnitude), (Leaf(abs(x), "p"),)
            return
        self._set_leaf(*classify(x, axis))

    def _set_leaf(self, leaf: Leaf, inner: bool) -> None:
        """Become the variable that stands for an array."""
        shape = tuple(leaf.value.shape)
        self.leaves, self._inner = (leaf,), inner
        self.formula = var(leaf.axis, 0, shape[-1])
        self._kind, self._mask = kind_of(leaf.value), None
        self._batch = shape[: -1 if leaf.axis == "p" else -2]
        length = None if leaf.axis == "p" else shape[-2]
        self._lengths = (length, None) if leaf.axis == "i" else (None, length)

    def _with(self, formula: Node, inner: bool, of: type | None = None) -> Any:
        """Another formula of the same variables; `of` another class, where real and complex numbers meet."""
        made: Any = object.__new__(of or type(self))
        made.formula, made._inner = formula, inner
        made.leaves, made._kind, made._batch, made._lengths = self.leaves, self._kind, self._batch, self._lengths
        made._mask = self._mask
        return made

    def _without_inner(self) -> LazyTensor:
        return self._with(self.formula, False)

    def _apply(self, name: str, *others: Any, attrs: tuple[Any, ...] = (), inner: bool | None = None) -> LazyTensor:
        """The operator of that name on self and others, which may be LazyTensors, arrays or numbers."""
        return combine(partial(apply, name, attrs=attrs), (self, *others), inner, OPERATORS[name].typed)

    def _lift(self, value: Any) -> LazyTensor:
        """A LazyTensor of an array or a number."""
        return lift(value, type(self))

    # ---- what it is
    @property
    def shape(self) -> tuple[int, ...]:
        """(…, M, N), or (…, M, N, D) where each pair has a vector; an axis on which nothing depends has length 1."""
        outer = (*self._batch, *(1 if n is None else n for n in self._lengths))
        return (*outer, self._dim) if self._inner else outer

    @property
    def _dim(self) -> int:
        """The number of components of each pair's vector."""
        return self.formula.dim

    @property
    def ndim(self) -> int:
        """The number of axes: 2, one more where each pair has a vector, and one for each batch axis."""
        return len(self._batch) + 2 + self._inner

    @property
    def dtype(self) -> str | None:
        """The name of its type by the framework's rules, e.g. ``"float32"``, or ``"bool"`` where integers are compared; None while it is
        made of Python numbers alone.
        """
        return self._kind.dtype if self._kind else None

    def __repr__(self) -> str:
        kind = f", {self._kind.dtype}, {self._kind.backend.name}" if self._kind else ""
        return f"LazyTensor({to_string(self.formula)}, shape={self.shape}{kind})"

    def to_keops(self, /, **names: LazyTensor) -> str:
        """The formula in KeOps's textual syntax, with variables as ``Var(index, dimension, category)``, or by the names they are given.

        Raises
        ------
        ValueError
            Where self was not made from what has a name; or is masked, which no formula says.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = Vi(np.ones((4, 3))), Vj(np.ones((6, 3)))
        >>> K = (-x.sqdist(y) / 2).exp()
        >>> K.to_keops()
        'Exp(-SqDist(Var(0,3,0),Var(1,3,1))/IntCst(2))'
        >>> K.to_keops(X=x, Y=y)
        'Exp(-SqDist(X,Y)/IntCst(2))'
        """
        if self._mask is not None:
            raise ValueError("a mask is no part of a formula: write that of the whole matrix, and mask what is made of it again")
        called = {}
        for name, lazy in names.items():
            if not isinstance(lazy, Symbolic):
                raise TypeError(f"{name} is a LazyTensor that self was made from, not {lazy!r}")
            axis, number, *rest = lazy.formula.attrs if lazy.formula.op.name == "var" else ("", -1)
            place = next((k for k, leaf in enumerate(self.leaves) if number >= 0 and same(leaf, lazy.leaves[number])), None)
            if place is None:
                raise ValueError(f"{self!r} was not made from {name} = {lazy!r}")
            called[var(axis, place, *rest)] = name
        formula = self.formula
        if names:  # numbers that may change from call to call have none: they are written out
            values = {v: v_of.value for v in variables((formula,)) if isinstance((v_of := self.leaves[v.attrs[1]]).value, float)}
            (formula,) = substitute((formula,), {v: const(value) for v, value in values.items()})
        return to_keops(formula, called)

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
            "reduce it, e.g. K.sum(axis=1) or K @ b, or compute all of it, K.dense()"
        )

    def __float__(self) -> NoReturn:
        self.__array__()

    __int__ = __index__ = __complex__ = __float__

    __hash__ = object.__hash__

    @property
    def T(self) -> LazyTensor:  # noqa: N802  # NumPy's name
        """The transposed matrix: rows and columns exchanged, vectors and batches kept."""
        other = {"i": "j", "j": "i", "p": "p"}
        (formula,) = flip((self.formula,))
        transposed = self._with(formula, self._inner)
        transposed.leaves = tuple(Leaf(leaf.value, other[leaf.axis], leaf.part_of) for leaf in self.leaves)
        transposed._lengths = (self._lengths[1], self._lengths[0])
        if self._mask is not None:
            transposed._mask = self._mask.T
        return transposed

    def t(self) -> LazyTensor:
        """As ``T``."""
        return self.T

    def _mapped(self, change: Callable[[Any], Any]) -> Any:
        made = self._with(self.formula, self._inner)
        made.leaves = tuple(leaf if isinstance(leaf.value, float) else Leaf(change(leaf.value), leaf.axis) for leaf in self.leaves)
        kinds = [kind_of(leaf.value) for leaf in made.leaves if not isinstance(leaf.value, float)]
        made._kind = reduce(common, kinds) if kinds else None
        return made

    # ---- axes
    def _axis(self, name: str, axis: int | None, dim: int | None) -> int:
        """Which axis a user means, counted as in NumPy: 0 the rows, 1 the columns, 2 the inner one."""
        if axis is not None and dim is not None and axis != dim:
            raise ValueError(f"{name} was given axis={axis} and dim={dim}: they are two names for the same, give one")
        chosen = axis if axis is not None else dim
        first = len(self._batch)
        if chosen is None:
            raise ValueError(f"{name} needs an axis: {first} to reduce the rows, {first + 1} the columns")
        if isinstance(chosen, bool) or not hasattr(chosen, "__index__"):
            raise TypeError(f"{name} takes a whole number as its axis, not {chosen!r}")
        found = chosen.__index__()
        found += (self.ndim if found < 0 else 0) - first
        if chosen >= -self.ndim and found < 0:
            raise ValueError(f"{name}: axis {chosen} of {self.shape} is a batch axis: reduce the rows or the columns, then the result")
        if found not in (0, 1, 2):
            inner = f"{'-1 or ' if self._inner else ''}{first + 2} (the inner one)"
            raise ValueError(f"{name}: axis must be {first} (rows), {first + 1} (columns) or {inner}, not {chosen}, of {self.shape}")
        return found

    def _inner_axis(self, name: str, axis: int) -> None:
        if axis not in (-1, len(self._batch) + 2):
            raise ValueError(f"{name} works along the inner axis, -1 or {len(self._batch) + 2}, not along axis {axis} of {self.shape}")


# ---- arrays


def is_complex(x: Any) -> bool:
    """Whether a LazyTensor, an array or a number is one of complex numbers."""
    if isinstance(x, Symbolic):
        return x._complex
    owner = owner_of(x)
    return isinstance(x, complex) if owner is None else owner.dtype(x).startswith("complex")


def parts_of(x: Any) -> tuple[Any, Any]:
    """The real parts and the imaginary parts of an array, as views of it."""
    kind_of(x)
    return x.real, x.imag


def kind_of(x: Any) -> Kind:
    """The kind of an array.

    Raises
    ------
    TypeError
        Where its numbers are of a type that formulas cannot take.
    """
    backend = backend_of(x)
    dtype = backend.dtype(x)
    if dtype not in STORED and dtype not in COMPLEX:
        if "byte order" in dtype:
            convert = "x.astype(x.dtype.newbyteorder('='))"
        else:
            convert = "to complex64" if dtype.startswith("complex") else backend.convert
        raise TypeError(f"arrays must be of {', '.join((*STORED, *COMPLEX))}, not {dtype}: convert it first, e.g. {convert}")
    return _kind(backend, dtype, backend.device(x))


_kind = lru_cache(maxsize=256)(Kind)  # equal ones are the same, and so are found equal at a glance


def readable(x: Any) -> Any:
    """The array, if formulas can be computed from it."""
    why = backend_of(x).unreadable(x)
    if why is not None:
        raise TypeError(f"the array {why}")
    return x


def classify(x: Any, axis: int | None) -> tuple[Leaf, bool]:
    """Which variable an array is, by its shape, and whether it has an inner axis."""
    shape = tuple(readable(x).shape)
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
    if shape[-3:-1] == (1, 1):
        return Leaf(x[..., 0, 0, :], "p"), True
    if shape[-2] == 1:
        return Leaf(x.squeeze(-2), "i"), True
    if shape[-3] == 1:
        return Leaf(x.squeeze(-3), "j"), True
    raise ValueError(
        f"an array of shape {shape} has a vector for each pair; a LazyTensor is made from one for each row, (…, M, 1, D), "
        "or for each column, (…, 1, N, D)"
    )


# ---- putting together


def same(a: Leaf, b: Leaf) -> bool:
    """Whether two variables stand for the same array."""
    if a is b or a.axis != b.axis or isinstance(a.value, float):
        return a is b
    if a.part_of and b.part_of:
        return a.part_of[0] is b.part_of[0] and a.part_of[1:] == b.part_of[1:]
    return a.value is b.value


def place_of(leaf: Leaf, leaves: Sequence[Leaf]) -> int:
    """Which of some variables stands for the same array; their number, where none does."""
    for place, known in enumerate(leaves):
        if same(known, leaf):
            return place
    return len(leaves)


def lift(value: Any, of: type) -> LazyTensor:
    """A LazyTensor, made from an array or a number where the value is none."""
    made: Any = value if isinstance(value, Symbolic) else of(number(value))
    return made


def refuse_lists(parts: Sequence[Any], symbolic: Sequence[Symbolic]) -> None:
    """Say it where an array of one axis beside matrices could be meant for their rows, for their columns, or as a parameter."""
    if len(symbolic) < len(parts) and not any(s._inner for s in symbolic):
        for p in parts:
            if is_array(p) and p.ndim == 1 and p.shape[0] > 1:
                raise ValueError(
                    f"an array of shape {tuple(p.shape)} beside a matrix of shape {symbolic[0].shape}: say what it is, Vj(w) for a number "
                    "for each column, Vi(w) for each row, Pm(w) for a vector of parameters"
                )


def merge(parts: Sequence[Any]) -> tuple[list[Node], LazyTensor]:
    """The formulas of several LazyTensors over common leaves, and the first of them with those leaves."""
    symbolic = [p for p in parts if isinstance(p, Symbolic)]
    if not symbolic:
        raise TypeError(f"expected at least one LazyTensor, not {' and '.join(type(p).__name__ for p in parts)}")
    lazies: list[Any] = symbolic
    if len(symbolic) < len(parts):
        lazies = [lift(p, type(symbolic[0])) for p in parts]
        refuse_lists(parts, symbolic)
    inner = False
    for lazy in lazies:
        inner = inner or lazy._inner
        if lazy._complex is not lazies[0]._complex:
            shown = " and ".join(map(repr, lazies))
            raise TypeError(f"this takes real numbers alone, or complex ones alone, not {shown}")
    kind, batch, lengths = _check(lazies)
    formulas, leaves = over_common_leaves(lazies)
    whole = symbolic[0]._with(formulas[0], inner)
    whole.leaves, whole._kind, whole._batch, whole._lengths = tuple(leaves), kind, batch, lengths
    whole._mask = _common_mask(lazies)
    return formulas, whole


def over_common_leaves(lazies: Sequence[Symbolic]) -> tuple[list[Node], list[Leaf]]:
    """The formulas of several LazyTensors, in which each array has one number, and the arrays."""
    leaves = list(lazies[0].leaves)
    formulas = [lazies[0].formula]
    for lazy in lazies[1:]:
        numbers = []
        for leaf in lazy.leaves:
            place = place_of(leaf, leaves)
            if place == len(leaves):
                leaves.append(leaf)
            numbers.append(place)
        formulas.append(lazy.formula if numbers == list(range(len(numbers))) else renumber((lazy.formula,), tuple(numbers))[0])
    return formulas, leaves


def _check(lazies: Sequence[Symbolic]) -> tuple[Kind | None, tuple[int, ...], Lengths]:
    """The arrays' common kind and lengths; they must be of one framework and device, and fit along each axis."""
    kind: Kind | None = None
    batch: tuple[int, ...] = ()
    lengths: list[int | None] = [None, None]

    def misfit(a: Any, b: Any, where: str) -> ValueError:
        shapes = " and ".join(str(z.shape) for z in lazies)
        written = ", ".join(map(to_string, over_common_leaves(lazies)[0]))
        return ValueError(f"shapes {shapes} do not broadcast: {a} and {b} along {where}, in {written}")

    for lazy in lazies:
        if lazy._kind is not kind and lazy._kind is not None and lazy._kind != kind:
            kind = lazy._kind if kind is None else common(kind, lazy._kind)
        if lazy._batch != batch:
            try:
                batch = np.broadcast_shapes(batch, lazy._batch)
            except ValueError:
                raise misfit(batch, lazy._batch, "the batch axes") from None
        for axis, length in enumerate(lazy._lengths):
            if length is None:
                continue
            if lengths[axis] is None:
                lengths[axis] = length
            elif lengths[axis] != length:
                raise misfit(lengths[axis], length, f"axis {len(batch) + axis}")
    return kind, batch, (lengths[0], lengths[1])


def common(a: Kind, b: Kind) -> Kind:
    if a.backend is not b.backend:
        raise TypeError(f"a formula mixes {a.backend.name} and {b.backend.name} arrays: convert one of them")
    if a.device != b.device:
        raise TypeError(f"a formula mixes arrays of device {a.device} and {b.device}: convert one of them")
    return Kind(a.backend, a.backend.promote(a.dtype, b.dtype), a.device)


def _common_mask(lazies: Sequence[Symbolic]) -> Mask | None:
    """The mask of those that have one."""
    found: Mask | None = None
    for lazy in lazies:
        if lazy._mask is not None:
            if found is not None and found is not lazy._mask and found.name != lazy._mask.name:
                shown = " and ".join(map(repr, lazies))
                raise ValueError(f"matrices with different masks meet: {shown}; mask the result instead, or add what each reduces to")
            found = lazy._mask
    return found


def combine(build: Callable[..., Node], parts: Sequence[Any], inner: bool | None = None, typed: Sequence[int] | None = None) -> LazyTensor:
    """What a function of formulas makes of several LazyTensors, arrays and numbers.

    `inner` says whether the result has an inner axis; by default it has where an operand has, or where the formula is a vector. Integers
    among operands that are not `typed`, where that is said, do not give it their type: see `Operator`.
    """
    if len(parts) == 1 and isinstance(parts[0], Symbolic):
        formulas, whole = [parts[0].formula], parts[0]
    else:
        formulas, whole = merge(parts)
    if whole._complex:
        raise TypeError(f"this has no meaning for complex numbers; take abs(z), z.real, z.imag or z.angle() of {whole!r} first")
    try:
        formula = build(*formulas)
    except ValueError as error:
        raise unfit(parts, type(whole), error) from None
    made = whole._with(formula, (whole._inner or formula.dim > 1) if inner is None else inner)
    if typed is not None and made._kind is not None:
        kinds = [kind for k, p in enumerate(parts) if (kind := lift(p, type(made))._kind) and (k in typed or kind.dtype in FLOATS)]
        made._kind = reduce(common, kinds) if kinds else _kind(made._kind.backend, "bool", made._kind.device)
    return made


def unfit(parts: Sequence[Any], of: type, error: ValueError) -> ValueError:
    """What is wrong with a formula of several LazyTensors, arrays and numbers, with their shapes."""
    shapes = " and ".join(str(lift(p, of).shape) for p in parts)
    return ValueError(f"shapes {shapes} do not fit: {error}")
