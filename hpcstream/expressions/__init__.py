"""Builds, checks, binds and evaluates expressions over columns."""
