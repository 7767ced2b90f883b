"""Names that other libraries have for what has another name here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .symbolic import Symbolic

if TYPE_CHECKING:
    from .tensor import LazyTensor


class Names(Symbolic):
    """KeOps's, PyTorch's and SciPy's other names."""

    def dim(self) -> int:
        """As `ndim`, PyTorch's name."""
        return self.ndim

    def matvec(self, b: Any) -> Any:
        """As ``K @ b``, SciPy's name.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y, b = np.random.rand(5, 3), np.random.rand(7, 3), np.random.rand(7)
        >>> np.allclose((Vi(x) | Vj(y)).matvec(b), (x @ y.T) @ b)
        True
        """
        this: Any = self
        return this @ b

    def rmatvec(self, b: Any) -> Any:
        """As ``K.H @ b``, the product with the transposed matrix, conjugate where it is complex: SciPy's name."""
        this: Any = self
        return this.H @ b

    def factorize(self, *others: Any) -> LazyTensor:
        """The same: what several parts of a formula share is computed once anyway."""
        return self._with(self.formula, self._inner)

    @staticmethod
    def concatenate(tensors: Sequence[Any], axis: int = -1) -> LazyTensor:
        """As the function `concat`, NumPy's name."""
        from .tensor import concat

        return concat(tensors, axis)

    @staticmethod
    def cat(tensors: Sequence[Any], dim: int = -1) -> LazyTensor:
        """As the function `concat`, PyTorch's name."""
        from .tensor import concat

        return concat(tensors, dim)
