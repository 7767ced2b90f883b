"""`pykeops.numpy`."""

from __future__ import annotations

from ..generic import generic_argkmin, generic_argmin, generic_logsumexp, generic_sum
from ..install import submodules
from ..lazytensor import ComplexGenericLazyTensor, RealGenericLazyTensor, variables_of
from ..reductions import Genred
from ..solve import KernelSolve
from .utils import numpytools

__all__ = [
    "ComplexLazyTensor", "Genred", "KernelSolve", "LazyTensor", "Pm", "Var", "Vi", "Vj", "generic_argkmin", "generic_argmin",
    "generic_logsumexp", "generic_sum",
]  # fmt: skip


class LazyTensor(RealGenericLazyTensor):
    """A symbolic array over NumPy arrays, as KeOps has it: see `GenericLazyTensor`."""

    tools = numpytools


class ComplexLazyTensor(ComplexGenericLazyTensor):
    """A `LazyTensor` of complex numbers."""

    tools = numpytools


numpytools.LazyTensor, numpytools.ComplexLazyTensor, numpytools.Genred, numpytools.KernelSolve = (
    LazyTensor,
    ComplexLazyTensor,
    Genred,
    KernelSolve,
)
Var, Vi, Vj, Pm = variables_of(numpytools)
__getattr__ = submodules("pykeops.numpy")
