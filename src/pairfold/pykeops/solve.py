"""Linear systems by KeOps's names: a sum that is linear in one of its variables, solved for that variable."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arrays import backend_of
from ..formula.graph import Node, topological, variables
from ..formula.parse import read_aliases
from ..krylov import cg
from ..lazy import LazyTensor as Native
from ..lazy.accuracy import accumulate, accumulation_of
from ..lazy.linear import Linear
from ..lazy.strings import bind
from .reductions import ACCURACY, check, in_shape, with_ranges

# KeOps stops when the root mean square of the residual is below eps, whatever the arrays' type can hold; at this many roundings of |b| all
# is said.
ROUNDINGS = 10


def solve(lazy: Any, unknown: Any, axis: int, alpha: Any = 1e-10, eps: float = 1e-6, **accuracy: Any) -> Any:
    """The array a with Σ F(a) + alpha · a = b along an axis, where F is linear in the variable that now stands for b.

    Parameters
    ----------
    lazy : native LazyTensor
        F.
    unknown : array, (…, N, E)
        b; it is found among the leaves of F by what it is.
    axis : int
        That is reduced: 0 for i, 1 for j.
    alpha : float or array of one number
    eps : float
        The root mean square of the residual that is small enough.
    """
    place = next(k for k, leaf in enumerate(lazy.leaves) if leaf.value is unknown)
    variable = next((v for v in variables((lazy.formula,)) if v.attrs[1] == place), None)
    if variable is None:
        raise ValueError(f"{lazy!r} does not depend on the variable that it is to be solved for")
    kernel = _factor(lazy.formula, variable)
    options = {
        "alpha": alpha,
        "tol": ROUNDINGS * float(np.finfo(lazy._kind.backend.real(lazy._kind.dtype)).eps),
        "max_iterations": max(1000, 4 * unknown.shape[-2]),
    }
    chosen = {k: v for k, v in accuracy.items() if k in ACCURACY}
    scheme = accumulate(accumulation_of(**chosen).name) if chosen else contextlib.nullcontext()
    with scheme:
        if kernel is not None:  # the same for all components: columns of their own
            matrix = lazy._with(kernel, False)
            return (matrix if axis == 1 else matrix.T).solve(unknown, atol=eps * math.sqrt(unknown.shape[-2]), **options)
        if lazy.leaves[place].axis != "ij"[axis]:
            raise ValueError(f"a sum along {'ij'[axis]} is solved for a variable along {'ij'[axis]}, not along {lazy.leaves[place].axis}")
        matrix = Linear(lazy, place)
        flat = unknown.reshape(*unknown.shape[:-2], -1, 1)
        return matrix.solve(flat, atol=eps * math.sqrt(matrix.shape[-1]), **options).reshape(unknown.shape)


def _factor(formula: Node, variable: Node) -> Node | None:
    """What a variable is multiplied with, where the formula is such a product with one number for each pair."""
    if formula.op.name != "mul":
        return None
    for factor, other in (formula.args, formula.args[::-1]):
        if other is variable and factor.dim == 1 and variable not in topological([factor]):
            return factor
    return None


class KernelSolve:
    """A solver for Σ F(a) + alpha · a = b, where F is a formula given as text that is linear in a and stands for a positive matrix.

    Parameters
    ----------
    formula : str
        In KeOps's syntax.
    aliases : sequence of str
        As for `Genred`.
    varinvalias : str
        The alias, or ``Var(2,1,1)``, of the variable a; b is given in its place.
    axis : int
        0 to reduce i, 1 to reduce j.
    dtype_acc, use_double_acc, sum_scheme
        How sums are accumulated.
    dtype, cuda_type, enable_chunks, rec_multVar_highdim, use_fast_math, opt_arg
        Accepted, without a meaning here.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.pykeops.numpy import KernelSolve
    >>> x, b = np.random.rand(100, 3), np.random.rand(100, 2)
    >>> solve = KernelSolve("Exp(-SqDist(x,y)) * a", ["x = Vi(3)", "y = Vj(3)", "a = Vj(2)"], "a", axis=1)
    >>> dense = np.exp(-((x[:, None] - x) ** 2).sum(-1)) + 0.1 * np.eye(100)
    >>> np.allclose(dense @ solve(x, x, b, alpha=0.1), b, atol=1e-5)
    True
    """

    def __init__(
        self,
        formula: str,
        aliases: Sequence[str],
        varinvalias: str,
        axis: int = 0,
        dtype_acc: Any = "auto",
        use_double_acc: bool = False,
        sum_scheme: str = "auto",
        opt_arg: Any = None,
        **meaningless: Any,
    ):
        check("Sum", False, None, axis, meaningless)
        self.formula, self.aliases, self.axis, self.varinvalias = formula, list(aliases), axis, varinvalias
        named = read_aliases(self.aliases)
        self._variables = {v.attrs[1]: v for v in named.values()}
        written = re.fullmatch(r"Var\((\d+),\d+,[012]\)", varinvalias.replace(" ", ""))
        if written is None and varinvalias not in named:
            raise ValueError(f"varinvalias must be one of the aliases {', '.join(named)}, or Var(…), not {varinvalias!r}")
        self.varinvpos = int(written[1]) if written else named[varinvalias].attrs[1]
        self._accuracy = {"dtype_acc": dtype_acc, "use_double_acc": use_double_acc, "sum_scheme": sum_scheme}
        if dtype_acc == "auto" and not use_double_acc and sum_scheme == "auto":
            self._accuracy = {}

    def __call__(
        self, *args: Any, backend: str = "auto", device_id: int = -1, alpha: Any = 1e-10, eps: float = 1e-6, ranges: Any = None
    ) -> Any:
        """Solve for these arrays, with b in the place of a.

        Parameters
        ----------
        *args : array
            As for `Genred`.
        alpha : float, or array of one number
        eps : float
            The root mean square of the residual that is small enough.
        ranges : six arrays, optional
            The blocks of pairs that take part.
        backend, device_id
            Accepted: the arrays' own device computes.

        Returns
        -------
        array, (…, N, E)
            Differentiable in PyTorch, by all arrays and by alpha.

        Warns
        -----
        ConvergenceWarning
            Where the residual stays larger.
        """
        check("Sum", False, None, self.axis, {"backend": backend})
        arrays = in_shape(args, self._variables)
        # A view of its own, in case that the same array stands for another variable too.
        arrays[self.varinvpos] = unknown = arrays[self.varinvpos][...]
        (lazy,) = bind((self.formula,), tuple(self.aliases), arrays)
        return solve(with_ranges(lazy, ranges), unknown, self.axis, alpha, eps, **self._accuracy)


def ConjugateGradientSolver(binding: str, linop: Callable[[Any], Any], b: Any, eps: float = 1e-6) -> Any:  # noqa: N802
    """The solution of ``linop(a) = b`` by conjugate gradients, all numbers of b as one vector."""
    size = math.sqrt(math.prod(b.shape))
    target = np.full((1, 1), eps * size)

    def apply(a: Any) -> Any:
        return linop(a.reshape(b.shape)).reshape(-1, 1)

    return cg(apply, backend_of(b).detach(b).reshape(-1, 1), None, None, target, max(1000, 4 * len(b))).x.reshape(b.shape)


def KernelLinearSolver(  # noqa: N802
    binding: str,
    K: Any,
    x: Any,
    b: Any,
    alpha: float = 0,
    eps: float = 1e-6,
    precond: bool = False,
    precondKernel: Any = None,  # noqa: N803
) -> Any:
    """The solution of K(x, x) a + alpha · a = b, where K is a function ``K(x, y, a)`` or ``("gaussian", D, E, sigma)``.

    ``precond`` and ``precondKernel`` are accepted: they change how fast the solution is found, not what it is.
    """
    if isinstance(K, tuple):
        name, _, _, sigma = K
        if name != "gaussian":
            raise ValueError(f"the kernel must be 'gaussian' or a function, not {name!r}")

        def kernel(x: Any, y: Any, a: Any) -> Any:
            return (-(Native(x, axis=0).sqdist(Native(y, axis=1))) / sigma**2).exp() @ a
    else:
        kernel = K
    return ConjugateGradientSolver(binding, lambda a: kernel(x, x, a) + alpha * a, b, eps)
