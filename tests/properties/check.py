"""Checks a random case: its kernel's results, and its derivatives, against dense float64 NumPy within bounds that are proven.

A derivative is checked in two steps: its formula, dense, against differences of the formula's values, pair by pair; and what the
kernels give against the formula, dense.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from pairfold.arrays import backend_of
from pairfold.fold import make_fold
from pairfold.formula.differentiate import vjp
from pairfold.formula.graph import Node, apply, const, var
from pairfold.formula.operators import concat
from pairfold.reductions import ACCUMULATIONS, KMIN, REDUCTIONS, KminArgKmin, LogSumExp, Reduction, Selection, Sum
from pairfold.runtime.operand import Extent
from tests.properties.bounds import Array, Bounded, Bounds, values_of
from tests.properties.generate import Case, make_case, make_complex_case

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

H = 1e-4  # the step of differences
SHARP = 1e-3  # a bound says something up to here, relative to 1 and the value
# All reductions, those that sum with each way of accumulating.
KINDS = [(name, way) for name, r in REDUCTIONS.items() for way in (ACCUMULATIONS if issubclass(r, (Sum, LogSumExp)) else ("",))]
# Sums of complex formulas.
COMPLEX = "complex sum"
KINDS += [(COMPLEX, way) for way in ACCUMULATIONS]


class Setting(NamedTuple):
    """What is random about a case beside its formulas."""

    seed: int
    kind: tuple[str, str]
    axis: int
    dtype: str
    batch: tuple[int, ...]
    kept: int
    reduced: int
    roots: int = 24
    first: bool = True  # whether derivatives are computed by kernels
    second: bool = False
    names: tuple[str, ...] = ()


BATCHES = [(), (), (), (2,), (3, 2), (1, 2)]
KEPT = [1, 3, 5, 15, 16, 17, 33, 65, 70]
REDUCED = [1, 2, 3, 5, 8, 17, 31, 64, 65, 100]


@dataclass
class Tally:
    """What was checked."""

    formulas: int = 0
    operators: Counter[str] = field(default_factory=Counter)
    reductions: Counter[str] = field(default_factory=Counter)
    first_by_differences: int = 0
    first_by_kernel: int = 0
    second_by_differences: int = 0
    second_by_kernel: int = 0

    def add(self, other: Tally) -> None:
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)


class Wrong(AssertionError):
    """A result beyond its bound."""


def near(found: Array, wanted: Array, bound: Array, what: str) -> Array:
    """Raise where a result is beyond its bound; return where the bound is sharp."""
    if found.shape != wanted.shape:
        raise Wrong(f"{what}: shape {found.shape} where {wanted.shape} was expected")
    with np.errstate(invalid="ignore"):
        error = np.abs(found.astype(np.float64) - wanted)
        known = np.isfinite(wanted) & np.isfinite(bound)
        bad = known & ~(error <= bound)
    if bad.any():
        k = np.unravel_index(np.argmax(np.where(bad, error, -1)), bad.shape)
        place = tuple(int(n) for n in k)
        raise Wrong(f"{what}: {found[k]!r} where {wanted[k]!r} ± {bound[k]:.3g} was expected, at {place}; {bad.sum()} of {bad.size} wrong")
    return known & (bound <= SHARP * (1 + np.abs(wanted)))


def check(setting: Setting) -> Tally:
    """Make a case and check it.

    Raises
    ------
    Wrong
        Naming the first formula that is wrong.
    """
    if setting.kind[0] == "prod":  # of few factors: of many, it over- or underflows
        setting = setting._replace(reduced=1 + setting.reduced % 6)
    rng = random.Random(setting.seed)
    rows, columns = (setting.kept, setting.reduced) if setting.axis else (setting.reduced, setting.kept)
    if setting.kind[0] == COMPLEX:
        case = make_complex_case(rng, setting.dtype, setting.batch, rows, columns, setting.roots)
    else:
        case = make_case(rng, setting.dtype, setting.batch, rows, columns, setting.roots, names=setting.names)
    reduction = _reduction(rng, setting)
    tally = Tally()
    bounds = case.bounds()
    problem = Problem(case, bounds, reduction, setting.axis, *_formulas(rng, case, reduction, bounds))
    for k in problem.values(rng):
        tally.formulas += 1
        tally.operators[case.names[k]] += 1
        tally.reductions[" ".join(setting.kind).strip()] += 1
    sound = [k for k in range(len(case.roots)) if differences(rng, case, case.roots[k])]
    tally.first_by_differences += len(sound)
    if setting.first and sound and torch and problem.differentiable:
        tally.first_by_kernel += problem.part(sound).first(rng) * len(sound)
    if setting.second:
        few = rng.sample(sound, min(3, len(sound)))
        by_differences, by_kernel = second(rng, case, setting.axis, [case.roots[k] for k in few])
        tally.second_by_differences += by_differences
        tally.second_by_kernel += by_kernel
    return tally


def _reduction(rng: random.Random, setting: Setting) -> Reduction:
    name, way = setting.kind
    kind = Sum if name == COMPLEX else REDUCTIONS[name]
    if name in KMIN:
        return kind(rng.randint(1, min(4, setting.reduced)))  # type: ignore[call-arg]
    return kind(ACCUMULATIONS[way]) if way else kind()  # type: ignore[call-arg]


def _formulas(rng: random.Random, case: Case, reduction: Reduction, bounds: Bounds) -> tuple[list[Node], list[Node]]:
    """The roots, and positive weights where the reduction takes some."""
    if reduction.formulas == 1:
        return case.roots, []
    leaf = rng.choice(case.leaves[:2])
    weight = apply("square", apply("extract", leaf, attrs=(0, 1))) + 0.5
    bounds(weight)
    return case.roots, [weight]


def ways_to_sum(lengths: int, eps: float, reduction: Reduction, dtype: str, terms: Array, total: Array) -> Array:
    """The rounding of a sum of so many terms, given the sum of their magnitudes and the sum itself."""
    way = getattr(reduction, "accumulation", ACCUMULATIONS["block"]).name
    oracle = lengths * float(np.finfo(np.longdouble).eps) * terms
    if dtype == "float32" and way == "float64":
        return oracle + eps * np.abs(total) + lengths * 2.0**-52 * terms
    if way == "compensated":
        return oracle + 2 * eps * np.abs(total) + 4 * (lengths * eps) ** 2 * terms
    return oracle + (lengths + 2) * eps * terms


@dataclass
class Problem:
    """Roots of a case under a reduction."""

    case: Case
    bounds: Bounds
    reduction: Reduction
    axis: int
    roots: list[Node]
    weights: list[Node]

    @property
    def differentiable(self) -> bool:
        return "real" in self.reduction.results[: self.reduction.public]

    def part(self, chosen: Sequence[int]) -> Problem:
        return replace(self, roots=[self.roots[k] for k in chosen])

    @property
    def formulas(self) -> tuple[Node, ...]:
        return (concat(*self.roots), *self.weights)

    @property
    def extent(self) -> Extent:
        sizes = (self.case.rows, self.case.columns)
        return Extent(self.case.batch, sizes[1 - self.axis], sizes[self.axis])

    def pairs(self, formula: Node) -> Bounded:
        """Dense values and errors, (…, kept, reduced, dim)."""
        v, e = (np.broadcast_to(a, (*self.case.shape, formula.dim)) for a in self.bounds(formula))
        return (v, e) if self.axis else (v.swapaxes(-2, -3), e.swapaxes(-2, -3))

    # ---- values

    def values(self, rng: random.Random) -> list[int]:
        """Check the kernel's results; which roots were checked sharply somewhere."""
        case, dtype = self.case, self.case.dtype
        result = "float16" if rng.random() < 0.05 and dtype == "float32" else dtype
        fold, used = make_fold(self.formulas, self.reduction, self.axis)
        arrays = [case.arrays[k] for k in used] or [np.zeros(1, dtype)]
        results = backend_of(arrays[0]).results(fold, arrays[: len(used)], self.extent, result)
        f, e = self.pairs(self.formulas[0])
        weights = [self.pairs(w) for w in self.weights]
        sharp = np.zeros(f.shape[-1], bool)
        n = f.shape[-2]
        starts = np.cumsum([0, *(r.dim for r in self.roots)])
        places = self.reduction.K if isinstance(self.reduction, KminArgKmin) else 1
        shape = (*case.batch, self.extent.kept, places, f.shape[-1])
        for kind, got in zip(self.reduction.results[: self.reduction.public], results, strict=False):
            got = got.reshape(shape)
            for root, start in zip(self.roots, starts, strict=False):
                part = slice(start, start + root.dim)
                what = f"{self.reduction.name} of {root} along axis {self.axis}, {dtype}, {case.shape}"
                if kind == "index":
                    sharp[part] |= self._indices(got[..., part], f[..., part], e[..., part], what)
                    continue
                wanted, bound = self.expected(f[..., part], e[..., part], *weights)
                if result == "float16":
                    bound = np.where(np.abs(wanted) + bound < 6e4, bound + 2.0**-11 * (np.abs(wanted) + bound) + 2.0**-24, np.inf)
                ok = near(got[..., part], wanted, bound, what)
                sharp[part] |= (ok | (result == "float16") & np.isfinite(bound)).any((*range(ok.ndim - 1),))
        assert n == self.extent.reduced
        return [k for k, (s, r) in enumerate(zip(starts, self.roots, strict=False)) if sharp[s : s + r.dim].all()]

    def _indices(self, got: Array, f: Array, e: Array, what: str) -> Array:
        """Check the columns of the smallest or largest values: they are as good as the best, each once, in order; ties by number."""
        if got.dtype != np.int64 or got.min() < 0 or got.max() >= f.shape[-2]:
            raise Wrong(f"{what}: indices of type {got.dtype} from {got.min()} to {got.max()}")
        flat = f.reshape(-1, *f.shape[-2:])
        wanted = self.reduction.numpy(flat)[-1].reshape(got.shape)
        worst = np.broadcast_to(e, f.shape).max(-2, keepdims=True)
        near(np.take_along_axis(f, got, -2), np.take_along_axis(f, wanted, -2), np.broadcast_to(2 * worst, got.shape), what)
        if (np.diff(np.sort(got, -2), axis=-2) == 0).any():
            raise Wrong(f"{what}: a column is selected twice")
        certain = worst == 0
        if (np.broadcast_to(certain, got.shape) & (got != wanted)).any():
            raise Wrong(f"{what}: of equal values the first comes first")
        return np.ones(got.shape[-1], bool)

    def expected(self, f: Array, e: Array, *weights: Bounded) -> Bounded:
        """A reduction's real results and their bounds, (…, kept, places, dim)."""
        eps, n, name = self.bounds.eps, f.shape[-2], self.reduction.name
        dtype = self.case.dtype
        w, ew = weights[0] if weights else (np.ones((1,)), np.zeros((1,)))
        values = [a.reshape(-1, *a.shape[-2:]) for a in (f, *(w for w, _ in weights))]
        with np.errstate(all="ignore"):
            if name == "sum":  # compensated sums must be told from others
                wanted = f.astype(np.longdouble).sum(-2, keepdims=True).astype(np.float64)
                terms = np.abs(f).sum(-2, keepdims=True) + e.sum(-2, keepdims=True)
                return wanted, e.sum(-2, keepdims=True) + ways_to_sum(n, eps, self.reduction, dtype, terms, wanted) + self.bounds.tiny
            wanted = self.reduction.numpy(*values)[0].reshape(*f.shape[:-2], -1, f.shape[-1])
            if name == "prod":
                high = (np.abs(f) + e).prod(-2, keepdims=True)
                logs = np.log(np.abs(f) + e + self.bounds.tiny)
                limit = 0.9 * np.log(self.bounds.largest)  # no order of the factors over- or underflows
                inside = (np.maximum(logs, 0).sum(-2, keepdims=True) < limit) & (np.minimum(logs, 0).sum(-2, keepdims=True) > -limit)
                exact_zero = ((f == 0) & (e == 0)).any(-2, keepdims=True)
                bound = high - np.abs(wanted) + (n + 2) * eps * high + self.bounds.tiny
                return wanted, np.where(exact_zero, 0, np.where(inside, bound, np.inf))
            if isinstance(self.reduction, Selection):
                return wanted, np.broadcast_to(e.max(-2, keepdims=True), wanted.shape)
            # What is left has shares: exp(F) relative to the largest.
            top = f.max(-2, keepdims=True)
            share = np.exp(f - top) * (w if name == "logsumexp_weight" else 1)
            share = share / share.sum(-2, keepdims=True)
            own = eps * (n + 16 + 4 * np.abs(f - top))  # of a term, of its rescalings as the maximum rises, of the sum
            relative = np.expm1(e + own) + (ew / np.abs(w) if name == "logsumexp_weight" else 0)
            moved = (share * relative).sum(-2, keepdims=True) + n * self.bounds.tiny
            moved = np.where(moved < 0.1, 1.2 * moved, np.inf)
            if name == "sumsoftmaxweight":
                off = (share * relative * np.abs(w - wanted)).sum(-2, keepdims=True) * 1.2 + (share * ew).sum(-2, keepdims=True)
                rounding = (n + 16) * eps * (share * np.abs(w)).sum(-2, keepdims=True)
                return wanted, np.where(np.isfinite(moved), off + rounding + moved * off, np.inf)
            return wanted, moved + 4 * eps * (np.abs(wanted) + np.abs(top) + 1)

    # ---- derivatives

    def first(self, rng: random.Random) -> bool:
        """Check gradients computed by kernels; whether they could be checked."""
        case = self.case
        data = np.random.default_rng(rng.getrandbits(63))
        f, e = self.pairs(self.formulas[0])
        places = self.reduction.K if isinstance(self.reduction, KminArgKmin) else 1
        g = data.uniform(0.5, 1.5, (*f.shape[:-2], places, f.shape[-1])) * data.choice([-1, 1], (*f.shape[:-2], places, f.shape[-1]))
        g = g.astype(np.float32).astype(np.float64)
        g, cotangents = self.cotangents(f, e, g, *(self.pairs(w) for w in self.weights))
        leaves = dict(self._dense_leaves())
        gradients: dict[Node, list[Node]] = {}
        for k, (formula, (value, error)) in enumerate(zip(self.formulas, cotangents, strict=True)):
            cotangent = var("i", 70 + k, formula.dim)
            leaves[cotangent] = tuple(a if self.axis else a.swapaxes(-2, -3) for a in (value, error))
            for leaf, found in zip(case.leaves, vjp(formula, case.leaves, cotangent), strict=True):
                if found is not None:
                    gradients.setdefault(leaf, []).append(found)
        bounds = Bounds(leaves, case.dtype)
        wrt = [leaf for leaf in gradients if case.arrays[leaf.attrs[1]].dtype == case.dtype]
        if not wrt:
            return False
        wanted = {leaf: collected(case, leaf, [bounds(n) for n in gradients[leaf]], bounds.eps) for leaf in wrt}
        if not all(_sharp(*w) for w in wanted.values()):
            return False
        tensors = as_tensors(case, wrt)
        fold, used = make_fold(self.formulas, self.reduction, self.axis)
        results = backend_of(tensors[0]).results(fold, [tensors[k] for k in used], self.extent, case.dtype)
        out = results[0]
        found = torch.autograd.grad(out, [tensors[leaf.attrs[1]] for leaf in wrt], torch.tensor(g.reshape(out.shape)).to(out.dtype))
        try:
            for leaf, got in zip(wrt, found, strict=True):
                of = f"d {self.reduction.name} of {', '.join(map(str, self.roots))} along axis {self.axis}"
                what = f"{of} / d {leaf}, {case.dtype}, {case.shape}"
                near(got.numpy(), *wanted[leaf], what)
        except Wrong:
            for k in range(len(self.roots) if len(self.roots) > 1 else 0):  # the first that is wrong alone says more
                self.part([k]).first(rng)
            raise
        return True

    def _dense_leaves(self) -> Mapping[Node, Array | Bounded]:
        return {leaf: self.case.dense(leaf) for leaf in self.case.leaves}

    def cotangents(self, f: Array, e: Array, g: Array, *weights: Bounded) -> tuple[Array, list[Bounded]]:
        """The cotangents at each pair of the formulas, from those of the results; 0 where which pair is selected is uncertain."""
        eps, name, n = self.bounds.eps, self.reduction.name, f.shape[-2]
        with np.errstate(all="ignore"):
            if name == "sum":
                return g, [(np.broadcast_to(g, f.shape), np.zeros(f.shape))]
            if name == "prod":
                worst = np.log1p(e / np.abs(f)).sum(-2, keepdims=True)
                logs = np.abs(np.log(np.abs(f))).sum(-2, keepdims=True)
                g = np.where((logs < 30) & (worst < 0.1), g, 0)
                c = np.where(g == 0, 0, g * f.prod(-2, keepdims=True) / np.where(f == 0, 1, f))
                return g, [(c, np.abs(c) * 1.2 * (2 * worst + (n + 8) * eps))]
            if isinstance(self.reduction, Selection):
                return self._selected(f, e, g)
            w, ew = weights[0] if weights else (np.ones((1,)), np.zeros((1,)))
            if name == "sumsoftmaxweight":
                plain = Problem(self.case, self.bounds, LogSumExp(), self.axis, self.roots, [])
                (out, eo), (lse, el) = self.expected(f, e, *weights), plain.expected(f, e)
                share = np.exp(f - lse)
                rel = np.expm1(e + el + eps * (np.abs(f) + np.abs(lse) + 8))
                c, cw = share * g * (w - out), share * g
                wide = np.abs(c) * (rel + 8 * eps) + share * np.abs(g) * (1 + rel) * (ew + eo + eps * (np.abs(w) + np.abs(out)))
                return g, [(c, wide), summed(cw, np.abs(cw) * (rel + 4 * eps), w.shape[-1], eps)]
            out, eo = self.expected(f, e, *weights)
            share = np.exp(f - out)
            rel = np.expm1(e + eo + eps * (np.abs(f) + np.abs(out) + 8))
            c = g * share * w
            found = [(c, np.abs(c) * (rel + ew / np.abs(w) + 4 * eps))]
            if weights:
                found.append(summed(g * share, np.abs(g * share) * (rel + 4 * eps), w.shape[-1], eps))
            return g, found

    def _selected(self, f: Array, e: Array, g: Array) -> tuple[Array, list[Bounded]]:
        places = g.shape[-2]
        order = np.argsort(-f if getattr(self.reduction, "largest", False) else f, axis=-2, kind="stable")
        ranked = np.take_along_axis(f, order, -2)[..., : places + 1, :]
        worst = np.broadcast_to(e, f.shape).max(-2, keepdims=True)
        gaps = np.abs(np.diff(ranked, axis=-2)).min(-2, keepdims=True) if ranked.shape[-2] > 1 else np.full_like(worst, np.inf)
        g = np.where((worst == 0) | (gaps > 2 * worst), g, 0)
        c = np.zeros(f.shape)
        np.put_along_axis(c, order[..., :places, :], g, -2)
        return g, [(c, np.zeros(f.shape))]


