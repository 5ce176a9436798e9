"""The nodes of expression trees: columns, literals and calls; prints and rewrites trees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hpcstream.stable_keys import Key, scalar_key, value_key

OPERATOR_SYMBOLS = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "floor_divide": "//",
    "modulo": "%",
    "power": "**",
    "equal": "==",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "and": "&",
    "or": "|",
}
"""Binary functions with infix notation."""

PREFIX_SYMBOLS = {"negate": "-", "invert": "~"}


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one column."""

    name: str


@dataclass(frozen=True, slots=True)
class Literal:
    """One value for all rows, and its printed form."""

    scalar: pa.Scalar
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function of other nodes. ``options`` are its constant parameters."""

    function: str
    arguments: tuple[Node, ...]
    options: tuple[tuple[str, Any], ...] = ()


Node = Column | Literal | Call


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all below it, from left to right."""
    yield node
    if isinstance(node, Call):
        for argument in node.arguments:
            yield from walk(argument)


def column_names(node: Node) -> Iterator[str]:
    """Yield the names of the columns that a node reads, from left to right."""
    return (below.name for below in walk(node) if isinstance(below, Column))


def replace_columns(node: Node, replacements: Mapping[str, Node]) -> Node:
    """Return the node with columns replaced; columns without a replacement remain."""
    if isinstance(node, Column):
        return replacements.get(node.name, node)
    if isinstance(node, Literal):
        return node
    arguments = tuple(replace_columns(argument, replacements) for argument in node.arguments)
    return Call(node.function, arguments, node.options)


def split_conjunction(node: Node) -> list[Node]:
    """Return the conditions that ``&`` combines, or only the node itself."""
    if isinstance(node, Call) and node.function == "and":
        return [part for argument in node.arguments for part in split_conjunction(argument)]
    return [node]


def node_key(node: Node) -> Key:
    """Return the identity of the node as plain data, independent of `render`."""
    if isinstance(node, Column):
        return ["column", node.name]
    if isinstance(node, Literal):
        return ["literal", str(node.scalar.type), scalar_key(node.scalar)]
    arguments = [node_key(argument) for argument in node.arguments]
    if not node.options:
        return [node.function, arguments]
    return [node.function, arguments, {name: value_key(value) for name, value in node.options}]


def render(node: Node) -> str:
    """Return Python source code of the node for messages."""
    if isinstance(node, Column):
        return f"col({node.name!r})"
    if isinstance(node, Literal):
        return node.text
    if node.function in OPERATOR_SYMBOLS:
        left, right = map(_render_operand, node.arguments)
        return f"{left} {OPERATOR_SYMBOLS[node.function]} {right}"
    if node.function in PREFIX_SYMBOLS:
        return PREFIX_SYMBOLS[node.function] + _render_operand(node.arguments[0])
    if node.function == "when":
        return _render_when(node)
    return _render_method(node)


def function_label(function: str) -> str:
    """Return the user's name of a function: ``'+'`` or ``'str.lower'``."""
    symbol = OPERATOR_SYMBOLS.get(function) or PREFIX_SYMBOLS.get(function) or function
    return f"'{symbol}'"


def _render_operand(node: Node) -> str:
    text = render(node)
    if isinstance(node, Call) and node.function in OPERATOR_SYMBOLS:
        return f"({text})"
    return text


def _render_method(node: Call) -> str:
    receiver, *others = node.arguments
    parts = [render(other) for other in others]
    parts += [f"{name}={_render_option(value)}" for name, value in node.options]
    text = _render_operand(receiver)
    if isinstance(receiver, Call) and receiver.function in PREFIX_SYMBOLS:
        text = f"({text})"
    return f"{text}.{node.function}({', '.join(parts)})"


def _render_when(node: Call) -> str:
    *branches, otherwise = node.arguments
    text = "".join(
        f".when({render(condition)}).then({render(value)})"
        for condition, value in zip(branches[::2], branches[1::2], strict=True)
    )
    return f"{text[1:]}.otherwise({render(otherwise)})"


def _render_option(value: Any) -> str:
    if isinstance(value, pa.Array):
        return repr(value.to_pylist())
    if isinstance(value, pa.DataType):
        return f"'{value}'"
    return repr(value)
