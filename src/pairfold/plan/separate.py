"""Factors of the row alone leave a sum: Σ r·f = r·Σ f, one product a row instead of one a pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce

from ..formula.graph import PAIR, I, J, Node, apply
from ..formula.operators import extract, spread_to

Term = tuple[Node, "Node | None"]  # what is summed, and what the sum is multiplied by
ONE = apply("spread", 1, attrs=(1,))
FACTORS_WORTH_PACKING = 4  # components


@dataclass
class Separated:
    """Sums, and the formula's sum as a formula of those."""

    sums: list[Node] = field(default_factory=list)
    result: Callable[[Node], Node] = lambda total: total

    @property
    def formula(self) -> Node:
        """The sums, one after the other."""
        return self.sums[0] if len(self.sums) == 1 else apply("concat", *self.sums)

    def place(self, total: Node, sum: Node) -> Node:
        """Where one of the sums is in the vector of all."""
        before = self.sums[: self.sums.index(sum)]
        return extract(total, sum_of_dims(before), sum.dim)


def sum_of_dims(nodes: list[Node]) -> int:
    return sum(n.dim for n in nodes)


def separate(formula: Node, differences: bool) -> Separated:
    """Part a formula that is summed over columns.

    With `differences`, (a - b)·f of a row's a and a column's b becomes a·Σ f - Σ b·f, which loses the digits that a and b share: they
    must be small for their differences.
    """
    made = Separated()

    def build(part: Node) -> Callable[[Node], Node]:
        if part.op.name == "concat":
            parts = [build(p) for p in part.args]
            return lambda total: apply("concat", *(p(total) for p in parts))
        terms = _terms(part, differences)
        # Where the sum would be one of the columns alone, infinities of the row would meet other signs than they do pair by pair.
        if not all(core.axes == PAIR for core, _ in terms):
            terms = [(part, None)]
        made.sums += [core for core, _ in dict(terms).items() if core not in made.sums]

        def result(total: Node) -> Node:
            found: Node | None = None
            for core, factor in terms:
                value = made.place(total, core)
                value = spread_to(value if factor is None else value * factor, part.dim)
                found = value if found is None else found + value
            assert found is not None
            return found

        return result

    made.result = build(formula)
    return made


def _terms(formula: Node, differences: bool) -> list[Term]:
    """The formula as a sum of products of what is summed and what is not."""
    name, args = formula.op.name, formula.args
    if not formula.axes & J:
        return [(ONE, formula)]
    if name == "neg":
        return [(core, _negative(factor)) for core, factor in _terms(args[0], differences)]
    if name == "div" and not args[1].axes & J:
        return [(core, (ONE if factor is None else factor) / args[1]) for core, factor in _terms(args[0], differences)]
    if name == "mul":
        left, right = (_terms(a, differences) for a in args)
        if len(left) == 1 or len(right) == 1:
            return [(_core(a, b), _product(f, g)) for a, f in left for b, g in right]
    if name == "spread" and args[0].dim == 1:
        return _terms(args[0], differences)
    if name in ("add", "sub") and differences and {a.axes for a in args} == {I, J}:
        first, second = (_terms(a, differences) for a in args)
        return first + ([(core, _negative(factor)) for core, factor in second] if name == "sub" else second)
    return [(formula, None)]


def _core(a: Node, b: Node) -> Node:
    """The product, with factors of the column multiplied first, in pack, where that takes no more than a 16-byte load."""
    if a is ONE or b is ONE:
        return b if a is ONE else a
    factors = [*_factors(a), *_factors(b)]
    columns = [f for f in factors if f.axes == J]
    if len(columns) > 1 and len(columns) < len(factors) and max(f.dim for f in columns) <= FACTORS_WORTH_PACKING:
        pairs = [f for f in factors if f.axes != J]
        return _product_of(pairs) * _product_of(columns)
    return a * b


def _factors(formula: Node) -> list[Node]:
    return [f for a in formula.args for f in _factors(a)] if formula.op.name == "mul" else [formula]


def _product_of(factors: list[Node]) -> Node:
    return reduce(lambda a, b: a * b, factors)


def _negative(factor: Node | None) -> Node:
    return apply("neg", 1) if factor is None else -factor


def _product(a: Node | None, b: Node | None) -> Node | None:
    return b if a is None else a if b is None else a * b


def components(formula: Node, start: int, length: int) -> Node:
    """Some components of a formula, computed without the others."""
    if formula.dim == 1 or length == formula.dim:
        return formula
    if formula.op.structure == "elementwise":
        return apply(formula.op.name, *(components(a, start, length) for a in formula.args), attrs=formula.attrs)
    if formula.op.name == "concat":
        parts = []
        for part in formula.args:
            first, last = max(start, 0), min(start + length, part.dim)
            if first < last:
                parts.append(components(part, first, last - first))
            start -= part.dim
        return apply("concat", *parts) if len(parts) > 1 else parts[0]
    if formula.op.name == "spread" and formula.args[0].dim == 1:
        return spread_to(formula.args[0], length)
    return extract(formula, start, length)
