"""Reads Parquet, and marks the files that the engine writes."""
