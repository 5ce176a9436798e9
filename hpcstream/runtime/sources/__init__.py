"""Reads splits and closes rounds."""
