"""JSON of which parts are text already, so that they need not be written again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_STAND_IN = re.compile(r'"\\u0000(\d+)\\u0000"')


@dataclass(frozen=True, slots=True)
class JsonText:
    """A value as JSON."""

    text: str


def dumps(value: Any) -> str:
    """Return a value as JSON, with each `JsonText` in it as it is."""
    texts: list[str] = []

    def stand_in(part: Any) -> str:
        if not isinstance(part, JsonText):
            raise TypeError(f"{type(part).__name__} is not a JSON value: {part!r}")
        texts.append(part.text)
        return f"\0{len(texts) - 1}\0"  # no text of ours has zeros in it

    whole = json.dumps(value, default=stand_in)
    return _STAND_IN.sub(lambda match: texts[int(match[1])], whole)
