"""File formats: files to batches, and batches to files."""
