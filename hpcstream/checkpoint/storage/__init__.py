"""Keeps checkpoint directories: names, manifests, staging, and writing in the background."""
