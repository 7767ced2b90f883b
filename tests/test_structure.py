"""The floors of the design: imports only ever point down."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pairfold

FLOORS = [
    "formula", "reductions", "plan", "codegen", "runtime", "fold", "picture", "explain", "arrays", "krylov", "lazy", "kernels",
    "cluster", "linalg", "pykeops", "__init__",
]  # fmt: skip
PACKAGE = Path(pairfold.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def floor_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path):
    """The floors that a file imports from, with the line, and the foreign packages."""
    module = ["pairfold", *path.relative_to(PACKAGE).with_suffix("").parts]
    package = module[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [a.name.split(".") for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            targets = [[*base, a.name] for a in node.names]
        else:
            continue
        for target in targets:
            yield target, node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = FLOORS.index(floor_of(path))
    for target, line in imported(path):
        if target[0] == "pairfold":
            there = target[1] if target[1] in FLOORS else "__init__"
            assert FLOORS.index(there) <= here, f"{path.name}:{line}: {FLOORS[here]} imports {there}"
            assert there != "__init__", f"{path.name}:{line}: imports from the package itself"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_frameworks_stay_outside(path):
    for target, line in imported(path):
        if target[0] == "torch":
            assert path.relative_to(PACKAGE) == Path("arrays/torch.py"), f"{path.name}:{line} imports torch"
        if target[0] == "llvmlite":
            assert floor_of(path) in ("codegen", "runtime"), f"{path.name}:{line} imports llvmlite"


def test_every_floor_is_there():
    assert {floor_of(p) for p in FILES} == set(FLOORS)
