"""Every operator, present and to come, can be put into a checkpoint and dealt to other ranks."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import hpcstream.operators
from hpcstream.operators.base import Operator


def operators():
    """Yield every operator of the package."""
    path, prefix = hpcstream.operators.__path__, f"{hpcstream.operators.__name__}."
    for module in pkgutil.walk_packages(path, prefix):
        found = importlib.import_module(module.name)
        for _, one in inspect.getmembers(found, inspect.isclass):
            if one.__module__ == found.__name__ and issubclass(one, Operator) and one != Operator:
                yield one


ALL = sorted(operators(), key=lambda one: one.__qualname__)


def test_there_are_operators_in_every_room():
    rooms = {one.__module__.split(".")[2] for one in ALL}
    assert rooms >= {"stateless", "sink", "joins", "windows"}


@pytest.mark.parametrize("operator", ALL, ids=lambda one: one.__name__)
def test_an_operator_has_its_state_in_tables(operator):
    assert issubclass(operator, Operator)
    by_hand = {"snapshot", "restore", "merge"} & vars(operator).keys()
    assert not by_hand, "its state is in tables: see hpcstream/state/table.py"


def test_an_operator_without_state_refuses_a_snapshot():
    class Plain(Operator):
        def process_batch(self, batch, input_index=0):
            return (batch,)

    plain = Plain()
    assert (plain.snapshot(), plain.state_bytes()) == ({}, 0)
    plain.restore({})
    with pytest.raises(AssertionError, match=r"Plain has no state: \['sums'\]"):
        plain.restore({"sums": []})
