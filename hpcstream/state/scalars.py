"""The table of an operator's scalars, each with a rule to merge those of several instances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hpcstream.columns.ownership import Ownership
from hpcstream.errors import PlanError
from hpcstream.state.arrays import Arrays, Ints
from hpcstream.state.table import Part, StateTable

Values = Mapping[str, Ints]
Stage = Literal["final", "local", "all"]
Rule = Callable[[Sequence[Ints], Ownership], Ints]
"""What an instance takes over of the values that all instances had."""


def least(values: Sequence[Ints], owned: Ownership) -> Ints:
    """Return the least value of all instances."""
    found: Ints = np.min(values, axis=0)
    return found


def greatest(values: Sequence[Ints], owned: Ownership) -> Ints:
    """Return the greatest value of all instances."""
    found: Ints = np.max(values, axis=0)
    return found


def union(values: Sequence[Ints], owned: Ownership) -> Ints:
    """Return all values that any instance had."""
    return np.unique(np.concatenate(values))


def total(values: Sequence[Ints], owned: Ownership) -> Ints:
    """Return the sum for the first instance, which continues to count from it; 0 for others."""
    found: Ints = np.sum(values, axis=0)
    return found if owned.instance == 0 else np.zeros_like(found)


@dataclass(frozen=True)
class Common:
    """The rule for a value that must be equal on all instances; raises `PlanError` otherwise.

    Attributes
    ----------
    operator : str
        The operator that has the value.
    """

    operator: str

    def __call__(self, values: Sequence[Ints], owned: Ownership) -> Ints:
        """Return the value."""
        found = {int(value[0]) for value in values}
        if len(found) > 1:
            raise PlanError(
                f"the instances of {self.operator} were at different event times ({min(found)} to "
                f"{max(found)}), so their state cannot be redistributed: keep the number of ranks"
            )
        return values[0]


@dataclass(frozen=True)
class Field:
    """A value of an operator: an array of int64, mostly of length 1.

    Attributes
    ----------
    name : str
        Of the array.
    rule : callable, optional
        None: instances on another number of ranks start without the value.
    stage : {"final", "local", "all"}
        The stages whose values the rule gets; a single stage counts as final.
    source : str
        Name of the array to take them from, if it is another.
    """

    name: str
    rule: Rule | None = None
    stage: Stage = "final"
    source: str = ""


class Scalars(StateTable):
    """Scalars that an operator keeps as attributes.

    Parameters
    ----------
    fields : sequence of Field
    save : callable
        Returns the value of each field: an int, or several.
    load : callable
        Sets values by name: all of them, or those for which there is a rule.
    name : str
    """

    def __init__(
        self,
        fields: Sequence[Field],
        save: Callable[[], Mapping[str, Any]],
        load: Callable[[Values], None],
        name: str = "scalars",
    ) -> None:
        self.name = name
        self._fields = tuple(fields)
        self._save = save
        self._load = load

    def head(self) -> dict[str, npt.NDArray[Any]]:
        """Return the values."""
        values = self._save()
        return {
            field.name: np.atleast_1d(np.array(values[field.name], dtype=np.int64))
            for field in self._fields
        }

    def restore(self, arrays: Arrays) -> None:
        """Restore the values of one instance."""
        self._load({field.name: arrays[field.name] for field in self._fields})

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Set the values that the rules compute from those of all instances."""
        found = {}
        for field in self._fields:
            if field.rule is not None:
                values = [
                    part.arrays[field.source or field.name] for part in self._of(field, parts)
                ]
                if values:
                    found[field.name] = field.rule(values, owned)
        self._load(found)

    @staticmethod
    def _of(field: Field, parts: Sequence[Part]) -> Sequence[Part]:
        return [
            part
            for part in parts
            if field.stage == "all" or part.is_local == (field.stage == "local")
        ]
