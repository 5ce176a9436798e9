"""Checkpoints: what one consists of, its copies, and the files that hold it."""
