"""Kernels ready to use: each is a formula of two sets of points, to be multiplied, reduced and differentiated like any other.

Points are arrays (M, D) and (N, D), with batch axes in front (…, M, D), or LazyTensors of rows and columns. A length scale is a
number, an array of one number, or one for each component, (D,): "automatic relevance determination". Tensors that require a gradient
get it, whatever they stand for. Where two points coincide the derivative of their distance is taken as 0.

Examples
--------
>>> import numpy as np
>>> from pairfold import kernels
>>> x, y, b = np.random.rand(5, 3), np.random.rand(7, 3), np.random.rand(7)
>>> K = kernels.rbf(x, y, lengthscale=0.5)
>>> K.shape
(5, 7)
>>> squared = ((x[:, None] - y) ** 2).sum(-1)
>>> np.allclose(K @ b, np.exp(-squared / (2 * 0.5**2)) @ b)
True
"""

from __future__ import annotations

import math
from typing import Any

from .arrays import is_array
from .lazy import LazyTensor, Pm, where

__all__ = [
    "cauchy",
    "cosine",
    "energy",
    "gaussian",
    "laplacian",
    "matern",
    "matern12",
    "matern32",
    "matern52",
    "periodic",
    "polynomial",
    "rational_quadratic",
    "rbf",
    "thin_plate",
]


