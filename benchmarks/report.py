"""What is kept of a run: JSON, a Markdown table, and a chart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Run = Mapping[str, Any]


def save(run: Run, folder: Path = RESULTS) -> Path:
    """Write a run as JSON, with its chart beside it; the path of the JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(run, folder)
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    chart(run, path.with_suffix(".png"))
    return path


def path_of(run: Run, folder: Path) -> Path:
    """Where a run's JSON lies: a later run of the same day takes its place."""
    return folder / f"{run['kind']}-{run['date'][:10]}.json"


def newest(kind: str, folder: Path = RESULTS) -> Run:
    """The latest run of a kind."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(f"{kind}-*.json")]
    if not runs:
        raise FileNotFoundError(f"no results of kind {kind!r} in {folder}: run `python -m benchmarks {kind}` first")
    return max(runs, key=lambda run: run["date"])


# --- numbers for people -----------------------------------------------------------------------------------------------------

SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")),
    "pairs/s": ((1e12, "T"), (1e9, "G"), (1e6, "M")),
    "/s": ((1e12, "T/s"), (1e9, "G/s")),
}


def human(value: float | None, unit: str) -> str:
    """Three significant figures and a unit: 0.00123 s is 1.23 ms."""
    if value is None:
        return "–"
    if unit == "1":
        return f"{100 * value:.1f} %"
    scales = SCALES[unit]
    scale, name = next(((scale, name) for scale, name in scales if abs(value) >= 0.9995 * scale), scales[-1])
    number = value / scale
    digits = 0 if abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    return f"{number:.{digits}f} {name}"


def mark(passed: bool | None) -> str:
    return {True: "pass", False: "**miss**", None: "–"}[passed]


def grid(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; every column but the first is set to the right."""
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])


# --- the table ----------------------------------------------------------------------------------------------------------------


def of(row: Run, system: str, key: str) -> Any:
    """A figure of a system in a row, or None."""
    return row["systems"].get(system, {}).get(key)


def error_text(row: Run, system: str) -> str:
    largest, rms = of(row, system, "max_error"), of(row, system, "rms_error")
    return "–" if largest is None else " / ".join(f"{error:.1e}" if error else "0" for error in (largest, rms))


def speed_table(run: Run) -> str:
    """Times beside the peers', with the bar and the errors."""
    measured = [row for row in run["rows"] if row["group"] == "speed"]
    compiled = ["torch.compile"] if any("torch" in row["systems"] for row in measured) else []
    header = [
        "workload, float32 if not said otherwise",
        "Pairfold",
        "pairs/s",
        "KeOps",
        *compiled,
        "KeOps ×",
        "at least",
        "aim",
        "",
        "error",
        "KeOps's error",
        "",
    ]
    rows = []
    for row in measured:
        size = f"{row['m']:,}²" if row["m"] == row["n"] else f"{row['m']:,}×{row['n']:,}"
        rows.append(
            [
                f"{row['name']}, {size.replace(',', ' ')}",
                human(of(row, "pairfold", "seconds"), "s"),
                human(of(row, "pairfold", "pairs_per_second"), "pairs/s"),
                human(of(row, "keops", "seconds"), "s"),
                *(human(of(row, "torch", "seconds"), "s") for _ in compiled),
                "–" if row["ratio"] is None else f"{row['ratio']:.{2 if compiled and row['ratio'] < 10 else 1}f}",
                "–" if row["at_least"] is None else f"{row['at_least']:g}",
                "–" if row["aim"] is None else f"{row['aim']:g}",
                mark(row["passed"]),
                error_text(row, "pairfold"),
                error_text(row, "keops"),
                mark(row["accurate"]),
            ]
        )
    return grid(header, rows)


def limit_table(run: Run) -> str:
    """What must stay at or below a bar."""
    rows = [
        [
            row["name"],
            human(of(row, "pairfold", "value"), row["unit"]),
            human(of(row, "keops", "value"), row["unit"]),
            "–" if row["at_most"] is None else "≤ " + human(row["at_most"], row["unit"]),
            mark(row["passed"]),
        ]
        for row in run["rows"]
        if row["group"] == "limit"
    ]
    return grid(["", "Pairfold", "KeOps", "bar", ""], rows)


def peak_table(run: Run) -> str:
    """How near the vector units' own limit the work comes."""
    rows = []
    for row in run["rows"]:
        if row["group"] != "speed" or not row.get("peak_operations_per_second"):
            continue
        ours, peer = (of(row, system, "fraction_of_peak") for system in ("pairfold", "keops"))
        aim = row["peak_aim"]
        rows.append(
            [
                row["name"],
                str(row["operations_per_pair"]),
                human(row["peak_operations_per_second"], "/s"),
                human(ours, "1"),
                human(peer, "1"),
                "–" if aim is None else f"≥ {100 * aim:.0f} %",
                mark(None if aim is None or ours is None else ours >= aim),
            ]
        )
    return grid(["workload", "vector operations a pair", "the machine's peak", "Pairfold reaches", "KeOps reaches", "aim", ""], rows)


