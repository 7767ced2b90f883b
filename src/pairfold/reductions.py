"""Reductions as monoids: one class a reduction, stated as formulas over the components of its partial.

`combine` is the only thing that ever merges partials: the columns of one step, tiles, splits of the columns, blocks. Columns are
always combined in increasing order, so that ties go to the lowest index on every path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from .formula.complex import Complex, exp, from_real, from_vector
from .formula.graph import Node, Operand, apply, const
from .formula.operators import extract, is_zero, spread, spread_to, where, zeros

State = tuple[Node, ...]
INFINITY = float("inf")
FAR_FROM_OVERFLOW = 2.0**60
SMALL_SUM = 2.0**20  # as many equal terms have it, which no rescaling makes smaller


@dataclass(frozen=True)
class Field:
    """A component of a partial: `dim` numbers of a kind, `identity` where nothing was reduced yet.

    Kinds are ``"real"``, ``"double"`` (float64 whatever reals are) and ``"index"``.

    One that `compensates` is kept between tiles alone; such fields come last.
    """

    dim: int
    identity: float
    kind: str = "real"
    compensates: bool = False


@dataclass(frozen=True)
class Reduction:
    """What all reductions share. Reductions are values: they compare and hash by class and parameters.

    A reduction of formulas F₁, F₂ … has a partial made of `fields`; `lift` makes a partial of one pair, `combine` merges partials
    given in the order of their columns, `merge` two of them between tiles, where there is time for more care; `finish` turns the
    last one into the results. All take and return formulas.
    """

    name: ClassVar[str]
    results: ClassVar[tuple[str, ...]] = ("real",)  # the kind of each result, those that only derivatives use included
    public: ClassVar[int] = 1  # how many results a user sees
    formulas: ClassVar[int] = 1  # how many formulas it takes
    selects: ClassVar[bool] = False  # the result is one of the reduced values: its derivative goes through the selected pairs
    blocked: ClassVar[int] = 1  # columns that are best combined at once
    conditions: ClassVar[int] = 0  # how many of the formulas, the first ones, say which pairs take part
    guarded: ClassVar[bool] = False  # most pairs change nothing, and `guard` says which

    @property
    def careful(self) -> bool:
        """Whether sums are accumulated with more care than in blocks."""
        return False

    def fields(self, dims: Sequence[int]) -> tuple[Field, ...]:
        """The partial's components, from the formulas' dimensions."""
        raise NotImplementedError

    def lift(self, values: Sequence[Node], index: Node) -> State:
        """The partial of one pair: the formulas' values, in column `index`."""
        return tuple(values)

    def combine(self, states: Sequence[State]) -> State:
        """The partial of all the columns of `states`."""
        raise NotImplementedError

    def combine_cheaply(self, state: State, states: Sequence[State]) -> tuple[Node, State] | None:
        """A cheaper way to combine pairs into a partial, and a formula that is 0 where it holds; else `combine` is used."""
        return None

    def merge(self, total: State, later: State) -> State:
        """The partial of the columns of two, between tiles and splits."""
        return self.combine((total, later))

    @property
    def entries(self) -> int:
        """A partial is a sequence of this many lifted pairs: merging it means to combine them one by one."""
        return 1

    def guard(self, state: State, values: Sequence[Node]) -> Node:
        """A formula that is 0 where a pair with these values would change nothing."""
        raise NotImplementedError

    def shortcut(self, state: State, lifted: State) -> tuple[Node, State] | None:
        """A formula, and a cheaper way to combine where that is 0; for reductions with a guard."""
        return None

    def finish(self, state: State) -> tuple[Node, ...]:
        """The results."""
        return state

    @property
    def pulls_by_results(self) -> bool:
        """Whether `pullback` looks at the results."""
        return True

    def pullback(self, values: Sequence[Node], outs: Sequence[Node], cotangents: Sequence[Node]) -> tuple[Node, ...]:
        """For each formula but conditions, the cotangent of its value at a pair, given the results and their cotangents."""
        raise NotImplementedError

    def of_gradients(self) -> Reduction:
        """The reduction of the gradients of pairs, after the same conditions."""
        return Sum()

    def shape(self, dims: Sequence[int]) -> tuple[int, ...]:
        """The shape of a result for one row."""
        return (max(dims),)

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        """The meaning: results (M, …) from the formulas' dense (M, N, D) float64 values."""
        raise NotImplementedError


