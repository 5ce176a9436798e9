"""State of operators: tables of slices, interned keys, growing arrays."""
