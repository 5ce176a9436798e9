"""Expressions, the arguments of `filter`, `select`, `with_columns` and aggregates.

::

    col("delay") > 15
    (col("price") * col("qty")).alias("value")
    when(col("delay") > 60).then(lit("late")).otherwise("fine")

An expression is a description. It is bound to a schema once, which checks types before any
row is read, and then runs `pyarrow.compute` kernels on whole batches. Nulls behave as in
SQL: the result for a null is null, and a null condition counts as false. Integer overflow
raises instead of wrapping. Operands that may raise are evaluated only for the rows that
need them: the branches of ``when`` that apply, the replacement of nulls, the right side of
``&`` and ``|`` if the left side does not determine the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.aggregates.base import AggregateCall
from hpcstream.aggregates.families.counts_sums import count
from hpcstream.calls import answers_wrong_call, answers_wrong_calls, refuse_format
from hpcstream.columns.arrays import stored
from hpcstream.columns.types.given import TypeName, given_type
from hpcstream.columns.types.plain import plain_column, plain_type
from hpcstream.expressions.aggregating import Aggregating
from hpcstream.expressions.binding import Bound, bind
from hpcstream.expressions.functions.numbers import RULES
from hpcstream.expressions.namespaces import StringFunctions, TimeFunctions
from hpcstream.expressions.nodes import (
    Call,
    Column,
    Literal,
    Node,
    column_names,
    node_key,
    render,
    replace_columns,
    split_conjunction,
)
from hpcstream.expressions.ordering import ORDERED, Ordering, refuse_ordered
from hpcstream.expressions.refusals import (
    refuse_comparison,
    refuse_members,
    refuse_text_of_expression,
)
from hpcstream.hints import missing_attribute
from hpcstream.stable_keys import Key, key_text

__all__ = ["Expression", "When", "col", "count", "lit", "to_expression", "when"]

_RULES = RULES | {name: refuse_ordered(name) for name in ORDERED}
_SCHEMAS_KEPT = 4
"""Schemas to which an expression remains bound, since several nodes may share it."""


@answers_wrong_calls
class Expression(Aggregating, Ordering):
    """A column computed from the columns of a batch; immutable.

    Created by `col`, `lit`, `when` and the operators and methods here.
    """

    __slots__ = ("_alias", "_bound", "_node")

    def __init__(self, node: Node, alias: str | None = None) -> None:
        self._node = node
        self._alias = alias
        self._bound: tuple[tuple[pa.Schema, Bound], ...] = ()

    if not TYPE_CHECKING:  # else type checkers would accept every name

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute("Expression", name, dir(type(self)))

    # For the planner and the operators.

    @property
    def name(self) -> str:
        """Name of the output column: the alias, or the name of the leftmost column."""
        if self._alias is not None:
            return self._alias
        return next(iter(column_names(self._node)), "literal")

    @property
    def is_column(self) -> bool:
        """Whether this is an unchanged column, possibly with another name."""
        return isinstance(self._node, Column)

    def columns(self) -> frozenset[str]:
        """Return the names of the columns that are read."""
        return frozenset(column_names(self._node))

    def data_type(self, schema: pa.Schema) -> pa.DataType:
        """Return the type of the result for a schema.

        Raises
        ------
        PlanError
            A column does not exist, or types do not match.
        """
        return self._bind(schema).data_type

    def evaluate(self, batch: pa.RecordBatch) -> pa.Array:
        """Return the values for the rows of a batch.

        Raises
        ------
        pa.ArrowInvalid
            A value cannot be computed: an overflow, or text that is not a number.
        ZeroDivisionError
            ``//`` or ``%`` of integers by zero.
        """
        bound = self._bind(batch.schema)
        try:
            value = bound.run(batch)
        except Exception as error:
            error.add_note(f"in expression {self!r}")
            raise
        if bound.scalar is not None:
            return pa.repeat(value, batch.num_rows)
        return value

    def to_arrow(self, schema: pa.Schema) -> pc.Expression | None:
        """Return the expression for Arrow's file scanners, or None if there is no equivalent.

        ``schema`` is that of the scanned data: literals get the types of its columns, so that
        the scan and `evaluate` agree on every row.
        """
        return self._bind(schema).arrow

    def is_total(self, schema: pa.Schema) -> bool:
        """Return whether it never raises, so that it may be evaluated for additional rows."""
        return self._bind(schema).is_total

    def conjuncts(self) -> list[Expression]:
        """Return the conditions that ``&`` combines, or only this expression."""
        return [Expression(node) for node in split_conjunction(self._node)]

    def substitute(self, mapping: Mapping[str, Expression]) -> Expression:
        """Return the expression with columns replaced by expressions, with the same name."""
        nodes = {name: replacement._node for name, replacement in mapping.items()}
        return Expression(replace_columns(self._node, nodes), self.name)

    def key(self) -> Key:
        """Return its identity as plain data, without its name: the same in all versions."""
        return node_key(self._node)

    def equals(self, other: Expression) -> bool:
        """Return whether two expressions are the same; ``==`` creates a comparison."""
        return self._alias == other._alias and key_text(self.key()) == key_text(other.key())

    # Building.

    def alias(self, name: str) -> Expression:
        """Return the same values with another name."""
        return Expression(self._node, name)

    @property
    def str(self) -> StringFunctions[Expression]:
        """Functions of text."""
        return StringFunctions(self._call)

    @property
    def dt(self) -> TimeFunctions[Expression]:
        """Functions of time."""
        return TimeFunctions(self._call)

    def is_null(self) -> Expression:
        """Return whether the value is null."""
        return self._call("is_null")

    def is_not_null(self) -> Expression:
        """Return whether the value is not null."""
        return self._call("is_not_null")

    def is_nan(self) -> Expression:
        """Return whether a float is not a number."""
        return self._call("is_nan")

    def is_in(self, values: Iterable[Any]) -> Expression:
        """Return whether the value equals one of ``values``; null for null, as in SQL.

        As for ``==``, -0.0 is in ``[0.0]``.

        Raises
        ------
        ValueError
            ``values`` contains a null or NaN, which nothing equals: see `is_null`, `is_nan`.
        TypeError
            ``values`` is a single value, or a text.
        """
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise TypeError(
                f"is_in({values!r}): takes several values, as is_in([{values!r}]); == compares "
                "with one"
            )
        if isinstance(values, set | frozenset):
            values = sorted(values, key=repr)  # the order of a set differs between ranks
        given = values if isinstance(values, pa.Array) else pa.array(list(values))
        members = stored(plain_column(given, plain_type(given.type)))
        refuse_members(members)
        return self._call("is_in", values=members)

    def is_between(self, low: Any, high: Any) -> Expression:
        """Return whether ``low <= value <= high``."""
        return self._compare("greater_equal", low)._call("and", self <= high)

    def fill_null(self, value: Any) -> Expression:
        """Return the value, or ``value``, a constant or an expression, where it is null.

        An expression is evaluated only for rows where it is needed.
        """
        return self._call("fill_null", value)

    def cast(self, data_type: TypeName, *, safe: bool = True) -> Expression:
        """Return the values in another type.

        Parameters
        ----------
        data_type : pa.DataType, str or type
            Such as ``pa.int64()``, ``float``, or the printed name of a type:
            ``"timestamp[us, tz=UTC]"``, ``"decimal128(10, 2)"``, ``"list<item: double>"``.
        safe : bool
            Raise if a value would change (an overflow, a fraction lost) instead of rounding
            or wrapping it.
        """
        options = {} if safe else {"safe": False}
        return self._call("cast", data_type=given_type(data_type), **options)

    def abs(self) -> Expression:
        """Return the absolute value."""
        return self._call("abs")

    def round(self, digits: int = 0) -> Expression:
        """Return the value rounded to decimal digits, halves away from zero as in SQL."""
        return self._call("round", digits=digits) if digits else self._call("round")

    def floor(self) -> Expression:
        """Return the value rounded down to a whole number."""
        return self._call("floor")

    def ceil(self) -> Expression:
        """Return the value rounded up to a whole number."""
        return self._call("ceil")

    def sqrt(self) -> Expression:
        """Return the square root; NaN of a negative number."""
        return self._call("sqrt")

    def exp(self) -> Expression:
        """Return e to the power of the value."""
        return self._call("exp")

    def log(self) -> Expression:
        """Return the natural logarithm; -inf of 0, NaN of a negative number."""
        return self._call("log")

    # Python's operators.

    def __add__(self, other: Any) -> Expression:
        return self._call("add", other)

    def __radd__(self, other: Any) -> Expression:
        return to_expression(other)._call("add", self)

    def __sub__(self, other: Any) -> Expression:
        return self._call("subtract", other)

    def __rsub__(self, other: Any) -> Expression:
        return to_expression(other)._call("subtract", self)

    def __mul__(self, other: Any) -> Expression:
        return self._call("multiply", other)

    def __rmul__(self, other: Any) -> Expression:
        return to_expression(other)._call("multiply", self)

    def __truediv__(self, other: Any) -> Expression:
        return self._call("divide", other)

    def __rtruediv__(self, other: Any) -> Expression:
        return to_expression(other)._call("divide", self)

    def __floordiv__(self, other: Any) -> Expression:
        return self._call("floor_divide", other)

    def __rfloordiv__(self, other: Any) -> Expression:
        return to_expression(other)._call("floor_divide", self)

    def __mod__(self, other: Any) -> Expression:
        return self._call("modulo", other)

    def __rmod__(self, other: Any) -> Expression:
        return to_expression(other)._call("modulo", self)

    def __pow__(self, other: Any) -> Expression:
        return self._call("power", other)

    def __rpow__(self, other: Any) -> Expression:
        return to_expression(other)._call("power", self)

    def __neg__(self) -> Expression:
        return self._call("negate")

    def __abs__(self) -> Expression:
        return self.abs()

    def __and__(self, other: Any) -> Expression:
        return self._call("and", other)

    def __rand__(self, other: Any) -> Expression:
        return to_expression(other)._call("and", self)

    def __or__(self, other: Any) -> Expression:
        return self._call("or", other)

    def __ror__(self, other: Any) -> Expression:
        return to_expression(other)._call("or", self)

    def __invert__(self) -> Expression:
        return self._call("invert")

    def __eq__(self, other: Any) -> Expression:  # type: ignore[override]
        return self._compare("equal", other)

    def __ne__(self, other: Any) -> Expression:  # type: ignore[override]
        return self._compare("not_equal", other)

    def __lt__(self, other: Any) -> Expression:
        return self._compare("less", other)

    def __le__(self, other: Any) -> Expression:
        return self._compare("less_equal", other)

    def __gt__(self, other: Any) -> Expression:
        return self._compare("greater", other)

    def __ge__(self, other: Any) -> Expression:
        return self._compare("greater_equal", other)

    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"an expression has no truth value before it sees rows: {self!r}; use & | ~ with "
            "parentheses instead of `and`, `or`, `not`, and is_between() or two comparisons "
            "instead of a chained one"
        )

    def __iter__(self) -> NoReturn:
        raise TypeError(f"an expression is not iterable: {self!r}")

    def __format__(self, spec: str_) -> str_:
        refuse_format(self)

    def __repr__(self) -> str_:
        text = render(self._node)
        if self._alias is None:
            return text
        simple = isinstance(self._node, Column | Literal)
        return f"{text if simple else f'({text})'}.alias({self._alias!r})"

    @property
    def node(self) -> Node:
        """The tree behind it."""
        return self._node

    def _call(self, function: str_, *others: Any, **options: Any) -> Expression:
        nodes = tuple(to_expression(other)._node for other in others)
        return Expression(Call(function, (self._node, *nodes), tuple(options.items())), self._alias)

    def _compare(self, function: str_, other: Any) -> Expression:
        compared = to_expression(other)
        refuse_comparison(self._node, compared._node)
        return self._call(function, compared)

    def _bind(self, schema: pa.Schema) -> Bound:
        # Read once and replaced as a whole: threads may share an expression.
        known = self._bound
        for of_schema, bound in known:
            if of_schema.equals(schema):
                return bound
        bound = bind(self._node, schema, _RULES)
        self._bound = ((schema, bound), *known[: _SCHEMAS_KEPT - 1])
        return bound


@answers_wrong_calls
class When:
    """An unfinished ``when(...).then(...)``, without ``otherwise``."""

    __slots__ = ("_arguments", "_condition")

    def __init__(self, arguments: tuple[Expression, ...], condition: Expression | None) -> None:
        self._arguments = arguments
        self._condition = condition

    def __format__(self, spec: str) -> str:
        refuse_format(self)

    def __repr__(self) -> str:
        return "when(...).then(...), without .otherwise(value)"

    def then(self, value: Any) -> When:
        """Set the value for rows where the last condition is the first true one."""
        if self._condition is None:
            raise TypeError("then() must follow when()")
        return When((*self._arguments, self._condition, to_expression(value)), None)

    def when(self, condition: Any) -> When:
        """Add a condition for rows where no previous condition is true."""
        if self._condition is not None:
            raise TypeError("when() must be followed by then()")
        refuse_plain_truth("when", condition)
        return When(self._arguments, to_expression(condition))

    def otherwise(self, value: Any) -> Expression:
        """Return the finished expression, with the value for rows where no condition is true."""
        if self._condition is not None:
            raise TypeError("when() must be followed by then()")
        nodes = [argument._node for argument in (*self._arguments, to_expression(value))]
        return Expression(Call("when", tuple(nodes)))


str_ = str  # `Expression.str` hides the type in the class body


@answers_wrong_call
def col(name: str) -> Expression:
    """Return the column with a name."""
    if not isinstance(name, str):
        raise TypeError(f"col() takes the name of a column; got {name!r}")
    return Expression(Column(name))


@answers_wrong_call
def lit(value: Any, data_type: TypeName | None = None) -> Expression:
    """Return a constant, by default of the type that Arrow infers."""
    if isinstance(value, Expression):
        return value
    if data_type is not None:
        scalar = pa.scalar(value, given_type(data_type))
        return Expression(Literal(scalar, f"lit({value!r}, '{scalar.type}')"))
    scalar = _natural_scalar(value)
    plain = value is None or isinstance(value, int | float | str | bytes)
    return Expression(Literal(scalar, repr(value) if plain else f"lit({value!r})"))


@answers_wrong_call
def when(condition: Any) -> When:
    """Begin a conditional: ``when(c).then(a).when(d).then(b).otherwise(e)``.

    A null condition counts as false. ``a`` is evaluated only for rows where ``c`` is true, so
    ``when(b != 0).then(a // b).otherwise(None)`` never divides by zero.
    """
    refuse_plain_truth("when", condition)
    return When((), to_expression(condition))


def refuse_plain_truth(what: str, value: Any) -> None:
    """Raise `TypeError` for a condition that is Python's True or False, the same for all rows."""
    if isinstance(value, bool):
        raise TypeError(
            f"{what}({value}): is the same for all rows; `is None`, `not` and pandas.isna() ask "
            "the expression, not its rows: use is_null(), is_not_null(), ~; hs.lit() if it is meant"
        )


def to_expression(value: Any) -> Expression:
    """Return an expression unchanged, or another value as a literal."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, When):
        raise TypeError("when(...).then(...) is not finished; add .otherwise(value)")
    if isinstance(value, AggregateCall):
        raise TypeError(f"an aggregate cannot be used inside an expression: {value!r}")
    if isinstance(value, str):
        refuse_text_of_expression(value)
    return lit(value)


def _natural_scalar(value: Any) -> pa.Scalar:
    if isinstance(value, pa.Scalar):
        return value
    try:
        if isinstance(value, int) and value >= 2**63:
            return pa.scalar(value, pa.uint64())
        return pa.scalar(value)
    except (pa.ArrowException, OverflowError) as error:
        raise TypeError(
            f"{value!r} ({type(value).__name__}) cannot be a constant in an expression: {error}"
        ) from None
