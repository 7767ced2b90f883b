"""A Gaussian mixture fitted in the manner of KeOps's tutorials: log-likelihoods by a weighted logsumexp, learnt by PyTorch.

Run it with `python examples/gaussian_mixture.py`; it is written against pykeops's names, which Pairfold serves.
"""

from __future__ import annotations

import argparse

import torch

import pairfold.pykeops

pairfold.pykeops.install()

from pykeops.torch import Vi, Vj  # noqa: E402


class Mixture(torch.nn.Module):
    """Means, matrices A with precision A A' for each component, and weights by a softmax."""

    def __init__(self, components: int, dim: int):
        super().__init__()
        self.means = torch.nn.Parameter(torch.rand(components, dim, dtype=torch.float64))
        self.roots = torch.nn.Parameter(4 * torch.eye(dim, dtype=torch.float64).repeat(components, 1, 1))
        self.logits = torch.nn.Parameter(torch.zeros(components, 1, dtype=torch.float64))

    def parts(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Precisions (K, D, D), and weights times the densities' factors (K, 1)."""
        precisions = self.roots @ self.roots.mT
        weights = self.logits.softmax(0) * precisions.det().sqrt()[:, None] / (2 * torch.pi) ** (self.means.shape[1] / 2)
        return precisions, weights

    def log_likelihood(self, x: torch.Tensor) -> torch.Tensor:
        precisions, weights = self.parts()
        exponents = -Vi(x).weightedsqdist(Vj(self.means), Vj(precisions.flatten(1))) / 2
        return exponents.logsumexp(dim=1, weight=Vj(weights))[:, 0]

    def dense(self, x: torch.Tensor) -> torch.Tensor:
        precisions, weights = self.parts()
        difference = x[:, None] - self.means
        exponents = -torch.einsum("ikd,kde,ike->ik", difference, precisions, difference) / 2
        return (exponents + weights.log()[:, 0]).logsumexp(1)


def main() -> None:
    parser = argparse.ArgumentParser(description="A Gaussian mixture, checked against dense float64.")
    parser.add_argument("--points", type=int, default=5000)
    parser.add_argument("--components", type=int, default=20)
    options = parser.parse_args()
    torch.manual_seed(0)
    t = 2 * torch.pi * torch.rand(options.points, 1, dtype=torch.float64)
    x = 0.5 + 0.4 * t / 7 * torch.cat([t.cos(), t.sin()], 1) + 0.02 * torch.randn(options.points, 2, dtype=torch.float64)
    model = Mixture(options.components, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for step in range(51):
        optimizer.zero_grad()
        loss = -model.log_likelihood(x).mean()
        loss.backward()
        if step % 25 == 0:
            wanted = -model.dense(x).mean()
            gradients = torch.autograd.grad(wanted, list(model.parameters()))
            error = max((p.grad - g).abs().max() / g.abs().max() for p, g in zip(model.parameters(), gradients, strict=True))
            print(f"step {step}: minus log-likelihood {loss:.4f}, dense {wanted:.4f}, largest error of a gradient {error:.1e}")
            if not (abs(loss - wanted) < 1e-9 and error < 1e-8):
                raise SystemExit("the loss or its gradient differs from the dense one")
        optimizer.step()


if __name__ == "__main__":
    main()
