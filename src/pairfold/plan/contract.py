"""Contraction: squared distances between long vectors as inner products, half the work, where that loses nothing.

|a - b|² = |a'|² + |b'|² - 2 a'·b', with a' = a - c and b' = b - c for a centre c. Rounding is then of the size of |a'|² + |b'|², not
of the distance, and so it is used in two places only:

- in the argument of an exponential, where the data's norms, measured at each call, bound that rounding by a few units in the last
  place of the result (`LARGEST_EXPONENT`); otherwise the differences are taken. In a sum the norms leave the exponential altogether:
  exp(-|a - b|²) = exp(-|a'|²) exp(-|b'|²) 2^(2 log2(e) a'·b'), two factors that are packed and a power of 2 known to be of middling size;
- as a lower bound, its error taken off, that rules out most pairs of an argKmin: those it does not rule out are computed by differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from ..formula.graph import I, J, Node, apply, substitute, topological, var, variables
from ..formula.simplify import expand, simplify, specialise
from ..reductions import KminArgKmin, LogOfSum, LogSumExp, Reduction, Sum
from .exponent import LOG2E, times

SHORTEST = 9  # components from which on it pays
SHORTEST_SUMMED = 2  # where the norms leave the exponential
SHORTEST_UNROLLED, SHORTEST_BOUND = 2, 6  # the same for a target that has all of them in registers
LARGEST_EXPONENT = 4.0  # of scale · (|a'|² + |b'|²)


@dataclass(frozen=True)
class Contraction:
    """Formulas over the variables of the original and one more, the centre c, the last parameter.

    Attributes
    ----------
    formulas : tuple of Node
        The formulas with inner products.
    rows, columns : Node
        a and b.
    row_norm, column_norm : Node
        |a'|² and |b'|².
    scale : Node or None
        What the squared distance is multiplied by in exponents, of neither row nor column: the formulas may be used where
        ``|scale| · (max row_norm + max column_norm)`` is at most `LARGEST_EXPONENT`. None where they may always be used.
    reduction : Reduction
        Of those formulas: where exponents are small, a logsumexp is the logarithm of a plain sum of exponentials.
    """

    formulas: tuple[Node, ...]
    rows: Node
    columns: Node
    row_norm: Node
    column_norm: Node
    scale: Node | None
    reduction: Reduction

    @cached_property
    def sample(self) -> Node:
        """The components of a column's b and its |b|²: their means over some columns tell where the columns are."""
        return apply("concat", self.columns, apply("sum", apply("square", self.columns)))


