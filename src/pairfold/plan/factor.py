"""Factors of the row alone leave a sum: Σ r·f(j) = r·Σ f(j), one product a row instead of one a pair."""

from __future__ import annotations

from ..formula.graph import J, Node, apply
from ..formula.operators import spread_to

Split = tuple[Node, "Node | None"]


def split_factor(formula: Node) -> Split:
    """What remains of a formula in the sum, and its factor that does not depend on the column, None where there is none."""
    name, args = formula.op.name, formula.args
    if not formula.axes & J:
        return formula, None
    if name == "neg":
        core, factor = split_factor(args[0])
        return core, -factor if factor is not None else apply("neg", 1)
    if name in ("mul", "div"):
        a, b = args
        if not b.axes & J:
            core, factor = split_factor(a)
            return _shaped(core, formula), apply(name, 1 if factor is None else factor, b)
        if name == "mul" and not a.axes & J:
            core, factor = split_factor(b)
            return _shaped(core, formula), a if factor is None else a * factor
        if name == "mul":
            (left, first), (right, second) = split_factor(a), split_factor(b)
            return left * right, _product(first, second)
    if name == "spread":
        core, factor = split_factor(args[0])
        return spread_to(core, formula.dim) if args[0].dim == 1 else formula, factor if args[0].dim == 1 else None
    if name == "concat":
        parts = [split_factor(a) for a in args]
        if any(factor is not None for _, factor in parts):
            factors = [spread_to(apply("spread", 1, attrs=(1,)) if f is None else f, core.dim) for core, f in parts]
            return apply("concat", *(core for core, _ in parts)), apply("concat", *factors)
    return formula, None


def _shaped(core: Node, formula: Node) -> Node:
    """The core with as many components as the formula has: a long factor was all that gave them."""
    return spread_to(core, formula.dim) if core.dim != formula.dim else core


def _product(a: Node | None, b: Node | None) -> Node | None:
    return b if a is None else a if b is None else a * b
