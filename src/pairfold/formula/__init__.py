"""The formula language: what is computed for one pair. Knows no array, no framework and no code generator."""

from . import complex as complex  # with `operators` it fills the operator table
from . import operators as operators
