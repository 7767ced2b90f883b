"""The tests on another device.

With PAIRFOLD_TEST_DEVICE=cuda the tensors that tests make are on the GPU, and go back to the host where tests compare them in NumPy. What
the library itself makes stays where the library puts it. With PAIRFOLD_TEST_DEVICE=emulated NumPy arrays are computed by a GPU's kernels
on a GPU made of the CPU's threads: see tests/gpu/emulated.py.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path

DEVICE = os.environ.get("PAIRFOLD_TEST_DEVICE")  # cuda, emulated; None for the CPU
HERE = str(Path(__file__).parent)
LIBRARY = str(Path(__file__).parents[1] / "src" / "pairfold")
FACTORIES = ("tensor", "as_tensor", "rand", "randn", "randint", "randperm", "zeros", "ones", "full", "empty", "arange", "linspace", "eye")
# Tests of what is the CPU's: its threads, its memory, its own code.
ON_THE_CPU = ("codegen/", "runtime/", "plan/", "benchmarks/", "gpu/", "test_explain.py", "test_structure.py",
              "test_docs.py", "test_names.py")  # fmt: skip


def asked_by_a_test() -> bool:
    """Whether the nearest caller that is ours is a test."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(LIBRARY):
            return False
        if name.startswith(HERE) and name != __file__:
            return not name[len(HERE) + 1 :].startswith(ON_THE_CPU)
        frame = frame.f_back
    return False


def use() -> None:
    """Have the tests run there."""
    if DEVICE == "emulated":
        import pairfold
        from tests.gpu import emulated

        emulated.install()
        pairfold.backend("cuda")
    elif DEVICE:
        move_tensors()


def move_tensors() -> None:
    """Have all tests make their tensors on the device."""
    import torch
    from torch.utils import _device

    # What PyTorch makes of its own factories, it is to make of those without a wrapper: the devices that it puts in their places …
    _device._device_constructors()
    with contextlib.suppress(ImportError):  # … and what it compiles for forward mode.
        importlib.import_module("torch._decomp.decompositions_for_jvp")

    def there(make):
        def made(*args, **kwargs):
            if "device" in kwargs or not asked_by_a_test():
                return make(*args, **kwargs)
            if "generator" in kwargs:  # of the host's numbers
                wanted = kwargs.pop("requires_grad", False)
                return make(*args, **kwargs).to(DEVICE).requires_grad_(wanted)
            return make(*args, device=DEVICE, **kwargs)

        made.__name__ = make.__name__
        return made

    for name in FACTORIES:
        setattr(torch, name, there(getattr(torch, name)))
    from_numpy, to_numpy, as_array = torch.from_numpy, torch.Tensor.numpy, torch.Tensor.__array__
    torch.from_numpy = lambda array: from_numpy(array).to(DEVICE) if asked_by_a_test() else from_numpy(array)
    torch.Tensor.numpy = lambda self, **more: to_numpy(self.cpu() if asked_by_a_test() else self, **more)
    torch.Tensor.__array__ = lambda self, *more, **named: as_array(self.cpu() if asked_by_a_test() else self, *more, **named)
