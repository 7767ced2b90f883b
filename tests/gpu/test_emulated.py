"""What is emitted for a GPU and how it is launched, on a GPU made of the CPU's threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.device import DEVICE

NAMES = "numpy or streamed or smallest or fast_math or no_room or no_such"
SLICES = "70-90 and float32 and (64 or 37 or 512) or 70-90 and what_is_long or joined or types"


@pytest.mark.skipif(DEVICE is not None or not sys.platform.startswith("linux"), reason="threads and barriers are those of Linux")
@pytest.mark.parametrize(("file", "names"), [("test_arrays.py", NAMES), ("test_slices.py", SLICES)])
def test_on_threads(file, names):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/gpu/{file}", "-k", names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env={**os.environ, "PAIRFOLD_TEST_DEVICE": "emulated"})
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-4000:] + done.stderr[-1000:]
