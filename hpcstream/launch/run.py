"""Runs a graph in this process: finds the communicator, drives the rank, shows the summary."""

from __future__ import annotations

import os
import sys
from typing import Any

from hpcstream.config import JobConfig
from hpcstream.errors import JobStopped
from hpcstream.exchange import shared_messages
from hpcstream.exchange.communicator import Communicator
from hpcstream.exchange.local_ranks import count_local_ranks
from hpcstream.exchange.solo import SoloCommunicator
from hpcstream.graph.logical import LogicalGraph
from hpcstream.launch import exit_hooks
from hpcstream.launch.kernel_cache import compile_kernels
from hpcstream.log import flush, say, show_summary, warn
from hpcstream.memory.host_share import read_host_share
from hpcstream.memory.pool import process_pool
from hpcstream.observability.result import JobResult
from hpcstream.observability.summary import doubts_of
from hpcstream.process import effects
from hpcstream.process.failure import failure_of
from hpcstream.process.family import job_of_this_process
from hpcstream.process.launcher_facts import is_launched
from hpcstream.process.spawned import known_to_children
from hpcstream.process.stop_signals import SignalledStop
from hpcstream.process.tracebacks import shorten
from hpcstream.runtime.driver import Backoff, drive
from hpcstream.runtime.job import JobRun
from hpcstream.runtime.procedure import as_turns
from hpcstream.runtime.run.context import RunContext


def run_job(
    name: str, graph: LogicalGraph, config: JobConfig, comm: Any, *, show: bool
) -> JobResult:
    """Run a graph on all ranks of ``comm``; see `hpcstream.Job.run`. Collective."""
    with effects.during_run() as undone:
        own = find_communicator(comm)
        undone.callback(process_pool().trim)
        undone.callback(shared_messages.trim)
        undone.enter_context(job_of_this_process())
        undone.enter_context(known_to_children())
        stop = SignalledStop(
            has_checkpoints=config.checkpoint_dir is not None,
            grace_s=config.stop_grace_s,
            rank=own.rank,
            abort=own.abort,
            is_interactive=_is_interactive(),
        )
        context = RunContext(config, own, stop=undone.enter_context(stop))
        run = JobRun(name, graph, context)
        stop.doing = run.watch.doing
        result = _run(run, own, stop, is_bounded=not graph.has_live_source)
    if show and own.rank == 0 and not result.was_finished:  # the start has reported that
        show_summary(str(result))
    if not show and own.rank == 0:
        for doubt in doubts_of(result):
            warn(f"{name}: {doubt}")
    return result


def _run(run: JobRun, own: Communicator, stop: SignalledStop, *, is_bounded: bool) -> JobResult:
    shares_cores = _shares_cores(own.size)
    backoff = Backoff(shares_cores=shares_cores)
    try:
        _compile(run, own, stop, backoff)
        with effects.during_rounds(takes_turns=shares_cores and is_bounded):
            result = drive(run.run(), backoff, run.watch)
    except JobStopped as stopped:
        own.free()
        if not _is_interactive():
            raise
        partial: JobResult = stopped.result
        return partial
    except BaseException as error:
        if failure_of(error).is_agreed:
            own.free()
        raise shorten(error)  # noqa: B904  it is the same error
    own.free()
    return result


def _compile(run: JobRun, own: Communicator, stop: SignalledStop, backoff: Backoff) -> None:
    """Compile the kernels; a request to stop ends this, and all ranks, at once."""
    try:
        with stop.raising_at_once():
            compiling = compile_kernels(own, run.kernels())
            drive(as_turns(compiling, stop.raise_if_requested), backoff, run.watch)
    except JobStopped as stopped:
        say("stopped before the first round; nothing was read")
        stop.answer()
        if own.size > 1:  # the others may wait for this one
            flush()
            own.abort(int(stopped.code or 0))
        stopped.result = JobResult(run.name, own.size, status="stopped", rank=own.rank)
        raise


def _is_interactive() -> bool:
    """Whether the process is an interactive session."""
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules


def find_communicator(comm: Any) -> Communicator:
    """Return a private communicator: of ``comm``, of the launcher's world, or of this process.

    Raises
    ------
    LauncherError
        The launcher and the loaded library belong to different MPIs.
    """
    if comm is None and "mpi4py.MPI" not in sys.modules and not is_launched(os.environ):
        return SoloCommunicator()
    from hpcstream.exchange import mpi
    from hpcstream.process.launcher_facts import check_launcher, die_with_parent

    if comm is None:
        facts = mpi.mpi_facts()
        check_launcher(facts["world_size"], os.environ, facts["library"])
        die_with_parent()
    if mpi.mpi_facts()["world_size"] > 1:
        exit_hooks.install_excepthook(around_others=True)
    return mpi.communicator(comm)


def _shares_cores(size: int) -> bool:
    """Return whether this host may have more ranks than cores for them."""
    here = count_local_ranks(os.environ, size)
    return here > 1 and not read_host_share().has_core_for_each(here)
