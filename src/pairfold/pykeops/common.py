"""What programs take from the modules of `pykeops.common`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from ..arrays import is_array
from ..formula.parse import read_aliases
from . import config
from .install import submodules
from .lazytensor import ComplexGenericLazyTensor, GenericLazyTensor

__all__ = [
    "ComplexGenericLazyTensor", "GenericLazyTensor", "WarmUpGpu", "axis2cat", "c_type", "cat2axis", "check_broadcasting",
    "complete_aliases", "get_gpu_number", "get_sizes", "get_tag_backend", "get_tools", "get_type", "is_complex_lazytensor",
    "is_scalar_and_equals", "max_tuple", "pyKeOps_Message", "pyKeOps_Print", "pyKeOps_Warning", "same_or_one_test",
]  # fmt: skip

c_type = {"float16": "half2", "float32": "float", "float64": "double"}


def get_tools(lang: str) -> Any:
    """The functions on arrays of a framework, ``"numpy"`` or ``"torch"``: see `pykeops.torch.utils`."""
    name = "torch" if lang == "pytorch" else lang
    return getattr(import_module(f"{__package__}.{name}.utils"), f"{name}tools")


# ---- axes, categories, aliases


def axis2cat(axis: int) -> int:
    """The category of what is left when an axis, 0 or 1, is reduced."""
    if axis not in (0, 1):
        raise ValueError(f"axis must be 0 or 1, not {axis!r}")
    return 1 - axis


def cat2axis(cat: int) -> int:
    """The axis that is reduced where the result has this category."""
    if cat not in (0, 1):
        raise ValueError("the result of a reduction is of category Vi or Vj")
    return 1 - cat


def get_type(type_str: str, position_in_list: int | None = None) -> tuple[str | None, int, int, int | None]:
    """(name, category, dimension, number) of an alias, ``"x = Vi(3)"`` or ``"x = Vi(0,3)"``; the number where it is given or told."""
    name, equal, rest = type_str.replace(" ", "").partition("=")
    alias = name if not equal else rest
    alias = alias.replace("Vx", "Vi").replace("Vy", "Vj")
    (variable,) = read_aliases([f"alias = {alias}"]).values()
    axis, number, dim, *_ = variable.attrs
    given = "," in alias
    return name if equal else None, "ijp".index(axis), dim, number if given else position_in_list


def get_sizes(aliases: Sequence[str], *args: Any) -> tuple[int, int]:
    """(M, N) of arrays; 1 where no alias tells."""
    sizes = [1, 1]
    for place, alias in reversed(list(enumerate(aliases))):
        _, category, _, number = get_type(alias, place)
        if category < 2 and number is not None:
            sizes[category] = args[number].shape[-2]
    return sizes[0], sizes[1]


def complete_aliases(formula: str, aliases: list[str]) -> list[str]:
    """The aliases, and behind them the variables that a formula names by ``Var(0,3,0)``."""
    import re

    found = {int(number): text for text, number in re.findall(r"(Var\((\d+),\d+,[012]\))", formula.replace(" ", ""))}
    return [*aliases, *(found[n] for n in sorted(found) if n >= len(aliases))]


def check_broadcasting(dims_1: tuple[int, ...] | None, dims_2: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The batch axes that two broadcast to; None for none."""
    if dims_1 is None or dims_2 is None:
        return dims_2 if dims_1 is None else dims_1
    return np.broadcast_shapes(dims_1, dims_2)


def max_tuple(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    """The larger of two numbers at each place."""
    return tuple(map(max, a, b))


def same_or_one_test(*dims: int) -> bool:
    """Whether dimensions broadcast."""
    return len({*dims, 1}) <= 2


def is_scalar_and_equals(x: Any, val: Any) -> bool:
    """Whether x is a Python number of that value."""
    return isinstance(x, (int, float, complex)) and not isinstance(x, bool) and x == val


def is_complex_lazytensor(x: Any) -> bool:
    """Whether x is a LazyTensor of complex numbers."""
    return isinstance(x, ComplexGenericLazyTensor)


# ---- devices and messages


def get_gpu_number() -> int:
    """How many GPUs there are."""
    from ..runtime import cuda

    return cuda.count()


def get_tag_backend(backend: str, variables: Sequence[Any], str: bool = False) -> tuple[Any, Any, Any]:
    """Where arrays are computed with: the GPU, by a 1D scheme, from the GPU's memory; as numbers, or as words."""
    on_gpu = all(bool(getattr(v, "is_cuda", False)) for v in variables if is_array(v)) and len(variables) > 0
    words = ("GPU" if on_gpu else "CPU", "1D", "device" if on_gpu else "host")
    return words if str else (int(on_gpu), 0, int(on_gpu))


def WarmUpGpu() -> None:  # noqa: N802  # KeOps's name
    """Nothing: a GPU is ready as soon as it is asked."""


def pyKeOps_Print(message: str, **options: Any) -> None:  # noqa: N802
    """Print, where `set_verbose` lets it."""
    if config.verbose:
        print(message, **options)


def pyKeOps_Message(message: str, use_tag: bool = True, **options: Any) -> None:  # noqa: N802
    """Print a message, with KeOps's tag in front."""
    pyKeOps_Print(("[pyKeOps] " if use_tag else "") + message, **options)


def pyKeOps_Warning(message: str) -> None:  # noqa: N802
    """Print a warning."""
    pyKeOps_Print(f"[pyKeOps] Warning : {message}")


__getattr__ = submodules("pykeops.common")
