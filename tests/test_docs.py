"""The documentation's tables are those of the program, and what they say is true."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import scipy.interpolate  # type: ignore[import-untyped]
import scipy.special  # type: ignore[import-untyped]

from docs import generate, keops
from pairfold import ComplexLazyTensor, LazyTensor
from pairfold.formula.operators import OPERATORS
from pairfold.formula.parse import functions
from pairfold.reductions import REDUCTIONS

NAMES = [name for name, op in OPERATORS.items() if op.doc]  # the others are the planner's own


@pytest.mark.parametrize("name", generate.PAGES)
def test_the_pages_are_up_to_date(name):
    written = (generate.FOLDER / name).read_text(encoding="utf-8")
    assert written == generate.PAGES[name](), f"docs/{name} is not what the tables give: run python docs/generate.py"


def test_everything_is_on_a_page():
    for names, page in ((NAMES, "operators.md"), (REDUCTIONS, "reductions.md")):
        text = (generate.FOLDER / page).read_text(encoding="utf-8")
        assert sorted(re.findall(r"^\| `(\w+)`", text.partition("## Accumulation")[0], re.M)) == sorted(names)
        for row in re.findall(r"^\| `.*", text, re.M):
            assert len(re.split(r"(?<!\\)\|", row)) in (4, 8, 11), row


# ---- what the tables say, evaluated


def example(name: str, random) -> dict[str, np.ndarray]:
    """Operands of an operator: float64 vectors where it is smooth, those of more than one all different."""
    op = OPERATORS[name]
    dims = [a.dim for a in generate.example(op).args]
    found = {
        o: np.sort(random.uniform(0.15, 0.85, d)) * (1 + k / 7) for k, (o, d) in enumerate(zip(generate.operands(op), dims, strict=True))
    }
    if name == "bspline":  # between knots that all splines of the page reach
        found["at"] = found["knots"][2:4].mean(keepdims=True)
    return found


def evaluated(text: str, values: dict) -> np.ndarray:
    """A formula as Python has it: functions by the operators' names, of vectors, of which a number is one."""

    def function(op):
        operands = 9 if op.name == "concat" else len(generate.operands(op))
        return lambda *given: op.numpy(*(np.atleast_1d(v) if k < operands else v for k, v in enumerate(given)))

    functions = {name: function(OPERATORS[name]) for name in NAMES}
    functions["einsum"] = lambda axes, a, b, /, **lengths: OPERATORS["einsum"].numpy(a, b, axes, tuple(lengths.values()))
    return eval(text, {"__builtins__": {}, "inf": np.inf} | functions | values)


@pytest.mark.parametrize("name", NAMES)
def test_meaning(name, random):
    op, values = OPERATORS[name], example(name, random)
    if not generate.meaning(op):
        return  # no line of NumPy says it
    *before, last = generate.meaning(op).split("; ")
    known = {"np": np, "math": math, "scipy": scipy, "parts": tuple(values.values()), **values}
    for statement in before:
        exec(statement, known)
    vectorised = re.sub(r"math\.(erfc?|lgamma)\(", r"np.vectorize(math.\1)(", last)
    np.testing.assert_allclose(eval(vectorised, known), op.numpy(*values.values(), *generate.ATTRIBUTES.get(name, ())), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_derivative(name, random):
    """As printed, against central differences of the NumPy meaning."""
    op, values = OPERATORS[name], example(name, random)
    attributes = generate.ATTRIBUTES.get(name, ())

    def value(changed=None) -> np.ndarray:
        return np.asarray(op.numpy(*({**values, **(changed or {})}).values(), *attributes), dtype=float)

    y = value()
    g = random.normal(size=y.shape)
    texts = generate.derivative(op)
    assert len(texts) == len(values)
    for text, (operand, at) in zip(texts, values.items(), strict=True):
        if op.internal:
            continue  # of kinds of numbers that have no derivative
        if "…" in text:
            continue  # too long to be on the page
        found = evaluated(text, {**values, "y": y, "g": g})
        found = np.broadcast_to(found * g if op.partials else found, at.shape)
        wanted = np.zeros_like(at)
        for k in range(len(at)):
            step = np.zeros_like(at)
            step[k] = 1e-6
            wanted[k] = ((value({operand: at + step}) - value({operand: at - step})) * g).sum() / 2e-6
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6, err_msg=f"{name}, {operand}: {text}")


def cells(name: str) -> list[list[str]]:
    """The formulas in each cell of a reduction's row."""
    reduction = REDUCTIONS[name](K=2) if "Kmin" in name else REDUCTIONS[name]()
    return [[part.replace("\\|", "|") for part in re.findall("`([^`]*)`", cell)] for cell in generate.reduction_row(name, reduction)]


@pytest.mark.parametrize("name", [name for name in REDUCTIONS if "Kmin" not in name])
def test_reductions(name, random):
    """The formulas of a row, followed pair by pair, give the reduction's NumPy meaning, and its derivative by differences."""
    _, _, fields, lifted, combined, finished, _, gradient, _ = cells(name)
    reduction = REDUCTIONS[name]()
    f, w = random.normal(size=9), random.uniform(0.5, 1.5, 9)
    f[4] = f[2]  # a tie
    given = [f, w][: reduction.formulas]
    functions = {n: (lambda op: lambda *a: op.numpy(*map(np.float64, a)))(OPERATORS[n]) for n in NAMES}
    known = {"__builtins__": {}, "inf": np.inf, "nan": np.nan, **functions}

    def calculate(texts, values):
        return [float(eval(text, known | values)) for text in texts]

    partial = calculate([re.search(r"= ([-\w]+)", field)[1] for field in fields], {})
    for j in range(len(f)):
        one = calculate(lifted, {"F": f[j], "W": w[j], "j": j})
        named = {f"p{k}": v for k, v in enumerate(partial)} | {f"q{k}": v for k, v in enumerate(one)}
        partial[: len(combined)] = calculate(combined, named)
    results = calculate(finished, {f"p{k}": v for k, v in enumerate(partial)})

    def meaning(*values):
        return [float(r[0, 0]) for r in reduction.numpy(*(v[None, :, None] for v in values))]

    np.testing.assert_allclose(results[: reduction.public], meaning(*given), rtol=1e-12)
    if not gradient:
        return
    named = {f"r{k}": r for k, r in enumerate(results)} | {f"g{k}": float(k == 0) for k in range(len(results))}
    for which, text in enumerate(gradient):
        for j in range(len(f)):
            found = calculate([text], named | {"F": f[j], "W": w[j]})[0]
            step = np.eye(len(f))[j] * 1e-6
            ends = [meaning(*(v + sign * step if k == which else v for k, v in enumerate(given)))[0] for sign in (1, -1)]
            np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-7)


# ---- KeOps


def test_no_operator_of_keops_is_missing():
    known = {op.keops for op in OPERATORS.values()} | set(functions())
    assert [name for name in keops.OPERATORS if name not in known] == []
    page = (generate.FOLDER / "operators.md").read_text(encoding="utf-8")
    assert [name for name in keops.OPERATORS if f"`{name}`" not in page] == []


def test_no_reduction_of_keops_is_missing():
    assert [name for name, ours in keops.REDUCTIONS.items() if ours not in REDUCTIONS] == []


def test_no_method_of_keops_is_missing():
    assert [name for name in keops.METHODS if not hasattr(LazyTensor, name)] == []
    assert [name for name in keops.COMPLEX_METHODS if not hasattr(ComplexLazyTensor, name)] == []
