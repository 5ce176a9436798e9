"""`Job`: where streams begin, and what runs them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Never

from hpcstream.api.dataflow import Dataflow
from hpcstream.api.file_reading import FileReading
from hpcstream.api.misuse import refuse_unknown_options
from hpcstream.api.notebook import Plan, preformatted
from hpcstream.api.stream import Stream
from hpcstream.calls import answers_wrong_call, answers_wrong_calls
from hpcstream.columns.event_time import Duration, TimeUnit, parse_duration
from hpcstream.columns.hidden import refuse_reserved_names
from hpcstream.columns.types.given import SchemaLike
from hpcstream.config import JobConfig
from hpcstream.connectors.base import Source
from hpcstream.connectors.defaults import as_source
from hpcstream.connectors.files.listing import local_path
from hpcstream.connectors.in_process.batches import BatchesSource
from hpcstream.connectors.in_process.generate import GenerateSource
from hpcstream.connectors.in_process.sinks import PrintSink
from hpcstream.environment import CHECKPOINT_DIR, EXPLAIN, SCRATCH_DIR, STOP_GRACE, seconds_of
from hpcstream.errors import PlanError
from hpcstream.graph.logical import LogicalGraph, SinkNode, SourceNode, walk
from hpcstream.hints import missing_attribute
from hpcstream.log import OUT, launched_rank
from hpcstream.operators.stream_time import EventTime
from hpcstream.process.early_exit import exits_are_errors
from hpcstream.process.spawned import refuse_second_run_of_script

if TYPE_CHECKING:
    from hpcstream.observability.result import JobResult

_IDLE_TIMEOUT = "5s"
_TIME_OPTIONS = ("event_time", "watermark_delay", "event_time_unit")
_RUN_OPTIONS = (
    *("comm", "show", "checkpoint_interval"),
    *(option.name for option in fields(JobConfig) if option.name != "checkpoint_interval_s"),
)
_RUN_DOCUMENTED = "Job.run and hpcstream.config.JobConfig"


@answers_wrong_calls
class Job(Dataflow, FileReading):
    """A dataflow: sources, operators and sinks.

    Every rank builds the same job; `run` runs it on all ranks together.

    Parameters
    ----------
    name : str
        For messages and the summary.

    Attributes
    ----------
    has_begun : bool
        Whether a run has begun.
    last_result : JobResult or None
        The result of the last `run`.

    Examples
    --------
    >>> import hpcstream as hs
    >>> job = hs.Job("count")
    >>> rows = job.generate(lambda start, n: {"x": range(start, start + n)}, rows=1000)
    """

    @answers_wrong_call
    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise ValueError(f"Job({name!r}): needs a name")
        super().__init__(name)

    if not TYPE_CHECKING:  # else type checkers would accept every name

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute("Job", name, dir(type(self)))

    def __repr__(self) -> str:
        if not self._sinks:
            return f"Job({self.name!r}): no stream ends in a sink yet"
        steps = [f"    {node.describe()}" for node in walk(self._sinks)]
        return "\n".join([f"Job({self.name!r})", *steps])

    def _repr_html_(self) -> str:
        return preformatted(repr(self))

    # -- sources -----------------------------------------------------------------------

    def from_batches(
        self,
        batches: Any,
        *,
        event_time: str | None = None,
        watermark_delay: Duration = "0s",
        event_time_unit: str | None = None,
        per_rank: bool = False,
        schema: SchemaLike | None = None,
    ) -> Stream:
        """Read batches from memory, or from a function.

        Every rank passes the batches of the whole stream, which are assigned to ranks by
        their number; with ``per_rank`` each rank passes only its own.

        Parameters
        ----------
        batches : table, data frame, list of batches, or a callable that returns an iterator
        schema : pyarrow.Schema or types by name, optional
            Needed if there may be no batch; default: the schema of the first batch.
        """
        with exits_are_errors():
            source = BatchesSource(
                batches,
                schema=schema,
                event_time=event_time,
                unit=event_time_unit,
                per_rank=per_rank,
            )
        return self._source(source, event_time, watermark_delay, event_time_unit)

    def generate(
        self,
        what: Any,
        *,
        rows: int | None = None,
        rate: float | None = None,
        event_time: str | None = None,
        watermark_delay: Duration = "0s",
        event_time_unit: str | None = None,
        idle_timeout: Duration | None = _IDLE_TIMEOUT,
        splits: int | None = None,
        block_rows: int | None = None,
        schema: SchemaLike | None = None,
        seed: int = 0,
        start: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Stream:
        """Generate rows from their numbers.

        Parameters
        ----------
        what : callable or dict of str to column generator
            ``what(start, n)`` returns rows ``start`` to ``start + n``; the same
            numbers must give the same rows. See `hpcstream.connectors.in_process.generate`.
        rows : int, optional
            Number of rows; None with a ``rate``: unlimited.
        rate : float, optional
            Rows per second over all ranks; makes the source live.
        splits, block_rows, schema, seed, start, clock
            See `hpcstream.connectors.in_process.generate.GenerateOptions`.
        """
        source = GenerateSource(
            what,
            rows=rows,
            rate=rate,
            event_time=event_time,
            unit=event_time_unit,
            splits=splits,
            block_rows=block_rows,
            schema=schema,
            seed=seed,
            start=start,
            clock=clock,
        )
        return self._source(source, event_time, watermark_delay, event_time_unit, idle_timeout)

    def source(
        self,
        source: Any,
        *,
        event_time: str | None = None,
        watermark_delay: Duration = "0s",
        event_time_unit: str | None = None,
        idle_timeout: Duration | None = _IDLE_TIMEOUT,
        discover_every: Duration = "60s",
    ) -> Stream:
        """Read a source of your own; see `hpcstream.Source`.

        Parameters
        ----------
        discover_every : str or datetime.timedelta
            How often a live source with ``discover()`` looks for new splits.
        idle_timeout : str or datetime.timedelta, optional
            After this time without rows, a split of a live source is idle: the watermark
            ignores it. None: never.
        """
        whole = as_source(source)
        if whole.bounded and whole.discovers:
            raise PlanError(f"{whole.describe()}: discover() is for live sources: bounded = False")
        discover_s = parse_duration(discover_every) / 1e9
        if discover_s <= 0:
            raise PlanError(f"discover_every {discover_every!r} must be positive")
        return self._source(
            whole, event_time, watermark_delay, event_time_unit, idle_timeout, discover_s
        )

    def _source(
        self,
        source: Source,
        column: str | None,
        watermark_delay: Duration,
        unit: str | None,
        idle_timeout: Duration | None = None,
        discover_s: float = 60.0,
    ) -> Stream:
        refuse_reserved_names(source.schema.names, source.describe())
        time, delay = None, 0
        if column is not None:
            time = _event_time(source, column, unit)
            delay = time.unit.ticks(watermark_delay, what="watermark_delay")
            if delay < 0:
                raise PlanError(f"watermark_delay {watermark_delay!r} must not be negative")
        timeout_s = None if idle_timeout is None else parse_duration(idle_timeout) / 1e9
        node = SourceNode(
            schema=source.schema,
            time=time,
            source=source,
            origin=source.describe(),
            identity=source.identity(),
            watermark_delay=delay,
            idle_timeout_s=None if source.bounded else timeout_s,
            discover_s=discover_s,
        )
        return Stream(self, node)

    # -- running -----------------------------------------------------------------------

    def _graph(self) -> LogicalGraph:
        """Return the graph, to run or inspect it; clears the reminder."""
        self._reminder.clear()
        return LogicalGraph(_numbered(self._sinks))

    def explain(self, *, ranks: int | None = None) -> Plan:
        """Return the plan as text: rewrites, tasks, edges, placement.

        Parameters
        ----------
        ranks : int, optional
            Number of ranks; default: as many as the launcher started.
        """
        from hpcstream.graph.planner import plan

        size = ranks if ranks is not None else _world_size()
        return Plan(f"{self.name}: {plan(self._graph(), size).explain()}")

    def run(
        self,
        *,
        checkpoint_dir: str | Path | None = None,
        checkpoint_interval: Duration = "10s",
        restore_from: str | Path | None = "auto",
        reproducible: bool = False,
        comm: Any = None,
        show: bool = True,
        progress: bool | None = None,
        batch_rows: int | None = None,
        round_bytes: int | None = None,
        linger_s: float = 0.001,
        rounds_in_flight: int = 3,
        step_bytes: int = 4 << 20,
        receive_bytes: int = 256 << 20,
        shared_memory: bool = True,
        stall_timeout_s: float | None = None,
        stop_grace_s: float | None = None,
        abort_timeout_s: float = 5.0,
        local_aggregation: bool = True,
        scratch_dir: str | Path | None = None,
        keep: int = 3,
        allow_dropped_state: bool = False,
        on_checkpoint_failure: Literal["continue", "stop"] = "continue",
        stop_after_savepoint: bool = False,
        **unknown: Never,
    ) -> JobResult:
        """Run the job on all ranks of ``comm``. Collective.

        With a ``checkpoint_dir`` the job may be killed at any moment: started again, on any
        number of ranks, it resumes from its newest checkpoint, and its output is that of an
        uninterrupted run.

        Parameters
        ----------
        comm : mpi4py.MPI.Intracomm, optional
            Default: the world, if a launcher (mpiexec, srun) started this
            process; else this process alone, without MPI.
        checkpoint_dir : path, optional
            Directory of the checkpoints; every rank must see it. Default: the environment
            variable HPCSTREAM_CHECKPOINT_DIR (set by ``hpcstream run --checkpoint-dir``),
            else no checkpoints.
        checkpoint_interval : str or datetime.timedelta
            Time between two checkpoints.
        restore_from : str, path or None
            ``"auto"``: the newest checkpoint, if any; ``"latest"``: the newest checkpoint,
            which must exist; the path of a checkpoint or savepoint; None: start afresh.
        reproducible : bool
            Same bits on any number of ranks, sums of floats included: for jobs without late
            rows. Sums, means, variances and deviations of floats are then exact, as with
            ``sum(exact=True)``, and take 320 or 640 bytes for each key and window. Covariances
            and correlations keep their values until their window closes, so memory and time
            grow with the rows of open windows. Without it, two runs on the same number of ranks
            give the same bits.
        show : bool
            Show the summary, on rank 0. If False, the logger ``hpcstream`` still warns of what
            may make the result wrong (late rows, idle splits, a jump of the watermark, a
            doubtful unit of event time); ``str(result)`` is the summary, with all notes.
        stop_grace_s : float, optional
            After a request to stop: how long a function of the job may still take before the
            job is aborted. Default: the environment variable HPCSTREAM_STOP_GRACE (set by
            ``hpcstream run --stop-grace``), else 25.
        progress : bool, optional
            Show a progress line: on a terminal about once a second; elsewhere every 10 s, or
            every minute if None. See `hpcstream.config.JobConfig`, also for the other options,
            such as ``batch_rows=10_000``.

        Returns
        -------
        JobResult
            The same on every rank, except for ``rank``.

        Raises
        ------
        PlanError
            On every rank alike, before any row is read.
        RemoteError
            Another rank failed; that rank raises its own error.
        JobStopped
            A signal asked the job to stop: the process ends with its exit status. In an
            interactive session the result is returned instead.
        """
        from hpcstream.launch.run import run_job

        refuse_second_run_of_script()
        refuse_unknown_options("run", unknown, _RUN_OPTIONS, _RUN_DOCUMENTED)
        config = JobConfig(
            batch_rows=batch_rows,
            round_bytes=round_bytes,
            linger_s=linger_s,
            rounds_in_flight=rounds_in_flight,
            step_bytes=step_bytes,
            receive_bytes=receive_bytes,
            shared_memory=shared_memory,
            stall_timeout_s=stall_timeout_s,
            stop_grace_s=seconds_of(STOP_GRACE, 25.0) if stop_grace_s is None else stop_grace_s,
            abort_timeout_s=abort_timeout_s,
            local_aggregation=local_aggregation,
            reproducible=reproducible,
            progress=progress,
            checkpoint_dir=_text(checkpoint_dir or os.environ.get(CHECKPOINT_DIR) or None),
            scratch_dir=_text(scratch_dir or os.environ.get(SCRATCH_DIR) or None),
            checkpoint_interval_s=parse_duration(checkpoint_interval) / 1e9,
            restore_from=_text(restore_from),
            keep=keep,
            allow_dropped_state=allow_dropped_state,
            on_checkpoint_failure=on_checkpoint_failure,
            stop_after_savepoint=stop_after_savepoint,
        )
        if os.environ.get(EXPLAIN):
            self.last_result = _explained(self)
            return self.last_result
        self.has_begun, self.last_result = True, None
        self.last_result = run_job(self.name, self._graph(), config, comm, show=show)
        return self.last_result


def _numbered(sinks: list[SinkNode]) -> list[SinkNode]:
    """Return the sinks; if several print, those without a label get a number."""
    printing = [node for node in sinks if isinstance(node.sink, PrintSink)]
    if len(printing) < 2:
        return list(sinks)
    number = {id(node): index for index, node in enumerate(printing, start=1)}
    return [
        replace(node, sink=node.sink.numbered(number[id(node)]))
        if isinstance(node.sink, PrintSink)
        else node
        for node in sinks
    ]


def _text(path: str | Path | None) -> str | None:
    return None if path is None else local_path(path)


def _explained(job: Job) -> JobResult:
    from hpcstream.observability.metrics import EXPLAINED
    from hpcstream.observability.result import JobResult

    size, rank = _world_size(), launched_rank()
    if rank == 0:
        OUT.write(f"{job.explain(ranks=size)}\n")
        path = os.environ[EXPLAIN]
        if os.path.isabs(path):
            Path(path).touch()
    return JobResult(job.name, size, status=EXPLAINED, rank=rank)


def _world_size() -> int:
    from hpcstream.process.launcher_facts import launches

    return max((launch.size for launch in launches(os.environ)), default=1)


def _event_time(source: Source, column: str, unit: str | None) -> EventTime:
    names = source.schema.names
    if column not in names:
        raise PlanError(f"event_time={column!r}: no such column (columns: {', '.join(names)})")
    data_type = source.schema.field(column).type
    return EventTime(column, TimeUnit.of_type(data_type, unit), data_type)
