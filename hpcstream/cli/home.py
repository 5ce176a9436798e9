"""A home folder if the environment names none: Open MPI's launcher needs one.

Systemd units, cron-like starters and ``srun --export=NONE`` leave ``HOME`` out.
"""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def home_for_ranks(ranks: int) -> Iterator[None]:
    """Set ``HOME`` for this process and for what it starts, unless it is set.

    It is the user's in the password database. A user who is not there, as in a
    container with a number for a user, gets an empty folder that is removed
    afterwards; one rank, which needs no launcher, goes without.
    """
    known = None if "HOME" in os.environ else _home_of_user()
    if known is not None:
        os.environ["HOME"] = known
    if "HOME" in os.environ or ranks == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="hpcstream-home-") as folder:
        os.environ["HOME"] = folder
        try:
            yield
        finally:
            del os.environ["HOME"]


def _home_of_user() -> str | None:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir or None
    except KeyError:
        return None
