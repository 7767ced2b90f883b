"""A plan: all that the code generator needs to know of a reduction of formulas, as a value that prints itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from ..formula.graph import J, Node, slot, substitute, to_string, topological, variables
from ..formula.operators import spread
from ..formula.simplify import expand, simplify, specialise
from ..reductions import Field, Reduction, State, Sum
from .exponent import EXPONENTIALS, OF_REDUCTIONS, push_factors, to_base_two
from .hoist import Hoisted, hoist
from .schedule import MANY, Few, Machine, Schedule, choose, repetitions, shares_lanes
from .separate import Separated, separate
from .slices import sliced

_BY_COMPONENTS = ("leaf", "elementwise", "reduce", "index", "number")  # operators that read columns number by number
_SUMS = ("add", "sub", "sum")  # what a product is fused with


@dataclass(frozen=True)
class Numbers:
    """The types of a fold's numbers.

    Attributes
    ----------
    bits : int
        Of the arithmetic: 32 or 64.
    stored : tuple of str
        What the array of each variable holds.
    result : str
        What the results hold.
    """

    bits: int
    stored: tuple[str, ...]
    result: str


@dataclass(frozen=True, eq=False)
class Plan:
    """How to reduce formulas over their columns.

    Attributes
    ----------
    formulas : tuple of Node
        Over variables numbered from 0, rows kept and columns reduced.
    reduction : Reduction
    numbers : Numbers
    hoisted : Hoisted
    schedule : Schedule
    sparse : bool
        Whether a pattern says at each call which columns a block of rows meets.
    separated : Separated or None
        For a sum, what is summed in place of the formula, and the result as a formula of that: see `plan.separate`.
    condition : Node or None
        A formula of parameters: the kernel does nothing where it is 0.
    length : int or None
        Numbers from row to row of the result, where it is a part of a longer one.
    base_two : tuple of str
        The exponentials that are taken as powers of 2, by the names of their operators.
    contracted : bool
        Whether differences are inner products of small vectors.
    """

    formulas: tuple[Node, ...]
    reduction: Reduction
    numbers: Numbers
    hoisted: Hoisted
    schedule: Schedule
    sparse: bool = False
    separated: Separated | None = None
    condition: Node | None = None
    length: int | None = None
    base_two: tuple[str, ...] = ()
    contracted: bool = False

    @property
    def bits(self) -> int:
        """Of the arithmetic."""
        return self.numbers.bits

    @cached_property
    def variables(self) -> tuple[Node, ...]:
        return variables(self.formulas)

    @cached_property
    def of_a_lane(self) -> Plan:
        """The plan as one of the lanes that share a row has it, with its slices of long vectors."""
        if self.schedule.slices == 1:
            return self
        hoisted = sliced(self.hoisted, self.schedule.slices, self.bits)
        assert hoisted is not None
        return replace(self, hoisted=hoisted)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The components of a partial."""
        return self.reduction.fields([f.dim for f in self.hoisted.body])

    @cached_property
    def tile_fields(self) -> tuple[Field, ...]:
        """Those that are kept within a tile."""
        return tuple(f for f in self.fields if not f.compensates)

    @cached_property
    def field_slots(self) -> State:
        """The running partial, as formulas."""
        return self.state("state")

    @cached_property
    def tile_slots(self) -> State:
        """A tile's partial, as formulas."""
        return self.field_slots[: len(self.tile_fields)]

    def state(self, buffer: str) -> State:
        """A partial kept in `buffer`, as formulas; a field's number is its slots' column."""
        return tuple(slot(buffer, 0, f.dim, k, kind=f.kind) for k, f in enumerate(self.fields))

    def entry(self, buffer: str) -> State:
        """One entry of a partial in `buffer`."""
        entries = self.reduction.entries
        return tuple(slot(buffer, 0, f.dim // entries, k, kind=f.kind) for k, f in enumerate(self.fields))

    def values(self, column: int) -> tuple[Node, ...]:
        """The formulas in the `column`-th column of a step."""
        leaves = [n for n in topological(self.hoisted.body) if n.op.name == "slot" and n.axes == J]
        return tuple(substitute(self.hoisted.body, {n: slot(n.attrs[0], n.attrs[1], n.dim, column, n.axes) for n in leaves}))

    def lifted(self, column: int) -> State:
        """The partial of the pair in that column."""
        return self.reduction.lift(self.values(column), slot("index", 0, 1, column, J, "index"))

    def combine(self, *states: State) -> State:
        """The partial of several, as simplified formulas."""
        return self._simplified(self.reduction.combine(states))

    def _simplified(self, state: State) -> State:
        simple = simplify(expand(state))
        return to_base_two(simple, True, self.base_two) if self.base_two else simple

    def combine_cheaply(self, state: State, *states: State) -> tuple[Node, State] | None:
        """As `combine`, in a way that holds where the formula that comes with it is 0; None where there is none."""
        cheaply = self.reduction.combine_cheaply(state, states)
        if cheaply is None:
            return None
        doubt, *fresh = self._simplified((cheaply[0], *cheaply[1]))
        return doubt, tuple(fresh)

    def merge(self, total: State, later: State) -> State:
        """The partial of two, between tiles; what is not kept within one is its identity."""
        missing = tuple(spread(f.identity, f.dim) for f in self.fields[len(later) :])
        return self._simplified(self.reduction.merge(total, later + missing))

    @cached_property
    def results(self) -> tuple[Node, ...]:
        """The results, as formulas of the running partial."""
        if self.separated is None:
            return simplify(expand(self.reduction.finish(self.field_slots)))
        assert isinstance(self.reduction, Sum)
        total = self.separated.result(self.reduction.accumulation.finish(self.field_slots))
        return simplify(expand((self.reduction.of_total(total),)))

    @cached_property
    def operations(self) -> float:
        """Vector instructions a pair takes, as the operators' records count them, the reduction's own included.

        A product that feeds a sum alone is one instruction with it. Of a guarded reduction only the guard is counted: few pairs pass.
        """
        columns = self.schedule.columns if self.reduction.blocked > 1 else 1  # combined at once, they share work
        if self.reduction.guarded:
            roots: State = (self.reduction.guard(self.field_slots, self.values(0)),)
        else:
            roots = self.combine(self.tile_slots, *map(self.lifted, range(columns)))
        order = topological(roots)
        users: dict[Node, list[Node]] = {}
        for n in order:
            for a in n.args:
                users.setdefault(a, []).append(n)
        fused = set()
        for n in order:
            if n.op.name in _SUMS:
                fused.update([a for a in n.args if a.op.name in ("mul", "square") and len(users[a]) == 1][:1])
        body = sum(n.op.cost * repetitions(n) for n in order if n.args and n not in fused)
        return max(body, 1) / columns

    def __str__(self) -> str:
        s, h = self.schedule, self.hoisted
        lines = [f"{self.reduction.name} over columns of {', '.join(map(to_string, self.formulas))}   (float{self.bits})"]
        lines += [f"pack {b.name}: {', '.join(map(to_string, b.formulas))}" for b in h.buffers if b.formulas]
        lines.append(f"tile: {s.family}, {s.rows} × {s.lanes} rows, {s.columns} columns a step, {s.tile} a tile")
        lines.append(f"pair: {', '.join(map(to_string, h.body))}")
        lines.append(f"finish: {', '.join(map(to_string, self.results))}")
        return "\n".join(lines)


@lru_cache(maxsize=1024)
def make_plan(
    formulas: tuple[Node, ...],
    reduction: Reduction,
    numbers: Numbers,
    machine: Machine,
    sparse: bool = False,
    condition: Node | None = None,
    contracted: bool = False,
    length: int | None = None,
    few: Few = MANY,
) -> Plan:
    """Plan a reduction over columns.

    Parameters
    ----------
    formulas : tuple of Node
        Over variables; rows are kept, columns reduced.
    reduction : Reduction
    numbers : Numbers
    machine : Machine
        The target.
    sparse, condition, length
        As in `Plan`.
    contracted : bool
        Whether differences are inner products of small vectors: factors may then be multiplied into them, and differences parted.
    few : Few
        What is known of the rows, where they are few. What a formula or a reduction does not allow comes to nothing.
    """
    closely = isinstance(reduction, Sum) and reduction.careful and numbers.bits == 32 and machine.name == "cpu"
    chosen = specialise(simplify(expand(formulas)), closely)
    separated = None
    base_two: tuple[str, ...] = ()
    if numbers.bits == 32:
        base_two = EXPONENTIALS if machine.base_two else () if reduction.careful else OF_REDUCTIONS
    if contracted:
        chosen = push_factors(chosen)
    if isinstance(reduction, Sum) and contracted:
        separated = separate(chosen[0], differences=True)
        chosen = simplify((separated.formula,))
    hoisted = hoist(to_base_two(chosen) if "exp" in base_two else chosen)
    schedule = choose(hoisted, reduction, numbers.bits, machine)
    if few.rows:
        schedule = _for_few(few, schedule, hoisted, reduction, sparse, separated is not None)
    return Plan(formulas, reduction, numbers, hoisted, schedule, sparse, separated, condition, length, base_two, contracted)


def _for_few(few: Few, schedule: Schedule, hoisted: Hoisted, reduction: Reduction, sparse: bool, separated: bool) -> Schedule:
    """The schedule for few rows, as far as the formula and the reduction allow one of its own."""
    whole, tail = divmod(few.rows, schedule.lanes)
    vectors = whole + (tail > 0)
    if sparse:
        return schedule.for_short_ranges(vectors)
    by_components = all(n.op.structure in _BY_COMPONENTS for n in topological(hoisted.body))
    simple = schedule.family == "direct" and by_components and not (reduction.guarded or separated)
    in_place = few.in_place and simple and hoisted.col.length > 0 and all(f.op.name == "var" for f in hoisted.col.formulas)
    if tail and simple and shares_lanes(hoisted, reduction, schedule, whole):
        return schedule.for_few_rows(whole, tail, in_place)
    if few.joined and simple and not hoisted.par.length:
        return schedule.for_joined_batches(in_place)
    return schedule.for_few_rows(vectors, in_place=in_place) if vectors < schedule.rows else schedule
