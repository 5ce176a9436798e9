"""Divides operators that have several physical forms into stages."""
