"""Plans the stages of a windowed aggregate: one, two, or a reduction over all ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from hpcstream.aggregates.base import AggregateCall, AggregateInput
from hpcstream.aggregates.kept_columns import WINDOW_COLUMN
from hpcstream.aggregates.named import NamedAggregate
from hpcstream.columns.event_time import HIDDEN_COLUMNS
from hpcstream.errors import PlanError
from hpcstream.exchange.partitioning import (
    ForwardPartitioning,
    GatherPartitioning,
    HashPartitioning,
)
from hpcstream.expressions.expression import Expression, col, to_expression
from hpcstream.graph.logical import OperatorNode
from hpcstream.graph.physical import FINAL, LOCAL, WHOLE, OperatorPlan, TaskPlan
from hpcstream.graph.plan_builder import PlanBuilder, Port
from hpcstream.memory.pool import process_pool
from hpcstream.operators.base import Operator
from hpcstream.operators.spec import MAIN, ByKey, Gathered, Requirement
from hpcstream.operators.stateless import Project, ProjectSpec
from hpcstream.operators.windows.definition import LATE, WindowSpec
from hpcstream.operators.windows.spec import WindowAggregateSpec


class WindowPlan:
    """Plans one windowed aggregate."""

    def __init__(self, planner: PlanBuilder, node: OperatorNode, asked: WindowSpec) -> None:
        self._planner = planner
        self._node = node
        self._asked = asked
        self._ranks = planner.ranks_of(node)

    def build(self) -> Port:
        """Add the tasks and edges; return the port of the results."""
        port = self._with_inputs(self._planner.input_port(self._node))
        spec = self._spec(port.schema)
        if not self._asked.keys and not self._asked.assigner.merges:
            return self._all_ranks(port, spec)
        if not self._asked.keys:
            self._ranks = self._ranks[:1]
        if self._planner.is_placed(port, self._requirement, self._ranks):
            return self._one_stage(port, spec)
        if spec.supports_partials and self._planner.local_aggregation:
            return self._local_and_final(port, spec)
        return self._exchange_rows(port, spec)

    # -- inputs ------------------------------------------------------------------------

    def _with_inputs(self, port: Port) -> Port:
        """Project to the keys and the aggregates' inputs; keep all columns for late rows."""
        columns = self._input_columns()
        visible = [name for name in port.schema.names if name not in HIDDEN_COLUMNS]
        if [name for name, _ in columns] == visible:
            return port
        label = "select " + ", ".join(name for name, _ in columns)
        spec = ProjectSpec(columns, label)
        task, output = self._planner.append(port, OperatorPlan.of(spec, lambda: Project(columns)))
        return Port(task, output, spec.output_schema([port.schema]), port.partitioned_by)

    def _input_columns(self) -> tuple[tuple[str, Expression], ...]:
        asked = self._asked
        names = list(self._node.inputs[0].schema.names) if self._wants_late else list(asked.keys)
        columns: dict[str, Expression] = {name: col(name) for name in names}
        for index, call in enumerate(asked.aggregates):
            inputs = map(to_expression, call.inputs)
            columns |= zip(_input_names(call, index), inputs, strict=True)
        return tuple(columns.items())

    def _spec(self, schema: pa.Schema) -> WindowAggregateSpec:
        asked = self._asked
        aggregates = tuple(
            NamedAggregate(call.name, call.aggregate, _input_names(call, index))
            for index, call in enumerate(asked.aggregates)
        )
        if self._planner.reproducible:
            aggregates = tuple(self._reproducible(each, schema) for each in aggregates)
        return WindowAggregateSpec(
            keys=asked.keys,
            assigner=asked.assigner,
            aggregates=aggregates,
            allowed_lateness=asked.allowed_lateness,
            input_schema=schema,
            time_type=asked.time_type,
            late_output=self._wants_late,
            ordered_output=self._planner.hidden_needs.has_order(self._node),
        )

    def _reproducible(self, aggregate: NamedAggregate, schema: pa.Schema) -> NamedAggregate:
        if aggregate.is_order_free(schema):
            return aggregate
        order_free = replace(aggregate, aggregate=aggregate.aggregate.order_free())
        if order_free.is_order_free(schema):
            return order_free
        if not aggregate.aggregate.keeps_values:
            raise PlanError(
                f"reproducible=True: {aggregate} depends on the order of rows; give its class "
                "order_free() or from_values(), or is_order_free() if it does not"
            )
        self._planner.notes.append(f"reproducible: {aggregate} is computed from all its values")
        return replace(aggregate, of_values=True)

    # -- shapes ------------------------------------------------------------------------

    def _one_stage(self, port: Port, spec: WindowAggregateSpec) -> Port:
        task, output = self._planner.append(port, self._operator(WHOLE, spec, lambda: _whole(spec)))
        return self._result(task, output, spec, port.partitioned_by)

    def _exchange_rows(self, port: Port, spec: WindowAggregateSpec) -> Port:
        task = self._planner.new_task(self._ranks)
        self._send(port, task)
        arrived = Port(task, (-1, MAIN), port.schema, spec.keys or None)
        return self._one_stage(arrived, spec)

    def _local_and_final(self, port: Port, spec: WindowAggregateSpec) -> Port:
        by = f"by {', '.join(spec.keys)}" if spec.keys else "of all rows"
        self._planner.notes.append(f"aggregate {by} split into local and final")
        producer, output = self._planner.append(
            port,
            self._operator(LOCAL, spec, lambda: _local(spec), reduces=True),
        )
        final = self._planner.new_task(self._ranks)
        rows = Port(producer, (output[0], "rows"), port.schema)
        partials = Port(producer, output, spec.partial_schema)
        self._send(rows, final, 0)
        self._send(partials, final, 1)
        task, output = self._planner.append(
            Port(final, (-1, MAIN), port.schema),
            self._operator(FINAL, spec, lambda: _whole(spec)),
        )
        return self._result(task, output, spec, spec.keys or None)

    def _send(self, port: Port, task: TaskPlan, index: int = 0) -> None:
        """Send rows to the rank that owns their key, or without a key to the only one."""
        if self._asked.keys:
            self._planner.hash_to(port, self._asked.keys, task, index)
        else:
            self._planner.connect(port, task, index, partitioning=GatherPartitioning())

    @property
    def _requirement(self) -> Requirement:
        return ByKey(self._asked.keys) if self._asked.keys else Gathered()

    def _all_ranks(self, port: Port, spec: WindowAggregateSpec) -> Port:
        is_alone = self._planner.size == 1
        synced = self._planner.new_task(self._ranks)
        self._planner.connect(
            port, synced, partitioning=None if is_alone else ForwardPartitioning()
        )
        task, output = self._planner.append(
            Port(synced, (-1, MAIN), port.schema),
            self._operator(LOCAL, spec, lambda: _all_local(spec)),
        )
        self._note_late(Port(task, (output[0], LATE), port.schema))
        partials = Port(task, output, spec.window_all_schema)
        final = self._planner.new_task(self._ranks)
        ops = spec.reductions
        if is_alone:
            self._planner.connect(partials, final)
        elif ops is not None:
            self._planner.connect(partials, final, reduction=ops)
        else:
            by = HashPartitioning((WINDOW_COLUMN,))
            self._planner.connect(partials, final, partitioning=by)
        task, output = self._planner.append(
            Port(final, (-1, MAIN), partials.schema),
            self._operator(FINAL, spec, lambda: _all_final(spec)),
        )
        return self._planner.done(self._node, task, output, spec.output_schema, None)

    def _result(
        self,
        task: TaskPlan,
        output: tuple[int, str],
        spec: WindowAggregateSpec,
        by: tuple[str, ...] | None,
    ) -> Port:
        self._note_late(Port(task, (output[0], LATE), spec.input_schema))
        return self._planner.done(self._node, task, output, spec.output_schema, by)

    def _note_late(self, port: Port) -> None:
        if self._wants_late:
            self._planner.note_side(self._node, LATE, port)

    @property
    def _wants_late(self) -> bool:
        return LATE in self._node.sides

    def _operator(
        self,
        role: str,
        spec: WindowAggregateSpec,
        make: Callable[[], Operator],
        *,
        reduces: bool = False,
    ) -> OperatorPlan:
        """Return the plan of one stage."""
        return OperatorPlan.of(
            self._asked,
            make,
            role=role,
            state=spec.state_key(),
            state_text=spec.describe_state(),
            retention=self._asked.retention(spec.kept_inputs, is_local=role == LOCAL),
            reduces=reduces,
            environment=self._asked.assigner.environment(),
        )


