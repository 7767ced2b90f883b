"""The tile of few rows: of those that would leave most of a vector empty, lanes are columns too."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from ..formula.graph import Node
from .builder import I32, I64, Value, loop
from .evaluate import Index
from .partial import identity
from .tile import Columns, Tile
from .transpose import load_repeated


class TailTile(Tile):
    """Emits a tile whose last vector has `Schedule.tail` rows, over and over again: first with one column, then with the next ..."""

    taken: dict[int, Value] | None = None  # while the last vector is computed: numbers of its columns, by their place in a column

    def _columns(self, start: Value, stop: Value) -> None:
        super()._columns(start, stop)
        b, s, plan = self.b, self.schedule, self.plan
        number = s.lanes // s.tail
        self.rows, self.taken = [s.whole], {}
        self.known = self._preload()
        fields = list(zip(plan.tile_fields, self.types, strict=False))
        carried: Sequence[Value] = [identity(self.frame, f.identity, t) for f, t in fields for _ in range(f.dim)]
        end = b.sub(stop, b.urem(b.sub(stop, start), I64(number)))
        carried = loop(b, start, end, number, carried, lambda j, c: self._step_of_tail(j, c))
        carried = loop(b, end, stop, number, carried, lambda j, c: self._step_of_tail(j, c, b.trunc(b.sub(stop, j), I32)))
        self.state = self._unflatten([self._over_columns(value) for value in carried])
        self._store(self._evaluator(), plan.merge(plan.state("total"), plan.tile_slots), self.total)
        self.rows, self.taken = list(range(s.rows)), None

    def _step_of_tail(self, j: Value, carried: Sequence[Value], there: Value | None = None) -> Sequence[Value]:
        """Add the pairs of the next columns to what lanes have: of as many as a vector takes, or as are there."""
        self.j, self.taken = j, self._take(j, there)
        self.state = self._unflatten(carried)
        fresh = self._fresh(self._evaluator(), self.plan.combine(self.plan.tile_slots, self.plan.lifted(0)))
        if there is None:
            return fresh
        alive = self.m.below(self.b.mul(there, I32(self.schedule.tail)))
        return [self.b.select(alive, value, before) for value, before in zip(fresh, carried, strict=True)]

    def _take(self, j: Value, there: Value | None) -> dict[int, Value]:
        """The numbers of the columns from j on, each column's in the lanes that meet it."""
        b, s, buffer = self.b, self.schedule, self.plan.hoisted.col
        places = self.in_place if s.in_place else {0: Columns(self.col_base, buffer.length)}
        taken = {}
        for place, (base, length) in places.items():
            first = self.frame.element(base, b.mul(j, I64(length)), self.layout.real_bytes)
            for d, value in enumerate(load_repeated(self.m, first, length, s.lanes // s.tail, there)):
                taken[place + d] = value
        return taken

    def _load(self, node: Node, index: Index, rows: Sequence[int]) -> Sequence[Value]:
        buffer, place, *_ = node.attrs
        if self.taken is None or buffer not in ("row", "col"):
            return super()._load(node, index, rows)
        if buffer == "col":
            assert index.base is None, "registers have no numbers when the kernel runs"
            return [self.taken[place + index.offset]]
        again = [lane % self.schedule.tail for lane in range(self.schedule.lanes)]
        return [self._shuffled(value, again) for value in super()._load(node, index, rows)]

    def _over_columns(self, value: Value) -> Value:
        """The sum over lanes of the same row."""
        lanes, apart = self.schedule.lanes, self.schedule.tail
        while apart < lanes:
            value = self.m.add(value, self._shuffled(value, [(k + apart) % lanes for k in range(lanes)]))
            apart *= 2
        return value

    def _shuffled(self, value: Value, lanes: Sequence[int]) -> Value:
        return self.b.shuffle_vector(value, value, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))
