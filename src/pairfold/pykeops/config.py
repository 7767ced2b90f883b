"""KeOps's settings, `pykeops.config` and `keopscore.config`: what can be told of Pairfold, and what can be set without effect."""

from __future__ import annotations

import importlib.util
import os
import platform
from typing import Any

from ..runtime import cache
from ..runtime.cuda import count

verbose = True
numpy_found = True
torch_found = importlib.util.find_spec("torch") is not None

_AT_START = os.environ.get(cache.VARIABLE)


class Setting:
    """Attributes that KeOps has, of any value; and ``get_…`` and ``set_…`` of any name, which read and write them."""

    def __init__(self, **values: Any):
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        if name == "use_cuda":  # looked up when it is asked for: to look takes a moment
            return count() > 0
        verb, _, what = name.partition("_")
        if verb == "get" and (what in self.__dict__ or what == "use_cuda"):
            return lambda: getattr(self, what)
        if verb == "set" and what:
            return lambda value=None: self.__dict__.__setitem__(what, value)
        raise AttributeError(f"KeOps's setting {name!r} has no meaning in Pairfold")


def get_build_folder() -> str:
    """The folder where compiled kernels are kept."""
    return str(cache.directory())


def set_build_folder(path: Any = None) -> None:
    """Keep compiled kernels there from now on; None for where they were kept at the start."""
    chosen = _AT_START if path is None else str(path)
    if chosen is None:
        os.environ.pop(cache.VARIABLE, None)
    else:
        os.environ[cache.VARIABLE] = chosen


cuda_config = Setting()
openmp_config = Setting(use_OpenMP=True)
platform_detector = Setting(os=platform.system())
# KeOps 2.2 has `keopscore.config.config.use_cuda`, 2.3 has `cuda_config` beside it.
config = Setting(build_folder=None, cpp_flags="", cxx_compiler=None)
config.__dict__["get_build_folder"] = get_build_folder
config.__dict__["set_different_build_folder"] = set_build_folder
pykeops_base, pykeops_cuda, pykeops_openmp = config, cuda_config, openmp_config


def __getattr__(name: str) -> Any:
    if name == "gpu_available":  # looked up when it is asked for: to look takes a moment
        return count() > 0
    if name == "use_cuda":
        return cuda_config.use_cuda
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
