"""POT's Sinkhorn divergences by GeomLoss over KeOps, beside its dense solver."""

import numpy as np
import ot
import pykeops

assert "pairfold" in pykeops.__file__
random = np.random.default_rng(0)
x, y = random.random((60, 2)), random.random((70, 2)) + 0.5
for metric in ("sqeuclidean", "euclidean"):
    for debias in (False, True):
        (found, log), (expected, dense) = (
            ot.bregman.empirical_sinkhorn2_geomloss(x, y, 0.5, metric=metric, debias=debias, backend=backend, log=True)
            for backend in ("online", "tensorized")
        )
        assert np.isclose(found, expected, rtol=1e-4), (metric, debias, found, expected)
        for name in ("f", "g"):
            assert np.allclose(log[name], dense[name], atol=1e-3), (metric, debias, name, log[name], dense[name])
        assert np.allclose(log["lazy_plan"][:], dense["lazy_plan"][:], rtol=1e-2), (metric, debias)
print("POT: as dense")
