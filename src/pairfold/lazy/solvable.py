"""Systems of equations: what LazyTensors and LinearOperators have in common as matrices that are applied."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import backend_of, is_array, number
from ..arrays.base import FLOATS
from ..krylov import ConvergenceWarning, Outcome, cg, minres

if TYPE_CHECKING:
    import scipy.sparse.linalg  # type: ignore[import-untyped]

METHODS = {"cg": cg, "minres": minres}
# How small residuals are to be, as far as the numbers' type lets them: by the type that they are computed in.
TOLERANCES = {"float32": 1e-4, "float64": 1e-6, "complex64": 1e-4, "complex128": 1e-6}


class Info(NamedTuple):
    """How a solver fared.

    Attributes
    ----------
    iterations : int
        Products with the matrix, beside those that check the residual.
    residual : ndarray of float64, (…, E) or ()
        |b - A x| / |b| of each column, computed anew at the end.
    converged : bool
        Whether all are as small as asked.
    """

    iterations: int
    residual: np.ndarray
    converged: bool


class Solvable:
    """A matrix with products: systems of it are solved, and SciPy's methods run on it."""

    def _mapped(self, change: Callable[[Any], Any]) -> Any:
        """The same matrix of other arrays: those that `change` makes of its own, one after the other."""
        raise NotImplementedError

    def _an_array(self) -> Any:
        """One of its arrays, which tells the framework and the device."""
        raise NotImplementedError

    def solve(
        self,
        b: Any,
        alpha: Any = 0,
        *,
        method: str = "cg",
        x0: Any = None,
        preconditioner: Any = None,
        tol: float | None = None,
        atol: float = 0.0,
        max_iterations: int = 1000,
        info: bool = False,
    ) -> Any:
        """The solution a of (K + α I) a = b, for a symmetric matrix K, in memory linear in its length.

        All columns of b are solved together: each iteration is one product with an array of as many columns. In PyTorch the solution is
        differentiable by b, by α and by all that K is made of, to any order; each derivative solves one more system, however many
        iterations this one took.

        Parameters
        ----------
        b : array, (N,) or (…, N, E)
            Of the framework of K's arrays; batch axes broadcast with K's.
        alpha : float, or array of one number
        method : "cg" or "minres"
            Conjugate gradients, for positive definite K + α I; minimal residuals where it is indefinite.
        x0 : array, of the shape of the solution, optional
            Where to start; at 0 by default.
        preconditioner : callable, matrix or LinearOperator, optional
            What gives, of an array (…, N, E), the product with a positive definite matrix that is near the inverse of K + α I: see
            `pairfold.linalg.nystrom`.
        tol, atol : float
            The residual |b - (K + α I) a| of each column is to be at most the larger of ``tol * |b|`` and `atol`. By default 1e-6 of |b|
            in float64 and 1e-4 in float32.
        max_iterations : int
        info : bool
            Whether to give an `Info` too: the number of iterations, the residuals, whether all are as small as asked.

        Returns
        -------
        array
            Of b's shape, after the batch axes.
        Info
            With ``info=True`` alone.

        Warns
        -----
        ConvergenceWarning
            Where a residual is larger than asked: after `max_iterations`, or where rounding lets it fall no further.

        Raises
        ------
        numpy.linalg.LinAlgError
            Where the matrix shows that it is not symmetric, or to "cg" that it is not positive definite; or where products are nan.
        ValueError
            Where shapes do not fit together.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, b = np.random.rand(200, 3), np.random.rand(200)
        >>> K = (-((Vi(x) - Vj(x)) ** 2).sum(-1)).exp()
        >>> a = K.solve(b, alpha=0.1, tol=1e-9)
        >>> dense = np.exp(-((x[:, None] - x) ** 2).sum(-1)) + 0.1 * np.eye(200)
        >>> np.allclose(a, np.linalg.solve(dense, b))
        True
        """
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
        matrix = part_of(self)
        n = matrix.shape[-1]
        if matrix.shape[-2] != n:
            raise ValueError(f"a system of equations needs a square matrix, not one of shape {matrix.shape}")
        b = _array_of(b)
        if b.ndim == 0 or b.shape[-1 if b.ndim == 1 else -2] != n:
            raise ValueError(f"the matrix has shape {matrix.shape}, so b must have shape ({n},) or ({n}, E), not {tuple(b.shape)}")
        _refuse_mixed("matrix", matrix, backend_of(b))
        if isinstance(max_iterations, bool) or not hasattr(max_iterations, "__index__") or max_iterations < 0:
            raise ValueError(f"max_iterations must be a whole number, 0 or more, not {max_iterations!r}")
        given: tuple[Any, Any] = (tol, atol)
        tol, atol = (value.item() if is_array(value) and value.ndim == 0 else value for value in given)
        for name, value in (("tol", 0 if tol is None else tol), ("atol", atol)):
            if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)) or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number, 0 or more, not {value!r}")
        if not isinstance(info, bool):
            raise TypeError(f"info is True or False, not {info!r}")
        backend, vector = backend_of(b), b.ndim == 1
        alpha = _shifted_by(alpha, backend)
        own = _arrays_of(matrix, alpha)
        if x0 is not None and (not is_array(x0) or backend_of(x0) is not backend):
            raise TypeError(f"x0 must be an array like b, not {type(x0).__name__}")
        dtype = _promoted(backend, b, x0, own, matrix._complex)
        wide = "float32" if dtype in ("float16", "bfloat16") else dtype
        columns = backend.cast(b[:, None] if vector else b, wide)
        batch = np.broadcast_shapes(matrix.shape[:-2], tuple(columns.shape[:-2]))
        columns = backend.module.broadcast_to(columns, (*batch, *columns.shape[-2:]))
        start = None if x0 is None else _started(x0, b, columns, wide)
        solver = _Solver(
            method, _precondition(preconditioner, columns), TOLERANCES[wide] if tol is None else tol, atol, int(max_iterations), start, wide
        )
        found = backend.solution(solver, partial(_product, matrix, alpha), columns, own)
        assert solver.told is not None
        found = backend.cast(found, dtype)[..., 0] if vector else backend.cast(found, dtype)
        if not info:
            return found
        told = solver.told
        return found, (told._replace(residual=told.residual[..., 0][()]) if vector else told)

    def as_linear_operator(self) -> scipy.sparse.linalg.LinearOperator:
        """The matrix for `scipy.sparse.linalg`: ``cg``, ``gmres``, ``eigsh``, ``lobpcg``, ``svds`` … run on it.

        Products with vectors and matrices, and with their conjugate transposes, take and give NumPy arrays, whatever the arrays are
        that the matrix is made of.

        Raises
        ------
        ImportError
            Where SciPy is not installed: ``pip install pairfold[scipy]``.
        ValueError
            Where the matrix has batch axes.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.sparse.linalg import eigsh
        >>> from pairfold import Vi, Vj
        >>> x = np.random.rand(200, 3)
        >>> K = (-((Vi(x) - Vj(x)) ** 2).sum(-1)).exp()
        >>> dense = np.exp(-((x[:, None] - x) ** 2).sum(-1))
        >>> np.allclose(eigsh(K.as_linear_operator(), k=3)[0], np.linalg.eigvalsh(dense)[-3:])
        True
        """
        try:
            from scipy.sparse.linalg import LinearOperator
        except ImportError:
            raise ImportError("as_linear_operator needs SciPy, which is not installed: pip install pairfold[scipy]") from None
        matrix = part_of(self)
        if len(matrix.shape) > 2:
            raise ValueError(f"SciPy's linear operators have no batch axes, but the matrix has shape {matrix.shape}: pick one, K[0]")
        like = matrix._an_array()
        backend = backend_of(like)
        matrix = matrix._mapped(backend.detach)
        kind = matrix.dtype
        if not matrix._complex:
            kind = backend.real(kind)

        forth, back = partial(_times, matrix), partial(_times, matrix.H)
        dtype = np.dtype("float32" if kind in ("float16", "bfloat16") else kind)
        return LinearOperator(matrix.shape, matvec=forth, rmatvec=back, matmat=forth, rmatmat=back, dtype=dtype)


