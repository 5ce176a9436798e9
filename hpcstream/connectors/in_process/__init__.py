"""Reads and writes without files: batches in memory, generated rows, printing."""
