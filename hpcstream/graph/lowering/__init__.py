"""Lowers operators that have several physical forms to stages."""
