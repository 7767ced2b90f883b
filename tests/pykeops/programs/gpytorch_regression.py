"""Regression by GPyTorch's KeOps kernels, beside its dense ones: predictions, and losses as far as GPyTorch's random estimates go."""

import gpytorch
import pykeops
import torch
from gpytorch import settings
from gpytorch.kernels import MaternKernel, RBFKernel, ScaleKernel, keops

assert "pairfold" in pykeops.__file__
torch.manual_seed(0)
x, x_new = torch.rand(300, 2, dtype=torch.float64), torch.rand(120, 2, dtype=torch.float64)
y = torch.sin(6 * x[:, 0]) * torch.cos(4 * x[:, 1]) + 0.05 * torch.randn(300, dtype=torch.float64)


class Regression(gpytorch.models.ExactGP):
    def __init__(self, kernel, likelihood):
        super().__init__(x, y, likelihood)
        self.mean_module, self.covar_module = gpytorch.means.ConstantMean(), ScaleKernel(kernel)

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def run(kernel, largest_cholesky):
    """Loss, gradients by all parameters, and predicted means and variances."""
    torch.manual_seed(1)
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    model = Regression(kernel, likelihood).double()
    likelihood.noise, model.covar_module.base_kernel.lengthscale = 0.2, 0.3
    loss_of = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    with (
        settings.max_cholesky_size(largest_cholesky),
        settings.cg_tolerance(1e-4),
        settings.eval_cg_tolerance(1e-7),
        settings.max_cg_iterations(300),
        settings.num_trace_samples(200),
        settings.max_preconditioner_size(0),
        settings.max_lanczos_quadrature_iterations(60),
    ):
        model.train()
        loss = -loss_of(model(x), y)
        loss.backward()
        gradients = [p.grad.flatten() for p in model.parameters()]
        model.eval(), likelihood.eval()
        with torch.no_grad():
            predicted = model(x_new)
            return loss.detach(), torch.cat(gradients), predicted.mean, predicted.variance


for kind, options in (
    (keops.RBFKernel, {}),
    (keops.MaternKernel, {"nu": 0.5}),
    (keops.MaternKernel, {"nu": 1.5}),
    (keops.MaternKernel, {"nu": 2.5}),
):
    dense = (RBFKernel if kind is keops.RBFKernel else MaternKernel)(**options)
    loss, gradient, mean, variance = run(kind(**options), largest_cholesky=50)
    dense_loss, dense_gradient, dense_mean, dense_variance = run(dense, largest_cholesky=10_000)
    assert torch.allclose(mean, dense_mean, atol=1e-4), (kind, (mean - dense_mean).abs().max())
    assert torch.allclose(variance, dense_variance, atol=1e-4), (kind, (variance - dense_variance).abs().max())
    assert abs(loss - dense_loss) < 0.02, (kind, loss, dense_loss)
    assert (gradient - dense_gradient).norm() < 0.1 * dense_gradient.norm(), (kind, gradient, dense_gradient)
print("GPyTorch: as dense")
