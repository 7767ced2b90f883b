"""Progress bars: off unless asked for, and then only for calls that last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

SECONDS_WORTH_A_BAR = 2.0

_shown: ContextVar[bool] = ContextVar("pairfold_progress", default=False)


class progress:
    """Show a progress bar for calls expected to last more than a few seconds.

    Parameters
    ----------
    show : bool
        Whether to. Takes effect at once; used as a context, it ends with the ``with`` block.

    Raises
    ------
    TypeError
        Where `show` is neither.
    ImportError
        Where tqdm is not installed: ``pip install pairfold[progress]``.

    Examples
    --------
    >>> import pairfold
    >>> with pairfold.progress(False):
    ...     pass
    """

    def __init__(self, show: bool = True):
        if not isinstance(show, bool):
            raise TypeError(f"progress takes True or False, not {show!r}")
        if show:
            try:
                import tqdm  # noqa: F401  # here, where its absence can be understood, rather than in the middle of a call
            except ImportError:
                raise ImportError("progress bars need tqdm: pip install 'pairfold[progress]'") from None
        self._token = _shown.set(show)

    def __enter__(self) -> progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _shown.reset(self._token)


@contextmanager
def bar(wanted: bool, pairs: int, tasks: int, seconds: float) -> Iterator[Callable[[int], None] | None]:
    """A function that moves a bar, told how many tasks are taken; None where no bar is shown."""
    from .threads import get_num_threads

    if not wanted or not _shown.get() or seconds / get_num_threads() < SECONDS_WORTH_A_BAR:
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=pairs, unit="pair", unit_scale=True, desc="pairfold") as shown:
        yield lambda taken: shown.update(pairs * taken // tasks - shown.n) and None
