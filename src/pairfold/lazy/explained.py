"""What a symbolic matrix says of itself: how a reduction of it is computed, and its picture in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .folds import Asked, Folds, asking

# Imported where they are used: most programs never ask, and should not wait.
if TYPE_CHECKING:
    from ..explain import Explanation, Listing


class Explained(Folds):
    """What explains instead of computing."""

    def explain(self, what: str = "plan", *, reduction: str = "sum", **arguments: Any) -> Explanation | Listing:
        """How a reduction is computed on these data, and why so: what is packed, the tile, the work and the time it takes.

        Nothing is reduced. The computer's limit is measured the first time, which takes some hundredths of a second. The plan is the
        CPU's, whatever backend is asked for.

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

        if not isinstance(reduction, str):
            raise TypeError(f"reduction is the name of a method, such as 'sum', not {reduction!r}")
        method = getattr(self, {"@": "__matmul__"}.get(reduction, reduction), None)
        if callable(method) and (reduction == "@" or not reduction.startswith("_")):
            signature = inspect.signature(method)
            try:
                signature.bind(**arguments)
            except TypeError as error:
                raise TypeError(f"explain(reduction={reduction!r}) takes that method's own arguments too: {error}") from None
            if "axis" in signature.parameters and not {"axis", "dim"} & arguments.keys():
                arguments["axis"] = len(self._batch) + 1
            asked = None
            token = asking.set(True)
            try:
                method(**arguments)
            except Asked as fold:
                asked = fold
            finally:
                asking.reset(token)
            if asked:
                return _account(asked, what)
        raise ValueError(
            f"{reduction!r} does not reduce the rows or the columns of {self!r}: name a method that does, e.g. 'sum' or 'logsumexp'"
        )

    def _repr_html_(self) -> str:
        from ..explain import sketch

        return sketch(repr(self), self.formula)


def _account(asked: Asked, what: str) -> Explanation | Listing:
    from ..explain import explain

    backend, fold, arrays, extent = asked.backend, asked.fold, asked.arrays, asked.extent
    described, operands = [], []
    for array, variable in zip(arrays, fold.variables, strict=True):
        if backend.device(array) != "cpu":
            raise TypeError(f"explain is about the CPU, but the arrays are on {backend.device(array)}: ask the same of x.cpu()")
        number = variable.axes == 0 and tuple(array.shape) == (1,)
        described.append(f"{float(array[0]):g}" if number else f"{tuple(array.shape)} {backend.dtype(array)}")
        operands.append(backend.operand(array, bool(variable.axes), extent.batch))
    return explain(fold, operands, extent, backend.bits(arrays, asked.dtype), asked.dtype, what, described, asked.pattern)
