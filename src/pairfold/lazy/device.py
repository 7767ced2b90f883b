"""What computes with NumPy arrays, as users say it."""

from __future__ import annotations

import re
from types import TracebackType

from ..arrays.streamed import chosen

_NAMED = re.compile(r"auto|CPU(?:_1D|_2D)?(?:_host)?|cpu|(?:cuda|gpu)(?::(\d+))?|GPU(?:_1D|_2D)?(?:_host|_device)?")


def number_of(name: str | None) -> int | None:
    """The number of the GPU that a name stands for, None for the CPU; what was chosen before for ``"auto"`` and None.

    Raises
    ------
    ValueError
        Where the name is unknown.
    """
    found = _NAMED.fullmatch(str(name))
    if name is not None and found is None:
        raise ValueError(f"backend must be 'cpu', 'cuda', 'cuda:1' … or KeOps's 'auto', 'CPU', 'GPU', not {name!r}")
    if found is None or name == "auto":
        return chosen.get()
    if str(name).lower().startswith("cpu"):
        return None
    return int(found[1] or 0)


class backend:  # noqa: N801  # used as a function
    """Choose what computes with NumPy arrays, from now on or within a ``with`` block, in this thread; other arrays are computed where
    they are. Methods that reduce take the same as a keyword: ``K.sum(axis=1, backend="cuda")``.

    On a GPU the arrays' side that is reduced is copied to its memory, the other some rows at a time, so that it may be longer than that.

    Parameters
    ----------
    name : str
        ``"cpu"``, the default, ``"cuda"`` for the first NVIDIA GPU, ``"cuda:1"`` for the second; or KeOps's ``"CPU"``, ``"GPU"`` ….

    Raises
    ------
    ValueError
        Where the name is none of these.
    CudaError
        Where something is computed then, and there is no such GPU.

    Examples
    --------
    >>> import numpy as np
    >>> import pairfold
    >>> from pairfold import Vi, Vj
    >>> x, y = np.random.rand(5, 3), np.random.rand(7, 3)
    >>> with pairfold.backend("cpu"):
    ...     a = (Vi(x) | Vj(y)).sum(axis=1)
    >>> np.allclose(a, (x @ y.T).sum(axis=1))
    True
    """

    def __init__(self, name: str):
        self._token = chosen.set(number_of(name))

    def __enter__(self) -> backend:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        chosen.reset(self._token)
