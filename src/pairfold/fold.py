"""A fold: formulas, a reduction and the axis it runs along, as a value; and the folds that are its derivative."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .codegen.storage import BYTES
from .formula.differentiate import vjp
from .formula.graph import Node, apply, rewrite, slot, substitute, to_string, value_of, var, variables
from .formula.operators import spread, where
from .formula.reference import evaluate
from .formula.simplify import expand, simplify
from .plan.contract import LARGEST_EXPONENT, Contraction, contraction
from .plan.plan import Numbers
from .plan.separate import components
from .reductions import Masked, Max, Reduction, Selection, Sum
from .runtime import cpu
from .runtime.operand import AT_THE_START, Extent, Operand, address_of, operand_of
from .runtime.pattern import Pattern

if TYPE_CHECKING:
    from .runtime.cuda import Call, Queue

AXIS_OF = {0: "i", 1: "j"}

# Below this, measuring the data takes longer than it saves.
PAIRS_WORTH_CONTRACTING = 1 << 24
ROWS_WORTH_CONTRACTING = 256
COLUMNS_FOR_CENTRE = 1024
PAIRS_WORTH_MEASURING = 1 << 32  # on a GPU
LONGEST_SUM = 72  # 32-bit numbers of a row that stay in registers on a GPU
FAR = 16.0  # times the mean squared distance from the centre


@lru_cache(maxsize=4096)
def flip(formulas: tuple[Node, ...]) -> tuple[Node, ...]:
    """The formulas with rows and columns exchanged: those of the transposed matrix."""
    other = {"i": "j", "j": "i", "p": "p"}

    def exchange(node: Node) -> Node | None:
        return var(other[node.attrs[0]], *node.attrs[1:]) if node.op.name == "var" else None

    return tuple(rewrite(formulas, exchange))


@lru_cache(maxsize=4096)
def renumber(formulas: tuple[Node, ...], numbers: tuple[int, ...]) -> tuple[Node, ...]:
    """The formulas with variable k renamed to ``numbers[k]``."""

    def rename(node: Node) -> Node | None:
        if node.op.name != "var":
            return None
        axis, index, *rest = node.attrs
        return var(axis, numbers[index], *rest)

    return tuple(rewrite(formulas, rename))


class Route(NamedTuple):
    """What is computed for given data.

    Attributes
    ----------
    formulas : tuple of Node
        As kernels take them: rows kept, columns reduced.
    operands : sequence of Operand
        For their variables.
    reduction : Reduction
        Of those formulas.
    exponent : float or None
        Where exponents could be taken by inner products, the largest that these data allow for: see `plan.contract`.
    centre : ndarray or None
        Where inner products are taken, the points from which: the last operand, if it is one, kept alive here.
    """

    formulas: tuple[Node, ...]
    operands: Sequence[Operand]
    reduction: Reduction
    exponent: float | None = None
    centre: np.ndarray | None = None

    @property
    def contracted(self) -> bool:
        """Whether inner products of small vectors take the place of differences."""
        return self.centre is not None

    def numbers(self, bits: int, result: str) -> Numbers:
        """The types of a kernel with arithmetic of that many bits and such a result."""
        return Numbers(bits, tuple(o.type for o in self.operands), result)


@dataclass(frozen=True)
class Fold:
    """Reduce formulas along an axis. Folds are values: equal when built alike; make them with `make_fold`.

    Attributes
    ----------
    formulas : tuple of Node
        Over variables numbered from 0 without a gap.
    reduction : Reduction
    axis : int
        The axis that is reduced: 0 for i, 1 for j.
    """

    formulas: tuple[Node, ...]
    reduction: Reduction
    axis: int

    def __str__(self) -> str:
        return f"{self.reduction.name}({', '.join(map(to_string, self.formulas))}, axis={self.axis})"

    @cached_property
    def calls(self) -> dict[Hashable, tuple[Call, Any]]:
        """Those of `call_on_gpu` and what a framework needs to know of the outputs, by what it knows its arrays by."""
        return {}

    @cached_property
    def variables(self) -> tuple[Node, ...]:
        return variables(self.formulas)

    @cached_property
    def dims(self) -> tuple[int, ...]:
        return tuple(f.dim for f in self.formulas)

    @cached_property
    def results(self) -> tuple[Node, ...]:
        """The results as formulas of the partial: their kinds and dimensions."""
        fields = self.reduction.fields(self.dims)
        state = tuple(slot("state", 0, f.dim, k, kind=f.kind) for k, f in enumerate(fields))
        return self.reduction.finish(state)

    @cached_property
    def oriented(self) -> tuple[Node, ...]:
        """The formulas as kernels take them: rows kept, columns reduced; a fold along i is one of the transposed matrix."""
        return self.formulas if self.axis == 1 else flip(self.formulas)

    def run(
        self,
        operands: Sequence[Operand],
        outputs: Sequence[int],
        extent: Extent,
        bits: int,
        result: str,
        queue: Queue | None = None,
        pattern: Pattern | None = None,
    ) -> None:
        """Compute, over at least one batch, row and column, by arithmetic of that many bits, the pairs of a pattern or all.

        On a GPU, where there is a queue.

        Outputs are C-contiguous (batches, kept, dim), real ones of the type `result`.
        """
        if queue:
            self._run_on_gpu(operands, outputs, extent, bits, result, queue, pattern)
            return
        route = self.route(operands, extent, bits)
        few = cpu.few_rows(route.formulas, route.operands, extent, bits, pattern)
        numbers = route.numbers(bits, result)
        kernel = cpu.kernel(route.formulas, route.reduction, numbers, pattern is not None, route.contracted, few)
        kernel(route.operands, outputs, extent, pattern)
        del route  # it keeps the centre, which the kernel knows by address alone

    def _run_on_gpu(
        self,
        operands: Sequence[Operand],
        outputs: Sequence[int],
        extent: Extent,
        bits: int,
        result: str,
        queue: Queue,
        pattern: Pattern | None,
    ) -> None:
        """As `route`, but nothing waits for the data: the GPU itself decides between differences and inner products.

        Both kernels are launched, under opposite conditions; they read the centre and the largest norms from where small folds put them.
        """
        from .runtime import cuda  # here, since most programs do without

        def compute(
            formulas: tuple[Node, ...],
            operands: Sequence[Operand],
            condition: Node | None = None,
            contracted: bool = False,
            reduction: Reduction = self.reduction,
        ) -> None:
            numbers = Numbers(bits, tuple(o.type for o in operands), result)
            sparse = pattern is not None
            if self._in_one(bits):
                made = cuda.kernel(formulas, reduction, numbers, queue.device, condition, contracted, sparse=sparse)
                made(operands, outputs, extent, queue, pattern)
                return
            # More components than registers hold: some at a time, each part with the pairs anew.
            (dim,) = (f.dim for f in formulas)
            a_part = -(-dim // -(-dim * bits // (32 * LONGEST_SUM)))
            for start in range(0, dim, a_part):
                part = (simplify((components(expand(formulas)[0], start, min(a_part, dim - start)),))[0],)
                made = cuda.kernel(part, self.reduction, numbers, queue.device, condition, contracted, dim, sparse)
                made(operands, [outputs[0] + start * BYTES[result]], extent, queue, pattern)

        found = self._contraction_on_gpu(extent, bits, pattern)
        if isinstance(found, str):
            compute(self.oriented, operands)
            return
        type, bytes = f"float{bits}", bits // 8
        dim = found.rows.dim
        keep, start = queue.allocate((dim + 2) * bytes)
        places = [start, start + dim * bytes, start + (dim + 1) * bytes]
        measured = [*operands, *(Operand(p, 0, bytes, AT_THE_START, type) for p in places)]

        def measure(formula: Node, reduction: Reduction, reduced: int, place: int) -> None:
            fold, used = make_fold((formula,), reduction, 1)
            fold.run([measured[k] for k in used], [place], Extent((), 1, reduced), bits, type, queue)

        measure(found.columns * (1 / COLUMNS_FOR_CENTRE), Sum(), COLUMNS_FOR_CENTRE, places[0])
        if found.scale is None:
            compute(found.formulas, measured[: len(operands) + 1])
        else:
            measure(found.column_norm, Max(), extent.reduced, places[1])
            measure(flip((found.row_norm,))[0], Max(), extent.kept, places[2])
            n = len(operands)
            exponent = found.scale * (var("p", n + 1, 1) + var("p", n + 2, 1))
            small = apply("le", exponent, LARGEST_EXPONENT)
            compute(found.formulas, measured, small, True, found.reduction)
            compute(self.oriented, measured, apply("logical_not", small))
        del keep

    def call_on_gpu(
        self, operands: Sequence[Operand], extent: Extent, bits: int, result: str, queue: Queue, pattern: Pattern | None = None
    ) -> Call | None:
        """The one kernel's launches that `run` comes down to for operands such as these; None where there is more to it."""
        from .runtime import cuda

        if (
            extent.batches > cuda.LARGEST_GRID
            or not self._in_one(bits)
            or not isinstance(self._contraction_on_gpu(extent, bits, pattern), str)
        ):
            return None
        numbers = Numbers(bits, tuple(o.type for o in operands), result)
        made = cuda.kernel(self.oriented, self.reduction, numbers, queue.device, sparse=pattern is not None)
        return made.call(operands, extent, queue, pattern)

    def _in_one(self, bits: int) -> bool:
        """Whether a GPU's registers hold all components of a sum."""
        return not isinstance(self.reduction, Sum) or self.dims[0] * bits <= 32 * LONGEST_SUM

    def _contraction_on_gpu(self, extent: Extent, bits: int, pattern: Pattern | None = None) -> Contraction | str:
        """Inner products in place of a squared distance, where measuring the data pays."""
        pairs = extent.pairs if pattern is None else pattern.pairs
        if extent.batches == 1 and pairs >= PAIRS_WORTH_MEASURING and min(extent[1:]) >= COLUMNS_FOR_CENTRE:
            return contraction(self.oriented, self.reduction, bits, unrolled=True)
        return ""

    def route(self, operands: Sequence[Operand], extent: Extent, bits: int) -> Route:
        """What is computed for these data: inner products in place of a squared distance, where that saves time and loses nothing."""
        differences = Route(self.oriented, operands, self.reduction)
        if extent.kept * extent.reduced < PAIRS_WORTH_CONTRACTING or min(extent[1:]) < ROWS_WORTH_CONTRACTING:
            return differences
        contracted = contraction(self.oriented, self.reduction, bits)
        if not isinstance(contracted, Contraction):
            return differences
        centre, mean_square = _centre(contracted, operands, extent, bits)
        if contracted.scale is None and not _is_far(centre, mean_square):
            contracted = contraction(self.oriented, self.reduction, bits, centred=False)
            assert isinstance(contracted, Contraction)
        operands_and_centre = [*operands, operand_of(centre, False, (extent.batches,))]
        exponent = _largest_exponent(contracted, operands_and_centre, extent, bits)
        if not exponent <= LARGEST_EXPONENT:  # nan too
            return Route(self.oriented, operands, self.reduction, exponent)
        used = len(variables(contracted.formulas))
        return Route(contracted.formulas, operands_and_centre[:used], contracted.reduction, exponent, centre)

    def of_nothing(self) -> list[np.ndarray]:
        """What each result is where nothing was reduced, (dim,): the reduction's identity, and -1 for an index."""
        fields = self.reduction.fields(self.dims)
        empty = {slot("state", 0, f.dim, k, kind=f.kind): spread(f.identity, f.dim) for k, f in enumerate(fields)}
        values = [evaluate(r, []).reshape(r.dim) for r in simplify(expand(substitute(self.results, empty)))]
        return [np.full(r.dim, -1) if r.kind == "index" else v for r, v in zip(self.results, values, strict=True)]

    @cached_property
    def selection(self) -> tuple[Fold, Fold]:
        """Where the reduction selects pairs: the fold to their indices, and the formula at given pairs, a row for each pair."""
        assert isinstance(self.reduction, (Selection, Masked))
        kept = AXIS_OF[1 - self.axis]

        def pairwise(node: Node) -> Node | None:
            return var(kept, *node.attrs[1:]) if node.op.name == "var" and node.axes else None

        # Of a masked reduction pairs are selected where the condition holds: it stays, so that the operands are the same.
        *condition, formula = rewrite(self.formulas, pairwise)
        at_pairs = Fold((where(condition[0], formula, 0) if condition else formula,), Sum(), self.axis)
        return Fold(self.formulas, self.reduction.indices(), self.axis), at_pairs

    def backward(self, wanted: tuple[int, ...]) -> list[Pullback]:
        """The folds that compute the derivative with respect to the wanted variables, one for each axis: see `Pullback`."""
        return _backward(self, wanted)


