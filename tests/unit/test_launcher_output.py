"""A launcher's own blocks are told from what ranks say, however the bytes come."""

from __future__ import annotations

import os
import time

from hypothesis import given
from hypothesis import strategies as st

from hpcstream.launch.launcher_output import LauncherOutput, OutputFilter

DASHES = b"-" * 74 + b"\n"
EQUALS = b"=" * 83 + b"\n"
DETECTED = (
    DASHES + b"prterun detected that one or more processes exited with non-zero status,\n"
    b"thus causing the job to be terminated. The first process to do so was:\n\n"
    b"   Process name: [prterun-vm-1@1,0] Exit code:    75\n" + DASHES
)
ABORT = (
    DASHES + b"MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD\n"
    b"  Proc: [[20760,1],0]\n  Errorcode: 4\n\nNOTE: invoking MPI_ABORT causes Open MPI\n" + DASHES
)
NOTICED = DASHES + b"prterun noticed that process rank 1 exited on\nsignal 9 (Killed).\n" + DASHES
BAD = (
    EQUALS + b"=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES\n"
    b"=   EXIT CODE: 9\n" + EQUALS + b"YOUR APPLICATION TERMINATED WITH THE EXIT STRING: "
    b"Killed (signal 9)\nThis typically refers to a problem with your application.\n"
    b"Please see the FAQ page for debugging suggestions\n"
)
LINE = b"Abort(4) on node 0 (rank 0 in comm 0): application called MPI_Abort(MPI_COMM_WORLD, 4)\n"
PMIX = b"[vm:00673] PMIX ERROR: PMIX_ERR_UNREACH in file pmix_server.c at line 3146\n"
OF_LAUNCHERS = [DETECTED, ABORT, NOTICED, BAD, LINE, PMIX]

lines = st.one_of(
    st.binary(max_size=30).map(lambda data: data.replace(b"\0", b"0") + b"\n"),
    st.sampled_from([b"a | b\n", DASHES, EQUALS, b"-- \n", b"\rjob  1 M rows/s", b"Abort\n"]),
)


said_by_ranks = lines.filter(lambda line: line not in (DASHES, EQUALS)).map(lambda one: one + b"\n")


@given(st.lists(st.tuples(said_by_ranks, st.sampled_from(OF_LAUNCHERS)), max_size=6), st.data())
def test_only_the_launcher_s_blocks_are_held_back(parts, data):
    text = b"".join(line + block for line, block in parts)
    output_filter, shown = OutputFilter(), b""
    while text:
        size = data.draw(st.integers(1, 200))
        shown += output_filter.feed(text[:size])
        text = text[size:]
    shown += output_filter.flush()

    assert shown == b"".join(line for line, _ in parts)
    assert output_filter.held == b"".join(block for _, block in parts)


@given(st.lists(lines))
def test_what_ranks_say_passes_whole_also_tables_in_frames(parts):
    output_filter = OutputFilter()
    text = b"".join(parts)

    assert output_filter.feed(text) + output_filter.flush() == text
    assert output_filter.held == b""


def test_a_line_without_an_end_is_shown_at_once():
    assert OutputFilter().feed(b"\r\x1b[Kjob  1 M rows/s") == b"\r\x1b[Kjob  1 M rows/s"


def test_zero_bytes_of_open_mpi_s_launcher_are_left_out():
    assert OutputFilter().feed(b"\0\0said\0\n") == b"said\n"


def test_the_signal_that_ended_a_rank_is_known():
    output_filter = OutputFilter()
    output_filter.feed(BAD)

    assert output_filter.signal_number == 9


def passed_on(capfd, text, *, show_held=True):
    output = LauncherOutput((1, 2))
    out, err = os.dup(output.writing(1)), os.dup(output.writing(2))
    output.start()
    os.write(out, b"row\n")
    os.write(err, text)
    time.sleep(0.05)
    os.close(out)
    os.close(err)
    output.end(show_held=show_held)
    return capfd.readouterr()


def test_a_block_is_shown_if_nobody_has_said_why(capfd):
    assert passed_on(capfd, b"progress\n" + NOTICED) == ("row\n", "progress\n" + NOTICED.decode())


def test_a_block_is_not_shown_if_a_rank_has_said_why_or_the_job_was_asked_to_stop(capfd):
    why = b"Traceback (most recent call last):\nValueError: bad\n"
    assert passed_on(capfd, why + DETECTED) == ("row\n", why.decode())
    assert passed_on(capfd, DETECTED, show_held=False) == ("row\n", "")