def _sum(terms: Sequence[Node]) -> Node:
    return reduce(lambda a, b: a + b, terms)


def _two_sum(a: Node, b: Node) -> tuple[Node, Node]:
    """The rounded sum, and what rounding took off (Knuth).

    A product is rounded with the sum, in a multiply-add, and not before. Where sum and product nearly cancel its last digits are lost,
    as they are where it is rounded before; otherwise they are kept.
    """
    if b.op.name == "mul":
        x, y = b.args
        s = apply("fma", x, y, a)
        taken = s - a
        left = apply("fma", -x, y, taken)
    else:
        s = a + b
        taken = s - a
        left = taken - b
    return s, (a - (s - taken)) - left


def _with_lost(s: Node, lost: Node) -> Node:
    """A sum and what was lost of it; the sum alone where it is not finite, and what was lost has no meaning."""
    return s + where(apply("lt", apply("abs", s), INFINITY), lost, 0)


@dataclass(frozen=True)
class Accumulation:
    """How a sum is accumulated: plain sums within a tile; between tiles what rounding takes off is kept beside the sum.

    A sum in progress is a few formulas: those of `kept` fields, and between tiles those of `between` after them.
    """

    name: ClassVar[str] = "block"
    careful: ClassVar[bool] = False  # whether terms should be computed with more care than time

    def kept(self, dim: int) -> tuple[Field, ...]:
        return (Field(dim, 0.0),)

    def between(self, dim: int) -> tuple[Field, ...]:
        return (Field(dim, 0.0, compensates=True),)

    def lift(self, value: Node) -> State:
        """The sum of one term."""
        return (value,)

    def combine(self, sums: Sequence[State]) -> State:
        """The sum of several, within a tile."""
        return (_sum([s[0] for s in sums]),)

    def merge(self, total: State, later: State) -> State:
        """The sum of two, between tiles."""
        s, lost = _two_sum(total[0], later[0])
        before = total[1] if is_zero(later[1]) else total[1] + later[1]
        return s, before + lost

    def scale(self, sums: State, factor: Node) -> State:
        return tuple(s if is_zero(s) else s * factor for s in sums)

    def finish(self, sums: State) -> Node:
        """The number."""
        return _with_lost(*sums)


@dataclass(frozen=True)
class Compensated(Accumulation):
    """What rounding takes off is kept beside the sum at each term (Kahan and Babuška's, in Knuth's form)."""

    name = "compensated"
    careful = True

    def kept(self, dim: int) -> tuple[Field, ...]:
        return Field(dim, 0.0), Field(dim, 0.0)

    def between(self, dim: int) -> tuple[Field, ...]:
        return ()

    def lift(self, value: Node) -> State:
        return value, zeros(value.dim)

    def combine(self, sums: Sequence[State]) -> State:
        return reduce(self.merge, sums)


@dataclass(frozen=True)
class Float64(Accumulation):
    """Terms are computed as ever and added up in float64."""

    name = "float64"
    careful = True

    def kept(self, dim: int) -> tuple[Field, ...]:
        return (Field(dim, 0.0, "double"),)

    def between(self, dim: int) -> tuple[Field, ...]:
        return ()

    def lift(self, value: Node) -> State:
        return (apply("widen", value),)

    def merge(self, total: State, later: State) -> State:
        return self.combine((total, later))

    def scale(self, sums: State, factor: Node) -> State:
        return super().scale(sums, apply("widen", factor))

    def finish(self, sums: State) -> Node:
        return apply("narrow", sums[0])


ACCUMULATIONS = {a.name: a for a in (Accumulation(), Compensated(), Float64())}


