"""Systems by KeOps's names, against dense float64."""

from __future__ import annotations

import numpy as np
import pytest

from pairfold.pykeops import solve

from .helpers import FRAMEWORKS, array, close, module

frameworks = pytest.mark.parametrize("framework", FRAMEWORKS)
ALIASES = ["x = Vi(2)", "y = Vj(2)", "a = Vj(2)", "g = Pm(1)"]


def setting(framework, random, n=40):
    x, b = random.standard_normal((n, 2)), random.standard_normal((n, 2))
    dense = np.exp(-0.7 * ((x[:, None] - x) ** 2).sum(-1))
    return array(framework, x), array(framework, b), np.linalg.solve(dense + 0.1 * np.eye(n), b), dense


@pytest.mark.parametrize("axis", [0, 1])
@frameworks
def test_kernel_solve(framework, axis, random):
    x, b, expected, dense = setting(framework, random)
    aliases = ALIASES if axis else [a.replace("Vj", "V_").replace("Vi", "Vj").replace("V_", "Vi") for a in ALIASES]
    keops = module(framework)
    g = array(framework, [0.7])
    solver = keops.KernelSolve("Exp(-g*SqDist(x,y)) * a", aliases, "a", axis=axis)
    close(solver(x, x, b, g, alpha=0.1, eps=1e-8, backend="CPU", device_id=-1), expected, 1e-6)
    close(solver(x, x, b, g, alpha=0.1), expected, 1e-4)
    by_number = keops.KernelSolve("Exp(-g*SqDist(x,y)) * a", aliases, f"Var(2,2,{axis})", axis=axis, dtype="float64", enable_chunks=False)
    close(by_number(x, x, b, g, alpha=0.1, eps=1e-8), expected, 1e-6)
    exact = keops.KernelSolve("Exp(-g*SqDist(x,y)) * a", aliases, "a", axis=axis, sum_scheme="kahan_scheme")
    close(exact(x, x, b, g, alpha=0.1, eps=1e-8), expected, 1e-6)
    # the same array for the points and the right-hand sides
    close(solver(x, x, x, g, alpha=0.1, eps=1e-8), np.linalg.solve(dense + 0.1 * np.eye(40), np.asarray(x)), 1e-6)
    with pytest.raises(ValueError, match="one of the aliases"):
        keops.KernelSolve("Exp(-g*SqDist(x,y)) * a", aliases, "z")


@frameworks
def test_coupled_components(framework, random):
    """A matrix for each pair: components of the unknown are not columns of their own."""
    x, b, _, dense = setting(framework, random)
    keops = module(framework)
    m = np.array([[2.0, 0.5], [0.5, 1.0]])
    solver = keops.KernelSolve("MatVecMult(m, a) * Exp(-g*SqDist(x,y))", [*ALIASES, "m = Pm(4)"], "a", axis=1)
    g = array(framework, [0.7])
    found = solver(x, x, b, g, array(framework, m.ravel()), alpha=0.1, eps=1e-8)
    expected = np.linalg.solve(np.kron(dense, m) + 0.1 * np.eye(80), np.asarray(b).ravel()).reshape(40, 2)
    close(found, expected, 1e-6)
    batches = [array(framework, np.stack([np.asarray(v), 0.5 * np.asarray(v)])) for v in (x, b)]
    found = solver(batches[0], batches[0], batches[1], g, array(framework, m.ravel()), alpha=0.1, eps=1e-8)
    close(found[0], expected, 1e-6)
    half = np.exp(-0.7 * 0.25 * ((np.asarray(x)[:, None] - np.asarray(x)) ** 2).sum(-1))
    other = np.linalg.solve(np.kron(half, m) + 0.1 * np.eye(80), 0.5 * np.asarray(b).ravel()).reshape(40, 2)
    close(found[1], other, 1e-6)
    with pytest.raises(ValueError, match="a sum along i is solved for a variable along i, not along j"):
        aliases = [*ALIASES, "m = Pm(4)"]
        keops.KernelSolve("MatVecMult(m, a) * Exp(-g*SqDist(x,y))", aliases, "a", axis=0)(x, x, b, g, array(framework, m.ravel()))


