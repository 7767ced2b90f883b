"""Geomstats's varifold distances between triangulated surfaces: kernels put together of symbolic variables, beside dense ones."""

import os

import numpy

if not hasattr(numpy, "trapz"):
    numpy.trapz = numpy.trapezoid  # Geomstats 2.8 imports it by the name that NumPy 2.4 no longer has
os.environ["GEOMSTATS_BACKEND"] = "pytorch"

import pykeops  # noqa: E402
import torch  # noqa: E402
from geomstats import varifold  # noqa: E402
from geomstats._mesh import Surface  # noqa: E402

assert "pairfold" in pykeops.__file__
torch.manual_seed(0)


def surface(points):
    faces = torch.stack([torch.randperm(points)[:3] for _ in range(3 * points)])
    return Surface(torch.rand(points, 3, dtype=torch.float64), faces)


def dense(kernel, a, b):
    """The sum over pairs of faces, of areas and a function of squared distances of centres and of inner products of normals."""
    square = ((a.face_centroids[:, None] - b.face_centroids) ** 2).sum(-1)
    return (kernel(square, a.face_normals @ b.face_normals.T) * a.face_areas * b.face_areas.reshape(1, -1)).sum()


a, b = surface(30), surface(40)
gaussian, cauchy = varifold.GaussianKernel(0.7), varifold.CauchyKernel(0.7)
for position, of_square in ((gaussian, lambda s: torch.exp(-s / 0.49)), (cauchy, lambda s: 1 / (1 + s / 0.49))):
    following = {"init_index": position.new_variable_index()}
    for tangent, of_product in (
        (varifold.LinearKernel(**following), lambda p: p),
        (varifold.BinetKernel(**following), lambda p: p**2),
        (varifold.RestrictedGaussianKernel(0.5, oriented=True, **following), lambda p: torch.exp(8 * (p - 1))),
        (varifold.RestrictedGaussianKernel(0.5, **following), lambda p: torch.exp(8 * (p**2 - 1))),
    ):

        def kernel(square, product, of_square=of_square, of_product=of_product):
            return of_square(square) * of_product(product)

        metric = varifold.VarifoldMetric(varifold.SurfacesKernel(position, tangent))
        expected = dense(kernel, a, a) - 2 * dense(kernel, a, b) + dense(kernel, b, b)
        assert torch.allclose(metric.squared_dist(a, b), expected), (metric.squared_dist(a, b), expected)


def to_b(vertices):
    moved = Surface(vertices, a.faces)
    return sum(sign * dense(lambda s, p: torch.exp(-s) * p**2, x, y) for sign, x, y in ((1, b, b), (-2, b, moved), (1, moved, moved)))


loss = varifold.VarifoldMetric().loss(b, target_faces=a.faces)
vertices = a.vertices.clone().requires_grad_()
(found,), (expected,) = (torch.autograd.grad(of(vertices).sum(), vertices) for of in (loss, to_b))
assert torch.allclose(found, expected), (found, expected)
print("Geomstats: as dense")
