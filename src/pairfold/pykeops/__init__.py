"""Programs written for pykeops, served by Pairfold.

``python -m pairfold.pykeops script.py`` runs one unchanged; `install` does the same from inside. The modules here are those of
pykeops: `torch` and `numpy` with their LazyTensor, Genred and the rest, a thin translation onto Pairfold's own interface.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..runtime import cache
from . import config
from .config import get_build_folder, numpy_found, set_build_folder, torch_found
from .install import install, submodules, uninstall

__version__ = "2.3"  # of the pykeops that this stands for
default_device_id = 0
pykeopsconfig = config
keops_get_build_folder = get_build_folder

__all__ = [
    "check_health", "clean_pykeops", "config", "get_build_folder", "install", "numpy_found", "set_build_folder", "set_verbose",
    "test_numpy_bindings", "test_torch_bindings", "torch_found", "uninstall",
]  # fmt: skip


def set_verbose(val: bool) -> None:
    """Whether messages are printed."""
    config.verbose = val


def clean_pykeops(recompile_jit_binaries: bool = True) -> None:
    """Remove all compiled kernels from disk."""
    cache.clear()


def check_health(config_type: str = "all") -> None:
    """Print what computes: version, kernels' folder, whether there is a GPU."""
    gpu = "yes" if config.gpu_available else "no"
    print(f"pykeops {__version__}, by Pairfold\n    kernels: {get_build_folder()}\n    PyTorch: {torch_found}\n    GPU: {gpu}")


def test_numpy_bindings() -> None:
    """Compute a small sum of NumPy arrays and say whether it is right."""
    import numpy as np

    from .numpy import Genred

    _say("numpy", Genred, np.asarray)


def test_torch_bindings() -> None:
    """Compute a small sum of PyTorch tensors and say whether it is right."""
    from .torch.utils import torchtools

    _say("torch", torchtools.Genred, lambda values: torchtools.array(values, "float64", "cpu"))


def _say(framework: str, genred: Any, array: Any) -> None:
    from .common import pyKeOps_Print

    # |(k, 2k) - (0, 0)|² + |(k, 2k) - (1, 2)|² = 5k² + 5(k - 1)²
    sums = genred("SqDist(x,y)", ["x = Vi(2)", "y = Vj(2)"], axis=1)
    found = sums(array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]), array([[0.0, 0.0], [1.0, 2.0]]))
    right = [float(v) for v in found[:, 0]] == [5.0, 5.0, 25.0]
    pyKeOps_Print(f"pyKeOps with {framework} bindings is working!" if right else "outputs wrong values...")


# Pytest would take them for tests of a file that imports them.
test_numpy_bindings.__test__ = test_torch_bindings.__test__ = False  # type: ignore[attr-defined]


def __getattr__(name: str) -> Any:
    if name == "verbose":
        return config.verbose
    if name in ("keopscore", "show_cuda_status"):
        keopscore = import_module(f"{__name__}.keopscore")
        return keopscore if name == "keopscore" else keopscore.show_cuda_status
    return submodules("pykeops")(name)
