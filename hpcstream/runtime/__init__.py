"""Runs a physical plan on one rank, in rounds."""
