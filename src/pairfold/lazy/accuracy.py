"""How sums are accumulated, as users say it."""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import Any

from ..reductions import ACCUMULATIONS, Accumulation
from ..runtime import accurate

_default: ContextVar[Accumulation] = ContextVar("accumulation", default=ACCUMULATIONS["block"])
# KeOps's sum_scheme. Its plain sum has no advantage over blocks here.
_KEOPS = {"auto": "block", "direct_sum": "block", "block_sum": "block", "kahan_scheme": "compensated"}


def accumulation_of(
    accumulate: str | None = None, dtype_acc: Any = None, use_double_acc: bool = False, sum_scheme: str | None = None, **unknown: Any
) -> Accumulation:
    """The accumulation that a call asks for, in Pairfold's words or in KeOps's; what `accumulate` was set to where it asks for none.

    Raises
    ------
    TypeError
        Where there are other options.
    ValueError
        Where a name is unknown.
    """
    if unknown:
        known = "axis (dim), keepdims (keepdim), accumulate, or KeOps's dtype_acc, use_double_acc and sum_scheme"
        raise TypeError(f"sums take {known}, not {', '.join(unknown)}")
    if accumulate is not None:
        return _named(accumulate)
    if dtype_acc is None and sum_scheme is None and not use_double_acc:
        return _default.get()
    if sum_scheme is not None and sum_scheme not in _KEOPS:
        raise ValueError(f"sum_scheme must be one of {', '.join(map(repr, _KEOPS))}, not {sum_scheme!r}")
    if sum_scheme == "kahan_scheme":
        return ACCUMULATIONS["compensated"]
    type_name = str(getattr(dtype_acc, "__name__", dtype_acc)).removeprefix("torch.")
    if type_name not in ("None", "auto", "float16", "float32", "float64", "half", "float", "double"):
        raise ValueError(f"dtype_acc must be 'auto', 'float32' or 'float64', not {dtype_acc!r}")
    if use_double_acc or type_name in ("float64", "double"):
        return ACCUMULATIONS["float64"]
    return _named(_KEOPS[sum_scheme]) if sum_scheme is not None else _default.get()


def _named(name: str) -> Accumulation:
    if name not in ACCUMULATIONS:
        raise ValueError(f"sums are accumulated as {', '.join(map(repr, ACCUMULATIONS))}, not {name!r}")
    return ACCUMULATIONS[name]


class accumulate:  # noqa: N801  # used as a function
    """Choose how sums are accumulated, from now on or within a ``with`` block, in this thread.

    Parameters
    ----------
    name : str
        ``"block"``, the default: plain sums over tiles of 64 columns, and what rounding takes off between tiles is kept.
        ``"compensated"``: what rounding takes off is kept at each term (Kahan–Babuška, in the form of Knuth, TAOCP 2, 4.2.2).
        ``"float64"``: terms in the arrays' type, added up in float64.

    Raises
    ------
    ValueError
        Where the name is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> import pairfold
    >>> from pairfold import Vi, Vj
    >>> y = np.array([1e8, 1, -1e8], dtype=np.float32)
    >>> K = Vi(np.ones(1, dtype=np.float32)) * Vj(y)
    >>> with pairfold.accumulate("float64"):
    ...     print(K.sum(axis=1))
    [1.]
    """

    def __init__(self, name: str):
        self._token = _default.set(_named(name))

    def __enter__(self) -> accumulate:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _default.reset(self._token)


class fast_math:  # noqa: N801  # used as a function
    """Choose whether GPUs may use approximate instructions in float32, from now on or within a ``with`` block, in all threads.

    By default they do: exponentials to 2 units in the last place, and 0 where they would be subnormal; roots to 1; quotients as the
    nearest number but in rare cases, and to 2 units where numbers are near the largest or the smallest. ``fast_math(False)`` asks for
    roots and quotients that are correctly rounded, and for the exponentials of the CPU. Float64 and the CPU know no other instructions:
    there the choice changes nothing.

    Parameters
    ----------
    allowed : bool

    Raises
    ------
    TypeError
        Where it is no bool.

    Examples
    --------
    >>> import numpy as np
    >>> import pairfold
    >>> from pairfold import Vi, Vj
    >>> x, y = np.random.rand(5, 3), np.random.rand(7, 3)
    >>> K = Vi(x) | Vj(y)
    >>> with pairfold.fast_math(False):
    ...     a = K.sum(axis=1)
    >>> np.array_equal(a, K.sum(axis=1))
    True
    """

    def __init__(self, allowed: bool):
        if not isinstance(allowed, bool):
            raise TypeError(f"fast_math takes True or False, not {allowed!r}")
        self._before, accurate.fast_math = accurate.fast_math, allowed

    def __enter__(self) -> fast_math:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        accurate.fast_math = self._before
