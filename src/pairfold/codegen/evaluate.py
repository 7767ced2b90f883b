"""From formulas to instructions: the one place that walks a formula graph and emits code, for pack, tile and finish alike.

A vector-valued node is not stored: each of its components is computed where it is used. Short inner dimensions are
unrolled; a long one becomes a loop, and all inner reductions of the same length that can share a loop do. That sharing is
what makes a register tile: several columns of a step are several copies of the formula, and their loops are one.

Large products of tensors are the exception: see `einsum`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..formula.graph import I, Node, topological, value_of
from ..formula.operators_tensor import axes_of
from ..plan.schedule import is_large
from .builder import I64, Value, loop
from .einsum import emit_large, emit_terms
from .mathlib import Maths


@dataclass(frozen=True)
class Index:
    """A component's number: ``base + offset``, known to lie in [low, high). Without a base it is a constant."""

    base: Value | None
    offset: int
    low: int = field(compare=False)
    high: int = field(compare=False)

    def moved(self, by: int) -> Index:
        return Index(self.base, self.offset + by, self.low + by, self.high + by)

    def value(self, builder: Any) -> Value:
        """As a 64-bit integer."""
        if self.base is None:
            return I64(self.offset)
        return self.base if self.offset == 0 else builder.add(self.base, I64(self.offset), flags=("nsw",))


def at(component: int) -> Index:
    """A constant index."""
    return Index(None, component, component, component + 1)


FIRST = at(0)
STORED = at(-1)  # stands for all components: where a node's values are in memory


def _key(node: Node, index: Index) -> tuple[Node, Index]:
    """What a component's value is remembered by: a node of one component has the same for every index."""
    return (node, FIRST) if node.dim == 1 else (node, index)


NAN = float("nan")
INDEPENDENT = 8  # accumulators that keep the arithmetic units busy
SHORT = 8  # fields up to this length are computed whole before they are stored
Leaf = Callable[[Node, Index, Sequence[int]], Sequence[Value]]


