"""Communicators, and how batches get from rank to rank."""
