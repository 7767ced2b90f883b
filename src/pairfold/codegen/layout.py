"""Where a kernel finds things: its argument words and the layout of packed buffers and partials.

A kernel takes one array of 64-bit words, which the runtime fills and the code generator reads by the positions here.

- ``row``: for each block of rows, each component, the block's rows one after the other: one aligned vector load.
- ``col``: for each column, its components one after the other: what a pair needs of a column is one stretch.
- ``par``: the components.
- ``partials``: for each block, each split of the columns, each component of each field, the block's rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..plan.plan import Plan

# Words of the argument array.
M, N, SPLITS, CHUNK, ROW, COL, PAR, PARTIALS, FIRST_TASKS = range(9)
PHASES = ("pack_par", "pack_row", "pack_col", "tile", "finish")
FIRST_VARIABLE = FIRST_TASKS + len(PHASES)  # before the variables: how many tasks each phase has
WORDS_A_VARIABLE = 3  # address, bytes from row to row, bytes from component to component
# Words of the control block that all threads of a call share.
COUNTER, ABORT = range(2)

# What one task of a phase does: vectors of rows packed, blocks finished. A tile task is one block and one split.
PACK_VECTORS = 64
FINISH_BLOCKS = 32
ALIGNMENT = 64
INDEX_BYTES = 8


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True, eq=False)
class Layout:
    """Sizes and positions for a plan."""

    plan: Plan

    @property
    def real_bytes(self) -> int:
        return self.plan.bits // 8

    def variable(self, index: int) -> int:
        """The first word of a variable."""
        return FIRST_VARIABLE + WORDS_A_VARIABLE * index

    def output(self, index: int) -> int:
        """The word of a result's address."""
        return FIRST_VARIABLE + WORDS_A_VARIABLE * len(self.plan.variables) + index

    def field_offset(self, field: int) -> int:
        """Bytes from the start of a partial to a field."""
        return sum(self._field_bytes(k) for k in range(field))

    def partial_bytes(self) -> int:
        """Bytes of the partial of one block and split."""
        return self.field_offset(len(self.plan.fields))

    def element_bytes(self, field: int) -> int:
        return INDEX_BYTES if self.plan.fields[field].kind == "index" else self.real_bytes

    def _field_bytes(self, field: int) -> int:
        return self.plan.fields[field].dim * self.plan.schedule.block * self.element_bytes(field)

    def row_bytes(self, blocks: int) -> int:
        return blocks * self.plan.hoisted.row.length * self.plan.schedule.block * self.real_bytes

    def col_bytes(self, columns: int) -> int:
        lanes = self.plan.schedule.lanes
        return ceil_div(columns, lanes) * lanes * self.plan.hoisted.col.length * self.real_bytes

    def par_bytes(self) -> int:
        return self.plan.hoisted.par.length * self.real_bytes