@dataclass(frozen=True)
class Sum(Reduction):
    """Σ F."""

    accumulation: Accumulation = Accumulation()
    name = "sum"

    @property
    def careful(self) -> bool:
        return self.accumulation.careful

    def fields(self, dims: Sequence[int]) -> tuple[Field, ...]:
        return self.accumulation.kept(dims[0]) + self.accumulation.between(dims[0])

    def lift(self, values: Sequence[Node], index: Node) -> State:
        return self.accumulation.lift(values[0])

    def combine(self, states: Sequence[State]) -> State:
        return self.accumulation.combine(states)

    def merge(self, total: State, later: State) -> State:
        return self.accumulation.merge(total, later)

    def finish(self, state: State) -> tuple[Node, ...]:
        return (self.of_total(self.accumulation.finish(state)),)

    def of_total(self, total: Node) -> Node:
        """The result, from the sum."""
        return total

    @property
    def pulls_by_results(self) -> bool:
        return False

    def pullback(self, values: Sequence[Node], outs: Sequence[Node], cotangents: Sequence[Node]) -> tuple[Node, ...]:
        return (cotangents[0],)

    def of_gradients(self) -> Reduction:
        return self

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        return (values[0].sum(1),)


def _by_number(number: Node, *cases: Operand) -> Node:
    """The case of a number 0, 1, 2 …; 0 beyond them."""
    found = const(0)
    for k, case in reversed(list(enumerate(cases))):
        found = where(apply("eq", number, k), case, found)
    return found


@dataclass(frozen=True)
class Prod(Reduction):
    """Π F, kept as the product of the factors that are not 0, the number of those that are, and the sum of all times 0.

    Its derivative needs the first two; where a factor is 0 the product is the third: 0 though the others overflow, nan where one of them
    is infinite.

    The product is a polynomial in the factors that are 0, the product of all others times the last elementary symmetric polynomial of
    these. So that derivatives of derivatives see them, the sums of their first and second powers are results as well, which are 0; by
    Newton's identities they say that polynomial, up to the third derivative, and further where not more than two factors are 0.
    """

    name = "prod"
    results: ClassVar[tuple[str, ...]] = ("real",) * 5

    def fields(self, dims: Sequence[int]) -> tuple[Field, ...]:
        return Field(dims[0], 1.0), Field(dims[0], 0.0), Field(dims[0], 0.0)

    def lift(self, values: Sequence[Node], index: Node) -> State:
        zero = apply("eq", values[0], 0)
        return where(zero, 1, values[0]), zero, values[0] * 0

    def combine(self, states: Sequence[State]) -> State:
        return reduce(lambda a, b: a * b, [s[0] for s in states]), _sum([s[1] for s in states]), _sum([s[2] for s in states])

    def finish(self, state: State) -> tuple[Node, ...]:
        rest, zeros, nothing = state
        return where(zeros, nothing, rest), rest, zeros, zeros * 0, zeros * 0

    def pullback(self, values: Sequence[Node], outs: Sequence[Node], cotangents: Sequence[Node]) -> tuple[Node, ...]:
        (f,), (_, rest, zeros, first, second), (g, g_rest, _, g_first, g_second) = values, outs, cotangents
        zero = apply("eq", f, 0)
        of_pairs = (first * first - second) / 2
        of_zeros = _by_number(zeros, 1, first, of_pairs)
        of_other_zeros = _by_number(zeros, 0, 1, first - f, of_pairs - f * (first - f))
        of_zero = g * rest * of_other_zeros + g_first + 2 * f * g_second
        return (where(zero, of_zero, (g * of_zeros + g_rest) * (rest / where(zero, 1, f))),)

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        return (values[0].prod(1),)


@dataclass(frozen=True)
class Selection(Reduction):
    """The smallest values, or the largest as the smallest of -F. nan counts as the smallest of all, as in NumPy."""

    selects = True
    largest: ClassVar[bool] = False

    def indices(self) -> Reduction:
        """The reduction to the columns of what is selected."""
        return Argmax() if self.largest else Argmin()

    @staticmethod
    def _comes_first(a: Node, b: Node, largest: bool) -> Node:
        """Whether b, from a later column, replaces a: it is better, or the first nan."""
        not_better = apply("le" if largest else "ge", b, a)
        return apply("logical_and", apply("logical_not", not_better), apply("logical_not", apply("isnan", a)))


@dataclass(frozen=True)
class Min(Selection):
    """The smallest F."""

    name = "min"

    def fields(self, dims: Sequence[int]) -> tuple[Field, ...]:
        return (Field(dims[0], -INFINITY if self.largest else INFINITY),)

    def combine(self, states: Sequence[State]) -> State:
        pick = "maximum" if self.largest else "minimum"
        return (reduce(lambda a, b: apply(pick, a, b), [s[0] for s in states]),)

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        return ((values[0].max if self.largest else values[0].min)(1),)


