"""Every test run has a kernel cache of its own, shared by its workers."""

from __future__ import annotations

import gc
import os

import numpy as np
import pytest

from tests import device

device.use()


def pytest_collection_modifyitems(config, items):
    """What is the CPU's own is tested there alone."""
    if device.DEVICE:
        for item in items:
            if item.get_closest_marker("cpu"):
                item.add_marker(pytest.mark.skip(reason="of the CPU's own ways"))


def pytest_collection_finish(session):
    """Thousands of tests are no garbage: the collector, which runs often while kernels are emitted, need not look at them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "kernels"
    before = os.environ.get("PAIRFOLD_CACHE_DIR")
    os.environ["PAIRFOLD_CACHE_DIR"] = str(folder)
    yield folder
    if before is None:
        del os.environ["PAIRFOLD_CACHE_DIR"]
    else:
        os.environ["PAIRFOLD_CACHE_DIR"] = before


@pytest.fixture
def random():
    return np.random.default_rng(20)
