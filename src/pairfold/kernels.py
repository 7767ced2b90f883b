"""Ready kernels: symbolic matrices k(x_i, y_j) of two clouds of points.

Each takes

x : array, (M, D) or (M,), after batch axes; or LazyTensor
    Points, one for each row.
y : array, (N, D) or (N,); or LazyTensor
    Points, one for each column.
lengthscale : number, array or LazyTensor
    By which differences are divided: one number, or one for each coordinate, (D,). PyTorch tensors are differentiated by.

and gives a LazyTensor of shape (M, N), to be reduced, multiplied, or put into further formulas. Below, r is the distance of x and y after
that division, r² = Σ_k (x_k - y_k)² / lengthscale_k². Gradients are finite where points coincide; where the kernel has a kink there, they
are 0.

Sources: C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, 2006, chapter 4; D. J. C. MacKay, Introduction to
Gaussian Processes, 1998; G. J. Székely and M. L. Rizzo, Energy statistics, 2013; J. Duchon, Splines minimizing rotation-invariant
semi-norms, 1977.
"""

from __future__ import annotations

import math
from numbers import Number
from typing import Any

import numpy as np

from .arrays import is_array, number
from .lazy import LazyTensor, Pm, where
from .lazy.symbolic import is_complex

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

LARGEST_SMOOTHNESS = 200.5
LARGEST_ALPHA = 1e25  # of a rational quadratic: the Gaussian to the last digit, in float64 too, and no r²/α vanishes that matters
SMALLEST_LENGTH, SMALLEST_OF_SINGLES = 1e-300, 1e-36  # which have an inverse, in float64 and in float32


