"""Builds the logical graph from what users write: jobs, streams, windows, readers, writers."""
