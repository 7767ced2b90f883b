"""`Genred` with the axis told by an alias of the result, as older programs have it."""

from __future__ import annotations

from typing import Any

from .common import cat2axis, get_type
from .reductions import Genred


def generic_sum(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """A sum of a formula given as text: ``output`` is ``"a = Vi(1)"`` to reduce j, ``"a = Vj(1)"`` to reduce i. See `Genred`."""
    return _generic("Sum", formula, output, aliases, options)


def generic_logsumexp(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """As `generic_sum`, log Σ exp."""
    return _generic("LogSumExp", formula, output, aliases, options)


def generic_argmin(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """As `generic_sum`, the index of the minimum."""
    return _generic("ArgMin", formula, output, aliases, options)


def generic_argkmin(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """As `generic_sum`, the indices of the K smallest, where ``output`` is ``"a = Vi(K)"``."""
    return _generic("ArgKMin", formula, output, aliases, {"opt_arg": get_type(output)[2], **options})


def _generic(reduction: str, formula: str, output: str, aliases: tuple[str, ...], options: dict[str, Any]) -> Genred:
    return Genred(formula, list(aliases), reduction, cat2axis(get_type(output)[1]), **options)
