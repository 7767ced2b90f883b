"""Slices: on a GPU several neighbouring lanes share a row, and each has a slice of every long vector.

A thread has registers for four rows of some thirty numbers. Of longer vectors it would have fewer rows, and each number that is read of a
column would serve fewer of them; so rows stay four, and lanes share what is long. A lane's slice is every so many-th unit of neighbouring
components, as wide as a load: neighbouring lanes read neighbouring units. What a vector is reduced to, each lane computes for its slice,
and `across` joins that of all lanes; sums of vectors stay in slices until they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..formula.graph import J, Node, apply, slot, topological
from ..formula.operator import Operator
from ..formula.operators import where
from ..formula.simplify import expand
from ..reductions import Field, Reduction
from .hoist import Buffer, Hoisted

UNIT_BITS = 128  # of components next to one another in a slice: the widest load
LEAST = 16  # components of a slice: shorter ones cost more to join than they save


def is_long(what: Node | Field, lanes: int) -> bool:
    """Whether so many lanes share it."""
    return what.dim >= LEAST * lanes


def stays_in_slices(reduction: Reduction, body: Sequence[Node], lanes: int) -> bool:
    """Whether the reduction takes the formulas' components each for itself, where they are long: then each lane reduces its own."""
    if not any(is_long(f, lanes) for f in body):
        return True
    if reduction.guarded:
        return False
    fields = reduction.fields([f.dim for f in body])
    states = [tuple(slot(name, 0, f.dim, k, kind=f.kind) for k, f in enumerate(fields)) for name in ("total", "state")]
    lifted = reduction.lift(body, slot("index", 0, 1, 0, J, "index"))
    targets = expand((*reduction.combine((states[1], lifted)), *reduction.merge(*states)))
    cut = _Cut(lanes, 1)
    return cut(targets, lambda leaf: cut.slice(leaf) if is_long(leaf, lanes) else leaf, body) is not None


def segments(whole: Sequence[Node], own: Sequence[Node], dim: int) -> list[tuple[int, int]]:
    """What a field of `dim` components has one after the other: the dimensions of its parts, and of those that a lane has of them."""
    for of_all, of_lane in zip(whole, own, strict=True):
        if of_all.dim == dim:
            parts = (of_all.args, of_lane.args) if of_all.op.name == "concat" else ((of_all,), (of_lane,))
            return [(a.dim, b.dim) for a, b in zip(*parts, strict=True)]
    return [(dim, dim)]


def unit_of(bits: int) -> int:
    """Components next to one another in a slice."""
    return UNIT_BITS // bits


def sliced(hoisted: Hoisted, lanes: int, bits: int) -> Hoisted | None:
    """The same for one of so many lanes with slices; None where nothing is long enough, or where something long is not taken by components.

    Of a sliced column `formulas` are the slices that a lane packs, and `slots` the whole vectors, which all lanes read; of rows and
    parameters, which each thread keeps for itself, both are slices.
    """
    cut = _Cut(lanes, unit_of(bits))
    if not any(is_long(n, lanes) for n in topological(hoisted.body)):
        return None
    buffers = {b.name: Buffer(b.name, b.axes) for b in hoisted.buffers}
    places: dict[Node, Node] = {}

    def leaf(node: Node) -> Node:
        if node.op.name == "var":
            return cut.slice(node) if is_long(node, lanes) else node
        return places.get(node, node)

    def place(buffer: Buffer) -> bool:
        made = cut(buffer.formulas, leaf)
        if made is None:
            return False
        new = buffers[buffer.name]
        cuts = zip(made, buffer.formulas, buffer.slots, strict=True)
        for formula, whole, old in sorted(cuts, key=lambda c: not is_long(c[1], lanes)):  # what is read in units begins at one
            if buffer.name == "par" and whole.op.name == "var" and old not in read_by_pairs:
                places[old] = leaf(whole)  # read where rows and columns are packed, not kept
            elif buffer.name == "col" and is_long(whole, lanes):
                places[old] = cut.slice(new.reserve(formula, old.dim, lanes * formula.dim))
            else:
                places[old] = new.place(formula)
        return True

    read_by_pairs = set(topological(hoisted.body))
    if not all(map(place, hoisted.buffers)):
        return None
    # Components of two long vectors that are taken together must be the same ones.
    body = cut(hoisted.body, leaf, parted=sum(is_long(f, lanes) for f in hoisted.body) == 1)
    return None if body is None else Hoisted(tuple(body), buffers["row"], buffers["col"], buffers["par"])


class _Cut:
    """Cuts formulas for a lane."""

    def __init__(self, lanes: int, unit: int):
        self.lanes, self.unit = lanes, unit

    def slice(self, node: Node) -> Node:
        return apply("slice", node, attrs=(self.lanes, self.unit))

    def __call__(
        self, roots: Sequence[Node], leaf: Callable[[Node], Node], leaves: Sequence[Node] = (), parted: bool = False
    ) -> list[Node] | None:
        """The roots, long ones as slices; None where that cannot be. `leaves` are leaves too, whatever is below them.

        With `parted`, of vectors that stand one after the other each may be a slice or not.
        """
        done: dict[Node, Node] = {}  # what is not in it cannot be cut, and may not have to be
        for node in topological(roots, stop=leaves):
            made = leaf(node) if node in leaves else self._cut(node, done, leaf)
            if made is not None:
                done[node] = made
        for root in roots:
            if parted and root.op.name == "concat" and all(a in done for a in root.args):
                done[root] = apply("concat", *(done[a] for a in root.args))
        return [done[root] for root in roots] if all(root in done for root in roots) else None

    def _cut(self, node: Node, done: Mapping[Node, Node], leaf: Callable[[Node], Node]) -> Node | None:
        structure, long = node.op.structure, [a for a in node.args if is_long(a, self.lanes)]
        if structure == "leaf":
            return leaf(node)
        if structure == "reduce" and long:
            return self._join(node, done)
        if node.op.name == "extract" and node.args[0].op.name == "var":
            return self.slice(node) if is_long(node, self.lanes) else node
        if not all(a in done for a in node.args):
            return None
        args = [done[a] for a in node.args]
        if not is_long(node, self.lanes):
            return None if long else apply(node.op.name, *args, attrs=node.attrs)
        if structure == "elementwise" and all(a in long or a.dim == 1 for a in node.args):
            return apply(node.op.name, *args, attrs=node.attrs)
        if node.op.name == "spread" and node.args[0].dim == 1:
            return apply("spread", *args, attrs=(self.slice(node).dim,))
        return self.slice(node) if structure == "number" else None

    def _join(self, node: Node, done: Mapping[Node, Node]) -> Node | None:
        """What a long vector is reduced to: a lane's part, joined with those of the others."""
        (whole,) = node.args
        if whole.op.name == "concat" and node.op.name == "sum" and all(a in done for a in whole.args):  # of which some parts may be short
            first, *rest = (self._joined(node.op, a, done[a]) for a in whole.args)
            return sum(rest, first)
        return self._joined(node.op, whole, done[whole]) if whole in done else None

    def _joined(self, op: Operator, whole: Node, part: Node) -> Node:
        if not is_long(whole, self.lanes):
            return apply(op.name, part) if part.dim > 1 else part
        if whole.dim % (self.lanes * self.unit):
            part = where(apply("lt", self.slice(apply("arange", attrs=(whole.dim,))), whole.dim), part, op.identity)
        return apply("across", apply(op.name, part), attrs=(self.lanes, op.name))
