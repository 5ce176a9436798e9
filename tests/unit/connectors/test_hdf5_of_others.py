"""HDF5 files that other programs wrote: read right, or refused with file and path."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from hpcstream.connectors.formats.hdf5.format import hdf5_source
from hpcstream.errors import ConnectorError
from tests.unit.connectors.source_contract import read_all

h5py = pytest.importorskip("h5py")

orders = st.sampled_from("<>")
numbers = st.builds(
    lambda order, kind: np.dtype(order + kind),
    orders,
    st.sampled_from(["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]),
)
shapes = st.sampled_from([(5,), (5, 2), (5, 2, 3), (5, 1, 1, 2), (5, 0)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hdf5")


@settings(max_examples=50)
@given(
    given_values=st.tuples(numbers | st.just(np.dtype(bool)), shapes).flatmap(
        lambda what: np_st.arrays(*what)
    ),
    chunked=st.booleans(),
)
def test_numbers_of_any_byte_order_and_shape(folder, given_values, chunked):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset(
            "x", data=given_values, chunks=(chunked and given_values.size > 0) or None
        )

    source = hdf5_source(folder / "a.h5")
    found = [row["x"] for row in read_all(source, max_rows=2)]

    inner = source.schema.field("x").type
    while pa.types.is_fixed_size_list(inner):
        inner = inner.value_type
    assert inner == pa.from_numpy_dtype(given_values.dtype.newbyteorder("="))
    expected = given_values.astype(given_values.dtype.newbyteorder("="))
    again = np.array(found, dtype=expected.dtype).reshape(expected.shape)
    np.testing.assert_array_equal(again, expected)


def low_level(file, name, stored, shape, values=None, as_type=None):
    """Make a dataset of a type that h5py has no word for."""
    dataset = h5py.h5d.create(file.id, name.encode(), stored, h5py.h5s.create_simple(shape))
    if values is not None:
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values, mtype=as_type)


def integer_type(n_bytes, base):
    stored = base.copy()
    stored.set_size(n_bytes)
    return stored


@pytest.mark.parametrize("n_bytes", [3, 5, 7])
def test_integers_of_odd_sizes_are_read_as_the_next_larger(tmp_path, n_bytes):
    most = 2 ** (8 * n_bytes - 1)
    signed = np.array([[0, -1], [most - 1, -most], [7, 8]])
    unsigned = np.array([0, 1, 2 * most - 1], dtype=np.uint64)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        low_level(file, "s", integer_type(n_bytes, h5py.h5t.STD_I64BE), (3, 2), signed)
        low_level(file, "u", integer_type(n_bytes, h5py.h5t.STD_U64LE), (3,), unsigned)

    rows = read_all(hdf5_source(tmp_path / "a.h5"), max_rows=2)

    assert [row["s"] for row in rows] == signed.tolist()
    assert [row["u"] for row in rows] == unsigned.tolist()


def test_enumerations_bit_fields_booleans_arrays_and_times(tmp_path):
    days = np.array(["2020-01-01", "NaT", "1969-12-31"], dtype="M8[D]")
    times = days.astype("M8[ns]")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        colours = h5py.enum_dtype({"RED": 1, "GREEN": -2}, basetype=">i2")
        file.create_dataset("colour", data=[1, -2, 1], dtype=colours)
        file["flag"] = np.array([True, False, True])
        bits = np.array([1, 255, 0], np.uint8)
        low_level(file, "bits", h5py.h5t.STD_B8LE, (3,), bits, h5py.h5t.STD_B8LE)
        array = h5py.h5t.array_create(h5py.h5t.IEEE_F32BE, (2,))
        pairs = np.arange(6, dtype=np.float32).reshape(3, 2)
        in_memory = h5py.h5t.array_create(h5py.h5t.NATIVE_FLOAT, (2,))
        low_level(file, "pair", array, (3,), pairs, in_memory)
        for name, values in (("day", days), ("time", times), ("took", times - times[0])):
            file[name] = values.astype(h5py.opaque_dtype(values.dtype))

    source = hdf5_source(tmp_path / "a.h5")
    rows = {name: [row[name] for row in read_all(source)] for name in source.schema.names}

    assert rows["colour"] == [1, -2, 1]
    assert rows["flag"] == [True, False, True]
    assert rows["bits"] == [1, 255, 0]
    assert rows["pair"] == pairs.tolist()
    assert rows["day"] == [days[0].item(), None, days[2].item()]
    assert pa.array(rows["time"], pa.timestamp("ns")).equals(pa.array(times))
    assert pa.array(rows["took"], pa.duration("ns")).equals(pa.array(times - times[0]))


TEXTS = ["", "a", "Zürich", "日本", "a b  "]


def test_texts_of_any_and_of_fixed_length_however_they_are_padded(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("any", data=TEXTS, dtype=h5py.string_dtype())
        coded = np.array([text.encode() for text in TEXTS], h5py.string_dtype(length=12))
        file.create_dataset("fixed", data=coded, dtype=h5py.string_dtype(length=12))
        file["grid"] = np.array([[text, text * 2] for text in TEXTS], dtype=h5py.string_dtype())
        for pad, filler in ((h5py.h5t.STR_NULLTERM, b"\0"), (h5py.h5t.STR_SPACEPAD, b" ")):
            stored = h5py.h5t.C_S1.copy()
            stored.set_size(12)
            stored.set_strpad(pad)
            stored.set_cset(h5py.h5t.CSET_UTF8)
            values = np.array([text.encode().rstrip().ljust(12, filler) for text in TEXTS], "S12")
            low_level(file, f"pad{pad}", stored, (5,), values, stored)

    source = hdf5_source(tmp_path / "a.h5")
    rows = {name: [row[name] for row in read_all(source)] for name in source.schema.names}

    assert rows.pop("any") == TEXTS
    assert rows.pop("fixed") == TEXTS
    assert rows.pop("grid") == [[text, text * 2] for text in TEXTS]
    assert set(map(tuple, rows.values())) == {tuple(text.rstrip() for text in TEXTS)}


@pytest.mark.parametrize("dtype", [h5py.string_dtype("ascii"), "S8"])
def test_a_text_that_is_not_utf_8_is_refused_with_its_row(tmp_path, dtype):
    texts = [b"fine"] * 9 + ["Zürich".encode("latin-1")]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("name", data=texts, dtype=dtype)
    with pytest.raises(ConnectorError, match=r"a\.h5': /name: row 9: b'Z\\xfcrich' is not UTF-8"):
        read_all(hdf5_source(tmp_path / "a.h5"), max_rows=4)


UNREADABLE = {
    "references": {"shape": (2,), "dtype": h5py.ref_dtype},
    "of varying length": {"shape": (2,), "dtype": h5py.vlen_dtype(np.int32)},
    "complex numbers": {"data": np.array([1 + 2j, 3])},
    "opaque bytes": {"data": np.array([b"abc"], "V3")},
    "float128": {"data": np.arange(2, dtype=np.longdouble)},
    "a compound of a, b": {"data": np.zeros(2, [("a", "i4"), ("b", "f8")])},
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_type_that_no_column_can_hold_is_refused_unless_it_is_left_out(tmp_path, what):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = [1, 2]
        file.create_dataset("odd", **UNREADABLE[what])
    with pytest.raises(ConnectorError, match=f"a.h5': /odd has .*{what}.*columns="):
        hdf5_source(path)
    assert read_all(hdf5_source(path, columns={"x": "x"})) == [{"x": 1}, {"x": 2}]


def test_what_has_no_rows_is_no_column(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["one"], file["none"] = [1], 5, h5py.Empty("f4")
        file["type"] = np.dtype("f8")
        file.create_group("group")
    assert read_all(hdf5_source(tmp_path / "a.h5")) == [{"x": 1}]


def test_links_are_followed_and_named_if_they_lead_nowhere(tmp_path):
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["deep/x"] = [1, 2]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["good/soft"] = h5py.SoftLink("/good/outside")
        file["good/outside"] = h5py.ExternalLink("raw.h5", "/deep/x")
        file["bad/x"] = h5py.SoftLink("/nowhere")
        file["worse/x"] = h5py.ExternalLink("gone.h5", "/x")

    good = hdf5_source(tmp_path / "a.h5", table="good")
    assert read_all(good) == [{"outside": i, "soft": i} for i in (1, 2)]
    with pytest.raises(ConnectorError, match=r"/bad/x is a link to '/nowhere', which leads"):
        hdf5_source(tmp_path / "a.h5", table="bad")
    with pytest.raises(ConnectorError, match=r"link to '/x' in 'gone.h5', which leads nowhere"):
        hdf5_source(tmp_path / "a.h5", columns={"x": "/worse/x"})


def virtual(path, source, shape=(4,)):
    rows = h5py.VirtualLayout((4,), dtype="f4")
    rows[:] = h5py.VirtualSource(source, "data", shape)[:4]
    with h5py.File(path, "w", libver="latest") as file:
        file.create_virtual_dataset("x", rows, fillvalue=-1)
    return path


def test_virtual_datasets_are_read_and_refused_where_rows_would_be_fill_values(tmp_path):
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["data"] = np.arange(4, dtype="f4")
    path = virtual(tmp_path / "a.h5", "raw.h5")
    assert [row["x"] for row in read_all(hdf5_source(path))] == [0, 1, 2, 3]

    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["data"] = np.arange(3, dtype="f4")
    with pytest.raises(ConnectorError, match=r"a\.h5': /x is virtual: it needs rows up to \(4,\)"):
        hdf5_source(path)
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["other"] = [1]
    with pytest.raises(ConnectorError, match=r"virtual: 'raw\.h5' has no 'data'"):
        hdf5_source(path)
    (tmp_path / "raw.h5").unlink()
    with pytest.raises(ConnectorError, match=r"virtual: its rows are in 'raw\.h5', .* not there"):
        hdf5_source(path)


def test_values_in_a_raw_file_are_read_and_missed_by_name(tmp_path):
    raw = tmp_path / "raw.bin"
    raw.write_bytes(np.arange(4, dtype="<i4").tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (4,), "<i4", external=[(os.fspath(raw), 0, h5py.h5f.UNLIMITED)])
    assert [row["x"] for row in read_all(hdf5_source(tmp_path / "a.h5"))] == [0, 1, 2, 3]
    raw.unlink()
    with pytest.raises(ConnectorError, match=r"/x has its values in the file .*raw\.bin', .* not"):
        hdf5_source(tmp_path / "a.h5")


def with_missing_filter(path, number, *, applied):
    """Make a dataset with a filter that is not there: as its chunk says, applied or left out."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((4,))
    plan.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (0,))
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((4,))
        dataset = h5py.h5d.create(file.id, b"frame", h5py.h5t.STD_I32LE, space, plan)
        chunk = np.arange(4, dtype="<i4").tobytes()
        dataset.write_direct_chunk((0,), chunk, filter_mask=0 if applied else 1)
    return path


def test_a_filter_that_is_not_there_is_named_with_what_brings_it(tmp_path):
    path = with_missing_filter(tmp_path / "a.h5", 32008, applied=True)
    said = r"a\.h5': /frame is compressed by HDF5 filter 32008 \(Bitshuffle\).*import hdf5plugin"
    with pytest.raises(ConnectorError, match=said):
        hdf5_source(path)
    unknown = with_missing_filter(tmp_path / "b.h5", 31_999, applied=True)
    with pytest.raises(ConnectorError, match=r"filter 31999 \(of an unknown name\)"):
        hdf5_source(unknown, columns={"frame": "/frame"})
    unused = with_missing_filter(tmp_path / "c.h5", 32008, applied=False)
    assert [row["frame"] for row in read_all(hdf5_source(unused))] == [0, 1, 2, 3]


def test_a_chunk_that_its_checksum_does_not_fit_is_refused_with_its_dataset(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(1_000), chunks=(100,), fletcher32=True)
    content = bytearray(path.read_bytes())
    content[content.find((555).to_bytes(8, "little") + (556).to_bytes(8, "little"))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConnectorError, match=r"a\.h5': /x: cannot read rows"):
        read_all(hdf5_source(path))
