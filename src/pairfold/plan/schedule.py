"""The schedule: how many rows and columns a tile takes at once, chosen from what must sit in registers.

A CPU tile owns `rows` vectors of rows and walks the columns `columns` at a time. With a loop over a long inner dimension inside,
rows × columns accumulators are live at once and each number loaded serves several pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..formula.graph import Node, topological
from ..reductions import Reduction


@dataclass(frozen=True)
class Machine:
    """What the planner must know of a target.

    Attributes
    ----------
    name : str
        ``"cpu"``; further targets have names of their own.
    vector_bits : int
        Width of a vector register.
    registers : int
        How many there are.
    """

    name: str
    vector_bits: int
    registers: int


@dataclass(frozen=True)
class Schedule:
    """The shape of a tile.

    Attributes
    ----------
    family : str
        ``"direct"``: every operand of a pair in registers.
    lanes : int
        Numbers a vector holds.
    rows : int
        Vectors of rows a tile owns.
    columns : int
        Columns taken in one step.
    tile : int
        Columns accumulated before they meet the running total.
    unroll : int
        Inner dimensions up to this length are unrolled, longer ones are loops.
    state_in_registers : bool
        Whether the partial of a tile lives in registers or in memory.
    why : tuple of str
        What led to this shape, for those who ask.
    """

    family: str
    lanes: int
    rows: int
    columns: int
    tile: int
    unroll: int = 8
    state_in_registers: bool = True
    why: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    def block(self) -> int:
        """Rows that one tile owns."""
        return self.lanes * self.rows


UNROLL = 8


def choose(body: Sequence[Node], reduction: Reduction, bits: int, machine: Machine) -> Schedule:
    """The schedule for formulas over slots."""
    lanes = machine.vector_bits // bits
    many = machine.registers >= 32
    loops = [n for n in topological(body) if n.op.structure == "reduce" and n.args[0].dim > UNROLL]
    state = sum(
        f.dim * (2 if f.kind == "double" and bits == 32 else 1) for f in reduction.fields([f.dim for f in body]) if not f.compensates
    )
    in_registers = not reduction.guarded and state <= (6 if many else 3)
    if loops:
        longest = max(n.args[0].dim for n in loops)
        if reduction.guarded:
            rows, columns = (4, 4) if many else (2, 4)
        else:
            rows, columns = (3 if in_registers else 2, 4) if many else (2, 4)
        shape = f"one loop over {longest} components serves {rows} vectors of rows × {columns} columns, so each number loaded is used often"
    elif reduction.guarded:
        rows, columns = 2, 1
        shape = "column by column, so that the guard knows the best so far"
    elif not in_registers:
        rows, columns = 2, 4
        shape = f"{columns} columns are combined before they meet the partial, which is in memory"
    elif reduction.blocked > 1:
        rows, columns = (2 if many else 1), reduction.blocked
        shape = f"{columns} columns are rescaled to their common maximum at once"
    else:
        rows, columns = (4 if many and state <= 3 else 2), 1
        shape = f"all of a pair is in registers: {rows} vectors of rows share a column and hide the wait for results"
    # Shorter tiles are more accurate; a partial in memory costs more to merge.
    tile = 64 if in_registers else 256
    if reduction.guarded:
        partial = "few pairs pass the guard, so the partial is in memory"
    elif in_registers:
        numbers = "1 number" if state == 1 else f"{state} numbers"
        partial = f"a partial of {numbers} a row stays in registers, merged every {tile} columns so that rounding stays small"
    else:
        partial = f"a partial of {state} numbers a row is too long for registers; merged every {tile} columns so that it costs little"
    return Schedule("direct", lanes, rows, columns, tile, unroll=UNROLL, state_in_registers=in_registers, why=(shape, partial))
