"""Encodes batches as bytes for other ranks, and decodes them."""
