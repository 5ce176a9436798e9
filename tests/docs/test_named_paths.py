"""Pages for contributors name files and names that there are."""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.unit.source_tree import PROJECT, all_files, package_files
from tests.unit.test_architecture import LAYERS

CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.-]+(/[\w.-]+)*/?")
NAME = re.compile(r"(?:[A-Za-z]\w*\.)*([A-Za-z]\w*)(\(\))?")
PAGES = ["CONTRIBUTING.md", "docs/design.md", "docs/glossary.md"]
BELOW = {"CONTRIBUTING.md": ("",)}
BELOW_THE_PACKAGE = ("", "hpcstream/")
EXPLAINED_FROM = 54
"""Column of the picture of the layers from which on words explain."""
OF_OTHERS = {
    "memfd_create",
    "MPI_Win_allocate_shared",
    "Idup",
    "Ineighbor_alltoallv",
    "Iallreduce",
    "Ialltoallv",
    "make",
}
"""Names of the system, of MPI and of make."""


def code_of(text: str) -> list[str]:
    """Return what stands in backticks, outside of blocks."""
    return CODE.findall(re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


def paths_in(text: str) -> list[str]:
    return [word for word in code_of(text) if "/" in word and PATH.fullmatch(word)]


def names_in(text: str) -> list[str]:
    return [found[1] for word in code_of(text) if (found := NAME.fullmatch(word))]


@cache
def known_names() -> frozenset[str]:
    texts = [file.text for file in all_files() if file.path.name != "test_named_paths.py"]
    return frozenset(re.findall(r"\w+", "\n".join(texts)))


@pytest.mark.parametrize("page", PAGES)
def test_paths_that_a_page_names_are_there(page):
    below = BELOW.get(page, BELOW_THE_PACKAGE)
    found = paths_in((PROJECT / page).read_text("utf-8"))
    assert [path for path in found if not any((PROJECT / at / path).exists() for at in below)] == []


@pytest.mark.parametrize("page", PAGES)
def test_names_that_a_page_says_are_in_the_code(page):
    found = names_in((PROJECT / page).read_text("utf-8"))
    assert sorted({*found} - known_names() - OF_OTHERS) == []


def test_the_picture_of_the_layers_has_every_folder():
    picture = (PROJECT / "docs/design.md").read_text("utf-8").split("```")[1]
    drawn = {word for line in picture.splitlines() for word in line[:EXPLAINED_FROM].split()}
    parts = {part for parts in LAYERS for part in parts.split()} - {"_version"}
    rooms = {file.module.split(".")[2] for file in package_files() if file.module.count(".") > 2}
    assert sorted((parts | rooms) - drawn) == []


def test_the_ten_commonest_changes_name_their_files():
    rows = re.findall(r"^\| \[.*\|$", (PROJECT / "CONTRIBUTING.md").read_text("utf-8"), re.M)
    assert len([row for row in rows if paths_in(row)]) >= 10


def test_paths_and_names_are_found():
    page = "Of `a/b.py`, `c/` and `d`; `Some.name()`, `x = 1`.\n```bash\n`e/f`\n```\n`g/<h>/i`"

    assert paths_in(page) == ["a/b.py", "c/"]
    assert names_in(page) == ["d", "name"]
