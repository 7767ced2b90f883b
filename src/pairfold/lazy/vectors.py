"""Functions of the vector that a pair has: norms, products, components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..formula.graph import apply
from ..formula.operators import extract
from .symbolic import Symbolic, combine

if TYPE_CHECKING:
    from .tensor import LazyTensor


class Vectors(Symbolic):
    """What acts on the inner axis."""

    def sqnorm2(self) -> LazyTensor:
        """The squared Euclidean norm of each vector."""
        return self._apply("sqnorm2", inner=False)

    def norm2(self) -> LazyTensor:
        """The Euclidean norm of each vector."""
        return self._apply("norm2", inner=False)

    def normalize(self) -> LazyTensor:
        """Each vector over its Euclidean norm; 0 stays 0."""
        return self._apply("normalize")

    def sqdist(self, other: Any) -> LazyTensor:
        """The squared Euclidean distance between vectors."""
        return self._apply("sqdist", other, inner=False)

    def dot(self, other: Any) -> LazyTensor:
        """The inner product of vectors, as ``|``."""
        return self | other

    def concat(self, other: Any, axis: int = -1) -> LazyTensor:
        """The components of self, then those of other."""
        self._inner_axis("concat", axis)
        return self._apply("concat", other, inner=True)

    def elem(self, i: int) -> LazyTensor:
        """Component ``i`` of each vector."""
        if isinstance(i, int) and -self._dim <= i < 0:
            i += self._dim
        return self.extract(i, 1)._without_inner()

    def extract(self, i: int, d: int) -> LazyTensor:
        """The ``d`` components of each vector from component ``i`` on.

        Raises
        ------
        ValueError
            Where the vectors have fewer.
        """
        for name, value in (("i", i), ("d", d)):
            if not isinstance(value, int):
                raise TypeError(f"extract takes whole numbers, not {name} = {value!r}")
        return combine(lambda a: apply("extract", a, attrs=(i, d)) if (i, d) != (0, a.dim) else extract(a, i, d), (self,), True)
