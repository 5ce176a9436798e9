"""Keyed and windowed streams: what stands between `key_by` and `agg`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hpcstream.api.notebook import preformatted
from hpcstream.api.windows import Window
from hpcstream.errors import PlanError
from hpcstream.event_time import Duration
from hpcstream.graph.logical import EventTime, Node, WindowNode, walk
from hpcstream.hints import absent
from hpcstream.memory.columns import can_be_key
from hpcstream.operators.aggregate_call import AggregateCall

if TYPE_CHECKING:
    from hpcstream.api.stream import Stream

WINDOW_COLUMNS = ("window_start", "window_end")


@dataclass(frozen=True)
class KeyedStream:
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
                raise PlanError(_not_a_key(name))
            stream._check_column("key_by", name)
            _check_key_type(name, stream.schema.field(name).type)
        if len(set(columns)) < len(columns):
            raise PlanError(f"key_by{columns}: a column is named twice")
        return cls(stream, columns)

    if not TYPE_CHECKING:  # or every name would be one, of any type

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(absent("KeyedStream", name, dir(type(self))))

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


@dataclass(frozen=True)
class WindowedStream:
    """Windows, with or without a key; `agg` says what to compute in each."""

    _stream: Stream
    _keys: tuple[str, ...]
    _window: Window
    _lateness: int = 0

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(absent("WindowedStream", name, dir(type(self))))

    def __repr__(self) -> str:
        by = f" by {', '.join(self._keys)}" if self._keys else ""
        return f"WindowedStream{by} in {self._window!r} of a {self._stream!r}"

    def _repr_html_(self) -> str:
        return preformatted(repr(self))

    @classmethod
    def of(cls, stream: Stream, keys: tuple[str, ...], window: Window) -> WindowedStream:
        """Return the windows over a stream that has event time."""
        if not hasattr(window, "assigner"):
            raise PlanError(f"window({window!r}): expected hs.tumbling(...) or hs.sliding(...)")
        time = _time_of(stream)
        window.assigner(time.unit)  # raises if the sizes are not whole units
        return cls(stream, keys, window)

    def allowed_lateness(self, lateness: Duration) -> WindowedStream:
        """Keep a window for so long after it fired; a row that comes then makes it fire again.

        The result of its key is emitted again, whole, with the same key and window;
        those of keys that got no row are not.
        """
        unit = _time_of(self._stream).unit
        ticks = unit.ticks(lateness, what="allowed_lateness")
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
        from hpcstream.api.stream import Stream

        calls = [_call(c.name if isinstance(c, AggregateCall) else "", c) for c in aggregates]
        calls += [_call(name, call) for name, call in named.items()]
        if not calls:
            raise PlanError("agg(): name one aggregate at least, as in agg(rows=hs.count())")
        stream = self._stream
        schema = self._output_schema(calls)
        before = _time_of(stream)
        time = EventTime("window_end", before.unit, before.data_type, shift=-1)
        node = WindowNode(
            inputs=(stream._node,),
            schema=schema,
            time=time,
            ranks=stream._ranks,
            keys=self._keys,
            assigner=self._window.assigner(before.unit),
            window=repr(self._window),
            aggregates=tuple(calls),
            allowed_lateness=self._lateness,
        )
        return Stream(stream._job, node, stream._ranks)

    def _output_schema(self, calls: list[AggregateCall]) -> pa.Schema:
        source = self._stream.schema
        time_type = _time_of(self._stream).data_type
        fields = [pa.field(name, _decoded(source.field(name).type)) for name in self._keys]
        fields += [pa.field(name, time_type) for name in WINDOW_COLUMNS]
        for call in calls:
            found = None if call.input is None else call.input.data_type(source)
            fields.append(pa.field(call.name, call.result_type(found)))
        _check_names(self._keys, [f.name for f in fields])
        return pa.schema(fields)


def _not_a_key(given: Any) -> str:
    if isinstance(given, list | tuple):
        return f"key_by({given!r}): takes names one by one; write key_by(*{given!r})"
    return f"key_by({given!r}): takes column names; compute it with with_columns()"


def _call(name: str, call: Any) -> AggregateCall:
    if not isinstance(call, AggregateCall):
        given = f"{name}={call!r}" if name else repr(call)
        raise PlanError(f"agg({given}): expected an aggregate, as hs.count() or col('x').mean()")
    return call.alias(name)


def _check_names(keys: tuple[str, ...], names: list[str]) -> None:
    taken = sorted(set(keys) & set(WINDOW_COLUMNS))
    if taken:
        raise PlanError(
            f"key_by({taken[0]!r}): the result has a column of this name already; rename the key "
            f"first, as in .rename({taken[0]}='previous_{taken[0]}')"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PlanError(
            f"agg: two output columns are named {twice[0]!r}; give the aggregate another name, as "
            "in agg(other=...)"
        )


def _time_of(stream: Stream) -> EventTime:
    time = stream._node.time
    if time is None:
        raise PlanError(
            f"windows need event time, and this stream has none{_lost(stream._node)}; name its "
            "column where the stream is read (event_time=...), or with with_event_time()"
        )
    return time


def _lost(node: Node) -> str:
    """Return which function gave event time up, if one did."""
    for one in reversed(list(walk([node]))):
        before = one.inputs[0].time if one.inputs else None
        if before is not None and one.time is None:
            return f" ({one.describe()} does not return {before.column!r}, which held it)"
    return ""


def _decoded(data_type: pa.DataType) -> pa.DataType:
    return data_type.value_type if pa.types.is_dictionary(data_type) else data_type


def _check_key_type(name: str, data_type: pa.DataType) -> None:
    if not can_be_key(data_type):
        raise PlanError(
            f"key_by({name!r}): {data_type} cannot be a key; use an integer, boolean, string, "
            "binary, date, timestamp or decimal column, or cast it in with_columns()"
        )
