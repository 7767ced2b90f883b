"""Formulas as text, in KeOps's syntax."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..arrays import is_array
from ..formula.graph import Node, substitute, variables
from ..formula.parse import parse, read_aliases, to_keops
from .symbolic import Leaf, Symbolic, kind_of, lift, merge, readable
from .tensor import LazyTensor, Pm


def from_string(text: str, aliases: Sequence[str] = (), /, *arrays: Any, **names: Any) -> LazyTensor:
    """A formula in KeOps's textual syntax, over named LazyTensors, arrays of parameters and numbers; or over KeOps's aliases.

    Parameters
    ----------
    text : str
        For instance ``"Exp(-G*SqDist(X,Y))*B"``; the documentation's table of operators has all names.
    aliases : sequence of str, optional
        As for KeOps's Genred: ``"X = Vi(3)"``, ``"X = Vi(0,3)"``, ``Vj``, ``Pm``. Their arrays follow.
    *arrays
        With aliases: the arrays, by their numbers, of shape (…, M, D) for ``Vi``, (…, N, D) for ``Vj``, (…, D) for ``Pm``; numbers
        for ``Pm(1)``.
    **names : LazyTensor, array (D,) or number
        What the names in the text stand for.

    Returns
    -------
    LazyTensor

    Raises
    ------
    FormulaError
        A ValueError that shows the column where the text is no formula.
    ValueError
        Where an array does not have the shape that its alias says, or there are too few or too many.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import Vi, Vj, from_string
    >>> x, y = np.random.rand(5, 3), np.random.rand(7, 3)
    >>> expected = np.exp(-0.5 * ((x[:, None] - y) ** 2).sum(-1)).sum(1)
    >>> K = from_string("Exp(-G*SqDist(X,Y))", X=Vi(x), Y=Vj(y), G=0.5)
    >>> np.allclose(K.sum(axis=1), expected)
    True
    >>> K = from_string("Exp(-G*SqDist(X,Y))", ["X = Vi(3)", "Y = Vj(3)", "G = Pm(1)"], x, y, 0.5)
    >>> np.allclose(K.sum(axis=1), expected)
    True
    """
    if not isinstance(text, str):
        raise TypeError(f"from_string takes a text, not {type(text).__name__}")
    if names and (aliases or arrays):
        raise TypeError("from_string takes what the names stand for, or aliases and their arrays, not both")
    return _with_names(text, names) if names else _with_aliases(text, aliases, arrays)


def _with_names(text: str, names: dict[str, Any]) -> LazyTensor:
    formulas, whole = merge([value if isinstance(value, Symbolic) else Pm(value) for value in names.values()])
    if whole._complex:
        raise TypeError("formulas in KeOps's syntax are of real numbers: give the real and imaginary parts beside one another")
    found = parse(text, dict(zip(names, formulas, strict=True)))
    for v in set(variables((found,))) - set(variables(tuple(formulas))):
        raise ValueError(f"{to_keops(v)} stands for no array: give it a name, as in from_string({text!r}, X=Vi(x))")
    return whole._with(found, found.dim > 1)


def _with_aliases(text: str, aliases: Sequence[str], arrays: tuple[Any, ...]) -> LazyTensor:
    if isinstance(aliases, str):
        raise TypeError(f"aliases are a list of texts, not the text {aliases!r}: write [{aliases!r}]")
    for alias in aliases:
        if not isinstance(alias, str):
            raise TypeError(f"aliases are texts such as 'X = Vi(3)', not {alias!r}")
    (found,) = bind((text,), tuple(aliases), arrays)
    return found._with(found.formula, found.formula.dim > 1)


def bind(texts: tuple[str, ...], aliases: tuple[str, ...], arrays: Sequence[Any]) -> list[LazyTensor]:
    """Formulas over the same aliases, as LazyTensors over the arrays that these stand for, with an inner axis each.

    All aliases tell how many rows and columns there are, whether a formula has them or not.
    """
    formulas, used, names = _read(texts, aliases)
    if not used:
        raise ValueError(f"the formula {texts[0]!r} has no arrays: name LazyTensors, e.g. from_string('Exp(-X)', X=Vi(x))")
    wanted = max(used[-1].attrs[1] + 1, len(aliases))
    if wanted != len(arrays):
        raise ValueError(f"{texts[0]!r} takes {wanted} array{'s' * (wanted != 1)}, not {len(arrays)}")
    variables, whole = merge([variable_of(arrays[v.attrs[1]], v, names.get(v.attrs[1], "")) for v in used])
    return [whole._with(f, True) for f in substitute(formulas, dict(zip(used, variables, strict=True)))]


@lru_cache(maxsize=4096)
def _read(texts: tuple[str, ...], aliases: tuple[str, ...]) -> tuple[tuple[Node, ...], tuple[Node, ...], dict[int, str]]:
    """The formulas, all variables by their numbers, and what these are called."""
    formulas, named = tuple(parse(text, aliases) for text in texts), read_aliases(aliases)
    return formulas, variables((*formulas, *named.values())), {v.attrs[1]: f"{name} = " for name, v in named.items()}


def variable_of(array: Any, variable: Node, called: str = "") -> LazyTensor:
    """The LazyTensor of an array that a variable stands for, which errors call by this name."""
    axis, number, dim, *_ = variable.attrs
    written = called + to_keops(variable)
    if (axis, dim) == ("p", 1) and isinstance(array, (int, float)):
        return lift(array, LazyTensor)
    if not is_array(array):
        raise TypeError(f"{written} stands for a NumPy array or a PyTorch tensor, not for {type(array).__name__}")
    kind_of(array)
    axes = {"i": "(…, M, D)", "j": "(…, N, D)", "p": "(…, D)"}[axis]
    if readable(array).ndim < (1 if axis == "p" else 2) or array.shape[-1] != dim:
        raise ValueError(f"{written}, array {number}, has shape {axes} with D = {dim}, not {tuple(array.shape)}")
    made: LazyTensor = object.__new__(LazyTensor)
    made._set_leaf(Leaf(array, axis), inner=True)
    return made
