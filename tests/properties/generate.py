"""Random formulas with data on which they are well-conditioned: every operator applied is a formula of its own.

Made from `random.Random`, so that a seed says all; hypothesis and the long run share it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pairfold.formula.complex import OF_COMPLEX, Complex
from pairfold.formula.differentiate import vjp
from pairfold.formula.graph import I, J, Node, apply, const, var
from pairfold.formula.operators import OPERATORS, concat, extract
from tests.formula.meanings import ARITY as COMPLEX_ARITY
from tests.formula.meanings import MEANING
from tests.helpers import ARITY
from tests.properties.bounds import Bounds

Array = np.ndarray
INTERNAL = {"fmax", "fmin", "exp_of_rounded", "exp_closely", "exp_or_zero", "exp2", "exp2_middling", "exp2_or_zero"}  # made by the planner
NAMES = sorted(n for n, op in OPERATORS.items() if op.structure != "leaf" and not op.internal and n not in INTERNAL)
HEAVY = {"softdtw_sqdist", "polygamma", "lgamma", "digamma"}
WIDEST = 20  # components of a formula
LARGEST, ULPS = 1e3, 3e3  # what values and, in units in the last place, their errors may reach
TRIES = 12  # at operands that an operator takes well
LEAVES = 5  # variables of a case
STORED = ["int8", "uint8", "int32", "float16", "bool"]


@dataclass
class Case:
    """Formulas over variables, each a root of its own, and the data of the variables.

    Attributes
    ----------
    batch : tuple of int
    rows, columns : int
    dtype : str
        Of the arithmetic, and of most arrays.
    leaves : list of Node
    arrays : list of ndarray
        (…, rows, dim), (…, columns, dim) or (…, dim) for each leaf, their batch axes broadcasting to `batch`.
    roots : list of Node
    names : list of str
        The operators that were asked for, one a root.
    """

    batch: tuple[int, ...]
    rows: int
    columns: int
    dtype: str
    leaves: list[Node] = field(default_factory=list)
    arrays: list[Array] = field(default_factory=list)
    roots: list[Node] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def dense(self, leaf: Node, array: Array | None = None) -> Array:
        """A leaf's array as float64, its axes those of (…, M, N, dim)."""
        a = np.asarray(self.arrays[leaf.attrs[1]] if array is None else array, np.float64)
        return {"i": lambda: a[..., :, None, :], "j": lambda: a[..., None, :, :], "p": lambda: a[..., None, None, :]}[leaf.attrs[0]]()

    def bounds(self) -> Bounds:
        return Bounds({leaf: self.dense(leaf) for leaf in self.leaves}, self.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.batch, self.rows, self.columns)


def make_case(
    rng: random.Random,
    dtype: str,
    batch: tuple[int, ...],
    rows: int,
    columns: int,
    roots: int,
    components: int = 48,
    names: Sequence[str] = (),
) -> Case:
    """A case of so many roots with so many components in all; operators of `names` first, others as chance has it."""
    case = Case(batch, rows, columns, dtype)
    dim = rng.choice([1, 2, 3, 3, 4, rng.randint(5, 9), rng.randint(1, WIDEST)])
    for k in range(LEAVES):
        _add_leaf(rng, case, "ij"[k] if k < 2 else rng.choice("ijp"), rng.choice([dim, dim, 1]) if k else dim)
    bounds = case.bounds()
    pool = list(case.leaves)
    wanted = list(names)
    for _ in range(100 * roots):
        if len(case.roots) == roots:
            return case
        name = wanted[-1] if wanted else rng.choice(NAMES)
        room = components - sum(r.dim for r in case.roots) - (roots - len(case.roots) - 1)
        room = max(room, 4 if wanted else 1)
        for turn in range(TRIES):
            first = rng.choice(pool[-5:] if rng.random() < 0.5 else pool)
            if turn >= TRIES - 4:  # between 0 and 1 everything has a value
                first = apply("sigmoid", extract(first, 0, 1) if turn > TRIES - 3 else first)
                first = first if turn % 2 else first * 0.9
            if first.dim > room:
                first = extract(first, rng.randrange(first.dim - room + 1), room)
            made = (_shaped if name in SHAPED else _plain)(rng, name, first, pool)
            if made.dim <= min(room, WIDEST) and made not in case.roots and made not in pool and _fine(bounds, made):
                # What follows would be constant, or its derivatives singular.
                if np.ptp(bounds.value(made)) > 0 and _smooth(case, made):
                    pool.append(made)
                case.roots.append(made)
                case.names.append(name)
                if wanted:
                    wanted.pop()
                break
    raise RuntimeError(f"no {roots} formulas were found with {wanted}, only {case.roots}")


