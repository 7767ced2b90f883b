"""Folds computed by a kernel, and the same in dense float64 NumPy: never by another kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pairfold.arrays import backend_of
from pairfold.fold import make_fold
from pairfold.formula.graph import Node, apply, var
from pairfold.formula.operators import OPERATORS
from pairfold.formula.reference import evaluate
from pairfold.reductions import Reduction
from pairfold.runtime.operand import Extent
from tests.device import DEVICE

FLOATS = ["float32", "float64"]
# How many operands an operator takes; two of those that take any number.
ARITY = {name: op.arity or (2 if name == "concat" else 0) for name, op in OPERATORS.items()}


def eps(dtype) -> float:
    return float(np.finfo(dtype).eps)


def lengths(formulas: Sequence[Node], arrays: Sequence[np.ndarray], pair: tuple[int, int] | None) -> tuple[int, int]:
    """(M, N), read off the arrays where they are not given."""
    if pair:
        return pair
    found = {"i": 1, "j": 1}
    for formula in formulas:
        for node in _leaves(formula):
            found[node.attrs[0]] = len(arrays[node.attrs[1]])
    return found["i"], found["j"]


def _leaves(node: Node):
    if node.op.name == "var":
        yield node
    for a in node.args:
        yield from _leaves(a)


def dense(formula: Node, arrays: Sequence[np.ndarray], pair: tuple[int, int] | None = None) -> np.ndarray:
    """The formula for every pair, (M, N, D) in float64."""
    return np.broadcast_to(evaluate(formula, arrays), (*lengths([formula], arrays, pair), formula.dim))


def expected(formulas: Sequence[Node], reduction: Reduction, axis: int, arrays: Sequence[np.ndarray], pair=None) -> tuple[np.ndarray, ...]:
    """What a reduction should give: its NumPy meaning on dense float64 values."""
    pair = lengths(formulas, arrays, pair)
    values = [dense(f, arrays, pair) for f in formulas]
    with np.errstate(all="ignore"):
        return reduction.numpy(*(v if axis == 1 else v.swapaxes(0, 1) for v in values))


def compute(formulas: Sequence[Node], reduction: Reduction, axis: int, arrays: Sequence[np.ndarray], pair=None) -> tuple[np.ndarray, ...]:
    """What the compiled kernel gives, the results' shapes as `expected` has them."""
    fold, used = make_fold(tuple(formulas), reduction, axis)
    sizes = lengths(formulas, arrays, pair)
    operands = [_there(arrays[k]) for k in used]
    backend = backend_of(operands[0] if operands else arrays[0])
    results = backend.results(fold, operands, Extent((), sizes[1 - axis], sizes[axis]), arrays[0].dtype.name)
    shape = reduction.shape(fold.dims)
    return tuple(_here(r).reshape(sizes[1 - axis], *shape) for r in results[: reduction.public])


def _there(array: np.ndarray):
    if DEVICE in (None, "emulated"):
        return array
    import torch

    return torch.from_numpy(np.ascontiguousarray(array)).to(DEVICE)


def _here(array) -> np.ndarray:
    return array.cpu().numpy() if hasattr(array, "cpu") else array


def network(*widths: int, activation: str = "tanh") -> Node:
    """A perceptron of differences, its weights and biases parameters."""
    value = var("i", 0, widths[0]) - var("j", 1, widths[0])
    for k, (m, n) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        weights, bias = var("p", 2 * k + 2, m * n), var("p", 2 * k + 3, n)
        value = apply("matvecmult", weights, apply(activation, value)) + bias
    return value
