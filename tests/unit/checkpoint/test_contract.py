"""Every operator, present and to come, can be put into a checkpoint and dealt to other ranks."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import hpcstream.operators
from hpcstream.operators.without_state import empty_snapshot, restore_nothing


def operators():
    """Yield every class that the runtime could run: it takes batches and watermarks."""
    for module in pkgutil.iter_modules(hpcstream.operators.__path__):
        found = importlib.import_module(f"hpcstream.operators.{module.name}")
        for _, one in inspect.getmembers(found, inspect.isclass):
            is_here = one.__module__ == found.__name__ and not getattr(one, "_is_protocol", False)
            if is_here and hasattr(one, "process_batch") and hasattr(one, "process_watermark"):
                yield one


ALL = sorted(operators(), key=lambda one: one.__qualname__)


def test_there_are_operators():
    assert len(ALL) > 8


@pytest.mark.parametrize("operator", ALL, ids=lambda one: one.__name__)
def test_an_operator_has_no_state_or_can_save_restore_and_deal_it(operator):
    snapshot = getattr(operator, "snapshot", None)
    restore = getattr(operator, "restore", None)
    assert snapshot is not None, "no snapshot(): say empty_snapshot if it keeps nothing"
    assert restore is not None, "no restore(): say restore_nothing if it keeps nothing"
    if snapshot is empty_snapshot:
        assert restore is restore_nothing
        return
    can_be_dealt = hasattr(operator, "restore_share") or hasattr(operator, "restore_stages")
    assert can_be_dealt, "its state cannot go to another number of ranks: see operators/base.py"
