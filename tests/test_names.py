"""Names of other libraries mean what they mean there."""

import numpy as np
import pytest

from pairfold import LazyTensor, Vi, Vj


@pytest.mark.parametrize("imaginary", [0, 1])
def test_products(imaginary, random):
    x, y = random.normal(size=(5, 3)) + 1j * imaginary * random.normal(size=(5, 3)), random.normal(size=(7, 3))
    x = x if imaginary else x.real
    K, dense = Vi(x) | Vj(y), x @ y.T
    b, c = random.normal(size=(7, 2)), random.normal(size=5)
    np.testing.assert_allclose(K.matvec(b), dense @ b)
    np.testing.assert_allclose(K.rmatvec(c), dense.conj().T @ c)


def test_shapes_and_components(random):
    x, y = random.normal(size=(5, 3)), random.normal(size=(7, 2))
    K = Vi(x).norm2() * Vj(y)
    assert K.dim() == K.ndim == 3
    np.testing.assert_allclose(K.factorize(Vi(x)).sum(0), K.sum(0))
    for joined in (LazyTensor.cat((Vi(x), Vj(y)), dim=2), LazyTensor.concatenate((Vi(x), Vj(y)), axis=-1)):
        assert joined.shape == (5, 7, 5)
        np.testing.assert_allclose(joined.sum(1), np.concatenate([7 * x, np.broadcast_to(y.sum(0), (5, 2))], axis=1))
