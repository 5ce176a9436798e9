"""Workarounds for single MPIs say what they are for, and are shown where they are active."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpcstream.launch.quirks.quirk import ANY_MPI
from hpcstream.launch.quirks.registry import QUIRKS, active, describe
from hpcstream.process.launcher_facts import MPICH, OPEN_MPI, UNKNOWN

PACKAGE = Path(__file__).parents[2] / "hpcstream"


@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.symptom[:40])
def test_each_says_for_what_it_is_where_and_until_when(quirk):
    assert quirk.vendor in (MPICH, OPEN_MPI, ANY_MPI)
    assert re.search(r"\d|all", quirk.seen)
    assert len(quirk.remove_when) > 20
    files = re.findall(r"\w+(?:/\w+)*/\w+\.py", quirk.remedy)
    assert files
    assert all((PACKAGE / file).is_file() for file in files)


@pytest.mark.parametrize("mpi", [MPICH, OPEN_MPI, UNKNOWN])
def test_those_of_other_mpis_are_not_active(mpi):
    found = active(mpi)

    assert {quirk.vendor for quirk in found} <= {mpi, ANY_MPI}
    assert [quirk for quirk in QUIRKS if quirk.vendor == mpi] == [
        quirk for quirk in found if quirk.vendor == mpi
    ]
    shown = " ".join(describe(mpi).split())
    assert all(quirk.symptom in shown and quirk.remove_when in shown for quirk in found)
    assert max(map(len, describe(mpi).splitlines())) <= 100


def test_the_page_lists_all():
    page = " ".join((PACKAGE.parent / "docs" / "process.md").read_text("utf-8").split())

    for quirk in QUIRKS:
        assert f"| {quirk.vendor} | {quirk.seen} | {quirk.symptom} | {quirk.remove_when} |" in page
