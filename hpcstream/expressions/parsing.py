"""Parses times from text strictly: dates that do not exist are errors.

``strptime`` reads the 30th of February as the 2nd of March, and second 60 as the next minute.
So days, days of the year and seconds are extracted from the text again, with a regular
expression derived from the format, wherever they may have overflowed.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.expressions.binding import Bound, TypeMismatch, constant

_TWO = r"\s*\d{1,2}"
_WORD = r"\s*\pL+"
_PATTERNS = {
    "Y": r"\s*[+-]?\d{1,4}",
    "m": r"\s*(?:[01]\d|\d)",
    "d": r"\s*(?:[0-3]\d|\d)",
    "H": r"\s*(?:[0-2]\d|\d)",
    "M": r"\s*(?:[0-5]\d|\d)",
    "S": r"\s*(?:[0-6]\d|\d)",
    "j": r"\s*\d{1,3}",
    "u": r"\s*\d",
    "w": r"\s*\d",
    "s": r"\s*-?\d+",
    "z": r"\s*(?:Z|[+-]\d{2}:?(?:\d{2})?)",
    "n": r"\s*",
    "t": r"\s*",
    "%": "%",
    **dict.fromkeys("yCUWIl", _TWO),
    **dict.fromkeys("aAbBhpPZ", _WORD),
}
_SAME = {"e": "d", "k": "H"}
_COMPOSED = {
    "D": "%m/%d/%y",
    "x": "%m/%d/%y",
    "F": "%Y-%m-%d",
    "T": "%H:%M:%S",
    "X": "%H:%M:%S",
    "R": "%H:%M",
    "r": "%I:%M:%S %p",
    "c": "%a %b %e %H:%M:%S %Y",
}
_CARRIED = {"d": ("day", 3), "j": ("day_of_year", 366), "S": ("second", 1)}
"""Directives whose value may overflow: Arrow's field, and its greatest value after an overflow."""