def _times(matrix: Any, b: np.ndarray) -> np.ndarray:
    """The product with a NumPy array, whatever the matrix is made of."""
    like = matrix._an_array()
    backend = backend_of(like)
    return backend.to_numpy(matrix @ backend.from_numpy(b, like))


class _Solver:
    """One way of solving systems: for the one that is asked for, and for those of its derivatives."""

    told: Info | None = None  # of the first

    def __init__(self, method: str, precondition: Any, tol: float, atol: float, limit: int, start: Any, dtype: str):
        self.method, self.precondition, self.tol, self.atol, self.limit = method, precondition, tol, atol, limit
        self.start, self.dtype = start, dtype

    def __call__(self, apply: Callable[[Any], Any], b: Any) -> Any:
        backend = backend_of(b)
        unit = _units(b)
        b = b * backend.from_numpy(1 / unit, b)
        size = np.sqrt(backend.to_numpy(backend.cast(abs(b), "float64") ** 2).sum(-2, keepdims=True))
        target = np.maximum(self.tol * size, self.atol / unit)
        start = self.start if self.told is None else None
        if start is not None:
            if not np.isfinite(backend.to_numpy(start)).all():
                raise ValueError("x0 holds nan or infinity")
            start = start * backend.from_numpy(1 / unit, b)

        def in_type(apply: Any) -> Any:
            return lambda p: backend.cast(apply(p), self.dtype)

        precondition = in_type(self.precondition) if self.precondition else None
        outcome = METHODS[self.method](in_type(apply), b, start, precondition, target, self.limit)
        with np.errstate(all="ignore"):
            residual = np.where(size > 0, outcome.residual / size, outcome.residual * unit)[..., 0, :]
        if outcome.unsolved:
            warnings.warn(self._sorry(outcome, residual), ConvergenceWarning, stacklevel=_outside())
        if self.told is None:
            self.told = Info(outcome.iterations, residual, not outcome.unsolved)
        return outcome.x * backend.from_numpy(unit, b)

    def _sorry(self, outcome: Outcome, residual: np.ndarray) -> str:
        asked = f"{self.tol:.1e} of |b|" + (f", or {self.atol:.1e}" if self.atol else "")
        remedy = "a larger max_iterations or alpha, or a better start x0"
        if self.precondition is None:
            remedy = f"a preconditioner, e.g. pairfold.linalg.nystrom(K, alpha), {remedy}"
        if self.limit > outcome.iterations:
            remedy = "float64, a larger alpha, or a larger tol"
        return (
            f"{self.method} stopped after {outcome.iterations} iterations, since {outcome.unsolved}: the residual is "
            f"{residual.max(initial=0):.1e} of |b|, and {asked} was asked for. What may help: {remedy}"
        )


