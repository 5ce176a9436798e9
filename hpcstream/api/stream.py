"""Streams: each method adds one node to the graph and returns the stream behind it.

`Stream`, and what stands between `Stream.key_by` and `WindowedStream.agg`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpcstream.aggregates.base import AggregateCall
from hpcstream.api.branches import check_same_rows
from hpcstream.api.collected import Collected
from hpcstream.api.dataflow import Dataflow
from hpcstream.api.file_writing import FileWriting
from hpcstream.api.keyed.transforms import KeyedTransforms
from hpcstream.api.misuse import refuse_nothing
from hpcstream.api.notebook import preformatted, schema_text
from hpcstream.api.row_transforms import RowTransforms
from hpcstream.api.window_checks import (
    aggregate_named,
    check_key_type,
    check_lateness,
    check_result_names,
    check_window,
    not_a_key,
    time_of,
)
from hpcstream.api.windows import Window
from hpcstream.calls import answers_wrong_calls
from hpcstream.columns.event_time import Duration
from hpcstream.connectors.defaults import as_sink
from hpcstream.connectors.in_process.sinks import SHOWN_ROWS, MemorySink, PrintSink
from hpcstream.connectors.parts.sink import FileSink
from hpcstream.errors import PlanError
from hpcstream.expressions.expression import Expression
from hpcstream.graph.logical import (
    Node,
    OperatorNode,
    SideNode,
    SinkNode,
    walk,
)
from hpcstream.graph.time_columns import time_columns
from hpcstream.hints import missing_attribute
from hpcstream.operators.union import UnionSpec
from hpcstream.operators.windows.definition import LATE, WindowSpec


@answers_wrong_calls
@dataclass(frozen=True)
class Stream(RowTransforms, FileWriting):
    """Rows, perhaps without end, that a job computes with.

    Streams are descriptions: nothing is read before `Job.run`. A stream may be
    used several times; each use sees all its rows.
    """

    _job: Dataflow
    _node: Node
    _ranks: tuple[int, ...] | None = None

    if not TYPE_CHECKING:  # else type checkers would accept every name

        def __getattr__(self, name: str) -> Any:
            node = self.__dict__.get("_node")
            if node is not None and name in node.schema.names:
                raise AttributeError(
                    f"'Stream' object has no attribute {name!r}: columns are named in "
                    f"expressions, as hs.col({name!r}); .select({name!r}) is the stream of it alone"
                )
            raise _no_attribute("Stream", name, dir(type(self)))

        def __getitem__(self, item: Any) -> Any:
            raise TypeError(_not_indexed(item))

        def __setitem__(self, item: Any, value: Any) -> None:
            raise TypeError(_not_set(item))

        def __iter__(self) -> Any:
            raise TypeError(
                "a stream cannot be iterated over, it has no rows before the job runs: "
                "rows = stream.collect(), job.run(), rows.table; or stream.sink(function)"
            )

    def __repr__(self) -> str:
        steps = [f"    {node.describe()}" for node in walk([self._node])]
        time = self._node.time
        timed = f"; {time.describe()}" if time else ""
        head = f"Stream of job {self._job.name!r}: {schema_text(self.schema)}{timed}"
        return "\n".join([head, *steps])

    def _repr_html_(self) -> str:
        return preformatted(repr(self))

    def _add(self, node: Node) -> Stream:
        return Stream(self._job, node, self._ranks)

    # -- several streams ---------------------------------------------------------------

    def union(self, *others: Stream) -> Stream:
        """Return the rows of all streams; they must have the same columns.

        Rows of one round keep their order: this stream's first, then the others'.
        """
        refuse_nothing("union", others, "stream")
        for number, other in enumerate(others, start=1):
            _check_mixable(self._job, other, number)
        nodes = [self._node] + [other._node for other in others]
        for number, node in enumerate(nodes[1:], start=1):
            check_same_rows(self._node, node, number)
        return self._add(OperatorNode.of(UnionSpec(len(nodes)), *nodes, ranks=self._ranks))

    # -- routing -----------------------------------------------------------------------

    def key_by(self, *columns: str) -> KeyedStream:
        """Group rows by columns: integers, booleans, strings, binary, dates, timestamps, decimals.

        Null is a key of its own.

        Raises
        ------
        PlanError
            No such column, or its type cannot be a key (floats, nested types).
        """
        return KeyedStream.of(self, columns)

    def window(self, window: Window) -> WindowedStream:
        """Refuse: windows are per key, or over all rows.

        Raises
        ------
        PlanError
            Always; it says what to write instead.
        """
        raise PlanError(
            "window(): say per which key first, as in .key_by('name').window(...); for one window "
            "over all rows use .window_all(...)"
        )

    def window_all(self, window: Window) -> WindowedStream:
        """Window the whole stream, without a key; reduced over all ranks."""
        return WindowedStream.of(self, (), window)

    def broadcast(self) -> BroadcastStream:
        """Mark the stream as a side input, to be held whole by every rank.

        No operator takes side inputs of streams yet; use `join_table` for tables.
        """
        return BroadcastStream(self)

    def on(self, *, ranks: Sequence[int] | int) -> Stream:
        """Say which ranks run what follows, counted modulo the number of ranks.

        Raises
        ------
        PlanError
            ``ranks`` is empty or negative.
        """
        wanted = (ranks,) if isinstance(ranks, int) else tuple(ranks)
        if not wanted or any(not isinstance(r, int) or r < 0 for r in wanted):
            raise PlanError(f"on(ranks={ranks!r}): needs one or more rank numbers from 0")
        return replace(self, _ranks=wanted)

    def late(self) -> Stream:
        """Return the rows that came too late for the windows, or the order, of this result.

        Call it on what `agg`, or a method of a keyed stream, returned. The rows have the
        columns that went in there.

        Raises
        ------
        PlanError
            This stream is not the result of such a method.
        """
        if LATE not in self._side_outputs():
            raise PlanError(
                "late(): call it on the result of .agg(...), or of a method of .key_by(...), "
                "before anything else"
            )
        return self.side(LATE)

    def side(self, output: str) -> Stream:
        """Return a side output of the last operator, by its name.

        Raises
        ------
        PlanError
            It has none of this name.
        """
        node, known = self._node, self._side_outputs()
        if not isinstance(node, OperatorNode) or output not in known:
            names = ", ".join(map(repr, known)) or "none"
            raise PlanError(
                f"side({output!r}): the last operator has no side output of this name "
                f"(side outputs: {names}); call it before anything else"
            )
        return self._add(SideNode.of(node, output, self._ranks))

    def _side_outputs(self) -> list[str]:
        if not isinstance(self._node, OperatorNode):
            return []
        return sorted(self._node.spec.side_outputs(self._node.input_schemas))

    # -- sinks -------------------------------------------------------------------------

    def _written_to(self, sink: FileSink) -> None:
        sink.check(self.schema)
        self._end(sink)

    def print(self, limit: int | None = SHOWN_ROWS, *, label: str = "") -> None:
        """Print rows on rank 0, as they come, to look at them.

        Times are shown as dates, also those that an int64 column of event time counts.
        Long texts and lists are shortened.

        Parameters
        ----------
        limit : int or None
            Rows to show; at the end stands how many more there were. None: all.
        label : str
            Stands before each line. Without, several prints of a job are numbered.
        """
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise PlanError(f"print(limit={limit!r}): a number of rows, or None for all")
        if not isinstance(label, str):
            raise TypeError(f"print(label={label!r}): takes a text; print() looks at a whole row")
        units = time_columns(self._node)
        self._end(PrintSink(limit, label=label, units=units), gather=True)

    def collect(self, *, everywhere: bool = False) -> Collected:
        """Return a handle whose ``table`` has all rows after the run, on rank 0.

        Parameters
        ----------
        everywhere : bool
            On every rank: they must fit the memory of each.
        """
        sink = MemorySink(everywhere=everywhere)
        self._end(sink, gather=True)
        return Collected(self._job, sink, self.schema, time_columns(self._node))

    def sink(self, sink: Any) -> None:
        """Write to a sink of your own: an object with ``write(batch)``, or a function.

        See `hpcstream.connectors.base.Sink` for what else it may have.
        """
        self._end(as_sink(sink))

    def _end(self, sink: Any, *, gather: bool = False) -> None:
        node = SinkNode(
            inputs=(self._node,),
            schema=self.schema,
            time=self._node.time,
            ranks=self._ranks,
            sink=sink,
            gather=gather,
        )
        self._job._add_sink(node)


@answers_wrong_calls
@dataclass(frozen=True)
class KeyedStream(KeyedTransforms["Stream"]):
    """A stream grouped by key columns; `window` says over which stretch of event time."""

    _stream: Stream
    _keys: tuple[str, ...]

    @classmethod
    def of(cls, stream: Stream, columns: tuple[str, ...]) -> KeyedStream:
        """Check the columns and return the keyed stream."""
        if not columns:
            raise PlanError("key_by(): name one column at least; without a key use window_all()")
        for name in columns:
            if not isinstance(name, str):
                raise PlanError(not_a_key(name))
            stream._check_column("key_by", name)
            check_key_type(name, stream.schema.field(name).type)
        if len(set(columns)) < len(columns):
            raise PlanError(f"key_by{columns}: a column is named twice")
        return cls(stream, columns)

    if not TYPE_CHECKING:  # else type checkers would accept every name

        def __getattr__(self, name: str) -> Any:
            raise _no_attribute("KeyedStream", name, dir(type(self)))

    def __repr__(self) -> str:
        return f"KeyedStream by {', '.join(self._keys)} of a {self._stream!r}"

    def _repr_html_(self) -> str:
        return preformatted(repr(self))

    def agg(self, *aggregates: AggregateCall, **named: AggregateCall) -> Stream:
        """Refuse: an aggregate of a stream without end needs a window.

        Raises
        ------
        PlanError
            Always; it says what to write instead.
        """
        raise PlanError(
            "agg(): say over which windows first, as in .key_by(...).window(hs.tumbling('1h')).agg("
            "...); a window longer than the data gives one result a key"
        )

    def window(self, window: Window) -> WindowedStream:
        """Collect the rows of each key in windows of event time."""
        return WindowedStream.of(self._stream, self._keys, window)


@answers_wrong_calls
@dataclass(frozen=True)
class WindowedStream:
    """Windows, with or without a key; `agg` says what to compute in each."""

    _stream: Stream
    _keys: tuple[str, ...]
    _window: Window
    _lateness: int = 0

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise _no_attribute("WindowedStream", name, dir(type(self)))

    def __repr__(self) -> str:
        by = f" by {', '.join(self._keys)}" if self._keys else ""
        return f"WindowedStream{by} in {self._window!r} of a {self._stream!r}"

    def _repr_html_(self) -> str:
        return preformatted(repr(self))

    @classmethod
    def of(cls, stream: Stream, keys: tuple[str, ...], window: Window) -> WindowedStream:
        """Return the windows over a stream that has event time."""
        if not hasattr(window, "assigner"):
            raise PlanError(
                f"window({window!r}): expected hs.tumbling(...), hs.sliding(...) or another"
            )
        time = time_of(stream._node)
        assigner = window.assigner(time.unit)  # raises if the sizes are not whole units
        check_window(keys, repr(window), assigner)
        return cls(stream, keys, window)

    def allowed_lateness(self, lateness: Duration) -> WindowedStream:
        """Keep a window for so long after it fired; a row that comes then makes it fire again.

        The result of its key is emitted again, whole, with the same key and window;
        those of keys that got no row are not.
        """
        unit = time_of(self._stream._node).unit
        ticks = unit.ticks(lateness, what="allowed_lateness")
        check_lateness(repr(self._window), self._window.assigner(unit))
        if ticks < 0:
            raise PlanError(f"allowed_lateness({lateness!r}): must not be negative")
        return replace(self, _lateness=ticks)

    def late(self) -> Stream:
        """Refuse: late rows are those of a result, so `agg` comes first.

        Raises
        ------
        PlanError
            Always; it says where ``late()`` is.
        """
        raise PlanError(
            "late(): call it on the result: counts = windows.agg(...); late = counts.late()"
        )

    def agg(self, *aggregates: AggregateCall, **named: AggregateCall) -> Stream:
        """Compute aggregates for each key and window.

        Returns a stream of the key columns, ``window_start``, ``window_end`` and
        the aggregates in the order given. Its event time is ``window_end`` less
        one unit, so windows can follow windows.

        Raises
        ------
        PlanError
            Not an aggregate, a name used twice, or a type it does not take.
        """
        names = [c.name if isinstance(c, AggregateCall) else "" for c in aggregates]
        calls = [aggregate_named(name, c) for name, c in zip(names, aggregates, strict=True)]
        calls += [aggregate_named(name, call) for name, call in named.items()]
        if not calls:
            raise PlanError("agg(): name one aggregate at least, as in agg(rows=hs.count())")
        stream = self._stream
        before = time_of(stream._node)
        spec = WindowSpec(
            keys=self._keys,
            assigner=self._window.assigner(before.unit),
            aggregates=tuple(calls),
            window=repr(self._window),
            unit=before.unit,
            time_type=before.data_type,
            allowed_lateness=self._lateness,
        )
        node = OperatorNode.of(spec, stream._node, ranks=stream._ranks)
        check_result_names(self._keys, node.schema.names)
        return Stream(stream._job, node, stream._ranks)


@dataclass(frozen=True)
class BroadcastStream:
    """A stream marked as a side input; using it as a main input raises `PlanError`."""

    _stream: Stream

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            raise PlanError(
                f".broadcast().{name}: a broadcast stream is a side input only; every rank would "
                "see each row, and count it once a rank. Use the stream itself, or rebalance()"
            )


def _no_attribute(of: str, name: str, known: Iterable[str]) -> AttributeError:
    from hpcstream.aggregates.registry import AGGREGATES  # loads all families

    return missing_attribute(of, name, known, AGGREGATES)


def _not_indexed(item: Any) -> str:
    if isinstance(item, str):
        return (
            f"stream[{item!r}]: columns are named in expressions, as hs.col({item!r}); "
            f".select({item!r}) is the stream of it alone"
        )
    if isinstance(item, Expression):
        return f"stream[{item!r}]: write .filter({item!r})"
    return f"stream[{item!r}]: a stream has no positions; print() and collect() show its rows"


def _not_set(item: Any) -> str:
    named = f"{item}=..." if isinstance(item, str) and item.isidentifier() else "**{name: ...}"
    return (
        f"stream[{item!r}] = ...: a stream is not changed, others are made of it; write "
        f"stream = stream.with_columns({named})"
    )


def _check_mixable(job: Dataflow, other: Any, number: int) -> None:
    if not isinstance(other, Stream):
        given = "a list: write a.union(*streams)" if isinstance(other, list | tuple) else other
        raise TypeError(f"union: input {number} is not a stream; got {given}")
    if other._job is not job:
        raise PlanError(
            f"union: input {number} is a stream of job {other._job.name!r}, this one is of job "
            f"{job.name!r}; read both sources with one job: a run reads what belongs to it"
        )
