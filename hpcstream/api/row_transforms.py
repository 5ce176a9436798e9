"""What a stream does with each of its rows: every method returns a stream of the same kind."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from hpcstream.api.functions import function_node
from hpcstream.api.misuse import (
    columns_for,
    expression_for,
    new_names,
    refuse_nothing,
    refuse_unless_name,
    warn_of_local_moments,
)
from hpcstream.calls import answers_wrong_calls
from hpcstream.columns.event_time import Duration, TimeUnit
from hpcstream.columns.hidden import refuse_reserved_names
from hpcstream.columns.types.given import SchemaLike
from hpcstream.errors import PlanError
from hpcstream.expressions.expression import Expression, col, refuse_plain_truth
from hpcstream.graph.logical import Node, OperatorNode
from hpcstream.hints import did_you_mean
from hpcstream.operators.event_time import EventTimeSpec
from hpcstream.operators.spec import OperatorSpec
from hpcstream.operators.stateless import FilterSpec, ProjectSpec, RebalanceSpec
from hpcstream.operators.stream_time import EventTime
from hpcstream.operators.user_functions import FlatMap, MapBatches


@answers_wrong_calls
class RowTransforms(ABC):
    """Methods that add a node behind the stream's own; `_add` makes the stream behind that."""

    _node: Node
    _ranks: tuple[int, ...] | None

    @abstractmethod
    def _add(self, node: Node) -> Self:
        """Return the stream behind a node that has this stream's as its input."""

    @property
    def schema(self) -> pa.Schema:
        """Columns and types, known when the graph is built: a wrong name raises there."""
        return self._node.schema

    # -- stateless ---------------------------------------------------------------------

    def filter(self, predicate: Expression) -> Self:
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
        return self._behind(FilterSpec(expression), self.schema, self._node.time)

    def select(self, *columns: str | Expression, **named: Any) -> Self:
        """Return these columns only: names, expressions, or ``name=expression``.

        Event time is kept even if its column is not selected.
        """
        pairs = [(e.name, e) for e in columns_for("select", columns)]
        pairs += [(name, expression_for("select", value)) for name, value in named.items()]
        return self._project("select", pairs)

    def with_columns(self, *columns: Expression, **named: Any) -> Self:
        """Return all columns and these; one of the same name is replaced."""
        added = [(e.name, e) for e in columns_for("with_columns", columns)]
        added += [(name, expression_for("with_columns", value)) for name, value in named.items()]
        refuse_nothing("with_columns", added, "name=expression")
        pairs: dict[str, Expression] = {name: col(name) for name in self.schema.names}
        pairs.update(added)
        return self._project("with_columns", list(pairs.items()))

    def drop(self, *columns: str) -> Self:
        """Return all columns but these."""
        refuse_nothing("drop", columns, "'name'")
        for name in columns:
            self._check_column("drop", name)
        return self._project(
            "drop", [(n, col(n)) for n in self.schema.names if n not in set(columns)]
        )

    def rename(self, names: Mapping[str, str] | None = None, **named: str) -> Self:
        """Rename columns: ``rename({"old": "new"})`` or ``rename(old="new")``."""
        new = new_names(names, named)
        refuse_nothing("rename", new, "{'old': 'new'}")
        for name in new:
            self._check_column("rename", name)
        return self._project("rename", [(new.get(n, n), col(n)) for n in self.schema.names])

    def _project(self, what: str, pairs: list[tuple[str, Expression]]) -> Self:
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PlanError(f"{what}: two columns are named {twice[0]!r}; name one with .alias()")
        refuse_reserved_names(names, what)
        if not pairs:
            raise PlanError(f"{what}: no column is left; a stream needs one at least")
        schema = pa.schema([pa.field(name, e.data_type(self.schema)) for name, e in pairs])
        spec = ProjectSpec(tuple(pairs))
        return self._behind(spec, schema, spec.output_time([self._node.time], [self.schema]))

    def _behind(self, spec: OperatorSpec, schema: pa.Schema, time: EventTime | None) -> Self:
        """Add an operator whose schema is known."""
        inputs = (self._node,)
        return self._add(
            OperatorNode(inputs=inputs, schema=schema, time=time, ranks=self._ranks, spec=spec)
        )

    def map_batches(
        self, function: Callable[[pa.RecordBatch], Any], schema: SchemaLike | None = None
    ) -> Self:
        """Apply a function to whole batches: the fast way to run code of your own.

        Parameters
        ----------
        function : callable
            Takes a `pyarrow.RecordBatch`; returns a batch, a table, several of
            them, or None. It sees any number of rows a call, in order.
        schema : pyarrow.Schema or types by name, optional
            Of what it returns, as ``{"a": "int64"}``; found by a call with no rows if not given.

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
        schema: SchemaLike | None = None,
    ) -> Self:
        """Turn each row into any number of rows, with Python code for every row.

        `map_batches` does the same for whole batches, a hundred times faster. Rows have
        the event time of the row they come from, unless they have the column that holds it.
        """
        return self._add(function_node(self._node, self._ranks, FlatMap, function, schema))

    def join_table(
        self,
        table: pa.Table | str | Path,
        on: str | Sequence[str] | None = None,
        *,
        left_on: str | Sequence[str] | None = None,
        right_on: str | Sequence[str] | None = None,
        how: str = "inner",
        suffix: str = "_right",
    ) -> Self:
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
    ) -> Self:
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
        return self._add(OperatorNode.of(EventTimeSpec(time, delay), self._node, ranks=self._ranks))

    # -- placement and names -------------------------------------------------------------

    def rebalance(self) -> Self:
        """Spread the rows evenly over the ranks."""
        return self._behind(RebalanceSpec(), self.schema, self._node.time)

    def named(self, name: str) -> Self:
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

    def _check_column(self, what: str, name: str) -> None:
        refuse_unless_name(what, name)
        if name not in self.schema.names:
            names = self.schema.names
            hint = did_you_mean(name, names)
            raise PlanError(f"{what}: no column {name!r}{hint} (columns: {', '.join(names)})")


def _not_a_condition(text: str) -> str:
    match = re.fullmatch(r"\s*(\w+)\s*(==|!=|<=|>=|<|>|=)\s*(.+?)\s*", text)
    meant = "col('t') > 0"
    if match:
        name, operator, value = match.groups()
        meant = f"col({name!r}) {'==' if operator == '=' else operator} {value}"
    return f"filter({text!r}): takes an expression, not text; write filter({meant})"
