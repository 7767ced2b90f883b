"""KeOps's reductions by their names, as native ones, and `Genred`, which reduces a formula given as text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from ..arrays import backend_of, is_array
from ..formula.graph import Node
from ..formula.parse import parse, read_aliases
from ..lazy.device import backend
from ..lazy.strings import bind
from ..lazy.symbolic import is_complex
from ..runtime.cuda import count

# Of each name the native method, and whether it adds up.
REDUCTIONS = {
    "Sum": ("sum", True), "LogSumExp": ("logsumexp", True), "LogSumExpWeight": ("logsumexp", True),
    "SumSoftMaxWeight": ("sumsoftmaxweight", True), "SoftMax": ("sumsoftmaxweight", True), "Min": ("min", False), "Max": ("max", False),
    "ArgMin": ("argmin", False), "ArgMax": ("argmax", False), "Min_ArgMin": ("min_argmin", False), "MinArgMin": ("min_argmin", False),
    "Max_ArgMax": ("max_argmax", False), "MaxArgMax": ("max_argmax", False), "KMin": ("Kmin", False), "ArgKMin": ("argKmin", False),
    "KMin_ArgKMin": ("Kmin_argKmin", False), "KMinArgKMin": ("Kmin_argKmin", False), "Max_SumShiftExp": ("logsumexp", True),
    "Max_SumShiftExpWeight": ("sumsoftmaxweight", True),
}  # fmt: skip
WEIGHTED = {"LogSumExpWeight", "SumSoftMaxWeight", "SoftMax", "Max_SumShiftExpWeight"}
MAY_BE_WEIGHTED = {"LogSumExp", "Max_SumShiftExp"}
OF_K = {"KMin", "ArgKMin", "KMin_ArgKMin", "KMinArgKMin"}
# Accepted, without a meaning here: what is computed where the arrays are, in kernels that choose for themselves, needs none of them.
MEANINGLESS = {"backend", "device_id", "enable_chunks", "use_fast_math", "optional_flags", "rec_multVar_highdim", "dtype", "cuda_type"}
ACCURACY = {"dtype_acc", "use_double_acc", "sum_scheme"}
_NUMBERED = re.compile(r"(Var\((\d+),\d+,[012]\))")
_BACKEND = re.compile(r"auto|(CPU|GPU)(_1D|_2D)?(_(host|device))?")


def reduce(op: str, formulas: Sequence[Any], axis: int, K: Any = None, ranges: Any = None, out: Any = None, **options: Any) -> Any:  # noqa: N803
    """A reduction, by KeOps's name, of native LazyTensors with an inner axis: a formula, and weights where it has some.

    Raises
    ------
    ValueError
        Where there is no such reduction, or it lacks its K or its weights.
    TypeError
        Where an option is unknown.
    """
    check(op, len(formulas) > 1, K, axis, options)
    name, adds_up = REDUCTIONS[op]
    lazy, *weights = formulas
    lazy = with_ranges(lazy, ranges)
    arguments = [*weights] if name == "sumsoftmaxweight" else []
    keywords: dict[str, Any] = {"weight": weights[0]} if name == "logsumexp" and weights else {}
    if adds_up:
        keywords |= {k: v for k, v in options.items() if k in ACCURACY}
    if op in OF_K:
        return _k_smallest(lazy, name, K, axis, options, out)
    axis = len(lazy._batch) + axis
    with _on_gpu(options):
        found = getattr(lazy, name)(*arguments, axis=axis, **keywords)
    if op.startswith("Max_SumShift"):
        found = _shifted(lazy, axis, found, weighted=bool(weights))
    return found if out is None else _into(out, found)


def _k_smallest(lazy: Any, name: str, K: int, axis: int, options: Any, out: Any) -> Any:  # noqa: N803
    """(…, K, D), without D where it is 1. Where there are fewer than K, infinity and index 0 take the places that are left, as in KeOps."""
    there = lazy._lengths[axis]
    there = 1 if there is None else there
    with _on_gpu(options):
        found = getattr(lazy, name)(min(K, there) if isinstance(K, int) and there else K, axis=len(lazy._batch) + axis)
    results = []
    for result in found if isinstance(found, tuple) else (found,):
        if result.shape[-2] < K:
            backend = backend_of(result)
            filling = result[..., :1, :] * 0
            filling = filling if "int" in backend.dtype(result) else backend.module.full_like(filling, float("inf"))
            result = backend.module.concatenate([result, *[filling] * (K - result.shape[-2])], -2)
        results.append(_squeezed(result))
    found = tuple(results) if isinstance(found, tuple) else results[0]
    return found if out is None else _into(out, found)


def with_ranges(lazy: Any, ranges: Any) -> Any:
    """The pairs of KeOps's six arrays alone, where there are such."""
    if ranges is None:
        return lazy
    made = lazy._with(lazy.formula, lazy._inner)
    made.ranges = ranges
    return made


