"""Values of formulas in float64, and how far a kernel's rounding may carry them: bounds by propagation, operator by operator.

Each operator adds what its own documented error is (`mathlib.BOUNDS`), and passes on the errors of its operands: by its values at
the corners of the box in which they lie where it works component by component, by its own structure where it is linear. Correlation
is not tracked, so the bounds are on the safe side; where an operator may jump within the box, they are as large as the jump.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from itertools import product

import numpy as np

from pairfold.codegen.mathlib import BOUNDS
from pairfold.formula.graph import Node, topological, value_of

Array = np.ndarray
Bounded = tuple[Array, Array]  # a value and its largest error

# Units in the last place that an operator's own rounding takes, where it is not one of `BOUNDS`: arithmetic, and division by
# what leaves the inner loop, which is two operations.
PLAIN = 2.0
NO_ROUNDING = {"neg", "abs", "sign", "step", "relu", "floor", "ceil", "trunc", "lt", "le", "gt", "ge", "where", "minimum", "maximum",
               "clamp", "logical_and", "logical_or", "logical_not", "isnan", "eq", "ne"}  # fmt: skip
STEPS = {
    "sign",
    "step",
    "floor",
    "ceil",
    "trunc",
    "round",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
    "logical_and",
    "logical_or",
    "logical_not",
    "isnan",
}  # constant but for jumps
NAME_IN_BOUNDS = {"inverse_real": "inverse", "root_real": "root", "root_imag": "root"}


def values_of(root: Node, leaves: Mapping[Node, Array]) -> Array:
    """The dense value alone, from the operators' NumPy meanings."""
    known = dict(leaves)
    with np.errstate(all="ignore"):
        for node in topological([root], known):
            if node not in known:
                if node.op.name == "const":
                    known[node] = np.full((1, 1, 1), value_of(node))
                else:
                    known[node] = np.asarray(node.op.numpy(*(known[a] for a in node.args), *node.attrs), np.float64)
    return known[root]


