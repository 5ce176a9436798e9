"""Standard streams that are closed, full or broken end nothing, and leave nothing behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

TALK = """
import sys
from hpcstream import messages
for number in range(3):
    messages.say(f"line {number} \udcff \u00e4")
    messages.OUT.write("row\\n")
try:
    raise ValueError("an error")
except ValueError as error:
    messages.show_traceback(error)
messages.flush()
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
        "from hpcstream.messages import occupy_closed_streams\n"
        "occupy_closed_streams()\n"
        "assert open(sys.argv[1], 'w').fileno() > 2\n"
    )
    for closed in ("2>&-", "<&- >&- 2>&-", ""):
        assert run_in_shell(text, closed, tmp_path)[0] == 0


def test_a_stream_that_was_put_in_the_place_of_the_process_s_is_written_to(capsys):
    from hpcstream import messages

    messages.say("here")
    messages.OUT.write("there")

    assert capsys.readouterr() == ("there", "hpcstream: here\n")
