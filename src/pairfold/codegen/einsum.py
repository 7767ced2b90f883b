"""Sums of products of the components of two tensors: few of them are written out one by one, many are loops into memory.

Written out, a sum is straight-line code on components in registers. The loops compute a tile of components of the result at once,
several row vectors wide, and are the one place where an evaluator stores a vector: what they read must be there at any index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..formula.graph import Node
from ..formula.operators_tensor import SINGLE, Axis, axes_of
from .builder import I64, Value, loop

if TYPE_CHECKING:
    from .evaluate import Evaluator

TILE = 4  # components of the result that a turn computes
UNROLL = 4  # products that a turn adds to each


def emit_terms(m: Any, pairs: Sequence[tuple[Sequence[Value], Sequence[Value]]]) -> list[Value]:
    """Σ a b over pairs of values, one for each row vector, or a single one where all share them."""
    totals = []
    for r in range(max(len(v) for pair in pairs for v in pair)):
        products = [m.mul(a[r % len(a)], b[r % len(b)]) for a, b in pairs]
        total = products[0]
        for later in products[1:]:
            total = m.add(total, later)
        totals.append(total)
    return totals


def emit_large(evaluator: Evaluator, node: Node, save: Callable[[Value, Sequence[Value]], None]) -> None:
    """Compute a large einsum of operands that can be read at any index; ``save(component, values)`` takes each component."""
    m, rows, axes = evaluator.m, len(evaluator.rows), axes_of(node)
    b, (*outer, last) = m.builder, axes.kept or (SINGLE,)

    def moved(places: Sequence[Value], axis: Axis, by: Value) -> list[Value]:
        return [b.add(place, b.mul(by, I64(step))) for place, step in zip(places, axis.steps, strict=True)]

    def nest(over: Sequence[Axis], places: Sequence[Value], totals: Sequence[Value], body: Body) -> Sequence[Value]:
        """Loops over axes, one within the other."""
        if not over:
            return body(places, totals)
        return loop(b, I64(0), I64(over[0].extent), 1, totals, lambda k, t: nest(over[1:], moved(places, over[0], k), t, body))

    def stretches(axis: Axis, length: int, places: Sequence[Value], totals: Sequence[Value], body: Stretch) -> Sequence[Value]:
        """A loop over an axis by stretches of `length`, and what remains behind it."""
        whole = axis.extent // length * length
        if whole:
            totals = loop(b, I64(0), I64(whole), length, totals, lambda k, t: body(length, moved(places, axis, k), t))
        return body(axis.extent - whole, moved(places, axis, I64(whole)), totals) if whole < axis.extent else totals

    def tile(width: int, places: Sequence[Value], _: Sequence[Value]) -> Sequence[Value]:
        """A few neighbouring components of the result."""

        def add(count: int, places: Sequence[Value], totals: Sequence[Value]) -> Sequence[Value]:
            totals = list(totals)
            with evaluator.scope():
                for k in range(count):
                    for t in range(width):
                        left, right = (
                            evaluator.read(a, place, k * along + t * across)
                            for a, place, along, across in zip(node.args, places, innermost.steps, last.steps, strict=False)
                        )
                        for r in range(rows):
                            totals[t * rows + r] = m.add(totals[t * rows + r], m.mul(left[r], right[r]))
            return totals

        totals: Sequence[Value] = [m.const(0.0)] * (width * rows)
        *between, innermost = axes.summed or (SINGLE,)
        totals = nest(between, places, totals, lambda p, t: stretches(innermost, UNROLL, p, t, add))
        for t in range(width):
            save(b.add(places[2], I64(t)), totals[t * rows : (t + 1) * rows])
        return ()

    nest(outer, [I64(0)] * 3, (), lambda places, _: stretches(last, TILE, places, (), tile))


Body = Callable[[Sequence[Value], Sequence[Value]], Sequence[Value]]
Stretch = Callable[[int, Sequence[Value], Sequence[Value]], Sequence[Value]]
