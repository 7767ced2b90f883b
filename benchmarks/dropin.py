"""Programs of others, as they are, with the drop-in and with KeOps: `python -m benchmarks dropin`.

Each runs in a process of its own, once small, so that all formulas are compiled, then measured: the whole, and the part of it inside
reductions. Where KeOps would take too long it runs the same program on fewer points; the programs do the same reductions at every size, so
that its time is that of these, times the square of how many points there are more.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

STEPS, ITERATIONS, NEW_POINTS = 2, 10, 1_000


def regression(kernel: str) -> Callable[[int], list[float]]:
    """Regression by Gaussian processes with one of GPyTorch's KeOps kernels: training steps, then predictions with variances.

    Ten probes and as many iterations of conjugate gradients a step, whatever the residual: the same reductions at every size.
    """

    def program(n: int) -> list[float]:
        import gpytorch
        import torch
        from gpytorch import settings

        x, x_new = torch.rand(n, 3), torch.rand(NEW_POINTS, 3)
        y = torch.sin(6 * x[:, 0]) * torch.cos(4 * x[:, 1]) + x[:, 2] + 0.1 * torch.randn(n)

        class Regression(gpytorch.models.ExactGP):
            def __init__(self, likelihood: Any):
                super().__init__(x, y, likelihood)
                self.mean_module = gpytorch.means.ConstantMean()
                self.covar_module = gpytorch.kernels.ScaleKernel(getattr(gpytorch.kernels.keops, kernel)())

            def forward(self, x: Any) -> Any:
                return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

        likelihood = gpytorch.likelihoods.GaussianLikelihood()
        model = Regression(likelihood)
        likelihood.noise, model.covar_module.base_kernel.lengthscale = 0.1, 0.3
        loss_of = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
        losses = []
        with (
            settings.max_cholesky_size(10),
            settings.cg_tolerance(1e-12),
            settings.eval_cg_tolerance(1e-12),
            settings.max_cg_iterations(ITERATIONS),
            settings.max_lanczos_quadrature_iterations(ITERATIONS),
            settings.max_root_decomposition_size(ITERATIONS),
            settings.fast_pred_var(),
        ):
            for _ in range(STEPS):
                optimiser.zero_grad()
                loss = -loss_of(model(x), y)
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
            model.eval(), likelihood.eval()
            with torch.no_grad():
                predicted = model(x_new)
                return [*losses, *predicted.mean[:5].tolist(), *predicted.variance[:5].tolist()]

    return program


def sinkhorn(backend: str) -> Callable[[int], list[float]]:
    """GeomLoss's Sinkhorn divergence between two clouds, and its gradient, by one of GeomLoss's backends over KeOps."""

    def program(n: int) -> list[float]:
        import torch
        from geomloss import SamplesLoss

        x, y = torch.rand(n, 3, requires_grad=True), 0.8 * torch.rand(n, 3) + 0.3
        # The diameter, of which GeomLoss makes its list of scales, is told: it is to be the same for all sizes.
        value = SamplesLoss("sinkhorn", p=2, blur=0.05, scaling=0.5, diameter=2.0, backend=backend)(x, y)
        (gradient,) = torch.autograd.grad(value, x)
        return [value.item(), *(n * gradient[:5]).flatten().tolist()]

    return program


@dataclass(frozen=True)
class Program:
    """A program, the package that it is of, its points, and those that KeOps gets; `at_least` is the bar on the part inside reductions."""

    name: str
    package: str
    run: Callable[[int], list[float]]
    n: int
    n_peer: int
    at_least: float = 20.0


PROGRAMS = (
    Program("GPyTorch regression, RBF", "gpytorch", regression("RBFKernel"), 50_000, 4_000),
    Program("GPyTorch regression, Matérn 5/2", "gpytorch", regression("MaternKernel"), 50_000, 4_000),
    Program("GeomLoss Sinkhorn divergence, online", "geomloss", sinkhorn("online"), 100_000, 8_000),
    Program("GeomLoss Sinkhorn divergence, multiscale", "geomloss", sinkhorn("multiscale"), 100_000, 20_000),
)
WARM = 1_500  # points of the run that compiles


# --- in a process of its own --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def timed(owner: Any, name: str) -> Iterator[list[float]]:
    """The seconds of each call of a method, while this lasts."""
    method, kept, found = getattr(owner, name), inspect.getattr_static(owner, name), []

    def measured(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = method(*args, **options)
        found.append(time.perf_counter() - start)
        return result

    setattr(owner, name, staticmethod(measured) if isinstance(kept, staticmethod) else measured)
    try:
        yield found
    finally:
        setattr(owner, name, kept)


@contextlib.contextmanager
def reductions(system: str) -> Iterator[tuple[list[float], list[float]]]:
    """The seconds of each reduction of tensors while this lasts, forwards and backwards, and those of what prepares some.

    What is timed is what both systems' autograd functions call with tensors and that gives back tensors. KeOps's reads ranges too; ours
    has them read before.
    """
    if system == "pairfold":
        from pairfold.arrays.torch import TorchBackend
        from pairfold.runtime.pattern import Pattern

        with timed(TorchBackend, "compute") as inside, timed(Pattern, "of_six") as before:
            yield inside, before
    else:
        with timed(importlib.import_module("pykeops.common.keops_io.LoadKeOps").LoadKeOps, "genred_pytorch") as inside:
            yield inside, []


def child(name: str, system: str, threads: int, n: int) -> dict[str, Any]:
    """Seconds of a program on n points, of its reductions, their number, and some of its results."""
    import torch

    torch.set_num_threads(threads)
    if system == "pairfold":
        import pairfold.pykeops

        pairfold.set_num_threads(threads)
        pairfold.pykeops.install()
    import pykeops

    pykeops.set_verbose(False)
    program = next(p for p in PROGRAMS if p.name == name)
    for points in (WARM, n):
        torch.manual_seed(0)
        with reductions(system) as (inside, before):
            start = time.perf_counter()
            values = program.run(points)
            seconds = time.perf_counter() - start
    return {"whole": seconds, "seconds": sum(inside) + sum(before), "reductions": len(inside), "values": values}


# --- all of them --------------------------------------------------------------------------------------------------------------


def measure(systems: Sequence[str], threads: int, cache: Path, only: str = "") -> Iterator[dict[str, Any]]:
    """Two rows a program: the part inside reductions, which has the bar, and the whole."""
    for program in PROGRAMS:
        if only not in program.name:
            continue
        if find_spec(program.package) is None:
            print(f"{program.name} is left out: {program.package} is not installed", file=sys.stderr)
            continue
        found = {system: _run(program, system, threads, cache, program.n) for system in systems if system == "pairfold"}
        if "keops" in systems:
            found["keops"] = _extrapolated(program, found.get("pairfold"), threads, cache)
            if "pairfold" in systems:
                there = _run(program, "pairfold", threads, cache, program.n_peer)
                found["pairfold"]["difference"] = _difference(there["values"], found["keops"].pop("values"))
        for part, key, bar in (("inside reductions", "seconds", program.at_least), ("the whole", "whole", None)):
            yield _row(program, part, key, bar, found)


def _run(program: Program, system: str, threads: int, cache: Path, n: int) -> dict[str, Any]:
    from .measure import output
    from .systems import environment

    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.dropin", program.name, system, str(threads), str(n)]
    found: dict[str, Any] = json.loads(output(command, os.environ | environment(cache, threads)))
    return found | {"points": n}


def _extrapolated(program: Program, ours: Mapping[str, Any] | None, threads: int, cache: Path) -> dict[str, Any]:
    """KeOps's reductions on its points, times the square of how many more there are; and the rest, which is our run's."""
    found = _run(program, "keops", threads, cache, program.n_peer)
    if ours and found["reductions"] != ours["reductions"]:
        raise RuntimeError(f"{program.name} does {ours['reductions']} reductions with Pairfold, {found['reductions']} with KeOps")
    found["seconds"] *= (program.n / program.n_peer) ** 2
    found["whole"] = found["seconds"] + (ours["whole"] - ours["seconds"] if ours else 0.0)
    return found | {"estimated": program.n != program.n_peer}


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest difference of results on the same points, over the largest of them."""
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / max(map(abs, theirs))


def _row(program: Program, part: str, key: str, bar: float | None, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    systems = {
        name: {**values, "seconds": values[key], "pairs_per_second": values["reductions"] * program.n**2 / values[key]}
        for name, values in found.items()
    }
    ratio = systems["keops"]["seconds"] / systems["pairfold"]["seconds"] if len(systems) == 2 else math.nan
    return {
        "group": "speed",
        "name": f"{program.name}, {part}",
        "m": program.n,
        "n": program.n,
        "d": 3,
        "dtype": "float32",
        "framework": "torch",
        "systems": systems,
        "at_least": bar,
        "aim": None,
        "operations_per_pair": None,
        "ratio": None if math.isnan(ratio) else ratio,
        "passed": None if bar is None or math.isnan(ratio) else ratio >= bar,
        "accurate": None,
    }


if __name__ == "__main__":
    task, of, count, size = sys.argv[1:]
    print("\n" + json.dumps(child(task, of, int(count), int(size))))
