"""Connects jobs to the outside: the contract of sources and sinks, and the built-in ones."""
