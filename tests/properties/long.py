"""A long run over random formulas, on as many processes as asked for: ``python -m tests.properties.long --help``."""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import queue
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

SECOND = 12  # one case in so many has second derivatives


def work(process: int, arguments: argparse.Namespace, share: int, begun: float, results: Any) -> None:
    """One process: cases of its own seed until its share is done or time is up; a report each few seconds."""
    from tests.properties.check import Tally, check, random_setting

    try:
        import torch

        torch.set_num_threads(1)
    except ImportError:
        pass
    rng = random.Random(f"{arguments.seed} {process}")
    tally, failures, reported, cases = Tally(), [], time.time(), 0
    while tally.formulas < share and time.time() - begun < arguments.seconds and len(failures) < 20:
        setting = random_setting(rng, first=rng.random() < arguments.gradients, second=cases % SECOND == 0)
        cases += 1
        try:
            tally.add(check(setting))
        except Exception as error:
            failures.append({"setting": repr(setting), "error": "".join(traceback.format_exception(error)[-2:])[-3000:]})
            reported = 0.0
        if time.time() - reported > 5:
            results.put((process, tally, failures, cases, False))
            reported = time.time()
    results.put((process, tally, failures, cases, True))


def versions() -> dict[str, str]:
    """Of what takes part."""
    import llvmlite
    import numpy

    found = {"python": platform.python_version(), "numpy": numpy.__version__, "llvmlite": llvmlite.__version__}
    if "torch" in sys.modules or _has_torch():
        import torch

        found["torch"] = torch.__version__
    return found


def _has_torch() -> bool:
    from importlib.util import find_spec

    return find_spec("torch") is not None


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> int:
    """Run, print and store what was checked; 1 where a formula was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formulas", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop then, with what is done")
    parser.add_argument("--gradients", type=float, default=0.5, help="the share of cases whose derivatives are computed by kernels too")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    os.environ["PAIRFOLD_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # the processes share the machine
    begun = time.time()
    from tests.properties.check import Tally

    with tempfile.TemporaryDirectory() as cache:
        os.environ["PAIRFOLD_CACHE_DIR"] = cache
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        share = -(-arguments.formulas // arguments.processes)
        workers = [context.Process(target=work, args=(k, arguments, share, begun, results)) for k in range(arguments.processes)]
        for worker in workers:
            worker.start()
        latest: dict[int, tuple[Any, ...]] = {}
        shown = begun
        while sum(r[-1] for r in latest.values()) < len(workers):
            try:
                process, *report = results.get(timeout=10)
                for failure in report[1][len(latest[process][1]) if process in latest else 0 :]:
                    print(json.dumps(failure, indent=1), flush=True)
                latest[process] = tuple(report)
            except queue.Empty:
                if not any(w.is_alive() for w in workers):
                    break
            if time.time() - shown > 15:
                shown = time.time()
                done, wrong = sum(r[0].formulas for r in latest.values()), sum(len(r[1]) for r in latest.values())
                print(f"{time.time() - begun:6.0f} s  {done} formulas, {wrong} cases wrong", flush=True)
        for worker in workers:
            worker.join()
    tally = Tally()
    for report in latest.values():
        tally.add(report[0])
    failures = [f for r in latest.values() for f in r[1]]
    crashed = [k for k, w in enumerate(workers) if w.exitcode != 0]
    report = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.time() - begun, 1),
        "machine": {"processor": processor(), "system": platform.platform(), "processes": arguments.processes},
        "versions": versions(),
        "seed": arguments.seed,
        "cases": sum(r[2] for r in latest.values()),
        **{name: value for name, value in vars(tally).items() if isinstance(value, int)},
        "reductions": dict(sorted(tally.reductions.items())),
        "operators": dict(sorted(tally.operators.items())),
        "processes that crashed": crashed,
        "failures": failures,
    }
    print(json.dumps(report, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failures or crashed else 0


if __name__ == "__main__":
    raise SystemExit(main())
