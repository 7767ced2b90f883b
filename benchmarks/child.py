"""What runs in a process of its own: `python -m benchmarks.child TASK SYSTEM THREADS` prints one line of JSON, in seconds and bytes."""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import workloads as w
from .systems import SYSTEMS, System
from .targets import TARGETS


def first_call(lazy_tensor: Any) -> dict[str, float]:
    """From the arrays to the result, by a process that has imported the system and no more."""
    points = w.Points.draw(w.FIRST_CALL_WORKLOAD.m, w.FIRST_CALL_WORKLOAD.n, w.FIRST_CALL_WORKLOAD.d)
    start = time.perf_counter()
    w.gauss(lazy_tensor, points)
    return {"seconds": time.perf_counter() - start}


def tiny(lazy_tensor: Any) -> dict[str, float]:
    """`K @ b` alone, and with its formula built anew: medians over many warm calls."""
    points = w.Points.draw(100, 100, 3)
    matrix = w.gauss_matrix(lazy_tensor, points)
    return {"call": warm(lambda: matrix @ points.b), "program": warm(lambda: w.gauss(lazy_tensor, points))}


def warm(call: Callable[[], object], before: int = 200, calls: int = 2000) -> float:
    """The median seconds of many calls, once some have gone before."""
    for _ in range(before):
        call()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def memory(lazy_tensor: Any) -> dict[str, float]:
    """The growth over a large sum whose kernel is compiled."""
    w.gauss(lazy_tensor, w.Points.draw(1_000, 1_000, w.MEMORY_WORKLOAD.d))
    return memory_first(lazy_tensor)


def memory_first(lazy_tensor: Any) -> dict[str, float]:
    """The growth over a large sum, whatever it takes."""
    points = w.Points.draw(w.MEMORY_WORKLOAD.m, w.MEMORY_WORKLOAD.n, w.MEMORY_WORKLOAD.d)
    return {"bytes": growth(lambda: w.gauss(lazy_tensor, points))}


def growth(call: Callable[[], object]) -> float:
    """Bytes by which the resident memory grows at most during a call: sampled, and by Linux's own high-water mark where there is one."""
    import psutil

    process = psutil.Process()
    done = threading.Event()
    before = process.memory_info().rss
    peak = before

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, process.memory_info().rss)

    exact = reset_high_water_mark()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    call()
    done.set()
    watcher.join()
    if exact:
        peak = max(peak, high_water_mark())
    return float(peak - before)


def reset_high_water_mark() -> bool:
    """Let Linux measure this process's peak anew; False where that cannot be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def high_water_mark() -> int:
    """The peak of resident memory since the last reset, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def first_call_cuda(system: System, threads: int) -> dict[str, float]:
    """From the system's import to the result, by a process in which PyTorch works on the GPU."""
    target = TARGETS["cuda"]
    points = w.FIRST_CALL_WORKLOAD.draw().on(target, "torch")
    (points.x @ points.y.T).sum().item()
    start = time.perf_counter()
    w.gauss(system.lazy_tensor("torch", threads), points)
    target.wait()
    return {"seconds": time.perf_counter() - start}


TASKS: dict[str, Callable[[Any], dict[str, float]]] = {
    "first_call": first_call,
    "tiny": tiny,
    "memory": memory,
    "memory_first": memory_first,
}


def main() -> None:
    task, system, threads = sys.argv[1:]
    if task == "first_call_cuda":
        print("\n" + json.dumps(first_call_cuda(SYSTEMS[system], int(threads))))
        return
    lazy_tensor = SYSTEMS[system].lazy_tensor("numpy", int(threads))
    print("\n" + json.dumps(TASKS[task](lazy_tensor)))


if __name__ == "__main__":
    main()
