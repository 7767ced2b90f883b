"""Random formulas of all operators, under all reductions, against dense float64 NumPy: values, first and second derivatives.

`python -m tests.properties.long` checks more of them.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from pairfold.formula.graph import Node
from pairfold.runtime import cpu
from tests.properties.check import BATCHES, COMPLEX, KEPT, KINDS, REDUCED, Setting, Tally, check
from tests.properties.generate import NAMES, make_case

pytest.importorskip("torch")

EXAMPLES = int(os.environ.get("PAIRFOLD_EXAMPLES", "150"))  # of tests elsewhere
CASES, ROOTS, SHARE = 4, 26, 20  # of each kind of reduction; formulas a case; how many of them, on average, must have been checked sharply
ROOTS_OF = {"prod": 34, COMPLEX: 24}  # products over- and underflow; no more complex formulas fit
assert CASES * SHARE * len(KINDS) >= 2000

# A case is a kernel or two for all its formulas, of which the first that is wrong is named: there is nothing to shrink.
relaxed = settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


def formulas() -> st.SearchStrategy[Node]:
    """A formula of up to six random operators, on which it is well-conditioned."""
    return st.integers(0, 2**48).map(lambda seed: make_case(random.Random(seed), "float64", (), 3, 4, 6).roots[-1])


def some_operators(kind: tuple[str, str]) -> tuple[str, ...]:
    """Those that a kind's cases are bound to have: together, all."""
    own = -(-len(NAMES) // sum(name != COMPLEX for name, _ in KINDS))
    first = own * KINDS.index(kind)
    return tuple(NAMES[first : first + own])


def test_every_operator_is_among_them():
    assert {name for kind in KINDS for name in some_operators(kind)} == set(NAMES)


@pytest.mark.timeout(600)  # on a GPU LLVM and NVIDIA's assembler take a minute for two dozen formulas and all of their derivatives
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: " ".join(kind).strip())
def test_formulas(kind):
    checked = Tally()

    @given(st.data())
    @relaxed
    def one_case(data):
        setting = Setting(
            seed=data.draw(st.integers(0, 2**48), "seed"),
            kind=kind,
            axis=data.draw(st.integers(0, 1), "axis"),
            dtype=data.draw(st.sampled_from(["float32", "float64"]), "dtype"),
            batch=data.draw(st.sampled_from(BATCHES), "batch"),
            kept=data.draw(st.sampled_from(KEPT), "kept"),
            reduced=data.draw(st.sampled_from(REDUCED), "reduced"),
            roots=ROOTS_OF.get(kind[0], ROOTS),
            second=kind == ("sum", "block"),
            names=some_operators(kind) if kind[0] != COMPLEX else (),
        )
        with pytest.MonkeyPatch.context() as patch:
            if data.draw(st.booleans(), "kernels of few rows"):
                patch.setattr(cpu, "PAIRS_WORTH_A_KERNEL", 1)  # else those are for more pairs than there are here
            tally = check(setting)
        event(f"{tally.formulas} formulas")
        checked.add(tally)

    one_case()
    # Of comparisons there are no derivatives to look at.
    assert checked.formulas >= CASES * SHARE and checked.first_by_differences > 0, checked
