"""Gudhi's nearest neighbours and distances to measures with its KeOps implementation, beside SciPy's distances."""

import numpy as np
import pykeops
from gudhi.point_cloud.dtm import DistanceToMeasure
from gudhi.point_cloud.knn import KNearestNeighbors
from scipy.spatial.distance import cdist

assert "pairfold" in pykeops.__file__
X = np.random.default_rng(0).random((400, 3)).astype(np.float32)
for p in (1, 2, 3, np.inf):
    distances = (
        cdist(X.astype(float), X.astype(float), "chebyshev") if p == np.inf else cdist(X.astype(float), X.astype(float), "minkowski", p=p)
    )
    found = KNearestNeighbors(5, return_distance=True, metric="minkowski", p=p, implementation="keops").fit_transform(X)
    assert np.allclose(found[1], np.sort(distances, 1)[:, :5], atol=1e-6), p
    assert np.array_equal(found[0], np.argsort(distances, 1)[:, :5]), p
found = DistanceToMeasure(5, implementation="keops").fit_transform(X)
expected = np.sqrt((np.sort(cdist(X, X), 1)[:, :5] ** 2).mean(1))
assert np.allclose(found, expected, atol=1e-6)
print("Gudhi: as dense")
