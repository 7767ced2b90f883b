"""Write the tables of the documentation from the tables of the program: ``python docs/generate.py``."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import pairfold
from docs import keops
from pairfold import LazyTensor, formula
from pairfold.arrays.base import STORED
from pairfold.formula.differentiate import vjp
from pairfold.formula.graph import Node, apply, slot, to_string, var
from pairfold.formula.operator import OPERATORS, Operator, bare
from pairfold.formula.parse import functions
from pairfold.formula.simplify import expand, simplify
from pairfold.reductions import ACCUMULATIONS, REDUCTIONS, Reduction, Selection

FOLDER = Path(__file__).parent
HEADER = "<!-- Written by docs/generate.py: edit the tables of the program instead. -->\n"
DIM = 3  # of the vectors in examples
LONGEST = 240  # text of a formula in a table

# Attributes to show an operator with, where it has any, and dimensions of its operands, where any will not do.
ATTRIBUTES: dict[str, tuple[Any, ...]] = {
    "exp_of_rounded": (1,), "exp_closely": (1,),
    "powi": (3,), "round": (2,), "round_away": (2,), "polygamma": (2,), "matern": (1,), "index": (7,), "take": (2,),
    "extract": (1, 2), "insert": (1, 5), "spread": (3,), "arange": (3,), "one_hot": (3,),
    "bspline": (2,), "einsum": ("kl,l->k", (2, 3)), "kron": ((1, 3), (3, 1)), "tensordot": ((2, 3), (3,), (1,), (0,)),
}  # fmt: skip
DIMS: dict[str, tuple[int, ...]] = {
    "spread": (1,), "one_hot": (1,), "take": (6, 1), "bspline": (6, 1),
    "weightedsqnorm": (9, 3), "weightedsqdist": (9, 3, 3), "softdtw_sqdist": (3, 3, 1),
    "einsum": (6, 3), "matvecmult": (6, 3), "vecmatmult": (3, 6), "tensordot": (6, 3),
}  # fmt: skip
# What the example means, where the record's own words take more than a line.
MEANINGS = {
    "lgamma": "scipy.special.gammaln(a)",
    "digamma": "scipy.special.digamma(a)",
    "polygamma": "scipy.special.polygamma(2, a)",
    "matern": "(1 + np.sqrt(a)) * np.exp(-np.sqrt(a))",
    "softmin": "-scale * scipy.special.logsumexp([-a / scale, -b / scale, -c / scale], axis=0)",
    "weightedsqnorm": "a @ s.reshape(3, 3) @ a",
    "weightedsqdist": "(a - b) @ s.reshape(3, 3) @ (a - b)",
    "bspline": "scipy.interpolate.BSpline.design_matrix(at, knots, 2).toarray()[0]",
    "take": "table.reshape(3, 2)[int(number[0])]",
    "softdtw_sqdist": "",
    "einsum": "np.einsum('kl,l->k', a.reshape(2, 3), b)",
    "matvecmult": "a.reshape(2, 3) @ v",
    "vecmatmult": "v @ a.reshape(3, 2)",
    "tensorprod": "np.outer(a, b).ravel()",
    "difference_matrix": "np.subtract.outer(a, b).ravel()",
    "kron": "np.kron(a.reshape(1, 3), b.reshape(3, 1)).ravel()",
    "tensordot": "np.tensordot(a.reshape(2, 3), b, ((1,), (0,)))",
}


# ---- what the sources say


@cache
def calls() -> dict[str, dict[str, ast.expr]]:
    """For each operator, the arguments it was made with, as they are written, by the parameters' names."""
    found = {}
    for module in modules():
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args and isinstance(node.args[0], ast.Constant):
                name, maker = node.args[0].value, getattr(module, node.func.id, None)
                if name in OPERATORS and callable(maker):
                    given = {k.arg: k.value for k in node.keywords if k.arg}
                    arguments = inspect.signature(maker).bind_partial(*node.args, **given).arguments
                    if "numpy" in arguments:
                        found[name] = arguments
    return found


@cache
def modules() -> tuple[Any, ...]:
    """The modules of formulas."""
    return tuple(importlib.import_module(f"pairfold.formula.{m.name}") for m in pkgutil.iter_modules(formula.__path__))


@cache
def definitions() -> dict[str, ast.stmt]:
    """What is defined by name beside the tables."""
    found: dict[str, ast.stmt] = {}
    for module in modules():
        for statement in ast.parse(inspect.getsource(module)).body:
            if isinstance(statement, ast.FunctionDef):
                found[statement.name] = statement
            elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                found[statement.targets[0].id] = statement
    return found


class _Spelt(ast.NodeTransformer):
    """Attributes replaced by those of the example, and functions made by np.vectorize by the function of one number."""

    def __init__(self, attributes: Mapping[str, Any]):
        self.attributes = attributes

    def visit_Name(self, node: ast.Name) -> ast.expr:  # noqa: N802
        if node.id in self.attributes:
            return ast.Constant(self.attributes[node.id])
        made = definitions().get(node.id)
        if isinstance(made, ast.Assign) and isinstance(made.value, ast.Call) and ast.unparse(made.value.func) == "np.vectorize":
            return made.value.args[0]
        return node