def rbf(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """exp(-|x - y|² / (2 ℓ²)), the squared exponential kernel (Rasmussen and Williams, Gaussian Processes, 2006, eq. 4.9).

    Parameters
    ----------
    x, y : array, (…, M, D) and (…, N, D), or LazyTensor
    lengthscale : number, array or LazyTensor
        ℓ, one or D of them.

    Returns
    -------
    LazyTensor, (…, M, N)

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels
    >>> x, y = np.zeros((1, 2)), np.ones((1, 2))
    >>> np.allclose(kernels.rbf(x, y, lengthscale=np.array([1.0, 2.0])).sum(), np.exp(-0.5 - 0.125))
    True
    """
    return (_squared_distance(x, y, lengthscale) * -0.5).exp()


gaussian = rbf


def matern(x: Any, y: Any, nu: float, lengthscale: Any = 1.0) -> LazyTensor:
    """The Matérn kernel of smoothness ν = 0.5, 1.5 or 2.5 (Rasmussen and Williams, 2006, eq. 4.17); see `rbf` for the others.

    Raises
    ------
    ValueError
        Where ν is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels
    >>> x, y = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    >>> np.allclose(kernels.matern(x, y, nu=0.5, lengthscale=2).sum(), np.exp(-2.5))
    True
    """
    known = {0.5: matern12, 1.5: matern32, 2.5: matern52}
    if nu not in known:
        raise ValueError(f"matern has formulas for nu = {', '.join(map(str, known))}, not for {nu!r}")
    return known[nu](x, y, lengthscale)


def matern12(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """exp(-r), r = |x - y| / ℓ: the Matérn kernel of ν = 1/2, also called exponential. See `rbf`.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels
    >>> x, y = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    >>> np.allclose(kernels.matern12(x, y).sum(), np.exp(-5.0))
    True
    """
    return (-_distance(x, y, lengthscale)).exp()


def matern32(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """(1 + √3 r) exp(-√3 r), r = |x - y| / ℓ: the Matérn kernel of ν = 3/2. See `rbf`.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels
    >>> x, y = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    >>> np.allclose(kernels.matern32(x, y, 5).sum(), (1 + 3**0.5) * np.exp(-(3**0.5)))
    True
    """
    r = _distance(x, y, lengthscale) * math.sqrt(3)
    return (r + 1) * (-r).exp()


def matern52(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """(1 + √5 r + 5/3 r²) exp(-√5 r), r = |x - y| / ℓ: the Matérn kernel of ν = 5/2. See `rbf`.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels
    >>> x, y = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    >>> np.allclose(kernels.matern52(x, y, 5).sum(), (1 + 5**0.5 + 5 / 3) * np.exp(-(5**0.5)))
    True
    """
    squared = _squared_distance(x, y, lengthscale)
    r = squared.sqrt() * math.sqrt(5)
    return (r + squared * (5 / 3) + 1) * (-r).exp()


def rational_quadratic(x: Any, y: Any, lengthscale: Any = 1.0, alpha: Any = 1.0) -> LazyTensor:
    """(1 + |x - y|² / (2 α ℓ²))^(-α) (Rasmussen and Williams, 2006, eq. 4.19). See `rbf`.

    Parameters
    ----------
    x, y, lengthscale
        As for `rbf`.
    alpha : number, array of one number or LazyTensor
        The mixture of scales, > 0.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels
    >>> x, y = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    >>> np.allclose(kernels.rational_quadratic(x, y, 5, alpha=2).sum(), (1 + 1 / 4) ** -2)
    True
    """
    alpha = _parameter(alpha)
    base = _squared_distance(x, y, lengthscale) / (alpha * 2) + 1
    return base ** (-alpha)


def periodic(x: Any, y: Any, lengthscale: Any = 1.0, period: Any = 1.0) -> LazyTensor:
    """exp(-2 Σ_d sin²(π (x_d - y_d) / p_d) / ℓ_d²) (MacKay, 1998; Rasmussen and Williams, 2006, eq. 4.31). See `rbf`.

    Parameters
    ----------
    x, y, lengthscale
        As for `rbf`.
    period : number, array or LazyTensor
        p, one or D of them.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels
    >>> x, y = np.zeros((1, 1)), np.array([[0.75]])
    >>> np.allclose(kernels.periodic(x, y, lengthscale=2, period=3).sum(), np.exp(-2 * 0.5 / 4))
    True
    """
    x_i, y_j = _points(x, y)
    waves = ((x_i - y_j) / _parameter(period) * math.pi).sin() / _parameter(lengthscale)
    return (waves.sqnorm2() * -2).exp()


def cauchy(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """1 / (1 + |x - y|² / ℓ²). See `rbf`.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels
    >>> x, y = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    >>> float(kernels.cauchy(x, y, 5).sum())
    0.5
    """
    return 1 / (_squared_distance(x, y, lengthscale) + 1)


def laplacian(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """exp(-Σ_d |x_d - y_d| / ℓ_d): of the Manhattan distance, as in scikit-learn; `matern12` is that of the Euclidean one. See `rbf`.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels
    >>> x, y = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    >>> np.allclose(kernels.laplacian(x, y, 7).sum(), np.exp(-1.0))
    True
    """
    x_i, y_j = _points(x, y)
    return (-((x_i - y_j).abs() / _parameter(lengthscale)).sum(-1)).exp()


def energy(x: Any, y: Any) -> LazyTensor:
    """-|x - y|, conditionally positive: the kernel of the energy distance (Székely and Rizzo, 2013). See `rbf` for x and y.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels
    >>> x, y = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    >>> float(kernels.energy(x, y).sum())
    -5.0
    """
    return -_distance(x, y, 1)


def thin_plate(x: Any, y: Any) -> LazyTensor:
    """r² log r, r = |x - y|, 0 at 0: the spline that bends least in the plane (Duchon, 1977). See `rbf` for x and y.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels
    >>> x, y = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    >>> np.allclose(kernels.thin_plate(x, y).sum(), 25 * np.log(5))
    True
    """
    squared = _squared_distance(x, y, 1)
    return squared * where(squared == 0, 1, squared).log() / 2


def polynomial(x: Any, y: Any, degree: int = 3, scale: Any = 1.0, offset: Any = 1.0) -> LazyTensor:
    """(scale · x·y + offset)^degree. See `rbf` for x and y.

    Parameters
    ----------
    x, y
        As for `rbf`.
    degree : int
    scale, offset : number, array of one number or LazyTensor

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels
    >>> x, y = np.ones((1, 2)), np.array([[3.0, 4.0]])
    >>> float(kernels.polynomial(x, y, degree=2).sum())
    64.0
    """
    x_i, y_j = _points(x, y)
    return ((x_i | y_j) * _parameter(scale) + _parameter(offset)) ** degree


def cosine(x: Any, y: Any) -> LazyTensor:
    """x·y / (|x| |y|), the cosine of the angle between vectors; 0 where one of them is 0. See `rbf` for x and y.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold import kernels
    >>> x, y = np.array([[2.0, 0.0]]), np.array([[3.0, 4.0]])
    >>> np.allclose(kernels.cosine(x, y).sum(), 0.6)
    True
    """
    x_i, y_j = _points(x, y)
    return x_i.normalize() | y_j.normalize()


def _points(x: Any, y: Any) -> tuple[LazyTensor, LazyTensor]:
    """The points as rows and columns."""
    found = []
    for points, name, index in ((x, "x", (..., slice(None), None, slice(None))), (y, "y", (..., None, slice(None), slice(None)))):
        if isinstance(points, LazyTensor):
            found.append(points)
            continue
        if not is_array(points) or points.ndim < 2:
            given = f"an array of shape {tuple(points.shape)}" if is_array(points) else type(points).__name__
            raise ValueError(f"{name} must be an array of points, (…, {'M' if name == 'x' else 'N'}, D), or a LazyTensor, not {given}")
        found.append(LazyTensor(points[index]))
    return found[0], found[1]


def _parameter(value: Any) -> Any:
    """A number, or an array as a LazyTensor: one number without an inner axis, so that it makes none."""
    if not is_array(value):
        return value
    made = Pm(value)
    return made.elem(0) if made.formula.dim == 1 else made


def _squared_distance(x: Any, y: Any, lengthscale: Any) -> LazyTensor:
    """|x - y|², each component over its length scale."""
    x_i, y_j = _points(x, y)
    scale = _parameter(lengthscale)
    if isinstance(scale, LazyTensor) and scale.formula.dim > 1:
        return ((x_i - y_j) / scale).sqnorm2()
    squared = x_i.sqdist(y_j)
    return squared if not isinstance(scale, LazyTensor) and scale == 1 else squared / scale**2


def _distance(x: Any, y: Any, lengthscale: Any) -> LazyTensor:
    return _squared_distance(x, y, lengthscale).sqrt()
