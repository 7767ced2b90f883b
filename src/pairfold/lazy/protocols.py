"""How functions of NumPy and PyTorch find their way to LazyTensors."""

from __future__ import annotations

from typing import Any

from .symbolic import Symbolic


class Protocols(Symbolic):
    """Operators of PyTorch with a tensor on the left and a LazyTensor on the right."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """A PyTorch operator with a tensor on the left and a LazyTensor on the right."""
        name = getattr(function, "__name__", "")
        reflected = {"add": "__radd__", "sub": "__rsub__", "mul": "__rmul__", "div": "__rtruediv__", "true_divide": "__rtruediv__",
                     "pow": "__rpow__", "matmul": "__rmatmul__", "lt": "__gt__", "le": "__ge__", "gt": "__lt__", "ge": "__le__",
                     "eq": "__eq__", "ne": "__ne__"}.get(name.strip("_").removeprefix("r"))  # fmt: skip
        if reflected and not kwargs and len(args) == 2:
            if isinstance(args[1], cls) and not isinstance(args[0], cls):
                tensor, lazy = args
                if name.startswith("__r"):  # Tensor.__rsub__(tensor, lazy) is lazy - tensor
                    return getattr(lazy, name.replace("__r", "__", 1))(tensor)
                return getattr(lazy, reflected)(tensor)
            direct = {"div": "truediv", "true_divide": "truediv"}.get(name, name.strip("_"))
            return getattr(args[0], f"__{direct}__")(args[1])
        raise TypeError(
            f"torch.{name} does not take a symbolic matrix: use its methods, e.g. K.exp(), or reduce it first, e.g. K.sum(dim=1)"
        )
