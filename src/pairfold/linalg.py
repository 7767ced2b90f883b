"""Systems of equations (K + α I) a = b of symbolic matrices, solved by products with K alone, in memory linear in its length.

`cg` and `minres` are ``K.solve`` by their names; `nystrom` makes a preconditioner for systems on which plain conjugate gradients stall;
`linear` makes a matrix of a reduction that is linear in one of its variables.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrays import backend_of, is_array, number
from .arrays.base import INTEGERS
from .krylov import ConvergenceWarning
from .lazy import LinearOperator, diag, identity
from .lazy.linear import linear
from .lazy.operators import product
from .lazy.parameters import whole_number
from .lazy.solvable import Info, part_of
from .lazy.symbolic import Symbolic

__all__ = ["ConvergenceWarning", "Info", "cg", "linear", "minres", "nystrom"]

# Directions in which the approximation has less than this part of α make no difference.
NEGLIGIBLE = 0.1
INDEFINITE = 1e-8  # a negative eigenvalue of more than this part of all is no rounding
ENTRIES_AT_ONCE = 1 << 22


def cg(A: Any, b: Any, alpha: Any = 0, **options: Any) -> Any:  # noqa: N803
    """The solution of (A + α I) a = b by conjugate gradients, for a symmetric positive definite matrix.

    Parameters
    ----------
    A : LazyTensor, LinearOperator or array (…, N, N)
    b, alpha, x0, preconditioner, tol, atol, max_iterations, info
        As in `LazyTensor.solve`.

    Returns
    -------
    array, or array and Info

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels, linalg
    >>> x, b = np.random.rand(300, 2), np.random.rand(300, 4)
    >>> K = kernels.gaussian(x, x, 0.2)
    >>> a, info = linalg.cg(K, b, alpha=0.1, tol=1e-8, info=True)
    >>> bool((info.residual <= 1e-8).all()), np.allclose(K @ a + 0.1 * a, b)
    (True, True)
    """
    return part_of(A).solve(b, alpha, method="cg", **options)


def minres(A: Any, b: Any, alpha: Any = 0, **options: Any) -> Any:  # noqa: N803
    """The solution of (A + α I) a = b by minimal residuals, for a symmetric matrix that need not be definite.

    Parameters
    ----------
    A : LazyTensor, LinearOperator or array (…, N, N)
    b, alpha, x0, preconditioner, tol, atol, max_iterations, info
        As in `LazyTensor.solve`.

    Returns
    -------
    array, or array and Info

    Examples
    --------
    The weights and the polynomial of a thin-plate spline, which is a saddle point:

    >>> import numpy as np
    >>> from pairfold import block, kernels, linalg
    >>> x = np.random.default_rng(0).random((60, 2))
    >>> P = np.concatenate([np.ones((60, 1)), x], 1)
    >>> A = block([[kernels.thin_plate(x, x), P], [P.T, np.zeros((3, 3))]])
    >>> b = np.concatenate([np.sin(5 * x[:, 0]), np.zeros(3)])
    >>> a = linalg.minres(A, b, tol=1e-9)
    >>> np.allclose(A @ a, b)
    True
    """
    return part_of(A).solve(b, alpha, method="minres", **options)


def nystrom(K: Any, alpha: Any, rank: int | None = None, landmarks: Any = None, seed: int = 0) -> LinearOperator:  # noqa: N803
    """A preconditioner for K + α I: the inverse of Nyström's approximation of K by some of its columns, plus α I.

    Directions in which the approximation has less than a tenth of α are left to α alone. Each product takes two with the (N, rank)
    matrix of those columns, which is not stored either; making it takes N · rank² operations.
    It pays where K has few eigenvalues far above α, as smooth kernels on many points have.

    Parameters
    ----------
    K : LazyTensor, (…, N, N)
        Symmetric, positive semidefinite.
    alpha : float
        Positive.
    rank : int, optional
        How many columns, chosen at random; 2 √N by default.
    landmarks : array of int, optional
        Which columns.
    seed : int
        Of the random choice.

    Returns
    -------
    LinearOperator, (…, N, N)
        Symmetric positive definite, float64; not differentiated, since solutions do not depend on it.

    Raises
    ------
    ValueError
        Where alpha is not positive, or there are not so many columns.
    numpy.linalg.LinAlgError
        Where K shows that it is not positive semidefinite.

    References
    ----------
    C. Williams and M. Seeger, Using the Nyström method to speed up kernel machines, 2001; Z. Frangella, J. A. Tropp and M. Udell,
    Randomized Nyström preconditioning, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels, linalg
    >>> random = np.random.default_rng(0)
    >>> x, b = random.random((2000, 3)), random.random(2000)
    >>> K = kernels.gaussian(x, x, 0.5)
    >>> P = linalg.nystrom(K, 1e-3)
    >>> _, plain = K.solve(b, alpha=1e-3, info=True)
    >>> _, faster = K.solve(b, alpha=1e-3, preconditioner=P, info=True)
    >>> plain.iterations > 5 * faster.iterations, faster.converged
    (True, True)
    """
    if not isinstance(K, Symbolic):
        raise TypeError(f"nystrom takes a LazyTensor, whose columns it picks, not {K!r}")
    if is_array(alpha) and math.prod(alpha.shape) == 1:
        alpha = number(backend_of(alpha).to_numpy(alpha).reshape(()))
    if not isinstance(alpha, (int, float)) or not 0 < alpha < math.inf:
        raise ValueError(f"nystrom needs a positive alpha, one finite number that bounds the eigenvalues from below, not {alpha!r}")
    matrix: Any = part_of(K)
    n = matrix.shape[-1]
    if matrix.shape[-2] != n:
        raise ValueError(f"nystrom takes a square matrix, not one of shape {matrix.shape}")
    backend, wide = backend_of(matrix._an_array()), "complex128" if matrix._complex else "float64"

    def widened(array: Any) -> Any:
        return backend.cast(backend.detach(array), "float64") if backend.dtype(array) not in (*INTEGERS, "bool") else array

    matrix = matrix._mapped(widened)
    eps = float(np.finfo("float64").eps)
    chosen = backend.indices(_landmarks(n, rank, landmarks, seed), matrix._an_array())
    m = len(chosen)
    columns = matrix[..., chosen]
    module = backend.module
    # K is about B B*, where B are the columns times the inverse root of the matrix among the landmarks.
    values, vectors = module.linalg.eigh(backend.cast(columns[..., chosen, :].dense(), wide))
    if bool((values[..., 0] < -INDEFINITE * abs(values).sum(-1)).any()):
        raise np.linalg.LinAlgError("nystrom needs a positive semidefinite matrix, but among the landmarks there are negative eigenvalues")
    least = module.maximum(values[..., -1:] * (m * eps), values[..., -1:] * 0 + NEGLIGIBLE * alpha * m / n)
    there = values > least
    few = max(1, int(there.sum(-1).max()))
    values, there = values[..., -few:], there[..., -few:]
    to_root = vectors[..., -few:] * (module.where(there, values, 1.0) ** -0.5 * there)[..., None, :]
    gram: Any = 0
    step = max(1, ENTRIES_AT_ONCE // (m * math.prod(matrix.shape[:-2])))
    for k in range(0, n, step):
        part = columns[..., k : k + step, :].dense() @ to_root
        gram = gram + part.conj().swapaxes(-1, -2) @ part
    # Its eigenvectors and eigenvalues; α + the latter is taken to α by what is subtracted from the identity.
    values, vectors = module.linalg.eigh(gram)
    there = values > NEGLIGIBLE * alpha
    basis = to_root @ (vectors * (module.where(there, values, 1.0) ** -0.5 * there)[..., None, :])
    # The columns are orthogonal but for rounding, which must not make the inverse indefinite.
    rounding = few * (10 * eps * values[..., -1:] / alpha) ** 2 + 100 * eps
    off = module.minimum(values / (values + alpha), 1 - rounding) * there
    correction = product(columns, basis, diag(off), basis.conj().swapaxes(-1, -2), columns.H)
    return (identity(n) - correction) * (1 / alpha)


def _landmarks(n: int, rank: int | None, landmarks: Any, seed: int) -> np.ndarray:
    if landmarks is not None:
        if rank is not None:
            raise ValueError("nystrom takes a rank or landmarks, not both")
        found = backend_of(landmarks).to_numpy(landmarks) if is_array(landmarks) else np.asarray(landmarks)
        if found.ndim != 1 or found.dtype.kind not in "iu" or not len(found):
            raise ValueError(f"landmarks must be the numbers of columns, an array (rank,) of int, not {landmarks!r}")
        return found
    rank = min(n, math.ceil(2 * math.sqrt(n))) if rank is None else whole_number("nystrom's rank", rank)
    if whole_number("nystrom's seed", seed) < 0:
        raise ValueError(f"nystrom takes a seed from 0 on, not {seed}")
    if not 1 <= rank <= n:
        raise ValueError(f"nystrom with rank {rank}: it must lie between 1 and {n}, the number of columns")
    return np.sort(np.random.default_rng(seed).choice(n, rank, replace=False))
