"""Kernels of state-space models as their layers compute them: Cauchy and Vandermonde products, complex numbers as pairs of components."""

import pykeops
import torch
from pykeops.torch import Genred, LazyTensor

assert "pairfold" in pykeops.__file__
torch.manual_seed(0)
heads, states, length = 4, 8, 33
v = torch.randn(heads, states, dtype=torch.cdouble, requires_grad=True)
w = torch.complex(-torch.rand(heads, states).double(), torch.randn(heads, states).double()).requires_grad_()
z = torch.exp(1j * torch.linspace(0, 3, length).double()).expand(heads, -1)
steps = torch.arange(length, dtype=torch.double).to(torch.cdouble).expand(heads, -1)
parts, whole = torch.view_as_real, torch.view_as_complex

# What conjugate pairs of states share: v / (z - w) + conj(v) / (z - conj(w)).
cauchy = Genred(
    "ComplexDivide(z * ComplexReal(v) - Real2Complex(Sum(v * w)), ComplexMult(z - w, z - Conj(w)))",
    ["v = Vj(2)", "z = Vi(2)", "w = Vj(2)"],
    reduction_op="Sum",
    axis=1,
)
vandermonde = Genred("ComplexMult(v, ComplexExp(ComplexMult(w, l)))", ["v = Vj(2)", "w = Vj(2)", "l = Vi(2)"], reduction_op="Sum", axis=1)
transposed = Genred("ComplexMult(u, ComplexExp(ComplexMult(w, l)))", ["u = Vj(2)", "w = Vi(2)", "l = Vj(2)"], reduction_op="Sum", axis=1)


def lazily(v, w):
    v_j, w_j, l_i = LazyTensor(v[:, None, :, None]), LazyTensor(w[:, None, :, None]), LazyTensor(steps[:, :, None, None].contiguous())
    return ((w_j * l_i).exp() * v_j).sum(dim=2).squeeze(-1)


powers = torch.exp(w[:, None, :] * steps[..., None])
for name, found, dense in (
    (
        "Cauchy",
        2 * whole(cauchy(parts(v), parts(z.contiguous()), parts(w), backend="CPU")),
        (v[:, None] / (z[..., None] - w[:, None]) + v.conj()[:, None] / (z[..., None] - w.conj()[:, None])).sum(-1),
    ),
    ("Vandermonde", whole(vandermonde(parts(v), parts(w), parts(steps.contiguous()), backend="GPU")), (v[:, None] * powers).sum(-1)),
    ("Vandermonde by LazyTensors", lazily(v, w), (v[:, None] * powers).sum(-1)),
    ("its transpose", whole(transposed(parts(z.contiguous()), parts(w), parts(steps.contiguous()))), (z[..., None] * powers).sum(-2)),
):
    found = found.reshape(dense.shape)
    assert torch.allclose(found, dense), (name, found, dense)
    used = [a for a in (v, w) if name != "its transpose" or a is w]
    first, expected = (torch.autograd.grad((a.abs() ** 2).sum(), used, create_graph=True) for a in (found, dense))
    assert all(torch.allclose(a, b) for a, b in zip(first, expected, strict=True)), (name, first, expected)
    second, expected = (torch.autograd.grad(sum((a.abs() ** 2).sum() for a in some), used, retain_graph=True) for some in (first, expected))
    assert all(torch.allclose(a, b) for a, b in zip(second, expected, strict=True)), (name, second, expected)
print("State spaces: as dense")