@dataclass(frozen=True)
class MinArgmin(Selection):
    """The smallest F and its column."""

    name = "min_argmin"
    results: ClassVar[tuple[str, ...]] = ("real", "index")
    public = 2

    def fields(self, dims: Sequence[int]) -> tuple[Field, ...]:
        return Field(dims[0], -INFINITY if self.largest else INFINITY), Field(dims[0], -1, "index")

    def lift(self, values: Sequence[Node], index: Node) -> State:
        return values[0], spread_to(index, values[0].dim)

    def combine(self, states: Sequence[State]) -> State:
        def later(a: State, b: State) -> State:
            # A value that is no better than the identity is still the first.
            take = apply("logical_or", self._comes_first(a[0], b[0], self.largest), apply("unset", a[1]))
            return where(take, b[0], a[0]), where(take, b[1], a[1])

        return reduce(later, states)

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        index = (values[0].argmax if self.largest else values[0].argmin)(1)
        return np.take_along_axis(values[0], index[:, None], 1)[:, 0], index


@dataclass(frozen=True)
class Argmin(MinArgmin):
    """The column of the smallest F."""

    name = "argmin"
    results: ClassVar[tuple[str, ...]] = ("index",)
    public = 1

    def finish(self, state: State) -> tuple[Node, ...]:
        return (state[1],)

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        return super().numpy(*values)[1:]


@dataclass(frozen=True)
class Max(Min):
    """The largest F."""

    name = "max"
    largest = True


@dataclass(frozen=True)
class MaxArgmax(MinArgmin):
    """The largest F and its column."""

    name = "max_argmax"
    largest = True


@dataclass(frozen=True)
class Argmax(Argmin):
    """The column of the largest F."""

    name = "argmax"
    largest = True


@dataclass(frozen=True)
class KminArgKmin(Selection):
    """The K smallest F in increasing order, and their columns. As in NumPy's sort, nan comes last.

    A second formula, where there is one, is a lower bound of F that costs less: F is computed only where the bound is promising.
    """

    K: int = 1
    name = "Kmin_argKmin"
    guarded = True
    results: ClassVar[tuple[str, ...]] = ("real", "index")
    public = 2

    def fields(self, dims: Sequence[int]) -> tuple[Field, ...]:
        # nan makes the guard true as long as a place is unset.
        return Field(self.K * dims[0], float("nan")), Field(self.K * dims[0], -1, "index")

    def lift(self, values: Sequence[Node], index: Node) -> State:
        return values[0], spread_to(index, values[0].dim)

    def guard(self, state: State, values: Sequence[Node]) -> Node:
        value = values[-1]
        last = extract(state[0], (self.K - 1) * value.dim, value.dim)
        closer = apply("logical_not", apply("ge", value, last))
        return closer if value.dim == 1 else apply("max", closer)

    def combine(self, states: Sequence[State]) -> State:
        first, *others = states
        return reduce(self._insert, others, first)

    @property
    def entries(self) -> int:
        return self.K

    def indices(self) -> Reduction:
        return ArgKmin(self.K)

    def _insert(self, state: State, lifted: State) -> State:
        """The sorted list with one more entry: each place keeps its own, takes the new one, or takes its neighbour's."""
        (values, indices), (value, _) = state, lifted
        number = apply("logical_not", apply("isnan", value if value.dim == 1 else self._repeat(value)))
        # Not (v ≥ place): smaller, or the place is nan or unset. A nan itself goes to unset places alone.
        smaller = apply("logical_not", apply("ge", self._repeat(value), values))
        precedes = apply("logical_and", smaller, apply("logical_or", number, apply("unset", indices)))
        return self._placed(values, value, precedes), self._placed(indices, lifted[1], precedes)

    def shortcut(self, state: State, lifted: State) -> tuple[Node, State]:
        """For a number that is not nan."""
        (values, indices), (value, index) = state, lifted
        v = self._repeat(value)
        precedes = apply("logical_not", apply("ge", v, values))
        # max(min(place, v), neighbour), where a nan is a place that is unset: `fmin` and `fmax` then give their second operand.
        placed = apply("fmin", values, v)
        if self.K > 1:
            placed = apply("fmax", placed, self._shifted(apply("spread", -INFINITY, attrs=(value.dim,)), values))
        suspect = apply("isnan", value)
        return suspect if value.dim == 1 else apply("max", suspect), (placed, self._placed(indices, index, precedes))

    def _placed(self, field: Node, new: Node, precedes: Node) -> Node:
        """A field with the new entry put where it precedes a place and does not precede the one before."""
        if self.K == 1:
            return where(precedes, self._repeat(new), field)
        dim = new.dim
        before = self._shifted(apply("spread", 0, attrs=(dim,)), precedes)
        return where(precedes, where(before, self._shifted(extract(field, 0, dim), field), self._repeat(new)), field)

    def _shifted(self, head: Node, field: Node) -> Node:
        """A field moved one place on, with `head` in front."""
        return apply("concat", head, extract(field, 0, field.dim - head.dim))

    def _repeat(self, value: Node) -> Node:
        """A pair's components, once for each of the K places."""
        if self.K == 1:
            return value
        return apply("spread", value, attrs=(self.K,)) if value.dim == 1 else apply("concat", *[value] * self.K)

    def shape(self, dims: Sequence[int]) -> tuple[int, ...]:
        return (self.K, dims[0])

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        index = np.argsort(values[0], axis=1, kind="stable")[:, : self.K]
        return np.take_along_axis(values[0], index, 1), index