def _units(b: Any) -> np.ndarray:
    """A power of 2 for each column, (…, 1, E), near its largest number: in such units squares neither overflow nor vanish.

    Raises
    ------
    ValueError
        Where a number is nan or infinite.
    """
    backend = backend_of(b)
    if b.shape[-2] == 0:
        return np.ones((*b.shape[:-2], 1, b.shape[-1]))
    largest = backend.to_numpy(backend.module.amax(abs(b), -2))[..., None, :]
    if not np.isfinite(largest).all():
        raise ValueError("b holds nan or infinity")
    far = np.finfo(largest.dtype).maxexp - 8  # so that the unit and its inverse are normal numbers
    unit: np.ndarray = np.ldexp(np.ones_like(largest), np.clip(np.frexp(largest)[1], -far, far))
    return np.where(largest > 0, unit, 1).astype(largest.dtype)


def part_of(value: Any) -> Any:
    """What can be applied as a matrix."""
    from .operators import part_of  # LinearOperators are solvable themselves

    return part_of(value)


def _product(matrix: Any, alpha: Any, arrays: Any) -> Callable[[Any], Any]:
    """The product with (K + α I), where its arrays have other values."""
    values = iter(arrays)
    mapped = matrix._mapped(lambda _: next(values))
    shift = next(values) if is_array(alpha) else alpha
    if not is_array(shift) and shift == 0:
        return lambda p: mapped @ p
    return lambda p: mapped @ p + shift * p