def make_complex_case(
    rng: random.Random, dtype: str, batch: tuple[int, ...], rows: int, columns: int, roots: int, components: int = 48
) -> Case:
    """A case of complex formulas, each as the real formula of its real parts, then its imaginary ones.

    That these mean what complex128 NumPy says is asserted here.
    """
    case = Case(batch, rows, columns, dtype)
    dim = rng.choice([1, 2, 3, 3, rng.randint(1, WIDEST // 2)])
    pool: list[tuple[Complex, Array]] = []
    for k in range(3):
        axis, own = "ij"[k] if k < 2 else rng.choice("ijp"), rng.choice([dim, dim, 1])
        for _ in range(2):
            _add_leaf(rng, case, axis, own, case.dtype)
        real, imag = case.leaves[-2:]
        pool.append((Complex(real, imag), case.dense(real) + 1j * case.dense(imag)))
    bounds = case.bounds()
    exact = Bounds({leaf: case.dense(leaf) for leaf in case.leaves}, "float64")
    for _ in range(100 * roots):
        if len(case.roots) == roots:
            return case
        name = rng.choice(sorted(OF_COMPLEX))
        room = components - sum(r.dim for r in case.roots) - 2 * (roots - len(case.roots) - 1)
        operands = [rng.choice(pool)]
        fitting = [p for p in pool if p[0].dim == operands[0][0].dim or p[0].dim == 1 and name != "concat"]
        operands += [rng.choice(fitting) for _ in range(COMPLEX_ARITY.get(name, 1) - 1)]
        made = OF_COMPLEX[name](*(z for z, _ in operands))
        vector = made if isinstance(made, Node) else made.vector
        if vector.dim > min(room, 2 * WIDEST) or vector in case.roots or not vector.axes or not _fine(bounds, vector):
            continue
        with np.errstate(all="ignore"):
            meant = np.asarray(MEANING[name](*(v for _, v in operands)))
        value, error = exact(vector)
        parts = meant if isinstance(made, Node) else np.concatenate([meant.real, meant.imag], -1)
        size = np.abs(meant) if isinstance(made, Node) else np.concatenate([np.abs(meant)] * 2, -1)
        wrong = ~(np.abs(value - parts) <= 4 * error + 16 * exact.eps * size)
        assert not wrong.any(), f"{name} of complex numbers: {vector} is not what NumPy has"
        case.roots.append(vector)
        case.names.append(f"complex {name}")
        if not isinstance(made, Node) and np.ptp(value) > 0 and _smooth(case, vector):
            pool.append((made, meant))
    raise RuntimeError(f"no {roots} complex formulas were found, only {case.roots}")


def _fine(bounds: Bounds, node: Node) -> bool:
    value, error = bounds(node)
    with np.errstate(invalid="ignore"):
        return bool((np.abs(value) <= LARGEST).all() and (error <= ULPS * bounds.eps * (1 + np.abs(value))).all())


def _smooth(case: Case, node: Node) -> bool:
    """Whether the gradient is well-conditioned too."""
    bounds = case.bounds()
    one = const(1)
    for gradient in vjp(node, case.leaves, one):
        if gradient is not None and not _fine(bounds, gradient):
            return False
    return True


def _add_leaf(rng: random.Random, case: Case, axis: str, dim: int, stored: str = "") -> None:
    k = len(case.leaves)
    case.leaves.append(var(axis, k, dim))
    own = list(case.batch[rng.randint(0, len(case.batch)) :]) if rng.random() < 0.5 else list(case.batch)
    own = [1 if rng.random() < 0.2 else n for n in own]
    lengths = {"i": [case.rows], "j": [case.columns], "p": []}[axis]
    shape = [*own, *lengths, dim]
    data = np.random.default_rng(rng.getrandbits(63))
    stored = stored or rng.choice(STORED) if stored or k >= 2 and rng.random() < 0.1 else case.dtype
    if stored.startswith(("int", "uint")):
        array = data.integers(0 if stored == "uint8" else -3, 4, shape).astype(stored)
    elif stored == "bool":
        array = data.random(shape) < 0.5
    else:  # away from 0, and exact in float32
        signs = data.choice([-1.0, 1.0], shape) if rng.random() < 0.6 else 1.0
        array = (data.uniform(0.2, 0.95, shape) * signs).astype(np.float32).astype(stored)
    if rng.random() < 0.15:  # other strides
        array = np.repeat(array, 2, axis=-1)[..., ::2] if rng.random() < 0.5 else np.asfortranarray(array)
    case.arrays.append(array)


def _plain(rng: random.Random, name: str, first: Node, pool: Sequence[Node]) -> Node:
    """An operator on operands that broadcast."""
    pairs = [n for n in pool if n.axes | first.axes == I | J]
    others = [rng.choice(pairs if pairs and rng.random() < 0.6 else pool) for _ in range(ARITY[name] - 1)]
    if name == "concat":
        first, *others = [extract(n, 0, rng.randint(1, min(n.dim, 9))) for n in (first, *others)]
    else:
        others = [n if n.dim in (1, first.dim) else extract(n, rng.randrange(n.dim), 1) for n in others]
    if name == "softmin":
        others[-1] = apply("square", extract(others[-1], 0, 1)) + 0.5
    attrs: tuple = ()
    if name == "powi":
        attrs = (rng.choice([-3, -2, 3, 4, 5]),)
    elif name in ("round", "round_away"):
        attrs = (rng.choice([-1, 0, 1, 2]),)
    elif name == "polygamma":
        attrs = (rng.randint(1, 3),)
    elif name == "matern":
        first, attrs = apply("square", first), (rng.randint(-2, 3),)
    elif name == "extract":
        start = rng.randrange(first.dim)
        attrs = (start, rng.randint(1, first.dim - start))
    elif name == "insert":
        start = rng.randint(0, 3)
        attrs = (start, first.dim + start + rng.randint(0, 3))
    elif name == "spread":
        attrs = (first.dim if first.dim > 1 else rng.randint(1, WIDEST),)
    operands = [first, *others]
    rng.shuffle(operands) if name != "softmin" else None
    return apply(name, *operands, attrs=attrs)


def _shaped(rng: random.Random, name: str, first: Node, pool: Sequence[Node]) -> Node:
    """An operator whose operands' dimensions follow rules of their own."""
    other = rng.choice(pool)
    d, e = first.dim, other.dim
    one = extract(first, rng.randrange(d), 1)
    if name == "arange":
        return apply(name, attrs=(d,)) - first
    if name == "one_hot":
        return apply(name, one * 3, attrs=(rng.randint(1, WIDEST),))
    if name in ("weightedsqnorm", "weightedsqdist"):
        short = extract(first, 0, min(d, 5))
        weights = rng.choice(
            [one, short, apply("tensorprod", short, short), concat(*[extract(n, 0, 1) for n in rng.choices(pool, k=short.dim**2)])]
        )
        if name == "weightedsqnorm":
            return apply(name, weights, short)
        return apply(name, weights, short, extract(other, 0, short.dim) if e >= short.dim else extract(other, 0, 1))
    if name == "cross":
        return apply(name, *(concat(*[extract(n, rng.randrange(n.dim), 1) for n in rng.choices(pool, k=3)]) for _ in range(2)))
    if name == "bspline":
        step = apply("square", one) + 0.25
        knots = concat(one - 2, one - 1.5, one * 0.5 - 0.5, one * 0.5 + 0.5, one * 0.5 + 0.5 + step, one * 0.5 + 1 + 2 * step)
        return apply(name, knots, extract(other, 0, 1), attrs=(rng.randint(0, 3),))
    if name == "softdtw_sqdist":
        return apply(name, extract(first, 0, min(d, 3)), extract(other, 0, min(e, 3)), apply("square", one) + 0.5)
    if name in ("matvecmult", "vecmatmult"):
        vector = extract(other, 0, min(e, 4))
        matrix = concat(*rng.choices([first, *(p for p in pool if p.dim == d)], k=vector.dim))
        return apply(name, matrix, vector) if name == "matvecmult" else apply(name, vector, matrix)
    if name == "take":
        rows = rng.randint(2, 4)
        part = extract(first, 0, min(d, 4))
        table = concat(part, *[concat(*[extract(n, 0, 1) for n in rng.choices(pool, k=part.dim)]) for _ in range(rows - 1)])
        return apply(name, table, apply("sigmoid", extract(other, rng.randrange(e), 1)) * rows, attrs=(part.dim,))
    a, b = extract(first, 0, min(d, rng.randint(1, 6))), extract(other, 0, min(e, rng.randint(1, 4)))
    d, e = a.dim, b.dim
    if name == "kron":
        return apply(name, a, b, attrs=rng.choice([((1, d), (e, 1)), ((d, 1), (e, 1)), ((d,), (e,))]))
    if name == "tensordot":
        tall = concat(a, *[extract(n, 0, 1) for n in rng.choices(pool, k=d)])
        ways = [
            (a, b, ((d,), (e,), (), (), (1, 0))),
            (tall, a, ((2, d), (d,), (1,), (0,))),
            (tall, tall, ((d, 2), (2, d), (1,), (0,), (1, 0))),
            (tall, tall, ((d, 2), (2, d), (0, 1), (1, 0))),
        ]
        a, b, attrs = rng.choice(ways)
        return apply(name, a, b, attrs=attrs)
    if name == "einsum":
        wide, two = concat(a, one), concat(a, one, a, one)
        n = d + 1
        ways = [(wide, wide, ("k,l->lk", (n, n))), (two, wide, ("kl,l->k", (2, n))), (two, wide, ("kl,l->kl", (2, n))),
                (two, two, ("kl,ml->km", (2, n, 2))), (two, two, ("kl,kl->l", (2, n)))]  # fmt: skip
        a, b, attrs = rng.choice(ways)
        return apply(name, a, b, attrs=attrs)
    return apply(name, a, b)  # all pairs of components


SHAPED = {"arange", "one_hot", "weightedsqnorm", "weightedsqdist", "cross", "bspline", "softdtw_sqdist", "matvecmult", "vecmatmult",
          "kron", "tensordot", "einsum", "tensorprod", "difference_matrix", "take"}  # fmt: skip
