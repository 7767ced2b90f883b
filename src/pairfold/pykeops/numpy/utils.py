"""`pykeops.numpy.utils`: functions on arrays, and small dense kernels with their derivatives."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as _np

from ...cluster import swap_axes
from ..common import WarmUpGpu as WarmUpGpu
from ..kernels import kernels_of


class numpytools:  # noqa: N801  # KeOps's name
    """What KeOps's LazyTensors ask of NumPy, under one name for all frameworks; and the classes that go with it."""

    LazyTensor: ClassVar[Any]
    ComplexLazyTensor: ClassVar[Any]
    Genred: ClassVar[Any]
    KernelSolve: ClassVar[Any]

    arraytype = _np.ndarray
    arrayname = "NumPy arrays"
    float_types: ClassVar[list[type]] = [float, _np.float16, _np.float32, _np.float64]
    copy = staticmethod(_np.copy)
    exp = staticmethod(_np.exp)
    log = staticmethod(_np.log)
    norm = staticmethod(_np.linalg.norm)
    eq = staticmethod(_np.equal)
    solve = staticmethod(_np.linalg.solve)
    arraysum = staticmethod(_np.sum)
    contiguous = staticmethod(_np.ascontiguousarray)
    tile = staticmethod(_np.tile)
    view = staticmethod(_np.reshape)

    @staticmethod
    def is_tensor(x: Any) -> bool:
        """Whether x is an array."""
        return isinstance(x, _np.ndarray)

    @staticmethod
    def detect_complex(x: Any) -> bool:
        """Whether x, an array, a list or a number, holds complex numbers."""
        if isinstance(x, list):
            return any(isinstance(v, complex) for v in x)
        return bool(_np.iscomplexobj(x)) if isinstance(x, (_np.ndarray, _np.generic)) else isinstance(x, complex)

    @staticmethod
    def view_as_complex(x: Any) -> Any:
        """The complex numbers whose parts lie beside one another along the last axis."""
        return _np.ascontiguousarray(x).view(_np.result_type(x, _np.complex64))

    @staticmethod
    def view_as_real(x: Any) -> Any:
        """The parts of complex numbers, beside one another along the last axis."""
        return _np.ascontiguousarray(x).view(x.real.dtype)

    @staticmethod
    def transpose(x: Any) -> Any:
        """The transposed matrix."""
        return x.T

    @staticmethod
    def permute(x: Any, *axes: int) -> Any:
        """The axes in another order."""
        return x.transpose(*axes)

    @staticmethod
    def numpy(x: Any) -> Any:
        """The array itself."""
        return x

    @staticmethod
    def size(x: Any) -> int:
        """How many numbers."""
        return int(x.size)

    @staticmethod
    def long(x: Any) -> Any:
        """As int64."""
        return x.astype(_np.int64)

    @staticmethod
    def dtype(x: Any) -> Any:
        """The type of its numbers."""
        return x.dtype

    @staticmethod
    def dtypename(dtype: Any) -> str:
        """The name of a type, e.g. ``"float32"``."""
        return _np.dtype(dtype).name

    @staticmethod
    def array(x: Any, dtype: Any, device: Any = None) -> Any:
        """An array of numbers."""
        return _np.array(x, dtype=dtype)

    @staticmethod
    def rand(m: int, n: int, dtype: Any = None, device: Any = None) -> Any:
        """Uniform random numbers, (m, n)."""
        return _np.random.rand(m, n).astype(dtype or float)

    @staticmethod
    def randn(m: int, n: int, dtype: Any = None, device: Any = None) -> Any:
        """Normal random numbers, (m, n)."""
        return _np.random.randn(m, n).astype(dtype or float)

    @staticmethod
    def zeros(shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
        """Zeros."""
        return _np.zeros(shape, dtype)

    @staticmethod
    def empty(shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
        """Memory."""
        return _np.empty(shape, dtype)

    @staticmethod
    def eye(n: int, dtype: Any = None, device: Any = None) -> Any:
        """The identity matrix."""
        return _np.eye(n, dtype=dtype)

    @staticmethod
    def device(x: Any) -> str:
        """Where an array lives."""
        return "cpu"

    @staticmethod
    def device_type_index(x: Any) -> tuple[str, None]:
        """The type and the number of its device."""
        return "cpu", None

    @staticmethod
    def device_dict(x: Any) -> dict[str, str]:
        """Its device, as KeOps describes it."""
        return {"cat": "cpu"}

    @staticmethod
    def get_pointer(x: Any) -> int:
        """The address of its numbers."""
        return int(x.__array_interface__["data"][0])

    swap_axes = staticmethod(swap_axes)


squared_distances, np_kernel, log_np_kernel, grad_np_kernel = kernels_of(_np)


def np_kernel_sphere(nalpha: Any, nbeta: Any, s: float, kernel: str) -> Any:
    """Kernels of unit vectors, (M, N): ``"binet"``, ``"linear"``, ``"gaussian_unoriented"`` and ``"gaussian_oriented"``."""
    cosine = nalpha @ nbeta.T
    of_cosine = {
        "binet": lambda: cosine**2,
        "linear": lambda: cosine,
        "gaussian_unoriented": lambda: _np.exp(2 * (cosine**2 - 1) / s**2),
        "gaussian_oriented": lambda: _np.exp(2 * (cosine - 1) / s**2),
    }
    if kernel not in of_cosine:
        raise ValueError(f"kernel must be one of {', '.join(of_cosine)}, not {kernel!r}")
    return of_cosine[kernel]()


def differences(x: Any, y: Any) -> Any:
    """All x_i - y_j by components, (D, M, N)."""
    return x.T[:, :, None] - y.T[:, None, :]


def chain_rules(q: Any, ax: Any, by: Any, Aa: Any, p: Any) -> Any:  # noqa: N803
    """Σ_j 2 (x_i - y_j) Aa_ij <q_i, p_j>, (M, D): the derivative of Σ_ij k(|x_i - y_j|²) <q_i, p_j> by x_i, where Aa is k'."""
    weights = 2 * Aa * (q @ p.T)
    return weights.sum(1)[:, None] * ax - weights @ by


def log_sum_exp(mat: Any, axis: int = 0) -> Any:
    """log Σ exp along an axis, without overflow."""
    largest = mat.max(axis=axis, keepdims=True)
    return _np.squeeze(largest, axis) + _np.log(_np.exp(mat - largest).sum(axis=axis))
