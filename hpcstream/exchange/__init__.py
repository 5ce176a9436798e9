"""Moves batches between ranks: communicators, partitionings, shared messages."""
