"""What a symbolic matrix says of itself: how a reduction of it is computed, and its picture in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..arrays.base import Backend
from ..fold import Fold
from ..runtime.operand import Extent
from ..runtime.pattern import Pattern
from .folds import Folds

# Imported where they are used: most programs never ask, and should not wait.
if TYPE_CHECKING:
    from ..explain import Explanation, Listing


class Explained(Folds):
    """What explains instead of computing."""

    def explain(self, what: str = "plan", *, reduction: str = "sum", **arguments: Any) -> Explanation | Listing:
        """How a reduction is computed on these data, and why so: what is packed, the tile, the work and the time it takes.

        Nothing is reduced. The computer's limit is measured the first time, which takes some hundredths of a second.

        Parameters
        ----------
        what : str
            ``"plan"``; ``"llvm"`` or ``"asm"`` for the code of the kernel.
        reduction : str
            The method that reduces, e.g. ``"logsumexp"``; ``"@"`` for a product with an array ``b``.
        **arguments
            Those of the method; without an axis the columns are reduced.

        Returns
        -------
        Explanation
            Printed in a terminal, shown with the formula's graph in a notebook; its attributes are the figures.
        Listing
            For code: a str.

        Raises
        ------
        ValueError
            Where there is no such reduction.
        TypeError
            Where the arrays are not in the CPU's memory, or there is none.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(1000, 3), np.random.rand(2000, 3)
        >>> K = (-((Vi(x) - Vj(y)) ** 2).sum(-1)).exp()
        >>> told = K.explain()
        >>> print(told)
        sum over the columns of 1000 × 2000 pairs
        formula     sum(exp(-sum((x0 - y1)**2)), axis=1)
        ...
        >>> told.pairs
        2000000
        >>> nearest = K.explain(reduction="argKmin", K=3)
        >>> product = K.explain(reduction="@", b=np.ones(2000))
        >>> "define" in K.explain("llvm", reduction="max", axis=0)
        True
        """
        import inspect

        method = getattr(_diverted(self), {"@": "__matmul__"}.get(reduction, reduction), None)
        if callable(method) and (reduction == "@" or not reduction.startswith("_")):
            if "axis" in inspect.signature(method).parameters and not {"axis", "dim"} & arguments.keys():
                arguments["axis"] = len(self._batch) + 1
            asked = None
            try:
                method(**arguments)
            except _Asked as fold:
                asked = fold
            if asked:
                return asked.account(what)
        raise ValueError(
            f"{reduction!r} does not reduce the rows or the columns of {self!r}: name a method that does, e.g. 'sum' or 'logsumexp'"
        )

    def _repr_html_(self) -> str:
        from ..explain import sketch

        return sketch(repr(self), self.formula)


class _Asked(Exception):
    """Thrown in the place of a fold's results: who was to compute them, and what of."""

    def __init__(self, backend: Backend, fold: Fold, arrays: Sequence[Any], extent: Extent, dtype: str, pattern: Pattern | None):
        self.backend, self.fold, self.arrays, self.extent, self.dtype, self.pattern = backend, fold, arrays, extent, dtype, pattern

    def account(self, what: str) -> Explanation | Listing:
        from ..explain import explain

        backend, fold = self.backend, self.fold
        for device in map(backend.device, self.arrays):
            if device != "cpu":
                raise TypeError(f"explain is about the CPU, but the arrays are on {device}: ask the same of x.cpu()")
        described, operands = [], []
        for array, variable in zip(self.arrays, fold.variables, strict=True):
            number = variable.axes == 0 and tuple(array.shape) == (1,)
            described.append(f"{float(array[0]):g}" if number else f"{tuple(array.shape)} {backend.dtype(array)}")
            operands.append(backend.operand(array, bool(variable.axes), self.extent.batch))
        bits = backend.bits(self.arrays, self.dtype)
        return explain(fold, operands, self.extent, bits, self.dtype, what, described, self.pattern)


class _Diverting(Folds):
    """A symbolic matrix that throws its first fold."""

    def _results(self, *call: Any) -> Any:
        raise _Asked(*call)


def _diverted(lazy: Explained) -> Any:
    """The same matrix, of a class that diverts."""
    made: Any = object.__new__(type(type(lazy).__name__, (_Diverting, type(lazy)), {}))
    made.__dict__.update(lazy.__dict__)
    return made
