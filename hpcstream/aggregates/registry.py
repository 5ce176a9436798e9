"""The built-in aggregates by name. A new one is a class in the file of its family, and a line here.

Those of users need not be here: the names here are taken.
"""

from __future__ import annotations

from typing import Any

from hpcstream.aggregates.base import Aggregate, AggregateCall, AggregateInput
from hpcstream.aggregates.families.by_other import ArgMax, ArgMin
from hpcstream.aggregates.families.comoments import Corr, Covar
from hpcstream.aggregates.families.counts_sums import Count, CountRows, Mean, Sum
from hpcstream.aggregates.families.extremes import Max, Min
from hpcstream.aggregates.families.first_last import First, Last
from hpcstream.aggregates.families.from_values import CountDistinct, Median, Quantile
from hpcstream.aggregates.families.moments import Std, Var
from hpcstream.errors import PlanError

AGGREGATES: dict[str, type[Aggregate]] = {
    family.name: family
    for family in (
        *(CountRows, Count, Sum, Mean, Min, Max, Var, Std, First, Last),
        *(CountDistinct, Median, Quantile, ArgMin, ArgMax, Corr, Covar),
    )
}


def call_of(name: str, *inputs: AggregateInput, **parameters: Any) -> AggregateCall:
    """Return a built-in aggregate of some expressions."""
    return AggregateCall(AGGREGATES[name](**parameters), inputs)


def check_name(aggregate: Aggregate) -> None:
    """Raise `PlanError` if an aggregate has no name of its own, by which checkpoints know it."""
    kind = type(aggregate)
    name = getattr(kind, "name", None)
    if not isinstance(name, str) or not name:
        raise PlanError(f"aggregate {kind.__name__}: give the class a name = '...' of its own")
    if AGGREGATES.get(name, kind) is not kind:
        raise PlanError(f"aggregate {kind.__name__}: {name!r} is the name of a built-in aggregate")
