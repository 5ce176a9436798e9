"""Reads and writes Arrow IPC files."""