def summed(c: Array, e: Array, dim: int, eps: float) -> Bounded:
    """A cotangent of an operand of dimension 1 that was broadcast."""
    if dim == c.shape[-1]:
        return c, e
    return c.sum(-1, keepdims=True), e.sum(-1, keepdims=True) + c.shape[-1] * eps * np.abs(c).sum(-1, keepdims=True)


def collected(case: Case, leaf: Node, parts: Sequence[Bounded], eps: float) -> Bounded:
    """The gradient of a leaf's array from those at the pairs: summed over what the array does not have."""
    shape = case.arrays[leaf.attrs[1]].shape
    value, error = (np.broadcast_to(sum(p[k] for p in parts), (*case.shape, leaf.dim)) for k in (0, 1))
    size = sum(np.broadcast_to(np.abs(p[0]), (*case.shape, leaf.dim)) for p in parts)
    axes = {"i": (-2,), "j": (-3,), "p": (-2, -3)}[leaf.attrs[0]]
    value, error, size = (_sum_to(a.sum(axes), shape) for a in (value, error, size))
    with np.errstate(invalid="ignore"):
        return value, error + (case.rows + case.columns + 16) * eps * (size + error)


def _sum_to(a: Array, shape: tuple[int, ...]) -> Array:
    a = a.sum(tuple(range(a.ndim - len(shape))))
    return a.sum(tuple(k for k, n in enumerate(shape) if n == 1 and a.shape[k] > 1), keepdims=True)


