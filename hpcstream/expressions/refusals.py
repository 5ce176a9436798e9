"""Raises errors for expressions that can only be mistakes."""

from __future__ import annotations

import math
import re

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.expressions.nodes import Literal, Node, render

_EXPRESSION_IN_TEXT = re.compile(r"\bcol\((['\"]).*\1\)|<hpcstream\.")


def refuse_comparison(left: Node, right: Node) -> None:
    """Raise if one side is a constant that nothing equals: null or NaN.

    Raises
    ------
    TypeError
        It is null: the comparison is always null.
    ValueError
        It is NaN: ``!=`` is always true, other comparisons are always false.
    """
    for constant, other in ((right, left), (left, right)):
        if not isinstance(constant, Literal):
            continue
        if not constant.scalar.is_valid:
            raise TypeError(
                f"{render(other)} compared with None is always null, as in SQL; use is_null() or "
                "is_not_null()"
            )
        if _is_nan(constant.scalar):
            raise ValueError(
                f"{render(other)} compared with NaN: nothing equals it, is less or greater, so == "
                "holds for no row and != for every one; use is_nan()"
            )


def refuse_members(members: pa.Array) -> None:
    """Raise `ValueError` for null or NaN in the values of ``is_in``."""
    if members.null_count:
        raise ValueError(
            "is_in: null is equal to nothing, as in SQL; leave None out and add "
            "`| expression.is_null()`"
        )
    if pa.types.is_floating(members.type) and pc.any(pc.is_nan(members)).as_py():
        raise ValueError(
            "is_in: NaN is equal to nothing; leave it out and add `| expression.is_nan()`"
        )


def _is_nan(value: pa.Scalar) -> bool:
    return pa.types.is_floating(value.type) and math.isnan(value.as_py())


def refuse_text_of_expression(text: str) -> None:
    """Raise `TypeError` for text into which an expression was formatted, by ``%`` or ``str()``."""
    if _EXPRESSION_IN_TEXT.search(text):
        raise TypeError(
            f"{text!r} is a text about an expression, the same for all rows; texts are joined by "
            "+, as in 'id-' + col('x').cast('string'); hs.lit(...) if it is meant"
        )
