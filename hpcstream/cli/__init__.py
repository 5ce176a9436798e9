"""The ``hpcstream`` command: run a script on ranks, explain its plan, look at the machine."""

from hpcstream.cli.command import main

__all__ = ["main"]
