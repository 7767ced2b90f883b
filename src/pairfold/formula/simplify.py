"""Simplification: a flat list of rules, each an identity that holds for every input, nan and infinity included.

A pattern is an operator's name with its operands: a string matches any formula and names it (the same name twice must match
the same formula), a number matches that constant, a nested tuple matches a nested formula.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .graph import Node, apply, const, rewrite, topological, value_of

Pattern = Any
Bindings = dict[str, Node]

RULES: list[tuple[Pattern, Callable[..., Node]]] = [
    (("neg", ("neg", "a")), lambda a: a),  # -(-a) = a
    (("add", "a", ("neg", "b")), lambda a, b: a - b),  # a + (-b) = a - b
    (("add", ("neg", "a"), "b"), lambda a, b: b - a),  # -a + b = b - a
    (("sub", "a", ("neg", "b")), lambda a, b: a + b),  # a - (-b) = a + b
    (("neg", ("sub", "a", "b")), lambda a, b: b - a),  # -(a - b) = b - a, but for the sign of a zero
    (("mul", "a", 1), lambda a: a),  # a · 1 = a
    (("mul", 1, "a"), lambda a: a),
    (("div", "a", 1), lambda a: a),  # a / 1 = a
    (("mul", "a", -1), lambda a: -a),  # a · (-1) = -a
    (("mul", -1, "a"), lambda a: -a),
    (("mul", ("neg", "a"), ("neg", "b")), lambda a, b: a * b),  # (-a)(-b) = ab
    (("mul", "a", "a"), lambda a: apply("square", a)),  # a · a = a²
    (("square", ("neg", "a")), lambda a: apply("square", a)),  # (-a)² = a²
    (("square", ("sqrt", ("square", "a"))), lambda a: apply("square", a)),  # sqrt(a²)² = a²
    (("abs", ("neg", "a")), lambda a: apply("abs", a)),  # |-a| = |a|
    (("abs", ("square", "a")), lambda a: apply("square", a)),  # |a²| = a²
    (("mul", "a", ("div", 1, "b")), lambda a, b: a / b),  # a · (1/b) = a/b
    (("mul", ("div", 1, "a"), "b"), lambda a, b: b / a),
    (("where", "c", "a", "a"), lambda c, a: a),  # either way a
    (("where", ("where", "c", 1, 0), "a", "b"), lambda c, a, b: apply("where", c, a, b)),
]

_BY_OPERATOR: dict[str, list[tuple[Pattern, Callable[..., Node]]]] = defaultdict(list)
for _pattern, _result in RULES:
    _BY_OPERATOR[_pattern[0]].append((_pattern, _result))


def match(pattern: Pattern, node: Node, bindings: Bindings) -> bool:
    """Whether the node has the pattern's form; fills `bindings` on the way."""
    if isinstance(pattern, str):
        return bindings.setdefault(pattern, node) is node
    if isinstance(pattern, tuple):
        name, *operands = pattern
        return node.op.name == name and all(match(p, a, bindings) for p, a in zip(operands, node.args, strict=True))
    value: float | None = value_of(node)
    return value is not None and value == pattern


def _step(node: Node) -> Node | None:
    """One rule applied at the root, or None where none applies."""
    # Constants are real: one of another kind stays as it is made.
    if node.args and node.op.structure == "elementwise" and node.kind == "real" and all(a.op.name == "const" for a in node.args):
        with np.errstate(all="ignore"):
            return const(float(node.op.numpy(*(np.float64(value_of(a)) for a in node.args), *node.attrs)))
    if node.op.name == "sum" and node.args[0].dim == 1:
        return node.args[0]
    if node.op.name == "spread" and node.args[0].dim == node.dim:
        return node.args[0]
    for pattern, result in _BY_OPERATOR.get(node.op.name, ()):
        bindings: Bindings = {}
        if match(pattern, node, bindings):
            simpler = result(**bindings)
            # A rule may drop an operand that was only there to give the dimension.
            return simpler if simpler.dim == node.dim else apply("spread", simpler, attrs=(node.dim,))
    return None


def _simplest(node: Node) -> Node:
    while (simpler := _step(node)) is not None and simpler is not node:
        node = simpler
    return node


@lru_cache(maxsize=4096)
def _simplify(roots: tuple[Node, ...]) -> tuple[Node, ...]:
    return tuple(rewrite(roots, _simplest))


def simplify(roots: Sequence[Node]) -> tuple[Node, ...]:
    """The formulas, simplified by every rule until none applies, operands first."""
    return _simplify(tuple(roots))


def expand(roots: Sequence[Node]) -> tuple[Node, ...]:
    """The formulas with derived operators replaced by their definitions, which may be made of derived ones too."""

    def define(node: Node) -> Node | None:
        return node.op.definition(*node.args, *node.attrs) if node.op.definition else None

    formulas = tuple(roots)
    while any(n.op.definition for n in topological(formulas)):
        formulas = tuple(rewrite(formulas, define))
    return formulas


def specialise(roots: Sequence[Node], closely: bool = False) -> tuple[Node, ...]:
    """The formulas with operators replaced by cheaper ones, or by closer ones, where enough is known of their operands."""
    sign: dict[Node, int] = {}

    def change(node: Node) -> Node | None:
        value = value_of(node)
        if value is not None:
            sign[node] = (value > 0) - (value < 0)
            return node
        if node.op.name == "var":
            sign[node] = node.attrs[3]
            return node
        if node.op.name == "exp" and closely and sign[node.args[0]] < 0:
            node = apply("exp_closely", node.args[0], attrs=(int(_is_rounded(node.args[0])),))
        elif node.op.name == "exp" and _is_rounded(node.args[0]):
            node = apply("exp_of_rounded", node.args[0], attrs=(int(sign[node.args[0]] < 0),))
        sign[node] = node.op.sign(*(sign[a] for a in node.args))
        return node

    return tuple(rewrite(roots, change))


def _is_rounded(formula: Node) -> bool:
    """Whether the value carries the rounding of a product or of an inner sum; differences and absolute values may be exact."""
    name, args = formula.op.name, formula.args
    if name in ("neg", "add", "sub"):
        return any(map(_is_rounded, args))
    if name in ("mul", "div"):
        return all(a.op.name != "const" for a in args) or any(map(_is_rounded, args))
    return name in ("square", "sqrt") or name == "sum" and args[0].dim > 1
