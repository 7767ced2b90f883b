"""What a record of the operator table holds, the table itself, and the leaves of formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .graph import Node, Operand

Dims = Callable[[Sequence[int], tuple[Any, ...]], "int | str"]
Show = Callable[[tuple[str, ...], tuple[Any, ...]], str]


@dataclass(frozen=True, eq=False)
class Operator:
    """What an operator is called, means, differentiates to, and how it is emitted.

    Attributes
    ----------
    name : str
        The key in `OPERATORS`.
    structure : str
        How a component of the result follows from the operands: ``"leaf"``; ``"elementwise"``, component by component,
        operands of dimension 1 broadcast; ``"reduce"``, one number from all components of the operand; ``"index"``,
        components moved, none computed; ``"number"``, from its own number alone; ``"lookup"``, a row of
        the first operand by the number that the second is; ``"einsum"``, sums of products of components of
        two operands; ``"derived"``, by `definition`.
    dims : callable
        From the operands' dimensions and the attributes, the result's; a string says why there is none.
    show : callable
        From the operands' texts and the attributes, the text.
    numpy : callable
        The meaning on float64 arrays whose last axis is the inner one: ``numpy(*operands, *attrs)``.
    emit : callable, optional
        ``emit(m, *components, *attrs)``: one component on the lanes `m`. For ``"reduce"``: ``emit(m, a, b)`` joins two. For
        ``"number"``: ``emit(m, number)``.
    partials : callable, optional
        ``partials(node)``: for each operand the derivative of a component of the node with respect to the matching
        component of the operand, as a formula; None where it is zero. For ``"elementwise"`` and ``"reduce"``.
    transpose : callable, optional
        ``transpose(node, g)``: for each operand, the transposed linear map applied to g. For ``"index"``, ``"lookup"`` and ``"einsum"``;
        None for an operand that it is not linear in.
    definition : callable, optional
        ``definition(*operands, *attrs)``: the formula that a derived operator stands for.
    identity : float
        For ``"reduce"``: the neutral element.
    kind : str
        ``"real"`` or ``"index"``; empty where it is the last operand's.
    cost : int
        Vector instructions a component takes, roughly: for estimates of time.
    sign : callable
        From the operands' signs the result's: 1 where it is known to be ≥ 0, -1 where ≤ 0, 0 where neither.
    typed : tuple of int, optional
        The operands whose type the result has if they are integers, where it is not all: those of conditions and indices do not matter.
    doc : str
        One line for the tables in the documentation; empty for those that only planners make.
    keops : str
        KeOps's spelling in formula strings, where it has one.
    internal : bool
        Whether it takes or gives numbers of a kind that users' formulas do not have.
    twin : callable, optional
        ``twin(node)``: another node, which costs little where this one is computed.
    joint : callable, optional
        ``joint(m, *components, *attrs)``: a component of the node and one of its twin, at once.
    arity : int
        How many operands it takes; 0 where any number.
    attributes : mapping of str to type
        The names and types of its static parameters, in the order in which they are written behind the operands.
    """

    name: str
    structure: str
    dims: Dims
    show: Show
    numpy: Callable[..., Any]
    emit: Callable[..., Any] | None = None
    partials: Callable[[Node], tuple[Operand | None, ...]] | None = None
    transpose: Callable[[Node, Node], tuple[Node | None, ...]] | None = None
    definition: Callable[..., Node] | None = None
    identity: float = 0.0
    kind: str = ""
    cost: int = 1
    sign: Callable[..., int] = lambda *signs: 0
    typed: tuple[int, ...] | None = None
    doc: str = ""
    keops: str = ""
    internal: bool = False
    twin: Callable[[Node], Node] | None = None
    joint: Callable[..., tuple[Any, Any]] | None = None
    arity: int = 1
    attributes: Mapping[str, type] = field(default_factory=dict)

    def __repr__(self) -> str:
        return self.name


class Bracketed(str):
    """A text in brackets, which may be left off where others stand around it."""

    def bare(self) -> str:
        return self[1:-1]


def bare(text: str) -> str:
    """Without brackets around the whole."""
    return text.bare() if isinstance(text, Bracketed) else text


def _number(args: tuple[str, ...], attrs: tuple[Any, ...]) -> str:
    text = f"{float.fromhex(attrs[0]):g}"
    return Bracketed(f"({text})") if text.startswith("-") else text


def _variable(args: tuple[str, ...], attrs: tuple[Any, ...]) -> str:
    return {"i": "x", "j": "y", "p": "p"}[attrs[0]] + str(attrs[1])


def _of_a_lane(args: tuple[str, ...], attrs: tuple[Any, ...]) -> str:
    return f"{bare(args[0])} of {attrs[0]} lanes"


def _no_value(*arguments: Any) -> Any:
    raise TypeError("a leaf has no value of its own")


VAR = Operator("var", "leaf", lambda dims, attrs: attrs[2], _variable, _no_value)
CONST = Operator("const", "leaf", lambda dims, attrs: 1, _number, _no_value)
# Where the code generator reads a value from: attrs are (buffer, offset, dim, column, kind). Only `plan` makes these.
SLOT = Operator("slot", "leaf", lambda dims, attrs: attrs[2], lambda args, attrs: f"{attrs[0]}[{attrs[1]}]", _no_value)

# What one of `lanes` neighbouring lanes has of a vector that they share, a unit of components in turn, and the numbers of all of them
# joined by an operator that reduces. Only `plan` makes these: see `plan.slices`.
SLICE = Operator("slice", "index", lambda dims, attrs: -(-dims[0] // (attrs[0] * attrs[1])) * attrs[1], _of_a_lane, _no_value,
                 internal=True, attributes={"lanes": int, "unit": int})  # fmt: skip
ACROSS = Operator("across", "elementwise", lambda dims, attrs: dims[0], _of_a_lane, _no_value,
                  lambda m, a, lanes, joined: m.across(a, lanes, OPERATORS[joined].emit),
                  cost=2, internal=True, attributes={"lanes": int, "joined": str})  # fmt: skip

# All operators by name; `operators` adds the others.
OPERATORS: dict[str, Operator] = {op.name: op for op in (VAR, CONST, SLOT, SLICE, ACROSS)}
