"""Operators: what a task does with its batches."""
