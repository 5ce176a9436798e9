"""Every environment variable stands in one list, and the command-line page shows that list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpcstream import environment
from hpcstream.environment import INTERNAL, VARIABLES, seconds_of, table
from tests.unit.source_tree import package_files

PROJECT = Path(__file__).parents[2]
NAME = re.compile(r"""["']HPCSTREAM_[A-Z_]+""")


def test_no_other_module_defines_a_variable():
    elsewhere = [file.shown for file in package_files() if NAME.search(file.text)]

    assert elsewhere == ["hpcstream/environment.py"]


def test_every_constant_is_in_a_list():
    constants = {value for value in vars(environment).values() if str(value)[:10] == "HPCSTREAM_"}
    listed = [one.name for one in (*VARIABLES, *INTERNAL)]

    assert sorted(listed) == sorted(constants)


def test_the_command_line_page_has_the_table():
    assert table() in (PROJECT / "docs" / "cli.md").read_text("utf-8")


@pytest.mark.parametrize(("text", "seconds"), [("", 7.0), ("30", 30.0), ("0.5", 0.5)])
def test_seconds_are_read(monkeypatch, text, seconds):
    monkeypatch.setenv("HPCSTREAM_LOST_HOST", text)

    assert seconds_of("HPCSTREAM_LOST_HOST", 7.0) == seconds


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon"])
def test_other_texts_are_refused(monkeypatch, text):
    monkeypatch.setenv("HPCSTREAM_LOST_HOST", text)

    with pytest.raises(ValueError, match=r"HPCSTREAM_LOST_HOST=.*: expected seconds"):
        seconds_of("HPCSTREAM_LOST_HOST", 7.0)