class Bounds:
    """Evaluates formulas over given leaves, in arithmetic of type `dtype`; remembers what it knows.

    Parameters
    ----------
    leaves : mapping of Node to array or (array, array)
        For each variable its values, broadcastable to (…, M, N, dim), with errors where they are not exact.
    dtype : str
        ``"float32"`` or ``"float64"``.
    """

    def __init__(self, leaves: Mapping[Node, Array | Bounded], dtype: str):
        # In float64 the oracle rounds as much as the kernel does.
        self.eps = float(np.finfo(dtype).eps) * (2 if dtype == "float64" else 1)
        self.oracle = 1.0 if dtype == "float64" else 0.0  # and cancels near zeros of the gamma functions, where kernels do not
        self.tiny = float(np.finfo(dtype).tiny)
        self.largest = float(np.finfo(dtype).max)
        self._known: dict[Node, Bounded] = {}
        for node, given in leaves.items():
            value, error = given if isinstance(given, tuple) else (given, np.zeros(1))
            self._known[node] = np.asarray(value, np.float64), np.asarray(error, np.float64)

    def __call__(self, root: Node) -> Bounded:
        with np.errstate(all="ignore"):
            for node in topological([root], self._known):
                if node not in self._known:
                    value, error = self._of(node)
                    # An intermediate overflow, or nan, leaves nothing to say.
                    self._known[node] = value, np.where(np.abs(value) + error <= self.largest, error, np.inf)
        return self._known[root]

    def jumps(self) -> Array:
        """For each pair, whether some operator met so far may jump, or has no bound, within the errors of its operands."""
        found = np.zeros((1, 1), bool)
        for node, (_, error) in self._known.items():
            limit = 1e-6 if node.op.name in STEPS else self.largest
            found = found | ~(error <= limit).all(-1) if error.ndim > 1 else found
            if node.op.name == "where":  # both values may be the same at the point itself
                condition, doubt = self._known[node.args[0]]
                found = found | ((np.abs(condition) <= doubt) & (doubt > 0)).any(-1)
        return found

    def value(self, root: Node) -> Array:
        return self(root)[0]

    def _of(self, node: Node) -> Bounded:
        op = node.op
        if op.name == "const":
            number = value_of(node)
            assert number is not None
            return np.full((1, 1, 1), number), np.full((1, 1, 1), self.eps * abs(number) / 2)
        values, errors = zip(*(self._known[a] for a in node.args), strict=True) if node.args else ((), ())
        value = np.asarray(op.numpy(*values, *node.attrs), np.float64)
        if op.structure == "number":
            return value, np.zeros((1, 1, 1))
        if op.name in ("argmin", "argmax"):
            return value, np.where(_best_is_certain(values[0], errors[0], op.name == "argmax"), 0.0, np.inf)
        if op.structure == "derived":
            assert op.definition is not None
            return value, self(op.definition(*node.args, *node.attrs))[1]
        if op.structure == "index":
            wide = [np.broadcast_to(e, v.shape) for v, e in zip(values, errors, strict=True)]
            return value, op.numpy(*wide, *node.attrs)
        if op.structure == "lookup":
            certain = np.trunc(values[1] - errors[1]) == np.trunc(values[1] + errors[1])
            return value, np.where(certain, op.numpy(_wide(errors[0], values[0]), values[1], *node.attrs), np.inf)
        if op.name == "sum":
            terms = np.abs(values[0]).sum(-1, keepdims=True)
            return value, _wide(errors[0], values[0]).sum(-1, keepdims=True) + node.args[0].dim * self.eps * terms
        if op.name in ("min", "max"):
            return value, _wide(errors[0], values[0]).max(-1, keepdims=True)
        if op.structure == "einsum":
            a, b = (np.abs(v) for v in values)
            ea, eb = (_wide(e, v) for e, v in zip(errors, values, strict=True))
            moved = op.numpy(a + ea, b + eb, *node.attrs)
            return value, moved - op.numpy(a, b, *node.attrs) + (math.prod(node.attrs[1]) + 2) * self.eps * moved + self.tiny
        assert op.structure == "elementwise", op.name
        if op.name in ("eq", "ne"):
            return value, self._equality(node, values, errors) * 1.0
        if op.name == "round" and node.attrs[0]:  # multiplies before it rounds
            errors = (errors[0] + 2 * self.eps * np.abs(values[0]),)
        error = self._moved(node, value, values, errors) + self._own(node, value, values)
        if op.name == "atan2":  # where a zero's sign decides, and which of several zeros is the least nobody says
            error = np.where((values[0] == 0) & (values[1] <= 0), np.inf, error)
        return value, error

    def _moved(self, node: Node, value: Array, values: tuple[Array, ...], errors: tuple[Array, ...]) -> Array:
        """How far an operator's value is from those at the corners of the box of its operands."""
        moving = [k for k, e in enumerate(errors) if e.any()]
        if not moving:
            return np.zeros_like(value)
        found = np.zeros_like(value)
        corners = [dict(zip(moving, signs, strict=True)) for signs in product((-1, 1), repeat=len(moving))]
        points = [[v + c.get(k, 0) * errors[k] for k, v in enumerate(values)] for c in corners]
        points.append([np.where(np.abs(v) <= e, 0.0, v) for v, e in zip(values, errors, strict=True)])  # where truth turns
        for point in points:
            away = np.abs(np.asarray(node.op.numpy(*point, *node.attrs)) - value)
            found = np.maximum(found, np.where(np.isnan(away), np.inf, away))
        if node.op.name == "mod":  # corners may be alike by chance, whole periods apart
            whole = [np.floor(a / b) for a, b in points]
            found = np.where(reduce(np.logical_and, [w == whole[0] for w in whole]), found, np.inf)
        return found

    def _own(self, node: Node, value: Array, values: tuple[Array, ...]) -> Array:
        """An operator's own rounding."""
        name, size = node.op.name, np.abs(value)
        if name in NO_ROUNDING:
            return np.zeros_like(value)
        ulps = max(BOUNDS.get(NAME_IN_BOUNDS.get(name, name), (PLAIN,)))
        if name in ("lgamma", "digamma", "polygamma"):  # below 0 the error is that of the two terms that cancel
            other = np.abs(node.op.numpy(1 + np.abs(values[0]), *node.attrs))
            size, ulps = (
                np.where(values[0] > 0, size + self.oracle, 2 * (size + other) + 1),
                16.0 + 8 * (node.attrs[0] if node.attrs else 0),
            )
        elif name == "powi":
            ulps = 2.0 + abs(node.attrs[0])
        elif name == "matern":  # the rounding of the distance becomes that of an exponential, and of a power
            size, ulps = size * (1 + np.sqrt(np.abs(values[0]))), 8.0 + 3 * abs(node.attrs[0])
        elif name == "softmin":
            size, ulps = reduce(np.maximum, map(np.abs, (*values[:3], 2 * values[3])), size), 4.0
        elif name == "logaddexp":
            size = reduce(np.maximum, map(np.abs, values), size)
        elif name == "log_hypot":
            size = np.maximum(size, np.square(np.minimum(*map(np.abs, values))))
        return ulps * self.eps * size + self.tiny

    def _equality(self, node: Node, values: tuple[Array, ...], errors: tuple[Array, ...]) -> Array:
        """Where it is uncertain whether two numbers are alike."""
        a, b = node.args
        if b.op.name in ("min", "max") and b.args == (a,):  # certain where nothing else comes near: the two are the same number
            return np.broadcast_to(~_best_is_certain(values[0], errors[0], b.op.name == "max"), values[0].shape)
        reach = errors[0] + errors[1]
        return (np.abs(values[0] - values[1]) <= reach) & (reach > 0)


def _wide(error: Array, value: Array) -> Array:
    return np.broadcast_to(error, np.broadcast_shapes(error.shape, value.shape))


def _best_is_certain(value: Array, error: Array, largest: bool) -> Array:
    """Whether no other component can be the smallest, (…, 1); so it is for numbers without errors."""
    error = _wide(error, value)
    if value.shape[-1] == 1:
        return np.ones_like(value, bool)
    sign = -1 if largest else 1
    low, high = sign * value - error, sign * value + error
    best = np.argmin(sign * value, -1)[..., None]
    others = np.where(np.arange(value.shape[-1]) == best, np.inf, low)
    apart = others.min(-1, keepdims=True) > np.take_along_axis(high, best, -1)
    return apart | ~error.any(-1, keepdims=True)
