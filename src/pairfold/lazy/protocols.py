"""How functions of NumPy and PyTorch find their way to LazyTensors: by the names of operators and reductions."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from ..formula.operators_elementary import ARITHMETIC, CHOICES, FUNCTIONS
from .blocks import block
from .folds import Folds
from .symbolic import Symbolic, lift, refuse_lists

# What acts on each number alone, and is called the same in the table of operators as in NumPy or PyTorch, or as told in `_SYNONYMS`. The
# frameworks mean something else by "inv", a matrix's, and by "softmin", of an axis; they take the operands of "polygamma" the other way.
_ELEMENTWISE = {op.name for op in (*ARITHMETIC, *FUNCTIONS, *CHOICES)} - {"inv", "softmin", "polygamma"}
_BY_PYTHON_ALONE = {"or", "and", "xor", "invert", "floordiv"}
_REDUCTIONS = {name for name, method in vars(Folds).items() if hasattr(method, "__wrapped__")}
_SYNONYMS = {
    "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "truediv": "div", "negative": "neg", "power": "pow",
    "float_power": "pow", "remainder": "mod", "absolute": "abs", "fabs": "abs", "rint": "round", "around": "round", "fix": "trunc",
    "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "equal": "eq", "not_equal": "ne", "bitwise_or": "or",
    "bitwise_and": "and", "bitwise_xor": "xor", "floor_divide": "floordiv", "clip": "clamp", "amin": "min", "amax": "max",
    "mm": "matmul", "mv": "matmul", "bmm": "matmul", "dot": "matmul", "concatenate": "concat", "cat": "concat", "swapaxes": "transpose",
    "conjugate": "conj", "linalg_norm": "norm", "linalg_vector_norm": "norm",
}  # fmt: skip
_OF_PYTHON = {"div": "truediv"}  # where Python's own operator has another name
_AXES = {"axis", "dim", "keepdims", "keepdim", "ddof", "correction"}


class Protocols(Symbolic):
    """NumPy's ``__array_ufunc__`` and ``__array_function__``, and PyTorch's ``__torch_function__``.

    ``np.exp(K)``, ``np.sum(K, axis=1)``, ``torch.logsumexp(K, 1)`` and their kin, and operators with an array on the left.
    """

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        name = f"numpy.{ufunc.__name__}"
        if options.get("out") is not None:
            raise TypeError(
                f"{name} cannot write a symbolic matrix of shape {self.shape} into an array: reduce it first, e.g. K.sum(axis=1), "
                "and instead of x += K write x = x + K"
            )
        if method != "__call__":
            raise _unknown(f"{name}.{method}")
        return _call(name, ufunc.__name__, self, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        full = f"{function.__module__}.{function.__name__}"
        if function.__name__ in ("shape", "ndim"):
            return getattr(self, function.__name__)
        if function.__name__ == "size":
            return math.prod(self.shape)
        if function.__module__ == "numpy.linalg" and function.__name__ != "norm":
            raise _unknown(full)
        options = dict(options)
        if function.__name__ in ("var", "std") and "correction" not in options:
            options.setdefault("ddof", 0)
        if len(args) > 2 and function.__name__ in _REDUCTIONS - {"norm"}:
            raise TypeError(f"{full} takes a symbolic matrix and its axis; what else it takes is named, as in keepdims=True")
        return _call(full, function.__name__, self, args, options)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Sequence[Any] = (), options: Any = None) -> Any:
        name, options = getattr(function, "__name__", str(function)), dict(options or {})
        full = f"torch.{name}"
        lazy = _first(args)
        if lazy is None or name == "equal":  # whether two tensors are the same, for PyTorch
            raise _unknown(full)
        bare = name.strip("_")
        if (name.startswith("__r") or name == "rsub") and bare[1:] in ("add", "sub", "mul", "div", "truediv", "pow", "mod", "matmul"):
            args, bare = (args[1], args[0]), bare[1:]  # Tensor.__rsub__(tensor, K) is K - tensor
        elif name.endswith("_") and not name.startswith("__") or name.startswith("__i") and name != "__invert__":
            # PyTorch takes a TypeError for "not implemented", and would go on to x = x + K.
            raise RuntimeError(
                f"{full} cannot write a symbolic matrix of shape {lazy.shape} into a tensor: instead of x += K write x = x + K"
            )
        if bare in ("min", "max") and len(args) + len(options) > 1:  # values and indices then, or the smaller of two
            other = args[1] if len(args) > 1 else next(iter(options.values()))
            bare = f"{bare}imum" if not isinstance(other, int) else f"{bare}_arg{bare}"
        if bare in ("var", "std"):
            args, options = _with_correction(args, options)
        found = _call(full, bare.removeprefix("special_"), lazy, args, options)
        if bare in ("min_argmin", "max_argmax"):  # by name too, as PyTorch's
            return getattr(sys.modules["torch"].return_types, bare[:3])(found)
        return found


def _call(full: str, name: str, lazy: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """A framework's function of LazyTensors: the method that means the same."""
    options = {key: value for key, value in options.items() if value is not None}
    if options.get("inplace") is False:  # which torch.nn.functional always says
        del options["inplace"]
    name = _SYNONYMS.get(name, name)
    if name.startswith("arc"):
        name = name.replace("arc", "a", 1)
    if name in _OTHERS:
        return _OTHERS[name](full, lazy, args, options)
    if name in _REDUCTIONS:
        if not options.keys() <= _AXES:
            raise TypeError(f"{full} of a symbolic matrix takes {', '.join(sorted(_AXES))}, not {', '.join(options.keys() - _AXES)}")
        return getattr(args[0], name)(*args[1:], **options)
    method = name if hasattr(lazy, name) else f"__{_OF_PYTHON.get(name, name)}__"
    if name not in _ELEMENTWISE | _BY_PYTHON_ALONE or not hasattr(lazy, method):
        raise _unknown(full)
    bound = getattr(_lifted(args, lazy), method)
    if options and (others := options.keys() - inspect.signature(bound).parameters):  # a signature takes long to find
        raise TypeError(f"{full} of a symbolic matrix takes no {', '.join(others)}")
    return bound(*args[1:], **options)


