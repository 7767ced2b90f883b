"""`python -m benchmarks KIND` measures; `python -m benchmarks table` prints the newest results as Markdown."""

from __future__ import annotations

import argparse
import atexit
import datetime
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import report
from .machine import cores
from .systems import SYSTEMS, available, environment


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Pairfold beside its peers on fixed workloads.")
    kinds = "measure on a kind of device, or other people's programs with the drop-in, or show the newest results again"
    parser.add_argument("command", choices=["cpu", "cuda", "dropin", "table", "chart"], help=kinds)
    of_which = "for table and chart: results of which kind (cpu)"
    parser.add_argument("--kind", default="cpu", choices=["cpu", "cuda", "dropin"], help=of_which)
    parser.add_argument("--threads", type=int, default=cores(), help="threads for every system (all cores)")
    parser.add_argument("--rounds", type=int, default=7, help="turns that each system gets on each workload (7)")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS), help="who is measured (all)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only workloads whose names contain TEXT; nothing is written")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="the folder of the results (benchmarks/results)")
    return parser.parse_args()


def measure(kind: str, options: argparse.Namespace, cache: Path) -> dict[str, Any]:
    """One run: every workload of a kind of device, and what needs processes of its own."""
    from . import dropin, machine
    from . import measure as m
    from .targets import TARGETS
    from .workloads import RIDGES_AT_SCALE, SPARSE, WORKLOADS

    threads, rounds = options.threads, options.rounds
    systems = available(options.systems, "cpu" if kind == "dropin" else kind)
    if not systems:
        sys.exit("error: none of the systems can be imported")
    run: dict[str, Any] = {
        "kind": kind,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "threads": threads,
        "titles": {name: f"{system.title} {system.version() or ''}".strip() for name, system in systems.items()},
        "machine": machine.describe(kind),
        "rows": [],
    }

    def add(*rows: dict[str, Any]) -> None:
        run["rows"].extend(rows)
        for row in rows:
            print(summary(row), flush=True)

    if kind == "dropin":
        for row in dropin.measure(list(systems), threads, cache, options.only):
            add(row)
        return run
    target = TARGETS[kind]
    for workload in WORKLOADS[kind]:
        if options.only in workload.name:
            add(m.speed(workload, systems, target, threads, rounds))
    if "pairfold" in systems and kind == "cpu":
        for workload in RIDGES_AT_SCALE:
            if options.only in f"{workload.name}, at scale":
                add(*m.ridge_at_scale(workload, systems, target, threads))
    if "pairfold" in systems and options.only in SPARSE[kind].name:
        add(m.sparse(systems["pairfold"], target, threads, rounds))
    if options.only:
        return run
    if kind == "cuda":
        lazy = {name: system for name, system in systems.items() if name != "torch"}
        add(*m.tiny_calls_cuda(lazy, target, threads, repeats=3))
        add(m.memory_cuda(lazy, target, threads))
        add(*m.first_calls_cuda(lazy, threads, repeats={"pairfold": 3, "keops": 1}))
        return run
    add(*m.first_calls(systems, threads, repeats={"pairfold": 5, "keops": 3}))
    add(m.imports(systems, threads, cache, repeats=9))
    add(*m.tiny_calls(systems, threads, cache, repeats=5))
    if "pairfold" in systems:
        add(*m.memory(systems["pairfold"], threads, cache, repeats=3))
        add(m.scaling(systems["pairfold"], target, threads, rounds))
    add(m.batches(systems, target, threads, rounds))
    return run


def summary(row: dict[str, Any]) -> str:
    """A row on one line, for whoever watches."""
    if row["group"] == "limit":
        parts = [f"{name} {report.human(found['value'], row['unit'])}" for name, found in row["systems"].items()]
    else:
        parts = []
        for name, found in row["systems"].items():
            rate = report.human(found["pairs_per_second"], "pairs/s")
            error = f", error {found['max_error']:.1e}" if "max_error" in found else ""
            parts.append(f"{name} {report.human(found['seconds'], 's')} ({rate}{error})")
        if row["ratio"]:
            parts.append(f"× {row['ratio']:.1f}")
    verdict = {True: "   pass", False: "   MISS", None: ""}[row["passed"]]
    accuracy = "   LESS ACCURATE" if row.get("accurate") is False else ""
    return f"{row['name']:<46} " + "   ".join(parts) + verdict + accuracy


def main() -> None:
    options = arguments()
    if options.command in ("table", "chart"):
        try:
            run = report.newest(options.kind, options.out)
        except FileNotFoundError as error:
            sys.exit(f"error: {error}")
        if options.command == "table":
            print(report.table(run))
        else:
            report.chart(run, report.path_of(run, options.out).with_suffix(".png"))
        return
    # The folder goes when all else has ended: KeOps writes to its cache as the interpreter exits.
    cache = Path(tempfile.mkdtemp(prefix="benchmarks-"))
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    # OpenMP reads its variables as it is loaded: before NumPy or PyTorch are.
    os.environ.update(environment(cache, options.threads))
    run = measure(options.command, options, cache)
    if options.only:
        print(json.dumps(run["rows"], indent=1))
        return
    path = report.save(run, options.out)
    print(f"\n{report.table(run)}\n\nwritten: {os.path.relpath(path)} and its chart")


if __name__ == "__main__":
    main()