@dataclass(frozen=True)
class Kmin(KminArgKmin):
    """The K smallest F, in increasing order."""

    name = "Kmin"
    results: ClassVar[tuple[str, ...]] = ("real",)
    public = 1

    def finish(self, state: State) -> tuple[Node, ...]:
        return state[:1]

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        return super().numpy(*values)[:1]


@dataclass(frozen=True)
class ArgKmin(KminArgKmin):
    """The columns of the K smallest F, the smallest first."""

    name = "argKmin"
    results: ClassVar[tuple[str, ...]] = ("index",)
    public = 1

    def finish(self, state: State) -> tuple[Node, ...]:
        return state[1:]

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        return super().numpy(*values)[1:]


def _finite_or_zero(m: Node) -> Node:
    """A shift that is safe to subtract: the maximum, or 0 where it is infinite."""
    return where(apply("lt", apply("abs", m), INFINITY), m, 0)


def _stabilised(values: np.ndarray, weights: Any = 1.0) -> tuple[np.ndarray, np.ndarray]:
    top = values.max(1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    return top[:, 0], np.exp(values - top) * weights


@dataclass(frozen=True)
class LogSumExp(Reduction):
    """log Σ exp(F), through the running maximum and the sum relative to it."""

    accumulation: Accumulation = Accumulation()
    name = "logsumexp"
    blocked = 8

    @property
    def careful(self) -> bool:
        return self.accumulation.careful

    def fields(self, dims: Sequence[int]) -> tuple[Field, ...]:
        """The maximum, the sums, and what the sums have between tiles alone."""
        sums = self._sums(dims)
        kept = [f for d in sums for f in self.accumulation.kept(d)]
        return Field(dims[0], -INFINITY), *kept, *(f for d in sums for f in self.accumulation.between(d))

    def _sums(self, dims: Sequence[int]) -> tuple[int, ...]:
        """The dimensions of the sums."""
        return (max(dims),)

    def _split(self, state: State) -> list[State]:
        """The sums in progress, each with all that belongs to it."""
        count, own = len(self._sums((1, 1))), len(self.accumulation.kept(1))
        kept, between = state[1 : 1 + count * own], state[1 + count * own :]
        each = len(between) // count
        return [kept[k * own : (k + 1) * own] + between[k * each : (k + 1) * each] for k in range(count)]

    def _join(self, top: Node, sums: Sequence[State]) -> State:
        own = len(self.accumulation.kept(1))
        return (top, *(f for s in sums for f in s[:own]), *(f for s in sums for f in s[own:]))

    def lift(self, values: Sequence[Node], index: Node) -> State:
        return (values[0], *self.accumulation.lift(spread_to(apply("spread", 1, attrs=(1,)), values[0].dim)))

    def combine(self, states: Sequence[State]) -> State:
        return self._relative(states, lambda sums: self.accumulation.combine(sums))

    def combine_cheaply(self, state: State, states: Sequence[State]) -> tuple[Node, State] | None:
        """Relative to the maximum as it was: right as long as the sums stay far from overflow. (At first it is -inf, and they do not.)"""
        if any(f.kind != "real" for f in self.accumulation.kept(1)):
            return None
        scales = [apply("exp_or_zero", s[0] - state[0]) for s in states]
        scaled = [[self.accumulation.scale(part, e) for part in self._split(s)] for s, e in zip(states, scales, strict=True)]
        sums = [self.accumulation.combine([own, *parts]) for own, *parts in zip(self._split(state), *scaled, strict=True)]
        fine = [apply("lt", apply("abs", s), bound) for s, bound in self._bounded(sums)]
        doubts = [apply("logical_not", f if f.dim == 1 else apply("min", f)) for f in fine]
        return reduce(lambda a, b: apply("logical_or", a, b), doubts), self._join(state[0], sums)

    def _bounded(self, sums: Sequence[State]) -> list[tuple[Node, float]]:
        """Sums that stay far from overflow below a bound, and then all of them do."""
        return [(s[0], FAR_FROM_OVERFLOW) for s in sums]

    def merge(self, total: State, later: State) -> State:
        return self._relative((total, later), lambda sums: self.accumulation.merge(*sums))

    def _relative(self, states: Sequence[State], add: Callable[[Sequence[State]], State]) -> State:
        """Partials brought to a common maximum, and their sums added."""
        top = reduce(lambda a, b: apply("fmax", a, b), [s[0] for s in states])
        shift = _finite_or_zero(top)
        # Relative to the largest term, what is below the smallest normal number adds nothing.
        scales = [apply("exp_or_zero", s[0] - shift) for s in states]
        scaled = [[self.accumulation.scale(part, e) for part in self._split(s)] for s, e in zip(states, scales, strict=True)]
        return self._join(top, [add(parts) for parts in zip(*scaled, strict=True)])

    def finish(self, state: State) -> tuple[Node, ...]:
        return (_finite_or_zero(state[0]) + apply("log", self.accumulation.finish(self._split(state)[0])),)

    def pullback(self, values: Sequence[Node], outs: Sequence[Node], cotangents: Sequence[Node]) -> tuple[Node, ...]:
        return (cotangents[0] * apply("exp", values[0] - outs[0]),)

    def of_gradients(self) -> Reduction:
        return Sum(self.accumulation)

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        top, terms = _stabilised(*values)
        return (top + np.log(terms.sum(1)),)


@dataclass(frozen=True)
class LogOfSum(Sum):
    """log Σ F of positive terms of middling size: what planners put in the place of a `LogSumExp` whose exponents are small."""

    name = "log of sum"

    def of_total(self, total: Node) -> Node:
        return apply("log", total)

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.log(values[0].sum(1)),)


