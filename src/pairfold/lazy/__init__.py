"""Symbolic matrices as users see them: `LazyTensor`, whose methods lie in one file a subject."""

from .blocks import block
from .complex import ComplexLazyTensor
from .lookup import take
from .operators import LinearOperator, diag, identity
from .strings import from_string
from .tensor import LazyTensor, Pm, Vi, Vj, cat, concat, where

__all__ = [
    "ComplexLazyTensor",
    "LazyTensor",
    "LinearOperator",
    "Pm",
    "Vi",
    "Vj",
    "block",
    "cat",
    "concat",
    "diag",
    "from_string",
    "identity",
    "take",
    "where",
]
