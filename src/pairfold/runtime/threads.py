"""The thread pool: threads that run a compiled phase with the GIL released, taking tasks from a shared counter.

The caller waits in Python, so that Ctrl-C reaches it at once; the kernels look at the abort flag every tile. Which thread does
which task never changes a result.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from ..codegen.layout import ABORT, COUNTER

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_chosen: int | None = None

Control = ctypes.c_int64 * 3
POLL_SECONDS = 0.1
# Estimated seconds of work on one thread. Below the first, waking another thread costs as much as it saves.
ALONE_SECONDS = 2e-4
# Below the second, the caller takes tasks too, rather than wait for a thread in its place: Ctrl-C then waits for the call.
SHARED_SECONDS = 0.5


def available_cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def get_num_threads() -> int:
    """How many threads kernels run on.

    Returns
    -------
    int
        What `set_num_threads` was given, else the environment variable ``PAIRFOLD_NUM_THREADS``, else the number of processors
        this process may use.

    Examples
    --------
    >>> import pairfold
    >>> pairfold.set_num_threads(2)
    >>> pairfold.get_num_threads()
    2
    >>> pairfold.set_num_threads(None)
    """
    if _chosen is not None:
        return _chosen
    wanted = os.environ.get("PAIRFOLD_NUM_THREADS")
    if not wanted:
        return available_cores()
    if not (wanted.isascii() and wanted.isdigit()) or int(wanted) < 1:
        raise ValueError(f"PAIRFOLD_NUM_THREADS is {wanted!r}; it must be a positive whole number")
    return int(wanted)


def set_num_threads(number: int | None) -> None:
    """Choose how many threads kernels run on. Results do not depend on it.

    Parameters
    ----------
    number : int or None
        At least 1; None returns to the default.

    Raises
    ------
    ValueError
        Where the number is less than 1 or no whole number.

    Examples
    --------
    >>> import pairfold
    >>> pairfold.set_num_threads(1)
    >>> pairfold.set_num_threads(0)
    Traceback (most recent call last):
    ...
    ValueError: the number of threads must be a whole number of at least 1, not 0
    >>> pairfold.set_num_threads(None)
    """
    global _chosen
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
        raise ValueError(f"the number of threads must be a whole number of at least 1, not {number!r}")
    _chosen = number


def _executor(threads: int) -> ThreadPoolExecutor:
    """The pool, with that many threads; threads start as work comes."""
    global _pool
    with _lock:
        if _pool is None or _pool._max_workers != threads:
            if _pool is not None:
                _pool.shutdown(wait=False)
            _pool = ThreadPoolExecutor(threads, thread_name_prefix="pairfold")
        return _pool


def _forget_pool() -> None:
    """In a forked child the pool's threads are gone, and its lock may be held by one of them."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run(
    function: Callable[[int, int, int], None],
    words: int,
    tasks: int,
    seconds: float,
    report: Callable[[int], None] | None = None,
    most: int | None = None,
) -> None:
    """Run all tasks of a phase.

    Parameters
    ----------
    function : callable
        A compiled phase ``(words, control, tasks)``.
    words : int
        Address of its argument words.
    tasks : int
        How many tasks there are.
    seconds : float
        How long they would take one thread, by an estimate good to a factor of a few.
    report : callable, optional
        Told now and then how many tasks have been taken.
    most : int, optional
        Run on so many threads at most.

    Raises
    ------
    KeyboardInterrupt
        After all threads have stopped.
    """
    control = Control()
    address = ctypes.addressof(control)
    shared = seconds < SHARED_SECONDS
    others = 0 if seconds < ALONE_SECONDS else min(get_num_threads() if most is None else most, tasks) - shared
    futures: list[Future[None]] = []
    try:
        for _ in range(others):
            futures.append(_submit(function, words, address, tasks))
        if shared:
            function(words, address, tasks)
            futures = [f for f in futures if not f.cancel()]  # what has not begun by now has nothing to do
        while wait(futures, timeout=POLL_SECONDS).not_done:
            if report:
                report(min(control[COUNTER], tasks))
    except BaseException:
        control[ABORT] = 1  # this also keeps the control block, which kernels know by address alone, until here
        wait(futures)
        raise
    for future in futures:
        future.result()
    if report:
        report(tasks)


def _submit(function: Callable[[int, int, int], None], words: int, control: int, tasks: int) -> Future[None]:
    while True:
        pool = _executor(get_num_threads())
        try:
            return pool.submit(function, words, control, tasks)
        except RuntimeError:
            if pool is _pool:  # not merely replaced by another thread's: the interpreter is shutting down
                raise
