"""JSON with parts that are encoded already, so that they are not encoded again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_PLACEHOLDER = re.compile(r'"\\u0000(\d+)\\u0000"')


@dataclass(frozen=True, slots=True)
class JsonText:
    """A value that is encoded as JSON already."""

    text: str


def dumps(value: Any) -> str:
    """Return a value as JSON, with the text of each `JsonText` in it."""
    texts: list[str] = []

    def placeholder(part: Any) -> str:
        if not isinstance(part, JsonText):
            raise TypeError(f"{type(part).__name__} is not a JSON value: {part!r}")
        texts.append(part.text)
        return f"\0{len(texts) - 1}\0"  # no other text has zeros in it

    whole = json.dumps(value, default=placeholder)
    return _PLACEHOLDER.sub(lambda match: texts[int(match[1])], whole)
