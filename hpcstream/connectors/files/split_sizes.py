"""How large the splits of files are if nobody says: known without loading any format."""

IPC_SPLIT_ROWS = 1_048_576
"""Rows of a split, about: whole record batches if they are smaller than that."""

TEXT_BLOCK_BYTES = 1 << 20
"""Bytes of a block of lines."""
