"""The workloads of KeOps's tutorials, written anew: each checks itself against dense float64."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from .helpers import python

EXAMPLES = Path(__file__).parents[2] / "examples"
WITH = {
    "kmeans": ["--points=3000", "--clusters=10"],
    "nearest_neighbours": ["--points=2000"],
    "interpolation": ["--points=400"],
    "gaussian_mixture": ["--points=400", "--components=5"],
    "lddmm": ["--points=60", "--steps=3"],
    "sinkhorn": ["--points=300", "--iterations=20"],
    "spectral_clustering": ["--points=500"],
    "coarse_to_fine_gaussian": ["--points=3000", "--bandwidth=0.05"],
    "coarse_to_fine_sinkhorn": ["--points=800", "--blur=0.02"],
    "kernel_ridge": ["--points=2000", "--check=300"],
}


@pytest.mark.parametrize("name", WITH)
def test_example(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    if "import torch" in text and find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    python(str(EXAMPLES / f"{name}.py"), *WITH[name])
