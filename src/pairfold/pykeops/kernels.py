"""Small dense kernels that pykeops has for its tests and examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def kernels_of(module: Any) -> tuple[Callable[..., Any], ...]:
    """``squared_distances(x, y)``, and ``kernel(x, y, s, name)``, its logarithm and its derivative, for NumPy or PyTorch."""
    exp, log, sqrt = module.exp, module.log, module.sqrt

    def squared_distances(x: Any, y: Any) -> Any:
        """All |x_i - y_j|², (M, N)."""
        return ((x[:, None, :] - y[None, :, :]) ** 2).sum(-1)

    def choose(of_name: dict[str, Callable[..., Any]], x: Any, y: Any, s: float, name: str) -> Any:
        if name not in of_name:
            raise ValueError(f"kernel must be one of {', '.join(of_name)}, not {name!r}")
        return of_name[name](squared_distances(x, y), s)

    values = {
        "gaussian": lambda d, s: exp(-d / s**2),
        "laplacian": lambda d, s: exp(-sqrt(d) / s),
        "cauchy": lambda d, s: 1 / (1 + d / s**2),
        "inverse_multiquadric": lambda d, s: (1 + d / s**2) ** -0.5,
    }
    logarithms = {
        "gaussian": lambda d, s: -d / s**2,
        "laplacian": lambda d, s: -sqrt(d) / s,
        "cauchy": lambda d, s: -log(1 + d / s**2),
        "inverse_multiquadric": lambda d, s: -log(1 + d / s**2) / 2,
    }
    slopes = {
        "gaussian": lambda d, s: -exp(-d / s**2) / s**2,
        "laplacian": lambda d, s: -exp(-sqrt(d) / s) / (2 * s * sqrt(d)),
        "cauchy": lambda d, s: -((s * (1 + d / s**2)) ** -2),
        "inverse_multiquadric": lambda d, s: -((1 + d / s**2) ** -1.5) / (2 * s**2),
    }

    def kernel(x: Any, y: Any, s: float, kernel: str) -> Any:
        """The (M, N) matrix of a kernel of bandwidth s: ``"gaussian"``, ``"laplacian"``, ``"cauchy"`` or ``"inverse_multiquadric"``."""
        return choose(values, x, y, s, kernel)

    def log_kernel(x: Any, y: Any, s: float, kernel: str) -> Any:
        """The logarithm of a kernel, (M, N)."""
        return choose(logarithms, x, y, s, kernel)

    def grad_kernel(x: Any, y: Any, s: float, kernel: str) -> Any:
        """The derivative of a kernel by the squared distance, (M, N)."""
        return choose(slopes, x, y, s, kernel)

    return squared_distances, kernel, log_kernel, grad_kernel
