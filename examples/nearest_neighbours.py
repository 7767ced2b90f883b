"""k nearest neighbours in the manner of KeOps's tutorials: in the Euclidean, Manhattan, angular and hyperbolic metrics.

Run it with `python examples/nearest_neighbours.py`; it is written against pykeops's names, which Pairfold serves.
"""

from __future__ import annotations

import argparse

import numpy as np

import pairfold.pykeops

pairfold.pykeops.install()

from pykeops.numpy import Vi, Vj  # noqa: E402

# What orders neighbours, of LazyTensors and of dense arrays alike.
METRICS = {
    "Euclidean": lambda x, y: ((x - y) ** 2).sum(-1),
    "Manhattan": lambda x, y: abs(x - y).sum(-1),
    "angular": lambda x, y: -(x * y).sum(-1),
    "hyperbolic": lambda x, y: ((x - y) ** 2).sum(-1) / (x[:, :, 0] * y[:, :, 0]),  # in the half-space where the first coordinate is > 0
}


def main() -> None:
    parser = argparse.ArgumentParser(description="k nearest neighbours, checked against dense float64.")
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--neighbours", type=int, default=10)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    x, queries = random.random((options.points, 3)) + 0.1, random.random((500, 3)) + 0.1
    for name, metric in METRICS.items():
        found = metric(Vi(queries), Vj(x)).argKmin(options.neighbours, dim=1)
        wanted = np.argsort(metric(queries[:, None], x[None]), axis=1, kind="stable")[:, : options.neighbours]
        same = (found == wanted).mean()
        print(f"{name}: {options.neighbours} neighbours of {len(queries)} queries among {options.points:,} points, {same:.1%} as dense")
        if same < 1:
            raise SystemExit("neighbours differ from those of the dense matrix")


if __name__ == "__main__":
    main()
