"""Windows that fire again emit what changed, once: the recipe of the concepts page counts right."""

from collections import Counter

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_windows import NaiveWindows

import hpcstream as hs
from hpcstream import col
from hpcstream.aggregates.named import NamedAggregate
from hpcstream.columns.event_time import MAX_TIME, TIME_COLUMN
from hpcstream.columns.ownership import Ownership, owned_rows
from hpcstream.operators.windows.assigners.fixed import SlidingWindows, TumblingWindows
from hpcstream.operators.windows.keyed import WindowAggregate
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.state.arrays import HeapAllocator
from hpcstream.state.table import Part
from hpcstream.testing import run_ranks

KEYS = ("kind", "place")
SCHEMA = pa.schema(
    [("kind", pa.string()), ("place", pa.int16()), ("x", pa.int64()), (TIME_COLUMN, pa.int64())]
)
rows_of_batch = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 2), st.integers(0, 40)), max_size=8
)


def spec_of(assigner, keys, function):
    return WindowAggregateSpec(
        keys=keys,
        assigner=assigner,
        aggregates=(
            NamedAggregate.of("rows", "count_rows"),
            NamedAggregate.of("value", function, "x"),
        ),
        allowed_lateness=25,
        input_schema=SCHEMA,
        time_type=pa.int64(),
    )


def batch_of(rows):
    kinds, places, times = zip(*rows, strict=True)
    columns = [pa.array(column) for column in (kinds, places, times, times)]
    columns = [column.cast(f.type) for column, f in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


class Instances:
    """A window aggregate on several ranks, each with its keys."""

    def __init__(self, spec, n_places, before=()):
        self.spec = spec
        self.operators = [WindowAggregate(spec, HeapAllocator()) for _ in range(n_places)]
        for place, operator in enumerate(self.operators):
            if before:
                parts = [Part(False, arrays) for arrays in before]
                operator.merge(parts, Ownership(place, n_places))

    def feed(self, event):
        """Return (window, keys, rows) of what an event lets fire."""
        fired = []
        for place, operator in enumerate(self.operators):
            if isinstance(event, int):
                parts = operator.process_watermark(event)
                found = [row for part in parts for row in part.to_pylist()]
                fired += [
                    (r["window_start"], *(r[k] for k in self.spec.keys), r["rows"]) for r in found
                ]
                continue
            share = Ownership(place, len(self.operators))
            mine = owned_rows(event, self.spec.keys, share)
            list(operator.process_batch(event.take(pa.array(mine))))
        return sorted(fired, key=repr)

    def restarted(self, n_places):
        snapshots = [operator.snapshot() for operator in self.operators]
        if n_places == len(self.operators):
            for place, snapshot in enumerate(snapshots):
                self.operators[place] = WindowAggregate(self.spec, HeapAllocator())
                self.operators[place].restore(snapshot)
            return self
        return Instances(self.spec, n_places, snapshots)


@settings(max_examples=60)
@given(
    events=st.lists(rows_of_batch | st.integers(0, 60), max_size=10),
    assigner=st.sampled_from(
        [TumblingWindows(8), SlidingWindows(12, 4), SlidingWindows(9, 6), SlidingWindows(16, 1)]
    ),
    keys=st.sampled_from([("kind",), ("place",), KEYS]),
    function=st.sampled_from(["sum", "median"]),
    sizes=st.lists(st.integers(1, 3), min_size=11, max_size=11),
)
def test_only_changed_keys_fire_again_whenever_restored_on_however_many_ranks(
    events, assigner, keys, function, sizes
):
    reference = NaiveWindows(assigner.size, assigner.slide, assigner.offset, 25)
    instances = Instances(spec_of(assigner, keys, function), sizes[0])
    for event, n_places in zip([*events, MAX_TIME], sizes, strict=False):
        if isinstance(event, int):
            fired = reference.advance(event)
            expected = [
                (start, *key, len(rows)) for start, groups in fired for key, rows in groups.items()
            ]
            assert instances.feed(event) == sorted(expected, key=repr)
        elif event:
            columns = [KEYS.index(name) for name in keys]
            reference.add([(tuple(row[c] for c in columns), row[2], 0, row[2]) for row in event])
            instances.feed(batch_of(event))
        instances = instances.restarted(n_places)


def newest_of(table, window):
    """Return the newest result of each key and window, as the concepts page says."""
    by_rows = table.sort_by("rows")
    places = by_rows.append_column("place", pa.array(range(len(by_rows)), pa.int64()))
    return by_rows.take(places.group_by(window).aggregate([("place", "max")])["place_max"])


@settings(max_examples=25)
@given(
    times=st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=12), min_size=1, max_size=8),
    windows=st.sampled_from([hs.tumbling("10ms"), hs.sliding("10ms", "5ms")]),
    keyed=st.booleans(),
    value=st.sampled_from([col("v").sum(), col("v").median(), col("v").last()]),
    ranks=st.integers(1, 3),
)
def test_the_newest_results_by_the_recipe_hold_every_row_that_was_not_late_once(
    times, windows, keyed, value, ranks
):
    schema = pa.schema([(name, pa.int64()) for name in "tkv"])
    batches = [
        pa.record_batch([part, [t % 3 or None for t in part], part], schema) for part in times
    ]

    def build():
        job = hs.Job("again")
        rows = job.from_batches(batches).with_event_time("t", unit="ms")
        windowed = rows.key_by("k").window(windows) if keyed else rows.window_all(windows)
        results = windowed.allowed_lateness("1h").agg(rows=hs.count(), value=value)
        return job, results.collect()

    table = run_ranks(ranks, build, batch_rows=3).table
    window = ["k", "window_start"] if keyed else ["window_start"]

    emitted = Counter(tuple(row[n] for n in [*window, "rows"]) for row in table.to_pylist())
    assert set(emitted.values()) == {1}, "a result that did not change came again"
    per_row = 2 if "sliding" in repr(windows) else 1
    n_rows = sum(map(len, times))
    assert sum(newest_of(table, window)["rows"].to_pylist()) == per_row * n_rows
