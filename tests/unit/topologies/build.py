"""Turn the description of a machine into the files its ``/sys/devices/system`` shows."""

from pathlib import Path

HERE = Path(__file__).parent
MACHINES = sorted(path.stem for path in HERE.glob("*.txt"))

MEMINFO = """\
Node {node} MemTotal:       {total} kB
Node {node} MemFree:        {free} kB
Node {node} MemUsed:        {used} kB
Node {node} SwapCached:            0 kB
Node {node} HugePages_Total:     0
Node {node} HugePages_Free:      0
Node {node} HugePages_Surp:      0
"""


def build_tree(machine: str, root: Path) -> Path:
    """Write the tree of one machine below ``root`` and return where it is."""
    system = root / machine
    for line in (HERE / f"{machine}.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        path, _, value = line.partition(" ")
        folder, name = path.split("/")
        if name == "MemTotal":
            name, value = "meminfo", _meminfo(folder.removeprefix("node"), int(value))
        _write(system / ("cpu" if folder == "cpu" else f"node/{folder}") / name, value)
    nodes = [path.name.removeprefix("node") for path in (system / "node").glob("node*")]
    numbers = ",".join(sorted(nodes, key=int))
    for name in ("online", "possible"):
        _write(system / "node" / name, numbers)
    return system


def _meminfo(node: str, total: int) -> str:
    return MEMINFO.format(node=node, total=total, free=total // 2, used=total - total // 2)


def _write(path: Path, value: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value.strip() + "\n")