def _sharp(value: Array, bound: Array) -> bool:
    return bool((np.isfinite(bound) & (bound <= SHARP * (1 + np.abs(value).max()))).all())


def as_tensors(case: Case, wrt: Sequence[Node]) -> list[torch.Tensor]:
    return [
        torch.as_tensor(a.copy() if any(s <= 0 for s in a.strides) else a).requires_grad_(leaf in wrt)
        for leaf, a in zip(case.leaves, case.arrays, strict=True)
    ]


# ---- differences


def differences(rng: random.Random, case: Case, root: Node, more: Mapping[Node, Array] = {}) -> bool:
    """Check a formula's gradient, dense, against differences along a random direction; whether it could be checked.

    Where differences of two steps do not agree, or those of the two sides, there is a kink or too much curvature to tell.
    """
    data = np.random.default_rng(rng.getrandbits(63))
    cotangent = var("i", 90, root.dim)
    leaves = {**more, **{leaf: case.dense(leaf) for leaf in case.leaves}}
    weights = data.uniform(0.5, 1.5, root.dim).reshape(1, 1, -1)
    wrt = [leaf for leaf, g in zip(case.leaves, vjp(root, case.leaves, cotangent), strict=True) if g is not None]
    found = [g for g in vjp(root, wrt, cotangent) if g is not None]
    single = Bounds({**leaves, cotangent: weights}, case.dtype)
    for g in found:
        value, error = single(g)
        with np.errstate(invalid="ignore"):
            if not ((np.abs(value) < 1e5) & (error <= SHARP * (1 + np.abs(value)))).all():
                return False
    bounds = Bounds({**leaves, cotangent: weights}, "float64")
    paths = {leaf: data.choice([-1, 1], leaves[leaf].shape) * data.uniform(0.5, 1, leaves[leaf].shape) for leaf in wrt}

    def moved(t: float) -> dict[Node, Array]:
        return {leaf: leaves[leaf] + t * path for leaf, path in paths.items()}

    def along(t: float) -> Array:
        return (values_of(root, {**leaves, **moved(t)}) * weights).sum(-1)

    def rounding(t: float) -> Array:
        there = {leaf: (value, 2.0**-52 * np.abs(value)) for leaf, value in moved(t).items()}  # moving a leaf rounds it
        size, error = Bounds({**leaves, **there}, "float64")(root)
        return ((error + 2.0**-52 * (root.dim + 2) * np.abs(size)) * weights).sum(-1)

    with np.errstate(all="ignore"):
        centre, (ahead, behind), (near_ahead, near_behind) = along(0), (along(H), along(-H)), (along(H / 2), along(-H / 2))
        coarse, fine = (ahead - behind) / (2 * H), (near_ahead - near_behind) / H
        bend, near_bend = ((a - 2 * centre + b) / h for a, b, h in ((ahead, behind, H), (near_ahead, near_behind, H / 2)))
        noise = np.maximum(rounding(0), np.maximum(rounding(H), rounding(-H))) / H
        doubt = np.abs(fine - coarse) + np.abs(2 * near_bend - bend) + 8 * noise
        slopes = [(bounds(g), paths[leaf]) for leaf, g in zip(wrt, found, strict=True)]
        got = sum(((v * p).sum(-1) for (v, _), p in slopes), np.zeros(()))
        doubt = doubt + sum((((e + 2.0**-48 * np.abs(v)) * np.abs(p)).sum(-1) for (v, e), p in slopes), np.zeros(()))
        wanted = fine + (fine - coarse) / 3
        # A saw finer than the steps is not seen by differences: nothing may jump within the box of the steps.
        box = Bounds({**leaves, cotangent: weights, **{leaf: (leaves[leaf], H * np.abs(path)) for leaf, path in paths.items()}}, "float64")
        for formula in (root, *found):
            box(formula)
        told = (doubt <= SHARP * (1 + np.abs(wanted))) & ~box.jumps()
    got, wanted, doubt = np.broadcast_arrays(got, wanted, np.where(told, doubt, np.inf))
    near(got, wanted, doubt, f"derivative of {root}")
    return bool(told.mean() > 0.25)


def second(rng: random.Random, case: Case, axis: int, roots: Sequence[Node]) -> tuple[int, int]:
    """Check second derivatives of sums: of their formulas, and by kernels; for how many roots they could be checked."""
    data = np.random.default_rng(rng.getrandbits(63))
    checked, by_kernel = 0, 0
    for root in roots:
        kept = "ij"[1 - axis]
        cotangent = var(kept, 80, root.dim)
        sizes = {"i": (case.rows,), "j": (case.columns,)}[kept]
        g = data.uniform(0.5, 1.5, (*case.batch, *sizes, root.dim)).astype(np.float32)
        float_leaves = [leaf for leaf in case.leaves if case.arrays[leaf.attrs[1]].dtype == case.dtype]
        first = [(leaf, n) for leaf, n in zip(float_leaves, vjp(root, float_leaves, cotangent), strict=True) if n is not None]
        more = {cotangent: case.dense(cotangent, g)}
        total: Node | None = None
        pushed = {}
        for leaf, gradient in first:
            q = var(leaf.attrs[0], 81 + leaf.attrs[1], leaf.dim)
            pushed[leaf] = data.uniform(0.5, 1.5, case.arrays[leaf.attrs[1]].shape).astype(np.float32)
            more[q] = case.dense(leaf, pushed[leaf])
            term = apply("dot", q, gradient)
            total = term if total is None else total + term
        if total is None or not total.axes or not differences(rng, case, total, more):
            continue
        wrt = [(leaf, n) for leaf, n in zip(float_leaves, vjp(total, float_leaves, const(1)), strict=True) if n is not None]
        checked += bool(wrt)
        if not torch or not wrt:
            continue
        bounds = Bounds({**more, **{leaf: case.dense(leaf) for leaf in case.leaves}}, case.dtype)
        wanted = {leaf: collected(case, leaf, [bounds(n)], bounds.eps) for leaf, n in wrt}
        if not all(_sharp(*w) for w in wanted.values()):
            continue
        tensors = as_tensors(case, float_leaves)
        extent = Problem(case, bounds, Sum(), axis, [root], []).extent
        fold, used = make_fold((root,), Sum(), axis)
        (out,) = backend_of(tensors[0]).results(fold, [tensors[k] for k in used], extent, case.dtype)
        grads = torch.autograd.grad(out, [tensors[leaf.attrs[1]] for leaf, _ in first], torch.as_tensor(g).to(out.dtype), create_graph=True)
        pairing = sum((d * torch.as_tensor(pushed[leaf]).to(d.dtype)).sum() for d, (leaf, _) in zip(grads, first, strict=True))
        found = torch.autograd.grad(pairing, [tensors[leaf.attrs[1]] for leaf, _ in wrt], allow_unused=True)
        for (leaf, _), got in zip(wrt, found, strict=True):
            value, bound = wanted[leaf]
            near(
                np.zeros(value.shape) if got is None else got.numpy(),
                value,
                bound,
                f"second derivative of sum of {root} along axis {axis} / d {leaf}, {case.dtype}, {case.shape}",
            )
        by_kernel += 1
    return checked, by_kernel


def random_setting(rng: random.Random, **given: object) -> Setting:
    """As hypothesis draws one, from a random number generator."""
    chosen = {"seed": rng.getrandbits(48), "kind": rng.choice(KINDS), "axis": rng.randrange(2), "dtype": rng.choice(["float32", "float64"]),
              "batch": rng.choice(BATCHES), "kept": rng.choice(KEPT), "reduced": rng.choice(REDUCED)}  # fmt: skip
    return Setting(**{**chosen, **given})  # type: ignore[arg-type]
