"""The meaning of a formula in float64 NumPy, pair by pair: the oracle that every kernel is tested against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .graph import Node, topological, value_of


def evaluate(formula: Node, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The dense value of a formula.

    Parameters
    ----------
    formula : Node
        A formula over the variables numbered 0 to ``len(arrays) - 1``.
    arrays : sequence of ndarray
        For each variable its (M, D), (N, D) or (D,) array.

    Returns
    -------
    ndarray, shape (M, N, D), float64
        Axes that the formula does not depend on have length 1.
    """
    values: dict[Node, np.ndarray] = {}
    for node in topological([formula]):
        if node.op.name == "var":
            axis, index = node.attrs[:2]
            array = np.asarray(arrays[index], dtype=np.float64)
            values[node] = {"i": lambda a: a[:, None, :], "j": lambda a: a[None, :, :], "p": lambda a: a[None, None, :]}[axis](array)
        elif node.op.name == "const":
            values[node] = np.full((1, 1, 1), value_of(node))
        else:
            with np.errstate(all="ignore"):
                values[node] = node.op.numpy(*(values[a] for a in node.args), *node.attrs)
    return values[formula]
