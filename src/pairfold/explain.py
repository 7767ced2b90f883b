"""What a fold does, and why: how `LazyTensor.explain` answers, in a terminal and in a notebook."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .codegen.layout import PHASES, Layout
from .codegen.tile import PRELOADED
from .fold import PAIRS_WORTH_CONTRACTING, ROWS_WORTH_CONTRACTING, Fold, Route, flip
from .formula.graph import Node, substitute, to_string, topological, variables
from .formula.parse import to_keops
from .formula.simplify import expand, simplify, specialise
from .picture import FILLS, picture
from .plan.contract import LARGEST_EXPONENT, contraction
from .plan.hoist import Buffer, Hoisted, hoist
from .plan.plan import Plan, make_plan
from .reductions import Masked
from .runtime import cpu, peak
from .runtime.compile import compile_assembly, linked
from .runtime.operand import Extent, Operand
from .runtime.pattern import Pattern
from .runtime.threads import ALONE_SECONDS, get_num_threads

# Tiles were seen to reach from 0.6 to 0.9 of the limit: the rest goes into waiting for results, loads and loops.
TYPICAL = 0.7
WIDTH, INDENT = 100, 12  # of the text, in characters
PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


class Listing(str):
    """A text of many lines, shown as it is."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self)}</pre>"


@dataclass(frozen=True, repr=False)
class Explanation:
    """What a fold does, and why. Its text is for a terminal; a notebook shows a table and the formula's graph.

    Attributes
    ----------
    title : str
        The fold in words.
    plan : Plan
        What is computed; `print(explanation.plan)` shows it in its own terms.
    pairs : int
    operations : float
        Vector instructions a pair takes.
    scratch : int
        Bytes of memory beside arrays and results.
    threads : int
    limit : float
        Seconds that the computer's vector units need for these operations at best.
    phases : dict of str to float
        Estimated seconds of each phase of the kernel.
    measured : Run or None
        The newest call of this kernel in this process: its extent and its seconds.
    lines : tuple of (str, tuple of str)
        The text: what each part is about, and what it says.
    graph : str or None
        The formula's graph as SVG; None where it is too large to be read.
    """

    title: str
    plan: Plan
    pairs: int
    operations: float
    scratch: int
    threads: int
    limit: float
    phases: dict[str, float]
    measured: cpu.Run | None
    lines: tuple[tuple[str, tuple[str, ...]], ...]
    graph: str | None

    @property
    def estimate(self) -> float:
        """Estimated seconds."""
        return sum(self.phases.values())

    def __str__(self) -> str:
        def wrapped(label: str, text: str) -> str:
            return textwrap.fill(
                text, WIDTH, initial_indent=f"{label:<{INDENT}}", subsequent_indent=" " * (INDENT + 2), break_long_words=False
            )

        parts = [wrapped("" if k else label, text) for label, texts in self.lines for k, text in enumerate(texts)]
        return "\n".join([self.title, *parts])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def row(label: str, texts: Sequence[str]) -> str:
            said = "<br/>".join(map(escape, texts))
            return f'<tr><th style="text-align:left;vertical-align:top">{escape(label)}</th><td style="text-align:left">{said}</td></tr>'

        table = f"<table>{''.join(row(*line) for line in self.lines)}</table>"
        return f"<div><p><b>{escape(self.title)}</b></p>{_figure(self.graph)}{table}</div>"


def explain(
    fold: Fold,
    operands: Sequence[Operand],
    extent: Extent,
    bits: int,
    result: str,
    what: str = "plan",
    described: Sequence[str] = (),
    pattern: Pattern | None = None,
) -> Explanation | Listing:
    """Explain a fold of given arrays.

    Parameters
    ----------
    fold : Fold
    operands : sequence of Operand
        The arrays of its variables, as `Fold.run` takes them.
    extent : Extent
    bits : int
        Of the arithmetic.
    result : str
        The type of the results.
    what : str
        ``"plan"``; ``"llvm"`` or ``"asm"`` for the kernel's code.
    described : sequence of str
        What there is to say of each array.
    pattern : Pattern, optional
        Which pairs take part.

    Raises
    ------
    ValueError
        Where `what` is none of these.
    """
    if what not in ("plan", "llvm", "asm"):
        raise ValueError(f'explain shows the "plan", or the code as "llvm" or "asm", not {what!r}')
    # Where there are no pairs there are no data to look at.
    route = fold.route(operands, extent, bits) if extent.pairs else Route(fold.oriented, operands, fold.reduction)
    numbers = route.numbers(bits, result)
    few = cpu.few_rows(route.formulas, route.operands, extent, bits, pattern)
    plan = make_plan(
        route.formulas,
        route.reduction,
        numbers,
        cpu.machine(),
        pattern is not None,
        contracted=route.contracted,
        few=few,
    )
    if what != "plan":
        code = linked(cpu.emit(plan))
        return Listing(code if what == "llvm" else compile_assembly(code))
    kernel = cpu.known(route.formulas, route.reduction, numbers, plan.sparse, route.contracted, few)
    return _Account(fold, route, extent, pattern, plan, described, kernel.last if kernel else None).explanation()


