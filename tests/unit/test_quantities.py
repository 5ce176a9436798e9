"""Numbers with units as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.quantities import format_bytes

FACTORS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (64 << 20, "64 MiB"), (3 << 41, "6 TiB"),
     ((1 << 20) - 1, "1 MiB"), (5 << 50, "5120 TiB")],
)  # fmt: skip
def test_sizes_are_readable(n_bytes, text):
    assert format_bytes(n_bytes) == text


@given(st.integers(0, 1 << 50))
def test_a_size_is_told_to_a_tenth_of_a_unit_below_1024_of_them(n_bytes):
    amount, unit = format_bytes(n_bytes).split()

    assert abs(float(amount) * FACTORS[unit] - n_bytes) <= 0.05001 * FACTORS[unit]
    assert float(amount) < 1024 or unit == "TiB"
    assert float(amount) >= 1 or unit == "B"