def completed(texts: Sequence[str], aliases: Sequence[str]) -> list[str]:
    """The aliases, and such for variables that the formulas themselves number, ``Var(1,3,1)``: a derivative may lose them."""
    found = [re.sub(r"\bV([xy])\b", lambda m: "Vi" if m[1] == "x" else "Vj", alias) for alias in aliases]
    known = {v.attrs[1] for v in read_aliases(found).values()}
    for number, variable in sorted({(int(m[2]), m[1]) for text in texts for m in _NUMBERED.finditer(text.replace(" ", ""))}):
        if number not in known:
            found.append(f"variable_{number} = {variable}")
            known.add(number)
    return found


def in_shape(arrays: Sequence[Any], variables: Mapping[int, Node]) -> list[Any]:
    """Arrays of variables, by number, as they are natively: KeOps lets a parameter have an axis of length 1 in the place of rows, numbers
    of one component do without their last axis, and complex numbers stand for two components each.
    """
    of_array = {k: v for k, v in variables.items() if k < len(arrays) and is_array(arrays[k])}
    found = [_whole(a, of_array[k].attrs) if k in of_array else a for k, a in enumerate(arrays)]
    batches = max((found[k].ndim - 2 for k, v in of_array.items() if v.axes), default=0)
    for k, v in of_array.items():
        if not v.axes and found[k].ndim >= batches + 2 and found[k].shape[-2] == 1:
            found[k] = found[k][..., 0, :]
    return found


def _whole(array: Any, variable: tuple[Any, ...]) -> Any:
    """With a last axis of as many components as the variable has, where there is no doubt."""
    axis, _, dim, *_ = variable
    if is_complex(array) and array.ndim > 0 and 2 * array.shape[-1] == dim:
        parts = backend_of(array).module.stack((array.real, array.imag), -1)
        return parts.reshape(*array.shape[:-1], dim)
    if dim == 1 and (array.ndim == 0 or axis != "p" and (array.ndim == 1 or array.shape[-1] != 1)):
        return array[..., None]
    return array


def check(op: str, weighted: bool, K: Any, axis: Any, options: Any) -> None:  # noqa: N803
    """Say what is wrong with a reduction that a user asks for."""
    if op not in REDUCTIONS:
        raise ValueError(f"there is no reduction {op!r}: there are {', '.join(REDUCTIONS)}")
    if op in WEIGHTED and not weighted:
        raise ValueError(f"{op} needs the formula of its weights, formula2")
    if weighted and op not in WEIGHTED | MAY_BE_WEIGHTED:
        raise ValueError(f"{op} has no weights: formula2 is for {', '.join(sorted(WEIGHTED | MAY_BE_WEIGHTED))}")
    if op in OF_K and K is None:
        raise ValueError(f"{op} needs the number K, opt_arg")
    if axis not in (0, 1):
        raise ValueError(f"axis must be 0 (reduce i) or 1 (reduce j), not {axis!r}")
    for key in options:
        if key not in MEANINGLESS | ACCURACY:
            raise TypeError(f"a reduction has no option {key!r}; there are {', '.join(sorted(MEANINGLESS | ACCURACY))}, ranges and out")
    name = options.get("backend")
    if name is not None and not _BACKEND.fullmatch(str(name)):
        raise ValueError(f"backend must be 'auto', 'CPU', 'GPU', 'GPU_1D' or 'GPU_2D', not {name!r}")


def _on_gpu(options: Any) -> Any:
    """NumPy arrays on a GPU, where the options ask for one and there is one."""
    if "GPU" not in str(options.get("backend")) or not count():
        return nullcontext()
    return backend(f"cuda:{max(0, options.get('device_id', 0))}")


def _shifted(lazy: Any, axis: int, found: Any, weighted: bool) -> Any:
    """KeOps's pair (m, Σ exp(F - m) · weight) of the largest exponent m, from log Σ exp F, or from the weights' mean under the softmax."""
    largest = lazy.max(axis=axis)
    module = backend_of(largest).module
    total = module.exp((lazy.logsumexp(axis=axis) if weighted else found) - largest)
    return module.concatenate((largest, total * found if weighted else total), -1)


