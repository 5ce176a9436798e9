"""Implements the ``hpcstream`` command: run, explain, checkpoints, doctor, compile, bench."""

from hpcstream.cli.command import main

__all__ = ["main"]
