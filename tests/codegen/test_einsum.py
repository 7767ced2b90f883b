"""Products of tensors, written out and in loops, alone and one behind the other, against NumPy's einsum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairfold.formula.differentiate import vjp
from pairfold.formula.graph import Node, apply, var
from pairfold.formula.operators import OPERATORS, concat, einsum, extract
from pairfold.formula.operators_tensor import products
from pairfold.formula.reference import evaluate
from pairfold.plan.plan import Numbers, make_plan
from pairfold.plan.schedule import MOST_WRITTEN_OUT
from pairfold.reductions import REDUCTIONS, Sum
from pairfold.runtime.cuda import MACHINE
from tests.codegen import one_thread
from tests.device import DEVICE
from tests.helpers import compute, dense, expected

AXES = [
    ("ab", "b", "a"), ("a", "ab", "b"), ("ba", "b", "a"), ("ab", "ba", ""), ("ab", "bc", "ac"), ("ab", "bc", "ca"), ("ab", "cb", "ca"),
    ("a", "b", "ab"), ("a", "b", "ba"), ("abc", "b", "ca"), ("ab", "ab", "a"), ("ab", "ab", "ba"), ("abc", "cad", "db"), ("", "ab", "ba"),
    ("abcd", "cb", "da"), ("ac", "bd", "abcd"), ("a", "a", ""), ("a", "a", "a"),
]  # fmt: skip
EXAMPLES = 20 if DEVICE == "cuda" else 60  # there each has kernels of its own, which NVIDIA's assembler takes seconds for
relaxed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


def arrays(rows: int, columns: int, dims: dict[int, tuple[str, int]], dtype: str, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = [{"i": (rows, d), "j": (columns, d), "p": (d,)}[axis] for axis, d in (dims[k] for k in sorted(dims))]
    return [random.uniform(-1, 1, s).astype(np.float32).astype(dtype) for s in shapes]


def check(formula: Node, data: list[np.ndarray], axis: int, terms: int) -> None:
    dtype = data[0].dtype
    (found,), (wanted,) = (f([formula], Sum(), axis, data) for f in (compute, expected))
    pair = dense(formula, data)
    bound = (terms + 80) * np.finfo(dtype).eps * (np.abs(pair).sum(axis) + terms * pair.shape[axis])
    assert np.all(np.abs(found - wanted) <= bound)


@given(st.sampled_from(AXES), st.data(), st.sampled_from(["float32", "float64"]))
@relaxed
def test_einsum(axes, more, dtype):
    letters = sorted(set("".join(axes)))
    extents = {c: more.draw(st.sampled_from([1, 2, 3, 4, 5, 7, 9])) for c in letters}
    if more.draw(st.booleans()):  # long enough for loops
        extents[more.draw(st.sampled_from(letters))] = more.draw(st.sampled_from([60, 129, 200]))
    left, right, out = (math.prod(extents[c] for c in s) for s in axes)
    places = more.draw(st.sampled_from(["ij", "ji", "pi", "ip", "pj", "ii"]))
    if max(left, right, out) > 4000:
        return
    dims = {0: (places[0], left), 1: (places[1], right)}
    a, b = (var(axis, k, d) for k, (axis, d) in dims.items())
    # Operands that are not simply there: concatenations and functions of vectors.
    a = more.draw(st.sampled_from([a, a * 2 - 1, apply("relu", a)]))
    if right > 2:
        b = more.draw(st.sampled_from([b, concat(extract(b, 2, right - 2), extract(b, 0, 2))]))
    formula = einsum(a, b, axes, extents)
    data = arrays(3, 2, dims, dtype)
    text = f"...{axes[0]},...{axes[1]}->...{axes[2]}"
    x, y = (evaluate(v, data).reshape(*evaluate(v, data).shape[:2], *(extents[c] for c in s)) for v, s in zip((a, b), axes, strict=False))
    wanted = np.einsum(text, x, y)
    np.testing.assert_allclose(evaluate(formula, data).reshape(wanted.shape), wanted, rtol=1e-12, atol=1e-12)
    check(formula, data, more.draw(st.integers(0, 1)), math.prod(extents.values()) // out * 3)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("widths", [(3, 16, 16, 1), (2, 5, 30, 3), (30, 40, 1), (9, 64, 70, 64, 2)])
def test_layers(widths, axis, dtype="float32"):
    """Each reads the other's vector, through a function: what loops compute is stored, what is written out is not."""
    dims = {0: ("i", widths[0]), 1: ("j", widths[0])}
    layers = []
    for m, n in zip(widths[:-1], widths[1:], strict=True):
        k = len(dims)
        dims |= {k: ("p", m * n), k + 1: ("p", n)}
        layers.append((var("p", k, m * n), var("p", k + 1, n)))
    value = var("i", 0, widths[0]) - var("j", 1, widths[0])
    for weights, bias in layers:
        value = apply("matvecmult", weights, apply("tanh", value)) + bias
    data = arrays(37, 11, dims, dtype)
    data = [d / np.sqrt(d.shape[-1]).astype(dtype) if k > 1 else d for k, d in enumerate(data)]
    check(value, data, axis, 20)
    gradients = [g for g in vjp(value, [*layers[0], layers[-1][0], var("j", 1, widths[0])], var("i", len(data), 1)) if g is not None]
    data.append(np.random.default_rng(1).uniform(0.5, 1, (37, 1)).astype(dtype))
    check(concat(*gradients), data, axis, 200)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("dim", [3, 8, 25])
