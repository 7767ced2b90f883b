"""Pairfold's main job at full size: a Gaussian kernel sum over 10¹⁰ pairs, and its gradient, with nothing of size M·N ever stored.

Run it with `make demo`, or with `python examples/demo.py --help` for other sizes. It uses PyTorch where it is installed, and NumPy
alone where it is not. It ends with what it took: pairs a second, memory, the error against float64, and the time of the dense way.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import pairfold
from pairfold import LazyTensor

ROWS = 200  # rows checked against float64
COLUMNS = 2  # of the weights b
DENSE = 3_000  # points on each side that the dense way is timed at


def gauss(x: Any, y: Any) -> LazyTensor:
    """The symbolic matrix exp(-|x_i - y_j|²). Nothing is computed here."""
    x_i, y_j = LazyTensor(x[:, None, :]), LazyTensor(y[None, :, :])
    return (-((x_i - y_j) ** 2).sum(-1)).exp()


def main() -> None:
    options = arguments()
    m, n, d = options.m, options.n, options.d
    use_torch = not options.no_torch and importlib.util.find_spec("torch") is not None
    random = np.random.default_rng(0)
    x, y, b = (random.standard_normal(shape).astype(np.float32) for shape in ((m, d), (n, d), (n, COLUMNS)))
    print(f"K = exp(-|x_i - y_j|²), {m:,} × {n:,}, points of dimension {d}, float32, {'PyTorch' if use_torch else 'NumPy'}")
    print(f"Stored, K would fill {human_bytes(4.0 * m * n)}. It never is.\n")

    run = torch_program if use_torch else numpy_program
    start = time.perf_counter()
    run(x[:100], y[:100], b[:100])
    print(f"first call, on 100 points: {time.perf_counter() - start:.2f} s to compile the kernels, or to find them on disk\n")
    with PeakMemory() as memory, pairfold.progress(True):
        values, gradient, forward, backward = run(x, y, b)

    rate = m * n / forward
    print(f"\na = K @ b             {forward:8.2f} s   {rate / 1e9:.2f} billion pairs a second")
    if backward:
        print(f"gradient of |a|² in x {backward:8.2f} s   {m * n / backward / 1e9:.2f} billion pairs a second")
    print(f"peak extra memory     {human_bytes(memory.growth):>10}")
    report_errors(x, y, b, values, gradient)
    report_dense(x, y, b, forward, use_torch)


# --- the program, as a user would write it ------------------------------------------------------------------------------------


def torch_program(x: np.ndarray, y: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, float, float]:
    """a = K @ b and the gradient of |a|² in x; with the seconds that each took."""
    import torch

    x_t, y_t, b_t = torch.from_numpy(x).requires_grad_(), torch.from_numpy(y), torch.from_numpy(b)
    start = time.perf_counter()
    a = gauss(x_t, y_t) @ b_t
    middle = time.perf_counter()
    (g,) = torch.autograd.grad((a**2).sum(), x_t)
    return a.detach().numpy(), g.numpy(), middle - start, time.perf_counter() - middle


def numpy_program(x: np.ndarray, y: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, float, float]:
    """a = K @ b; with the seconds that it took."""
    start = time.perf_counter()
    a = gauss(x, y) @ b
    return a, None, time.perf_counter() - start, 0.0


# --- checks and comparisons ---------------------------------------------------------------------------------------------------


def report_errors(x: np.ndarray, y: np.ndarray, b: np.ndarray, values: np.ndarray, gradient: np.ndarray | None) -> None:
    """The largest deviation from float64 on some random rows."""
    rows = np.random.default_rng(1).choice(len(x), min(ROWS, len(x)), replace=False)
    y64, b64 = y.astype(np.float64), b.astype(np.float64)
    exact, exact_gradient = np.empty((len(rows), b.shape[1])), np.empty((len(rows), x.shape[1]))
    for k, row in enumerate(rows):
        differences = x[row].astype(np.float64) - y64
        weights = np.exp(-(differences**2).sum(1))
        exact[k] = weights @ b64
        exact_gradient[k] = -4 * ((b64 @ exact[k]) * weights) @ differences
    print(f"\nlargest deviation from float64 on {len(rows)} random rows:")
    print(f"  a                   {deviation(values[rows], exact)}")
    if gradient is not None:
        print(f"  gradient            {deviation(gradient[rows], exact_gradient)}")


def deviation(got: np.ndarray, want: np.ndarray) -> str:
    largest = np.abs(got - want).max()
    return f"{largest:10.1e}     {largest / np.abs(want).max():.1e} of the largest value"


def report_dense(x: np.ndarray, y: np.ndarray, b: np.ndarray, seconds: float, use_torch: bool) -> None:
    """The dense way, at a size that fits: its time over all pairs is that of a pair, times M·N."""
    pairs = len(x) * len(y)
    small = x[:DENSE], y[:DENSE], b[:DENSE]
    print(f"\nthe dense way, timed on fewer pairs and extrapolated to {pairs:,}:")

    def line(name: str, call: Callable[[], object], timed: int) -> None:
        call()
        start = time.perf_counter()
        call()
        whole = (time.perf_counter() - start) / timed * pairs
        print(f"  {name:<44} {whole:9.1f} s   Pairfold is {whole / seconds:.0f} times faster   ({timed / 1e6:,.0f} million pairs timed)")

    line("NumPy, (M, N, D) at once", lambda: dense(np, *small), len(small[0]) * len(small[1]))
    if not use_torch:
        return
    import torch

    x_t, y_t, b_t = (torch.from_numpy(array) for array in (x, y, b))
    few = tuple(torch.from_numpy(array) for array in small)
    line("PyTorch, (M, N, D) at once", lambda: dense(torch, *few), len(small[0]) * len(small[1]))
    part = x_t[:1_000]

    def chunked() -> Any:
        return torch.cat([torch.exp(-(torch.cdist(rows, y_t) ** 2)) @ b_t for rows in part.split(100)])

    line("PyTorch, cdist in chunks of 100 rows", chunked, len(part) * len(y))


def dense(library: Any, x: Any, y: Any, b: Any) -> Any:
    """The same sum with every pair stored."""
    return library.exp(-((x[:, None, :] - y[None, :, :]) ** 2).sum(-1)) @ b


class PeakMemory:
    """The growth of this process's memory at its peak, sampled while the block runs. Needs Linux or psutil; else it is nan."""

    growth = float("nan")

    def __enter__(self) -> PeakMemory:
        self._done = threading.Event()
        self._start = self._peak = resident()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()
        self.growth = max(self._peak, resident()) - self._start

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._peak = max(self._peak, resident())


def resident() -> float:
    """Bytes of this process that are in memory now."""
    try:
        with open("/proc/self/statm") as statm:
            import resource

            return float(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        pass
    try:
        import psutil
    except ImportError:
        return float("nan")
    return float(psutil.Process().memory_info().rss)


def human_bytes(count: float) -> str:
    if count != count:
        return "unknown"
    for scale, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= scale:
            return f"{count / scale:.1f} {name}"
    return f"{count / 1e3:.0f} kB"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--m", type=int, default=100_000, help="rows: points x (100 000)")
    parser.add_argument("--n", type=int, default=100_000, help="columns: points y (100 000)")
    parser.add_argument("--d", type=int, default=3, help="dimension of the points (3)")
    parser.add_argument("--no-torch", action="store_true", help="use NumPy even where PyTorch is installed; no gradient then")
    options = parser.parse_args()
    if min(options.m, options.n, options.d) < 1:
        parser.error("--m, --n and --d are at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
