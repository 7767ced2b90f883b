"""What it was measured on."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("pairfold", "numpy", "llvmlite", "torch", "pykeops")
PACKAGES_OF = {"cuda": ("cuda-bindings", "triton")}


def cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """The processor's own name for itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def installed(name: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def gpu() -> dict[str, Any]:
    """PyTorch's current GPU and its driver."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    version = Path("/proc/driver/nvidia/version")
    driver = re.search(r"\d+\.\d+\.\d+", version.read_text()) if version.exists() else None
    return {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "driver": driver and driver[0],
        "cuda": torch.version.cuda,
    }


def describe(kind: str = "cpu") -> dict[str, Any]:
    """Processor, LLVM's name for it, system, versions, how busy the machine was, and the GPU where one is measured."""
    import llvmlite.binding as llvm

    return (gpu() if kind == "cuda" else {}) | {
        "cpu": cpu_model(),
        "llvm_cpu": llvm.get_host_cpu_name(),
        "cores": cores(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "packages": {name: installed(name) for name in (*PACKAGES, *PACKAGES_OF.get(kind, ()))},
    }
