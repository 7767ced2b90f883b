"""Linear systems: KeOps's names for `pairfold.linalg`."""

from __future__ import annotations

from typing import Any


class KernelSolve:
    """Not there yet."""

    def __init__(self, *args: Any, **options: Any):
        raise NotImplementedError
