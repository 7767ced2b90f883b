"""The tile of a product: numbers of the pairs first, then what they multiply, as two products of matrices with a function between them.

A formula such as exp(-|x - y|²) · b with a long b takes one number of each pair, and many multiply-adds with it. For a stretch of columns
the numbers are computed and kept in memory that stays in the cache; then the components of the result are summed a few at a
time, in registers, over all columns of the stretch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..formula.graph import Node
from ..plan.schedule import pair_numbers
from .builder import I64, Value, loop
from .evaluate import FIRST, Evaluator, Index, at, boundaries
from .tile import Tile


class ProductTile(Tile):
    """Emits the tile of a sum whose terms are made of few numbers of the pair."""

    def _allocate(self) -> None:
        super()._allocate()
        s = self.schedule
        self.numbers = [pair_numbers(self.plan.values(c)[0]) for c in range(s.columns)]
        self.kept = self.frame.allocate(self.m.real, s.stretch * len(self.numbers[0]) * s.rows, 64)

    def _walk(self, start: Value, stop: Value, carried: Sequence[Value]) -> Sequence[Value]:
        loop(self.b, start, stop, self.schedule.stretch, (), lambda first, _: self._stretch(first, stop))
        return carried

    def _stretch(self, start: Value, last: Value) -> Sequence[Value]:
        s, b = self.schedule, self.b
        stop = self.frame.smaller(b.add(start, I64(s.stretch)), last)
        whole = b.sub(stop, b.urem(b.sub(stop, start), I64(s.columns)))
        loop(b, start, whole, s.columns, (), lambda j, _: self._compute(start, j, s.columns))
        loop(b, whole, stop, 1, (), lambda j, _: self._compute(start, j, 1))
        (term,) = self.plan.values(0)
        edges = sorted(boundaries(term))
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            rest = low + (high - low) // s.components * s.components

            def some(base: Value, _: Sequence[Value], low: int = low, high: int = high) -> Sequence[Value]:
                self._sum(start, stop, [Index(base, d, low, high) for d in range(s.components)])
                return ()

            loop(b, I64(low), I64(rest), s.components, (), some)
            if rest < high:
                self._sum(start, stop, [at(d) for d in range(rest, high)])
        return ()

    def _place(self, start: Value, j: Value, number: int, row: int) -> Value:
        """Where a number of a column's pairs with a vector of rows is kept."""
        b, count = self.b, len(self.numbers[0])
        place = b.add(b.mul(b.sub(j, start), I64(count * self.schedule.rows)), I64(number * self.schedule.rows + row))
        return b.gep(self.kept, [place], source_etype=self.m.real)

    def _compute(self, start: Value, j: Value, columns: int) -> Sequence[Value]:
        """The numbers of a few columns' pairs."""
        self.j, self.column = j, self._column(j)
        evaluator = self._evaluator()
        evaluator.prepare([n for numbers in self.numbers[:columns] for n in numbers])
        for c, numbers in enumerate(self.numbers[:columns]):
            for k, node in enumerate(numbers):
                for r, value in enumerate(evaluator.full(node)):
                    self.b.store(value, self._place(start, self.b.add(j, I64(c)), k, r))
        return ()

    def _sum(self, start: Value, stop: Value, components: Sequence[Index]) -> None:
        """Add some components of the terms of all columns of the stretch to the partial."""
        places = [(index.value(self.b), r) for index in components for r in self.rows]
        target, *_ = self.plan.combine(self.plan.tile_slots, self.plan.lifted(0))

        def add(j: Value, sums: Sequence[Value]) -> Sequence[Value]:
            self.j, self.column = j, self._column(j)
            numbers = {
                (node, FIRST): [self.b.load(self._place(start, j, k, r), typ=self.m.real) for r in self.rows]
                for k, node in enumerate(self.numbers[0])
            }
            evaluator = self._with_sums(components, sums, numbers)
            return [value for index in components for value in evaluator.full(target, index)]

        sums = loop(self.b, start, stop, 1, [self.partial.load(0, component, r) for component, r in places], add)
        for (component, r), value in zip(places, sums, strict=True):
            self.partial.store(0, component, r, value)

    def _with_sums(self, components: Sequence[Index], sums: Sequence[Value], known: Mapping[Any, Sequence[Value]]) -> Evaluator:
        """An evaluator to which the state is these sums, and numbers of the pair are known."""
        rows = len(self.rows)
        first = components[0].offset

        def leaf(node: Node, index: Index, rows_wanted: Sequence[int]) -> Sequence[Value]:
            if node.attrs[0] == "state":
                place = (index.offset - first) * rows
                return sums[place : place + rows]
            return self._load(node, index, rows_wanted)

        return Evaluator(self.m, self.rows, leaf, self.schedule.unroll, {**self.known, **known})
