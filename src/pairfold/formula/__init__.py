"""The formula language: what is computed for one pair. Knows no array, no framework and no code generator."""

from . import operators as operators  # fills the operator table
