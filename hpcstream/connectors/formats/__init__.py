"""Translates between files and batches, with a folder for each format."""
