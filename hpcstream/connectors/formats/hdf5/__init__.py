"""Reads and writes HDF5, also files that still grow."""