@dataclass(frozen=True)
class WeightedLogSumExp(LogSumExp):
    """log Σ W exp(F)."""

    name = "logsumexp_weight"
    formulas = 2

    def lift(self, values: Sequence[Node], index: Node) -> State:
        return (values[0], *self.accumulation.lift(spread_to(values[1], max(v.dim for v in values))))

    def pullback(self, values: Sequence[Node], outs: Sequence[Node], cotangents: Sequence[Node]) -> tuple[Node, ...]:
        share = cotangents[0] * apply("exp", values[0] - outs[0])
        return share * values[1], share


@dataclass(frozen=True)
class SumSoftMaxWeight(LogSumExp):
    """Σ exp(F) W / Σ exp(F). Its second result, log Σ exp(F), is for derivatives."""

    name = "sumsoftmaxweight"
    results: ClassVar[tuple[str, ...]] = ("real", "real")
    formulas = 2

    def _sums(self, dims: Sequence[int]) -> tuple[int, ...]:
        return dims[0], max(dims)

    def lift(self, values: Sequence[Node], index: Node) -> State:
        weight = spread_to(values[1], max(v.dim for v in values))
        return self._join(values[0], [super().lift(values, index)[1:], self.accumulation.lift(weight)])

    def _bounded(self, sums: Sequence[State]) -> list[tuple[Node, float]]:
        """No weighted sum is larger than the sum of the exponentials times the largest weight: it does not have to be looked at."""
        return [(sums[0][0], SMALL_SUM)]

    def finish(self, state: State) -> tuple[Node, ...]:
        s, weighted = map(self.accumulation.finish, self._split(state))
        return weighted / s, *super().finish(state)

    def pullback(self, values: Sequence[Node], outs: Sequence[Node], cotangents: Sequence[Node]) -> tuple[Node, ...]:
        share = apply("exp", values[0] - outs[1])
        spread_out = cotangents[0] * (values[1] - outs[0])
        if spread_out.dim != values[0].dim:
            spread_out = apply("sum", spread_out)
        return share * (spread_out + cotangents[1]), share * cotangents[0]

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        _, terms = _stabilised(values[0])
        return ((terms * values[1]).sum(1) / terms.sum(1),)