_ISO_ZONE = r"^\d{4}-\d{2}-\d{2}[T ].*(?:Z|[+-]\d{2}(?::?\d{2})?)$"
_FRACTION_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def to_datetime(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
    """Bind ``str.to_datetime`` of text."""
    (text,) = arguments
    form, unit = options.get("format"), options["unit"]
    parser = IsoTexts(unit) if form is None else FormattedTexts(form, unit)
    data_type = parser(pa.array([], text.data_type)).type
    if text.scalar is not None:
        return constant(parser(pa.repeat(text.scalar, 1))[0])
    return Bound(data_type, lambda batch: parser(text.run(batch)), None, is_total=False)


@dataclass(frozen=True)
class IsoTexts:
    """Parses ISO 8601 texts as instants; texts without a zone are in UTC."""

    unit: str

    def __call__(self, texts: pa.Array) -> pa.Array:
        """Return the times.

        Raises
        ------
        pa.ArrowInvalid
            A text is not ISO 8601.
        """
        target = pa.timestamp(self.unit, "UTC")
        try:
            return self._completed(texts).cast(target)
        except pa.ArrowInvalid:
            wrong = _first_wrong(texts, lambda some: self._completed(some).cast(target))
            raise pa.ArrowInvalid(
                f"{wrong!r} is not an ISO 8601 time, as '2001-01-31T12:30:00Z' or "
                "'2001-01-31 12:30'"
            ) from None

    def _completed(self, texts: pa.Array) -> pa.Array:
        """Add missing zones, and remove digits beyond the unit."""
        digits = _FRACTION_DIGITS[self.unit]
        kept = rf"(\.\d{{{digits}}})\d+" if digits else r"()\.\d+"
        texts = pc.replace_substring_regex(texts, kept, r"\1")
        has_zone = pc.match_substring_regex(texts, _ISO_ZONE)
        if pc.all(has_zone).as_py() is not False:
            return texts
        is_day = pc.equal(pc.utf8_length(texts), len("2001-01-31"))
        ends = (pa.scalar(end, texts.type) for end in ("", "T00:00:00Z", "Z"))
        whole, midnight, utc = ends
        end = pc.if_else(has_zone, whole, pc.if_else(is_day, midnight, utc))
        return pc.binary_join_element_wise(texts, end, whole)


@dataclass(frozen=True)
class FormattedTexts:
    """Parses texts in a format of ``strptime``."""

    form: str
    unit: str

    def __call__(self, texts: pa.Array) -> pa.Array:
        """Return the times.

        Raises
        ------
        pa.ArrowInvalid
            A text is not in this format, or is a time that does not exist.
        TypeMismatch
            The format is not supported; raised at the first use.
        """
        pattern = self._pattern
        times = pc.strptime(texts, self.form, self.unit, error_is_null=False)
        clock = times if "z" not in self._names else self._without_zone(texts)
        for name, (field, greatest) in _CARRIED.items():
            if name in self._names:
                found = pc.call_function(field, [clock])
                doubtful = pc.less_equal(found, greatest)
                self._check(texts.filter(doubtful), found.filter(doubtful), pattern, name)
        return times

    @cached_property
    def _names(self) -> list[str]:
        return [name for name, _ in _directives(self.form) if name]

    @cached_property
    def _pattern(self) -> str:
        ignored = [name for name in self._names if name in "GgV"]
        if "U" in self._names or "W" in self._names:
            ignored += [] if set(self._names) & set("aAuw") else ["U or %W without a weekday"]
        if ignored:
            raise TypeMismatch(f"strptime accepts %{ignored[0]}, but ignores its value")
        return _regex(self.form)

    def _without_zone(self, texts: pa.Array) -> pa.Array:
        """Return the local time of each text, without its offset."""
        before, after = (_regex(part)[1:-1] for part in self.form.split("%z", 1))
        plain = [re.sub(r"\?P<\w+>", "?:", part) for part in (before, after)]
        zone = _PATTERNS["z"]
        shown = pc.replace_substring_regex(texts, f"^({plain[0]}){zone}({plain[1]})$", r"\1\2")
        return pc.strptime(shown, self.form.replace("%z", ""), self.unit, error_is_null=False)

    def _check(self, texts: pa.Array, found: pa.Array, pattern: str, name: str) -> None:
        if not len(texts):
            return
        written = pc.extract_regex(texts, pattern).field(name)
        numbers = pc.utf8_trim_whitespace(written).cast(pa.int64())
        wrong = np.flatnonzero(pc.not_equal(numbers, found).fill_null(True))
        for index in wrong.tolist():
            text = texts[index].as_py()
            if numbers[index].is_valid or not _python_reads(text, self.form):
                raise pa.ArrowInvalid(
                    f"{text!r} is a time that does not exist (to_datetime({self.form!r}))"
                )


def _directives(form: str) -> Iterator[tuple[str, str]]:
    """Yield the letter of each directive, with composed ones expanded, or "" and other text."""
    for match in re.finditer(r"%[-_0^#]*[EO]?(.)|[^%]+", form, re.DOTALL):
        letter = match[1] or ""
        if letter in _COMPOSED:
            yield from _directives(_COMPOSED[letter])
        else:
            yield _SAME.get(letter, letter), match[0]


def _regex(form: str) -> str:
    """Return a pattern of the texts in a format, with a group for each field that may overflow."""
    parts, named = [], set()
    for name, text in _directives(form):
        if not name:
            parts.append("".join(r"\s*" if c.isspace() else re.escape(c) for c in text))
        elif name in _CARRIED and name not in named:
            named.add(name)
            parts.append(f"(?P<{name}>{_PATTERNS[name]})")
        else:
            parts.append(_PATTERNS.get(name, ".*"))
    return f"^{''.join(parts)}$"


def _python_reads(text: str, form: str) -> bool:
    """Whether Python's strict parser accepts a text that the pattern does not match."""
    try:
        dt.datetime.strptime(text, form)
    except ValueError:
        return False
    return True


def _first_wrong(texts: pa.Array, parse: Callable[[pa.Array], object]) -> Any:
    """Return the first text that cannot be parsed; there is at least one."""
    while len(texts) > 1:
        half = texts.slice(0, len(texts) // 2)
        try:
            parse(half)
            texts = texts.slice(len(half))
        except pa.ArrowInvalid:
            texts = half
    return texts[0].as_py()
