"""Inserting a pair into the partial of a guarded reduction: a function of its own, called for the few pairs that matter."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from ..formula.graph import Node
from ..formula.simplify import simplify
from .builder import I64, POINTER, Builder, Value
from .evaluate import SHORT, Evaluator, Index, at
from .layout import Layout
from .mathlib import Maths
from .partial import Partial


def emit_insertion(module: ir.Module, layout: Layout, lanes: Maths, stride: int) -> ir.Function:
    """The function ``insert(fields of the partial …, row, column, par, watched, index)`` for one vector of rows and one column.

    `row`, `column` and `par` point to what was packed; `watched` to the values that the guard looked at, which may be those that are
    reduced, or a bound of them: then they are computed here. A row's components are `stride` numbers apart.
    """
    plan = layout.plan
    types = [lanes.of(f.kind) for f in plan.fields]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER] * (len(types) + 4) + [I64]), "insert")
    function.linkage = "internal"
    *fields, row, column, par, watched, number = function.args
    b = Builder(function.append_basic_block("entry"))
    m = lanes.of_function(b)
    partial = Partial(b, fields, types, plan.schedule.rows)

    def leaf(node: Node, index: Index, rows: Sequence[int]) -> Sequence[Value]:
        buffer, offset, _, field, *_ = node.attrs
        component = b.add(index.value(b), I64(offset))
        if buffer == "row":
            place = b.gep(row, [b.mul(component, I64(stride))], source_etype=m.scalar)
            return [b.load(place, typ=m.real, align=layout.real_bytes * m.width)]
        if buffer == "index":
            return [m.splat(b.trunc(number, m.scalar_integer) if m.bits == 32 else number)]
        if buffer == "state":
            return [partial.load(field, index.value(b), 0)]
        place = b.gep(column if buffer == "col" else par, [component], source_etype=m.scalar)
        return [m.splat(b.load(place, typ=m.scalar))]

    def store(field: int, index: Index, values: list[Value]) -> None:
        partial.store(field, index.value(b), 0, values[0])

    looked_at = plan.values(0)[-1]
    places = [b.gep(watched, [I64(d)], source_etype=m.real) for d in range(looked_at.dim)]
    known: dict[tuple[Node, Index], Sequence[Value]] = {}
    for d, place in enumerate(places):
        known[looked_at, at(d)] = [b.load(place, typ=m.real)]
    evaluator = Evaluator(m, [0], leaf, SHORT, known)
    pair = plan.lifted(0)
    evaluator.prepare(pair)
    for value in pair:
        for d in range(value.dim):
            evaluator.values(value, at(d))

    # From here on evaluators of their own: what they read of the partial holds until that is written.
    everything = plan.combine(plan.field_slots, pair)
    shortcut = plan.reduction.shortcut(plan.field_slots, pair)
    if shortcut is None:
        evaluator.row(0).update(everything, store)
    else:
        suspect, cheaper = shortcut
        with b.if_else(m.any(m.truth(evaluator.full(suspect)[0])), likely=False) as (then, otherwise):
            with then:
                evaluator.row(0).update(everything, store)
            with otherwise:
                evaluator.row(0).update(simplify(cheaper), store)
    b.ret_void()
    return function
