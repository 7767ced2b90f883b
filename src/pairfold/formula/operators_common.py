"""What the records of the operator table are written with: how dimensions combine, how formulas are shown, and short names for formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .graph import Node, Operand, apply, value_of
from .operator import Bracketed, Show, bare

# ---- how dimensions combine


def broadcast(dims: Sequence[int], attrs: tuple[Any, ...] = ()) -> int | str:
    """The common dimension; operands of dimension 1 fit any."""
    longest = max(dims)
    if any(d not in (1, longest) for d in dims):
        return f"inner dimensions {' and '.join(map(str, dims))} do not broadcast"
    return longest


def to_scalar(dims: Sequence[int], attrs: tuple[Any, ...] = ()) -> int | str:
    """One number from operands that broadcast."""
    shared = broadcast(dims)
    return shared if isinstance(shared, str) else 1


# ---- how formulas are written


def call(name: str) -> Show:
    """As a function's call, attributes behind the operands."""
    return lambda args, attrs: f"{name}({', '.join([*map(bare, args), *map(str, attrs)])})"


def prefix(symbol: str) -> Show:
    return lambda args, attrs: Bracketed(f"({symbol}{args[0]})")


def infix(symbol: str) -> Show:
    return lambda args, attrs: Bracketed(f"({args[0]} {symbol} {args[1]})")


# ---- formulas by short names


def where(condition: Operand, a: Operand, b: Operand) -> Node:
    return apply("where", condition, a, b)


def power(a: Node, n: int) -> Node:
    """a to the integer n, by the shortest operator."""
    short = {0: lambda: spread(1, a.dim), 1: lambda: a, 2: lambda: apply("square", a), -1: lambda: 1 / a}
    return short[n]() if n in short else apply("powi", a, attrs=(n,))


def spread(a: Operand, dim: int) -> Node:
    return apply("spread", a, attrs=(dim,))


def spread_to(a: Node, dim: int) -> Node:
    return a if a.dim == dim else spread(a, dim)


def zeros(dim: int) -> Node:
    return spread(0, dim)


def is_zero(a: Node) -> bool:
    """Whether the formula is the number 0, repeated or not."""
    return a.op.name == "spread" and is_zero(a.args[0]) or value_of(a) == 0


def extract(a: Node, start: int, length: int) -> Node:
    return a if start == 0 and length == a.dim else apply("extract", a, attrs=(start, length))


def concat(*parts: Node) -> Node:
    """The parts one after the other, those without components left out."""
    return apply("concat", *parts) if len(parts) > 1 else parts[0]


def insert(a: Node, start: int, dim: int) -> Node:
    """The vector at `start` in a vector of zeros."""
    after = dim - start - a.dim
    return concat(*([zeros(start)] if start else []), a, *([zeros(after)] if after else []))
