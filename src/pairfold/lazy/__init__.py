"""Symbolic matrices as users see them: `LazyTensor`, whose methods lie in one file a subject."""

from .tensor import LazyTensor, Pm, Vi, Vj, cat, concat, where

__all__ = ["LazyTensor", "Pm", "Vi", "Vj", "cat", "concat", "where"]
