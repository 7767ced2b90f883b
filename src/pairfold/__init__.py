"""Pairfold: symbolic matrices F(x_i, y_j) that are reduced, and differentiated, without being stored."""

from .lazy import ComplexLazyTensor, LazyTensor, LinearOperator, Pm, Vi, Vj, block, cat, concat, diag, identity, take, where
from .lazy.accuracy import accumulate
from .runtime.progress import progress
from .runtime.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "ComplexLazyTensor",
    "LazyTensor",
    "LinearOperator",
    "Pm",
    "Vi",
    "Vj",
    "accumulate",
    "block",
    "cat",
    "concat",
    "diag",
    "get_num_threads",
    "identity",
    "progress",
    "set_num_threads",
    "take",
    "where",
]