def sketch(title: str, formula: Node) -> str:
    """A title and the graph of a formula, as any reduction will compute it, as HTML."""
    result = "a number a pair" if formula.dim == 1 else f"{formula.dim} numbers a pair"
    graph = _graph(hoist(specialise(simplify(expand((formula,))))), 1, {}, result)
    return f"<div><code>{escape(title)}</code>{_figure(graph)}</div>"


def _figure(graph: str | None) -> str:
    """A graph and what its colours mean, as HTML."""
    if graph is None:
        return "<p>The formula's graph is too large to be drawn.</p>"
    colours = zip(("row", "column", "parameter", "pair"), FILLS.values(), strict=True)
    legend = " ".join(f'<span style="background:{colour};color:#111;padding:0 .4em">{name}</span>' for name, colour in colours)
    return f"{graph}<p><small>depends on {legend}; dashed: computed once, not for each pair</small></p>"


def _graph(hoisted: Hoisted, axis: int, names: dict[Node, str], result: str) -> str | None:
    """The graph of formulas, with what is packed in the place of its slots."""
    contents = {s: f for b in hoisted.buffers for s, f in zip(b.slots, b.formulas, strict=True)}
    packed = tuple(substitute([f for b in hoisted.buffers for f in b.formulas], contents))
    roots = tuple(substitute(substitute(hoisted.body, contents), contents))  # rows and columns may read packed parameters
    if axis == 0:  # as the user has it
        packed, roots = flip(packed), flip(roots)
    return picture(roots, set(topological(packed)), names, result)


