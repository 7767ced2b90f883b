"""The devices that the points can lie on. A new one is one record here and one list of workloads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A device: its name on the command line, its name in PyTorch, how to wait for what it was given to do, and the framework that all
    programs use there, if there is but one.
    """

    kind: str
    torch_device: str
    wait: Callable[[], None]
    framework: str | None = None

    def place(self, array: Any, framework: str) -> Any:
        """The NumPy array as the framework's own, on this device."""
        if framework == "numpy":
            return array
        import torch

        return torch.from_numpy(array).to(self.torch_device)


def _synchronise() -> None:
    import torch

    torch.cuda.synchronize()


TARGETS = {
    "cpu": Target("cpu", "cpu", wait=lambda: None),
    "cuda": Target("cuda", "cuda", wait=_synchronise, framework="torch"),
}
