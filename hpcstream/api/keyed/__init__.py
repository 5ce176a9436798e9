"""Methods of keyed streams that handle the rows of each key without windows."""
