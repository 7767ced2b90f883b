"""Factors that leave the inner loop: log2(e), where a target has 2^x as an instruction, and those of inner products."""

from __future__ import annotations

import math
from functools import lru_cache

from ..formula.graph import PAIR, I, Node, apply, const, rewrite
from ..formula.simplify import simplify

EXPONENTIALS = ("exp", "exp_of_rounded", "exp_or_zero")
OF_REDUCTIONS = ("exp_or_zero",)
LOG2E = const(1 / math.log(2))


@lru_cache(maxsize=4096)
def to_base_two(formulas: tuple[Node, ...], packed: bool = False, names: tuple[str, ...] = EXPONENTIALS) -> tuple[Node, ...]:
    """The formulas with e^a as 2^(a·log2(e)), the factor multiplied into what is cheapest, where e^a is an operator of those names.

    Of formulas over what is `packed` already, that is nothing but the state.
    """

    def change(node: Node) -> Node | None:
        if node.op.name not in names:
            return None
        (a,) = node.args
        if not packed:
            return apply("exp2", times(a, LOG2E))
        power = "exp2_or_zero" if node.op.name == "exp_or_zero" else "exp2"
        if a.op.name == "sub" and a.args[0].axes == PAIR and a.args[1].op.name == "slot":
            # One instruction. Two numbers of the state must not be parted so: where they are equal the difference must be 0.
            return apply(power, a.args[0] * LOG2E - a.args[1] * LOG2E)
        return apply(power, a * LOG2E)

    return simplify(rewrite(formulas, change))


@lru_cache(maxsize=4096)
def push_factors(formulas: tuple[Node, ...]) -> tuple[Node, ...]:
    """The formulas with what multiplies inner products multiplied into one side of them, before they are packed."""

    def change(node: Node) -> Node | None:
        if node.op.name == "neg" and absorbs(node.args[0]):
            return times(node.args[0], const(-1))
        if node.op.name == "mul":
            for a, b in (node.args, node.args[::-1]):
                if b.axes == 0 and b.dim == 1 and absorbs(a):
                    return times(a, b)
        return None

    return simplify(rewrite(formulas, change))


def absorbs(formula: Node) -> bool:
    """Whether the formula is a sum of products of row and column, so that a factor costs nothing a pair."""
    if formula.axes != PAIR:
        return formula.op.name != "const"
    if formula.op.name in ("sum", "neg", "concat", "add", "sub", "spread"):
        return all(map(absorbs, formula.args)) and any(a.axes == PAIR for a in formula.args) or _is_sum_of_norms(formula)
    return formula.op.name == "mul" and all(a.axes != PAIR for a in formula.args)


def _is_sum_of_norms(formula: Node) -> bool:
    """Whether nothing is lost where both terms are scaled first; of a difference that would be its digits."""
    same_sign = formula.op.name == "add" or formula.op.name == "sub" and formula.args[0].op.name == "neg"
    return same_sign and all(map(_is_norm, formula.args))


def _is_norm(formula: Node) -> bool:
    while formula.op.name in ("mul", "div", "neg"):  # scaled before
        formula = next((a for a in formula.args if a.axes), formula.args[0])
    return formula.op.name == "sum" and formula.args[0].op.name == "square"


def times(formula: Node, factor: Node) -> Node:
    """The formula times a parameter, multiplied into what does not depend on both row and column, if there is such a factor."""
    name, args = formula.op.name, formula.args
    if formula.axes != PAIR:
        return formula * factor
    if name == "neg":
        return times(args[0], -factor)
    if name in ("mul", "div"):
        a, b = args
        if b.axes == 0 and absorbs(a):
            return times(a, b * factor if name == "mul" else factor / b)
        if a.axes == I or a.axes != PAIR and b.axes == PAIR:  # of the two sides the row is packed less often
            return apply(name, a * factor, b)
        if b.axes != PAIR:
            return a * (b * factor if name == "mul" else factor / b)
    if absorbs(formula):
        return apply(name, *(times(a, factor) for a in args), attrs=formula.attrs)
    if name in ("add", "sub") and sorted(a.axes == PAIR for a in args) == [False, True]:
        return apply(name, *(times(a, factor) for a in args))
    return formula * factor
