"""What programs take from `keopscore`: its settings."""

from __future__ import annotations

from typing import Any

from . import check_health, config, set_build_folder
from . import clean_pykeops as clean_keops
from .config import cuda_config, get_build_folder, openmp_config, platform_detector

__all__ = [
    "auto_factorize", "check_health", "clean_keops", "config", "cuda_config", "get_build_folder", "openmp_config",
    "platform_detector", "set_build_folder", "verbose",
]  # fmt: skip

__version__ = "2.3"
verbose = True
auto_factorize = debug_ops = debug_ops_at_exec = False


def __getattr__(name: str) -> Any:
    if name == "build_folder":
        return get_build_folder()
    if name in ("show_cuda_status", "show_gpu_config"):
        return config.gpu_available if name == "show_cuda_status" else cuda_config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
