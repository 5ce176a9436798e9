"""What a sink writes its reader reads back: random tables of all types that a format holds."""

from __future__ import annotations

from functools import partial

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.connectors.formats.hdf5.format import hdf5_source
from hpcstream.connectors.formats.hdf5.writer import Hdf5Parts
from hpcstream.connectors.formats.ipc.format import ipc_source
from hpcstream.connectors.formats.parquet.format import parquet_source
from hpcstream.connectors.parts.formats import IpcParts, ParquetParts
from tests.unit.connectors import tables as random
from tests.unit.connectors.source_contract import read_rest

INDICES = [pa.int8(), pa.uint8(), pa.int32(), pa.int64()]
EXACT = [one for one in random.PLAIN if one not in random.FLOATS]
indices = st.sampled_from(INDICES)
dictionaries = st.builds(pa.dictionary, indices, st.sampled_from(random.PLAIN), st.booleans())
exact_dictionaries = st.builds(pa.dictionary, indices, st.sampled_from(EXACT), st.booleans())
plain = st.sampled_from(random.PLAIN)
wide = st.sampled_from(random.WIDE)
nested = st.recursive(
    plain | wide,
    lambda inner: (
        st.builds(pa.list_, inner)
        | st.builds(pa.large_list, inner)
        | st.builds(pa.list_, inner, st.integers(1, 3))
        | st.lists(inner, min_size=1, max_size=3).map(
            lambda types: pa.struct([(f"f{i}", one) for i, one in enumerate(types)])
        )
        | st.builds(pa.map_, plain, inner)
    ),
    max_leaves=4,
)


def there_and_back(parts, source_of, path, table, piece, max_rows):
    """Write a table in pieces, each a block of its own, and read it in others."""
    with pa.OSFile(str(path), "wb") as file:
        writer = parts.open(file, table.schema)
        for start in range(0, table.num_rows, piece):
            writer.write_table(table.slice(start, piece))
        writer.close()
    source = source_of(path)
    batches = [b for split in source.list_splits() for b in read_rest(source.open(split), max_rows)]
    return pa.Table.from_batches(batches, source.schema)


def with_types(table, as_read):
    """Return the table with the types as which a format gives some of them back."""
    types = [as_read(data_type) for data_type in table.schema.types]
    columns = [c.cast(t) for c, t in zip(table.columns, types, strict=True)]
    return pa.Table.from_arrays(columns, names=table.schema.names)


def with_wide_indices(data_type):
    if pa.types.is_dictionary(data_type) and data_type.index_type.bit_width < 32:
        return pa.dictionary(pa.int32(), data_type.value_type, data_type.ordered)
    return data_type


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("there-and-back")


pieces = st.sampled_from([1, 3, 100])


@settings(max_examples=25)
@given(
    table=random.tables(random.fixed_lists(random.PLAIN) | plain | dictionaries),
    piece=pieces,
    max_rows=pieces,
    compression=st.sampled_from([None, "gzip", "lzf"]),
)
def test_hdf5(folder, table, piece, max_rows, compression):
    parts = Hdf5Parts("run/1", compression)
    found = there_and_back(
        parts, partial(hdf5_source, table="run/1"), folder / "a.h5", table, piece, max_rows
    )
    random.assert_same(found, with_types(table, with_wide_indices))


@settings(max_examples=60)
@given(
    table=random.tables(plain | wide | nested | exact_dictionaries),
    piece=pieces,
    max_rows=pieces,
    compression=st.sampled_from([None, "lz4", "zstd"]),
)
def test_ipc(folder, table, piece, max_rows, compression):
    path = folder / "a.arrow"
    found = there_and_back(IpcParts(compression), ipc_source, path, table, piece, max_rows)
    random.assert_same(found, with_types(table, with_wide_indices))


@settings(max_examples=60)
@given(
    table=random.tables(plain | wide | nested | dictionaries),
    piece=pieces,
    max_rows=pieces,
    compression=st.sampled_from(["none", "snappy", "zstd"]),
)
def test_parquet(folder, table, piece, max_rows, compression):
    path = folder / "a.parquet"
    parts = ParquetParts({"compression": compression})
    found = there_and_back(parts, parquet_source, path, table, piece, max_rows)
    random.assert_same(found, with_types(table, with_wide_indices))
