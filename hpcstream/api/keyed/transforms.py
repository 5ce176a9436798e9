"""What a keyed stream does with the rows of each key, in event order."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from hpcstream.api.misuse import columns_for, expression_for
from hpcstream.api.row_transforms import RowTransforms
from hpcstream.api.window_checks import time_of
from hpcstream.calls import answers_wrong_calls
from hpcstream.columns.event_time import Duration
from hpcstream.columns.hidden import refuse_reserved_names
from hpcstream.errors import PlanError
from hpcstream.expressions.expression import Expression, col
from hpcstream.graph.logical import OperatorNode
from hpcstream.operators.keyed.kept_rows_spec import DeduplicateSpec, RateLimitSpec
from hpcstream.operators.keyed.ordered_columns_spec import OrderedColumnsSpec
from hpcstream.operators.keyed.spec import KeyedSpec, Order
from hpcstream.operators.stream_time import EventTime

_S = TypeVar("_S", bound=RowTransforms)

_MOST_ROWS = 1 << 20


@answers_wrong_calls
class KeyedTransforms(Generic[_S]):
    """Methods whose rows are those of each key, one after the other."""

    _stream: _S
    _keys: tuple[str, ...]

    def deduplicate(
        self,
        within: Duration | None,
        *,
        keep: Literal["first"] = "first",
        order: Order = "event",
    ) -> _S:
        """Leave out rows that repeat an earlier one of their key.

        A row is kept if no row of its key was kept in the time ``within`` before it; the other
        one counts if it is just so old. So a chain of duplicates does not hide a row for ever,
        and of a key a time is kept until ``within`` after it.

        Rows leave when the watermark has passed them, in event order; of rows of one time that
        which was read first counts. Those behind the watermark are counted
        (`JobResult.late_rows`) and available from ``.late()``.

        Parameters
        ----------
        within : str, datetime.timedelta or None
            How long a row that is kept hides others. None: for ever, which keeps a word of
            every key there ever was.
        keep : str
            Only ``"first"``.
        order : str
            ``"arrival"`` handles rows as they come, without waiting for the watermark, and late
            ones too; which of two is kept then depends on the run and the number of ranks.

        Raises
        ------
        PlanError
            The stream has no event time, or ``within`` is not positive.
        """
        time = self._time("deduplicate()")
        _check_choice("deduplicate", "keep", keep, ("first",))
        ticks = None
        if within is not None:
            ticks = _positive_ticks("deduplicate", "within", within, time)
        return self._ordered(DeduplicateSpec(self._keys, time.unit.name, order, ticks))

    def rate_limit(
        self, rows: int, per: Duration, *, burst: int | None = None, order: Order = "event"
    ) -> _S:
        """Let through so many rows of each key a time: a token bucket in event time.

        The bucket of a key holds ``burst`` tokens; it is full at first, and gets ``rows`` in each
        time ``per``, evenly. A row takes a token, or is limited: ``.side("limited")`` is the
        stream of these. Of a key two words are kept until its bucket is full again.

        Parameters
        ----------
        rows : int
            At least 1.
        per : str or datetime.timedelta
        burst : int, optional
            As many as ``rows`` if not given.
        order : str
            As for `deduplicate`.

        Raises
        ------
        PlanError
            The stream has no event time, or a number is not positive.
        """
        time = self._time("rate_limit()")
        ticks = _positive_ticks("rate_limit", "per", per, time)
        most = rows if burst is None else burst
        for name, number in (("rows", rows), ("burst", most)):
            if not isinstance(number, int) or not 0 < number <= _MOST_ROWS:
                raise PlanError(
                    f"rate_limit({name}={number!r}): a number of rows from 1 to {_MOST_ROWS:,}"
                )
        return self._ordered(RateLimitSpec(self._keys, time.unit.name, order, rows, ticks, most))

    def with_columns(self, *columns: Expression, ttl: Duration | None = None, **named: Any) -> _S:
        """Return all columns and these, which may be computed from earlier rows of the key.

        ``col("x").shift()``, ``.diff()``, ``.cum_sum()``, ``.forward_fill()``, ``.ewm_mean("1s")``,
        ``.changed()`` and their kin see the rows of each key in event order; they may stand
        anywhere in an expression. Rows leave when the watermark has passed them; late ones are
        counted and available from ``.late()``.

        Parameters
        ----------
        *columns, **named : Expression
            As for `Stream.with_columns`.
        ttl : str, datetime.timedelta or None
            A key is forgotten that long after its last row, and then begins anew. None: a few
            words are kept of every key there ever was.

        Raises
        ------
        PlanError
            The stream has no event time, or an expression does not fit.
        """
        time, schema = self._time("with_columns()"), self._stream.schema
        added = [(e.name, e) for e in columns_for("with_columns", columns)]
        added += [(name, expression_for("with_columns", value)) for name, value in named.items()]
        refuse_reserved_names([name for name, _ in added], "with_columns")
        pairs: dict[str, Expression] = {name: col(name) for name in schema.names}
        pairs.update(added)
        ticks = None if ttl is None else _positive_ticks("with_columns", "ttl", ttl, time)
        unit, made = time.unit.name, tuple(pairs.items())
        return self._ordered(OrderedColumnsSpec(self._keys, unit, "event", made, ticks))

    def _time(self, what: str) -> EventTime:
        return time_of(self._stream._node, f"{what} needs")

    def _ordered(self, spec: KeyedSpec) -> _S:
        _check_choice(str(spec.kind), "order", spec.order, ("event", "arrival"))
        stream = self._stream
        return stream._add(OperatorNode.of(spec, stream._node, ranks=stream._ranks))


def _positive_ticks(what: str, name: str, duration: Duration, time: EventTime) -> int:
    ticks = time.unit.ticks(duration, what=f"{what}({name}=...)")
    if ticks <= 0:
        raise PlanError(f"{what}({name}={duration!r}): must be positive")
    return ticks


def _check_choice(what: str, name: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        known = " or ".join(map(repr, choices))
        raise PlanError(f"{what}({name}={given!r}): takes {known}")