def test_on_a_gpu(dim, bits, random):
    """Its code, run by one thread on the CPU: long vectors are in memory of its own."""
    x, y, w = var("i", 0, dim), var("j", 1, dim), var("p", 2, dim)
    product = apply("tensorprod", x, apply("sin", y))
    formula = apply("sum", apply("relu", product)) * apply("matvecmult", w, apply("matvecmult", product, y - x))
    assert (products(apply("einsum", x, y, attrs=("k,l->kl", (dim, dim)))) > MOST_WRITTEN_OUT) == (dim == 25)
    arrays = [a.astype(f"f{bits // 8}") for a in (random.normal(size=(9, dim)), random.normal(size=(11, dim)), random.normal(size=dim))]
    plan = make_plan((formula,), Sum(), Numbers(bits, (f"float{bits}",) * 3, f"float{bits}"), MACHINE)
    (found,) = one_thread.run(plan, arrays, 11)
    wanted = dense(formula, arrays).sum(1)[: plan.schedule.rows]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=(1e-5 if bits == 32 else 1e-13) * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["max", "logsumexp", "argKmin", "Kmin", "argmax"])
def test_reductions_of_large_products(name):
    """Reductions with guards and with partials in memory."""
    x, y, w = var("i", 0, 25), var("j", 1, 25), var("p", 2, 25 * 25)
    formula = apply("dot", apply("matvecmult", w, x - y), apply("tanh", apply("vecmatmult", x, w) + y))
    assert any(products(n) > MOST_WRITTEN_OUT for n in [apply("einsum", w, x, attrs=("ab,b->a", (25, 25)))])
    data = arrays(30, 70, {0: ("i", 25), 1: ("j", 25), 2: ("p", 625)}, "float64")
    kind = REDUCTIONS[name]
    reduction = kind(3) if "K" in name else kind()
    for found, wanted in zip(compute([formula], reduction, 1, data), expected([formula], reduction, 1, data), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_simplest_form():
    a, b = var("i", 0, 6), var("j", 1, 6)
    two = {"a": 2, "b": 3}
    assert einsum(a, b, ("ab", "ab", ""), two) is apply("dot", a, b)
    assert einsum(a, b, ("ab", "ab", "ab"), two) is a * b
    assert einsum(a, b, ("ab", "c", "abc"), two | {"c": 6}) is einsum(a, b, ("a", "b", "ab"), {"a": 6, "b": 6})
    assert einsum(a, b, ("abd", "ac", "dbc"), {"a": 1, "b": 2, "c": 6, "d": 3}).attrs == ("kl,m->lkm", (2, 3, 6))
    assert einsum(a, var("p", 2, 1), ("ab", "c", "cab"), two | {"c": 1}) is a * var("p", 2, 1)


def test_meanings_are_numpys(random):
    a, b = random.normal(size=(4, 1, 24)), random.normal(size=(1, 5, 12))
    kron = OPERATORS["kron"].numpy(a, b, (2, 3, 4), (3, 2, 2))
    dot = OPERATORS["tensordot"].numpy(a, b, (2, 3, 4), (4, 3), (1, 2), (1, 0))
    moved = OPERATORS["tensordot"].numpy(a, b, (6, 4), (3, 4), (1,), (1,), (1, 0))
    for i in range(4):
        for j in range(5):
            x, y = a[i, 0], b[0, j]
            np.testing.assert_allclose(kron[i, j], np.kron(x.reshape(2, 3, 4), y.reshape(3, 2, 2)).ravel(), rtol=1e-14)
            np.testing.assert_allclose(dot[i, j], np.tensordot(x.reshape(2, 3, 4), y.reshape(4, 3), ((1, 2), (1, 0))).ravel(), rtol=1e-13)
            np.testing.assert_allclose(moved[i, j], (x.reshape(6, 4) @ y.reshape(3, 4).T).T.ravel(), rtol=1e-13)