def _with_correction(args: Sequence[Any], options: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """PyTorch's arguments of var and std, (K, unbiased) or (K, dim, unbiased, keepdim), with a correction in the place of `unbiased`."""
    lazy, *given = args
    names = ("unbiased",) if given and isinstance(given[0], bool) else ("dim", "unbiased", "keepdim")
    options = {**options, **dict(zip(names, given, strict=False))}
    unbiased = options.pop("unbiased", None)
    if unbiased is not None:
        options["correction"] = int(unbiased)
    elif options.get("correction") is None:
        options["correction"] = 1
    return (lazy,), options


def _lifted(args: Sequence[Any], lazy: Any) -> Any:
    """The first operand, which may be an array, as a LazyTensor."""
    if isinstance(args[0], Symbolic):
        return args[0]
    refuse_lists(args, [lazy])
    return lazy._lift(args[0])


def _first(values: Sequence[Any]) -> Any:
    """The first LazyTensor among operands, which may be lists."""
    for value in values:
        found = value if isinstance(value, Symbolic) else _first(value) if isinstance(value, (list, tuple)) else None
        if found is not None:
            return found
    return None


def _unknown(full: str) -> TypeError:
    return TypeError(
        f"{full} does not take a symbolic matrix: use its methods, e.g. K.exp(), reduce it first, e.g. K.sum(axis=1), "
        "or compute all of it, K.dense()"
    )


# ---- functions that are no method of that name

Function = Callable[[str, Any, Sequence[Any], dict[str, Any]], Any]


def _where(full: str, lazy: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    return _lifted(args, lazy)._apply("where", *args[1:])


def _matmul(full: str, lazy: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    a, b = args
    return a @ b if isinstance(a, Symbolic) else b.__rmatmul__(a)


def _clamp(full: str, lazy: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    value, *bounds = args
    named = [options.get("min", options.get("a_min")), options.get("max", options.get("a_max"))]
    low, high = (bounds + named[len(bounds) :])[:2]
    found = _lifted(args, lazy)
    if low is None or high is None:
        return found if low is None and high is None else found.minimum(high) if low is None else found.maximum(low)
    return found.clamp(low, high)


def _norm(full: str, lazy: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    names = ("p" if full == "torch.norm" else "ord", "axis", "keepdims")
    given = (
        {"axis": options.pop("dim", None), "keepdims": options.pop("keepdim", False)} | dict(zip(names, args[1:], strict=False)) | options
    )
    order, axis = given.get(names[0]), given["axis"]
    vectors = isinstance(axis, int) or full.endswith("vector_norm")
    if order not in (None, "fro", 2 if vectors else None) or given.keys() - {*names}:
        raise TypeError(f"{full} of a symbolic matrix is the Euclidean norm of rows or columns, or the Frobenius norm, not that of {given}")
    return lazy.norm(tuple(range(lazy.ndim)) if axis is None else tuple(axis) if isinstance(axis, list) else axis, given["keepdims"])


def _concat(full: str, lazy: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    parts, *rest = args
    axis = rest[0] if rest else options.get("axis", options.get("dim", 0))
    first = lift(parts[0], type(lazy))
    try:
        lazy._inner_axis("concat", axis)
    except ValueError as error:
        raise ValueError(f"{error}; matrices beside or below one another: pairfold.block([[A, B]])") from None
    return reduce(lambda a, b: a.concat(b, axis), parts[1:], first)


def _transpose(full: str, lazy: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    rows, own = len(lazy._batch), list(range(lazy.ndim))
    swapped = [*own[:rows], rows + 1, rows, *own[rows + 2 :]]
    axes = (*args[1:], *options.values())
    permutation = own[::-1] if not axes else axes[0]
    if len(axes) == 2 and all(isinstance(a, int) for a in axes):  # two that are exchanged
        permutation = [{axes[0] % lazy.ndim: axes[1], axes[1] % lazy.ndim: axes[0]}.get(k, k) for k in own]
    if isinstance(permutation, (tuple, list)) and all(isinstance(a, int) for a in permutation):
        places = [a % lazy.ndim for a in permutation]
        if places in (own, swapped):
            return lazy if places == own else lazy.T
    raise TypeError(f"{full} of a symbolic matrix of shape {lazy.shape} exchanges its rows and columns, {rows} and {rows + 1}, as K.T does")


def _of_matrices(name: str) -> Function:
    def call(full: str, lazy: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
        if lazy.ndim != 2:
            raise TypeError(f"{full} takes other axes of an array of shape {lazy.shape} than its rows and columns: use K.{name}()")
        return getattr(lazy, name)(*args[1:], **options)

    return call


_OTHERS: dict[str, Function] = {
    "where": _where,
    "matmul": _matmul,
    "clamp": _clamp,
    "norm": _norm,
    "concat": _concat,
    "transpose": _transpose,
    "t": _transpose,
    "diagonal": _of_matrices("diagonal"),
    "trace": _of_matrices("trace"),
    "reciprocal": lambda full, lazy, args, options: args[0].inv(**options),
    "positive": lambda full, lazy, args, options: +args[0],
    "conj": lambda full, lazy, args, options: args[0].conj(**options),
    "angle": lambda full, lazy, args, options: args[0].angle(**options),
    "real": lambda full, lazy, args, options: args[0].real,
    "imag": lambda full, lazy, args, options: args[0].imag,
    "log2": lambda full, lazy, args, options: args[0].log(**options) / math.log(2),
    "log10": lambda full, lazy, args, options: args[0].log(**options) / math.log(10),
    "exp2": lambda full, lazy, args, options: 2 ** args[0],
    "isfinite": lambda full, lazy, args, options: abs(args[0]) < math.inf,
    "isinf": lambda full, lazy, args, options: abs(args[0]) == math.inf,
    "block": lambda full, lazy, args, options: block(*args, **options),
    "min_argmin": lambda full, lazy, args, options: lazy.min_argmin(*args[1:], **options),
    "max_argmax": lambda full, lazy, args, options: lazy.max_argmax(*args[1:], **options),
}
