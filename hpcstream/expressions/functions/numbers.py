"""Rules for the functions of expressions other than those of text and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.expressions.binding import (
    Bound,
    Rule,
    TypeMismatch,
    call,
    cast,
    constant,
)
from hpcstream.expressions.functions.division import floor_divide, modulo
from hpcstream.expressions.functions.equality import equal_to_string, is_one_string, is_strings
from hpcstream.expressions.functions.text import STRING_RULES
from hpcstream.expressions.functions.times import TIME_RULES
from hpcstream.expressions.functions.uuids import uuid_text
from hpcstream.expressions.guards import choose, fill, logic
from hpcstream.expressions.types import (
    NUMERIC,
    align_for_arithmetic,
    align_for_comparison,
    align_values,
    family,
)

Arguments = Sequence[Bound]
Options = dict[str, Any]


def _arithmetic(function: str) -> Rule:
    def rule(arguments: Arguments, options: Options) -> Bound:
        return call(function, align_for_arithmetic(*arguments))

    return rule


def _add(arguments: Arguments, options: Options) -> Bound:
    if {family(argument.data_type) for argument in arguments} == {"string"}:
        return _concatenate(arguments)
    return call("add_checked", align_for_arithmetic(*arguments))


def _concatenate(texts: Arguments) -> Bound:
    is_large = any(pa.types.is_large_string(text.data_type) for text in texts)
    data_type = pa.large_string() if is_large else pa.string()
    separator = constant(pa.scalar("", data_type))
    return call("binary_join_element_wise", [*(cast(t, data_type) for t in texts), separator])


def _divide(arguments: Arguments, options: Options) -> Bound:
    families = [family(argument.data_type) for argument in arguments]
    if families[0] == "duration" and families[1] == "integer":
        return call("divide_checked", [arguments[0], cast(arguments[1], pa.int64())])
    left, right = align_for_arithmetic(*arguments)
    if not pa.types.is_float32(left.data_type):
        left, right = (cast(side, pa.float64(), safe=False) for side in (left, right))
    return call("divide", [left, right])


def _power(arguments: Arguments, options: Options) -> Bound:
    base, exponent = align_for_arithmetic(*arguments)
    negative = exponent.scalar is not None and (exponent.scalar.as_py() or 0) < 0
    if negative or "decimal" in (family(base.data_type), family(exponent.data_type)):
        base, exponent = (cast(side, pa.float64(), safe=False) for side in (base, exponent))
    return call("power_checked", [base, exponent])


def _negate(arguments: Arguments, options: Options) -> Bound:
    (value,) = arguments
    if family(value.data_type) == "integer":
        value = cast(value, pa.int64())
    return call("negate_checked", [value])


def _comparison(function: str) -> Rule:
    def rule(arguments: Arguments, options: Options) -> Bound:
        return call(function, align_for_comparison(*arguments))

    return rule


def _equality(function: str) -> Rule:
    """Return the rule of ``==`` or ``!=``, which uses a kernel to compare with one string."""

    def rule(arguments: Arguments, options: Options) -> Bound:
        aligned = align_for_comparison(*arguments)
        bound = call(function, aligned)
        left, right = aligned
        if is_one_string(left.scalar):
            left, right = right, left
        if is_one_string(right.scalar) and is_strings(left):
            compare = equal_to_string(right.scalar, negated=function == "not_equal")
            return replace(bound, run=lambda batch: compare(left.run(batch)))
        return bound

    return rule


def _logic(function: str) -> Rule:
    def rule(arguments: Arguments, options: Options) -> Bound:
        left, right = map(_condition, arguments)
        return logic(function, left, right)

    return rule


def _condition(bound: Bound) -> Bound:
    if family(bound.data_type) == "null":
        return cast(bound, pa.bool_())
    if family(bound.data_type) != "boolean":
        raise TypeMismatch(
            "& | ~ and when() take conditions; compare first and use parentheses, "
            "as in (col('a') > 0) & (col('b') > 0)"
        )
    return bound


def _invert(arguments: Arguments, options: Options) -> Bound:
    return call("invert", [_condition(argument) for argument in arguments])


def _is_null(arguments: Arguments, options: Options) -> Bound:
    return call("is_null", arguments)


def _is_not_null(arguments: Arguments, options: Options) -> Bound:
    return call("is_valid", arguments)


def _is_nan(arguments: Arguments, options: Options) -> Bound:
    return call("is_nan", arguments)


def _fill_null(arguments: Arguments, options: Options) -> Bound:
    value, replacement = arguments
    align = align_values if replacement.scalar is None else align_for_comparison
    return _labelled(fill(*align(value, replacement)), arguments)


def _labelled(result: Bound, values: Arguments) -> Bound:
    """Return a value in the extension type that all alternatives had, if there is one."""
    labels = {value.label for value in values if family(value.data_type) != "null"}
    label = labels.pop() if len(labels) == 1 else None
    return result if label is None else cast(result, label)


def _when(arguments: Arguments, options: Options) -> Bound:
    *branches, result = arguments
    never = constant(pa.scalar(False))
    for position in range(len(branches) - 2, -1, -2):
        condition = call("coalesce", [_condition(branches[position]), never])
        value, result = align_values(branches[position + 1], result)
        result = choose(condition, value, result)
    return _labelled(result, [*branches[1::2], arguments[-1]])


def _is_in(arguments: Arguments, options: Options) -> Bound:
    (value,) = arguments
    members = _members(value, options["values"])
    found = call("is_in", [value], pc.SetLookupOptions(members))
    # As in SQL, the result for null is null; Arrow would return false.
    unknown = constant(pa.scalar(None, pa.bool_()))
    if value.scalar is not None:
        return found if value.scalar.is_valid else unknown
    return choose(call("is_valid", [value]), found, unknown)


def _members(value: Bound, members: pa.Array) -> pa.Array:
    """Return the members in the column's type, without those that cannot occur in it."""
    if not members.type.equals(value.data_type):
        column = Bound(value.data_type, value.run, None)  # also if it is constant
        aligned = [align_for_comparison(column, constant(member)) for member in members]
        fitted = [member.scalar for left, member in aligned if left is column]
        members = pa.array(fitted, value.data_type)
    return _by_value(members) if pa.types.is_floating(members.type) else members