def _input_names(call: AggregateCall, index: int) -> tuple[str, ...]:
    """Return the columns with the inputs of aggregate number ``index``."""
    return tuple(_input_name(each, f"{index}_{n}") for n, each in enumerate(call.inputs))


def _input_name(expression: AggregateInput, number: str) -> str:
    if expression.is_column:
        (name,) = expression.columns()
        return name
    return f"__input_{number}"


# Operators import kernels, which planning and explaining a job do not need.


def _whole(spec: WindowAggregateSpec) -> Operator:
    if spec.assigner.merges:
        from hpcstream.operators.windows.sessions import SessionAggregate

        return SessionAggregate(spec, process_pool())
    from hpcstream.operators.windows.keyed import WindowAggregate

    return WindowAggregate(spec, process_pool())


def _local(spec: WindowAggregateSpec) -> Operator:
    if spec.assigner.merges:
        from hpcstream.operators.windows.local_sessions import LocalSessionAggregate

        return LocalSessionAggregate(spec, process_pool())
    from hpcstream.operators.windows.local import LocalWindowAggregate

    return LocalWindowAggregate(spec, process_pool())


def _all_local(spec: WindowAggregateSpec) -> Operator:
    from hpcstream.operators.windows.all_ranks import WindowAllLocal

    return WindowAllLocal(spec, process_pool())


def _all_final(spec: WindowAggregateSpec) -> Operator:
    from hpcstream.operators.windows.all_ranks import WindowAllFinal

    return WindowAllFinal(spec)