class Evaluator:
    """Emits formulas at the builder's current place, for several vectors of rows at once.

    Parameters
    ----------
    m : Maths
        The lanes.
    rows : sequence of int
        The vectors of rows to compute.
    leaf : callable
        ``leaf(node, index, rows)``: the values of a component of a variable or slot, one for each row vector, or a single one
        where all rows share it.
    unroll : int
        Inner dimensions up to this length are unrolled.
    """

    STEP = 4  # components a turn of a loop over a long inner dimension

    def __init__(self, m: Maths, rows: Sequence[int], leaf: Leaf, unroll: int, known: Mapping[Any, Sequence[Value]] | None = None):
        self.m, self.rows, self.leaf, self.unroll = m, rows, leaf, unroll
        # Values by (node, index); one scope for each loop that is open, since a value holds only where it was computed.
        self.scopes: list[dict[Any, Sequence[Value]]] = [dict(known or {})]
        self.stored: set[Node] = set()  # what is in memory, where its scope is open
        self.wanted: set[Node] = set()  # what will be asked for sooner or later, as far as is known

    def row(self, r: int, leaf: Leaf | None = None) -> Evaluator:
        """An evaluator of the `r`-th row vector alone, which knows what this one has computed."""
        known = {
            key: values if len(values) == 1 else [values[self.rows.index(r)]] for scope in self.scopes for key, values in scope.items()
        }
        return Evaluator(self.m, [r], leaf or self.leaf, self.unroll, known)

    def branch(self) -> Evaluator:
        """An evaluator for a branch: it knows what this one has computed, and keeps what it computes to itself."""
        return Evaluator(self.m, self.rows, self.leaf, self.unroll, {k: v for scope in self.scopes for k, v in scope.items()})

    def meet(self, targets: Sequence[Node]) -> None:
        """Compute what lanes do together, which a branch that only some of them take cannot."""
        for node in topological(targets):
            if node.op.name == "across":
                self.values(node)

    # ---- one component
    def values(self, node: Node, index: Index = FIRST) -> Sequence[Value]:
        """A component of a node for each row vector; a single value where they all share it."""
        pending = [_key(node, index)]
        while True:
            key = pending[-1]
            found = self._known(key)
            if found is None:
                # Operands first, by a list of what is pending: formulas may be deeper than Python's stack.
                missing = [k for k in self._operands(*key) if self._known(k) is None]
                if missing:
                    pending += missing
                    continue
                found = self.scopes[-1][key] = self._compute(*key)
            pending.pop()
            if not pending:
                return found

    def _known(self, key: tuple[Any, Index]) -> Sequence[Value] | None:
        return next((scope[key] for scope in reversed(self.scopes) if key in scope), None)

    def _operands(self, node: Node, index: Index) -> list[tuple[Node, Index]]:
        """The components that a component is computed from in straight-line code."""
        structure = node.op.structure
        if self._array(node):
            return []
        if structure == "index":
            return [_key(*self._source(node, index))]
        if structure == "einsum" and not is_large(node):  # its index is a constant: see `boundaries`
            terms = axes_of(node).terms(index.offset)
            return [_key(a, at(k)) for side, a in enumerate(node.args) for k in dict.fromkeys(t[side] for t in terms)]
        if structure == "elementwise":
            return [_key(a, index) for a in node.args]
        if structure == "lookup":
            return [_key(node.args[1], FIRST)]
        if structure == "reduce" and node.args[0].dim <= self.unroll:
            return [_key(node.args[0], at(d)) for d in range(node.args[0].dim)]
        return []

    def full(self, node: Node, index: Index = FIRST) -> list[Value]:
        """As `values`, always one for each row vector."""
        values = self.values(node, index)
        return list(values) if len(values) == len(self.rows) else [values[0]] * len(self.rows)

    def _compute(self, node: Node, index: Index) -> Sequence[Value]:
        op = node.op
        array = self._array(node)
        if array:
            b, component = self.m.builder, index.value(self.m.builder)
            return [b.load(self._place(array, component, r), typ=self.m.real) for r in range(len(self.rows))]
        if (number := value_of(node)) is not None:
            return [self.m.const(number)]
        if op.structure == "number":
            return [op.emit(self.m, self._number(index))]  # type: ignore[misc]
        if op.structure == "leaf":
            return self.leaf(node, index, self.rows)
        if op.structure == "lookup":
            return self._look_up(node, index)
        if op.structure == "index":
            return self.values(*self._source(node, index))
        if op.structure == "reduce":
            return self._reduce_loops([node])[0]
        if op.structure == "einsum":
            if is_large(node):
                self.store(node)
                return self._compute(node, index)
            left, right = node.args
            terms = axes_of(node).terms(index.offset)
            return emit_terms(self.m, [(self.values(left, at(k)), self.values(right, at(l))) for k, l in terms])
        operands = [self.values(a, index) for a in node.args]
        count = max(map(len, operands))
        twin = op.twin(node) if op.twin else None
        if twin in self.wanted and self._known(_key(twin, index)) is None:
            assert op.joint is not None
            both = [op.joint(self.m, *(v[r % len(v)] for v in operands), *node.attrs) for r in range(count)]
            self.scopes[-1][_key(twin, index)] = [other for _, other in both]
            return [own for own, _ in both]
        assert op.emit is not None
        return [op.emit(self.m, *(v[r % len(v)] for v in operands), *node.attrs) for r in range(count)]

    def _source(self, node: Node, index: Index) -> tuple[Node, Index]:
        """Where a component of an index operator comes from."""
        if node.op.name == "extract":
            return node.args[0], index.moved(node.attrs[0])
        if node.op.name == "concat":
            start = 0
            for part in node.args:
                if index.high <= start + part.dim:
                    return part, index.moved(-start)
                start += part.dim
        if node.op.name == "slice":
            # Where it is has to be computed, once: components are told apart by what they are computed from.
            (whole,) = node.args
            dim = node.dim * node.attrs[0] if whole.op.structure == "number" else whole.dim  # numbers tell what is beyond
            key = ((*node.attrs, dim), index)
            (found,) = self._known(key) or (None,)
            if found is None:
                lanes, unit = node.attrs
                found = of_slice(self.m, index, lanes, unit, dim)
                self.scopes[-1][key] = [found]
            return whole, found
        return node.args[0], index  # spread

    def _look_up(self, node: Node, index: Index) -> Sequence[Value]:
        """A component of the row of a table that has the number in a lane, lane by lane; nan where there is no such row."""
        m, b, (table, number), (dim,) = self.m, self.m.builder, node.args, node.attrs
        self.store(table)
        found = []
        shared = len(self.values(number)) == 1 and not table.axes & I
        for r, which in enumerate(self.values(number) if shared else self.full(number)):
            known = m.land(m.gt(which, m.const(-1.0)), m.lt(which, m.const(float(table.dim // dim))))
            whole = b.fptosi(m.select(known, which, m.const(0.0)), m.lanes(I64))
            value: Value = m.const(NAN)
            for k in range(m.width):
                base = b.add(b.mul(m.lane(whole, k), I64(dim)), index.value(b))
                entry = self.values(table, Index(base, 0, 0, table.dim))
                value = m.with_lane(value, m.lane(entry[r % len(entry)], k), k)
            found.append(m.select(known, value, m.const(NAN)))
        return found

    def _number(self, index: Index) -> Value:
        """An index as a real number."""
        if index.base is None:
            return self.m.const(index.offset)
        return self.m.splat(self.m.builder.sitofp(index.value(self.m.builder), self.m.scalar))

    # ---- vectors in memory
    def store(self, node: Node) -> None:
        """Make all components of a node readable at any index: in memory, where they are not already."""
        large = is_large(node)
        if node.op.structure == "leaf" or self._array(node):
            return
        if node.dim == 1 and not large:
            self.values(node)
            return
        b, count = self.m.builder, len(self.rows)
        for a in node.args if large else ():
            self.store(a)
        with b.goto_entry_block():  # once, not at each turn of a loop
            array = b.alloca(self.m.real, node.dim * count)
        array.align = 64

        def save(component: Value, values: Sequence[Value]) -> None:
            for r, value in enumerate(values):
                b.store(value, self._place(array, component, r))

        def copy(index: Index, carried: Sequence[Value]) -> Sequence[Value]:
            save(index.value(b), self.full(node, index))
            return carried

        if large:
            emit_large(self, node, save)
        else:
            self.for_components([node], (), copy)
        self.stored.add(node)
        self.scopes[-1][node, STORED] = [array]

    def _array(self, node: Node) -> Value | None:
        """Where a node's components are in memory."""
        found = self._known((node, STORED)) if node in self.stored else None
        return found[0] if found else None

    def read(self, node: Node, place: Value, offset: int) -> list[Value]:
        """The component ``place + offset`` of a node that `store` was called for."""
        return self.full(node, Index(place, offset, 0, node.dim))

    def _place(self, array: Value, component: Value, row: int) -> Value:
        b = self.m.builder
        return b.gep(array, [b.add(b.mul(component, I64(len(self.rows))), I64(row))], source_etype=self.m.real)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is computed within holds there alone: a turn of a loop."""
        self.scopes.append({})
        yield
        self.scopes.pop()

    # ---- inner reductions
    def prepare(self, roots: Iterable[Node]) -> None:
        """Compute the inner reductions below the roots, sharing loops; call before `values` in straight-line code."""
        level: dict[Node, int] = {}
        groups: dict[tuple[int, int | Node], list[Node]] = defaultdict(list)
        done = {node for scope in self.scopes for node, _ in scope}
        order = topological(roots, stop=done)
        self.wanted.update(order)
        for node in order:
            level[node] = max((level.get(a, 0) for a in node.args), default=0)
            if node not in done and node.op.structure == "reduce" and node.args[0].dim > self.unroll:
                level[node] += 1
                groups[level[node], node.args[0].dim].append(node)
            elif node not in done and is_large(node):
                level[node] += 1
                groups[level[node], node].append(node)
        for key in sorted(groups, key=lambda k: k[0]):
            if isinstance(key[1], Node):
                self.store(key[1])
                continue
            for node, values in zip(groups[key], self._reduce_loops(groups[key]), strict=True):
                self.scopes[-1][node, FIRST] = values

    def _reduce_loops(self, nodes: Sequence[Node]) -> list[Sequence[Value]]:
        """Inner reductions of operands of one dimension, in shared loops."""
        operands = [n.args[0] for n in nodes]
        count = len(self.rows)

        # A lone accumulator would wait for itself: few of them are split into several, by component.
        ways = min(self.STEP, max(1, INDEPENDENT // (count * len(nodes)))) if operands[0].dim > self.unroll else 1

        def join(index: Index, totals: Sequence[Value]) -> list[Value]:
            joined = list(totals)
            start = index.offset % ways * count * len(nodes)
            for k, (n, operand) in enumerate(zip(nodes, operands, strict=True)):
                values = self.full(operand, index)
                for r in range(count):
                    place = start + k * count + r
                    joined[place] = n.op.emit(self.m, totals[place], values[r])  # type: ignore[misc]
            return joined

        if operands[0].dim <= self.unroll:
            totals = [v for operand in operands for v in self.full(operand, FIRST)]
            for d in range(1, operands[0].dim):
                totals = join(at(d), totals)
        else:
            identities = [self.m.const(n.op.identity) for _ in range(ways) for n in nodes for _ in range(count)]
            totals = self.for_components(operands, identities, join)
            each = count * len(nodes)
            for way in range(1, ways):
                for place in range(each):
                    emit = nodes[place // count].op.emit
                    totals[place] = emit(self.m, totals[place], totals[way * each + place])  # type: ignore[misc]
        return [totals[k * count : (k + 1) * count] for k in range(len(nodes))]

    def for_components(
        self,
        nodes: Sequence[Node],
        carried: Sequence[Value],
        body: Callable[[Index, Sequence[Value]], Sequence[Value]],
        descending: bool = False,
    ) -> list[Value]:
        """Run `body` for each component of nodes of one dimension, unrolled or as loops, carrying values along."""
        dim = nodes[0].dim
        if dim <= self.unroll:
            for d in reversed(range(dim)) if descending else range(dim):
                carried = body(at(d), carried)
            return list(carried)
        for n in nodes:
            self._hoist_scalars(n)
        edges = sorted(set().union(*(boundaries(n) for n in nodes)))
        spans = list(zip(edges[:-1], edges[1:], strict=True))
        for low, high in reversed(spans) if descending else spans:
            # The remainder of a span, less than a turn of the loop, is unrolled behind it.
            whole = low + (high - low) // self.STEP * self.STEP if high - low > self.unroll else low
            tail = [at(d) for d in range(whole, high)]
            if descending:
                for index in reversed(tail):
                    carried = body(index, carried)
            if whole > low:
                carried = self._component_loop(low, whole, carried, body, descending)
            if not descending:
                for index in tail:
                    carried = body(index, carried)
        return list(carried)

    def _component_loop(
        self, low: int, high: int, carried: Sequence[Value], body: Callable[[Index, Sequence[Value]], Sequence[Value]], descending: bool
    ) -> list[Value]:
        offsets = range(self.STEP)

        def turn(base: Value, values: list[Value]) -> Sequence[Value]:
            joined: Sequence[Value] = values
            with self.scope():
                for offset in reversed(offsets) if descending else offsets:
                    joined = body(Index(base, offset, low, high), joined)
            return joined

        start, stop, step = (high - self.STEP, low - 1, -self.STEP) if descending else (low, high, self.STEP)
        return loop(self.m.builder, I64(start), I64(stop), step, carried, turn)

    def _hoist_scalars(self, node: Node) -> None:
        """Compute what a loop over the node's components needs but does not change."""
        pending, seen = [node], {node}
        while pending:
            for a in pending.pop().args:
                if a not in seen:
                    seen.add(a)
                    if a.dim == 1:
                        self.values(a)
                    else:
                        pending.append(a)

    # ---- whole partials
    def update(self, targets: Sequence[Node], store: Callable[[int, Index, list[Value]], None]) -> None:
        """Compute the new fields of a partial and store each component: ``store(field, index, values)``.

        All that is read from the old partial is read before it is overwritten: long fields are walked downwards, so that a field
        may be made from itself moved upwards.
        """
        self.prepare(targets)
        short = [k for k, t in enumerate(targets) if t.dim <= SHORT]
        computed = [(k, at(d), self.full(targets[k], at(d))) for k in short for d in range(targets[k].dim)]
        by_dim: dict[int, list[int]] = defaultdict(list)
        for k, t in enumerate(targets):
            if t.dim > SHORT:
                by_dim[t.dim].append(k)
        for fields in by_dim.values():

            def body(index: Index, carried: Sequence[Value], fields: Sequence[int] = fields) -> Sequence[Value]:
                fresh = [(k, self.full(targets[k], index)) for k in fields]
                for k, values in fresh:
                    store(k, index, values)
                return carried

            self.for_components([targets[k] for k in fields], (), body, descending=True)
        for k, index, values in computed:
            store(k, index, values)


def of_slice(m: Any, index: Index, lanes: int, unit: int, dim: int) -> Index:
    """The component of a vector that is a component of this lane's slice; the last of `dim` where that is beyond."""
    b = m.builder
    start = m.own_unit(lanes, unit)
    if index.base is None:
        offset = index.offset // unit * unit * lanes + index.offset % unit
        if offset + unit * (lanes - 1) < dim:
            return Index(start, offset, 0, dim)
        component = b.add(start, I64(offset))
    else:
        number = index.value(b)
        component = b.add(b.add(number, b.mul(b.and_(number, I64(-unit)), I64(lanes - 1))), start)
    return Index(b.select(b.icmp_signed("<", component, I64(dim)), component, I64(dim - 1)), 0, 0, dim)


def boundaries(node: Node) -> frozenset[int]:
    """Where a walk over the node's components must break, so that each stretch comes from the same sources."""
    found: dict[Node, frozenset[int]] = {}
    for n in topological([node]):
        edges = {0, n.dim}
        if n.op.name == "extract":
            start, length = n.attrs
            edges |= {e - start for e in found[n.args[0]] if start <= e <= start + length}
        elif n.op.name == "concat":
            start = 0
            for part in n.args:
                edges |= {e + start for e in found[part]}
                start += part.dim
        elif n.op.structure in ("elementwise", "index"):
            for a in n.args:
                if a.dim == n.dim:
                    edges |= found[a]
        elif n.op.structure == "einsum" and not is_large(n):
            edges = set(range(n.dim + 1))
        found[n] = frozenset(edges)
    return found[node]
