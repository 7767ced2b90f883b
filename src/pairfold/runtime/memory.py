"""How much memory is free, so that a large result is refused before the machine starts to swap."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path


def free_bytes() -> int | None:
    """The bytes that can be had without swapping, of the machine's or of the container's memory; None where nothing tells."""
    known = [n for n in (_machine(), _container()) if n is not None]
    return min(known) if known else None


def _machine() -> int | None:
    if sys.platform == "win32":
        status = (ctypes.c_uint64 * 8)()  # a MEMORYSTATUSEX: its length and the load, then the total and the available bytes
        ctypes.cast(status, ctypes.POINTER(ctypes.c_uint32))[0] = ctypes.sizeof(status)
        return status[2] if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass
    for pages in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):  # macOS tells the second alone, all there is
        try:
            return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            continue
    return None


def _container(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What the limit of a control group leaves, where there is one: file caches are given up when memory is wanted."""
    for folder, limit, used in (
        (root, "memory.max", "memory.current"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            cached = int(statistics.get("inactive_file", 0)) + int(statistics.get("active_file", 0))
            return max(0, int((folder / limit).read_text()) - int((folder / used).read_text()) + cached)
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
    return None


def require(needed: int, free: int | None, what: str) -> None:
    """Refuse to allocate more than is free.

    Raises
    ------
    MemoryError
        With the bytes that are needed and those that are free.
    """
    if free is not None and needed > free:
        raise MemoryError(f"{what} would take {needed:,} bytes ({needed / 2**30:.3g} GiB), but {free:,} ({free / 2**30:.3g} GiB) are free")