@lru_cache(maxsize=1024)
def contraction(
    formulas: tuple[Node, ...], reduction: Reduction, bits: int, centred: bool = True, unrolled: bool = False
) -> Contraction | str:
    """The formulas with inner products in place of their one squared distance; a string says why there are none, and is empty where there
    is no squared distance.

    With `unrolled`, for a target without vectors: also where they are short; norms and product are one sum, so that a product takes one
    instruction, and other differences of the two points are taken from the centre too.

    Without `centred`, c = 0: a bound then shares its packed vectors with the differences, half the memory to read.
    """
    formulas = specialise(simplify(expand(formulas)))
    order = topological(formulas)
    found = [n for n in order if _is_squared_distance(n)]
    may_be_sum = type(reduction) is LogSumExp and (unrolled or not reduction.careful)
    if unrolled:
        shortest = SHORTEST_BOUND if isinstance(reduction, KminArgKmin) else SHORTEST_UNROLLED
    else:
        shortest = SHORTEST_SUMMED if isinstance(reduction, Sum) or may_be_sum else SHORTEST
    long = [n for n in found if n.args[0].dim >= shortest]
    if not long:
        return f"of {found[0].args[0].dim} components, and inner products pay from {shortest} on" if found else ""
    if len(long) > 1:
        return f"there are {len(long)} of them"
    (distance,) = long
    a, b = distance.args[0].args[0].args
    if a.axes == J:
        a, b = b, a
    numbers = [v.attrs[1] for v in variables(formulas)]
    centre = var("p", max(numbers) + 1, a.dim)
    from_centre = (a - centre, b - centre) if centred else (a, b)
    row_norm, column_norm = (apply("sum", apply("square", v)) for v in from_centre)
    twice_product = 2 * apply("sum", from_centre[0] * from_centre[1])

    def one_sum(norms: Node) -> Node:
        return apply("sum", apply("concat", norms, (-2 * from_centre[0]) * from_centre[1]))

    if isinstance(reduction, KminArgKmin):
        if formulas[0] is not distance:
            return "inner products bound the distance, and it is not the distance that is compared"
        kept = 1 - (a.dim + 8) * 2.0 ** -(23 if bits == 32 else 52)
        bound = (row_norm * kept + column_norm * kept) - twice_product
        if unrolled:  # a sum that begins with the norms is rounded at their size in each term
            kept -= a.dim * 2.0 ** -(23 if bits == 32 else 52)
            bound = one_sum(row_norm * kept + column_norm * kept)
        return Contraction(simplify((distance, bound)), a, b, row_norm, column_norm, None, reduction)
    if isinstance(reduction, Sum) and reduction.careful and not unrolled:
        return "the sum is accumulated with care, and inner products would lose digits"
    exponents = _exponents(distance, order, formulas, reduction)
    if exponents is None:
        return "outside an exponential, inner products would lose digits"
    scale, alone = exponents.get(formulas[0], (None, False))
    if alone and may_be_sum:
        assert scale is not None and isinstance(reduction, LogSumExp)
        formulas, reduction = (apply("exp", formulas[0]),), LogOfSum(reduction.accumulation)
        exponents = {formulas[0]: (scale, True)}
    parted = isinstance(reduction, Sum) and not unrolled
    if not (parted or unrolled) and a.dim < SHORTEST:
        return f"of {a.dim} components, and inner products pay from {SHORTEST} on"
    differences = {n: apply("sub", *(v - centre for v in n.args)) for n in order if n.op.name == "sub" and set(n.args) == {a, b}}
    if unrolled:
        changes = {distance: one_sum(row_norm + column_norm), **differences}
    elif parted:
        changes = dict(differences)
        for exponential, (scale, alone) in exponents.items():
            (left,) = substitute(exponential.args, {distance: -twice_product})
            (left,) = simplify((left,))
            power = apply("exp2_middling", times(left, LOG2E)) if alone else apply("exp", left)
            changes[exponential] = power * (apply("exp", scale * row_norm) * apply("exp", scale * column_norm))
    else:
        changes = {distance: (row_norm + column_norm) - twice_product}
    scale = _largest([scale for scale, _ in exponents.values()])
    changed = simplify(substitute(formulas, changes))
    return Contraction(changed, a, b, row_norm, column_norm, simplify((scale,))[0], reduction)


def _is_squared_distance(node: Node) -> bool:
    """Whether the node is |a - b|² of a vector of the row and one of the column."""
    if node.op.name != "sum" or node.args[0].op.name != "square" or node.args[0].args[0].op.name != "sub":
        return False
    a, b = node.args[0].args[0].args
    return {a.axes, b.axes} == {I, J} and a.dim == b.dim


def _exponents(
    distance: Node, order: Sequence[Node], formulas: Sequence[Node], reduction: Reduction
) -> dict[Node, tuple[Node, bool]] | None:
    """The exponentials of the distance, if it occurs nowhere else, and there as a term: its factor, and whether it is the only term.

    A logsumexp is an exponential of its formula.
    """
    factor: dict[Node, Node] = {distance: apply("spread", 1, attrs=(1,))}
    alone = {distance: True}
    found: dict[Node, tuple[Node, bool]] = {}
    for node in order:
        carriers = [a for a in node.args if a in factor]
        if not carriers:
            continue
        (carrier, *more) = carriers
        if node.op.name in ("exp", "exp_of_rounded"):
            found[node] = factor[carrier], alone[carrier]
            continue
        others = [a for a in node.args if a not in factor]
        alone[node] = alone[carrier] and node.op.name not in ("add", "sub")
        if node.op.name in ("neg", "add", "sub") and not more:
            negative = node.op.name == "neg" or node.op.name == "sub" and carrier is node.args[1]
            factor[node] = -factor[carrier] if negative else factor[carrier]
        elif node.op.name == "mul" and len(others) == 1 and others[0].axes == 0:
            factor[node] = factor[carrier] * others[0]
        elif node.op.name == "div" and node.args[0] in factor and others and others[0].axes == 0:
            factor[node] = factor[carrier] / others[0]
        else:
            return None
    for k, formula in enumerate(formulas):
        if formula in factor:
            if k > 0 or not isinstance(reduction, LogSumExp):
                return None
            found[formula] = factor[formula], alone[formula]
    return found or None


def _largest(scales: Sequence[Node]) -> Node:
    """The largest of some factors' components, in absolute value."""
    largest = apply("abs", scales[0])
    for scale in scales[1:]:
        largest = apply("maximum", largest, apply("abs", scale))
    return largest if largest.dim == 1 else apply("max", largest)
