"""A partial in memory, as the code generator sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from ..reductions import Field
from .builder import I64, Builder, Value, loop
from .frame import Frame

IN_REGISTERS = 2  # components of a total that is read and written once a tile


@dataclass
class Partial:
    """A partial in memory: for each field an array of components, each of `rows` vectors."""

    builder: Builder
    arrays: Sequence[Value]
    types: Sequence[ir.Type]
    rows: int | Value  # known when the kernel runs, at the latest

    @staticmethod
    def on_stack(frame: Frame, types: Sequence[ir.Type], dims: Sequence[int], rows: int) -> Partial:
        arrays = [frame.allocate(t, dim * rows, 64) for dim, t in zip(dims, types, strict=True)]
        return Partial(frame.builder, arrays, types, rows)

    def place(self, field: int, component: Value, row: int | Value) -> Value:
        """The address of a component of a row vector."""
        b = self.builder
        rows = I64(self.rows) if isinstance(self.rows, int) else self.rows
        index = b.add(b.mul(component, rows), I64(row) if isinstance(row, int) else row)
        return b.gep(self.arrays[field], [index], source_etype=self.types[field])

    def load(self, field: int, component: Value, row: int | Value) -> Value:
        return self.builder.load(self.place(field, component, row), typ=self.types[field])

    def store(self, field: int, component: Value, row: int | Value, value: Value) -> None:
        self.builder.store(value, self.place(field, component, row))

    def copy(self, row: int | Value, source: Partial, its_row: int | Value, fields: Sequence[Field]) -> None:
        """Fill a row vector with that of another partial."""
        for k, f in enumerate(fields):

            def component(d: Value, k: int = k) -> None:
                self.store(k, d, row, source.load(k, d, its_row))

            for_dim(self.builder, f.dim, component)

    def reset(self, frame: Frame, fields: Sequence[Field]) -> None:
        """Fill with the identities of fields."""
        for k, (f, t) in enumerate(zip(fields, self.types, strict=True)):
            value = identity(frame, f.identity, t)
            for_dim(self.builder, f.dim, lambda d, k=k, v=value: self._fill(k, d, v))  # type: ignore[misc]

    def _fill(self, field: int, component: Value, value: Value) -> None:
        assert isinstance(self.rows, int)
        for r in range(self.rows):
            self.store(field, component, r, value)


def for_dim(builder: Builder, dim: int, body: Callable[[Value], None]) -> None:
    """Run `body` for each component of a field: of a very short one without a loop, so that registers can hold it."""
    if dim <= IN_REGISTERS:
        for d in range(dim):
            body(I64(d))
        return

    def turn(d: Value, _: Sequence[Value]) -> Sequence[Value]:
        body(d)
        return ()

    loop(builder, I64(0), I64(dim), 1, (), turn)


def identity(frame: Frame, number: float, lanes: ir.Type) -> Value:
    """A field's identity in every lane of a type."""
    if lanes == frame.m.real:
        return frame.m.const(number)
    scalar = lanes.element if isinstance(lanes, ir.VectorType) else lanes
    return frame.m.splat(scalar(number if scalar == ir.DoubleType() else int(number)))