def _shifted_by(alpha: Any, backend: Any) -> Any:
    """α as a Python number, or as an array of one number of the framework."""
    alpha = number(alpha)
    if is_array(alpha):
        if math.prod(alpha.shape) != 1:
            raise ValueError(f"alpha must be one number, not an array of shape {tuple(alpha.shape)}: add diag(alpha) to the matrix")
        if backend_of(alpha) is not backend:
            raise TypeError(f"alpha is an array of {backend_of(alpha).name}, but b of {backend.name}: give a number, or convert it")
        if backend.dtype(alpha) == "bool":
            raise TypeError("alpha must be a number, not an array of bool")
    elif isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
        raise TypeError(f"alpha must be a real number, not {alpha!r}")
    elif not math.isfinite(alpha):
        raise ValueError(f"alpha must be finite, not {alpha!r}")
    return alpha


def _arrays_of(matrix: Any, alpha: Any) -> list[Any]:
    """All that the solution depends on beside b, in the order in which `_product` takes it."""
    found: list[Any] = []

    def note(array: Any) -> Any:
        found.append(array)
        return array

    matrix._mapped(note)
    return [*found, alpha] if is_array(alpha) else found


def _promoted(backend: Any, b: Any, x0: Any, arrays: list[Any], complex_matrix: bool) -> str:
    """The type of the solution."""
    complex_ = complex_matrix or any(backend_of(a).dtype(a).startswith("complex") for a in (b, x0, *arrays) if is_array(a))
    kinds = [backend.dtype(a.real) for a in (b, *([] if x0 is None else [x0]))]
    kinds += [backend.dtype(a.real) for a in arrays if a.ndim and backend.dtype(a.real) in FLOATS]
    found = kinds[0]
    for kind in kinds[1:]:
        found = backend.promote(found, kind)
    found = backend.real(found)
    return {"float64": "complex128"}.get(found, "complex64") if complex_ else found


def _array_of(b: Any) -> Any:
    """The array of right-hand sides; KeOps's are LazyTensors made from one."""
    if getattr(b, "formula", None) is not None and b.formula.op.name == "var" and len(b.leaves) == 1:
        return b.leaves[0].value
    if not is_array(b):
        raise TypeError(f"b must be an array, (N,) or (N, E), not {type(b).__name__}")
    return b


def _started(x0: Any, b: Any, columns: Any, dtype: str) -> Any:
    """Where to start, of the shape of the columns."""
    backend = backend_of(b)
    start = backend.detach(x0[..., None] if b.ndim == 1 else x0)
    try:
        return backend.module.broadcast_to(backend.cast(start, dtype), tuple(columns.shape))
    except (ValueError, RuntimeError):
        shape = tuple(columns.shape[: -1 if b.ndim == 1 else None])
        raise ValueError(f"x0 must have the shape of the solution, {shape}, not {tuple(x0.shape)}") from None


def _refuse_mixed(what: str, matrix: Any, backend: Any) -> None:
    """Refuse a matrix of another framework than b's."""
    if matrix._kind is not None and matrix._kind.backend is not backend:
        raise TypeError(f"the {what} and b are {matrix._kind.backend.name} and {backend.name} arrays: convert one of them")


def _precondition(given: Any, columns: Any) -> Callable[[Any], Any] | None:
    """What gives the product with a preconditioner, of arrays like the columns."""
    if given is None:
        return None
    backend, n = backend_of(columns), columns.shape[-2]
    if hasattr(given, "__matmul__"):
        matrix = part_of(given)
        if matrix.shape[-2:] != (n, n):
            raise ValueError(f"the preconditioner has shape {matrix.shape}, but the system is one of ({n}, {n})")
        _refuse_mixed("preconditioner", matrix, backend)
        return lambda r: matrix @ r
    if not callable(given):
        raise TypeError(f"preconditioner must be a function of an array, or a matrix, not {given!r}")

    def apply(r: Any) -> Any:
        found = given(r)
        if not is_array(found) or backend_of(found) is not backend:
            raise TypeError(f"the preconditioner gives {type(found).__name__}, not an array of {backend.name}")
        if tuple(found.shape) != tuple(r.shape):
            raise ValueError(f"the preconditioner gives an array of shape {tuple(found.shape)} of one of shape {tuple(r.shape)}")
        return found

    return apply


def _outside() -> int:
    """How many frames up the caller of the library is."""
    import sys

    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("pairfold", "torch"):
        depth, frame = depth + 1, frame.f_back
    return depth
