"""Records of the operators that take a pair's vectors for matrices and tensors, rows first.

All are cases of one: ``einsum``, sums of products of components of two tensors, whose derivatives are einsums too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from .graph import Node, apply
from .operator import Operator, bare
from .operators_common import call

Shape = tuple[int, ...]
LETTERS = "klmnopqrstuvwxyzabcdefghij"  # of axes, as einsums are written


# ---- einsum


def einsum(a: Node, b: Node, axes: tuple[str, str, str], extents: Mapping[str, int]) -> Node:
    """The formula of ``np.einsum`` of two tensors, in its simplest form.

    Parameters
    ----------
    a, b : Node
        Tensors, their components one after the other, the last axis first to change.
    axes : tuple of str
        Letters for the axes of a, of b and of the result; each letter is in at least two of the three.
    extents : mapping
        The length of each axis.

    Returns
    -------
    Node
        An einsum whose axes can be neither left out nor joined; a product or an inner product where that is all there is.
    """
    left, right, out = (_without(s, [c for c in s if extents[c] == 1]) for s in axes)
    sizes = {c: n for c, n in extents.items() if n > 1}
    # Two axes that are always neighbours are one.
    joined = True
    while joined:
        joined = False
        for c, d in [(s[k], s[k + 1]) for s in (left, right, out) for k in range(len(s) - 1)]:
            if all((c in s) == (d in s) and (c not in s or c + d in s) for s in (left, right, out)):
                sizes[c] *= sizes.pop(d)
                left, right, out = (_without(s, [d]) for s in (left, right, out))
                joined = True
                break
    if all(s in ("", out) for s in (left, right)):
        return a * b
    if left == right and not out:
        return apply("dot", a, b)
    letters = dict(zip(dict.fromkeys(left + right), LETTERS, strict=False))
    text = ",".join("".join(letters[c] for c in s) for s in (left, right)) + "->" + "".join(letters[c] for c in out)
    return apply("einsum", a, b, attrs=(text, tuple(sizes[c] for c in letters)))


def _without(axes: str, left_out: Sequence[str]) -> str:
    return "".join(c for c in axes if c not in left_out)


def _parsed(text: str, extents: Shape) -> tuple[tuple[str, str, str], dict[str, int]]:
    """The attributes of an einsum: the axes of a, of b and of the result, and the length of each axis."""
    operands, out = text.split("->")
    left, right = operands.split(",")
    return (left, right, out), dict(zip(dict.fromkeys(left + right), extents, strict=True))


@dataclass(frozen=True)
class Axis:
    """An axis of an einsum: its length, and the distance of neighbours along it in a, in b and in the result."""

    extent: int
    steps: tuple[int, int, int]


SINGLE = Axis(1, (0, 0, 0))


@dataclass(frozen=True)
class Axes:
    """The axes of the result, in its order, and those that are summed."""

    kept: tuple[Axis, ...]
    summed: tuple[Axis, ...]

    def terms(self, component: int) -> list[tuple[int, int]]:
        """Which components of a and b are multiplied for one of the result."""
        axes = (*self.kept, *self.summed)
        known = [component // axis.steps[2] % axis.extent for axis in self.kept]

        def place(side: int, numbers: Sequence[int]) -> int:
            return sum(k * axis.steps[side] for k, axis in zip(numbers, axes, strict=True))

        every = [(*known, *rest) for rest in product(*(range(axis.extent) for axis in self.summed))]
        return [(place(0, numbers), place(1, numbers)) for numbers in every]


@lru_cache(maxsize=1024)
def axes_of(node: Node) -> Axes:
    """The axes of an einsum node."""
    letters, extents = _parsed(*node.attrs)

    def step(letter: str, side: str) -> int:
        return math.prod(extents[c] for c in side[side.index(letter) + 1 :]) if letter in side else 0

    found = {c: Axis(n, tuple(step(c, side) for side in letters)) for c, n in extents.items()}  # type: ignore[arg-type]
    return Axes(tuple(found[c] for c in letters[2]), tuple(a for c, a in found.items() if c not in letters[2]))


def products(node: Node) -> int:
    """How many products an einsum node computes."""
    return math.prod(node.attrs[1])


def _size(axes: str, extents: Mapping[str, int]) -> int:
    return math.prod(extents[c] for c in axes)


def _einsum_dims(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    text, extents = attrs
    if not re.fullmatch(r"[a-z]*,[a-z]*->[a-z]*", text):
        return f"the axes of an einsum are written as in 'kl,l->k', not {text!r}"
    sides = re.split(",|->", text)
    letters = dict.fromkeys(sides[0] + sides[1])
    if any(sum(c in side for side in sides) < 2 for c in {*letters, *sides[2]}) or any(len({*side}) < len(side) for side in sides):
        return f"each axis of {text!r} must be in two of the three tensors at least, and once in each"
    if len(extents) != len(letters) or not _is_shape(extents):
        return f"{text!r} takes the lengths of {len(letters)} axes, not {extents}"
    (left, right, out), sizes = _parsed(text, extents)
    wanted = _size(left, sizes), _size(right, sizes)
    return _size(out, sizes) if tuple(dims) == wanted else _mismatch(dims, wanted)


def _is_shape(shape: Sequence[int]) -> bool:
    return all(n >= 1 for n in shape)


def _mismatch(dims: Sequence[int], wanted: Sequence[int]) -> str:
    return f"inner dimensions {dims[0]} and {dims[1]} where the axes say {wanted[0]} and {wanted[1]}"


def _einsum_show(args: tuple[str, ...], attrs: tuple[Any, ...]) -> str:
    letters = dict.fromkeys(re.findall("[a-z]", attrs[0]))
    lengths = [f"{c}={n}" for c, n in zip(letters, attrs[1], strict=False)]  # as far as they fit: errors show this too
    return f"einsum({', '.join([repr(attrs[0]), *map(bare, args), *lengths])})"


def _einsum_numpy(a: np.ndarray, b: np.ndarray, text: str, extents: Shape) -> np.ndarray:
    (left, right, out), sizes = _parsed(text, extents)
    x, y = (v.reshape(*v.shape[:-1], *(sizes[c] for c in s)) for v, s in ((a, left), (b, right)))
    found = np.einsum(f"...{left},...{right}->...{out}", x, y)
    return found.reshape(*found.shape[: found.ndim - len(out)], -1)


def _einsum_transpose(node: Node, g: Node) -> tuple[Node, ...]:
    (left, right, out), extents = _parsed(*node.attrs)
    a, b = node.args
    return einsum(g, b, (out, right, left), extents), einsum(a, g, (left, out, right), extents)


# ---- its cases


def _matrix_times_vector(dims: Sequence[int], attrs: tuple[Any, ...] = ()) -> int | str:
    matrix, vector = dims
    if matrix % vector:
        return f"{matrix} components are no matrix of {vector} columns, to be multiplied by a vector of dimension {vector}"
    return matrix // vector


def _vector_times_matrix(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    vector, matrix = dims
    if matrix % vector:
        return f"{matrix} components are no matrix of {vector} rows, to be multiplied by a vector of dimension {vector}"
    return matrix // vector


def _product_dims(dims: Sequence[int], attrs: tuple[Any, ...] = ()) -> int | str:
    return dims[0] * dims[1]


def _matvec_numpy(a: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.einsum("...ab,...b->...a", a.reshape(*a.shape[:-1], -1, v.shape[-1]), v)


def _vecmat_numpy(v: np.ndarray, a: np.ndarray) -> np.ndarray:
    return np.einsum("...a,...ab->...b", v, a.reshape(*a.shape[:-1], v.shape[-1], -1))


def _flat(a: np.ndarray, axes: int) -> np.ndarray:
    return a.reshape(*a.shape[: a.ndim - axes], -1)


def _matvec_definition(a: Node, v: Node) -> Node:
    return einsum(a, v, ("ab", "b", "a"), {"a": a.dim // v.dim, "b": v.dim})


def _vecmat_definition(v: Node, a: Node) -> Node:
    return einsum(v, a, ("a", "ab", "b"), {"a": v.dim, "b": a.dim // v.dim})


def _tensorprod_definition(a: Node, b: Node) -> Node:
    return einsum(a, b, ("a", "b", "ab"), {"a": a.dim, "b": b.dim})


def _difference_definition(a: Node, b: Node) -> Node:
    extents = {"a": a.dim, "b": b.dim}
    one = apply("spread", 1, attrs=(1,))

    def repeated(v: Node, axis: str, other: str) -> Node:
        return einsum(v, apply("spread", one, attrs=(extents[other],)), (axis, other, "ab"), extents)

    return repeated(a, "a", "b") - repeated(b, "b", "a")


def _kron_axes(shape_a: Shape, shape_b: Shape) -> tuple[tuple[str, str, str], dict[str, int]]:
    left = "".join(chr(ord("a") + k) for k in range(len(shape_a)))
    right = "".join(chr(ord("a") + len(shape_a) + k) for k in range(len(shape_b)))
    out = "".join(c + d for c, d in zip(left, right, strict=True))
    return (left, right, out), dict(zip(left + right, shape_a + shape_b, strict=True))


def _kron_dims(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    shape_a, shape_b = attrs
    if len(shape_a) != len(shape_b):
        return f"a Kronecker product takes tensors of as many axes, not shapes {shape_a} and {shape_b}"
    wanted = math.prod(shape_a), math.prod(shape_b)
    if not _is_shape(shape_a + shape_b):
        return f"{shape_a} and {shape_b} are no shapes"
    return dims[0] * dims[1] if tuple(dims) == wanted else f"{_mismatch(dims, wanted)} (shapes {shape_a} and {shape_b})"


def _kron_numpy(a: np.ndarray, b: np.ndarray, shape_a: Shape, shape_b: Shape) -> np.ndarray:
    (left, right, out), _ = _kron_axes(shape_a, shape_b)
    found = np.einsum(f"...{left},...{right}->...{out}", a.reshape(*a.shape[:-1], *shape_a), b.reshape(*b.shape[:-1], *shape_b))
    return _flat(found, len(out))


def _tensordot_axes(
    shape_a: Shape, shape_b: Shape, summed_a: Shape, summed_b: Shape, places: Shape | None = None
) -> tuple[tuple[str, str, str], dict[str, int]]:
    """The letters of a tensordot: those of a, those of b, and those that stay, each moved to its place."""
    left = [chr(ord("a") + k) for k in range(len(shape_a))]
    right = [chr(ord("a") + len(shape_a) + k) for k in range(len(shape_b))]
    for k, l in zip(summed_a, summed_b, strict=True):
        right[l] = left[k]
    stay = [c for k, c in enumerate(left) if k not in summed_a] + [c for k, c in enumerate(right) if k not in summed_b]
    out = stay if places is None else [c for _, c in sorted(zip(places, stay, strict=True))]
    return ("".join(left), "".join(right), "".join(out)), dict(zip(left + right, shape_a + shape_b, strict=True))


def _tensordot_dims(dims: Sequence[int], attrs: tuple[Any, ...]) -> int | str:
    shape_a, shape_b, summed_a, summed_b, *places = attrs
    wanted = math.prod(shape_a), math.prod(shape_b)
    if not _is_shape(shape_a + shape_b):
        return f"{shape_a} and {shape_b} are no shapes"
    if tuple(dims) != wanted:
        return f"{_mismatch(dims, wanted)} (shapes {shape_a} and {shape_b})"
    for summed, shape in ((summed_a, shape_a), (summed_b, shape_b)):
        if len(set(summed)) != len(summed) or any(not 0 <= k < len(shape) for k in summed):
            return f"{summed} are not different axes of a tensor of shape {shape}"
    lengths = [shape_a[k] for k in summed_a], [shape_b[k] for k in summed_b]
    if lengths[0] != lengths[1]:
        return f"axes {summed_a} of lengths {lengths[0]} cannot be contracted with axes {summed_b} of lengths {lengths[1]}"
    stay = len(shape_a) + len(shape_b) - 2 * len(summed_a)
    if places and sorted(places[0]) != list(range(stay)):
        return f"{places[0]} is no permutation of the {stay} axes that stay"
    return math.prod(shape_a) * math.prod(shape_b) // math.prod(lengths[0]) ** 2


def _tensordot_numpy(a: np.ndarray, b: np.ndarray, shape_a: Shape, shape_b: Shape, *rest: Shape) -> np.ndarray:
    (left, right, out), _ = _tensordot_axes(shape_a, shape_b, *rest)
    found = np.einsum(f"...{left},...{right}->...{out}", a.reshape(*a.shape[:-1], *shape_a), b.reshape(*b.shape[:-1], *shape_b))
    return _flat(found, len(out))


TENSORS = [
    Operator("einsum", "einsum", _einsum_dims, _einsum_show, _einsum_numpy, transpose=_einsum_transpose,
             doc="sums of products of components of two tensors", arity=2, attributes={"axes": str, "extents": tuple}),
    Operator("matvecmult", "derived", _matrix_times_vector, call("matvecmult"), _matvec_numpy, definition=_matvec_definition,
             doc="the matrix a times the vector b", keops="MatVecMult", arity=2),
    Operator("vecmatmult", "derived", _vector_times_matrix, call("vecmatmult"), _vecmat_numpy, definition=_vecmat_definition,
             doc="the vector a times the matrix b", keops="VecMatMult", arity=2),
    Operator("tensorprod", "derived", _product_dims, call("tensorprod"), lambda a, b: _flat(a[..., :, None] * b[..., None, :], 2),
             definition=_tensorprod_definition, doc="all products of a component of a and one of b", keops="TensorProd", arity=2),
    Operator("difference_matrix", "derived", _product_dims, call("difference_matrix"),
             lambda a, b: _flat(a[..., :, None] - b[..., None, :], 2), definition=_difference_definition,
             doc="all differences of a component of a and one of b", keops="DifferenceMatrix", arity=2),
    Operator("kron", "derived", _kron_dims, call("kron"), _kron_numpy,
             definition=lambda a, b, *shapes: einsum(a, b, *_kron_axes(*shapes)),
             doc="Kronecker product of two tensors", keops="Kron", arity=2, attributes={"shape_a": tuple, "shape_b": tuple}),
    Operator("tensordot", "derived", _tensordot_dims, call("tensordot"), _tensordot_numpy,
             definition=lambda a, b, *attrs: einsum(a, b, *_tensordot_axes(*attrs)),
             doc="sums over pairs of axes of two tensors; the axes that stay may be moved to other places", keops="TensorDot", arity=2,
             attributes={"shape_a": tuple, "shape_b": tuple, "summed_a": tuple, "summed_b": tuple, "places": tuple}),
]  # fmt: skip
