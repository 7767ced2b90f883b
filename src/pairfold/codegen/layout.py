"""Where a kernel finds things: its argument words and the layout of packed buffers and partials.

A kernel takes one array of 64-bit words, which the runtime fills and the code generator reads by the positions here.

All buffers hold one batch after the other, and within a batch (rows and partials of joined batches are those of one):

- ``row``: for each block of rows, each component, the block's rows one after the other: one aligned vector load.
- ``col``: for each column, its components one after the other: what a pair needs of a column is one stretch. There are none where tiles
  read columns from the arrays.
- ``par``: the components, from a multiple of 16 bytes on.
- ``partials``: for each block, each split of the columns, each component of each field, the block's rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..plan.hoist import Buffer
from ..plan.plan import Plan

# Words of the argument array.
BATCHES, M, N, SPLITS, CHUNK, ROW, COL, PAR, PARTIALS, FIRST_TASKS = range(10)
PHASES = ("pack_par", "pack_row", "pack_col", "tile", "finish")
FIRST_VARIABLE = FIRST_TASKS + len(PHASES)  # before the variables: how many tasks each phase has
# Of a variable: its address, bytes from row to row and from component to component, and the address of a table that holds, for each
# batch, where it begins, in bytes.
ADDRESS, ROW_STRIDE, STRIDE, OFFSETS = range(4)
WORDS_A_VARIABLE = 4
# After the results, where blocks are those of a pattern: how many a batch has, the table of blocks, and the ranges of columns.
BLOCKS, TABLE, RANGES = range(3)
# Words of the control block that all threads of a call share: the next task, whether to stop, and how many threads have begun.
COUNTER, ABORT, BEGUN = range(3)

# What one task of a phase does: vectors of rows packed (batches, for parameters), blocks finished. A tile task is one block of one batch
# and one split.
PACK_VECTORS = 64
FINISH_BLOCKS = 32
ALIGNMENT = 64
WIDEST = 16  # bytes that one number's load may be joined to
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

    @property
    def par_length(self) -> int:
        """Numbers from one batch's parameters to the next one's."""
        a_load = WIDEST // self.real_bytes
        return ceil_div(self.plan.hoisted.par.length, a_load) * a_load

    def packs(self, buffer: Buffer) -> bool:
        """Whether there is such a buffer: formulas may need none, and tiles may read columns from the arrays."""
        return buffer.length > 0 and not (buffer.name == "col" and self.plan.schedule.in_place)

    def variable(self, index: int) -> int:
        """The first word of a variable."""
        return FIRST_VARIABLE + WORDS_A_VARIABLE * index

    def output(self, index: int) -> int:
        """The word of a result's address."""
        return FIRST_VARIABLE + WORDS_A_VARIABLE * len(self.plan.numbers.stored) + index

    def sparse(self, which: int) -> int:
        """The word of `BLOCKS`, `TABLE` or `RANGES`."""
        return self.output(len(self.plan.results)) + which

    @property
    def words(self) -> int:
        """How many argument words there are."""
        return self.sparse(RANGES + 1) if self.plan.sparse else self.output(len(self.plan.results))

    def field_offset(self, field: int) -> int:
        """Bytes from the start of a partial to a field."""
        return sum(self._field_bytes(k) for k in range(field))

    def partial_bytes(self) -> int:
        """Bytes of the partial of one block and split."""
        return self.field_offset(len(self.plan.fields))

    def element_bytes(self, field: int) -> int:
        return self.real_bytes if self.plan.fields[field].kind == "real" else 8

    def _field_bytes(self, field: int) -> int:
        return self.plan.fields[field].dim * self.plan.schedule.block * self.element_bytes(field)

    def blocks(self, batches: int, rows: int) -> int:
        """Blocks of rows of so many batches."""
        s = self.plan.schedule
        return ceil_div(batches * rows, s.block) if s.joined else batches * ceil_div(rows, s.block)

    def bytes(self, batches: int, blocks: int, columns: int, splits: int) -> tuple[int, int, int, int]:
        """Sizes of the packed rows, columns and parameters, and of the partials, of so many batches with so many blocks in all."""
        h, s = self.plan.hoisted, self.plan.schedule
        return (
            blocks * s.block * h.row.length * self.real_bytes,
            batches * ceil_div(columns, s.lanes) * s.lanes * h.col.length * self.real_bytes if self.packs(h.col) else 0,
            batches * self.par_length * self.real_bytes,
            blocks * splits * self.partial_bytes() if splits > 1 else 0,
        )

    def tasks(self, batches: int, blocks: int, columns: int, splits: int) -> tuple[int, ...]:
        """How many tasks each phase has, with so many blocks in all."""
        s = self.plan.schedule
        return (
            ceil_div(batches, PACK_VECTORS),
            ceil_div(blocks * s.rows, PACK_VECTORS),
            ceil_div(batches * ceil_div(columns, s.lanes), PACK_VECTORS) if self.packs(self.plan.hoisted.col) else 0,
            blocks * splits,
            ceil_div(blocks, FINISH_BLOCKS) if splits > 1 else 0,  # else a tile writes results itself
        )
