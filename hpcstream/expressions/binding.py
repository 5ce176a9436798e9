"""Binds an expression tree to a schema.

Binding is done once per schema: it resolves columns to positions, checks and aligns types,
looks up functions and folds constants. The result is a `Bound`: nested closures that only
call Arrow kernels, since they run for every batch.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.event_time import HIDDEN_COLUMNS
from hpcstream.errors import PlanError
from hpcstream.expressions.nodes import Call, Column, Literal, Node, function_label, render
from hpcstream.expressions.totality import is_total_call, is_total_cast

Value: TypeAlias = "pa.Array | pa.Scalar"
Program = Callable[[pa.RecordBatch], Value]

_SHOWN_COLUMNS = 20
_NEAR = 0.5


@dataclass(frozen=True, slots=True)
class Bound:
    """An expression bound to a schema.

    Attributes
    ----------
    data_type : pa.DataType
        Type of the values.
    run : RecordBatch -> Array or Scalar
        Computes them; returns a scalar only if ``scalar`` is set.
    arrow : pc.Expression or None
        The expression for Arrow's scanners; None if there is no equivalent.
    scalar : pa.Scalar or None
        The value if it is the same for all rows.
    label : pa.DataType or None
        The extension type of the values before they were converted to their storage.
    is_total : bool
        Whether ``run`` never raises, for any row.
    """

    data_type: pa.DataType
    run: Program
    arrow: pc.Expression | None
    scalar: pa.Scalar | None = None
    label: pa.DataType | None = None
    is_total: bool = True

    @property
    def sample(self) -> Value:
        """A value of this type to infer a result type from: the constant, or an empty array."""
        return pa.nulls(0, self.data_type) if self.scalar is None else self.scalar


Rule = Callable[[Sequence[Bound], dict[str, Any]], Bound]
"""Binds one function: checks and converts its arguments, and calls Arrow."""


class TypeMismatch(Exception):
    """The types of the arguments do not match; the text is advice, or empty."""


def bind(node: Node, schema: pa.Schema, rules: dict[str, Rule]) -> Bound:
    """Bind a tree to a schema.

    Raises
    ------
    PlanError
        A column does not exist, or types do not match.
    """
    if isinstance(node, Column):
        return _bind_column(node.name, schema)
    if isinstance(node, Literal):
        return constant(node.scalar)
    arguments = [bind(argument, schema, rules) for argument in node.arguments]
    try:
        return rules[node.function]([decoded(a) for a in arguments], dict(node.options))
    except TypeMismatch as error:
        raise PlanError(_mismatch(node, arguments, str(error))) from None
    except (pa.ArrowException, ArithmeticError) as error:  # from folding constants
        raise PlanError(_mismatch(node, arguments, str(error))) from None


def constant(scalar: pa.Scalar) -> Bound:
    """Return a bound literal."""
    return Bound(scalar.type, lambda batch: scalar, pc.scalar(scalar), scalar)


def call(function_name: str, arguments: Sequence[Bound], options: Any = None) -> Bound:
    """Return the call of an Arrow function, folded if all arguments are constant.

    The function runs once without rows, which determines the result type and raises Arrow's
    errors for types that it does not accept.
    """
    function = pc.get_function(function_name)
    sample = function.call([argument.sample for argument in arguments], options)
    if isinstance(sample, pa.Scalar):
        return constant(sample)
    program = _program(function.call, [argument.run for argument in arguments], options)
    types = [argument.data_type for argument in arguments]
    is_total = is_total_call(function_name, types) and all(a.is_total for a in arguments)
    arrow = _arrow_call(function_name, arguments, options)
    return Bound(sample.type, program, arrow, is_total=is_total)


def cast(bound: Bound, data_type: pa.DataType, *, safe: bool = True) -> Bound:
    """Return the values cast to a type; unsafe casts round and wrap."""
    if bound.data_type.equals(data_type):
        return bound
    if bound.scalar is not None:
        return constant(bound.scalar.cast(data_type, safe=safe))
    done = call("cast", [bound], pc.CastOptions(data_type, **_cast_permissions(safe)))
    is_total = bound.is_total and is_total_cast(bound.data_type, data_type, safe=safe)
    return replace(done, is_total=is_total)


def decoded(bound: Bound) -> Bound:
    """Return the values of a dictionary, view or extension type in a type that kernels accept."""
    data_type = bound.data_type
    if isinstance(data_type, pa.BaseExtensionType):
        return replace(decoded(cast(bound, data_type.storage_type)), label=data_type)
    if pa.types.is_dictionary(data_type) or pa.types.is_run_end_encoded(data_type):
        return decoded(cast(bound, data_type.value_type))
    if data_type == pa.string_view():
        return cast(bound, pa.string())
    if data_type == pa.binary_view():
        return cast(bound, pa.binary())
    if pa.types.is_float16(data_type):
        return cast(bound, pa.float32())
    return bound


def unknown_column(name: str, schema: pa.Schema) -> PlanError:
    """Return the error for a missing column, with the most similar name."""
    names = [known for known in schema.names if known not in HIDDEN_COLUMNS]
    near = difflib.get_close_matches(name, names, n=1, cutoff=_NEAR)
    question = f"; did you mean {near[0]!r}?" if near else ";"
    shown = ", ".join(names[:_SHOWN_COLUMNS]) or "none"
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    return PlanError(f"no column {name!r}{question} columns: {shown}{more}")


def _bind_column(name: str, schema: pa.Schema) -> Bound:
    positions = schema.get_all_field_indices(name)
    if len(positions) != 1:
        if positions:
            raise PlanError(f"column {name!r} exists {len(positions)} times; rename all but one")
        raise unknown_column(name, schema)
    position = positions[0]
    return Bound(schema.field(position).type, lambda batch: batch.column(position), pc.field(name))


def _program(function: Callable[..., Value], runs: Sequence[Program], options: Any) -> Program:
    if len(runs) == 1:
        (only,) = runs
        return lambda batch: function([only(batch)], options)
    if len(runs) == 2:
        left, right = runs
        return lambda batch: function([left(batch), right(batch)], options)
    return lambda batch: function([run(batch) for run in runs], options)


def _arrow_call(
    function_name: str, arguments: Sequence[Bound], options: Any
) -> pc.Expression | None:
    parts = [argument.arrow for argument in arguments if argument.arrow is not None]
    if len(parts) < len(arguments):
        return None
    if function_name == "cast":
        return parts[0].cast(options=options)
    keywords = {} if options is None else {"options": options}
    return getattr(pc, function_name)(*parts, **keywords)


def _cast_permissions(safe: bool) -> dict[str, bool]:
    if safe:
        return {}
    return {
        "allow_int_overflow": True,
        "allow_time_truncate": True,
        "allow_time_overflow": True,
        "allow_decimal_truncate": True,
        "allow_float_truncate": True,
        "allow_invalid_utf8": True,
    }


def _mismatch(node: Call, arguments: Sequence[Bound], advice: str) -> str:
    types = " and ".join(str(argument.data_type) for argument in arguments)
    detail = f"; {advice}" if advice else ""
    return f"{function_label(node.function)} of {types} in {render(node)}{detail}"
