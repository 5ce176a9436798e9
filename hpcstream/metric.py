"""Counters and gauges, declared by operators, sources, sinks and edges.

One line in the class declares a metric. It appears in the summary, in the report of each rank, and
in the report that ranks exchange while the job runs::

    class Deduplicate(Operator):
        duplicates = Counter("duplicates")
        kept = Gauge("keys kept", "n_keys")

        def process_batch(self, batch, input_index=0):
            self.duplicates += n_duplicates(batch)

A counter is an ordinary attribute that starts at 0: counting costs one addition a batch. A gauge is
read on demand. Counters of operators and edges start at 0, or at the value of the snapshot, in each
run; those of sources and sinks continue if a job is run twice.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Literal, Self, overload

BYTES = "bytes"
OverRanks = Literal["sum", "max"]


@dataclass(frozen=True)
class Measurement:
    """The value of a metric at some moment.

    Attributes
    ----------
    value : int
    unit : str
        `BYTES`, or empty for a count.
    over_ranks : {"sum", "max"}
        How to combine it with the value of another instance or rank.
    """

    value: int
    unit: str = ""
    over_ranks: OverRanks = "sum"

    def plus(self, other: Measurement) -> Measurement:
        """Return the combination of both."""
        together = max if self.over_ranks == "max" else sum
        return replace(self, value=together((self.value, other.value)))


class _Metric:
    """A declaration: the class attribute, which reads as a number on an instance."""

    is_peak = False

    def __init__(self, name: str, unit: str, over_ranks: OverRanks) -> None:
        self.name = name
        self.unit = unit
        self.over_ranks: OverRanks = over_ranks

    def value(self, instance: Any) -> int:
        """Return the value of the metric of an instance."""
        raise NotImplementedError

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> int: ...
    def __get__(self, instance: object | None, owner: type) -> Self | int:
        return self if instance is None else self.value(instance)


class Counter(_Metric):
    """An attribute that starts at 0 and that the class adds to.

    Parameters
    ----------
    name : str
        Shown to users.
    unit : str
        `BYTES`, or empty for a count.
    over_ranks : {"sum", "max"}
    """

    def __init__(self, name: str, *, unit: str = "", over_ranks: OverRanks = "sum") -> None:
        super().__init__(name, unit, over_ranks)
        self._attribute = ""

    def __set_name__(self, owner: type, attribute: str) -> None:
        self._attribute = attribute

    def value(self, instance: Any) -> int:
        """Return the count; the first addition creates an attribute that hides this declaration."""
        return int(vars(instance).get(self._attribute, 0))


class Gauge(_Metric):
    """A value that can be read at any moment.

    Parameters
    ----------
    name : str
    of : str
        The attribute, or method without arguments, to read; a path such as ``"_store.n"``.
    unit : str
    is_peak : bool
        Report the greatest of the values sampled about ten times a second.
    over_ranks : {"sum", "max"}
    """

    def __init__(
        self,
        name: str,
        of: str,
        *,
        unit: str = "",
        is_peak: bool = False,
        over_ranks: OverRanks = "sum",
    ) -> None:
        super().__init__(name, unit, over_ranks)
        self._read = attrgetter(of)
        self.is_peak = is_peak

    def value(self, instance: Any) -> int:
        """Return the current value."""
        found = self._read(instance)
        return int(found() if callable(found) else found)


class MetricsOf:
    """Includes the metrics of another object.

    Parameters
    ----------
    of : str
        The attribute that holds the object.
    """

    def __init__(self, of: str) -> None:
        self.part = attrgetter(of)


@functools.cache
def declared(kind: type) -> tuple[_Metric, ...]:
    """Return the metrics that a class and its bases declare, those of the bases first."""
    found: dict[str, _Metric] = {}
    for base in reversed(kind.__mro__):
        found |= {name: value for name, value in vars(base).items() if isinstance(value, _Metric)}
    return tuple(found.values())


@functools.cache
def _inner(kind: type) -> tuple[MetricsOf, ...]:
    """Return the `MetricsOf` declarations of a class and its bases."""
    return tuple(
        value
        for base in kind.__mro__
        for value in vars(base).values()
        if isinstance(value, MetricsOf)
    )


def _values(part: object) -> Iterator[tuple[_Metric, int]]:
    """Yield the metrics of a part, and of the objects it includes, with their values."""
    kind: type = type(part)
    for metric in declared(kind):
        yield metric, metric.value(part)
    for inner in _inner(kind):
        yield from _values(inner.part(part))


def measure(*parts: object, peaks: Mapping[str, int] | None = None) -> dict[str, Measurement]:
    """Return the metrics of parts by name; equal names are combined.

    Parameters
    ----------
    peaks : mapping, optional
        The peaks sampled so far, by name.
    """
    values: list[tuple[str, Measurement]] = []
    for part in parts:
        for metric, value in _values(part):
            seen = peaks.get(metric.name, 0) if metric.is_peak and peaks is not None else value
            values.append(
                (metric.name, Measurement(max(value, seen), metric.unit, metric.over_ranks))
            )
    return together(values)


def together(measured: Iterable[tuple[str, Measurement]]) -> dict[str, Measurement]:
    """Return measurements by name; equal names are combined."""
    found: dict[str, Measurement] = {}
    for name, measurement in measured:
        found[name] = found[name].plus(measurement) if name in found else measurement
    return found


def note_peaks(part: object, peaks: dict[str, int]) -> None:
    """Sample the gauges of a part that report a peak."""
    for metric, value in _values(part):
        if metric.is_peak:
            peaks[metric.name] = max(peaks.get(metric.name, 0), value)
