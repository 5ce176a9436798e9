"""Standard streams that are closed, full or broken end nothing, and leave nothing behind."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from hpcstream import log
from hpcstream.observability.progress import JobProgress, ProgressLine

TALK = """
import sys
from hpcstream import log
for number in range(3):
    log.say(f"line {number} \udcff \u00e4")
    log.OUT.write("row\\n")
try:
    raise ValueError("an error")
except ValueError as error:
    log.show_traceback(error)
log.flush()
open(sys.argv[1], "w").write("done")
"""

JOB = """
import sys
import pyarrow as pa
import hpcstream as hs
job = hs.Job("quiet")
table = pa.table({"t": pa.array(range(1000), pa.timestamp("s")), "x": [1] * 1000})
rows = job.from_batches(table.to_batches(max_chunksize=100), event_time="t")
rows.print()
rows.window_all(hs.tumbling("100s")).agg(n=hs.count()).print()
result = job.run(progress=True, checkpoint_dir=sys.argv[1] + ".run", checkpoint_interval="1ms")
open(sys.argv[1], "w").write("done")
"""

BROKEN = {
    "errors closed": "2>&-",
    "output closed": ">&-",
    "all closed": "<&- >&- 2>&-",
    "errors full": "2>/dev/full",
    "output full": ">/dev/full",
    "both full": ">/dev/full 2>&1",
    "output broken": "| true",
    "both broken": "2>&1 | true",
}


def run_in_shell(text, redirection, tmp_path, *, wait=""):
    """Run a program with streams as a shell can make them; return status and whether it ended."""
    done = tmp_path / "done"
    script = tmp_path / "talk.py"
    script.write_text(text, encoding="utf-8", errors="backslashreplace")
    # Whoever reads a broken stream is gone before anything is written.
    command = f'{{ {wait} "{sys.executable}" "{script}" "{done}"; }} {redirection}'
    ended = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=100
    )
    return ended.returncode, done.exists(), ended.stdout + ended.stderr


@pytest.mark.parametrize("redirection", BROKEN.values(), ids=BROKEN)
def test_talking_ends_no_process_and_its_status_is_success(redirection, tmp_path):
    status, done, said = run_in_shell(TALK, redirection, tmp_path, wait="sleep 0.05;")

    assert (status, done) == (0, True), said


@pytest.mark.parametrize("name", ["errors closed", "both full", "both broken"])
def test_a_job_that_talks_all_the_time_ends_with_success(name, tmp_path):
    status, done, said = run_in_shell(JOB, BROKEN[name], tmp_path)

    assert (status, done) == (0, True), said


def test_what_is_lost_of_standard_output_is_said_once(tmp_path):
    _, _, said = run_in_shell(TALK, ">/dev/full", tmp_path)

    assert said.count("standard output cannot be written (No space left on device)") == 1
    assert "line 2" in said
    assert "ValueError: an error" in said


def test_a_file_never_takes_the_number_of_a_closed_stream(tmp_path):
    text = (
        "import sys\n"
        "from hpcstream.log import occupy_closed_streams\n"
        "occupy_closed_streams()\n"
        "assert open(sys.argv[1], 'w').fileno() > 2\n"
    )
    for closed in ("2>&-", "<&- >&- 2>&-", ""):
        assert run_in_shell(text, closed, tmp_path)[0] == 0


def test_a_stream_that_was_put_in_the_place_of_the_process_s_is_written_to(capsys):
    log.say("here")
    log.OUT.write("there")

    assert capsys.readouterr() == ("there", "hpcstream: here\n")


SAY_ALL = """
import logging, logging.config, sys
from hpcstream import log
exec(sys.argv[1])
log.say("going on")
log.warn("late rows")
log.complain("ended")
log.show_progress("job  7 rows/s")
log.show_summary("job: finished\\nrows in 7")
log.show_traceback(ValueError("of a function"))
"""

PLAIN = """\
hpcstream: going on
hpcstream: late rows
hpcstream: ended
job  7 rows/s
job: finished
rows in 7
ValueError: of a function
"""

RECORDS = """\
INFO:hpcstream:going on
WARNING:hpcstream:late rows
ERROR:hpcstream:ended
INFO:hpcstream.progress:job  7 rows/s
INFO:hpcstream.summary:job: finished
rows in 7
ERROR:hpcstream.errors:ValueError: of a function
"""


@pytest.mark.parametrize(
    ("configured", "shown"),
    [
        ("", PLAIN),
        ("logging.getLogger('somebody').addHandler(logging.StreamHandler())", PLAIN),
        ("logging.basicConfig()", RECORDS),
        ("logging.basicConfig(); logging.getLogger('hpcstream').propagate = False", PLAIN),
        ("logging.basicConfig(stream=sys.stdout)", ""),
        ("logging.getLogger('hpcstream').addHandler(logging.NullHandler())", ""),
        ("logging.getLogger('hpcstream').setLevel(logging.CRITICAL)", ""),
        ("logging.disable(logging.CRITICAL)", ""),
        (
            "logging.getLogger('hpcstream').setLevel('WARNING')",
            "hpcstream: late rows\nhpcstream: ended\nValueError: of a function\n",
        ),
        (
            "logging.getLogger('hpcstream.summary').setLevel('ERROR')",
            PLAIN.replace("job: finished\nrows in 7\n", ""),
        ),
        (
            "logging.config.dictConfig({'version': 1, 'handlers': {'h': {'class': "
            "'logging.StreamHandler'}}, 'loggers': {'hpcstream': {'handlers': ['h']}}})",
            PLAIN.replace("hpcstream: ", ""),
        ),
        (
            "log.say('before'); logging.config.dictConfig({'version': 1, 'formatters': {'r': "
            "{'format': '%(rank)d %(message)s'}}, 'handlers': {'h': {'class': "
            "'logging.StreamHandler', 'formatter': 'r'}}, "
            "'loggers': {'hpcstream': {'handlers': ['h'], 'level': 'ERROR'}}, "
            "'disable_existing_loggers': False})",
            "hpcstream: before\n3 ended\n3 ValueError: of a function\n",
        ),
    ],
)
def test_a_program_decides_where_messages_go_and_which(configured, shown):
    ended = subprocess.run(
        [sys.executable, "-c", SAY_ALL, configured],
        capture_output=True,
        text=True,
        env={**os.environ, "PMI_RANK": "3"},
    )

    assert ended.stderr == shown
    assert ended.returncode == 0


def test_a_handler_of_the_program_that_fails_ends_nothing(capsys):
    class Broken(logging.Handler):
        def emit(self, record):
            try:
                raise OSError("disk full")
            except OSError:
                self.handleError(record)

    broken = Broken()
    logging.getLogger(log.LOGGER).addHandler(broken)
    try:
        log.say("lost")
    finally:
        logging.getLogger(log.LOGGER).removeHandler(broken)
    log.say("shown")

    said = capsys.readouterr().err
    assert "hpcstream: lost" not in said
    assert said.endswith("hpcstream: shown\n")


def test_a_record_names_the_place_that_said_it():
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger(log.LOGGER).addHandler(handler)
    try:
        for tell in (log.say, log.warn, log.complain, log.show_progress, log.show_summary):
            tell("100 % of it")  # no pattern
    finally:
        logging.getLogger(log.LOGGER).removeHandler(handler)

    assert {record.filename for record in records} == {"test_log.py"}
    assert {record.getMessage() for record in records} == {"100 % of it"}


def test_a_live_line_is_not_shown_where_nobody_wants_progress(capsys):
    line = ProgressLine("orders", width=80)
    logger = logging.getLogger(log.PROGRESS)
    logger.setLevel(logging.WARNING)
    try:
        line.show(JobProgress(1, 1, 1, 0), 1.0, 0.0)
    finally:
        logger.setLevel(logging.NOTSET)
    line.clear()

    assert capsys.readouterr().err == ""
