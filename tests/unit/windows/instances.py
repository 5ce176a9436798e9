"""A windowed aggregate on several instances, each with its keys, that a test restarts at will."""

from __future__ import annotations

import pyarrow as pa
from naive_windows import aggregate

from hpcstream.aggregates.named import NamedAggregate
from hpcstream.columns.event_time import MAX_TIME, ORDER_COLUMN, TIME_COLUMN
from hpcstream.columns.ownership import Ownership, owned_rows
from hpcstream.operators.base import SideOutput
from hpcstream.operators.windows.keyed import WindowAggregate
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.state.arrays import HeapAllocator
from hpcstream.state.table import Part

FUNCTIONS = ("count_rows", "sum", "min", "last", "mean")
SCHEMA = pa.schema(
    [
        ("key", pa.int64()),
        ("x", pa.int64()),
        (TIME_COLUMN, pa.int64()),
        (ORDER_COLUMN, pa.int64()),
    ]
)


def spec_of(assigner, functions=FUNCTIONS, lateness=0):
    aggregates = tuple(
        NamedAggregate.of(name, name, *([] if name == "count_rows" else ["x"]))
        for name in functions
    )
    return WindowAggregateSpec(
        keys=("key",),
        assigner=assigner,
        aggregates=aggregates,
        allowed_lateness=lateness,
        input_schema=SCHEMA,
        time_type=pa.int64(),
        late_output=True,
    )


def batch_of(rows):
    """Return rows (key, time, order, value) as a batch."""
    keys, times, orders, values = zip(*rows, strict=True)
    columns = [pa.array(column, pa.int64()) for column in (keys, values, times, orders)]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def in_order(event, order):
    """Return rows (key, time, value) with their order, counted from a number on."""
    return [(key, time, order + i, value) for i, (key, time, value) in enumerate(event)]


def check_against_twin(reference, instances, events, sizes, function):
    """Give both the same events; compare what fires and what is late. Return the instances.

    After each event the state is restored on as many instances as ``sizes`` says. The aggregates
    are a count of rows and ``function``.
    """
    order = 0
    for event, n_instances in zip([*events, MAX_TIME], sizes, strict=False):
        if isinstance(event, int):
            expected = {
                group: [len(rows), aggregate(function, rows)]
                for group, rows in reference.advance(event).items()
            }
            assert instances.advance(event) == expected
        else:
            rows = in_order(event, order)
            order += len(rows)
            reference.add(rows)
            instances.add(rows)
        instances = instances.restarted(n_instances)
    assert instances.late == sorted(row[2] for row in reference.late)
    return instances


class Instances:
    """Instances of one operator; ``restarted`` gives as many as asked for, with their state."""

    def __init__(self, spec, n_instances, before=(), late=(), make=WindowAggregate):
        self.spec, self.make = spec, make
        self.late = list(late)
        self.operators = [make(spec, HeapAllocator()) for _ in range(n_instances)]
        if before:
            parts = [Part(False, arrays) for arrays in before]
            for instance, operator in enumerate(self.operators):
                operator.merge(parts, Ownership(instance, n_instances))

    def add(self, rows):
        """Give each instance the rows of its keys."""
        if not rows:
            return
        batch = batch_of(rows)
        for instance, operator in enumerate(self.operators):
            mine = owned_rows(batch, self.spec.keys, Ownership(instance, len(self.operators)))
            for emitted in operator.process_batch(batch.take(pa.array(mine))):
                assert isinstance(emitted, SideOutput)
                self.late += emitted.batch.column(ORDER_COLUMN).to_pylist()
        self.late.sort()

    def advance(self, watermark):
        """Return {(key, start, end): values} of what fires."""
        names = [each.name for each in self.spec.aggregates]
        found = {}
        for operator in self.operators:
            for batch in operator.process_watermark(watermark):
                assert isinstance(batch, pa.RecordBatch)
                for row in batch.to_pylist():
                    group = (row["key"], row["window_start"], row["window_end"])
                    assert group not in found
                    assert row[TIME_COLUMN] == row["window_end"] - 1
                    found[group] = [row[name] for name in names]
        return found

    def restarted(self, n_instances):
        """Return instances with the same state: restored on as many, else merged."""
        snapshots = [operator.snapshot() for operator in self.operators]
        if n_instances != len(self.operators):
            return Instances(self.spec, n_instances, snapshots, self.late, self.make)
        copy = Instances(self.spec, n_instances, late=self.late, make=self.make)
        for operator, snapshot in zip(copy.operators, snapshots, strict=True):
            operator.restore(snapshot)
        return copy
