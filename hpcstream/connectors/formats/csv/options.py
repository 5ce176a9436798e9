"""The options of ``read_csv``, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hpcstream.columns.types.given import SchemaLike, TypesByName, given_schema, given_types
from hpcstream.connectors.formats.text_file import UTF8, encoding_name
from hpcstream.connectors.scan import plain_schema


class NullRule(NamedTuple):
    """Which fields of some columns are null.

    Attributes
    ----------
    spellings : tuple of str
    in_text : bool
        Whether text can be null at all.
    quoted : bool
        Whether a quoted field can be null.
    """

    spellings: tuple[str, ...]
    in_text: bool
    quoted: bool


NULL_OF_TEXT = NullRule(("",), in_text=True, quoted=False)
"""By default an empty field is null, a quoted empty one an empty text."""

NULL_OF_OTHERS = NullRule(
    ("", "NA", "N/A", "n/a", "#N/A", "#NA", "#N/A N/A", "NULL", "null"), in_text=False, quoted=True
)
"""The spellings of null that are usual among numbers and times. NaN is none: it is a number."""


def check_delimiter(what: str, delimiter: str) -> None:
    """Raise `ValueError` unless a delimiter is one that ``what`` can do with."""
    is_char = isinstance(delimiter, str) and len(delimiter) == 1 and delimiter.isascii()
    if not is_char or delimiter in '"\r\n':
        raise ValueError(
            f"{what}(delimiter={delimiter!r}): expected one ASCII character that is neither a "
            "quote nor a line break, as ';' or '\\t'"
        )


@dataclass(frozen=True, kw_only=True)
class CsvOptions:
    """How CSV files are read: the options of `hpcstream.Job.read_csv`, described there."""

    schema: SchemaLike | None = None
    column_types: TypesByName = field(default_factory=dict)
    delimiter: str = ","
    header: bool = True
    column_names: Sequence[str] = ()
    null_values: Sequence[str] | None = None
    newlines_in_values: bool = False
    encoding: str = UTF8
    block_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        names = list(self.column_names)
        if self.schema is not None:
            where = "read_csv(schema=)"
            schema = plain_schema(given_schema(self.schema, where), where)
            object.__setattr__(self, "schema", schema)
            names = names or ([] if self.header else schema.names)
        object.__setattr__(self, "column_names", names)
        types = given_types(self.column_types, "read_csv(column_types=)")
        object.__setattr__(self, "column_types", types)
        object.__setattr__(self, "encoding", encoding_name(self.encoding))
        check_delimiter("read_csv", self.delimiter)
        if isinstance(self.null_values, str):
            raise TypeError(f"read_csv(null_values={self.null_values!r}): expected a list of texts")
        if self.block_bytes < 2:
            raise ValueError(f"read_csv(block_bytes={self.block_bytes}): expected at least 2")

    @property
    def null_rules(self) -> tuple[NullRule, NullRule]:
        """Of text, and of other types."""
        if self.null_values is None:
            return NULL_OF_TEXT, NULL_OF_OTHERS
        given = NullRule(tuple(self.null_values), in_text=True, quoted=True)
        return given, given
