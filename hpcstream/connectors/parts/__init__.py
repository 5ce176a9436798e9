"""Sinks that write a directory of part files, exactly once."""
