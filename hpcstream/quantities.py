"""Numbers with units, as text."""

from __future__ import annotations

_SPANS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def format_span(seconds: float) -> str:
    """Return a length of time in its largest unit: ``4.2 s``, ``3.1 h``, ``12 d``."""
    for length, name in _SPANS:
        if abs(seconds) >= length:
            amount = seconds / length
            return f"{amount:.0f} {name}" if abs(amount) >= 10 else f"{amount:.1f} {name}"
    return f"{seconds:.0f} s" if abs(seconds) >= 10 else f"{seconds:.1f} s"


def format_count(value: float) -> str:
    """Return a count with about three digits: ``812``, ``34.5 M``."""
    for factor, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.1f} {name}"
    return f"{value:.0f}"


def format_bytes(value: float) -> str:
    """Return a number of bytes in its largest unit: ``512 B``, ``1.5 GiB``."""
    amount, power = value, 0
    while round(amount, 1) >= 1024 and power < len(_UNITS) - 1:
        amount, power = amount / 1024, power + 1
    return f"{amount:.1f}".removesuffix(".0") + f" {_UNITS[power]}"
