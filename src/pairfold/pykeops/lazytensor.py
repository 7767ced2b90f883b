"""KeOps's LazyTensor: its conventions of shapes, axes and names around a native one.

A pair always has a vector here, of one component where it is a number: `_shape` shows it, `shape` drops a last 1, results of
reductions keep it. Variables that get their arrays when a reduction is called are leaves without an array.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any, ClassVar

from ..arrays import backend_of, is_array, number
from ..fold import renumber
from ..formula.complex import Complex, from_vector
from ..formula.graph import substitute, var, variables
from ..formula.keops import from_interleaved, interleaved
from ..formula.parse import functions, to_keops
from ..lazy import ComplexLazyTensor as NativeComplex
from ..lazy import LazyTensor as Native
from ..lazy import concat
from ..lazy.parameters import whole_number
from ..lazy.strings import variable_of
from ..lazy.symbolic import Leaf, is_complex, merge
from .reductions import check, in_shape, reduce, with_ranges
from .solve import solve

AXES = "ijp"  # KeOps's categories 0, 1 and 2


class Symbol:
    """A variable that stands for the array of that number in a call; there is one object of each."""

    def __init__(self, index: int, dim: int):
        self.index, self.dim = index, dim


class Listed:
    """Numbers that become an array of parameters once it is known of which type, on which device."""

    def __init__(self, values: Sequence[float]):
        self.values = list(values)


symbol = lru_cache(maxsize=None)(Symbol)


def _leaf(value: Symbol | Listed, axis: str, dim: int) -> Any:
    """A native LazyTensor of a leaf without an array."""
    made: Any = object.__new__(Native)
    made.formula, made.leaves, made._inner = var(axis, 0, dim), (Leaf(value, axis),), True
    made._kind, made._batch, made._lengths, made._mask = None, (), (None, None), None
    return made


def _of_parts(parts: Sequence[Any]) -> Any:
    """The native complex LazyTensor of two real ones."""
    formulas, whole = merge(parts)
    return whole._with(Complex(*formulas).vector, True, NativeComplex)


def _native(x: Any, axis: int | None) -> Any:
    """The native LazyTensor of what KeOps makes one from."""
    x = number(x)
    if isinstance(x, tuple):
        if len(x) != 3 or not all(type(n) is int for n in x) or x[2] not in (0, 1, 2):
            raise ValueError(f"a symbolic variable is three whole numbers (number, dimension, category 0, 1 or 2), not {x}")
        if axis is not None:
            raise ValueError(f"axis is part of a symbolic variable: LazyTensor({x}), without axis={axis}")
        return _leaf(symbol(x[0], x[1]), AXES[x[2]], x[1])
    if isinstance(x, list):
        if axis not in (None, 2):
            raise ValueError(f"a list of numbers is a parameter, of axis 2, not {axis}")
        if any(isinstance(v, complex) for v in x):
            return _of_parts([_leaf(Listed([getattr(complex(v), part) for v in x]), "p", len(x)) for part in ("real", "imag")])
        return _leaf(Listed(x), "p", len(x))
    made = NativeComplex if is_complex(x) else Native
    if is_array(x):
        if x.ndim > 2 and axis is not None and tuple(x.shape[:-1]) != (1,) * (x.ndim - 1):
            raise ValueError(f"axis={axis} is for arrays of two axes; one of shape {tuple(x.shape)} tells it by where it has length 1")
        if x.ndim == 2 and axis not in (0, 1, 2):
            raise ValueError(f"an array of shape {tuple(x.shape)} needs its axis: 0 for rows, 1 for columns")
        if axis == 2:
            leading = x.ndim - 1
            while leading > 0 and x.shape[0] == 1:
                x, leading = x[0], leading - 1
            if x.ndim > 1:
                x = x[..., None, None, :]
            axis = None
        elif axis is not None and x.ndim < 2:
            raise ValueError(f"an array of shape {tuple(x.shape)} is a parameter, of axis 2, not {axis}: with one number a row, x[:, None]")
    elif axis == 2:
        axis = None
    lazy = made(x, axis)
    return lazy._with(lazy.formula, True)


def _complexed(lazy: Any) -> Any:
    """The complex numbers whose parts, one beside the other, a real native LazyTensor holds."""
    return lazy._with(from_interleaved(lazy.formula).vector, True, NativeComplex)


def _interleaved(lazy: Any) -> Any:
    """The parts, one beside the other, of a native complex LazyTensor; a real one is itself."""
    return lazy._with(interleaved(from_vector(lazy.formula)), True, Native) if lazy._complex else lazy


# What KeOps calls the parameters of its methods, where programs may name them.
PARAMETERS = {
    "atan2": ("other",), "clamp": ("other1", "other2"), "ifelse": ("other1", "other2"), "sqdist": ("other",),
    "weightedsqnorm": ("other",), "weightedsqdist": ("g", "s"), "difference_matrix": ("other",), "softdtw_sqdist": ("other", "gamma"),
    "matvecmult": ("other",), "vecmatmult": ("other",), "tensorprod": ("other",), "grad_matrix": ("other",), "divergence": ("var",),
    "laplacian": ("var",), "trace_operator": ("var",), "elem": ("i",), "extract": ("i", "d"), "one_hot": ("D",),
    "bspline": ("x", "k"), "keops_kron": ("other", "dimfself", "dimfother"),
    "keops_tensordot": ("other", "dimfa", "dimfb", "contfa", "contfb"),
}  # fmt: skip


def _in_order(name: str, given: Sequence[Any], named: dict[str, Any]) -> list[Any]:
    """The parameters of a method, those that are named too."""
    found, names = list(given), PARAMETERS.get(name, ())
    for parameter in names[len(found) :]:
        if parameter not in named:
            break  # one behind it would be taken for it
        found.append(named.pop(parameter))
    if named:
        raise TypeError(f"{name}() has no parameter {next(iter(named))!r} to be named here; there are {', '.join(names) or 'none'}")
    return found


def _named(name: str) -> Callable[..., Any]:
    """The native method of that name; numbers, arrays, lists and LazyTensors among its operands become native LazyTensors."""
    original: Any = getattr(Native, name, None) or getattr(NativeComplex, name)

    @wraps(original)
    def method(self: GenericLazyTensor, *others: Any, **named: Any) -> Any:
        operands = _in_order(name, others, named) if named else others
        return self._combine(lambda a, *rest: getattr(a, name)(*rest), *operands)

    return method


def _static(name: str) -> Callable[..., Any]:
    """The native method of that name, whose parameters are whole numbers."""
    original: Any = getattr(Native, name)

    @wraps(original)
    def method(self: GenericLazyTensor, *parameters: Any, **named: Any) -> Any:
        return self._combine(lambda a: getattr(a, name)(*_in_order(name, parameters, named)))

    return method


def _with_static(name: str) -> Callable[..., Any]:
    """The native method of that name, whose operands are one more LazyTensor, then whole numbers."""
    original: Any = getattr(Native, name)

    @wraps(original)
    def method(self: GenericLazyTensor, *parameters: Any, **named: Any) -> Any:
        other, *static = _in_order(name, parameters, named)
        return self._combine(lambda a, b: getattr(a, name)(b, *static), other)

    return method


def _reducing(op: str, *, inner: bool) -> Callable[..., Any]:
    """A reduction; with `inner` one that is, by default, of each vector."""

    def method(self: GenericLazyTensor, axis: int | None = -1 if inner else None, dim: int | None = None, **options: Any) -> Any:
        axis = axis if dim is None else dim
        if inner and axis in (-1, len(self._shape) - 1):
            return self._combine(lambda a: getattr(a, op.lower())(-1))
        return self.reduction(op, axis=axis, **options)

    method.__doc__ = f"The reduction {op!r} along i or j" + (", or of each vector along the last axis: see `reduction`." if inner else ".")
    return method


def _reducing_k(op: str) -> Callable[..., Any]:
    def method(self: GenericLazyTensor, K: int, axis: int | None = None, dim: int | None = None, **options: Any) -> Any:  # noqa: N803
        return self.reduction(op, opt_arg=K, axis=axis, dim=dim, **options)

    method.__doc__ = f"The reduction {op!r} to the K smallest along i or j."
    return method


class GenericLazyTensor:
    """A symbolic array as KeOps has it: a native LazyTensor with KeOps's conventions; ``.native`` is that one.

    Parameters
    ----------
    x : array, number, list of numbers or tuple of three int
        (…, M, 1, D), (…, 1, N, D), (…, 1, 1, D) or (D,); (M, D) or (N, D) with an axis; numbers and lists are parameters; a tuple
        (number, dimension, category) is a variable whose array is given when a reduction is called.
    axis : int, optional
        0 for rows, 1 for columns, 2 for parameters.

    Raises
    ------
    ValueError
        Where the shape does not tell the axis, or contradicts it.
    TypeError
        Where x is none of these.
    """

    tools: ClassVar[Any] = None  # of the framework: see `pykeops.torch.utils`
    is_complex = False
    backend: str | None = None  # accepted; what is computed where the arrays are needs none
    # NumPy leaves operators with an array on the left to us.
    __array_ufunc__: Any = None
    __array_priority__ = 1000
    __iter__: Any = None
    __GenericLazyTensor__ = True

    native: Any
    # Of a reduction that waits for its arrays.
    reduction_op: str
    opt_arg: Any
    kwargs: dict[str, Any]
    varindex: int
    other: Any
    _formulas: list[Any]

    def __init__(self, x: Any = None, axis: int | None = None, is_complex: bool = False):
        self.ranges: Sequence[Any] | None = None
        self.axis: Any = None
        if x is None:
            return
        if isinstance(x, GenericLazyTensor):
            self.__dict__.update(x.__dict__)
            return
        native = x if isinstance(x, (Native, NativeComplex)) else _native(x, axis)
        if self.is_complex and not native._complex:
            of_symbol = isinstance(x, tuple)
            native = _complexed(native) if of_symbol else NativeComplex(native)
        self._hold(native)

    # ---- putting together

    def lt_constructor(self, x: Any = None, axis: int | None = None, is_complex: bool = False) -> Any:
        """A LazyTensor of the same framework."""
        return self.tools.LazyTensor(x, axis, is_complex)

    def _made(self, native: Any, ranges: Sequence[Any] | None) -> Any:
        made = object.__new__(self.tools.ComplexLazyTensor if native._complex else self.tools.LazyTensor)
        made._hold(native)
        made.ranges = ranges
        return made

    def _hold(self, native: Any) -> None:
        """Become this native LazyTensor."""
        self.native = native if native._inner else native._with(native.formula, True)
        self.axis = AXES.index(native.leaves[0].axis) if native.formula.op.name == "var" else None

    def _lifted(self, other: Any) -> GenericLazyTensor:
        lifted: GenericLazyTensor = other if isinstance(other, GenericLazyTensor) else self.lt_constructor(other)
        if lifted._is_reduced:
            raise ValueError(f"a {lifted.reduction_op} reduction waits for its arrays: call it first; no operation applies to it")
        return lifted

    def _combine(self, build: Callable[..., Any], *others: Any) -> Any:
        """What a function of native LazyTensors makes of self and others."""
        if not others:
            return self._made(build(self._lifted(self).native), self.ranges)
        operands = [self._lifted(x) for x in (self, *others)]
        return self._made(build(*[x.native for x in operands]), _common_ranges(operands))

    @property
    def _is_reduced(self) -> bool:
        return "reduction_op" in self.__dict__

    @property
    def _is_there(self) -> bool:
        """Whether this is nothing but a native LazyTensor of arrays that are known."""
        native = self.native
        waits = any(type(leaf.value) in (Symbol, Listed) for leaf in native.leaves)
        return not waits and native._kind is not None and self.ranges is None and not self._is_reduced

    def unary(
        self, operation: str, dimres: int | None = None, opt_arg: Any = None, opt_arg2: Any = None, is_complex: bool | None = None
    ) -> Any:
        """The operation of that name in KeOps's formulas, of self and whole numbers.

        Parameters
        ----------
        operation : str
            E.g. ``"Exp"``; complex numbers are pairs of components, one beside the other, as in ``"ComplexExp1j"``.
        dimres : int, optional
            Its dimension, which is known here: checked.
        opt_arg, opt_arg2 : int or tuple of int, optional
        is_complex : bool, optional
            Whether pairs of components of the result are taken as complex numbers; by default where self is complex.
        """
        return self._named_operation(operation, (), (opt_arg, opt_arg2), dimres, self.is_complex if is_complex is None else is_complex)

    def binary(
        self,
        other: Any,
        operation: str,
        is_operator: bool = False,
        dimres: int | None = None,
        dimcheck: str | None = "sameor1",
        opt_arg: Any = None,
        opt_pos: str = "last",
        rversion: bool = False,
        is_complex: bool | None = None,
    ) -> Any:
        """The operation of that name in KeOps's formulas, or with `is_operator` the sign of an operator, of self and other: see `unary`."""
        other = self._lifted(other)
        made = (self.is_complex or other.is_complex) if is_complex is None else is_complex
        operation = _SIGNS[operation] if is_operator else operation
        return self._named_operation(operation, (other,), (opt_arg,), dimres, made, opt_pos == "middle", rversion)

    def ternary(
        self, other1: Any, other2: Any, operation: str, dimres: int | None = None, dimcheck: str | None = "sameor1", opt_arg: Any = None
    ) -> Any:
        """The operation of that name in KeOps's formulas, of self and two others: see `unary`."""
        return self._named_operation(operation, (other1, other2), (opt_arg,), dimres, False)

    def _named_operation(
        self,
        name: str,
        others: Sequence[Any],
        parameters: Sequence[Any],
        dimres: int | None,
        made_complex: bool,
        middle: bool = False,
        reversed: bool = False,
    ) -> Any:
        known = functions().get(name)
        if known is None:
            raise ValueError(f"there is no operation {name!r}: docs/operators.md has the names of all")
        given = [p for p in parameters if p is not None and not isinstance(p, GenericLazyTensor)]
        # As KeOps itself writes them: "3", "[2, 2], [2], [1], [0]".
        read = [part for p in given for part in (ast.literal_eval(f"({p},)") if isinstance(p, str) else (p,))]
        static = [tuple(p) if isinstance(p, list) else p for p in read]
        operands = [*others, *(p for p in parameters if isinstance(p, GenericLazyTensor))]
        if middle and len(operands) == 2:
            operands.reverse()

        def build(*parts: Any) -> Any:
            formulas, whole = merge([_interleaved(p) for p in (parts[::-1] if reversed else parts)])
            found = whole._with(known.build(*formulas, *static), True)
            if dimres is not None and found._dim != dimres:
                raise ValueError(f"{name} of {whole!r} has dimension {found._dim}, not dimres={dimres}")
            return _complexed(found) if made_complex else found

        return self._combine(build, *operands)

    # ---- what it is

    @property
    def _shape(self) -> tuple[int, ...]:
        """(…, M, N, D); complex numbers count as two components."""
        outer = (*self.native._batch, *(1 if n is None else n for n in self.native._lengths))
        return (*outer, self.ndim)

    @property
    def shape(self) -> tuple[int, ...]:
        """(…, M, N, D), without D where it is 1."""
        *outer, dim = self.native.shape
        return tuple(outer) if dim == 1 else (*outer, dim)

    def dim(self) -> int:
        """The number of axes, the inner one among them."""
        return len(self._shape)

    @property
    def ndim(self) -> int:
        """The number of components of each pair's vector, of a complex one twice that of its numbers."""
        return int(self.native.formula.dim)

    @property
    def ni(self) -> int | None:
        """The number of rows, None where nothing depends on them."""
        length: int | None = self.native._lengths[0]
        return length

    @property
    def nj(self) -> int | None:
        """The number of columns, None where nothing depends on them."""
        length: int | None = self.native._lengths[1]
        return length

    @property
    def batchdims(self) -> tuple[int, ...] | None:
        """The lengths of the batch axes, None where there are none."""
        return self.native._batch or None

    @property
    def nbatchdims(self) -> int:
        """How many batch axes there are."""
        return len(self.native._batch)

    @property
    def dtype(self) -> str | None:
        """The name of the arrays' type, e.g. ``"float32"``; None where there are no arrays yet."""
        dtype: str | None = self.native.dtype
        return dtype

    @property
    def _dtype(self) -> str | None:
        kind = self.native._kind
        return kind.dtype if kind else None

    @property
    def formula(self) -> str:
        """The formula in KeOps's syntax, its variables numbered as the symbolic ones say, then as in `variables`."""
        return self._written(self.native)

    def _written(self, native: Any) -> str:
        first, numbers = self.new_variable_index(), []
        for leaf in native.leaves:
            if isinstance(leaf.value, Symbol):
                numbers.append(leaf.value.index)
            else:
                numbers.append(first)
                first += 1
        (formula,) = renumber((_interleaved(native).formula,), tuple(numbers))
        return to_keops(formula)

    @property
    def variables(self) -> tuple[Any, ...]:
        """The arrays that the formula's variables stand for; numbers are lists as long as no array tells their type."""
        values = [leaf.value for leaf in self.native.leaves if not isinstance(leaf.value, Symbol)]
        like = next(filter(is_array, values), None)
        lists = [v.values if isinstance(v, Listed) else [v] if isinstance(v, float) else v for v in values]
        return tuple(_as_array(v, like) if isinstance(v, list) and like is not None else v for v in lists)

    @property
    def symbolic_variables(self) -> tuple[tuple[int, int, int], ...]:
        """(number, dimension, category) of the variables whose arrays are given when a reduction is called."""
        used = {v.attrs[1] for v in variables((self.native.formula,))}
        found = [leaf for k, leaf in enumerate(self.native.leaves) if isinstance(leaf.value, Symbol) and k in used]
        return tuple((leaf.value.index, leaf.value.dim, AXES.index(leaf.axis)) for leaf in found)

    @property
    def ind(self) -> int:
        """The number of a symbolic variable."""
        if not self.symbolic_variables:
            raise AttributeError("only a symbolic variable has a number: Vi(0, 3)")
        return self.symbolic_variables[0][0]

    def new_variable_index(self) -> int:
        """The lowest number that no symbolic variable has from which on all are free."""
        return 1 + max((index for index, _, _ in self.symbolic_variables), default=-1)

    @property
    def Genred(self) -> Any:  # noqa: N802
        """The framework's `Genred`."""
        return self.tools.Genred

    @property
    def KernelSolve(self) -> Any:  # noqa: N802
        """The framework's `KernelSolve`."""
        return self.tools.KernelSolve

    def __str__(self) -> str:
        text = f"KeOps LazyTensor, by Pairfold\n    formula: {self.formula}\n    shape: {self.shape}"
        if self.symbolic_variables:
            text += f"\n    symbolic variables: {', '.join(f'Var{v}' for v in self.symbolic_variables)}"
        if self._is_reduced:
            text += f"\n    reduction: {self.reduction_op} (axis={self.axis})"
        return text

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        """True: KeOps's LazyTensors have no truth value of their own."""
        return True

    @property
    def T(self) -> Any:  # noqa: N802
        """As `t`."""
        return self.t()

    def t(self) -> Any:
        """The transposed matrix: rows and columns exchanged, vectors and batches kept."""
        swapped = None if self.ranges is None else (*self.ranges[3:], *self.ranges[:3])
        return self._made(self.native.T, swapped)

    # ---- operators

    __add__, __sub__, __mul__, __truediv__ = map(_named, ("__add__", "__sub__", "__mul__", "__truediv__"))
    __radd__, __rsub__, __rmul__, __rtruediv__ = map(_named, ("__radd__", "__rsub__", "__rmul__", "__rtruediv__"))
    __or__, __ror__, __rpow__, __mod__ = map(_named, ("__or__", "__ror__", "__rpow__", "__mod__"))
    __lt__, __le__, __gt__, __ge__ = map(_named, ("__lt__", "__le__", "__gt__", "__ge__"))
    __eq__, __ne__ = map(_named, ("__eq__", "__ne__"))
    __neg__, __pos__, __abs__, abs = map(_named, ("__neg__", "__pos__", "__abs__", "abs"))
    exp, log, xlogx, sqrt, square = map(_named, ("exp", "log", "xlogx", "sqrt", "square"))
    cos, sin, sinxdivx, asin, acos, atan, atan2 = map(_named, ("cos", "sin", "sinxdivx", "asin", "acos", "atan", "atan2"))
    sign, step, relu, clamp, ifelse = map(_named, ("sign", "step", "relu", "clamp", "ifelse"))
    sqnorm2, norm2, normalize, sqdist = map(_named, ("sqnorm2", "norm2", "normalize", "sqdist"))
    weightedsqnorm, weightedsqdist, softdtw_sqdist = map(_named, ("weightedsqnorm", "weightedsqdist", "softdtw_sqdist"))
    difference_matrix, matvecmult, vecmatmult, tensorprod = map(_named, ("difference_matrix", "matvecmult", "vecmatmult", "tensorprod"))
    real2complex, imag2complex, exp1j, angle, conj = map(_named, ("real2complex", "imag2complex", "exp1j", "angle", "conj"))
    # What KeOps has no method for, but Pairfold.
    tan, sinh, cosh, tanh, log1p, expm1 = map(_named, ("tan", "sinh", "cosh", "tanh", "log1p", "expm1"))
    erf, erfc, sigmoid, softplus, gelu = map(_named, ("erf", "erfc", "sigmoid", "softplus", "gelu"))
    lgamma, digamma, floor, ceil, trunc = map(_named, ("lgamma", "digamma", "floor", "ceil", "trunc"))
    minimum, maximum, hypot, logaddexp = map(_named, ("minimum", "maximum", "hypot", "logaddexp"))
    logical_and, logical_or, logical_not, isnan, cross = map(_named, ("logical_and", "logical_or", "logical_not", "isnan", "cross"))

    elem, extract, one_hot = map(_static, ("elem", "extract", "one_hot"))
    bspline, keops_tensordot, keops_kron = map(_with_static, ("bspline", "keops_tensordot", "keops_kron"))

    def __pow__(self, exponent: Any) -> Any:
        """To a power: a number, a LazyTensor, or an array as LazyTensor takes it."""
        if isinstance(exponent, float) and exponent == -0.5:
            return self.rsqrt()
        if isinstance(exponent, (int, float)):
            return self._combine(lambda a: a**exponent)
        return self._combine(lambda a, b: a**b, exponent)

    def power(self, other: Any) -> Any:
        """As ``**``."""
        return self**other

    def round(self, other: int = 0) -> Any:
        """To so many decimals, halves away from 0 as KeOps has it."""
        decimals = whole_number("round", other)
        return self._combine(lambda a: a._apply("round_away", attrs=(decimals,)))

    def rsqrt(self) -> Any:
        """1 / sqrt, and 0 at 0 as KeOps has it, so that points do themselves no harm."""
        return self._combine(lambda a: a.rsqrt() if a._complex else a._apply("rsqrt_or_zero"))

    def sinc(self) -> Any:
        """sin(πx)/(πx), as in NumPy."""
        return (math.pi * self).sinxdivx()

    def mod(self, modulus: Any, offset: Any = 0) -> Any:
        """The value less the multiple of the modulus that brings it to [offset, offset + modulus)."""
        if isinstance(offset, (int, float)):
            return self._combine(lambda a, m: a.mod(m, offset), modulus)
        return self._combine(lambda a, m, o: a.mod(m, o), modulus, offset)

    def norm(self, dim: int = -1) -> Any:
        """The Euclidean norm of each vector."""
        if dim not in (-1, len(self._shape) - 1):
            raise ValueError(f"norms are of each vector, along axis -1 or {len(self._shape) - 1}, not {dim}")
        return self.norm2()

    @property
    def real(self) -> Any:
        """The real part."""
        return self._combine(lambda a: a.real)

    @property
    def imag(self) -> Any:
        """The imaginary part."""
        return self._combine(lambda a: a.imag)

    def __getitem__(self, key: Any) -> Any:
        """Components of each vector: ``x[k]``, ``x[k:l]``, or the same behind full slices, ``x[:, :, k]``."""
        if isinstance(key, tuple):
            *outer, key = key
            if len(outer) != len(self._shape) - 1 and outer != [Ellipsis] or any(k not in (slice(None), Ellipsis) for k in outer):
                raise ValueError(f"only the last axis of {self._shape} is indexed; rows and columns: K.native[…]")
        dim = self.native._dim
        if isinstance(key, slice):
            start, stop, step = key.indices(dim)
            if step != 1 or stop <= start:
                raise ValueError(f"slices of the {dim} components have step 1 and at least one component, not {key}")
            return self.extract(start, stop - start)
        if type(key) is not int or not -dim <= key < dim:
            raise ValueError(f"the {dim} components are indexed by whole numbers and slices, not by {key!r}")
        return self.extract(key % dim, 1)

    def concat(self, other: Any) -> Any:
        """The components of self, then those of other."""
        return self._combine(lambda a, b: concat([a, b]), other)

    @staticmethod
    def concatenate(tuple_of_lt: Sequence[Any], axis: int = -1) -> Any:
        """The components of several LazyTensors one after the other."""
        if not tuple_of_lt or not isinstance(tuple_of_lt[0], GenericLazyTensor):
            raise ValueError("concatenate takes a tuple of at least one LazyTensor")
        first = tuple_of_lt[0]
        if axis not in (-1, len(first._shape) - 1):
            raise ValueError(f"LazyTensors are joined along the last axis, -1, not along {axis}")
        return first._combine(lambda *parts: concat(list(parts)), *tuple_of_lt[1:])

    @staticmethod
    def cat(tuple_of_lt: Sequence[Any], dim: int = -1) -> Any:
        """As `concatenate`."""
        return GenericLazyTensor.concatenate(tuple_of_lt, dim)

    # ---- derivatives

    def grad(self, other: Any, gradin: Any) -> Any:
        """The derivative of ``(gradin | self)`` by a variable that self was made from, pair by pair."""
        return self._combine(lambda a, v, e: a.grad(v, e), other, gradin)

    def diff(self, other: Any, diffin: Any) -> Any:
        """The derivative of self as a variable moves along a tangent, pair by pair."""
        return self._combine(lambda a, v, u: a.diff(v, u), other, diffin)

    grad_matrix, divergence, laplacian, trace_operator = map(_named, ("grad_matrix", "divergence", "laplacian", "trace_operator"))

    def factorize(self, other: Any) -> Any:
        """The same: what parts of a formula share is computed once anyway."""
        return self._combine(lambda a, _: a, other)

    def auto_factorize(self) -> Any:
        """As `factorize`."""
        return self._combine(lambda a: a)

    # ---- systems

    def solve(self, other: Any, var: Any = None, call: bool = True, **options: Any) -> Any:
        """The array a with Σ self · a + alpha · a = other, for a positive definite matrix.

        Parameters
        ----------
        other : array (N, E), or LazyTensor of one
            The right-hand sides, along i, or along j where it is a LazyTensor of axis 1; or a symbolic variable.
        var : LazyTensor, optional
            A symbolic variable that self is linear in: then Σ self + alpha · var = other is solved for it.
        call : bool
            With False nothing is computed yet: the result is called to do so.
        alpha : float or array of one number
            1e-10 by default.
        eps : float
            The root mean square of the residual that is small enough, 1e-6 by default.
        ranges, dtype_acc, use_double_acc, sum_scheme
            As in `reduction`; so is what has no meaning here.

        Returns
        -------
        array, (N, E)
            Differentiable in PyTorch, by all arrays and by alpha.
        LazyTensor
            To be called, where symbolic variables wait for their arrays.
        """
        other = other if isinstance(other, GenericLazyTensor) else self.lt_constructor(other, 0)
        if other.axis not in (0, 1):
            raise ValueError("the right-hand sides are an array, or a LazyTensor of one, or a symbolic variable, along i or j")
        axis = 1 - other.axis
        expression = self
        if var is None:
            var = self.lt_constructor((self.new_variable_index(), other.ndim, axis))
            expression = self * var
        made = expression._made(expression.native, expression.ranges)
        made.reduction_op, made.axis, made.kwargs, made.opt_arg, made._formulas = "Solve", axis, options, None, [expression.native]
        made.varindex, made.other = var.ind, other
        waits = other.symbolic_variables or len(expression.symbolic_variables) > 1
        return made() if call and not waits else made

    def _solved(self, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        """A system whose arrays are all there: those of symbolic variables, the right-hand sides in the place of the unknown."""
        options = dict(options)
        ranges = options.pop("ranges", None)
        arguments = list(arguments)
        if not self.other.symbolic_variables:
            missing = self.varindex - len(arguments)
            if missing < 0:
                raise ValueError(f"this system has its right-hand sides: it takes {self.varindex} arrays, not {len(arguments)}")
            arguments += [None] * missing + [self.other.native.leaves[0].value]
        unknown = arguments[self.varindex] = arguments[self.varindex][...]
        (lazy,) = _bound(self._formulas, arguments)
        check("Sum", False, None, self.axis, {k: v for k, v in options.items() if k not in ("alpha", "eps")})
        return solve(with_ranges(lazy, ranges), unknown, self.axis, **options)

    # ---- reductions

    def reduction(
        self,
        reduction_op: str,
        other: Any = None,
        opt_arg: Any = None,
        axis: int | None = None,
        dim: int | None = None,
        call: bool = True,
        is_complex: bool | None = None,
        **options: Any,
    ) -> Any:
        """The reduction of that name, as `Genred` has it, along i or j.

        Parameters
        ----------
        reduction_op : str
        other : LazyTensor or array, optional
            Weights, of LogSumExp and SumSoftMaxWeight.
        opt_arg : int, optional
            K, of KMin and its kin.
        axis, dim : int
            The number of batch axes for i, one more for j.
        call : bool
            With False nothing is computed yet: the result is called to do so, with the arrays of symbolic variables, if any.
        ranges, out, dtype_acc, use_double_acc, sum_scheme
            As in `Genred`; so is what has no meaning here.

        Returns
        -------
        array, or two
            (…, M, D) or (…, N, D); (…, M, K, D) of the K smallest, without D where it is 1.
        LazyTensor
            To be called, where symbolic variables wait for their arrays or there are none to tell the type.
        """
        axis = dim if axis is None else axis
        first = self.nbatchdims
        if axis not in (first, first + 1):
            raise ValueError(f"{reduction_op} runs along axis {first} (i) or {first + 1} (j) of {self._shape}, not along {axis}")
        operands = [self._lifted(self)] if other is None else [self._lifted(self), self._lifted(other)]
        made = self._made(self.native, _common_ranges(operands))
        made.reduction_op, made.axis, made.opt_arg, made.kwargs = reduction_op, axis - first, opt_arg, options
        made._formulas = [x.native for x in operands]
        made.backend = self.backend
        waits = any(x.symbolic_variables for x in operands)
        known = any(x.native._kind for x in operands)
        return made() if call and known and not waits else made

    @property
    def callfun(self) -> Any:
        """What a reduction calls, the arrays of its variables behind those that it is given: a `Genred` or a `KernelSolve`."""
        if not self._is_reduced:
            raise AttributeError("only a reduction has a callfun, such as K.sum(axis=1, call=False)")
        formula = self._written(self._formulas[0])
        if self.reduction_op == "Solve":
            unknown = next(v for v in self.symbolic_variables if v[0] == self.varindex)
            return self.KernelSolve(formula, [], f"Var({','.join(map(str, unknown))})", self.axis)
        return self.Genred(formula, [], self.reduction_op, self.axis, opt_arg=self.opt_arg, formula2=self.formula2)

    @property
    def formula2(self) -> str | None:
        """The weights' formula, of a reduction that has some."""
        return self._written(self._formulas[1]) if self._is_reduced and len(self._formulas) > 1 else None

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Compute a reduction that waits for its arrays: those of the symbolic variables, by their numbers."""
        if not self._is_reduced:
            raise ValueError("only a reduction that waits for its arrays is called, such as K.sum(axis=1, call=False)")
        options = {"ranges": self.ranges, **self.kwargs, **options}
        if self.reduction_op == "Solve":
            return self._solved(args, options)
        return reduce(self.reduction_op, _bound(self._formulas, args), self.axis, self.opt_arg, **options)

    sum = _reducing("Sum", inner=True)
    min, max = _reducing("Min", inner=True), _reducing("Max", inner=True)
    argmin, argmax = _reducing("ArgMin", inner=True), _reducing("ArgMax", inner=True)
    min_argmin, max_argmax = _reducing("Min_ArgMin", inner=False), _reducing("Max_ArgMax", inner=False)
    sum_reduction, min_reduction, max_reduction = (_reducing(op, inner=False) for op in ("Sum", "Min", "Max"))
    argmin_reduction, argmax_reduction = (_reducing(op, inner=False) for op in ("ArgMin", "ArgMax"))
    min_argmin_reduction, max_argmax_reduction = min_argmin, max_argmax
    Kmin, argKmin, Kmin_argKmin = _reducing_k("KMin"), _reducing_k("ArgKMin"), _reducing_k("KMin_ArgKMin")
    Kmin_reduction, argKmin_reduction, Kmin_argKmin_reduction = Kmin, argKmin, Kmin_argKmin
    __min__, __max__ = min, max

    def logsumexp(self, axis: int | None = None, dim: int | None = None, weight: Any = None, **options: Any) -> Any:
        """log Σ exp along i or j, with a weight log Σ weight · exp: see `reduction`."""
        options = options if weight is None else {"other": weight, **options}
        return self.reduction("LogSumExp", axis=axis, dim=dim, **options)

    def sumsoftmaxweight(self, weight: Any, axis: int | None = None, dim: int | None = None, **options: Any) -> Any:
        """Σ exp · weight / Σ exp along i or j: see `reduction`."""
        return self.reduction("SumSoftMaxWeight", other=weight, axis=axis, dim=dim, **options)

    logsumexp_reduction, sumsoftmaxweight_reduction = logsumexp, sumsoftmaxweight

    def __matmul__(self, v: Any, **options: Any) -> Any:
        """The product of the (…, M, N) matrix with an array (N,) or (…, N, E)."""
        if self.ndim != (2 if self.is_complex else 1):
            raise ValueError(f"K @ v needs one number for each pair, but K has shape {self.shape}")
        if not isinstance(v, GenericLazyTensor) and not is_array(v):
            raise TypeError(f"K @ v takes an array v, not {type(v).__name__}")
        vector = len(v.shape) == 1
        if not options and self._is_there and not self.is_complex and not is_complex(v) and not (vector and self.native._batch):
            return self.native @ v
        shape = (1, v.shape[0], 1) if vector else (*v.shape[:-2], 1, *v.shape[-2:])
        weighted = self * self.lt_constructor(v.reshape(shape))
        product = weighted.sum(axis=weighted.nbatchdims + 1, **options)
        return product.reshape(-1) if vector else product

    def matvec(self, v: Any) -> Any:
        """As ``K @ v``, SciPy's name."""
        return self @ v

    def rmatvec(self, v: Any) -> Any:
        """As ``K.T @ v``, SciPy's name; of a complex matrix the conjugate transpose, as SciPy means it."""
        return (self.T.conj() if self.is_complex else self.T) @ v


_SIGNS = {"+": "Add", "-": "Subtract", "*": "Mult", "/": "Divide", "|": "Scalprod",
          "==": "Equal", "!=": "NotEqual", "<": "LessThan", "<=": "LessOrEqual", ">": "gt", ">=": "ge"}  # fmt: skip


class RealGenericLazyTensor(GenericLazyTensor):
    """A `GenericLazyTensor` of real numbers; made from complex ones it is one of those."""

    def __new__(cls, x: Any = None, axis: int | None = None, is_complex: bool = False) -> Any:
        """A ComplexLazyTensor where the numbers are complex."""
        return cls.tools.ComplexLazyTensor(x, axis) if is_complex or cls.tools.detect_complex(x) else object.__new__(cls)


class ComplexGenericLazyTensor(GenericLazyTensor):
    """A `GenericLazyTensor` of complex numbers."""

    is_complex = True


def variables_of(tools: Any) -> tuple[Callable[..., Any], ...]:
    """`Var`, `Vi`, `Vj` and `Pm` of a framework."""

    def Var(x_or_ind: Any, dim: int | None = None, cat: int | None = None) -> Any:  # noqa: N802
        """A variable of a category, 0 for rows, 1 for columns, 2 for parameters: of an array, or symbolic with its number and dimension."""
        return tools.LazyTensor(x_or_ind, axis=cat) if dim is None else tools.LazyTensor((x_or_ind, dim, cat))

    def Vi(x_or_ind: Any, dim: int | None = None) -> Any:  # noqa: N802
        """A vector for each row, from an (M, D) array; ``Vi(0, 3)`` is a symbolic variable."""
        return Var(x_or_ind, dim, 0)

    def Vj(x_or_ind: Any, dim: int | None = None) -> Any:  # noqa: N802
        """A vector for each column, from an (N, D) array; ``Vj(0, 3)`` is a symbolic variable."""
        return Var(x_or_ind, dim, 1)

    def Pm(x_or_ind: Any, dim: int | None = None) -> Any:  # noqa: N802
        """A parameter: a number, a list of numbers or a (D,) array; ``Pm(0, 3)`` is a symbolic variable."""
        return Var(x_or_ind, dim, 2)

    return Var, Vi, Vj, Pm


def _common_ranges(operands: Sequence[GenericLazyTensor]) -> Sequence[Any] | None:
    found: Sequence[Any] | None = None
    for x in operands:
        if x.ranges is not None:
            if found is not None and found is not x.ranges and any((a != b).any() for a, b in zip(found, x.ranges, strict=True)):
                raise ValueError("LazyTensors with different ranges meet: set the ranges of the result")
            found = x.ranges
    return found


def _bound(natives: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Native LazyTensors with arrays in place of symbolic variables and of lists."""
    formulas, whole = merge(natives)
    if not any(isinstance(leaf.value, (Symbol, Listed)) for leaf in whole.leaves):
        if arguments:
            raise ValueError(f"this reduction has no symbolic variables, but was given {len(arguments)} arrays")
        return list(natives)
    nodes = {v.attrs[1]: v for v in variables(tuple(formulas))}
    # A symbol that no formula has any more, after a trace say, stands for nothing.
    values: list[Any] = [0.0 if isinstance(leaf.value, Symbol) and k not in nodes else leaf.value for k, leaf in enumerate(whole.leaves)]
    wanted = 1 + max((v.index for v in values if isinstance(v, Symbol)), default=-1)
    if len(arguments) != wanted:
        raise ValueError(f"this reduction has {wanted} symbolic variables, but was given {len(arguments)} arrays")
    # By their places: they have numbers of their own, by which is said what is wrong with an array.
    symbols = {k: var(whole.leaves[k].axis, v.index, v.dim) for k, v in enumerate(values) if isinstance(v, Symbol)}
    given = in_shape(arguments, {s.attrs[1]: s for s in symbols.values()})
    for k, s in symbols.items():
        values[k] = given[s.attrs[1]]
    like = next((v for v in values if is_array(v)), None)
    if like is None:
        raise TypeError("this reduction is made of numbers alone: nothing tells its size, type or framework")
    parts = []
    for k, (leaf, value) in enumerate(zip(whole.leaves, values, strict=True)):
        if isinstance(value, Listed):
            value = _as_array(value.values, like)
        node = nodes.setdefault(k, var(leaf.axis if is_array(value) else "p", k, value.shape[-1] if is_array(value) else 1))
        parts.append(variable_of(value, symbols.get(k, node)))
    bound, filled = merge(parts)
    names = {nodes[k]: node for k, node in enumerate(bound)}
    return [filled._with(f, True, type(native)) for f, native in zip(substitute(formulas, names), natives, strict=True)]


def _as_array(values: Sequence[float], like: Any) -> Any:
    backend = backend_of(like)
    dtype = backend.real(backend.dtype(like))
    return backend.module.concatenate([backend.scalar(v, dtype, like) for v in values])
