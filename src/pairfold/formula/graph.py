"""The formula graph: one class of interned nodes.

A node is an operator applied to nodes, or a leaf. Two nodes built alike are the same object, so formulas compare and hash
by identity, common subexpressions are shared for free, and functions of formulas can be memoised.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

from .operator import CONST, OPERATORS, SLOT, VAR, Operator, bare

# What a node depends on, as a set of bits: nothing, the row i, the column j, or the pair.
I, J = 1, 2
PAIR = I | J
AXES = {"i": I, "j": J, "p": 0}
LONGEST_TEXT = 2000  # of a formula as it is shown


class Node:
    """An operator applied to nodes; create one with `apply`, `var` or `const`, never directly.

    Attributes
    ----------
    op : Operator
        What is applied; leaves have operators of their own.
    args : tuple of Node
        The operands.
    attrs : tuple
        Static parameters, such as the exponent of a power.
    dim : int
        Length of the vector that the node is for each pair.
    axes : int
        Bits `I` and `J`: whether it depends on the row, on the column.
    kind : str
        ``"real"``, or ``"index"`` for the column numbers that arg-reductions carry.
    """

    __slots__ = ("__weakref__", "args", "attrs", "axes", "dim", "kind", "op")

    def __init__(self, op: Operator, args: tuple[Node, ...], attrs: tuple[Any, ...], dim: int, axes: int, kind: str):
        self.op, self.args, self.attrs, self.dim, self.axes, self.kind = op, args, attrs, dim, axes, kind

    def __repr__(self) -> str:
        return to_string(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.op.name, self.args, self.attrs)

    # Python's own operators build formulas, so that derivatives and definitions read as mathematics.
    def __add__(self, other: Operand) -> Node:
        return apply("add", self, other)

    def __radd__(self, other: Operand) -> Node:
        return apply("add", other, self)

    def __sub__(self, other: Operand) -> Node:
        return apply("sub", self, other)

    def __rsub__(self, other: Operand) -> Node:
        return apply("sub", other, self)

    def __mul__(self, other: Operand) -> Node:
        return apply("mul", self, other)

    def __rmul__(self, other: Operand) -> Node:
        return apply("mul", other, self)

    def __truediv__(self, other: Operand) -> Node:
        return apply("div", self, other)

    def __rtruediv__(self, other: Operand) -> Node:
        return apply("div", other, self)

    def __neg__(self) -> Node:
        return apply("neg", self)


Operand = Node | float

_interned: WeakValueDictionary[tuple[Any, ...], Node] = WeakValueDictionary()
_interning = threading.RLock()  # a collection may run, and build formulas, while it is held


def _new_lock() -> None:
    """In a forked child, where another thread may have held it."""
    global _interning
    _interning = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def intern(op: Operator, args: tuple[Node, ...], attrs: tuple[Any, ...], dim: int, axes: int, kind: str = "real") -> Node:
    """The one node with these parts."""
    key = (op.name, args, attrs)
    node = _interned.get(key)
    if node is None:
        with _interning:  # two threads must not each make their own
            node = _interned.get(key)
            if node is None:
                node = _interned[key] = Node(op, args, attrs, dim, axes, kind)
    return node


def apply(name: str, *operands: Operand, attrs: tuple[Any, ...] = ()) -> Node:
    """Apply the operator `name`; plain numbers become constants.

    Raises
    ------
    ValueError
        Where the operands' inner dimensions do not fit; the message quotes the formula.
    """
    node = _interned.get((name, operands, attrs))
    if node is not None:
        return node
    op = OPERATORS[name]
    args = tuple(a if isinstance(a, Node) else const(a) for a in operands)
    node = _interned.get((name, args, attrs))
    if node is not None:
        return node
    dim = op.dims(tuple(a.dim for a in args), attrs)
    if isinstance(dim, str):
        shown = op.show(tuple(map(to_string, args)), attrs)
        raise ValueError(f"{dim} in the formula {shown}")
    axes = 0
    for a in args:
        axes |= a.axes
    return intern(op, args, attrs, dim, axes, op.kind or args[-1].kind)


def var(axis: str, index: int, dim: int, sign: int = 0) -> Node:
    """The variable number `index`: rows of an array along ``"i"`` or ``"j"``, or a parameter ``"p"``.

    `sign` is +1 where the variable is known to be non-negative.
    """
    return intern(VAR, (), (axis, index, dim, sign), dim, AXES[axis])


def slot(buffer: str, offset: int, dim: int, column: int = 0, axes: int = 0, kind: str = "real") -> Node:
    """A place where the code generator finds a value: `dim` components of `buffer` from `offset` on, for column `column`."""
    return intern(SLOT, (), (buffer, offset, dim, column, axes, kind), dim, axes, kind)


def const(value: float) -> Node:
    """A number that is part of the formula."""
    # The hexadecimal spelling tells 0.0 from -0.0 and makes nan equal to itself.
    return intern(CONST, (), (float(value).hex(),), 1, 0)


def value_of(node: Node) -> float | None:
    """The number a constant stands for, None for any other node."""
    return float.fromhex(node.attrs[0]) if node.op.name == "const" else None


def topological(roots: Iterable[Node], stop: Container[Node] = ()) -> list[Node]:
    """All nodes below `roots`, operands before their users; nothing below a node in `stop`."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, Iterator[Node]]] = []
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        stack.append((root, iter(() if root in stop else root.args)))
        while stack:
            node, operands = stack[-1]
            for operand in operands:
                if operand not in seen:
                    seen.add(operand)
                    stack.append((operand, iter(() if operand in stop else operand.args)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order


def rewrite(roots: Iterable[Node], change: Callable[[Node], Node | None]) -> list[Node]:
    """The roots after `change` has had its way with every node, operands first; None keeps a node as it is."""
    roots = list(roots)
    done: dict[Node, Node] = {}
    for node in topological(roots):
        args = tuple(done[a] for a in node.args)
        rebuilt = node if args == node.args else apply(node.op.name, *args, attrs=node.attrs)
        done[node] = change(rebuilt) or rebuilt
    return [done[root] for root in roots]


def substitute(roots: Iterable[Node], mapping: Mapping[Node, Node]) -> list[Node]:
    """The roots with each node in `mapping` replaced, the outermost first."""
    roots = list(roots)
    done = dict(mapping)
    for node in topological(roots, stop=mapping):
        if node not in done:
            args = tuple(done[a] for a in node.args)
            done[node] = node if args == node.args else apply(node.op.name, *args, attrs=node.attrs)
    return [done[root] for root in roots]


@lru_cache(maxsize=4096)
def variables(roots: tuple[Node, ...]) -> tuple[Node, ...]:
    """The variables below the roots, by index."""
    return tuple(sorted((n for n in topological(roots) if n.op.name == "var"), key=lambda n: n.attrs[1]))


def fingerprint(roots: Iterable[Node]) -> str:
    """A text that tells formulas apart to the last attribute; for keys that outlive the process."""
    roots = list(roots)
    order = topological(roots)
    number = {node: k for k, node in enumerate(order)}
    lines = [f"{n.op.name} {n.attrs!r} {[number[a] for a in n.args]}" for n in order]
    return "\n".join([*lines, str([number[r] for r in roots])])


def to_string(node: Node, names: Mapping[Node, str] | None = None) -> str:
    """The formula in the notation of Python, e.g. ``exp(-sum((x0 - y1)**2))``."""
    shown: dict[Node, str] = dict(names or {})
    for n in topological([node]):
        if n not in shown:
            text = n.op.show(tuple(shown[a] for a in n.args), n.attrs)
            # What is shared is written out each time, which may be exponentially often.
            shown[n] = text if len(text) <= LONGEST_TEXT else f"{n.op.name}(…)"
    return bare(shown[node])


def _rebuild(name: str, args: tuple[Node, ...], attrs: tuple[Any, ...]) -> Node:
    if name == "var":
        return var(*attrs)
    if name == "const":
        return const(float.fromhex(attrs[0]))
    return apply(name, *args, attrs=attrs)
