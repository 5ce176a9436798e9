"""What a workaround says of itself."""

from __future__ import annotations

from dataclasses import dataclass

ANY_MPI = "any MPI"


@dataclass(frozen=True, kw_only=True)
class Quirk:
    """A fault or an oddity of one MPI, and what is done about it.

    Attributes
    ----------
    vendor : str
        The MPI, as `hpcstream.process.launcher_facts` names it; `ANY_MPI`: of several.
    seen : str
        Versions that it was seen with.
    symptom : str
        What happens without the workaround.
    remedy : str
        What is done, and in which file.
    remove_when : str
        What must have happened before the workaround can go.
    """

    vendor: str
    seen: str
    symptom: str
    remedy: str
    remove_when: str

    def applies_to(self, mpi: str) -> bool:
        """Return whether the workaround is active with an MPI."""
        return self.vendor in (mpi, ANY_MPI)
