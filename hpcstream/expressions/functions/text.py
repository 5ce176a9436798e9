"""Rules for the functions of ``.str``, which use Arrow's string kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.expressions.binding import Bound, Rule, TypeMismatch, call, cast
from hpcstream.expressions.parsing import to_datetime
from hpcstream.expressions.types import family

OptionsOf = Callable[[dict[str, Any]], Any]


def _text(arguments: Sequence[Bound]) -> list[Bound]:
    for argument in arguments:
        if family(argument.data_type) not in ("string", "null"):
            raise TypeMismatch("it takes text; cast it first, as in .cast('string')")
    return [
        cast(argument, pa.string()) if family(argument.data_type) == "null" else argument
        for argument in arguments
    ]


def _function(name: str, options_of: OptionsOf | None = None) -> Rule:
    def rule(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
        return call(name, _text(arguments), options_of(options) if options_of else None)

    return rule


def _length(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
    return cast(call("utf8_length", _text(arguments)), pa.int64())


def _contains(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
    name = "match_substring_regex" if options.get("regex") else "match_substring"
    return call(name, _text(arguments), pc.MatchSubstringOptions(options["pattern"]))


def _replace(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
    name = "replace_substring_regex" if options.get("regex") else "replace_substring"
    replacement = pc.ReplaceSubstringOptions(options["pattern"], options["value"])
    return call(name, _text(arguments), replacement)


def _strip(side: str) -> Rule:
    def rule(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
        characters = options.get("characters")
        if characters is None:
            return call(f"utf8_{side}_whitespace", _text(arguments))
        return call(f"utf8_{side}", _text(arguments), pc.TrimOptions(characters))

    return rule


def _slice(options: dict[str, Any]) -> pc.SliceOptions:
    start, length = options["offset"], options.get("length")
    if length is None:
        return pc.SliceOptions(start)
    stop = start + length
    # As a negative offset from the end, a stop of 0 would mean the beginning.
    return pc.SliceOptions(start, None if start < 0 <= stop else stop)


def _to_datetime(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
    return to_datetime(_text(arguments), options)


def _pattern(options: dict[str, Any]) -> pc.MatchSubstringOptions:
    return pc.MatchSubstringOptions(options["pattern"])


STRING_RULES: dict[str, Rule] = {
    "str.lower": _function("utf8_lower"),
    "str.upper": _function("utf8_upper"),
    "str.length": _length,
    "str.contains": _contains,
    "str.starts_with": _function("starts_with", _pattern),
    "str.ends_with": _function("ends_with", _pattern),
    "str.replace": _replace,
    "str.slice": _function("utf8_slice_codeunits", _slice),
    "str.strip": _strip("trim"),
    "str.strip_start": _strip("ltrim"),
    "str.strip_end": _strip("rtrim"),
    "str.to_datetime": _to_datetime,
}
