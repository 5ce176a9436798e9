"""Job scripts for a scaling study on a cluster: one for each number of ranks.

Each writes a file of records of its own into the folder; ``python -m benchmarks report
FOLDER/*.jsonl`` takes them together. Those of weak scaling have names of their own.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

TEMPLATE = """\
#!/bin/bash
#SBATCH --job-name=hpcstream-bench-{name}
#SBATCH --ntasks={ranks}
#SBATCH --cpus-per-task=1
#SBATCH --time={time}
#SBATCH --output={folder}/{name}.log
# hpcstream on {ranks} ranks. The kernels' cache lies on a disk of the node.
set -euo pipefail
export NUMBA_CACHE_DIR="${{TMPDIR:-/tmp}}/hpcstream-kernels-$(id -u)"
cd {root}
exec {python} -m benchmarks run --launcher {launcher} --ranks {ranks} --peers --no-variants \\
    --latency-ranks {ranks} --long-rows 0 --out {folder} --name {name} {options}
"""


def write_scripts(
    folder: Path, ranks: Sequence[int], launcher: str, options: Sequence[str], *, time: str
) -> list[Path]:
    """Write ``ranks-N.sbatch`` or ``weak-N.sbatch`` for each number of ranks; return the paths."""
    import sys

    from benchmarks.measure.launch import ROOT

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    kind = "weak" if "--weak" in options else "ranks"
    for n_ranks in ranks:
        path = folder / f"{kind}-{n_ranks}.sbatch"
        text = TEMPLATE.format(
            ranks=n_ranks,
            name=path.stem,
            time=time,
            folder=shlex.quote(str(folder.resolve())),
            root=shlex.quote(str(ROOT)),
            python=shlex.quote(sys.executable),
            launcher=shlex.quote(launcher),
            options=shlex.join(options),
        )
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths
