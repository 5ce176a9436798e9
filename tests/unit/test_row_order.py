"""The order of rows of equal event time: of one row, of results of a window, of a union."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream.columns.row_order import (
    key_orders,
    nested_places,
    of_later_sources,
    orders_of_rows,
    runs_of_splits,
)
from hpcstream.errors import ConnectorError, PlanError

KEYS = {
    pa.int8(): st.integers(-128, 127),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.string(): st.text(max_size=12),
    pa.large_binary(): st.binary(max_size=12),
    pa.string_view(): st.text(max_size=12),
    pa.date32(): st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1)),
    pa.decimal128(9, 2): st.decimals(-99, 99, places=2).map(lambda d: d + Decimal(0)),
}


def sequence(columns):
    """Return the rows in the order that their keys have."""
    orders, places = key_orders(columns)
    places = np.ones_like(orders) if places is None else places
    assert len(set(zip(orders.tolist(), places.tolist(), strict=True))) == len(orders)
    return np.lexsort((places, orders)).tolist()


@given(data=st.data(), key_type=st.sampled_from(list(KEYS)))
def test_results_of_a_window_go_by_their_key_as_far_as_a_word_tells(data, key_type):
    keys = data.draw(st.lists(st.none() | KEYS[key_type], unique=True, max_size=20))
    column = pa.array(keys, key_type)

    found = [keys[row] for row in sequence([column])]

    def word(key):
        if isinstance(key, Decimal):
            return 0  # they go by a hash
        leading = key.encode() if isinstance(key, str) else key
        return leading[:8].ljust(8, b"\0") if isinstance(leading, bytes) else leading

    words = [word(key) for key in found if key is not None]
    assert words == sorted(words)
    if None in found:
        before = words[: found.index(None)]
        assert all(int.from_bytes(w) == 0 if isinstance(w, bytes) else w <= 0 for w in before)


@given(data=st.data(), rows=st.randoms(use_true_random=False))
def test_the_order_of_a_key_does_not_depend_on_the_keys_beside_it(data, rows):
    types = data.draw(st.lists(st.sampled_from(list(KEYS)), min_size=1, max_size=3))
    keys = data.draw(st.lists(st.tuples(*(KEYS[t] for t in types)), unique=True, min_size=1))

    def columns_of(rows_of_keys):
        return [pa.array(c, t) for c, t in zip(zip(*rows_of_keys, strict=True), types, strict=True)]

    whole = [keys[row] for row in sequence(columns_of(keys))]

    some = sorted(rows.sample(range(len(keys)), rows.randint(1, len(keys))))
    part = sequence(columns_of([keys[row] for row in some]))

    chosen = [keys[some[row]] for row in part]
    assert chosen == [key for key in whole if key in set(chosen)]


def test_rows_of_a_later_row_come_after_all_rows_of_the_ones_before():
    parents = nested_places(np.array([0, 0, 1]), np.array([0, 9, 0]), 18)
    children = nested_places(parents.repeat(2), np.tile([0, 300_000], 3), 18)

    assert (np.diff(children) > 0).all()


def test_runs_of_splits_are_rows_of_one_source_and_split():
    orders = np.concatenate([orders_of_rows(*of, 3, 2) for of in [(0, 0), (0, 1), (1, 1)]])

    assert runs_of_splits(orders) == [(0, 2), (2, 4), (4, 6)]
    assert runs_of_splits(orders[:0]) == [(0, 0)]


@pytest.mark.parametrize(("offset", "source"), [(0, 3), (2, 5), (124, 127)])
def test_sources_are_told_apart_in_a_union_and_nothing_else_changes(offset, source):
    moved = of_later_sources(orders_of_rows(3, 7, 11, 4), offset)

    assert moved.tolist() == orders_of_rows(source, 7, 11, 4).tolist()


@pytest.mark.parametrize(
    ("last", "beyond", "what"),
    [
        ((127, 0, 0, 1), (128, 0, 0, 1), "source number 128"),
        ((0, 2**20 - 1, 0, 1), (0, 2**20, 0, 1), "split number 1,048,576"),
        ((0, 0, 2**36 - 2, 2), (0, 0, 2**36 - 2, 3), "row number 68,719,476,736"),
    ],
)
def test_what_has_no_place_in_the_order_is_refused_not_taken_for_another(last, beyond, what):
    assert orders_of_rows(*last)[-1] >= 0

    with pytest.raises(ConnectorError, match=what):
        orders_of_rows(*beyond)


@given(
    rows=st.sets(
        st.tuples(
            st.sampled_from([0, 1, 127]),
            st.sampled_from([0, 1, 2**20 - 1]),
            st.sampled_from([0, 1, 2**36 - 1]),
        ),
        min_size=2,
    ).map(sorted)
)
def test_no_two_rows_have_one_order_which_is_that_of_source_split_and_row(rows):
    orders = [int(orders_of_rows(*row, 1)[0]) for row in rows]

    assert orders == sorted(set(orders))


def test_a_plan_that_orders_rows_of_more_sources_than_are_told_apart_is_refused():
    def planned(n_sources, way):
        job = hs.Job("many")
        one = pa.table({"t": [1], "k": [1]})
        times = {"event_time": "t", "event_time_unit": "ms"}
        streams = [
            job.from_batches(one, **times) for _ in range(n_sources if way == "apart" else 1)
        ]
        streams *= n_sources // len(streams)
        windows = streams[0].union(*streams[1:]).key_by("k").window(hs.tumbling("1s"))
        windows.agg(last=hs.col("t").last()).collect()
        return job.explain()

    for way in ("apart", "itself"):
        planned(128, way)
        with pytest.raises(PlanError, match="at most 128 are possible"):
            planned(129, way)
