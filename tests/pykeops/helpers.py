"""The drop-in's modules by framework, and arrays for them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import pairfold

SOURCE = str(Path(pairfold.__file__).parents[1])
FRAMEWORKS = ["numpy", "torch"]


def module(framework):
    """``pairfold.pykeops.numpy`` or ``.torch``; skips where PyTorch is absent."""
    if framework == "torch":
        pytest.importorskip("torch")
    return import_module(f"pairfold.pykeops.{framework}")


def array(framework, values, dtype=None):
    values = np.asarray(values) if dtype is None else np.asarray(values).astype(dtype)
    return values if framework == "numpy" else pytest.importorskip("torch").from_numpy(values.copy())


def clouds(framework, random, m=7, n=9, d=3, batch=(), dtype="float64"):
    """Points of rows and of columns: as arrays, as LazyTensors, and as float64 arrays that broadcast to all pairs."""
    x, y = random.standard_normal((*batch, m, d)).astype(dtype), random.standard_normal((*batch, n, d)).astype(dtype)
    keops = module(framework)
    given = array(framework, x), array(framework, y)
    return SimpleNamespace(
        x=given[0],
        y=given[1],
        x_i=keops.LazyTensor(given[0][..., :, None, :]),
        y_j=keops.LazyTensor(given[1][..., None, :, :]),
        dense_x=x.astype(float)[..., :, None, :],
        dense_y=y.astype(float)[..., None, :, :],
        keops=keops,
    )


def close(found, expected, tolerance=1e-10):
    found = np.asarray(found.detach() if hasattr(found, "detach") else found)
    assert found.shape == np.shape(expected), (found.shape, np.shape(expected))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def python(*arguments, cwd=None, path=(), **environment):
    """The output of a Python process."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCE, *map(str, path), os.environ.get("PYTHONPATH", "")]), **environment}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=variables, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
