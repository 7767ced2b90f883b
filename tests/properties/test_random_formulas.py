"""Random formulas of all operators, under all reductions, against dense float64 NumPy: values, first and second derivatives.

`python -m tests.properties.long` checks more of them.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from tests.properties.check import BATCHES, KEPT, KINDS, REDUCED, Setting, check
from tests.properties.generate import NAMES

pytest.importorskip("torch")

CASES, ROOTS, SHARE = 5, 24, 19  # of each kind of reduction; formulas a case; how many of them must have been checked sharply
assert CASES * SHARE * len(KINDS) >= 2000

# A case is a kernel or two for all its formulas, of which the first that is wrong is named: there is nothing to shrink.
relaxed = settings(
    max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, phases=(Phase.explicit, Phase.reuse, Phase.generate)
)


def some_operators(kind: tuple[str, str]) -> tuple[str, ...]:
    """Those that a kind's cases are bound to have: together, all."""
    own = -(-len(NAMES) // len(KINDS))
    first = own * KINDS.index(kind)
    return tuple(NAMES[first : first + own])


def test_every_operator_is_among_them():
    assert {name for kind in KINDS for name in some_operators(kind)} == set(NAMES)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: " ".join(kind).strip())
@given(st.data())
@relaxed
def test_formulas(kind, data):
    setting = Setting(
        seed=data.draw(st.integers(0, 2**48), "seed"),
        kind=kind,
        axis=data.draw(st.integers(0, 1), "axis"),
        dtype=data.draw(st.sampled_from(["float32", "float64"]), "dtype"),
        batch=data.draw(st.sampled_from(BATCHES), "batch"),
        kept=data.draw(st.sampled_from(KEPT), "kept"),
        reduced=data.draw(st.sampled_from(REDUCED), "reduced"),
        roots=ROOTS,
        second=kind == ("sum", "block"),
        names=some_operators(kind),
    )
    tally = check(setting)
    event(f"{tally.formulas} formulas")
    assert tally.formulas >= SHARE and tally.first_by_differences >= SHARE - 6, tally
