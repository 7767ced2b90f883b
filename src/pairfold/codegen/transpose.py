"""Vectors that lie one after the other in memory, whole registers at a time: to lanes, one register a component, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from .builder import I1, I32, Value

AHEAD = 2048  # bytes that are asked for before they are needed: processors themselves look ahead to the end of a page at most
LINE = 64  # bytes that come from memory together


def load_vectors(m: Any, place: Value, dim: int, there: Value, last: Value | None) -> list[Value]:
    """The components of the `there` vectors of numbers from `place` on, no more than lanes; lanes beyond repeat the vector at `last`, or
    are anything.

    No number beyond them is read; who goes on from here finds what follows on its way.
    """
    b, width, scalar = m.builder, m.width, m.scalar
    for k in range(0, dim * width * m.bits // 8, LINE):
        address = b.gep(place, [I32(AHEAD + k)], source_etype=ir.IntType(8))
        m.intrinsic("llvm.prefetch.p0", ir.VoidType(), [address, I32(0), I32(3), I32(1)])  # data, to read, for the nearest cache
    components = load_repeated(m, place, dim, width, there)
    if last is None:
        return components
    alive = m.below(there)
    repeated = [m.splat(b.load(b.gep(last, [I32(d)], source_etype=scalar), typ=scalar)) for d in range(dim)]
    return [b.select(alive, found, again) for found, again in zip(components, repeated, strict=True)]


def load_repeated(m: Any, place: Value, dim: int, number: int, there: Value | None = None) -> list[Value]:
    """The components of so many vectors of numbers from `place` on, each in as many neighbouring lanes.

    Only `there` of them are read, if that is said; the others are 0.
    """
    b, width = m.builder, m.width
    each = width // number
    name = f"llvm.masked.load.{m.suffix()}.p0"
    numbers = I32(number * dim) if there is None else b.mul(there, I32(dim))

    def load(first: int) -> Value:
        address = b.gep(place, [I32(first)], source_etype=m.scalar)
        if there is not None:
            return m.intrinsic(name, m.real, [address, I32(m.bits // 8), m.below(numbers, first), m.const(0.0)])
        if first + width <= number * dim:
            return b.load(address, typ=m.real, align=m.bits // 8)
        mask = ir.Constant(ir.VectorType(I1, width), [int(first + lane < number * dim) for lane in range(width)])
        return m.intrinsic(name, m.real, [address, I32(m.bits // 8), mask, m.const(0.0)])

    loaded = [load(first) for first in range(0, number * dim, width)]
    return [_gathered(m, loaded, [divmod(lane // each * dim + d, width) for lane in range(width)]) for d in range(dim)]


def store_vectors(m: Any, components: Sequence[Value], place: Value) -> None:
    """Vectors of these components one after the other, from an aligned place on."""
    dim, width = len(components), m.width
    for k in range(dim):
        numbers = [divmod(k * width + lane, dim) for lane in range(width)]
        found = _gathered(m, components, [(component, row) for row, component in numbers])
        m.builder.store(found, m.builder.gep(place, [I32(k * width)], source_etype=m.scalar), align=m.bits // 8 * width)


def _gathered(m: Any, sources: Sequence[Value], places: Sequence[tuple[int, int]]) -> Value:
    """The register whose lanes are those lanes of those sources."""
    width = m.width
    first, *others = dict.fromkeys(source for source, _ in places)
    found = sources[first]
    lanes = [lane if source == first else k for k, (source, lane) in enumerate(places)]  # others are put in place later
    for other in others or [first]:
        if other != first:
            lanes = [width + lane if source == other else kept for (source, lane), kept in zip(places, lanes, strict=True)]
        if lanes != list(range(width)):
            found = m.builder.shuffle_vector(found, sources[other], ir.Constant(ir.VectorType(I32, width), lanes))
        lanes = list(range(width))
    return found
