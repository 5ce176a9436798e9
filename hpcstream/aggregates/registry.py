"""The built-in aggregates by name. Add the class of a new one to its family's file, and here.

User-defined aggregates need no registration, but must not have a name that is used here.
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
    """Raise `PlanError` if an aggregate has no unique name, which checkpoints need."""
    kind = type(aggregate)
    name = getattr(kind, "name", None)
    if not isinstance(name, str) or not name:
        raise PlanError(f"aggregate {kind.__name__}: give the class a name = '...' of its own")
    if AGGREGATES.get(name, kind) is not kind:
        raise PlanError(f"aggregate {kind.__name__}: {name!r} is the name of a built-in aggregate")
