"""Hoisting: what depends on the row alone, on the column alone or on neither leaves the inner loop.

Such subformulas are computed once a row in *pack* and become slots of a packed buffer: ``"row"``, ``"col"``, ``"par"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..formula.graph import PAIR, I, J, Node, apply, rewrite, slot, substitute, value_of, variables

BUFFERS = {I: "row", J: "col", 0: "par"}
TOGETHER = 4  # parameters that a GPU loads at once, from a multiple of as many on
HALVES = tuple(2.0**-k for k in range(1, 5))  # by which nothing overflows, and hardly anything becomes subnormal


@dataclass
class Buffer:
    """A packed buffer: the formulas it holds, one after the other, and its length in numbers a row."""

    name: str
    axes: int
    formulas: list[Node] = field(default_factory=list)
    slots: list[Node] = field(default_factory=list)
    length: int = 0

    def place(self, formula: Node) -> Node:
        """The slot of a formula, made when new."""
        if formula in self.formulas:
            return self.slots[self.formulas.index(formula)]
        if self.name == "par" and formula.dim >= TOGETHER:
            self.length += -self.length % TOGETHER
        return self.reserve(formula, formula.dim, formula.dim)

    def reserve(self, formula: Node, dim: int, room: int) -> Node:
        """A new slot of `dim` numbers, with room for more."""
        made = slot(self.name, self.length, dim, axes=self.axes)
        self.formulas.append(formula)
        self.slots.append(made)
        self.length += room
        return made


@dataclass(frozen=True)
class Hoisted:
    """Formulas over slots alone, and the buffers that those slots read."""

    body: tuple[Node, ...]
    row: Buffer
    col: Buffer
    par: Buffer

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """In the order in which they are packed: rows and columns may read parameters."""
        return self.par, self.row, self.col


def _multiply_by_inverses(formula: Node) -> Node | None:
    """a / b, where b leaves the loop and a does not: a · (1/b), one division a row instead of one a pair."""
    if formula.op.name == "div":
        a, b = formula.args
        if a.axes | b.axes == PAIR and b.axes != PAIR and b.op.name != "const":
            return a * apply("div", 1, b)
    return None


def _halve_outside(formula: Node) -> Node | None:
    """a · (b/2), where a leaves the loop and b does not: (a/2) · b, which is the same number unless a/2 is subnormal; so with a few smaller
    powers of 2.
    """
    if formula.op.name == "mul":
        for a, other in (formula.args, formula.args[::-1]):
            b, part = _halved(other)
            if part in HALVES and a.axes != PAIR and b.axes == PAIR and b.dim == formula.dim:
                return (a * part) * b
    return None


def _halved(formula: Node) -> tuple[Node, float]:
    """b and 1/2 for b/2, b · 0.5 and 0.5 · b; so for other numbers, and 1 where there is none."""
    if formula.op.name in ("mul", "div"):
        a, b = formula.args
        number = value_of(b)
        if number:
            return a, number if formula.op.name == "mul" else 1 / number
        if formula.op.name == "mul" and (number := value_of(a)):
            return b, number
    return formula, 1.0


def _worth_storing(formula: Node) -> bool:
    """Whether the value is no longer than the variables it is made of: hoisting must keep memory linear."""
    return formula.op.name != "const" and formula.dim <= sum(v.dim for v in variables((formula,)))


def hoist(formulas: Sequence[Node]) -> Hoisted:
    """Split formulas over variables into packed buffers and what remains for each pair."""
    formulas = rewrite(rewrite(formulas, _multiply_by_inverses), _halve_outside)
    buffers = {axes: Buffer(name, axes) for axes, name in BUFFERS.items()}
    replaced: dict[Node, Node] = {}
    # Outermost first: a formula is placed whole, and what is below it is not looked at again.
    pending = list(dict.fromkeys(formulas))
    seen: set[Node] = set()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.axes in buffers and _worth_storing(node):
            replaced[node] = buffers[node.axes].place(node)
        else:
            pending.extend(node.args)
    body = substitute(formulas, replaced)
    # What is packed a row may itself use what depends on nothing.
    for axes in (I, J):
        packed = buffers[axes]
        inner = {n: buffers[0].place(n) for n in _outermost(packed.formulas) if n not in packed.formulas}
        packed.formulas = substitute(packed.formulas, inner)
    return Hoisted(tuple(body), buffers[I], buffers[J], buffers[0])


def _outermost(roots: Sequence[Node]) -> list[Node]:
    """The largest subformulas that depend on nothing and are worth storing."""
    found: list[Node] = []
    pending, seen = list(roots), set()
    while pending:
        node = pending.pop()
        if node not in seen:
            seen.add(node)
            if node.axes == 0 and _worth_storing(node):
                found.append(node)
            else:
                pending.extend(node.args)
    return found
