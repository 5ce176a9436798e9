"""Converts the batches that a user's function returns to the expected schema."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.types.plain import plain_batch, plain_column, plain_type
from hpcstream.errors import PlanError

_INFERRED = "a call with 0 rows"


@dataclass(frozen=True, slots=True)
class Promise:
    """The columns that a function returns: declared by the user, or inferred from a call.

    Attributes
    ----------
    where : str
        The call, for messages.
    schema : pa.Schema
    is_inferred : bool
        The user did not declare it, so other types are cast if no information is lost: a data
        frame without rows has no types of its own.
    """

    where: str
    schema: pa.Schema
    is_inferred: bool = False

    def conform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch with the columns in the promised order and types.

        Raises
        ------
        TypeError
            The columns differ, or a type cannot be converted.
        """
        if batch.schema.equals(self.schema):
            return plain_batch(batch, self.schema)
        found = {field.name: plain_type(field.type) for field in batch.schema}
        if found.keys() != set(self.schema.names) or len(found) != batch.num_columns:
            raise self._broken(found)
        columns = []
        for field in self.schema:
            column = plain_column(batch.column(field.name), found[field.name])
            same = found[field.name] == field.type
            columns.append(column if same else self._cast(column, field, found))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _cast(self, column: pa.Array, field: pa.Field, found: dict[str, pa.DataType]) -> pa.Array:
        source = found[field.name]
        if pa.types.is_null(source):
            return pa.nulls(len(column), field.type)
        if not (self.is_inferred and _goes_into(source, field.type)):
            raise self._broken(found)
        try:
            return pc.cast(column, field.type)
        except pa.ArrowInvalid as error:
            raise self._broken(found) from error

    def _broken(self, found: dict[str, pa.DataType]) -> TypeError:
        kind = "inferred" if self.is_inferred else "declared"
        origin = f"inferred from {_INFERRED}" if self.is_inferred else kind
        text = f"{self.where} returned other columns than {origin}: "
        text += _differences(found, self.schema, kind)
        if self.is_inferred:
            listed = ", ".join(f"({name!r}, '{data_type}')" for name, data_type in found.items())
            text += f"; give map_batches(..., schema=pa.schema([{listed}]))"
        return TypeError(text)


def refuse_unknown_types(found: pa.Schema, given: pa.Schema, where: str) -> None:
    """Raise `PlanError` if a call without rows did not determine the type of a new column."""
    known = {field.name for field in given if pa.types.is_null(field.type)}
    for field in found:
        if pa.types.is_null(field.type) and field.name not in known:
            raise PlanError(
                f"{where}: the type of {field.name!r} cannot be inferred from {_INFERRED}, there "
                "it is null; give map_batches(..., schema=pa.schema([...])) to say what it returns"
            )


def _goes_into(source: pa.DataType, target: pa.DataType) -> bool:
    """Return whether values keep their meaning in another type: numbers remain numbers."""
    return any(kind(source) and kind(target) for kind in (_is_number, _is_text, _is_moment))


def _is_number(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(data_type) or types.is_floating(data_type) or types.is_decimal(data_type)
    )


def _is_text(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_string(data_type) or pa.types.is_large_string(data_type))


def _is_moment(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(data_type) or pa.types.is_date(data_type))


def _differences(found: dict[str, pa.DataType], schema: pa.Schema, kind: str) -> str:
    expected = {field.name: field.type for field in schema}
    parts = [f"{name!r} ({t}) is missing" for name, t in expected.items() if name not in found]
    parts += [f"{name!r} ({t}) is not {kind}" for name, t in found.items() if name not in expected]
    parts += [
        f"{name!r} is {found[name]}, {kind} as {expected[name]}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    return "; ".join(parts) or "a column occurs twice"
