"""What operators mean for complex numbers, as NumPy has it."""

from __future__ import annotations

import numpy as np

MEANING = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "inv": lambda z: 1 / z,
    "square": np.square,
    "pow": np.power,
    "sqrt": np.sqrt,
    "rsqrt": lambda z: 1 / np.sqrt(z),
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "abs": np.abs,
    "eq": np.equal,
    "ne": np.not_equal,
    "where": lambda c, a, b: np.where(c != 0, a, b),
    "sum": lambda a: a.sum(-1, keepdims=True),
    "dot": lambda a, b: (a * b).sum(-1, keepdims=True),
    "sqnorm2": lambda a: (np.abs(a) ** 2).sum(-1, keepdims=True),
    "norm2": lambda a: np.linalg.norm(a, axis=-1, keepdims=True),
    "normalize": lambda a: a / np.linalg.norm(a, axis=-1, keepdims=True),
    "sqdist": lambda a, b: (np.abs(a - b) ** 2).sum(-1, keepdims=True),
    "concat": lambda a, b: np.concatenate(np.broadcast_arrays(a, b), -1) if a.shape[-1] == b.shape[-1] else None,
}
ARITY = {"add": 2, "sub": 2, "mul": 2, "div": 2, "pow": 2, "eq": 2, "ne": 2, "where": 3, "dot": 2, "sqdist": 2, "concat": 2}