@frameworks
def test_coupled_components_of_ranges(framework, random):
    x, b, _, dense = setting(framework, random)
    keops = module(framework)
    m = np.array([[2.0, 0.5], [0.5, 1.0]])
    solver = keops.KernelSolve("MatVecMult(m, a) * Exp(-g*SqDist(x,y))", [*ALIASES, "m = Pm(4)"], "a", axis=1)
    halves = [[0, 20], [20, 40]]
    ranges = tuple(array(framework, r, "int64") for r in (halves, [1, 2], halves, halves, [1, 2], halves))
    g = array(framework, [0.7])
    found = solver(x, x, b, g, array(framework, m.ravel()), alpha=0.1, eps=1e-8, ranges=ranges)
    dense = np.kron(dense * np.kron(np.eye(2), np.ones((20, 20))), m)
    close(found, np.linalg.solve(dense + 0.1 * np.eye(80), np.asarray(b).ravel()).reshape(40, 2), 1e-6)


@frameworks
def test_ranges(framework, random):
    x, b, _, dense = setting(framework, random)
    keops = module(framework)
    halves = [[0, 20], [20, 40]]
    ranges = tuple(array(framework, r, "int32") for r in (halves, [1, 2], halves, halves, [1, 2], halves))
    solver = keops.KernelSolve("Exp(-g*SqDist(x,y)) * a", ALIASES, "a", axis=1)
    mask = np.kron(np.eye(2), np.ones((20, 20)))
    expected = np.linalg.solve(dense * mask + 0.1 * np.eye(40), np.asarray(b))
    close(solver(x, x, b, array(framework, [0.7]), alpha=0.1, eps=1e-8, ranges=ranges), expected, 1e-6)


@frameworks
def test_solve_of_lazytensors(framework, random):
    x, b, expected, _ = setting(framework, random)
    keops = module(framework)
    K = (-0.7 * ((keops.Vi(x) - keops.Vj(x)) ** 2).sum(-1)).exp()
    close(K.solve(b, alpha=0.1, eps=1e-8), expected, 1e-6)
    close(K.solve(keops.Vi(b), alpha=0.1, eps=1e-8, backend="auto", use_double_acc=True), expected, 1e-6)
    close(K.solve(keops.Vj(b), alpha=0.1, eps=1e-8), expected, 1e-6)
    close(K.solve(b, alpha=0.1, eps=1e-8, call=False)(), expected, 1e-6)
    unknown = keops.Vj(0, 2)
    close((K * unknown).solve(keops.Vi(b), var=unknown, alpha=0.1, eps=1e-8), expected, 1e-6)
    later = K.solve(keops.Vi(0, 2), alpha=0.1, eps=1e-8)
    close(later(b), expected, 1e-6)
    symbolic = (-0.7 * ((keops.Vi(0, 2) - keops.Vj(1, 2)) ** 2).sum(-1)).exp()
    close(symbolic.solve(keops.Vi(2, 2), alpha=0.1, eps=1e-8)(x, x, b), expected, 1e-6)
    with pytest.raises(TypeError, match="no option 'axes'"):
        K.solve(b, axes=1)


def test_derivatives(random):
    torch = pytest.importorskip("torch")
    x, b, _, _ = setting("torch", random)
    g, alpha = torch.tensor([0.7], dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    given = [v.requires_grad_() for v in (x, b, g, alpha)]
    keops = module("torch")
    solver = keops.KernelSolve("Exp(-g*SqDist(x,y)) * a", ALIASES, "a", axis=1)
    dense = torch.exp(-g * ((x[:, None] - x) ** 2).sum(-1)) + alpha * torch.eye(40, dtype=torch.float64)
    found = torch.autograd.grad((solver(x, x, b, g, alpha=alpha, eps=1e-11) ** 2).sum(), given)
    expected = torch.autograd.grad((torch.linalg.solve(dense, b) ** 2).sum(), given)
    for a, e in zip(found, expected, strict=True):
        close(a, e.numpy(), 1e-6)


@frameworks
def test_solvers_of_common_operations(framework, random):
    x, b, expected, dense = setting(framework, random)
    matrix = array(framework, dense + 0.1 * np.eye(40))
    close(solve.ConjugateGradientSolver(framework, lambda a: matrix @ a, b, eps=1e-9), expected, 1e-6)
    kernel = ("gaussian", 2, 2, 0.7**-0.5)
    close(solve.KernelLinearSolver(framework, kernel, x, b, alpha=0.1, eps=1e-9, precond=True), expected, 1e-6)
