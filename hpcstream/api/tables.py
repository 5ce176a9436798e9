"""The table side of `Stream.join_table`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from hpcstream.errors import ConnectorError, PlanError
from hpcstream.event_time import HIDDEN_COLUMNS
from hpcstream.graph.logical import JoinTableNode, Node

Names = str | Sequence[str]


def join_table(
    node: Node,
    ranks: tuple[int, ...] | None,
    table: pa.Table | str | Path,
    left_on: Names,
    right_on: Names,
    *,
    how: str,
    suffix: str,
) -> JoinTableNode:
    """Return the node that enriches ``node`` from a table."""
    from hpcstream.operators.join_table import JoinTable

    held = _load(table)
    left = (left_on,) if isinstance(left_on, str) else tuple(left_on)
    right = (right_on,) if isinstance(right_on, str) else tuple(right_on)

    join = JoinTable(held, left, right, how, suffix)  # type: ignore[arg-type]
    found = join.output_schema(node.schema)
    visible = pa.schema([f for f in found if f.name not in HIDDEN_COLUMNS])
    return JoinTableNode(inputs=(node,), schema=visible, time=node.time, ranks=ranks, join=join)


def _load(table: pa.Table | str | Path) -> pa.Table:
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, pa.RecordBatch):
        return pa.Table.from_batches([table])
    if not isinstance(table, str | Path):
        raise PlanError(f"join_table({table!r}): needs a pyarrow.Table or the path of a file")
    path = Path(table)
    try:
        return _read(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConnectorError(f"join_table: cannot read the table {path}: {error}") from error


def _read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path)
    if path.suffix == ".csv":
        from pyarrow import csv

        return csv.read_csv(path)
    if path.suffix in (".arrow", ".ipc", ".feather"):
        from pyarrow import feather

        return feather.read_table(path)
    raise PlanError(f"join_table: {path} ends in none of .parquet, .csv, .arrow, .ipc, .feather")
