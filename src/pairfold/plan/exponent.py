"""Exponents to base 2: where a target has 2^x as an instruction, log2(e) becomes part of a factor that leaves the inner loop."""

from __future__ import annotations

import math
from functools import lru_cache

from ..formula.graph import I, J, Node, apply, rewrite, value_of
from ..formula.simplify import simplify

EXPONENTIALS = ("exp", "exp_nonpositive", "exp_or_zero")


@lru_cache(maxsize=4096)
def to_base_two(formulas: tuple[Node, ...]) -> tuple[Node, ...]:
    """The formulas with e^a as 2^(a·log2(e)), the factor multiplied into what is cheapest."""

    def change(node: Node) -> Node | None:
        return apply("exp2", _times(node.args[0], 1 / math.log(2))) if node.op.name in EXPONENTIALS else None

    return simplify(rewrite(formulas, change))


def _times(formula: Node, factor: float) -> Node:
    """The formula times a number, multiplied into a factor that does not depend on both row and column, if there is one."""
    name, args = formula.op.name, formula.args
    if formula.axes != I | J or name == "const":
        return formula * factor
    if name == "neg":
        return _times(args[0], -factor)
    if name in ("mul", "div"):
        a, b = args
        if b.axes != I | J and (value_of(b) is None or name == "mul"):
            return a * (b * factor) if name == "mul" else a * (factor / b)
        if a.axes != I | J:
            return (a * factor) * b if name == "mul" else (a * factor) / b
    if name in ("add", "sub") and any(a.axes != I | J for a in args):
        a, b = (_times(a, factor) for a in args)
        return a + b if name == "add" else a - b
    return formula * factor
