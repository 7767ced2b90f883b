"""Formulas as text, in KeOps's syntax."""

from __future__ import annotations

from typing import Any

from ..formula.parse import parse
from .symbolic import Symbolic, merge
from .tensor import LazyTensor, Pm


def from_string(text: str, **names: Any) -> LazyTensor:
    """A formula in KeOps's textual syntax, over named LazyTensors, arrays of parameters and numbers.

    Parameters
    ----------
    text : str
        For instance ``"Exp(-G*SqDist(X,Y))*B"``; the documentation's table of operators has all names.
    **names : LazyTensor, array (D,) or number
        What the names in the text stand for.

    Returns
    -------
    LazyTensor

    Raises
    ------
    FormulaError
        A ValueError that shows the column where the text is no formula.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import Vi, Vj, from_string
    >>> x, y = np.random.rand(5, 3), np.random.rand(7, 3)
    >>> K = from_string("Exp(-G*SqDist(X,Y))", X=Vi(x), Y=Vj(y), G=0.5)
    >>> np.allclose(K.sum(axis=1), np.exp(-0.5 * ((x[:, None] - y) ** 2).sum(-1)).sum(1))
    True
    """
    if not isinstance(text, str):
        raise TypeError(f"from_string takes a text, not {type(text).__name__}")
    parts = {name: value if isinstance(value, Symbolic) else Pm(value) for name, value in names.items()}
    if not parts:
        parse(text, {})  # says what is wrong with it
        raise ValueError(f"the formula {text!r} has no arrays: name LazyTensors, e.g. from_string('Exp(-X)', X=Vi(x))")
    formulas, whole = merge(tuple(parts.values()))
    formula = parse(text, dict(zip(parts, formulas, strict=True)))
    return whole._with(formula, formula.dim > 1)
