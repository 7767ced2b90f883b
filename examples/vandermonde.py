"""Complex matrices at work: Fourier sums at points of one's own, and the kernels of state-space models. None of them is ever stored.

Run it with `python examples/vandermonde.py`; ``--help`` shows the sizes. Each result is checked: against NumPy's FFT, against the
recurrence that a state-space model stands for, and, where PyTorch is installed, a gradient against PyTorch's own of the dense formula.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from typing import Any

import numpy as np

from pairfold import LazyTensor, Vi, Vj


def main() -> None:
    parser = argparse.ArgumentParser(description="Fourier sums, Vandermonde products and Cauchy kernels, checked.")
    parser.add_argument("--points", type=int, default=20_000, help="points and frequencies of the Fourier sum")
    parser.add_argument("--length", type=int, default=4096, help="length of the state-space models' kernels, even")
    parser.add_argument("--channels", type=int, default=64, help="models of the diagonal kind, a batch each")
    parser.add_argument("--states", type=int, default=64, help="states of each model")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    fourier(random, options.points)
    diagonal_models(random, options.channels, options.states, options.length)
    structured_model(random, options.states, options.length)
    if importlib.util.find_spec("torch") is not None:
        gradient(random, options.states, options.length)


# --- Fourier sums -------------------------------------------------------------------------------------------------------------


def fourier(random: np.random.Generator, n: int) -> None:
    """f(x_i) = Σ_j b_j exp(i x_i w_j): an FFT wants both on a grid, this does not."""
    b = random.standard_normal((n, 2)).astype(np.float32).view(np.complex64)[:, 0]
    x, w = (2 * np.pi * random.random(n)).astype(np.float32), random.uniform(-50, 50, n).astype(np.float32)
    f, seconds = timed(lambda: (Vi(x) * Vj(w)).exp1j() @ b)
    some = random.integers(0, n, 100)
    wanted = np.exp(1j * x[some].astype(np.float64)[:, None] * w) @ b
    report(f"Fourier sum, {n:,} points and {n:,} frequencies, complex64", f[some], wanted, seconds, 1e-5)

    # On a grid, where the FFT can say what is right.
    grid, frequencies = 2 * np.pi * np.arange(n) / n, np.arange(n) - n // 2
    f, seconds = timed(lambda: (Vi(grid) * Vj(frequencies)).exp1j() @ b.astype(np.complex128))
    wanted = n * np.fft.ifft(np.fft.ifftshift(b.astype(np.complex128)))
    report("the same on a grid, complex128, against the FFT", f, wanted, seconds, 1e-9)


# --- state-space models -------------------------------------------------------------------------------------------------------


def vandermonde(rates: Any, weights: Any, steps: Any) -> Any:
    """k_l = 2 Re Σ_n weights_n exp(rates_n l), the kernel of a diagonal model: rates and weights (H, N), steps (L,), result (H, L).

    Written for the arrays of NumPy and of PyTorch alike. The axes in front of rows and columns are batches: one for each channel.
    """
    powers = LazyTensor(steps[:, None, None]) * LazyTensor(rates[:, None, :, None])
    return 2 * (powers.exp() @ weights[:, :, None])[..., 0].real


def diagonal_models(random: np.random.Generator, channels: int, states: int, length: int) -> None:
    """Diagonal state-space models (S4D): x' = A x + B u, y = 2 Re C x, with A diagonal, held over steps of time."""
    a = -0.5 + 1j * np.pi * np.arange(states // 2)  # with its conjugates, half of all states
    c = random.standard_normal((channels, len(a), 2)).view(complex)[..., 0]
    step = np.exp(random.uniform(np.log(1e-3), np.log(1e-1), (channels, 1)))
    rates = (step * a).astype(np.complex64)
    weights = (c * np.expm1(step * a) / a).astype(np.complex64)
    kernel, seconds = timed(lambda: vandermonde(rates, weights, np.arange(length, dtype=np.float32)))

    # What the model does, step by step.
    u = random.standard_normal(length)
    state, outputs = np.zeros((channels, len(a)), complex), np.empty((channels, length))
    for k in range(length):
        state = np.exp(step * a) * state + u[k]
        outputs[:, k] = 2 * (c * np.expm1(step * a) / a * state).sum(-1).real
    filtered = np.fft.irfft(np.fft.rfft(kernel, 2 * length) * np.fft.rfft(u, 2 * length))[:, :length]
    title = f"Vandermonde kernels of {channels} diagonal models, {states} states, length {length}, complex64"
    report(title, filtered, outputs, seconds, 1e-3)


def structured_model(random: np.random.Generator, states: int, length: int) -> None:
    """S4: A is diagonal plus a matrix of rank one, A = Λ - P P*, and the kernel's transform takes four Cauchy products.

    With ω the roots of unity, k = FFT⁻¹(C (I - A' ω)⁻¹ B'), A' and B' being A and B by the bilinear rule for steps of length Δ. There,
    c (I - A' ω)⁻¹ B' = 2/(1 + ω) c (z - A)⁻¹ B at z = 2/Δ (1 - ω)/(1 + ω), and Woodbury's formula leaves sums over 1/(z - λ). They are
    multiplied by 2/(1 + ω) at once, so that ω = -1 is a point like any other.
    """
    rates, p, b = hippo(states)
    c = random.standard_normal((states, 2)).view(complex)[:, 0] / states
    step = 0.01
    a = np.diag(rates) - np.outer(p, p.conj())
    one = np.eye(states)
    held = np.linalg.solve(one - step / 2 * a, one + step / 2 * a)
    into = np.linalg.solve(one - step / 2 * a, step * b)

    def kernel() -> np.ndarray:
        cut = c @ (one - np.linalg.matrix_power(held, length))  # the sum of `length` powers as that of all of them
        roots = np.exp(-2j * np.pi * np.arange(length) / length)
        products = np.stack([cut * b, cut * p, p.conj() * b, p.conj() * p], axis=1)
        cauchy = 2 / (Vi(2 / step * (1 - roots)) - Vi(1 + roots) * Vj(rates))
        from_b, from_p, b_again, p_again = (cauchy @ products).T
        share = (1 + roots) / 2
        return np.fft.ifft(from_b - from_p * b_again * share / (1 + share * p_again))

    found, seconds = timed(kernel)
    wanted, state = np.empty(length, complex), into
    for k in range(length):
        wanted[k] = c @ state
        state = held @ state
    report(f"Cauchy kernel of an S4 model, {states} states, length {length}, complex128", found, wanted, seconds, 1e-8)


def hippo(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The HiPPO matrix of Legendre polynomials: Λ, P and B in the basis where Λ is diagonal."""
    k = np.arange(n)
    root = np.sqrt(2 * k + 1)
    a = -np.tril(np.outer(root, root), -1) - np.diag(k + 1.0)
    p = np.sqrt(k + 0.5)
    normal = a + np.outer(p, p)  # its symmetric part is -I/2
    frequencies, basis = np.linalg.eigh(-1j * (normal + 0.5 * np.eye(n)))
    return -0.5 + 1j * frequencies, basis.conj().T @ p, basis.conj().T @ root


def gradient(random: np.random.Generator, states: int, length: int) -> None:
    """By PyTorch's autograd, through complex parameters, as in training."""
    import torch

    channels = 4
    c = torch.from_numpy(random.standard_normal((channels, states, 2))).view(torch.complex128)[..., 0]
    a = torch.complex(torch.full((channels, states), -0.5), np.pi * torch.arange(states).expand(channels, -1) * 1.0).to(torch.complex128)
    target = torch.from_numpy(random.standard_normal((channels, length)))
    steps = torch.arange(length, dtype=torch.float64)
    step = torch.full((channels, 1), 0.01, dtype=torch.float64)
    variables = [t.clone().requires_grad_() for t in (a, c, step)]

    def loss(kernel: Any) -> Any:
        return (kernel - target).square().mean()

    def symbolic() -> Any:
        a, c, step = variables
        return torch.autograd.grad(loss(vandermonde(a * step, c, steps)), variables)

    found, seconds = timed(symbolic)
    a, c, step = variables
    dense = 2 * torch.einsum("hn,hnl->hl", c, ((a * step)[..., None] * steps).exp()).real
    wanted = torch.autograd.grad(loss(dense), variables)
    for name, got, want in zip(("rates", "weights", "steps of time"), found, wanted, strict=True):
        report(f"gradient in the {name} of {channels} diagonal models", got.numpy(), want.numpy(), seconds, 1e-9)


# --- checks -------------------------------------------------------------------------------------------------------------------


def timed(run: Any) -> tuple[Any, float]:
    """What a function gives, and the seconds of its second call: the first compiles kernels, or finds them on disk."""
    run()
    start = time.perf_counter()
    return run(), time.perf_counter() - start


def report(title: str, found: np.ndarray, wanted: np.ndarray, seconds: float, allowed: float) -> None:
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"{title}\n    {1e3 * seconds:9.2f} ms    largest error {error:.1e}")
    if not error <= allowed:
        raise SystemExit(f"the error is more than {allowed:.0e}")


if __name__ == "__main__":
    main()
