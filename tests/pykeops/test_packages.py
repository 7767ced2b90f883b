"""Programs over packages that use pykeops, which run as they are; skipped where a package is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from .helpers import python

PROGRAMS = Path(__file__).parent / "programs"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packages", "program"),
    [
        ("geomloss", "geomloss_losses"),
        ("gpytorch", "gpytorch_regression"),
        ("torchdr", "torchdr_affinities"),
        ("gudhi", "gudhi_neighbours"),
        ("geomstats", "geomstats_varifolds"),
        ("geomloss ot", "pot_sinkhorn"),
        ("torch", "state_spaces"),
    ],
)
def test_program(packages, program):
    for needed in ("torch", *packages.split()):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    assert python("-W", "ignore", "-m", "pairfold.pykeops", str(PROGRAMS / f"{program}.py")).endswith("as dense\n")
