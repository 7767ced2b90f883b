"""What is emitted for a GPU and how it is launched, on a GPU made of the CPU's threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.device import DEVICE

NAMES = "numpy or streamed or smallest or fast_math or no_room or no_such"


@pytest.mark.skipif(DEVICE is not None or not sys.platform.startswith("linux"), reason="threads and barriers are those of Linux")
def test_arrays():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu/test_arrays.py", "-k", NAMES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env={**os.environ, "PAIRFOLD_TEST_DEVICE": "emulated"})
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-4000:] + done.stderr[-1000:]
