"""Reads files as sources, whatever their format: finds, identifies and slices them."""
