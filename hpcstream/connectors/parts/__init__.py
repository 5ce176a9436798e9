"""Writes directories of part files, exactly once, for every file format."""
