"""Whether kernels may use a GPU's approximate instructions. One setting for all threads: derivatives are computed in autograd's own."""

from __future__ import annotations

fast_math = True