def gaussian(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """exp(-r²/2), also called RBF or squared exponential (Rasmussen and Williams, 4.9).

    Parameters
    ----------
    x, y, lengthscale
        See the module.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.kernels import gaussian
    >>> x, y, b = np.random.rand(4, 3), np.random.rand(6, 3), np.random.rand(6)
    >>> dense = np.exp(-np.square((x[:, None] - y) / 0.5).sum(-1) / 2)
    >>> np.allclose(gaussian(x, y, 0.5) @ b, dense @ b)
    True
    """
    return _squared(x, y, lengthscale, -0.5).exp()


rbf = gaussian


def matern(x: Any, y: Any, nu: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """Matérn's kernel of smoothness ν, 2^(1-ν)/Γ(ν) (√(2ν) r)^ν K_ν(√(2ν) r) (Rasmussen and Williams, 4.14), for half-integer ν.

    Parameters
    ----------
    x, y, lengthscale
        See the module.
    nu : float, or array of one number
        1/2, 3/2, 5/2 … 401/2, for which it is a polynomial times an exponential; or inf, the Gaussian.

    Raises
    ------
    ValueError
        For another ν.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.kernels import matern
    >>> x, y = np.random.rand(4, 3), np.random.rand(6, 3)
    >>> r = np.linalg.norm(x[:, None] - y, axis=-1)
    >>> np.allclose(matern(x, y, nu=1.5).sum(axis=1), ((1 + np.sqrt(3) * r) * np.exp(-np.sqrt(3) * r)).sum(1))
    True
    """
    single = isinstance(nu, (int, float)) or is_array(nu) and math.prod(nu.shape) == 1 and not is_complex(nu)
    smoothness = float(nu.item() if is_array(nu) else nu) if single else math.nan
    if smoothness == math.inf:
        return gaussian(x, y, lengthscale)
    if not (smoothness >= 0 and smoothness % 1 == 0.5):
        raise ValueError(f"matern takes a smoothness nu of 0.5, 1.5, 2.5 … or inf, not {nu!r}")
    if smoothness > LARGEST_SMOOTHNESS:
        raise ValueError(f"matern takes a smoothness nu of at most {LARGEST_SMOOTHNESS}, or inf, the Gaussian that it tends to, not {nu!r}")
    return _squared(x, y, lengthscale, 2 * smoothness)._apply("matern", attrs=(int(smoothness),))


def matern12(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """exp(-r), `matern` of smoothness 1/2."""
    return matern(x, y, 0.5, lengthscale)


def matern32(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """(1 + √3 r) exp(-√3 r), `matern` of smoothness 3/2."""
    return matern(x, y, 1.5, lengthscale)


def matern52(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """(1 + √5 r + 5r²/3) exp(-√5 r), `matern` of smoothness 5/2."""
    return matern(x, y, 2.5, lengthscale)


def laplacian(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """exp(-Σ_k |x_k - y_k| / |lengthscale_k|), of the Manhattan distance, as in scikit-learn; `matern12` is that of the Euclidean one.

    Parameters
    ----------
    x, y, lengthscale
        See the module.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.kernels import laplacian
    >>> x, y = np.random.rand(4, 3), np.random.rand(6, 3)
    >>> np.allclose(laplacian(x, y, 2.0).sum(axis=1), np.exp(-abs(x[:, None] - y).sum(-1) / 2).sum(1))
    True
    """
    x_i, y_j = _points(x, y)
    return (-((x_i - y_j).abs() * (1 / abs(_lengthscale(lengthscale, x_i, squared=False)))).sum(-1)).exp()


def energy(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """-r, the kernel of the energy distance (Székely and Rizzo): positive definite for weights whose sum is 0.

    Parameters
    ----------
    x, y, lengthscale
        See the module.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.kernels import energy
    >>> x, y = np.random.rand(4, 3), np.random.rand(6, 3)
    >>> np.allclose(energy(x, y).sum(axis=1), -np.linalg.norm(x[:, None] - y, axis=-1).sum(1))
    True
    """
    return -_squared(x, y, lengthscale).sqrt()


def cauchy(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """1/(1 + r²), `rational_quadratic` with α = 1 but for a factor √2 of the length scale.

    Parameters
    ----------
    x, y, lengthscale
        See the module.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.kernels import cauchy
    >>> x, y = np.random.rand(4, 3), np.random.rand(6, 3)
    >>> np.allclose(cauchy(x, y).sum(axis=1), (1 / (1 + np.square(x[:, None] - y).sum(-1))).sum(1))
    True
    """
    return 1 / (1 + _squared(x, y, lengthscale))


def rational_quadratic(x: Any, y: Any, lengthscale: Any = 1.0, alpha: Any = 1.0) -> LazyTensor:
    """(1 + r²/(2α))^-α (Rasmussen and Williams, 4.19).

    Parameters
    ----------
    x, y, lengthscale
        See the module.
    alpha : number, array of one number or LazyTensor
        Above 0; the larger, the more like the Gaussian, which it is where alpha is inf.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.kernels import rational_quadratic
    >>> x, y = np.random.rand(4, 3), np.random.rand(6, 3)
    >>> dense = (1 + np.square((x[:, None] - y) / 2).sum(-1) / (2 * 0.7)) ** -0.7
    >>> np.allclose(rational_quadratic(x, y, lengthscale=2.0, alpha=0.7).sum(axis=1), dense.sum(1))
    True
    """
    a = _single(_above_zero(alpha, "alpha"), "alpha")
    a = a.minimum(LARGEST_ALPHA) if isinstance(a, LazyTensor) else min(a, LARGEST_ALPHA)
    return ((_squared(x, y, lengthscale, 0.5) / a).log1p() * -a).exp()


def periodic(x: Any, y: Any, lengthscale: Any = 1.0, period: Any = 1.0) -> LazyTensor:
    """exp(-2 Σ_k sin²(π (x_k - y_k)/period_k) / lengthscale_k²) (MacKay; Rasmussen and Williams, 4.31).

    Parameters
    ----------
    x, y, lengthscale
        See the module; here the length scale divides the sines.
    period : number, array or LazyTensor
        One, or one for each coordinate.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.kernels import periodic
    >>> x, y = np.random.rand(4), np.random.rand(6)
    >>> dense = np.exp(-2 * np.sin(np.pi * (x[:, None] - y) / 0.3) ** 2 / 0.5**2)
    >>> np.allclose(periodic(x, y, lengthscale=0.5, period=0.3).sum(axis=1), dense.sum(1))
    True
    """
    x_i, y_j = _points(x, y)
    turns = ((x_i - y_j) * (math.pi / _each(period, "period", x_i))).sin()
    return _scaled(turns, lengthscale, -2.0).exp()


def polynomial(x: Any, y: Any, degree: int = 3, scale: Any = 1.0, offset: Any = 1.0) -> LazyTensor:
    """(scale x·y + offset)^degree (Rasmussen and Williams, section 4.2.2).

    Parameters
    ----------
    x, y
        See the module.
    degree : int
        From 0 on.
    scale, offset : number, array of one number or LazyTensor

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.kernels import polynomial
    >>> x, y = np.random.rand(4, 3), np.random.rand(6, 3)
    >>> np.allclose(polynomial(x, y, degree=2, scale=3, offset=0.5).sum(axis=1), ((3 * x @ y.T + 0.5) ** 2).sum(1))
    True
    """
    if isinstance(degree, bool) or not hasattr(degree, "__index__") or degree < 0:
        raise ValueError(f"polynomial takes a whole degree from 0 on, not {degree!r}")
    x_i, y_j = _points(x, y)
    factor, term = (_single(_parameter(value, name), name) for value, name in ((scale, "scale"), (offset, "offset")))
    return ((x_i | y_j) * factor + term) ** degree.__index__()


def cosine(x: Any, y: Any) -> LazyTensor:
    """x·y / (|x| |y|), the cosine of the angle between the two; 0 for points at the origin.

    Parameters
    ----------
    x, y
        See the module.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.kernels import cosine
    >>> x, y = np.random.rand(4, 3), np.random.rand(6, 3)
    >>> dense = x @ y.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(y, axis=1)
    >>> np.allclose(cosine(x, y).sum(axis=1), dense.sum(1))
    True
    """
    x_i, y_j = _points(x, y)
    return x_i.normalize() | y_j.normalize()


def thin_plate(x: Any, y: Any, lengthscale: Any = 1.0) -> LazyTensor:
    """r² log r, the thin-plate spline in the plane (Duchon), 0 at r = 0: positive definite for weights orthogonal to affine functions.

    Parameters
    ----------
    x, y, lengthscale
        See the module.

    Examples
    --------
    >>> import numpy as np
    >>> from pairfold.kernels import thin_plate
    >>> x, y = np.random.rand(4, 2), np.random.rand(6, 2)
    >>> r = np.linalg.norm(x[:, None] - y, axis=-1)
    >>> np.allclose(thin_plate(x, y).sum(axis=1), (r**2 * np.log(r)).sum(1))
    True
    """
    squared = _squared(x, y, lengthscale)
    together = squared == 0
    # The inner choice keeps derivatives finite: that of s log(s) is not at 0.
    return where(together, 0, 0.5 * squared * where(together, 1, squared).log())


# ---- what they share


def _points(x: Any, y: Any) -> tuple[LazyTensor, LazyTensor]:
    """Rows and columns, vectors of one dimension."""
    x_i, y_j = _along(x, "x", -2), _along(y, "y", -3)
    if x_i.formula.dim != y_j.formula.dim:
        raise ValueError(f"the points x have {x_i.formula.dim} coordinates, the points y {y_j.formula.dim}: they must have as many")
    return x_i, y_j


def _along(points: Any, name: str, axis: int) -> LazyTensor:
    if isinstance(points, LazyTensor):
        return _real(points, f"the points {name}")
    if not is_array(points) or points.ndim == 0:
        raise TypeError(f"the points {name} are an array of shape (M, D) or (M,), or a LazyTensor, not {type(points).__name__}")
    vectors = points[:, None] if points.ndim == 1 else points
    return _real(LazyTensor(vectors[..., :, None, :] if axis == -2 else vectors[..., None, :, :]), f"the points {name}")


def _real(made: LazyTensor, name: str) -> LazyTensor:
    if made._complex:
        raise TypeError(f"{name}: kernels are of real numbers, not of {made.dtype}; take z.real and z.imag as coordinates")
    return made


def _parameter(value: Any, name: str) -> Any:
    """A number as it is, an array as a parameter."""
    value = number(value)
    if is_array(value):
        if value.ndim > 1:
            raise ValueError(f"{name} is one number or an array of shape (D,), not of {tuple(value.shape)}")
        value = Pm(value)
    if isinstance(value, LazyTensor):
        return _real(value, name)
    if isinstance(value, complex):
        raise TypeError(f"{name} is a real number, not {value!r}")
    if not isinstance(value, Number):
        raise TypeError(f"{name} is a number, an array or a LazyTensor, not {value!r}")
    return value


def _known(value: Any) -> Any:
    """A parameter's numbers where they are at hand: those of tensors may be on a GPU, or functions of others."""
    found = value.leaves[0].value if isinstance(value, LazyTensor) and len(value.leaves) == 1 else value
    return found if isinstance(found, (int, float, np.ndarray)) else None


def _single(value: Any, name: str) -> Any:
    """A parameter that is one number."""
    if isinstance(value, LazyTensor) and value.formula.dim > 1:
        raise ValueError(f"{name} is one number, not {value.formula.dim}")
    return value


def _divisor(value: Any, name: str) -> Any:
    """A parameter that is divided by."""
    value = _parameter(value, name)
    known = _known(value)
    if known is not None and not np.all(np.abs(known) > 0):  # nan neither
        raise ValueError(f"{name} is {known}, but the kernel divides by it")
    return value


def _above_zero(value: Any, name: str) -> Any:
    """A parameter of which only positive numbers make a kernel."""
    value = _divisor(value, name)
    known = _known(value)
    if known is not None and not np.all(known > 0):
        raise ValueError(f"{name} is above 0, not {known}")
    return value


def _each(value: Any, name: str, points: LazyTensor) -> Any:
    """A parameter that is divided by: one number, or as many as the points have coordinates."""
    value = _divisor(value, name)
    given, dim = value.formula.dim if isinstance(value, LazyTensor) else 1, points.formula.dim
    if given not in (1, dim):
        raise ValueError(f"the points have {dim} coordinates, but {name} has {given}: give one number, or one for each coordinate")
    return value


def _lengthscale(value: Any, points: LazyTensor, squared: bool = True) -> Any:
    """A length scale, of which the inverse can be taken, or that of its square."""
    scale = _each(value, "lengthscale", points)
    known = _known(scale)
    smallest = SMALLEST_OF_SINGLES if points.dtype in ("float16", "bfloat16", "float32") else SMALLEST_LENGTH
    if known is not None and np.any(np.abs(known) < (math.sqrt(smallest) if squared else smallest)):
        what = "whose square is" if squared else "which is"
        raise ValueError(f"lengthscale is {known}, {what} too small for numbers of {points.dtype}: scale the points")
    return scale


def _squared(x: Any, y: Any, lengthscale: Any, factor: float = 1.0) -> LazyTensor:
    """factor · r²."""
    x_i, y_j = _points(x, y)
    return _scaled(x_i - y_j, lengthscale, factor)


def _scaled(vectors: LazyTensor, lengthscale: Any, factor: float) -> LazyTensor:
    """factor · Σ_k v_k² / lengthscale_k²: the factor and the length scale leave the loop together."""
    scale = _lengthscale(lengthscale, vectors)
    if isinstance(scale, LazyTensor) and scale.formula.dim > 1:
        return vectors.weightedsqnorm(factor / scale**2)
    squared = vectors.sqnorm2()
    weight = factor / (scale * scale)
    return squared if isinstance(weight, float) and weight == 1 else squared * weight
