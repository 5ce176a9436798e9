"""Streams: each method adds one node to the graph and returns the stream behind it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hpcstream.api.collected import Collected
from hpcstream.api.file_writing import FileWriting
from hpcstream.api.functions import function_node
from hpcstream.api.misuse import (
    columns_for,
    expression_for,
    new_names,
    refuse_unless_name,
    warn_of_local_moments,
)
from hpcstream.api.notebook import preformatted, schema_text
from hpcstream.api.union_inputs import check_same_rows
from hpcstream.api.windowed import KeyedStream, WindowedStream
from hpcstream.api.windows import Window
from hpcstream.connectors.adapt import as_sink
from hpcstream.connectors.file_sinks import (
    FileSink,
)
from hpcstream.connectors.sinks import SHOWN_ROWS, MemorySink, PrintSink
from hpcstream.errors import PlanError
from hpcstream.event_time import Duration, TimeUnit, duration_text
from hpcstream.graph.logical import (
    EventTime,
    FilterNode,
    LateNode,
    Node,
    OperatorNode,
    ProjectNode,
    RebalanceNode,
    SinkNode,
    UnionNode,
    WindowNode,
    walk,
)
from hpcstream.graph.time_columns import time_columns
from hpcstream.hints import absent, near
from hpcstream.operators.event_time import AssignEventTime
from hpcstream.operators.expressions import Expression, col, refuse_plain_truth
from hpcstream.operators.hidden_columns import refuse_reserved_names
from hpcstream.operators.user_functions import FlatMap, MapBatches

if TYPE_CHECKING:
    from hpcstream.api.job import Job


@dataclass(frozen=True)
class Stream(FileWriting):
    """Rows, perhaps without end, that a job computes with.

    Streams are descriptions: nothing is read before `Job.run`. A stream may be
    used several times; each use sees all its rows.
    """

    _job: Job
    _node: Node
    _ranks: tuple[int, ...] | None = None

    @property
    def schema(self) -> pa.Schema:
        """Columns and types, known when the graph is built: a wrong name raises there."""
        return self._node.schema

    if not TYPE_CHECKING:  # or every name would be one, of any type

        def __getattr__(self, name: str) -> Any:
            node = self.__dict__.get("_node")
            if node is not None and name in node.schema.names:
                raise AttributeError(
                    f"'Stream' object has no attribute {name!r}: columns are named in "
                    f"expressions, as hs.col({name!r}); .select({name!r}) is the stream of it alone"
                )
            raise AttributeError(absent("Stream", name, dir(type(self))))

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

    # -- stateless ---------------------------------------------------------------------

    def filter(self, predicate: Expression) -> Stream:
        """Keep the rows for which ``predicate`` is true (not false, not null).

        Raises
        ------
        PlanError
            Not a boolean expression, or over columns that are not there.
        """
        given: Any = predicate
        if isinstance(given, str):
            raise TypeError(_not_a_condition(given))
        refuse_plain_truth("filter", given)
        expression = expression_for("filter", given)
        found = expression.data_type(self.schema)
        if not pa.types.is_boolean(found):
            raise PlanError(f"filter({expression!r}): needs a boolean expression; this is {found}")
        warn_of_local_moments("filter", expression, self.schema)
        return self._add(
            FilterNode(
                inputs=(self._node,),
                schema=self.schema,
                time=self._node.time,
                ranks=self._ranks,
                predicate=expression,
            )
        )

    def select(self, *columns: str | Expression, **named: Any) -> Stream:
        """Return these columns only: names, expressions, or ``name=expression``.

        Event time is kept even if its column is not selected.
        """
        pairs = [(e.name, e) for e in columns_for("select", columns)]
        pairs += [(name, expression_for("select", value)) for name, value in named.items()]
        return self._project("select", pairs)

    def with_columns(self, *columns: Expression, **named: Any) -> Stream:
        """Return all columns and these; one of the same name is replaced."""
        added = [(e.name, e) for e in columns_for("with_columns", columns)]
        added += [(name, expression_for("with_columns", value)) for name, value in named.items()]
        pairs: dict[str, Expression] = {name: col(name) for name in self.schema.names}
        pairs.update(added)
        return self._project("with_columns", list(pairs.items()))

    def drop(self, *columns: str) -> Stream:
        """Return all columns but these."""
        for name in columns:
            self._check_column("drop", name)
        return self._project(
            "drop", [(n, col(n)) for n in self.schema.names if n not in set(columns)]
        )

    def rename(self, names: Mapping[str, str] | None = None, **named: str) -> Stream:
        """Rename columns: ``rename({"old": "new"})`` or ``rename(old="new")``."""
        new = new_names(names, named)
        for name in new:
            self._check_column("rename", name)
        return self._project("rename", [(new.get(n, n), col(n)) for n in self.schema.names])

    def _project(self, what: str, pairs: list[tuple[str, Expression]]) -> Stream:
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PlanError(f"{what}: two columns are named {twice[0]!r}; name one with .alias()")
        refuse_reserved_names(names, what)
        if not pairs:
            raise PlanError(f"{what}: no column is left; a stream needs one at least")
        schema = pa.schema([pa.field(name, e.data_type(self.schema)) for name, e in pairs])
        time = self._node.time
        return self._add(
            ProjectNode(
                inputs=(self._node,),
                schema=schema,
                time=None if time is None else time.behind(pairs),
                ranks=self._ranks,
                columns=tuple(pairs),
            )
        )

    def map_batches(
        self, function: Callable[[pa.RecordBatch], Any], schema: pa.Schema | None = None
    ) -> Stream:
        """Apply a function to whole batches: the fast way to run code of your own.

        Parameters
        ----------
        function : callable
            Takes a `pyarrow.RecordBatch`; returns a batch, a table, several of
            them, or None. It sees any number of rows a call, in order.
        schema : pyarrow.Schema, optional
            Of what it returns; found by a call with no rows if not given.

        Notes
        -----
        Event time is read from the column that holds it, if the function is given it and
        returns it. If no column holds it (it was replaced, or dropped), rows returned have
        that of the rows given, one for one. A function that does not return the column it
        was given gives event time up.
        """
        return self._add(function_node(self._node, self._ranks, MapBatches, function, schema))

    def flat_map(
        self,
        function: Callable[[dict[str, Any]], Iterable[dict[str, Any]]],
        schema: pa.Schema | None = None,
    ) -> Stream:
        """Turn each row into any number of rows, with Python code for every row.

        `map_batches` does the same for whole batches, a hundred times faster. Rows have
        the event time of the row they come from, unless they have the column that holds it.
        """
        return self._add(function_node(self._node, self._ranks, FlatMap, function, schema))

    def union(self, *others: Stream) -> Stream:
        """Return the rows of all streams; they must have the same columns.

        Rows of one round keep their order: this stream's first, then the others'.
        """
        for number, other in enumerate(others, start=1):
            _check_mixable(self._job, other, number)
        nodes = [self._node] + [other._node for other in others]
        for number, node in enumerate(nodes[1:], start=1):
            check_same_rows(self._node, node, number)
        time = self._node.time
        for node in nodes[1:]:
            time = None if time is None else time.beside(node.time)
        return self._add(
            UnionNode(inputs=tuple(nodes), schema=self.schema, time=time, ranks=self._ranks)
        )

    def join_table(
        self,
        table: pa.Table | str | Path,
        on: str | Sequence[str] | None = None,
        *,
        left_on: str | Sequence[str] | None = None,
        right_on: str | Sequence[str] | None = None,
        how: str = "inner",
        suffix: str = "_right",
    ) -> Stream:
        """Enrich each row from a table that every rank holds.

        Parameters
        ----------
        table : pyarrow.Table or path
            A Parquet, Arrow IPC or CSV file is read when the graph is built.
        on : str or list of str
            Key columns, if they have the same names on both sides.
        how : str
            ``"inner"`` drops rows without a match, ``"left"`` fills with nulls.
        suffix : str
            Added to the table's columns whose names the stream has already.

        Raises
        ------
        PlanError
            Keys are missing, or of different types.
        """
        from hpcstream.api.tables import join_table

        left = left_on if left_on is not None else on
        right = right_on if right_on is not None else on
        if left is None or right is None:
            raise PlanError("join_table: say the key columns with on=, or left_on= and right_on=")
        return self._add(
            join_table(self._node, self._ranks, table, left, right, how=how, suffix=suffix)
        )

    # -- event time --------------------------------------------------------------------

    def with_event_time(
        self, column: str, watermark_delay: Duration = "0s", unit: str | None = None
    ) -> Stream:
        """Take event time from a column, here rather than at the source.

        Call it before `rebalance`, and before anything that moves rows between
        ranks: where rows of several ranks meet they are out of order by as much
        event time as the ranks' files span.

        Parameters
        ----------
        column : str
            A timestamp, date or int64 column.
        watermark_delay : str or datetime.timedelta
            How far out of order rows may be.
        unit : str, optional
            What an int64 counts: ``"ns"``, ``"us"``, ``"ms"``, ``"s"``.
        """
        self._check_column("with_event_time", column)
        found = self.schema.field(column).type
        time = EventTime(column, TimeUnit.of_type(found, unit), found)
        delay = time.unit.ticks(watermark_delay, what="watermark_delay")
        behind = f", watermark delay {duration_text(delay, time.unit.name)}" if delay else ""
        return self._add(
            OperatorNode(
                inputs=(self._node,),
                schema=self.schema,
                time=time,
                ranks=self._ranks,
                make=lambda schema: AssignEventTime(column, time.unit.name, delay),
                label=f"event time {column!r}{behind}",
                reads=frozenset({column}),
                passes_columns=True,
                sets_time=True,
                stays=True,
            )
        )

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

    def rebalance(self) -> Stream:
        """Spread the rows evenly over the ranks."""
        return self._add(
            RebalanceNode(
                inputs=(self._node,), schema=self.schema, time=self._node.time, ranks=self._ranks
            )
        )

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

    def named(self, name: str) -> Stream:
        """Give the last transformation a name under which checkpoints keep its state.

        A job that is changed between two runs goes on with the state of each operator
        that has the same name, or the same description, and still does the same.

        Parameters
        ----------
        name : str
            Unique in the job.
        """
        if not isinstance(name, str) or not name:
            raise PlanError(f"named({name!r}): needs a name")
        return self._add(replace(self._node, name=name))

    def late(self) -> Stream:
        """Return the rows that came too late for the windows of this result.

        Call it on what `agg` returned. The rows have the columns that went into
        the windows.

        Raises
        ------
        PlanError
            This stream is not the result of a windowed aggregate.
        """
        if not isinstance(self._node, WindowNode):
            raise PlanError("late(): call it on the result of .agg(...), before anything else")
        (before,) = self._node.inputs
        return self._add(
            LateNode(
                inputs=(self._node,), schema=before.schema, time=before.time, ranks=self._ranks
            )
        )

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

    def _check_column(self, what: str, name: str) -> None:
        refuse_unless_name(what, name)
        if name not in self.schema.names:
            names = self.schema.names
            hint = near(name, names)
            raise PlanError(f"{what}: no column {name!r}{hint} (columns: {', '.join(names)})")


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


def _not_a_condition(text: str) -> str:
    match = re.fullmatch(r"\s*(\w+)\s*(==|!=|<=|>=|<|>|=)\s*(.+?)\s*", text)
    meant = "col('t') > 0"
    if match:
        name, operator, value = match.groups()
        meant = f"col({name!r}) {'==' if operator == '=' else operator} {value}"
    return f"filter({text!r}): takes an expression, not text; write filter({meant})"


def _check_mixable(job: Job, other: Any, number: int) -> None:
    if not isinstance(other, Stream):
        given = "a list: write a.union(*streams)" if isinstance(other, list | tuple) else other
        raise TypeError(f"union: input {number} is not a stream; got {given}")
    if other._job is not job:
        raise PlanError(
            f"union: input {number} is a stream of job {other._job.name!r}, this one is of job "
            f"{job.name!r}; read both sources with one job: a run reads what belongs to it"
        )
