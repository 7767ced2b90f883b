"""`pykeops.torch.utils`: functions on tensors, and small dense kernels."""

from __future__ import annotations

from typing import Any, ClassVar

from ...arrays import backend_named
from ...arrays.base import COMPLEX, FLOATS
from ...cluster import swap_axes
from ..kernels import kernels_of

_torch = backend_named("torch").module


class torchtools:  # noqa: N801  # KeOps's name
    """What KeOps's LazyTensors ask of PyTorch, under one name for all frameworks; and the classes that go with it."""

    LazyTensor: ClassVar[Any]
    ComplexLazyTensor: ClassVar[Any]
    Genred: ClassVar[Any]
    KernelSolve: ClassVar[Any]

    arraytype = _torch.Tensor
    arrayname = "PyTorch tensors"
    float_types: ClassVar[list[type]] = [float]
    copy, exp, log, norm, eq, solve = _torch.clone, _torch.exp, _torch.log, _torch.norm, _torch.eq, _torch.linalg.solve

    @staticmethod
    def is_tensor(x: Any) -> bool:
        """Whether x is a tensor."""
        return isinstance(x, _torch.Tensor)

    @staticmethod
    def detect_complex(x: Any) -> bool:
        """Whether x, a tensor, a list or a number, holds complex numbers."""
        if isinstance(x, list):
            return any(isinstance(v, complex) for v in x)
        return bool(x.is_complex()) if isinstance(x, _torch.Tensor) else isinstance(x, complex)

    @staticmethod
    def view_as_complex(x: Any) -> Any:
        """The complex numbers whose parts lie beside one another along the last axis."""
        return _torch.view_as_complex(x.unflatten(-1, (-1, 2)))

    @staticmethod
    def view_as_real(x: Any) -> Any:
        """The parts of complex numbers, beside one another along the last axis."""
        return _torch.view_as_real(x).flatten(-2)

    @staticmethod
    def transpose(x: Any) -> Any:
        """The transposed matrix."""
        return x.t()

    @staticmethod
    def permute(x: Any, *axes: int) -> Any:
        """The axes in another order."""
        return x.permute(*axes)

    @staticmethod
    def contiguous(x: Any) -> Any:
        """The same numbers, one behind the other in memory."""
        return x.contiguous()

    @staticmethod
    def arraysum(x: Any, axis: int | None = None) -> Any:
        """The sum along an axis, or of all."""
        return x.sum() if axis is None else x.sum(dim=axis)

    @staticmethod
    def long(x: Any) -> Any:
        """As int64."""
        return x.long()

    @staticmethod
    def size(x: Any) -> int:
        """How many numbers."""
        return int(x.numel())

    @staticmethod
    def tile(x: Any, *sizes: Any) -> Any:
        """Repeated along each axis."""
        return x.repeat(*sizes)

    @staticmethod
    def numpy(x: Any) -> Any:
        """As a NumPy array."""
        return x.detach().cpu().numpy()

    @staticmethod
    def view(x: Any, shape: Any) -> Any:
        """In another shape."""
        return x.view(shape)

    @staticmethod
    def dtype(x: Any) -> Any:
        """The type of its numbers."""
        return getattr(x, "dtype", type(x))

    @staticmethod
    def dtypename(dtype: Any) -> str:
        """The name of a type, e.g. ``"float32"``."""
        return str(dtype).removeprefix("torch.")

    @staticmethod
    def array(x: Any, dtype: str, device: Any = None) -> Any:
        """A tensor of numbers, of the type of that name."""
        if dtype not in (*FLOATS, *COMPLEX, "int32", "int64"):
            raise ValueError(f"dtype is the name of a type of numbers, such as 'float32', not {dtype!r}")
        return _torch.tensor(x, dtype=getattr(_torch, dtype), device=device)

    @staticmethod
    def rand(m: int, n: int, dtype: Any = None, device: Any = None) -> Any:
        """Uniform random numbers, (m, n)."""
        return _torch.rand(m, n, dtype=dtype, device=device)

    @staticmethod
    def randn(m: int, n: int, dtype: Any = None, device: Any = None) -> Any:
        """Normal random numbers, (m, n)."""
        return _torch.randn(m, n, dtype=dtype, device=device)

    @staticmethod
    def zeros(shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
        """Zeros."""
        return _torch.zeros(*shape, dtype=dtype, device=device, requires_grad=requires_grad)

    @staticmethod
    def empty(shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
        """Memory."""
        return _torch.empty(*shape, dtype=dtype, device=device, requires_grad=requires_grad)

    @staticmethod
    def eye(n: int, dtype: Any = None, device: Any = None) -> Any:
        """The identity matrix."""
        return _torch.eye(n, dtype=dtype, device=device)

    @staticmethod
    def device(x: Any) -> Any:
        """Where a tensor lives; None of what is none."""
        return getattr(x, "device", None)

    @staticmethod
    def device_type_index(x: Any) -> tuple[Any, Any]:
        """The type and the number of its device."""
        return (x.device.type, x.device.index) if isinstance(x, _torch.Tensor) else (None, None)

    @staticmethod
    def get_pointer(x: Any) -> int:
        """The address of its numbers."""
        return int(x.data_ptr())

    pointer = get_pointer

    swap_axes = staticmethod(swap_axes)


def is_on_device(x: Any) -> bool:
    """Whether a tensor is on a GPU."""
    return bool(x.is_cuda)


squared_distances, torch_kernel, _, _ = kernels_of(_torch)
