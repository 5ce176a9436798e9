"""The methods of expressions that return aggregates, for ``agg(...)``."""

from __future__ import annotations

from typing import Any

from hpcstream.aggregates.base import AggregateCall, AggregateInput
from hpcstream.calls import answers_wrong_calls


@answers_wrong_calls
class Aggregating:
    """Methods of `Expression` that aggregate it, one for each built-in aggregate."""

    __slots__ = ()

    def sum(self: AggregateInput, *, exact: bool = False) -> AggregateCall:
        """Return the sum; int64 for integers, whose overflow raises.

        Parameters
        ----------
        exact : bool
            Sum floats without rounding, and round the result once, as `math.fsum` does: the
            same bits in any order of rows. It takes 320 bytes for each key and window.
        """
        return _call_of("sum", self, exact=exact)

    def mean(self: AggregateInput, *, exact: bool = False) -> AggregateCall:
        """Return the arithmetic mean; ``exact`` as in `sum`."""
        return _call_of("mean", self, exact=exact)

    def min(self: AggregateInput) -> AggregateCall:
        """Return the least value that is not null; NaN is greater than any number."""
        return _call_of("min", self)

    def max(self: AggregateInput) -> AggregateCall:
        """Return the greatest value that is not null; NaN is greater than any number."""
        return _call_of("max", self)

    def var(self: AggregateInput, ddof: int = 1, *, exact: bool = False) -> AggregateCall:
        """Return the variance, divided by ``n - ddof``.

        Parameters
        ----------
        ddof : int
        exact : bool
            Compute it from exact sums, as in `sum`, of values and of squares: the same bits in
            any order of rows. It takes 640 bytes for each key and window. Values of more than
            1.3e154 have an infinite variance.
        """
        return _call_of("var", self, ddof=ddof, exact=exact)

    def std(self: AggregateInput, ddof: int = 1, *, exact: bool = False) -> AggregateCall:
        """Return the standard deviation: the square root of `var`."""
        return _call_of("std", self, ddof=ddof, exact=exact)

    def first(self: AggregateInput) -> AggregateCall:
        """Return the first value that is not null, in event time; null if all are null."""
        return _call_of("first", self)

    def last(self: AggregateInput) -> AggregateCall:
        """Return the last value that is not null, in event time; null if all are null."""
        return _call_of("last", self)

    def count(self: AggregateInput) -> AggregateCall:
        """Return the number of values that are not null."""
        return _call_of("count", self)

    def count_distinct(self: AggregateInput) -> AggregateCall:
        """Return the number of distinct values that are not null; NaN is one of them."""
        return _call_of("count_distinct", self)

    def median(self: AggregateInput) -> AggregateCall:
        """Return the exact median, interpolated between the two middle values.

        Nulls are ignored; NaN is greater than any number.
        """
        return _call_of("median", self)

    def quantile(self: AggregateInput, q: float) -> AggregateCall:
        """Return the exact ``q``-quantile, interpolated linearly.

        Nulls are ignored; NaN is greater than any number.

        Raises
        ------
        ValueError
            ``q`` is not between 0 and 1.
        """
        return _call_of("quantile", self, q=float(q))

    def arg_min(self: AggregateInput, by: AggregateInput) -> AggregateCall:
        """Return the value in the first row where ``by`` is least; nulls as in `corr`."""
        return _call_of("arg_min", self, by)

    def arg_max(self: AggregateInput, by: AggregateInput) -> AggregateCall:
        """Return the value in the first row where ``by`` is greatest; NaN is the greatest."""
        return _call_of("arg_max", self, by)

    def covar(self: AggregateInput, other: AggregateInput, ddof: int = 1) -> AggregateCall:
        """Return the covariance, divided by ``n - ddof``; nulls as in `corr`."""
        return _call_of("covar", self, other, ddof=ddof)

    def corr(self: AggregateInput, other: AggregateInput) -> AggregateCall:
        """Return Pearson's correlation, of the rows without a null in either column."""
        return _call_of("corr", self, other)


def _call_of(name: str, *inputs: AggregateInput, **parameters: Any) -> AggregateCall:
    from hpcstream.aggregates.registry import call_of  # loads all families

    return call_of(name, *inputs, **parameters)
