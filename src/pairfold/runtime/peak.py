"""The computer's limit: how many vector instructions a second its threads reach together, measured once a process."""

from __future__ import annotations

import ctypes
import struct
import time
from functools import lru_cache

from ..codegen.peak import INSTRUCTIONS, emit_peak
from . import threads
from .compile import Loaded, compile_objects, host

TASKS = 64  # a thread
ROUNDS = 5  # of which the best counts: what else the computer does is no part of its limit


@lru_cache(maxsize=1)
def _loaded() -> Loaded:
    here = host()
    return Loaded(compile_objects([emit_peak(here.triple, here.features, here.vector_bits)]))


@lru_cache(maxsize=64)
def instructions_a_second(count: int) -> float:
    """What `count` threads reach, 1 or all of the pool: multiply-adds of whole vectors in registers; no other instruction is faster."""
    function = _loaded().functions(["peak"])["peak"]
    words = (ctypes.c_int64 * 2)(struct.unpack("<I", struct.pack("<f", 0.5))[0], 0)
    tasks = TASKS * count
    # What is estimated as short is done by the caller alone.
    estimate = 0.0 if count == 1 else threads.SHARED_SECONDS / 2
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        threads.run(function, ctypes.addressof(words), tasks, estimate)
        best = min(best, time.perf_counter() - begun)
    return tasks * INSTRUCTIONS / best
