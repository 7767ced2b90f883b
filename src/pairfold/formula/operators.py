"""The operator table: one record an operator, and everything that Pairfold knows of it in that record.

To add an operator, add a record to the file of its kind. Its value against NumPy, its derivative against finite differences, its
printing and its code on every target are then tested from this table.
"""

from __future__ import annotations

from .operator import OPERATORS
from .operators_common import concat, extract, is_zero, power, spread, spread_to, where, zeros
from .operators_elementary import ARITHMETIC, CHOICES, FUNCTIONS, INTERNAL
from .operators_tensor import TENSORS, einsum
from .operators_vector import GEOMETRY, MOVES, REDUCTIONS

__all__ = ["OPERATORS", "concat", "einsum", "extract", "is_zero", "power", "spread", "spread_to", "where", "zeros"]

_PARTS = (ARITHMETIC, FUNCTIONS, CHOICES, INTERNAL, REDUCTIONS, MOVES, GEOMETRY, TENSORS)
OPERATORS.update({op.name: op for part in _PARTS for op in part})