@dataclass(frozen=True)
class Masked(Reduction):
    """Another reduction, over the pairs where a condition, its first formula, is not 0."""

    inner: Reduction = Sum()
    name = "masked"
    conditions = 1

    def __post_init__(self) -> None:
        for name in ("results", "public", "selects", "blocked", "guarded"):
            object.__setattr__(self, name, getattr(self.inner, name))

    @property
    def careful(self) -> bool:
        return self.inner.careful

    def fields(self, dims: Sequence[int]) -> tuple[Field, ...]:
        return self.inner.fields(dims[1:])

    def lift(self, values: Sequence[Node], index: Node) -> State:
        lifted = self.inner.lift(values[1:], index)
        nothing = {
            "real": lambda f: spread(f.identity, f.dim),
            "double": lambda f: apply("widen", spread(f.identity, f.dim)),
            "index": lambda f: apply("index", spread_to(index, f.dim), attrs=(int(f.identity),)),
        }
        # A partial of many entries is made from one.
        fields = [replace(f, dim=value.dim) for f, value in zip(self.fields([v.dim for v in values]), lifted, strict=False)]
        return tuple(where(values[0], value, nothing[f.kind](f)) for f, value in zip(fields, lifted, strict=True))

    def combine(self, states: Sequence[State]) -> State:
        return self.inner.combine(states)

    def merge(self, total: State, later: State) -> State:
        return self.inner.merge(total, later)

    @property
    def entries(self) -> int:
        return self.inner.entries

    def guard(self, state: State, values: Sequence[Node]) -> Node:
        return apply("logical_and", values[0], self.inner.guard(state, values[1:]))

    def shortcut(self, state: State, lifted: State) -> tuple[Node, State] | None:
        return self.inner.shortcut(state, lifted)

    def finish(self, state: State) -> tuple[Node, ...]:
        return self.inner.finish(state)

    @property
    def pulls_by_results(self) -> bool:
        return self.inner.pulls_by_results

    def pullback(self, values: Sequence[Node], outs: Sequence[Node], cotangents: Sequence[Node]) -> tuple[Node, ...]:
        return self.inner.pullback(values, outs, cotangents)

    def of_gradients(self) -> Reduction:
        return Masked(self.inner.of_gradients())

    def indices(self) -> Reduction:
        """As `Selection.indices`."""
        assert isinstance(self.inner, Selection)
        return Masked(self.inner.indices())

    def shape(self, dims: Sequence[int]) -> tuple[int, ...]:
        return self.inner.shape(dims[1:])


