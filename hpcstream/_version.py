"""The version of hpcstream, said once."""

__version__ = "0.1.0"
