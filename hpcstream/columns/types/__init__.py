"""Says which types columns have: their names, and those that others are turned into."""