@dataclass(frozen=True)
class ComplexProd(Reduction):
    """Π F of complex numbers; see `Prod`. F holds their real parts, then the imaginary ones."""

    name = "prod"
    results: ClassVar[tuple[str, ...]] = ("real",) * 5

    def fields(self, dims: Sequence[int]) -> tuple[Field, ...]:
        return Field(dims[0] // 2, 1.0), *[Field(dims[0] // 2, 0.0)] * 3

    def lift(self, values: Sequence[Node], index: Node) -> State:
        f = from_vector(values[0])
        zero = apply("logical_and", apply("eq", f.real, 0), apply("eq", f.imag, 0))
        return where(zero, 1, f.real), f.imag, zero, (f.real + f.imag) * 0

    def combine(self, states: Sequence[State]) -> State:
        product = reduce(lambda a, b: a * b, [Complex(*s[:2]) for s in states])
        return product.real, product.imag, _sum([s[2] for s in states]), _sum([s[3] for s in states])

    def finish(self, state: State) -> tuple[Node, ...]:
        real, imag, zeros, nothing = state
        whole = Complex(where(zeros, nothing, real), where(zeros, nothing, imag))
        sums = Complex(zeros * 0, zeros * 0).vector
        return whole.vector, Complex(real, imag).vector, zeros, sums, sums

    def pullback(self, values: Sequence[Node], outs: Sequence[Node], cotangents: Sequence[Node]) -> tuple[Node, ...]:
        f, rest, first, second = map(from_vector, (values[0], outs[1], *outs[3:]))
        g, g_rest, g_first, g_second = map(from_vector, (*cotangents[:2], *cotangents[3:]))
        zeros, zero = outs[2], apply("logical_and", apply("eq", f.real, 0), apply("eq", f.imag, 0))
        two = from_real(const(2))
        of_pairs = (first * first - second) / two
        last = of_pairs - f * (first - f)
        of_zeros = Complex(_by_number(zeros, 1, first.real, of_pairs.real), _by_number(zeros, 0, first.imag, of_pairs.imag))
        of_other_zeros = Complex(
            _by_number(zeros, 0, 1, first.real - f.real, last.real), _by_number(zeros, 0, 0, first.imag - f.imag, last.imag)
        )
        of_zero = g * (rest * of_other_zeros).conj + g_first + two * f.conj * g_second
        of_other = (g * of_zeros.conj + g_rest) * (rest / Complex(where(zero, 1, f.real), f.imag)).conj
        return (Complex(where(zero, of_zero.real, of_other.real), where(zero, of_zero.imag, of_other.imag)).vector,)

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        return (_parts(_complex(values[0]).prod(1)),)


@dataclass(frozen=True)
class ComplexLogSumExp(LogSumExp):
    """log Σ exp(F) of complex numbers, with an imaginary part in (-π, π]. F holds their real parts, then the imaginary ones."""

    def fields(self, dims: Sequence[int]) -> tuple[Field, ...]:
        return super().fields([d // 2 for d in dims])

    def _sums(self, dims: Sequence[int]) -> tuple[int, ...]:
        return dims[0], dims[0]

    def lift(self, values: Sequence[Node], index: Node) -> State:
        f = from_vector(values[0])
        return self._join(f.real, [self.accumulation.lift(apply(name, f.imag)) for name in ("cos", "sin")])

    def finish(self, state: State) -> tuple[Node, ...]:
        real, imag = map(self.accumulation.finish, self._split(state))
        return (Complex(_finite_or_zero(state[0]) + apply("log_hypot", real, imag), apply("atan2", imag, real)).vector,)

    def pullback(self, values: Sequence[Node], outs: Sequence[Node], cotangents: Sequence[Node]) -> tuple[Node, ...]:
        f, out, g = map(from_vector, (values[0], outs[0], cotangents[0]))
        return ((g * exp(f - out).conj).vector,)

    def numpy(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        f = _complex(values[0])
        top, _ = _stabilised(f.real)
        return (_parts(top + np.log(np.exp(f - top[:, None]).sum(1))),)


def _complex(values: np.ndarray) -> np.ndarray:
    real, imag = np.split(values, 2, axis=-1)
    return real + 1j * imag


def _parts(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values.real, values.imag], axis=-1)


REDUCTIONS: dict[str, type[Reduction]] = {
    r.name: r
    for r in (Sum, Prod, Min, Max, Argmin, Argmax, MinArgmin, MaxArgmax, Kmin, ArgKmin, KminArgKmin,
              LogSumExp, WeightedLogSumExp, SumSoftMaxWeight)
}  # fmt: skip
KMIN: dict[str, type[KminArgKmin]] = {r.name: r for r in (Kmin, ArgKmin, KminArgKmin)}
# What reductions are for complex numbers, where they have a meaning.
OF_COMPLEX: dict[type[Reduction], Callable[[Any], Reduction]] = {
    Sum: lambda r: r,
    Prod: lambda r: ComplexProd(),
    LogSumExp: lambda r: ComplexLogSumExp(r.accumulation),
}
