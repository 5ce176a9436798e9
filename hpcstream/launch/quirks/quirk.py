"""The description of a workaround."""

from __future__ import annotations

from dataclasses import dataclass

ANY_MPI = "any MPI"


@dataclass(frozen=True, kw_only=True)
class Quirk:
    """A fault or oddity of one MPI, and its workaround.

    Attributes
    ----------
    vendor : str
        The MPI, as `hpcstream.process.launcher_facts` names it; `ANY_MPI` for several.
    seen : str
        Versions with the fault.
    symptom : str
        What happens without the workaround.
    remedy : str
        The workaround, and its file.
    remove_when : str
        The condition for removing the workaround.
    """

    vendor: str
    seen: str
    symptom: str
    remedy: str
    remove_when: str

    def applies_to(self, mpi: str) -> bool:
        """Return whether the workaround is active with an MPI."""
        return self.vendor in (mpi, ANY_MPI)
