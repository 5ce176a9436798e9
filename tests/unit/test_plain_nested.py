"""Nested columns as the engine has them: no views, run ends or labels inside."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream.columns.types.plain import plain_column, plain_type

FLAT = {pa.int8(): st.integers(-128, 127), pa.string_view(): st.text(max_size=20)}
types = st.recursive(
    st.sampled_from(list(FLAT)),
    lambda inner: (
        st.builds(pa.list_, inner)
        | st.builds(pa.large_list, inner)
        | st.builds(pa.list_, inner, st.integers(0, 2))
        | st.builds(pa.list_view, inner)
        | st.builds(pa.large_list_view, inner)
        | st.lists(inner, min_size=1, max_size=2).map(
            lambda several: pa.struct([(f"f{i}", one) for i, one in enumerate(several)])
        )
        | st.builds(pa.map_, st.just(pa.int8()), inner)
    ),
    max_leaves=4,
)


def values(data_type):
    if data_type in FLAT:
        return FLAT[data_type]
    if pa.types.is_struct(data_type):
        return st.fixed_dictionaries({f.name: st.none() | values(f.type) for f in data_type})
    if pa.types.is_map(data_type):
        pairs = st.tuples(values(data_type.key_type), st.none() | values(data_type.item_type))
        return st.lists(pairs, max_size=2)
    inner = st.none() | values(data_type.value_type)
    if pa.types.is_fixed_size_list(data_type):
        return st.lists(inner, min_size=data_type.list_size, max_size=data_type.list_size)
    return st.lists(inner, max_size=3)


columns = types.flatmap(
    lambda one: st.tuples(st.just(one), st.lists(st.none() | values(one), max_size=6))
)


@settings(max_examples=300)
@given(column=columns, cut=st.integers(0, 6))
def test_a_nested_column_has_the_same_values_without_views(column, cut):
    data_type, rows = column
    array = pa.array(rows, data_type).slice(cut)

    plain = plain_column(array, plain_type(data_type))

    plain.validate(full=True)
    assert plain.to_pylist() == array.to_pylist()
    assert "view" not in str(plain.type)
    assert plain_type(plain.type).equals(plain.type)
    assert plain_column(plain, plain.type) is plain


@pytest.mark.parametrize("length", [0, 1, 3])
def test_lists_of_a_view_may_lie_in_any_order(length):
    shared = pa.ListViewArray.from_arrays([3, 0, 1], [2, 0, 3], pa.array([1, 2, 3, 4, 5]))
    array = shared.slice(3 - length)
    assert (
        plain_column(array, plain_type(array.type)).to_pylist()
        == [[4, 5], [], [2, 3, 4]][3 - length :]
    )


def test_labels_inside_of_nested_columns_give_way_to_what_they_are_on():
    keys = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"a" * 16, None], pa.binary(16)))
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 2], pa.int32()), keys)
    job = hs.Job("nested labels")
    rows = job.from_batches(pa.table({"k": [1, 2], "x": lists})).filter(hs.col("k") == 1).collect()
    job.run(show=False)
    assert rows.table["x"].to_pylist() == [[b"a" * 16, None]]
