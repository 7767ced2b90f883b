"""GeomLoss's losses, online and multiscale, beside its own dense ones."""

import pykeops
import torch
from geomloss import SamplesLoss

assert "pairfold" in pykeops.__file__
torch.manual_seed(0)
x = torch.rand(300, 3, dtype=torch.float64, requires_grad=True)
y = torch.rand(250, 3, dtype=torch.float64) + 0.2


def value_and_gradient(loss, backend, **options):
    value = SamplesLoss(loss, blur=0.05, backend=backend, **options)(x, y)
    return value.detach(), torch.autograd.grad(value, x)[0]


# GeomLoss itself takes roots of slightly different numbers, dense and online, hence what is allowed for distances without a square.
for loss, options, tolerance in (
    ("sinkhorn", {"p": 2}, 1e-7),
    ("sinkhorn", {"p": 2, "debias": False}, 1e-7),
    ("sinkhorn", {"p": 2, "reach": 0.5}, 1e-7),
    ("sinkhorn", {"p": 1}, 1e-3),
    ("gaussian", {}, 1e-10),
    ("energy", {}, 1e-5),
    ("laplacian", {}, 1e-3),
):
    dense = value_and_gradient(loss, "tensorized", **options)
    for found, expected in zip(value_and_gradient(loss, "online", **options), dense, strict=True):
        assert (found - expected).norm() <= tolerance * expected.norm(), (loss, options, found, expected)

# From coarse to fine, over the cells of a grid alone that are near: an approximation, of GeomLoss's own.
for loss, tolerance in (("gaussian", 1e-9), ("energy", 1e-5), ("laplacian", 1e-2), ("sinkhorn", 0.02)):
    found, expected = value_and_gradient(loss, "multiscale"), value_and_gradient(loss, "tensorized")
    assert abs(found[0] - expected[0]) <= tolerance * abs(expected[0]), (loss, found[0], expected[0])

batches = torch.rand(4, 100, 3), torch.rand(4, 120, 3)
for loss in ("sinkhorn", "energy", "gaussian"):
    found, expected = (SamplesLoss(loss, blur=0.05, backend=backend)(*batches) for backend in ("online", "tensorized"))
    assert found.shape == (4,) and torch.allclose(found, expected, atol=1e-5), (loss, found, expected)
print("GeomLoss: as dense")
