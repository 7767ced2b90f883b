"""Derivatives, formula to formula: so any order of derivative is again a formula, and every target knows it already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .graph import Node, Operand, apply, topological
from .operators import spread_to
from .simplify import expand, simplify


def _times(partial: Operand, g: Node) -> Node:
    if isinstance(partial, (int, float)):
        return g if partial == 1 else -g if partial == -1 else partial * g
    return partial * g


def _to_dim(g: Node, dim: int) -> Node:
    """A cotangent summed over the components along which its operand was broadcast."""
    return g if g.dim == dim else apply("sum", g) if dim == 1 else spread_to(g, dim)


def vjp(formula: Node, wrt: Sequence[Node], cotangent: Node) -> tuple[Node | None, ...]:
    """Vector–Jacobian products: the derivative of ``sum(cotangent * formula)`` with respect to each variable.

    Parameters
    ----------
    formula : Node
        Of dimension D.
    wrt : sequence of Node
        Variables, leaves of the formula.
    cotangent : Node
        Of dimension D or 1; a longer one is summed where D is 1.

    Returns
    -------
    tuple of Node or None
        A formula of the variable's dimension for each; None where the formula does not depend on it.
    """
    (root,) = expand((formula,))
    targets = set(wrt)
    order = topological([root])
    needed: set[Node] = set()  # the nodes through which a variable is reached
    for node in order:
        if node in targets or any(a in needed for a in node.args):
            needed.add(node)
    if root not in needed:
        return (None,) * len(wrt)
    gradient: dict[Node, Node] = {root: _to_dim(cotangent, root.dim)}

    def accumulate(node: Node, g: Node) -> None:
        g = _to_dim(g, node.dim)
        gradient[node] = gradient[node] + g if node in gradient else g

    for node in reversed(order):
        g = gradient.get(node)
        if g is None or node not in needed:
            continue
        op = node.op
        if op.transpose:
            for a, back in zip(node.args, op.transpose(node, g), strict=True):
                if a in needed:
                    accumulate(a, back)
        elif op.partials:
            for a, partial in zip(node.args, op.partials(node), strict=True):
                if partial is not None and a in needed:
                    accumulate(a, _times(partial, g))
    found = [gradient.get(v) for v in wrt]
    done = iter(simplify([g for g in found if g is not None]))
    return tuple(None if g is None else next(done) for g in found)


def jvp(formula: Node, tangents: Mapping[Node, Node]) -> Node | None:
    """Jacobian–vector product: the derivative of the formula as each variable moves along its tangent.

    Parameters
    ----------
    formula : Node
    tangents : mapping of Node to Node
        For each variable that moves, a formula of its dimension.

    Returns
    -------
    Node or None
        A formula of the same dimension; None where nothing moves.
    """
    (root,) = expand((formula,))
    moved: dict[Node, Node] = {}
    for node in topological([root]):
        if node in tangents:
            moved[node] = tangents[node]
            continue
        if not any(a in moved for a in node.args):
            continue
        op = node.op
        if op.structure == "index":
            parts = [moved.get(a) or spread_to(apply("spread", 0, attrs=(1,)), a.dim) for a in node.args]
            moved[node] = apply(op.name, *parts, attrs=node.attrs)
        elif op.structure == "einsum":  # linear in each operand
            a, b = node.args
            ways = [way for way, there in (((moved.get(a, a), b), a in moved), ((a, moved.get(b, b)), b in moved)) if there]
            terms = [apply(op.name, *way, attrs=node.attrs) for way in ways]
            moved[node] = sum(terms[1:], terms[0])
        elif op.partials:
            terms = [_times(p, moved[a]) for a, p in zip(node.args, op.partials(node), strict=True) if p is not None and a in moved]
            if terms:
                total = sum(terms[1:], terms[0])
                moved[node] = apply("sum", spread_to(total, node.args[0].dim)) if op.structure == "reduce" else spread_to(total, node.dim)
    return simplify((moved[root],))[0] if root in moved else None
