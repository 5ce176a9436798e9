"""``python -m hpcstream``: the same as the ``hpcstream`` command."""

import sys

from hpcstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