def _squeezed(result: Any) -> Any:
    """(…, K) where there is one component."""
    return result[..., 0] if result.shape[-1] == 1 else result


def _into(out: Any, result: Any) -> Any:
    """The result in the memory of `out`, which is part of autograd's graph then, as the result is."""
    if isinstance(result, tuple):
        raise ValueError("out takes one array, but this reduction has two results")
    if tuple(out.shape) != tuple(result.shape):
        raise ValueError(f"out must have the result's shape {tuple(result.shape)}, not {tuple(out.shape)}")
    if getattr(out, "grad_fn", None) is not None:
        out.detach_()  # what it held before is gone
    out[...] = result
    return out


class Genred:
    """A reduction of a formula given as text, to be called on arrays.

    Parameters
    ----------
    formula : str
        In KeOps's syntax.
    aliases : sequence of str
        ``"x = Vi(3)"``, ``"y = Vj(3)"``, ``"p = Pm(1)"``, in the order of the arrays, or with their numbers, ``"x = Vi(0,3)"``.
    reduction_op : str
        ``"Sum"``, ``"LogSumExp"``, ``"SumSoftMaxWeight"``, ``"Min"``, ``"ArgMin"``, ``"Min_ArgMin"``, ``"Max"`` …, ``"KMin"`` …
    axis : int
        0 to reduce i, 1 to reduce j.
    opt_arg : int, optional
        K.
    formula2 : str, optional
        The weights.
    dtype_acc, use_double_acc, sum_scheme
        How sums are accumulated.
    dtype, cuda_type, enable_chunks, rec_multVar_highdim, use_fast_math
        Accepted, without a meaning here.

    Raises
    ------
    FormulaError
        A ValueError that shows the column where the text is no formula.
    ValueError
        Where there is no such reduction.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.pykeops.numpy import Genred
    >>> x, y, b = np.random.rand(5, 3), np.random.rand(7, 3), np.random.rand(7, 2)
    >>> K = Genred("Exp(-SqDist(x,y)) * b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"], axis=1)
    >>> np.allclose(K(x, y, b), np.exp(-((x[:, None] - y) ** 2).sum(-1)) @ b)
    True
    """

    def __init__(
        self,
        formula: str,
        aliases: Sequence[str],
        reduction_op: str = "Sum",
        axis: int = 0,
        dtype: Any = None,
        opt_arg: Any = None,
        formula2: str | None = None,
        cuda_type: Any = None,
        dtype_acc: Any = "auto",
        use_double_acc: bool = False,
        sum_scheme: str = "auto",
        enable_chunks: bool = True,
        rec_multVar_highdim: Any = False,  # noqa: N803
        use_fast_math: bool = True,
        **unknown: Any,
    ):
        check(reduction_op, formula2 is not None, opt_arg, axis, unknown)
        self.formula, self.formula2, self.reduction_op, self.axis, self.opt_arg = formula, formula2, reduction_op, axis, opt_arg
        self._accuracy = {"dtype_acc": dtype_acc, "use_double_acc": use_double_acc, "sum_scheme": sum_scheme}
        self._texts = (formula,) if formula2 is None else (formula, formula2)
        self.aliases = completed(self._texts, aliases)
        named = read_aliases(self.aliases)
        self._variables = {v.attrs[1]: v for v in named.values()}
        for text in self._texts:
            parse(text, named)

    def __call__(self, *args: Any, backend: str = "auto", device_id: int = -1, ranges: Any = None, out: Any = None) -> Any:
        """Reduce the formula of these arrays.

        Parameters
        ----------
        *args : array
            (…, M, D) for ``Vi``, (…, N, D) for ``Vj``, (…, D) or (…, 1, D) for ``Pm``, the latter where … has as many axes as
            that of the others; where D is 1, (…, M) and (…, N) too.
        backend, device_id
            ``"GPU"`` has NumPy arrays computed on that GPU, where there is one; other arrays are computed where they are.
        ranges : six arrays, optional
            The blocks of pairs that take part.
        out : array, optional
            Of the result's shape, to be written and returned.

        Returns
        -------
        array, or two
            (…, M, D) with axis 1, (…, N, D) with axis 0; (…, M, K) of the K smallest.
        """
        formulas = bind(self._texts, tuple(self.aliases), in_shape(args, self._variables))
        return reduce(
            self.reduction_op, formulas, self.axis, self.opt_arg, ranges, out, backend=backend, device_id=device_id, **self._accuracy
        )
