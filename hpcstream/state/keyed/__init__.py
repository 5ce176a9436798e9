"""State of keys without windows: a slot for each key, its words, and when it is due."""
