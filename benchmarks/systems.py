"""Who is measured: each system's way to run a formula, and what it needs around it."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .workloads import Formula, Program


@dataclass(frozen=True)
class System:
    """A system with a LazyTensor for each framework."""

    name: str
    title: str
    modules: Mapping[str, str]  # framework → the module that its LazyTensor is imported from
    distribution: str
    cache_variable: str  # the environment variable that says where compiled formulas are kept
    kinds: tuple[str, ...] = ("cpu", "cuda")  # of device, on which it is measured

    def program(self, formula: Formula, framework: str, threads: int) -> Program | None:
        """What computes a formula, of points; None where the system cannot."""
        lazy_tensor = self.lazy_tensor(framework, threads)
        return lambda points: formula.program(lazy_tensor, points)

    def lazy_tensor(self, framework: str, threads: int) -> Any:
        """Import the LazyTensor for a framework, with that many threads."""
        with contextlib.redirect_stdout(sys.stderr):
            cls = importlib.import_module(self.modules[framework]).LazyTensor
            if self.name == "pairfold":
                importlib.import_module("pairfold").set_num_threads(threads)
            else:
                importlib.import_module("pykeops").set_verbose(False)
        return cls

    def version(self) -> str | None:
        """The installed version, or None."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None


class Compiled(System):
    """PyTorch's compiler, on the dense formula: pairs that it fuses with their reduction take no memory."""

    def program(self, formula: Formula, framework: str, threads: int) -> Program | None:
        if formula.dense is None or framework != "torch":
            return None
        import torch

        torch._dynamo.reset()
        program: Program = torch.compile(formula.dense, dynamic=False)
        return program

    def lazy_tensor(self, framework: str, threads: int) -> Any:
        """It has none, but must be there."""
        return importlib.import_module(self.modules[framework])


SYSTEMS: Mapping[str, System] = {
    "pairfold": System("pairfold", "Pairfold", {"numpy": "pairfold", "torch": "pairfold"}, "pairfold", "PAIRFOLD_CACHE_DIR"),
    "keops": System("keops", "KeOps", {"numpy": "pykeops.numpy", "torch": "pykeops.torch"}, "pykeops", "KEOPS_CACHE_FOLDER"),
    "torch": Compiled("torch", "torch.compile", {"numpy": "torch", "torch": "torch"}, "torch", "TORCHINDUCTOR_CACHE_DIR", ("cuda",)),
}


def environment(cache: Path, threads: int) -> dict[str, str]:
    """The variables that all systems run under: the number of threads, a compiler for KeOps, and caches in a folder of this run's own.

    OpenMP reads its variables once, as it is loaded, so they are set before any framework is imported. Modules are read as bytecode, as
    from an installed wheel, whatever is set here.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++", path="/usr/bin") or shutil.which("g++") or shutil.which("c++")
    variables = {"OMP_NUM_THREADS": str(threads), "PAIRFOLD_NUM_THREADS": str(threads), "PYTHONDONTWRITEBYTECODE": ""}
    if compiler:
        variables["CXX"] = compiler
    for system in SYSTEMS.values():
        folder = cache / system.name
        folder.mkdir(parents=True, exist_ok=True)
        variables[system.cache_variable] = str(folder)
    return variables


def available(names: list[str], kind: str) -> dict[str, System]:
    """Those of the systems that can be imported, for a kind of device; the others are named on standard error."""
    found = {}
    for name in names:
        if kind not in SYSTEMS[name].kinds:
            continue
        try:
            SYSTEMS[name].lazy_tensor("numpy" if kind == "cpu" else "torch", threads=1)
        except (ImportError, AttributeError) as error:
            print(f"{SYSTEMS[name].title} is left out: {error}", file=sys.stderr)
        else:
            found[name] = SYSTEMS[name]
    return found
