"""Expressions over columns: building, checking, binding and evaluating them."""
