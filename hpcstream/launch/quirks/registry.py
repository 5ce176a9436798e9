"""All workarounds for faults of MPIs, and their text in ``hpcstream doctor``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from hpcstream.launch.quirks import mpich, openmpi
from hpcstream.launch.quirks.quirk import Quirk

QUIRKS: tuple[Quirk, ...] = (*openmpi.QUIRKS, *mpich.QUIRKS)

_WIDTH = 100


def active(mpi: str) -> list[Quirk]:
    """Return the workarounds that are active with an MPI."""
    return [quirk for quirk in QUIRKS if quirk.applies_to(mpi)]


def describe(mpi: str) -> str:
    """Return the workarounds that are active with an MPI, as text for a terminal."""
    found = active(mpi)
    if not found:
        return f"No workaround for {mpi} is active.\n"
    return "\n".join(
        [f"Workarounds for {mpi}", *(line for quirk in found for line in _lines(quirk))]
    )


def _lines(quirk: Quirk) -> Iterator[str]:
    for first, text in (
        (f"  seen with {quirk.seen}: ", quirk.symptom),
        ("      -> ", quirk.remedy),
        ("      until ", quirk.remove_when),
    ):
        yield textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=" " * 8)