class _Account:
    """Gathers what is said of a plan, in the user's words: rows are i and columns are j, whichever is reduced."""

    def __init__(
        self,
        fold: Fold,
        route: Route,
        extent: Extent,
        pattern: Pattern | None,
        plan: Plan,
        described: Sequence[str],
        measured: cpu.Run | None,
    ):
        self.fold, self.route, self.extent, self.plan, self.described, self.measured = fold, route, extent, plan, described, measured
        self.layout, self.pattern = Layout(plan), pattern
        self.reduction = fold.reduction.inner if isinstance(fold.reduction, Masked) else fold.reduction
        self.pairs = extent.pairs if pattern is None else extent.batches * pattern.pairs
        self.kept, self.reduced = ("row", "column") if fold.axis == 1 else ("column", "row")
        # What is packed goes by a name of its own, unless it is a variable.
        used = variables(route.formulas)
        self.names = {v: to_string(u) for v, u in zip(used, fold.variables, strict=False)}
        self.centre = dict.fromkeys(used[len(fold.variables) :], "centre")
        self.names |= self.centre
        for buffer in plan.hoisted.buffers:
            letter = {"row": "r", "col": "c", "par": "q"}[buffer.name]
            for k, (slot, formula) in enumerate(zip(buffer.slots, buffer.formulas, strict=True)):
                self.names[slot] = self.names.get(formula) or f"{letter}{k}"

    def explanation(self) -> Explanation:
        plan, extent = self.plan, self.extent
        blocks = self._blocks()
        sizes = Extent((max(1, extent.batches),), max(1, extent.kept), max(1, extent.reduced))
        launch = cpu.launch_of(self.layout, sizes, None if self.pattern is None else max(1, blocks))
        sparse = None if self.pattern is None else self.pattern.pairs
        seconds = cpu.expected_seconds(self.layout, extent.batches, extent.kept, extent.reduced, sparse)
        threads = get_num_threads() if sum(seconds) >= ALONE_SECONDS else 1
        rate = peak.instructions_a_second(threads) * plan.schedule.lanes
        phases = {phase: s / threads for phase, s in zip(PHASES, seconds, strict=True)}
        padded = blocks * plan.schedule.filled * extent.reduced if self.pattern is None else self.pairs
        phases["tile"] = padded * plan.operations / (TYPICAL * rate)
        limit = self.pairs * plan.operations / rate
        scratch = (threads if launch.shared else 1) * sum(launch.scratch) if extent.pairs else 0
        lines = [
            ("formula", self._formula()),
            ("arrays", self._arrays()),
            ("packed", self._packed()),
            ("pair", self._pair()),
            ("distances", self._distances()),
            ("tile", self._tile()),
            ("work", self._work()),
        ]
        if self.pairs:
            lines += [
                ("tasks", (self._tasks(launch, blocks, threads),)),
                ("memory", (self._memory(launch, scratch),)),
                ("limit", (self._limit(limit, rate, threads),)),
                ("estimate", (self._estimate(phases, limit),)),
                ("measured", (self._measured(limit),)),
            ]
        return Explanation(
            f"{self.reduction.name} over the {self.reduced}s of {self._pairs(extent)}{self._taking_part()}",
            plan,
            self.pairs,
            plan.operations,
            scratch,
            threads,
            limit,
            phases,
            self.measured,
            tuple((label, texts) for label, texts in lines if texts),
            _graph(plan.hoisted, self.fold.axis, self.centre, f"{self.reduction.name} over {self.reduced}s"),
        )

    def _pairs(self, extent: Extent) -> str:
        lengths = [extent.reduced, extent.kept] if self.fold.axis == 0 else [extent.kept, extent.reduced]
        return " × ".join(map(str, [extent.batches, *lengths] if extent.batch else lengths)) + " pairs"

    def _taking_part(self) -> str:
        if self.pattern is None:
            return ""
        # Of bands whole blocks are computed, and each pair is looked at.
        return f", of which {self.pairs} {'are computed' if self.fold.reduction.conditions else 'take part'}"

    def _blocks(self) -> int:
        """Blocks of rows: of all batches, or of one that a pattern takes."""
        if self.pattern is None:
            return self.layout.blocks(self.extent.batches, self.extent.kept)
        return len(self.pattern.blocks(self.plan.schedule.block))

    # ---- what is computed
    def _formula(self) -> tuple[str, ...]:
        text = str(self.fold)
        if "…" in text:  # KeOps's notation would write it all out
            return (text,)
        names = {v: to_string(v) for v in self.fold.variables}
        return text, f"for KeOps: {', '.join(to_keops(f, names) for f in self.fold.formulas)}"

    def _arrays(self) -> tuple[str, ...]:
        sides = {"i": "rows", "j": "columns", "p": "parameters"}
        told = self.described or [o.type for o in self.route.operands]
        given = [f"{v}: {sides[v.attrs[0]]}, {text}" for v, text in zip(self.fold.variables, told, strict=False)]
        kinds = [self.plan.numbers.result if r.kind == "real" else "int64" for r in self.fold.results[: self.fold.reduction.public]]
        accumulation = getattr(self.reduction, "accumulation", None)
        sums = f", sums accumulated by {accumulation.name!r}" if accumulation else ""
        return *given, f"result: {' and '.join(kinds)}, by arithmetic in float{self.plan.bits}{sums}"

    def _packed(self) -> tuple[str, ...]:
        h = self.plan.hoisted
        batches = self.extent.batches
        sizes = self.layout.bytes(batches, self.layout.blocks(batches, self.extent.kept), self.extent.reduced, 1)
        several = " and batch" if self.extent.batch else ""
        once = (f"once a {self.kept}{several}", f"once a {self.reduced}{several}", "once a batch" if several else "once")
        return tuple(
            f"{when}: {self._contents(buffer)} ({_count(buffer.length, 'number')}, {_si(size, 'B')} in all)"
            for when, buffer, size in zip(once, (h.row, h.col, h.par), sizes, strict=False)
            if self.layout.packs(buffer)
        )

    def _contents(self, buffer: Buffer) -> str:
        def text(slot: Node, formula: Node) -> str:
            name, value = self.names[slot], to_string(formula, self.names)
            return value if name == value else f"{name} = {value}"

        return ", ".join(map(text, buffer.slots, buffer.formulas))

    def _pair(self) -> tuple[str, ...]:
        count = self.fold.reduction.conditions
        texts = [to_string(f, self.names) for f in self.plan.hoisted.body]
        conditions, texts = [f"where {condition}" for condition in texts[:count]], texts[count:]
        if len(texts) > self.reduction.formulas:  # the last is a bound of the first
            texts = [f"bound: {texts[1]}", f"then, where that is promising: {texts[0]}"]
        return *conditions, *texts

    def _distances(self) -> tuple[str, ...]:
        found = contraction(self.fold.oriented, self.fold.reduction, self.plan.bits)
        if isinstance(found, str):
            return (f"by differences: {found}",) if found else ()
        if self.extent.kept * self.extent.reduced < PAIRS_WORTH_CONTRACTING or min(self.extent[1:]) < ROWS_WORTH_CONTRACTING:
            enough = f"{PAIRS_WORTH_CONTRACTING} pairs and {ROWS_WORTH_CONTRACTING} rows and columns"
            return (f"by differences: to measure whether inner products lose nothing pays from {enough} on",)
        if found.scale is None:
            where = (
                "from a central point" if self.route.formulas == found.formulas else f"from the origin, which is among the {self.reduced}s"
            )
            return (f"by inner products {where}, as a lower bound that rules most pairs out, and by differences for the others",)
        measured = f"scale · (max |x - c|² + max |y - c|²) is {self.route.exponent:.3g} in these data"
        if self.route.centre is None:
            return (f"by differences: {measured}, more than {LARGEST_EXPONENT:g}, so that inner products would lose digits",)
        return (f"by inner products, half the work: {measured}, at most {LARGEST_EXPONENT:g}, so that they lose no digits",)

    # ---- how
    def _tile(self) -> tuple[str, ...]:
        s = self.plan.schedule
        other = {"row": self.kept, "column": self.reduced}
        reasons = (re.sub("row|column", lambda found: other[found[0]], reason) for reason in s.why)
        return (
            f"{s.family}: {s.rows} × {s.lanes} {self.kept}s and {_count(s.columns, self.reduced)} a step{', because' if s.why else ''}",
            *reasons,
        )

    def _tasks(self, launch: cpu.Launch, blocks: int, threads: int) -> str:
        blocks *= 1 if self.pattern is None else self.extent.batches
        parts = f", the {self.reduced}s of each in {launch.splits} parts" if launch.splits > 1 else ""
        made = f"{_count(blocks, 'block')} of {self.plan.schedule.block} {self.kept}s{parts}"
        return f"{made}, on {_count(threads, 'thread')}{'' if threads > 1 else ': waking another could take longer'}"

    def _work(self) -> tuple[str, ...]:
        h, s = self.plan.hoisted, self.plan.schedule
        column = h.col.length * self.layout.real_bytes
        again = 0.0 if h.row.length * s.group <= PRELOADED else h.row.length * self.layout.real_bytes / s.columns
        guarded = " to see whether it matters" if self.plan.reduction.guarded else ""
        shared = f"the {column} of a {self.reduced} serve {s.filled} {self.kept}s"
        rows = f", those of a {self.kept} {_count(s.columns, self.reduced)}" if again else f"; {self.kept}s stay in registers"
        return (
            f"{self.plan.operations:.3g} vector operations a pair{guarded}",
            f"{column / s.filled + again:.3g} bytes read a pair: {shared}{rows if h.row.length else ''}",
        )

    def _memory(self, launch: cpu.Launch, scratch: int) -> str:
        each = " for each thread" if launch.shared else ""
        at_once = launch.turns[0].batches
        turns = f", for {at_once} of {self.extent.batches} batches at a time{each}" if at_once < self.extent.batches else ""
        return f"{_si(scratch, 'B')} beside arrays and results{turns}"

    # ---- how fast
    def _limit(self, limit: float, rate: float, threads: int) -> str:
        return (
            f"{_si(limit, 's')} at best: in this process {_count(threads, 'thread')} reached {_si(rate, 'operations/s')} "
            f"in multiply-adds of {self.plan.schedule.lanes} lanes"
        )

    def _estimate(self, phases: dict[str, float], limit: float) -> str:
        total = sum(phases.values())
        longest = sorted(phases, key=lambda phase: -phases[phase])
        parts = ", ".join(f"{phase} {phases[phase] / total:.0%}" for phase in longest if phases[phase] > 0.005 * total)
        return f"{_si(total, 's')}, {limit / total:.0%} of the limit ({parts})"

    def _measured(self, limit: float) -> str:
        if self.measured is None:
            return "not yet: this kernel has not run in this process"
        then, pairs, seconds = self.measured
        share = limit * pairs / self.pairs / seconds
        sizes = "" if then == self.extent else f", for {self._pairs(then)}"
        return f"{_si(seconds, 's')} the last time, {share:.0%} of the limit, {_si(pairs / seconds, 'pairs/s')}{sizes}"


def _si(value: float, unit: str) -> str:
    """Three digits and a prefix: ``1.23 ms``."""
    factor, prefix = next(((f, p) for f, p in PREFIXES if value >= f * 0.9995), (1.0, ""))
    number = value / factor
    digits = 0 if number == int(number) else max(0, 2 - (number >= 9.995) - (number >= 99.95))
    return f"{number:.{digits}f} {prefix}{unit}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
