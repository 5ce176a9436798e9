"""The functions that expressions call, by the type of their values."""
