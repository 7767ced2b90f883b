"""The schedule: how many rows and columns a tile takes at once, chosen from what must sit in registers.

A CPU tile owns `rows` vectors of rows and walks the columns `columns` at a time. With a loop over a long inner dimension inside,
rows × columns accumulators are live at once and each number loaded serves several pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..formula.graph import PAIR, Node, topological
from ..formula.operators_tensor import products
from ..reductions import Masked, Reduction, Sum
from .hoist import Hoisted
from .slices import sliced, stays_in_slices


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
    base_two : bool
        Whether 2^x in float32 is an instruction, and roots are.
    turns : bool
        Whether vectors of rows had better take turns than stand side by side, where columns hide the wait for results as well.
    """

    name: str
    vector_bits: int
    registers: int
    base_two: bool = False
    turns: bool = False


@dataclass(frozen=True)
class Schedule:
    """The shape of a tile.

    Attributes
    ----------
    family : str
        ``"direct"``: every operand of a pair in registers; ``"product"``: of each pair a few numbers are kept for a stretch of
        columns, and then multiplied by what is long.
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
    resident : int
        On a GPU, how many thread blocks a multiprocessor should have registers for.
    slices : int
        On a GPU, how many lanes share a row, each with a slice of what is long.
    packed : bool
        Whether rows and columns are packed before the tile runs, or by the tile itself.
    rescaled : bool
        Whether the columns of a step are rescaled together, as the reduction asks for.
    gathered : bool
        Whether the columns of a step are combined before they meet the partial: a running sum is rounded less often.
    abreast : int
        Vectors of rows that share a step, where it is not all: the others take their turns with the same tile of columns.
    joined : bool
        Whether rows of all batches follow one another, so that a vector may have those of two.
    in_place : bool
        Whether columns are read where the arrays have them, and not packed.
    tail : int
        Rows of the last vector of a block, where these are so few that its lanes take several columns at once; 0 where lanes are rows.
    components, stretch : int
        Of a product, components of the result that are summed at once, and columns of which numbers are kept.
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
    resident: int = 1
    slices: int = 1
    packed: bool = True
    rescaled: bool = False
    gathered: bool = False
    abreast: int = 0
    joined: bool = False
    in_place: bool = False
    tail: int = 0
    components: int = 0
    stretch: int = 0
    why: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    def block(self) -> int:
        """Rows that one tile owns."""
        return self.lanes * self.rows

    @property
    def whole(self) -> int:
        """Vectors of a block whose lanes are rows."""
        return self.rows - (self.tail > 0)

    @property
    def filled(self) -> int:
        """Lanes that each column takes of a block's vectors."""
        return self.lanes * self.whole + self.tail

    @property
    def group(self) -> int:
        """Vectors of rows that share a step."""
        return self.abreast or self.rows

    def for_short_ranges(self, vectors: int) -> Schedule:
        """A tile for ranges of rows so short that some vectors of a block would be empty."""
        if vectors < self.rows:
            return self.for_few_rows(vectors)
        if not self.abreast and (self.rows <= 2 or not self.state_in_registers or self.rescaled):
            return self
        why = "ranges of rows are short: one vector at a time leaves the fewest places empty"
        return replace(self, rows=1, columns=self.columns * self.group, why=(*self.why, why))

    def for_few_rows(self, vectors: int, tail: int = 0, in_place: bool = False) -> Schedule:
        """A tile for all rows, in so few vectors: in whole ones, and in another one for `tail` rows."""
        few, why = self, self.why
        if vectors < self.rows:
            columns = self.columns
            if (columns > 1 or self.state_in_registers) and not self.rescaled:
                columns = min(8, columns * self.group // min(self.group, max(1, vectors)))  # so that as many sums are under way
            own = "1 vector" if vectors == 1 else f"{vectors} vectors"
            held = f"all rows are in {own}, less than the {self.rows} that a block has otherwise"
            few, why = replace(self, rows=max(1, vectors), columns=columns), (held, *self.why[1:])
        if tail:
            number = self.lanes // tail
            last = f"of {'the last row' if tail == 1 else f'the last {tail} rows'} a vector holds the pairs with {number} columns at once"
            few, why = replace(few, rows=vectors + 1, abreast=few.group, tail=tail), (*why[: vectors > 0], last, *why[1:])
        if in_place:
            few, why = replace(few, in_place=True), (*why[:1], "few rows meet a column, which is read as the arrays have it", *why[1:])
        return replace(few, why=why)

    def for_joined_batches(self, in_place: bool) -> Schedule:
        """A tile for batches of so few rows that the last vector of each would be half empty, where rows of all follow one another."""
        few = self.for_few_rows(1, in_place=in_place)
        why = "rows of all batches follow one another: a vector that has some of two meets the columns of both, each lane its own"
        return replace(few, joined=True, why=(why, *few.why[1:]))


class Few(NamedTuple):
    """What is known of few rows, or of ranges of few rows.

    Attributes
    ----------
    rows : int
        For how many to plan; 0 where they are many.
    joined : bool
        Whether rows of all batches follow one another in memory.
    in_place : bool
        Whether the columns of a batch do, in numbers as the tile has them.
    """

    rows: int = 0
    joined: bool = False
    in_place: bool = False


MANY = Few()  # where rows are not few
UNROLL = 8
UNROLLED_OF_TENSORS = 16  # components of what products of matrices are made from
BUFFERS = ("row", "col", "par")
MOST_NUMBERS = 4  # of a pair, that are kept
STRETCH = 32  # columns, where one number of a pair is kept
LIGHT = 40  # vector operations of a pair: four columns of heavier ones take more registers than there are
MOST_INSTRUCTIONS = 4096  # of a step over columns: they have a cache of their own, and what is long is long to compile
MOST_WRITTEN_OUT = 512  # products of an einsum that are written out; more are loops
MOST_TAKEN = 8  # numbers of a column that a vector takes from several columns at once


def is_large(node: Node) -> bool:
    """Whether a node is an einsum too long to be written out."""
    return node.op.structure == "einsum" and products(node) > MOST_WRITTEN_OUT


def pair_numbers(formula: Node) -> list[Node]:
    """The largest parts of a formula of several components that are one number for each pair."""
    found: dict[Node, None] = {}
    pending, seen = [formula], {formula}
    while pending:
        node = pending.pop()
        if node.dim == 1 and node.axes == PAIR:
            found[node] = None
            continue
        for a in node.args:
            if a not in seen:
                seen.add(a)
                pending.append(a)
    return list(found)


def is_product(body: Sequence[Node], reduction: Reduction) -> bool:
    """Whether terms of a plain sum are made of few numbers of the pair and of what is long, by components alone."""
    if not isinstance(reduction, Sum) or reduction.careful or body[0].dim == 1:
        return False
    numbers = pair_numbers(body[0])
    above = topological(body, stop=set(numbers))
    return 1 <= len(numbers) <= MOST_NUMBERS and all(n in numbers or n.op.structure in ("leaf", "elementwise", "index") for n in above)


def choose(hoisted: Hoisted, reduction: Reduction, bits: int, machine: Machine) -> Schedule:
    """The schedule for formulas over slots."""
    body = hoisted.body
    if machine.name == "cuda":
        return _choose_cuda(hoisted, reduction, bits, machine)
    lanes = machine.vector_bits // bits
    many = machine.registers >= 32
    order = topological(body)
    loops = [n for n in order if n.op.structure == "reduce" and n.args[0].dim > UNROLL]
    tensors = [n for n in order if n.op.structure == "einsum"]
    state = sum(
        f.dim * (2 if f.kind == "double" and bits == 32 else 1) for f in reduction.fields([f.dim for f in body]) if not f.compensates
    )
    in_registers = not reduction.guarded and state <= (6 if many else 3)
    plain, abreast, unroll = isinstance(reduction, Sum) and not reduction.careful, 0, UNROLL
    if is_product(body, reduction) and (not in_registers or loops):
        return _choose_product(body, lanes, many, loops)
    if tensors and not reduction.guarded:
        # 32 registers hold a row's own vectors; with 16 they are in memory anyway, and what is read of parameters serves two.
        rows, columns = (4 if many and any(map(is_large, tensors)) else 1 if many else 2) if in_registers else 1, 1
        unroll = UNROLLED_OF_TENSORS if many else UNROLL
        shape = f"products of matrices keep whole vectors for each row: {rows} {'vector' if rows == 1 else 'vectors'} of rows at once"
    elif loops:
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
        if machine.turns and bits == 32 and state <= 2:
            rows, columns, abreast = 4, 2 * columns, 1
        turns = ", for one vector of rows after the other" if abreast else ""
        shape = f"{columns} columns are rescaled to their common maximum at once{turns}"
    else:
        # The exponentials of float64 take so long that four hide the wait in 16 registers too.
        rows, columns = (4 if many or bits == 64 else 2), 1
        shape = f"all of a pair is in registers: {rows} vectors of rows share a column and hide the wait for results"
        if machine.turns and isinstance(reduction, Sum) and state <= 4 and sum(n.op.cost for n in order) <= LIGHT:
            # More sums of four columns take more registers than there are; of float64, whose exponentials are longer, two are enough.
            columns, abreast = 1 if state > 2 else 4 if bits == 32 else 2, 1
            shape = "all of a pair is in registers: columns follow one another for one vector of rows, and hide the wait for results"
    instructions = _instructions(order, unroll)
    if rows * columns * instructions > MOST_INSTRUCTIONS:
        # Of so long a formula vectors of rows side by side hide the wait for results as well as columns do, and better than turns.
        columns, abreast = min(columns, power_of_two(MOST_INSTRUCTIONS // (rows * instructions))), 0
        rows = min(rows, power_of_two(4 * MOST_INSTRUCTIONS // instructions))
        shape = f"a pair takes some {instructions} instructions: more pairs at once make code that is slow to compile and to fetch"
    # Shorter tiles are more accurate; a partial in memory costs more to merge.
    tile = 64 if in_registers else 256
    if reduction.guarded:
        partial = "few pairs pass the guard, so the partial is in memory"
    elif in_registers:
        numbers = "1 number" if state == 1 else f"{state} numbers"
        partial = f"a partial of {numbers} a row stays in registers, merged every {tile} columns so that rounding stays small"
    else:
        partial = f"a partial of {state} numbers a row is too long for registers; merged every {tile} columns so that it costs little"
    return Schedule(
        "direct",
        lanes,
        rows,
        columns,
        tile,
        unroll=unroll,
        state_in_registers=in_registers,
        rescaled=reduction.blocked > 1,
        gathered=columns > 1 and plain,
        abreast=abreast,
        why=(shape, partial),
    )


def _choose_product(body: Sequence[Node], lanes: int, many: bool, loops: Sequence[Node]) -> Schedule:
    """Of 32 registers 24 are sums, of 16 registers 10; so in the numbers' own inner loops."""
    rows, components = (4, 6) if many else (2, 5)
    columns = 4 if loops else 1
    numbers = len(pair_numbers(body[0]))
    shape = f"of each pair {numbers} {'number is' if numbers == 1 else 'numbers are'} kept for a stretch of columns, then multiplied by"
    why = (f"{shape} {body[0].dim} components, {rows} vectors of rows × {components} components at a time",)
    return Schedule(
        "product",
        lanes,
        rows,
        columns,
        256,
        unroll=UNROLL,
        state_in_registers=False,
        components=min(components, body[0].dim),
        stretch=STRETCH // numbers,
        why=why,
    )


def repetitions(node: Node) -> int:
    """How often an operator's instructions run for a pair."""
    if node.op.structure == "einsum":
        return products(node)
    return node.args[0].dim if node.op.structure == "reduce" else node.dim


def power_of_two(number: int) -> int:
    """The largest that is not larger, 1 at least."""
    return 1 << max(0, number.bit_length() - 1)


def shares_lanes(hoisted: Hoisted, reduction: Reduction, schedule: Schedule, vectors: int) -> bool:
    """Whether a direct tile of so many whole vectors of rows may have a last one whose lanes are columns too."""
    order = topological(hoisted.body)
    plain = isinstance(reduction, Sum) and not reduction.careful and schedule.state_in_registers
    short = hoisted.col.length <= MOST_TAKEN and all(n.dim <= schedule.unroll for n in order)
    instructions = (vectors + 1) * schedule.columns * _instructions(order, schedule.unroll)
    return plain and short and instructions <= MOST_INSTRUCTIONS


def _instructions(order: Sequence[Node], unroll: int) -> int:
    """About how many a pair takes, loops not counted out."""
    own = [n for n in order if n.axes == PAIR]
    return 1 + int(sum(n.op.cost * (repetitions(n) if _multiplies_pairs(n) else min(unroll, repetitions(n))) for n in own))


def _kept_of_pairs(order: Sequence[Node]) -> int:
    """Components of a pair's vectors that are used more than once, as a difference is for a distance and again for its gradient."""
    users = Counter(a for n in order for a in n.args)
    return sum(n.dim for n in order if n.axes == PAIR and n.dim > 1 and users[n] > 1)


def _multiplies_pairs(node: Node) -> bool:
    """Whether a node is a product of matrices, written out, of numbers of the pair."""
    return node.op.structure == "einsum" and any(a.axes == PAIR for a in node.args) and not is_large(node)


# ---- CUDA
KEPT = 144  # 32-bit registers for what a thread keeps: with those that addresses and temporaries take, at most 255
MOST_KEPT = 208  # with vectors of the pairs of a step
LONG = 112  # partials up to this length stay in registers
MOST_INSTRUCTIONS_CUDA = 2048  # as `MOST_INSTRUCTIONS`, where compilers take time that grows faster than what they compile
ROWS = 4  # of a thread: what it reads of a column serves all of them
MOST_ROWS = 8  # where a pair takes so many instructions that the exponentials have time, and registers allow it
AN_INSTRUCTION = 6  # operators of this cost at most are an instruction or two, but for these
CHOICES, WITHOUT_APPROXIMATION = frozenset({"where"}), frozenset({"exp2", "sqrt", "rsqrt", "round"})
FEW_INSTRUCTIONS = 14  # of a pair, as inner products have them
BUSY_INSTRUCTIONS = 12  # of a pair, beside which an exponential takes no time of its own
SLICES = (2, 4, 8, 16, 32)  # lanes that may share a row
LEAST_TILE = 8  # columns in shared memory
MOST_SHARED_BYTES = 48_000  # that a thread block has without being asked for more
SHARED_BYTES = 24_000  # of columns in shared memory: several thread blocks fit beside one another
SHARED_BYTES_OF_SLICES = 36_000  # registers let two of them run at once


def _choose_cuda(hoisted: Hoisted, reduction: Reduction, bits: int, machine: Machine) -> Schedule:
    """A thread keeps its rows and its partial in registers; all threads share the columns of a tile."""

    def worth(shape: Schedule) -> tuple[bool, bool, int]:
        return not shape.packed, shape.state_in_registers or reduction.guarded, shape.rows

    best = _tile_of_thread(hoisted, reduction, bits, machine, 1)
    for lanes in SLICES:
        if worth(best) == (True, True, ROWS):
            break
        slices = sliced(hoisted, lanes, bits) if stays_in_slices(reduction, hoisted.body, lanes) else None
        if slices is not None:
            best = max(best, _tile_of_thread(slices, reduction, bits, machine, lanes), key=worth)
    return best


def _tile_of_thread(hoisted: Hoisted, reduction: Reduction, bits: int, machine: Machine, lanes: int) -> Schedule:
    """The shape of a thread's tile, where so many lanes share its rows."""
    words, body = bits // 32, hoisted.body
    order = topological(body[-1:] if reduction.guarded else body)  # of a bound, what it stands for is computed for few pairs
    row, col, par = (sum({n.attrs[1]: n.dim for n in order if n.op.name == "slot" and n.attrs[0] == name}.values()) for name in BUFFERS)
    inner = max((n.args[0].dim for n in order if n.op.structure == "reduce"), default=1)
    state = sum(f.dim for f in reduction.fields([f.dim for f in body]) if not f.compensates)
    in_registers = not reduction.guarded and state * words <= LONG
    a_row = words * (row + (state if in_registers else 1))
    least = LEAST_TILE if lanes == 1 else LEAST_TILE // 2  # what lanes share is packed by all of them
    fits = a_row + words * par <= KEPT and (least + 1) * hoisted.col.length * words * 4 <= MOST_SHARED_BYTES
    unroll = max(UNROLL, inner, state if in_registers else 0) if fits else UNROLL
    # Products of matrices keep whole vectors of each pair: what goes into one and what comes out.
    vectors = words * max((n.dim + max(a.dim for a in n.args if a.axes == PAIR) for n in order if _multiplies_pairs(n)), default=0)
    instructions = _instructions(order, unroll)
    # Parameters that do not fit are read anew for each step: the more pairs they serve the better.
    most = max(1, min(MOST_INSTRUCTIONS_CUDA // instructions, (KEPT if fits else MOST_KEPT) // max(1, vectors)))
    if not fits:
        rows = min(ROWS if vectors else 2, power_of_two(most))
        columns = min(4, power_of_two(most // rows))
        return Schedule("direct", 128, rows, columns, 64, unroll=unroll, state_in_registers=in_registers and state <= UNROLL)
    rows = ROWS if ROWS * a_row <= (KEPT if lanes > 1 else KEPT // 2) else 2 if 2 * a_row <= KEPT else 1
    rows = min(rows, power_of_two(most))
    light = rows * a_row + words * par <= 32 and most >= 16 * rows and not vectors
    # Functions take registers on the way, and a choice takes one of the few that hold conditions.
    several = CHOICES if machine.base_two else CHOICES | WITHOUT_APPROXIMATION
    simple = all(n.op.cost <= AN_INSTRUCTION and n.op.name not in several for n in order if n.axes == PAIR)
    careful = isinstance(reduction, Sum) and reduction.careful
    plain = isinstance(reduction, Sum) and not careful and state == 1
    # Of pairs that take more than a few instructions ptxas has all columns of a step in registers before it begins.
    read_ahead = rows * a_row + (16 * col if instructions > FEW_INSTRUCTIONS else 0)
    # More columns a step keep the units busy, until registers run out; fewer registers let more thread blocks run at once.
    if reduction.guarded:
        columns, resident = (8, 2) if light else (4 if rows == 4 else 2, 3 if rows == 4 else 1)
        resident = resident if words == 1 and not isinstance(reduction, Masked) else 1
    elif words > 1:
        columns, resident = (4 if rows * a_row <= 40 else 2 if rows * a_row <= 64 else 1), 1
        columns = max(1, columns // 2) if reduction.blocked > 1 else columns
    elif reduction.blocked > 1 and light:
        columns, resident = 4, 2 if state <= 2 else 1
    elif light and not simple:
        columns, resident = 4 if state <= 2 else 2, 2
    elif light and plain and MOST_ROWS * a_row + par <= 32 and instructions >= BUSY_INSTRUCTIONS:
        rows, columns, resident = MOST_ROWS, 8, 2
    elif light and careful:
        # What a sum takes beside itself, each column takes too.
        kept = rows * (row + sum(f.dim * (2 if f.kind == "double" else 1) for f in reduction.fields([f.dim for f in body])))
        columns, resident = 8 if kept <= 20 else 4, 2 if kept <= 44 else 1
    elif light and state == 1 and rows * a_row <= 20 and read_ahead <= 80:
        columns, resident = 16, 3
    elif light:
        # What meets its partial column by column takes temporaries for each.
        columns, resident = 16 if isinstance(reduction, Sum) and read_ahead <= 104 else 8, 2
    elif rows == 4 and state == 1:
        columns, resident = 4, 1 if vectors or words * par > 32 else 3
    else:
        columns, resident = 4 if lanes > 1 and reduction.blocked > 1 else 2 if rows > 1 else 1, 1
    if rows * a_row > KEPT // 2:
        resident = min(resident, 2)
    while columns > 1 and lanes > 1 and rows * (a_row + columns * words * _kept_of_pairs(order)) > MOST_KEPT:
        columns //= 2
    columns = min(columns, power_of_two(most // rows))
    tile, most_bytes = 512, SHARED_BYTES if lanes == 1 else SHARED_BYTES_OF_SLICES
    while tile > least and words * 4 * max(tile * col / most_bytes, (tile + 1) * hoisted.col.length / MOST_SHARED_BYTES) > 1:
        tile //= 2
    return Schedule(
        "direct",
        256 if light else 128,
        rows,
        columns,
        tile,
        unroll=unroll,
        state_in_registers=in_registers,
        resident=resident,
        packed=False,
        slices=lanes,
    )
