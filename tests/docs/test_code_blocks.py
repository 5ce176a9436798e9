"""Every Python block of the README and the documentation runs.

The blocks of a page run in order, as one script, in an empty folder that has the
example data as ``flights/`` and ``examples/data/``. A block that cannot run says why:
```` ```python no-run: needs a broker ````, or ``<!-- no-run: needs a broker -->`` above it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DATA = PROJECT / "examples" / "data"
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>.*)$")
NOT_RUN = re.compile(r"no-run\b:?\s*(?P<reason>[^>]*?)\s*(-->)?$")


def script_of(text: str) -> tuple[str, int]:
    """Return a page's Python blocks as one script, on the lines they have in the page.

    The second value is how many blocks it has.
    """
    lines: list[str] = []
    fence: re.Match[str] | None = None
    previous, runs, blocks = "", False, 0
    for line in text.splitlines():
        kept = ""
        found = FENCE.match(line)
        if fence is None and found:
            fence = found
            runs = is_run(found["info"].strip(), previous)
            blocks += runs
        elif fence is not None and found and found["ticks"] == fence["ticks"]:
            fence = None
        elif fence is not None and runs:
            kept = line.removeprefix(fence["indent"])
        lines.append(kept)
        previous = line
    return "\n".join(lines) + "\n", blocks


def is_run(info: str, line_above: str) -> bool:
    if info.split(" ")[0] != "python":
        return False
    excuse = NOT_RUN.search(info) or NOT_RUN.search(line_above)
    if excuse:
        assert excuse["reason"], f"say why this block is not run: {info or line_above}"
    return not excuse


def pages_with_code() -> list[Path]:
    return [page for page in PAGES if page.exists() and script_of(page.read_text("utf-8"))[1]]


@pytest.mark.parametrize("page", pages_with_code(), ids=lambda page: str(page.relative_to(PROJECT)))
def test_blocks_of_a_page_run(page, tmp_path):
    script, _ = script_of(page.read_text("utf-8"))
    (tmp_path / "page.py").write_text(script, "utf-8")
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "data").symlink_to(DATA)
    (tmp_path / "flights").symlink_to(DATA)

    run = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "MPLBACKEND": "agg"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )

    assert run.returncode == 0, f"{page} (lines as in page.py):\n{run.stdout}"


def test_the_readme_begins_with_an_example():
    script, _ = script_of((PROJECT / "README.md").read_text("utf-8"))
    example = (PROJECT / "examples" / "delays.py").read_text("utf-8")

    assert script.strip().split("\n\n\n\n")[0] == example.split('"""\n\n', 1)[1].strip()


def test_blocks_keep_their_lines_and_marked_ones_are_left_out():
    page = "# T\n```python\na = 1\n```\n```python no-run: a reason\nb\n```\n```bash\nc\n```\n"

    assert script_of(page) == ("\n\na = 1\n\n\n\n\n\n\n\n", 1)


def test_a_block_that_is_not_run_needs_a_reason():
    with pytest.raises(AssertionError, match="say why"):
        script_of("<!-- no-run -->\n```python\nx\n```\n")


def test_the_documentation_has_code_to_run():
    assert pages_with_code()
