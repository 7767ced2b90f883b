"""TorchDR's affinities and embeddings with its KeOps backend, beside its dense ones."""

import pykeops
import torch
import torchdr
from pykeops.torch import LazyTensor

assert "pairfold" in pykeops.__file__
torch.manual_seed(0)
X = torch.randn(150, 5, dtype=torch.float64)


def dense(affinity):
    found = affinity(X)
    found = found[0] if isinstance(found, tuple) else found
    return found @ torch.eye(found.shape[1], dtype=X.dtype) if isinstance(found, LazyTensor) else found


for name, tolerance in (
    ("EntropicAffinity", 1e-8),
    ("NormalizedGaussianAffinity", 1e-12),
    ("NormalizedStudentAffinity", 1e-12),
    ("SelfTuningAffinity", 1e-12),
    ("SinkhornAffinity", 1e-10),
    ("MAGICAffinity", 1e-10),
    ("UMAPAffinity", 1e-8),
    ("SymmetricEntropicAffinity", 1e-4),
):
    of_name = getattr(torchdr, name)
    assert torch.allclose(dense(of_name(backend="keops")), dense(of_name(backend=None)), atol=tolerance), name

# Descents of a few steps; those that draw samples part ways over a rounding.
for method, tolerance in ((torchdr.SNE, 1e-4), (torchdr.LargeVis, 1e-4), (torchdr.TSNE, 0.05)):
    found, expected = (
        method(backend=backend, max_iter=10, random_state=0, perplexity=15).fit_transform(X.float()) for backend in ("keops", None)
    )
    assert (found - expected).norm() <= tolerance * expected.norm(), (method, found, expected)
assert torchdr.UMAP(backend="keops", max_iter=10, n_neighbors=10).fit_transform(X.float()).isfinite().all()
print("TorchDR: as dense")
