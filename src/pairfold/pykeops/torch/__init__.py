"""`pykeops.torch`."""

from __future__ import annotations

from ..generic import generic_argkmin, generic_argmin, generic_logsumexp, generic_sum
from ..install import submodules
from ..lazytensor import ComplexGenericLazyTensor, RealGenericLazyTensor, variables_of
from ..reductions import Genred
from ..solve import KernelSolve
from .utils import torchtools

__all__ = [
    "ComplexLazyTensor", "Genred", "KernelSolve", "LazyTensor", "Pm", "Var", "Vi", "Vj", "generic_argkmin", "generic_argmin",
    "generic_logsumexp", "generic_sum",
]  # fmt: skip


class LazyTensor(RealGenericLazyTensor):
    """A symbolic array over PyTorch tensors, as KeOps has it: see `GenericLazyTensor`."""

    tools = torchtools


class ComplexLazyTensor(ComplexGenericLazyTensor):
    """A `LazyTensor` of complex numbers."""

    tools = torchtools


torchtools.LazyTensor, torchtools.ComplexLazyTensor, torchtools.Genred, torchtools.KernelSolve = (
    LazyTensor,
    ComplexLazyTensor,
    Genred,
    KernelSolve,
)
Var, Vi, Vj, Pm = variables_of(torchtools)
__getattr__ = submodules("pykeops.torch")
