"""Compares two commits in interleaved runs; fails if the newer is slower than ``--least`` allows.

    python -m benchmarks.guard OLD [NEW] --workloads tumbling skew --ranks 1 2

Each commit is checked out into its own worktree and measured by *these* benchmarks, so that
only the engine differs; every run reports the engine it imported. A trial therefore imports only
public names of hpcstream, which older commits have, too. A repetition yields the ratio of two
consecutive runs; the median of the ratios decides. Kernels of a worktree are compiled before
the timed parts.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measure.launch import ROOT, LaunchConfig, TrialError, run_trial
from benchmarks.measure.progress import say
from benchmarks.measure.trial import Trial
from benchmarks.report.tables import as_text
from benchmarks.workloads.datasets import build, count_rows
from benchmarks.workloads.workload import WORKLOADS

LEAST_RATIO = 0.9
HEADER = ("workload", "ranks", "old, M rows/s", "new, M rows/s", "new / old", "spread", "")


@dataclass(frozen=True)
class Comparison:
    """The repetitions of one trial: rows a second of both commits, in pairs."""

    trial: Trial
    pairs: tuple[tuple[float, float], ...]

    @property
    def ratios(self) -> list[float]:
        """New over old, one for each repetition."""
        return [new / old for old, new in self.pairs]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    def cells(self, least: float) -> tuple[str, ...]:
        """Return the cells of its row, below `HEADER`."""
        old, new = (statistics.median(values) for values in zip(*self.pairs, strict=True))
        return (
            self.trial.workload,
            str(self.trial.ranks),
            f"{old / 1e6:.2f}",
            f"{new / 1e6:.2f}",
            f"{self.ratio:.2f}",
            f"{min(self.ratios):.2f} to {max(self.ratios):.2f}",
            "" if self.ratio >= least else "SLOWER",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and return the exit status: 1 if a ratio is below the least."""
    options = _parser().parse_args(arguments)
    # A time limit sends this: worktrees and ranks must not stay.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with engine(options.old) as old, engine(options.new) as new:
        configs = [_config(folder) for folder in (old, new)]
        try:
            trials = [_fitted(trial, configs[0], options.seconds) for trial in _trials(options)]
            found = [_compare(trial, configs, options.repeats) for trial in trials]
        except TrialError as error:
            say(f"nothing to compare: {error}")
            return 2
    print(as_text(HEADER, [comparison.cells(options.least) for comparison in found]))
    return int(any(comparison.ratio < options.least for comparison in found))


@contextmanager
def engine(commit: str) -> Iterator[Path]:
    """Yield a folder that has the engine of a commit, and nothing else, to import.

    ``"."`` is what lies in the checkout now. The benchmarks of a commit must not be
    found, so the folder is beside its worktree, with a link to the package.
    """
    if commit == ".":
        yield ROOT
        return
    with tempfile.TemporaryDirectory(prefix="hpcstream-guard-") as folder:
        tree, found = Path(folder, "tree"), Path(folder, "engine")
        _git("worktree", "add", "--detach", "--quiet", str(tree), commit)
        try:
            found.mkdir()
            (found / "hpcstream").symlink_to(tree / "hpcstream")
            yield found
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)


def _config(folder: Path) -> LaunchConfig:
    """Return a configuration with the engine of ``folder`` and the benchmarks of this checkout."""
    return replace(
        LaunchConfig(), path=(str(folder), str(ROOT)), folder=Path(tempfile.gettempdir())
    )


def _trials(options: argparse.Namespace) -> list[Trial]:
    trials = []
    for name in options.workloads:
        path = build(WORKLOADS[name].with_rows(options.rows), options.data.absolute())
        base = Trial(name, "hpcstream", str(path), count_rows(path), passes=options.passes)
        trials += [replace(base, ranks=ranks) for ranks in options.ranks]
    return trials


def _fitted(trial: Trial, config: LaunchConfig, seconds: float | None) -> Trial:
    """Return the trial with as many passes as the timed part needs to last so many seconds."""
    if seconds is None:
        return trial
    return trial.lasting(seconds, _rate(trial, config), least=trial.passes)


def _compare(trial: Trial, configs: Sequence[LaunchConfig], repeats: int) -> Comparison:
    pairs = []
    for repetition in range(repeats):
        in_turn = configs if repetition % 2 == 0 else configs[::-1]  # alternates
        values = [_rate(trial, config) for config in in_turn]
        old, new = values if repetition % 2 == 0 else values[::-1]
        say(f"  {repetition + 1}/{repeats} {trial.workload}, {trial.label}: {new / old:.2f}")
        pairs.append((old, new))
    return Comparison(trial, tuple(pairs))


def _rate(trial: Trial, config: LaunchConfig) -> float:
    """Return the rows a second of one run.

    Raises
    ------
    TrialError
        It failed, or another engine was found than the one to measure.
    """
    report = run_trial(trial, config)
    if report["engine"] != config.path[0]:
        raise TrialError(f"the engine in {report['engine']} ran, not that in {config.path[0]}")
    return float(report["rows_per_second"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("old", help="a commit")
    parser.add_argument("new", nargs="?", default=".", help="a commit (default: this checkout)")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=["tumbling", "skew"])
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--passes", type=int, default=10, help="over the data, at least")
    parser.add_argument(
        "--seconds", type=float, help="as many passes as the timed part of a run needs to last this"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--least", type=float, default=LEAST_RATIO)
    parser.add_argument("--data", type=Path, default=Path("out/benchmarks/data"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
