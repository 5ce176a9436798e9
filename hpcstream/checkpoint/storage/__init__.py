"""Checkpoint directories: files, manifests, locks, and writing in the background."""