def _measured(formula: Node, reduction: Reduction, axis: int, operands: Sequence[Operand], extent: Extent, bits: int) -> np.ndarray:
    """A formula of the rows or of the columns alone, reduced, (batches, kept, dim)."""
    fold, used = make_fold((formula,), reduction, axis)
    values = np.empty((extent.batches, extent.kept, formula.dim), dtype=f"f{bits // 8}")
    fold.run([operands[k] for k in used], [address_of(values)], extent, bits, f"float{bits}")
    return values


def _centre(contracted: Contraction, operands: Sequence[Operand], extent: Extent, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """A point among each batch's columns, (batches, dim), and the mean of their squared norms, (batches,).

    Any point is right; a central one leaves the norms small, and the mean of some columns is central enough.
    """
    count = min(extent.reduced, COLUMNS_FOR_CENTRE)
    sums = _measured(contracted.sample, Sum(), 1, operands, Extent(extent.batch, 1, count), bits)
    sums /= count
    return sums[:, 0, :-1], sums[:, 0, -1]


def _is_far(centre: np.ndarray, mean_square: np.ndarray) -> bool:
    """Whether the columns of some batch lie far from the origin for their spread."""
    square = np.square(centre, dtype=float).sum(1)
    return not (square <= FAR * (mean_square - square)).all()  # nan too


def _largest_exponent(contracted: Contraction, operands: Sequence[Operand], extent: Extent, bits: int) -> float:
    """What the norms of these data let an exponent's terms reach: the rounding of the inner products is in proportion."""
    if contracted.scale is None:
        return 0.0
    of_rows = _measured(contracted.row_norm, Sum(), 1, operands, Extent(extent.batch, extent.kept, 1), bits)
    of_columns = _measured(contracted.column_norm, Sum(), 0, operands, Extent(extent.batch, extent.reduced, 1), bits)
    if extent.batches == 1:
        norms = of_rows.max() + of_columns.max()
    else:
        norms = (of_rows.max((1, 2)) + of_columns.max((1, 2)))[:, None, None]
    scale: float | np.ndarray | None = value_of(contracted.scale)
    if scale is None:
        scale = _measured(contracted.scale, Sum(), 1, operands, Extent(extent.batch, 1, 1), bits)
    return float((scale * norms).max())  # nan where something is


@dataclass(frozen=True)
class Pullback:
    """One fold of a derivative, for all wanted variables that share an axis: one kernel, one pass over the pairs.

    Attributes
    ----------
    fold : Fold
    inputs : tuple of int
        Its operands: below n the fold's own variables, then its real results, then their cotangents.
    targets : tuple of (int, int, int)
        For each wanted variable its number and the range of columns of the fold's result that is its gradient, to be summed
        over the rows where the variable is a parameter.
    """

    fold: Fold
    inputs: tuple[int, ...]
    targets: tuple[tuple[int, int, int], ...]


@lru_cache(maxsize=4096)
def make_fold(formulas: tuple[Node, ...], reduction: Reduction, axis: int) -> tuple[Fold, tuple[int, ...]]:
    """A fold of simplified formulas, and which of their variables are its operands.

    Operators stay as the user wrote them where the planner does not mind, so that a fold prints as it was meant.
    """
    formulas = simplify(formulas)
    used = tuple(v.attrs[1] for v in variables(formulas))
    numbers = dict(zip(used, range(len(used)), strict=True))
    formulas = renumber(formulas, tuple(numbers.get(k, -1) for k in range(max(used, default=-1) + 1)))
    return Fold(formulas, reduction, axis), used


@lru_cache(maxsize=4096)
def _backward(fold: Fold, wanted: tuple[int, ...]) -> list[Pullback]:
    kept, n = AXIS_OF[1 - fold.axis], len(fold.variables)
    real = [r for r in fold.results if r.kind == "real"]
    outs = [var(kept, n + k, r.dim) for k, r in enumerate(real)]
    cotangents = [var(kept, n + len(real) + k, r.dim) for k, r in enumerate(real)]
    conditions, values = fold.formulas[: fold.reduction.conditions], expand(fold.formulas[fold.reduction.conditions :])
    pulled = fold.reduction.pullback(values, outs, cotangents)
    targets = [fold.variables[k] for k in wanted]
    gradients: dict[int, Node] = {}
    for value, cotangent in zip(values, pulled, strict=True):
        for k, gradient in zip(wanted, vjp(value, targets, cotangent), strict=True):
            if gradient is not None:
                gradients[k] = gradients[k] + gradient if k in gradients else gradient
    folds = []
    reduced = AXIS_OF[fold.axis]
    for axis, group in (
        (fold.axis, [k for k in gradients if fold.variables[k].attrs[0] != reduced]),
        (1 - fold.axis, [k for k in gradients if fold.variables[k].attrs[0] == reduced]),
    ):
        if not group:
            continue
        parts = [gradients[k] for k in group]
        formula = apply("concat", *parts) if len(parts) > 1 else parts[0]
        made, inputs = make_fold((*conditions, formula), fold.reduction.of_gradients(), axis)
        ends = np.cumsum([p.dim for p in parts]).tolist()
        folds.append(Pullback(made, inputs, tuple(zip(group, [0, *ends[:-1]], ends, strict=True))))
    return folds
