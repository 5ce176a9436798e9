"""Says which windows there are, and of which slices each is made."""