def _by_value(members: pa.Array) -> pa.Array:
    """Return float members with both zeros if there is one: Arrow compares their bits."""
    if not pc.any(pc.equal(members, 0.0)).as_py():
        return members
    return pa.concat_arrays([members, pa.array([0.0, -0.0], members.type)])


def _cast(arguments: Arguments, options: Options) -> Bound:
    (value,) = arguments
    data_type = options["data_type"]
    if value.label == pa.uuid() and data_type in (pa.string(), pa.large_string()):
        return cast(uuid_text(value), data_type)
    is_label = isinstance(data_type, pa.BaseExtensionType)
    if is_label and not data_type.storage_type.equals(value.data_type):
        raise TypeMismatch(f"it is stored as {data_type.storage_type}; cast to that first")
    return cast(value, data_type, safe=options.get("safe", True))


def _abs(arguments: Arguments, options: Options) -> Bound:
    return call("abs_checked", arguments)


def _round(arguments: Arguments, options: Options) -> Bound:
    (value,) = arguments
    digits = options.get("digits", 0)
    if family(value.data_type) == "integer" and digits >= 0:
        return value
    return call("round", [value], pc.RoundOptions(digits, "half_towards_infinity"))


def _rounding(function: str) -> Rule:
    def rule(arguments: Arguments, options: Options) -> Bound:
        (value,) = arguments
        return value if family(value.data_type) == "integer" else call(function, [value])

    return rule


def _float_function(function: str) -> Rule:
    def rule(arguments: Arguments, options: Options) -> Bound:
        (value,) = arguments
        if family(value.data_type) not in NUMERIC:
            raise TypeMismatch("it takes a number")
        if family(value.data_type) != "float":
            value = cast(value, pa.float64(), safe=False)
        return call(function, [value])

    return rule


RULES: dict[str, Rule] = (
    {
        "add": _add,
        "subtract": _arithmetic("subtract_checked"),
        "multiply": _arithmetic("multiply_checked"),
        "divide": _divide,
        "floor_divide": floor_divide,
        "modulo": modulo,
        "power": _power,
        "negate": _negate,
        "equal": _equality("equal"),
        "not_equal": _equality("not_equal"),
        "less": _comparison("less"),
        "less_equal": _comparison("less_equal"),
        "greater": _comparison("greater"),
        "greater_equal": _comparison("greater_equal"),
        "and": _logic("and_kleene"),
        "or": _logic("or_kleene"),
        "invert": _invert,
        "is_null": _is_null,
        "is_not_null": _is_not_null,
        "is_nan": _is_nan,
        "fill_null": _fill_null,
        "when": _when,
        "is_in": _is_in,
        "cast": _cast,
        "abs": _abs,
        "round": _round,
        "floor": _rounding("floor"),
        "ceil": _rounding("ceil"),
        "sqrt": _float_function("sqrt"),
        "exp": _float_function("exp"),
        "log": _float_function("ln"),
    }
    | STRING_RULES
    | TIME_RULES
)
"""The rules of all functions by their name in a `Call`."""
