"""Plots of records: throughput beside peers, scaling, latency over load, memory over time."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report.results import Record, Summary, summarize
from benchmarks.suites.sustained import MOST_GROWTH, outcome, searches

_OURS, _THEIRS = "#c1440e", "#7a8b99"


def draw_all(records: Sequence[Record], folder: Path) -> list[Path]:
    """Draw what the records have; without matplotlib, nothing."""
    try:
        import matplotlib as mpl
    except ImportError:
        return []
    mpl.use("Agg")
    drawn = []
    for name, draw in _PLOTS.items():
        figure = draw(records)
        if figure is not None:
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=120, bbox_inches="tight")
            drawn.append(path)
    return drawn


def _axes(n: int, width: float = 4.2, height: float = 3.2) -> tuple[Any, list[Any]]:
    from matplotlib import pyplot

    columns = min(n, 4)
    rows = -(-n // columns)
    size = (width * columns, height * rows)
    figure, grid = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
    axes = [axis for line in grid for axis in line]
    for axis in axes[n:]:
        axis.axis("off")
    figure.tight_layout(h_pad=3, w_pad=3)
    return figure, axes[:n]


def _throughput(records: Sequence[Record]) -> Any:
    summaries = summarize(records)
    workloads = list(dict.fromkeys(s.workload for s in summaries))
    if not workloads:
        return None
    figure, axes = _axes(len(workloads))
    for axis, workload in zip(axes, workloads, strict=True):
        _bars(axis, [s for s in summaries if s.workload == workload and "=" not in s.label])
        axis.set_title(workload)
        axis.set_xlabel("M rows/s")
    return figure


def _bars(axis: Any, summaries: Sequence[Summary]) -> None:
    names = [s.label.removeprefix("hpcstream, ") for s in summaries]
    values = [s.median / 1e6 for s in summaries]
    low = [value - min(s.values) / 1e6 for value, s in zip(values, summaries, strict=True)]
    high = [max(s.values) / 1e6 - value for value, s in zip(values, summaries, strict=True)]
    colors = [_OURS if s.system == "hpcstream" else _THEIRS for s in summaries]
    axis.barh(names, values, xerr=[low, high], color=colors, ecolor="#333333", capsize=2)
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)


def _scaling(records: Sequence[Record]) -> Any:
    ours = [s for s in summarize(records) if s.system == "hpcstream" and "=" not in s.label]
    kinds = {"strong": _by_ranks([s for s in ours if not s.weak])}
    kinds["weak"] = _by_ranks([s for s in ours if s.weak])
    shown = {kind: workloads for kind, workloads in kinds.items() if workloads}
    if not shown:
        return None
    figure, axes = _axes(len(shown), 5, 4)
    for axis, (kind, workloads) in zip(axes, shown.items(), strict=True):
        for workload, points in workloads.items():
            least, base = points[0][0], points[0][1]
            ranks = [n for n, _ in points]
            # Strong: how many times faster. Weak: what a rank still does of its share.
            shares = [value / base * (1 if kind == "strong" else least / n) for n, value in points]
            axis.plot(ranks, shares, "o-", label=workload)
        every = sorted({n for points in workloads.values() for n, _ in points})
        most = _cores(records)  # ranks that share a core cannot be faster
        ideal = [min(n, most) / every[0] if kind == "strong" else min(1.0, most / n) for n in every]
        label = "ideal" if every[-1] <= most else f"ideal on {most} cores"
        axis.plot(every, ideal, ":", color="#333333", label=label)
        axis.set(xlabel="ranks", ylabel=_SCALE[kind], xscale="log", title=f"{kind} scaling")
        axis.set_xticks(every, labels=map(str, every))
        axis.set_xticks([], minor=True)
        axis.set(yscale="log") if kind == "strong" else axis.set(ylim=(0, 1.3))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
        axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _cores(records: Sequence[Record]) -> float:
    """Return how many cores the ranks had; infinity where they may have been on several hosts."""
    machines = [record for record in records if record["kind"] == "machine"]
    if not machines or not all(machine.get("one_host") for machine in machines):
        return float("inf")
    return int(max(machine["cores"] for machine in machines))


_SCALE = {
    "strong": "throughput, fewest ranks = 1",
    "weak": "throughput a rank, fewest ranks = 1",
}


def _by_ranks(summaries: Sequence[Summary]) -> dict[str, list[tuple[int, float]]]:
    """Return (ranks, rows a second) of each workload that ran on more than one number of ranks."""
    points: dict[str, list[tuple[int, float]]] = {}
    for summary in summaries:
        points.setdefault(summary.workload, []).append((summary.ranks, summary.median))
    return {name: sorted(found) for name, found in points.items() if len(found) > 1}


def _latency(records: Sequence[Record]) -> Any:
    groups: dict[str, list[Record]] = {}
    for run in records:
        if run["kind"] == "latency":
            title = f"{run.get('workload', 'latency')}, {run['ranks']} ranks"
            groups.setdefault(title, []).append(run)
    if not groups:
        return None
    figure, axes = _axes(len(groups))
    for axis, (title, runs) in zip(axes, groups.items(), strict=True):
        for name in ("p50_ms", "p99_ms", "p99.9_ms", "p100_ms"):
            points = [
                (rate, statistics.median(run[name] for run in runs if run["rate"] == rate))
                for rate in sorted({run["rate"] for run in runs})
            ]
            label = name.removesuffix("_ms").replace("p100", "max")
            axis.plot(*zip(*points, strict=True), "o-", label=label)
        axis.set(xlabel="rows/s offered", ylabel="latency, ms", xscale="log", yscale="log")
        axis.set_title(title)
        axis.legend(frameon=False, fontsize=7)
    return figure


def _sustained(records: Sequence[Record]) -> Any:
    groups = searches(records)
    if not groups:
        return None
    figure, axes = _axes(len(groups))
    for axis, ((workload, ranks), runs) in zip(axes, groups.items(), strict=True):
        for held, color in ((True, _THEIRS), (False, _OURS)):
            mine = [run for run in runs if run["sustained"] == held]
            rates, growths = [r["rate"] / 1e6 for r in mine], [1e3 * r["lag_growth"] for r in mine]
            axis.plot(
                rates, growths, "o", color=color, label="keeps up" if held else "falls behind"
            )
        axis.axhline(1e3 * MOST_GROWTH, ls=":", color="#333333")
        axis.axvline(outcome(runs)[0] / 1e6, lw=0.5, color="#333333")
        axis.set(xlabel="M rows/s offered", ylabel="growth of lag, ms/s", xscale="log")
        axis.set_yscale("symlog", linthresh=20)
        axis.set_title(f"{workload}, {ranks} ranks")
        axis.legend(frameon=False, fontsize=7)
    return figure


def _memory(records: Sequence[Record]) -> Any:
    series = [r for r in records if r["kind"] in ("memory", "endurance") and r["series"]]
    if not series:
        return None
    figure, (axis,) = _axes(1, 6, 4)
    for record in series:
        seconds, sizes = zip(*record["series"], strict=True)
        label = f"{record['label']}{', long run' if record['kind'] == 'endurance' else ''}"
        axis.plot(seconds, [size / 1e6 for size in sizes], label=label, lw=1)
    axis.set(xlabel="seconds", ylabel="memory of the largest process, MB", ylim=(0, None))
    axis.set_title("tumbling")
    axis.legend(frameon=False, fontsize=7)
    return figure


def _checkpoints(records: Sequence[Record]) -> Any:
    shown = [
        s
        for s in summarize(records)
        if s.workload == "tumbling" and s.system == "hpcstream" and s.ranks == 2
    ]
    if not any("checkpoint" in s.label for s in shown):
        return None
    figure, (axis,) = _axes(1, 6, 2.4)
    _bars(axis, [s for s in shown if s.label.endswith("ranks") or "checkpoint" in s.label])
    axis.set_xlabel("M rows/s")
    return figure


_PLOTS: dict[str, Callable[[Sequence[Record]], Any]] = {
    "throughput": _throughput,
    "scaling": _scaling,
    "latency": _latency,
    "sustained": _sustained,
    "memory": _memory,
    "checkpoints": _checkpoints,
}
