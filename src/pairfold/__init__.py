"""Pairfold: symbolic matrices F(x_i, y_j) that are reduced, and differentiated, without being stored."""

from . import cluster, kernels, linalg
from .arrays.untraced import keep_out as _keep_out
from .formula.parse import FormulaError
from .lazy import ComplexLazyTensor, LazyTensor, LinearOperator, Pm, Vi, Vj, block, cat, concat, diag, from_string, identity, take, where
from .lazy.accuracy import accumulate, fast_math
from .lazy.device import backend
from .runtime.progress import progress
from .runtime.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"
_keep_out()

__all__ = [
    "ComplexLazyTensor",
    "FormulaError",
    "LazyTensor",
    "LinearOperator",
    "Pm",
    "Vi",
    "Vj",
    "accumulate",
    "backend",
    "block",
    "cat",
    "cluster",
    "concat",
    "diag",
    "fast_math",
    "from_string",
    "get_num_threads",
    "identity",
    "kernels",
    "linalg",
    "progress",
    "set_num_threads",
    "take",
    "where",
]