def peak_pairs_table(run: Run) -> str:
    """How near a GPU's own limit the work comes."""
    rows = []
    for row in (r for r in run["rows"] if r.get("peak_pairs_per_second")):
        rates, ours = row["peak_rates"], of(row, "pairfold", "fraction_of_peak")
        rows.append(
            [
                row["name"],
                human(rates["multiply_adds"], "/s"),
                human(rates["powers"], "/s"),
                human(row["peak_pairs_per_second"], "pairs/s"),
                human(ours, "1"),
                human(of(row, "keops", "fraction_of_peak"), "1"),
                f"≥ {100 * row['peak_aim']:.0f} %",
                mark(None if ours is None else ours >= row["peak_aim"]),
            ]
        )
    return grid(["workload", "multiply-adds", "powers of 2", "so pairs at most", "Pairfold reaches", "KeOps reaches", "aim", ""], rows)


def table(run: Run) -> str:
    """The README's section on a run."""
    return {"cpu": cpu_table, "cuda": cuda_table, "dropin": dropin_table}[run["kind"]](run)


def cuda_table(run: Run) -> str:
    machine = run["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    intro = (
        f"Measured on {run['date'][:10]} on one {machine['gpu']} with driver {machine['driver']}, Python {machine['python']}, {versions}."
    )
    return "\n\n".join(
        [
            f"{intro} PyTorch's CUDA tensors, all systems in one process, medians of interleaved runs that wait for the GPU.",
            speed_table(run),
            "Errors are against float64 (those of float64 against long doubles) on a sample of rows, the largest and the root mean square, "
            "over the largest value; for argKmin, those of the distances to the neighbours that were found. torch.compile is measured "
            "where it computes the dense formula without storing it, – elsewhere: the matrix does not fit. The README's program is the one "
            "above, of normal points, with two columns of weights and its gradient.",
            limit_table(run),
            "The limit is that of independent instructions, measured in the same minutes: a Gaussian pair takes one power of 2, and D + 3 "
            "issue slots of a multiply-add each.",
            peak_pairs_table(run),
        ]
    )


def on_cpu(run: Run) -> str:
    """When, where and with what."""
    machine, packages = run["machine"], run["machine"]["packages"]
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    cpu = f"{machine['cpu']} ({machine['llvm_cpu']})"
    return f"Measured on {run['date'][:10]} with {run['threads']} threads on {cpu}, Python {machine['python']}, {versions}."


def dropin_table(run: Run) -> str:
    differences = [f"{of(row, 'pairfold', 'difference'):.0e}" for row in run["rows"][::2] if of(row, "pairfold", "difference") is not None]
    return "\n\n".join(
        [
            f"{on_cpu(run)} Programs as they are, with the drop-in and with KeOps, in processes of their own, once each.",
            speed_table(run),
            "Where KeOps would take minutes it gets fewer points; the same program does the same reductions, whose time is multiplied "
            "by the square of how many points there are more. The rest of the whole is that of the run with the drop-in."
            + (f" On as many points results differ by {', '.join(differences)} of the largest." if differences else ""),
        ]
    )


def cpu_table(run: Run) -> str:
    return "\n\n".join(
        [
            f"{on_cpu(run)} Medians of interleaved runs.",
            speed_table(run),
            "Errors are against float64 (those of float64 against long doubles) on a sample of rows, the largest and the root mean square, "
            "over the largest value. "
            "For argKmin they are those of the distances to the neighbours that were found; for kernel ridge, (K + I) a = b to a residual "
            "of 1e-3 by conjugate gradients, ours with Nyström's preconditioner where it is not called plain, those of what the solution "
            "gives back of b. On 100 000 points KeOps's time is that of its products, measured on 2 000 rows, times the iterations that "
            "plain conjugate gradients take.",
            limit_table(run),
            "The peak is that of independent fused multiply-adds on full vectors, measured in the same minutes; a multiply-add counts "
            "as one operation. A Gaussian pair takes D + 10 of them, by inner products: D multiply-adds, 9 for the power of 2, 1 for the "
            "weight; in float64 D + 13, and an operation counts as two. Of small batches no norms are measured: 2 D + 11, by differences.",
            peak_table(run),
        ]
    )


# --- the chart ----------------------------------------------------------------------------------------------------------------

COLOURS = {"pairfold": "#1f6f8b", "keops": "#c9a227", "torch": "#a05a4a"}


def chart(run: Run, path: Path) -> None:
    """Pairs a second of each system on each workload, with the ratio beside the bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in run["rows"] if row["group"] == "speed"]
    names = [name for name in COLOURS if any(name in row["systems"] for row in rows)]
    figure, axes = pyplot.subplots(figsize=(9, 0.8 + 0.62 * max(1, len(rows))), layout="constrained")
    height = 0.8 / max(1, len(names))
    for k, name in enumerate(names):
        places = [i + (k - (len(names) - 1) / 2) * height for i in range(len(rows))]
        rates = [of(row, name, "pairs_per_second") or 0 for row in rows]
        axes.barh(places, rates, height * 0.94, color=COLOURS[name], label=run["titles"][name])
        for place, rate, row in zip(places, rates, rows):
            if rate:
                ratio = f"   KeOps × {row['ratio']:.{1 if row['ratio'] < 10 else 0}f}" if name == "pairfold" and row["ratio"] else ""
                text = human(rate, "pairs/s") + ratio
                axes.annotate(text, (rate, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xscale("log")
    every = [rate for row in rows for name in names if (rate := of(row, name, "pairs_per_second"))]
    if every:
        axes.set_xlim(min(every) / 4, max(every) * 8)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("pairs a second")
    where = run["machine"].get("gpu") or f"{run['threads']} cores, {run['machine']['cpu']}"
    axes.set_title(f"float32 if not said otherwise, {where}, {run['date'][:10]}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