def meaning(op: Operator) -> str:
    """What an operator means, as it is written in its record: an expression in NumPy, with the attributes of the example."""
    if op.name in MEANINGS:
        return MEANINGS[op.name]
    tree: Any = calls()[op.name]["numpy"]
    made = definitions().get(tree.id) if isinstance(tree, ast.Name) else None
    function = made if isinstance(made, ast.FunctionDef) else tree if isinstance(tree, ast.Lambda) else None
    attributes = ATTRIBUTES.get(op.name, ())
    if function is None:
        return f"{ast.unparse(_Spelt({}).visit(tree))}({', '.join([*operands(op), *map(str, attributes)])})"
    spelt = _Spelt(dict(zip([a.arg for a in function.args.args][len(operands(op)) :], attributes, strict=False)))
    if isinstance(function, ast.Lambda):
        return ast.unparse(spelt.visit(function.body))
    *before, last = map(spelt.visit, function.body)
    return "; ".join(map(ast.unparse, [*before, last.value]))


def operands(op: Operator) -> list[str]:
    """What the operands are called: as in the record, or a, b … where that does not name them."""
    if isinstance(op.numpy, np.ufunc):
        return list("abc"[: op.numpy.nin])
    function = op.numpy.pyfunc if isinstance(op.numpy, np.vectorize) else op.numpy
    parameters = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return ["a", "b"]
    if not function.__module__.startswith("pairfold"):
        return list("abc"[: len(parameters)])
    return [p.name for p in parameters[: len(parameters) - len(ATTRIBUTES.get(op.name, ()))]]


# ---- formulas to show


def example(op: Operator) -> Node:
    """The operator applied to variables."""
    attributes = ATTRIBUTES.get(op.name, ())
    dims = DIMS.get(op.name, (DIM,) * len(operands(op)))
    return apply(op.name, *(var("p", k, d) for k, d in enumerate(dims)), attrs=attributes)


def names(op: Operator, node: Node) -> dict[Node, str]:
    """What the operands and the value of an example are called."""
    return dict(zip(node.args, operands(op), strict=True)) | {node: "y"}


def derivative(op: Operator) -> list[str]:
    """For each operand the derivative, a formula of the operands and of the value y; or, where components move, the gradient for g."""
    node = example(op)
    shown = names(op, node)
    if op.partials:
        return ["0" if p is None else to_string(p, shown) if isinstance(p, Node) else f"{p:g}" for p in op.partials(node)]
    g = var("p", len(node.args), node.dim)
    shown[g] = "g"
    if op.transpose:
        return ["0" if back is None else to_string(back, shown) for back in op.transpose(node, g)]
    return ["0" if found is None else to_string(found, shown) for found in vjp(node, list(node.args), g)]


def public(op: Operator) -> bool:
    """Whether users write it: as a symbol, a method or a function."""
    if not op.doc or op.internal:
        return False
    text = op.show(tuple(operands(op)), ATTRIBUTES.get(op.name, ()))
    return not text.startswith(op.name) or hasattr(LazyTensor, op.name) or hasattr(pairfold, op.name)


# ---- tables


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    return "\n".join([line(heads), line(["---"] * len(heads)), *map(line, rows)]) + "\n"


def code(text: str) -> str:
    """A text as code, in a cell of a table."""
    text = text.replace("|", "\\|").replace("\n", " ")
    return f"`{text}`" if text else ""


def operators() -> str:
    parts = [
        HEADER,
        "# Operators\n",
        "Every operator of formulas, from the table in `pairfold/formula/operators.py`. Operands are a, b …, the value is y. The last axis",
        "is that of the components; operands of one component fit any number of them.\n",
        "“Written” is how formulas print. In a program `mod(a, b)` and its kin are methods of the first operand, `a.mod(b)`;",
        "`pairfold.where` and `pairfold.take` are functions, and NumPy's and PyTorch's own functions take LazyTensors too.\n",
        f"All of them take arrays of {', '.join(STORED)} (bfloat16: PyTorch's), promoted by",
        "the framework's own rules. Arithmetic is in float32, or in float64 where an array is float64 or has integers that float32 cannot",
        "tell apart.\n",
    ]
    sections = {
        "elementwise": ("Component by component", "The derivative of a component of y by the same component of each operand."),
        "reduce": ("All components to one number", "The derivative of y by each component."),
        "index": ("Components moved", "The gradient of each operand where that of y is g, for vectors of 3 components."),
        "lookup": ("Tables", "The gradient of each operand where that of y is g."),
        "derived": ("Short for other formulas", "The gradient of each operand where that of y is g, for vectors of 3 components."),
    }  # fmt: skip
    for structure, (title, what) in sections.items():
        some = [op for op in OPERATORS.values() if op.structure == structure and public(op)]
        parts += [f"## {title}\n", f"{what}\n", operator_table(some)]
    others = [op for op in OPERATORS.values() if op.doc and not public(op)]
    parts += ["## Made by other operators, by reductions and by the planner\n", operator_table(others)]
    single = {op.keops for op in OPERATORS.values()} | set(keops.ALSO.values())
    composed = [code(name) for name in keops.OPERATORS if name in functions() and name not in single]
    parts += ["## KeOps's other names\n", f"Formula strings may use these too, for formulas of several operators: {', '.join(composed)}.\n"]
    return "\n".join(parts)


