"""Krylov methods: systems A x = b of a matrix that is known by its products alone, on arrays (…, N, E) of any framework.

Every column of every batch is a system of its own, with its own scalars, but all of them share each product: one wide fold. Scalars are
NumPy's float64 on the host, where what happens next is decided; columns that have converged stay as they are.

Sources: M. R. Hestenes and E. Stiefel, Methods of conjugate gradients for solving linear systems, 1952; C. C. Paige and M. A. Saunders,
Solution of sparse indefinite systems of linear equations, 1975.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .arrays import backend_of

Apply = Callable[[Any], Any]

# The recurrences run a little further than asked, since what counts is the residual that is computed anew at the end.
FURTHER = 0.95
# A cycle that starts anew from its own result is worth it where the residual fell at least by this much.
PROGRESS = 0.5
# How many roundings of |A| |p|² may make p·Ap negative, or p·Aq differ from q·Ap, before the matrix is to blame.
ROUNDINGS = 100


class ConvergenceWarning(UserWarning):
    """A solver gave up before its residual was as small as asked."""


class Outcome(NamedTuple):
    """What a solver found.

    Attributes
    ----------
    x : array
        (…, N, E)
    iterations : int
        Of the column that took the most; each took one product.
    residual : ndarray of float64
        (…, 1, E): |b - A x|, computed anew.
    unsolved : str
        Why some are not as small as asked; empty where all are.
    """

    x: Any
    iterations: int
    residual: np.ndarray
    unsolved: str


class Space:
    """Inner products of columns, and multiples of them by scalars (…, 1, E)."""

    def __init__(self, like: Any):
        self.backend = backend_of(like)
        dtype = self.backend.dtype(like)
        self.wide = "complex128" if dtype.startswith("complex") else "float64"
        self.real = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
        self.eps = float(np.finfo(self.real).eps)

    def dot(self, a: Any, b: Any) -> np.ndarray:
        """Σ conj(a) b of each column, summed in float64."""
        products = (a.conj() if self.wide == "complex128" else a) * b
        return self.backend.to_numpy(self.backend.cast(products, self.wide).sum(-2))[..., None, :]

    def norm(self, a: Any) -> np.ndarray:
        return np.sqrt(self.dot(a, a).real)

    def times(self, scalars: np.ndarray, a: Any) -> Any:
        return self.backend.from_numpy(scalars.astype(self.real), a) * a


def cg(apply: Apply, b: Any, start: Any, precondition: Apply | None, target: np.ndarray, limit: int) -> Outcome:
    """Conjugate gradients, for Hermitian positive definite matrices.

    Parameters
    ----------
    apply : callable
        The product of the matrix with an array (…, N, E).
    b, start : array, (…, N, E)
        The right-hand sides, and where to start, or None for 0.
    precondition : callable or None
        The product with a matrix, Hermitian and positive definite too, that is near the inverse.
    target : ndarray, (…, 1, E)
        How large the residual of each column may be.
    limit : int
        Of iterations.

    Raises
    ------
    numpy.linalg.LinAlgError
        Where the matrix shows that it is not symmetric or not positive definite, or products are nan.
    """
    return _cycles(_conjugate_gradients, apply, b, start, precondition, target, limit)


def minres(apply: Apply, b: Any, start: Any, precondition: Apply | None, target: np.ndarray, limit: int) -> Outcome:
    """Minimal residuals, for Hermitian matrices that need not be definite; see `cg`. The preconditioner must be positive definite."""
    return _cycles(_minimal_residuals, apply, b, start, precondition, target, limit)


def _cycles(cycle: Any, apply: Apply, b: Any, start: Any, precondition: Apply | None, target: np.ndarray, limit: int) -> Outcome:
    """Run a method until the residual, computed anew, is as small as asked, or nothing more is gained.

    What a method takes for its residual drifts away from it by rounding; another cycle then starts from what there is.
    """
    space = Space(b)
    x, r = (b * 0, b) if start is None else (start, b - apply(start))
    iterations = 0
    before: Any = np.inf
    while True:
        residual = space.norm(r)
        if not np.isfinite(residual).all():
            raise np.linalg.LinAlgError("the product of the matrix with an array holds nan or infinity")
        open_ = residual > target
        unsolved = ""
        if open_.any():
            if iterations >= limit:
                unsolved = "the limit of iterations was reached"
            elif not (residual <= PROGRESS * before)[open_].any():
                unsolved = f"rounding in {space.real} lets the residual fall no further"
        if unsolved or not open_.any():
            return Outcome(x, iterations, residual, unsolved)
        before = residual
        x, taken = cycle(space, apply, r, x, precondition or (lambda r: r), np.where(open_, FURTHER * target, np.inf), limit - iterations)
        iterations += taken
        r = b - apply(x)


class Watch:
    """Looks at the products of a method for what a Hermitian, or positive definite, matrix would never do."""

    def __init__(self, space: Space, method: str):
        self.space, self.method = space, method
        self.largest: Any = 0.0  # |A p| / |p| of each column, as large as it was seen

    def product(self, p: Any, q: Any, form: np.ndarray, active: np.ndarray) -> np.ndarray:
        """|p|² times the scale of the matrix, for q = A p and form = p·q."""
        norm_p, norm_q = self.space.norm(p), self.space.norm(q)
        if not np.isfinite(norm_q[active]).all():
            raise np.linalg.LinAlgError("the product of the matrix with an array holds nan or infinity")
        with np.errstate(all="ignore"):
            self.largest = np.fmax(self.largest, np.where(active & (norm_p > 0), norm_q / norm_p, 0))
        scale = self.largest * norm_p**2
        if np.iscomplexobj(form) and (active & (abs(form.imag) > np.sqrt(self.space.eps) * scale)).any():
            raise self._not_symmetric("p·Ap is not real")
        return scale

    def symmetry(self, before: np.ndarray, after: np.ndarray, scale: np.ndarray, active: np.ndarray) -> None:
        """q·Ap and p·Aq, which are the same for a symmetric matrix."""
        with np.errstate(all="ignore"):
            off = np.where(active & (scale > 0), abs(after - before) / scale, 0)
        if off.max(initial=0) > np.sqrt(self.space.eps):
            raise self._not_symmetric(f"p·Aq and q·Ap differ by {off.max():.1e} of |p| |A| |q|")

    def _not_symmetric(self, why: str) -> np.linalg.LinAlgError:
        return np.linalg.LinAlgError(
            f"{self.method} needs a symmetric matrix (and preconditioner), and this one is not: {why}. For others there is "
            "scipy.sparse.linalg.gmres(K.as_linear_operator(), b)"
        )


def _conjugate_gradients(
    space: Space, apply: Apply, r: Any, x: Any, precondition: Apply, target: np.ndarray, limit: int
) -> tuple[Any, int]:
    watch = Watch(space, "cg")
    z = precondition(r)
    p, rz = z, space.dot(r, z).real
    active = space.norm(r) > target
    before: tuple[Any, np.ndarray] | None = None
    for k in range(limit):
        if (active & ~(rz > 0)).any():
            raise np.linalg.LinAlgError("the preconditioner is not positive definite: r·(P r) is not positive for a residual r")
        q = apply(p)
        form = space.dot(p, q)
        scale = watch.product(p, q, form, active)
        if before is not None:
            other, size = before
            watch.symmetry(np.zeros(()), space.dot(other, q), np.sqrt(size * scale), active)
        before = (p, scale) if k == 0 else None
        form = form.real
        if k == 0 and (active & (abs(form) <= ROUNDINGS * space.eps * space.norm(p) * space.norm(q)) & (scale > 0)).any():
            raise np.linalg.LinAlgError(
                "cg needs a positive definite matrix, and this one is not: p·Ap is 0 but for rounding, and A p is not"
            )
        if (active & (form < -ROUNDINGS * space.eps * scale)).any():
            found = (form / scale)[active].min()
            raise np.linalg.LinAlgError(
                f"cg needs a positive definite matrix, and this one is not: p·Ap is {found:.1e} of |p| |A| |p|. "
                "Raise alpha, or use minres, which takes indefinite matrices"
            )
        active = active & (form > 0)
        with np.errstate(all="ignore"):
            step = np.where(active, rz / form, 0)
        x, r = x + space.times(step, p), r - space.times(step, q)
        active = active & (space.norm(r) > target)
        if not active.any():
            return x, k + 1
        z = precondition(r)
        rz, rz_before = space.dot(r, z).real, rz
        with np.errstate(all="ignore"):
            p = z + space.times(np.where(active, rz / rz_before, 0), p)
    return x, limit


def _minimal_residuals(space: Space, apply: Apply, r: Any, x: Any, precondition: Apply, target: np.ndarray, limit: int) -> tuple[Any, int]:
    """In the basis v_k = P u_k of Lanczos's method A is tridiagonal, which reflections make triangular, one a step."""
    watch = Watch(space, "minres")
    active = space.norm(r) > target
    u_before, u, v = r * 0, r, precondition(r)
    beta = _root(space.dot(u, v).real, active)  # beside the diagonal
    beta_before = epsilon = corner = np.zeros_like(beta)  # what is left of the last two columns for this one
    cosine, sine = -np.ones_like(beta), np.zeros_like(beta)
    phi = beta  # the residual's norm, as the preconditioner measures it
    w_before = w = x * 0
    first: tuple[Any, np.ndarray] | None = None
    for k in range(limit):
        with np.errstate(all="ignore"):
            inverse = np.where(active, 1 / beta, 0)
            back = np.where(active & (beta_before > 0), beta / beta_before, 0)
        v = space.times(inverse, v)
        q = apply(v)
        form = space.dot(v, q)
        scale = watch.product(v, q, form, active)
        if k == 1 and first is not None:
            other, size = first
            watch.symmetry(beta, space.dot(other, q), np.sqrt(size * scale), active)
        first = (v, scale) if k == 0 else None
        alpha = form.real
        u_before, u = u, q - space.times(back, u_before) - space.times(alpha * inverse, u)
        direction, v = v, precondition(u)
        beta_before, beta = beta, _root(space.dot(u, v).real, active)

        delta, rest = cosine * corner + sine * alpha, sine * corner - cosine * alpha
        above, epsilon, corner = epsilon, sine * beta, -cosine * beta
        pivot = np.hypot(rest, beta)
        active = active & (pivot > 0)
        with np.errstate(all="ignore"):
            over = np.where(active, 1 / pivot, 0)
            cosine, sine = np.where(active, rest * over, cosine), np.where(active, beta * over, 0)
            w_before, w = w, space.times(over, direction - space.times(above, w_before) - space.times(delta, w))
            x = x + space.times(np.where(active, cosine * phi, 0), w)
            phi = np.where(active, sine * phi, phi)
            r = space.times(np.where(active, sine**2, 1), r) - space.times(np.where(active & (beta > 0), phi * cosine / beta, 0), u)
        active = active & (space.norm(r) > target)
        if not active.any():
            return x, k + 1
    return x, limit


def _root(squared: np.ndarray, active: np.ndarray) -> np.ndarray:
    """The norm of a residual as the preconditioner measures it."""
    if (active & (squared < 0)).any():
        raise np.linalg.LinAlgError("the preconditioner is not positive definite: r·(P r) is negative for a residual r")
    return np.sqrt(np.maximum(squared, 0))
