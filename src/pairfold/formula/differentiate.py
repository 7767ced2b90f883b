"""Derivatives, formula to formula: so any order of derivative is again a formula, and every target knows it already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from .graph import Node, Operand, apply, const, topological, value_of
from .operators import concat, extract, is_zero, spread, spread_to, zeros
from .operators_tensor import axes_of
from .simplify import expand, simplify


def _times(partial: Operand, g: Node) -> Node:
    """Their product; where a choice has not taken a branch it is 0, whatever the derivative of that branch is there, nan included."""
    if isinstance(partial, (int, float)):
        return g if partial == 1 else -g if partial == -1 else partial * g
    for chosen, other in ((partial, g), (g, partial)):
        if chosen.op.name == "where" and any(map(is_zero, chosen.args[1:])):
            condition, *branches = chosen.args
            return apply("where", condition, *(const(0) if is_zero(b) else _times(value_of(b) or b, other) for b in branches))
    return partial * g


def to_dim(g: Node, dim: int) -> Node:
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
    gradient: dict[Node, Node] = {root: to_dim(cotangent, root.dim)}

    def accumulate(node: Node, g: Node) -> None:
        g = to_dim(g, node.dim)
        gradient[node] = gradient[node] + g if node in gradient else g

    for node in reversed(order):
        g = gradient.get(node)
        if g is None or node not in needed:
            continue
        op = node.op
        if op.transpose:
            for a, back in zip(node.args, op.transpose(node, g), strict=True):
                if a in needed and back is not None:
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
            parts = [moved.get(a) or zeros(a.dim) for a in node.args]
            moved[node] = apply(op.name, *parts, attrs=node.attrs)
        elif op.structure == "lookup":
            if node.args[0] in moved:
                moved[node] = apply(op.name, moved[node.args[0]], node.args[1], attrs=node.attrs)
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


# ---- differential operators


def jacobian(formula: Node, v: Node) -> Node:
    """The derivative of each component by each component of a variable.

    Parameters
    ----------
    formula : Node
        Of dimension D.
    v : Node
        A variable, of dimension E.

    Returns
    -------
    Node
        Of dimension D E: the gradient of the first component, then that of the second … KeOps's ``GradMatrix``.

    Raises
    ------
    ValueError
        Where `v` is no variable; so do the other differential operators.
    """
    return concat(*(_gradient(_component(formula, k), v) for k in range(formula.dim)))


def divergence(formula: Node, v: Node) -> Node:
    """The trace of the Jacobian, for a formula and a variable of one dimension.

    Raises
    ------
    ValueError
        Where the dimensions differ.
    """
    if formula.dim != v.dim:
        raise ValueError(f"the divergence of a vector of dimension {formula.dim} by one of dimension {v.dim}: the two must agree")
    return _trace(formula, v)


def laplacian(formula: Node, v: Node) -> Node:
    """The sum of the second derivatives by each component of a variable, of each component of the formula."""
    gradients = (_gradient(_component(formula, k), v) for k in range(formula.dim))
    return concat(*(divergence(g, v) for g in gradients))


def trace_operator(formula: Node, v: Node) -> Node:
    """The trace of the matrix of a linear function of v.

    Parameters
    ----------
    formula : Node
        Linear in `v`, of its dimension, or of dimension 1: then the function repeats its one row.

    Raises
    ------
    ValueError
        Where the formula is not linear, or of another dimension.
    """
    _require_linear(formula, v)
    if formula.dim not in (1, v.dim):
        raise ValueError(f"the trace of a function from dimension {v.dim} to dimension {formula.dim}: the two must agree")
    return _trace(spread_to(formula, v.dim), v)


def adjoint_operator(formula: Node, v: Node, u: Node) -> Node:
    """The adjoint of a linear function of v, applied to u: of the dimension of `v`, for `u` of that of the formula.

    Raises
    ------
    ValueError
        Where the formula is not linear, or `u` of another dimension.
    """
    _require_linear(formula, v)
    if u.dim not in (1, formula.dim):
        raise ValueError(
            f"the adjoint of a function to dimension {formula.dim} applied to a vector of dimension {u.dim}: the two must agree"
        )
    return _gradient(formula, v, u)


def is_linear(formula: Node, v: Node) -> bool:
    """Whether the formula is built as a linear function of v."""
    (root,) = expand((formula,))
    linear = {v}
    for node in topological([root]):
        if any(a in linear for a in node.args):
            if not _keeps_linear(node, [a in linear for a in node.args]):
                return False
            linear.add(node)
    return root in linear or is_zero(root)


def _keeps_linear(node: Node, linear: Sequence[bool]) -> bool:
    """Whether an operator is linear in those operands that are, taken together."""
    all_or_zero = [there or is_zero(a) for a, there in zip(node.args, linear, strict=True)]
    if node.op.name in ("add", "sub", "neg", "sum") or node.op.structure == "index":
        return all(all_or_zero)
    if node.op.name in ("mul", "einsum"):
        return sum(linear) == 1
    if node.op.name == "div":
        return not linear[1]
    return node.op.name == "where" and not linear[0] and all(all_or_zero[1:])


def _require_linear(formula: Node, v: Node) -> None:
    _require_variable(v)
    if not is_linear(formula, v):
        raise ValueError(f"{formula} is not built as a linear function of {v}")


def _require_variable(v: Node) -> None:
    if v.op.name != "var":
        raise ValueError(f"derivatives are taken by variables, not by {v}")


def _gradient(formula: Node, v: Node, cotangent: Node | None = None) -> Node:
    """A vector–Jacobian product, zeros where the formula does not depend on the variable."""
    _require_variable(v)
    (found,) = vjp(formula, [v], spread(1, 1) if cotangent is None else cotangent)
    return zeros(v.dim) if found is None else found


def _trace(formula: Node, v: Node) -> Node:
    """Σ_k of the derivative of the k-th component by the k-th of v.

    Along operators that work component by component the Jacobian is diagonal: a vector of weights runs back from the root. What
    all components share, a number, adds the inner product of the weights and its gradient.
    """
    _require_variable(v)
    (root,) = expand((formula,))
    order = topological([root])
    needed: set[Node] = set()
    for node in order:
        if node is v or any(a in needed for a in node.args):
            needed.add(node)
    weights: dict[Node, Node] = {root: const(1)}
    terms: list[Node] = []

    def accumulate_weight(a: Node, weight: Node) -> None:
        if a.dim > 1:
            weights[a] = weights[a] + weight if a in weights else weight
        else:
            terms.append(apply("dot", weight, _gradient(a, v)))

    for node in reversed(order):
        weight = weights.get(node)
        if weight is None or node not in needed:
            continue
        if node is v:
            terms.append(apply("sum", weight) if weight.dim > 1 else v.dim * weight)
        elif v.dim == 1 or node.op.name == "spread":
            terms.append(apply("dot", weight, _gradient(node if v.dim == 1 else node.args[0], v)))
        elif node.op.structure == "elementwise":
            assert node.op.partials is not None
            for a, partial in zip(node.args, node.op.partials(node), strict=True):
                if partial is not None and a in needed:
                    accumulate_weight(a, _times(partial, weight))
        else:
            diagonal = (_component(_gradient(_component(node, k), v), k) for k in range(v.dim))
            terms.append(apply("dot", weight, concat(*diagonal)))
    return simplify(expand((sum(terms[1:], terms[0]),)))[0] if terms else const(0)


def _component(formula: Node, k: int) -> Node:
    """A component of a formula as a formula of its own: derivatives of it touch no other component, and hold no zeros for them."""
    (root,) = expand((formula,))
    done: dict[tuple[Node, int], Node] = {}
    pending = [(root, k)]
    while pending:
        node, number = pending[-1]
        sources = _sources(node, number)
        missing = [source for source in sources if source not in done]
        if missing:
            pending += missing
            continue
        parts = [done[source] for source in sources]
        if node.op.structure == "elementwise" and parts:
            done[node, number] = apply(node.op.name, *parts, attrs=node.attrs)
        else:
            done[node, number] = parts[0] if parts else _taken(node, number)
        pending.pop()
    return done[root, k]


def _sources(node: Node, k: int) -> list[tuple[Node, int]]:
    """Which components of operands make a component, where those are enough."""
    if node.dim == 1:
        return []
    if node.op.structure == "elementwise":
        return [(a, k if a.dim > 1 else 0) for a in node.args]
    if node.op.structure != "index":
        return []
    ends = [*accumulate(a.dim for a in node.args)]
    if node.op.name == "concat":
        part = next(p for p, end in enumerate(ends) if k < end)
        return [(node.args[part], k - ends[part] + node.args[part].dim)]
    (a,) = node.args
    return [(a, k + node.attrs[0] if node.op.name == "extract" else k if a.dim > 1 else 0)]


def _taken(node: Node, k: int) -> Node:
    """A component of a node that has no simpler source."""
    if node.op.structure == "number":
        return const(k)
    if node.op.structure != "einsum" or node.dim == 1:
        return extract(node, k, 1)
    sides = zip(*axes_of(node).terms(k), strict=True)
    return apply("dot", *(_gathered(a, places) for a, places in zip(node.args, sides, strict=True)))


def _gathered(a: Node, places: Sequence[int]) -> Node:
    """The components at those places, in as few slices as there are."""
    starts = [n for n, k in enumerate(places) if n == 0 or k != places[n - 1] + 1]
    return concat(*(extract(a, places[n], stop - n) for n, stop in zip(starts, [*starts[1:], len(places)], strict=True)))