def operator_table(some: Sequence[Operator]) -> str:
    rows = []
    for op in some:
        text, found = op.show(tuple(operands(op)), ATTRIBUTES.get(op.name, ())), derivative(op)
        rows.append(
            (
                code(op.name),
                code(bare(text)),
                op.doc,
                code(meaning(op)),
                ", ".join(map(code, found)) if sum(map(len, found)) <= LONGEST and "…" not in str(found) else "that of its formula",
                code(theirs) if (theirs := op.keops or keops.ALSO.get(op.name, "")) in keops.OPERATORS else "",
            )
        )
    return table(("name", "written", "what it is", "in NumPy", "derivative", "KeOps"), rows)


def reductions() -> str:
    """The table of reductions, with partials p and q of scalar formulas F and W, results r and their cotangents g."""
    parts = [
        HEADER,
        "# Reductions\n",
        "Every reduction, from `pairfold/reductions.py`, as a monoid of formulas. The partial of one pair, in column j, is lifted from the",
        "values F (and W) of the formulas; partials p and q, of earlier and of later columns, are combined; the last partial is finished.",
        "Here formulas have one component, and K is 2. Real results have the type that the arrays' framework promotes theirs to, indices",
        "are int64. The gradient is that of F (and of W) at each pair, where the results are r and their cotangents g.\n",
    ]
    rows = []
    for name, kind in REDUCTIONS.items():
        reduction: Reduction = kind(K=2) if "K" in getattr(kind, "__dataclass_fields__", {}) else kind()
        rows.append(reduction_row(name, reduction))
    heads = ("name", "what it is", "partial", "of one pair", "combined", "finished", "results", "gradient", "KeOps")
    parts += [
        table(heads, rows),
        "## Accumulation\n",
        "How sums are accumulated, as chosen by `pairfold.accumulate`; the table above has the first.\n",
        table(("name", "what it is"), ((code(name), _summary(kind)) for name, kind in ACCUMULATIONS.items())),
    ]
    return "\n".join(parts)


def _summary(value: Any) -> str:
    """The first line of a class's docstring."""
    return (inspect.getdoc(type(value)) or "").partition("\n")[0]


def reduction_row(name: str, reduction: Reduction) -> tuple[str, ...]:
    values = [slot("F", 0, 1), slot("W", 0, 1)][: reduction.formulas]
    shown = {values[0]: "F"} | ({values[1]: "W"} if len(values) > 1 else {})
    index = slot("index", 0, 1, kind="index")
    shown[index] = "j"
    fields = reduction.fields([1] * reduction.formulas)

    def partial(letter: str, entries: int = 1) -> tuple[Node, ...]:
        state = tuple(slot(letter, 0, f.dim // entries, k, kind=f.kind) for k, f in enumerate(fields))
        shown.update({s: f"{letter}{k}" for k, s in enumerate(state)})
        return state

    def written(some: Iterable[Node]) -> str:
        return ", ".join(code(to_string(f, shown)) for f in simplify(expand(tuple(some))))

    # A partial that is a list of pairs is combined with one pair after the other.
    p, q = partial("p"), partial("q", reduction.entries)
    within = sum(not f.compensates for f in fields)
    lifted = reduction.lift(values, index)
    kept = [f"p{k} = {f.identity:g}" + (" between tiles" if f.compensates else "") + (f", {f.kind}" if f.kind != "real" else "")
            for k, f in enumerate(fields)]  # fmt: skip
    outs = tuple(slot("r", 0, 1, k) for k in range(len(reduction.results)))
    cotangents = tuple(slot("g", 0, 1, k) for k in range(len(reduction.results)))
    shown.update({r: f"r{k}" for k, r in enumerate(outs)} | {g: f"g{k}" for k, g in enumerate(cotangents)})
    if isinstance(reduction, Selection):
        gradient = "that of F at the selected pairs" if "real" in reduction.results else "none"
    else:
        gradient = written(reduction.pullback(values, outs, cotangents))
    kinds = [{"real": "real", "index": "int64"}[k] for k in reduction.results]
    theirs = [code(k) for k, ours in keops.REDUCTIONS.items() if ours == name]
    return (
        code(name),
        _summary(reduction),
        ", ".join(map(code, kept)),
        written(lifted),
        "one entry is inserted in order" if reduction.entries > 1 else written(reduction.combine((p[:within], q[:within]))),
        written(reduction.finish(p)),
        ", ".join(kinds[: reduction.public]),
        gradient,
        ", ".join(theirs),
    )


# ---- files

PAGES: dict[str, Callable[[], str]] = {"operators.md": operators, "reductions.md": reductions}


def pages() -> Iterator[tuple[Path, str]]:
    for name, write in PAGES.items():
        yield FOLDER / name, write()


if __name__ == "__main__":
    for path, text in pages():
        path.write_text(text, encoding="utf-8")
        print(f"written: {path.name}")
