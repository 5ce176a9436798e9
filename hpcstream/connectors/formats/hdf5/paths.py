"""Resolves paths in an HDF5 file, through links, with hints for missing ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hpcstream.connectors.formats.hdf5.types import UnreadableType, field_names
from hpcstream.errors import ConnectorError

_MOST_SHOWN = 8
_MOST_VISITED = 5_000


@dataclass(frozen=True)
class Found:
    """A group, a dataset, or a field of a compound dataset.

    Attributes
    ----------
    node : h5py.Group or h5py.Dataset
    group : h5py.Group
        Where it is: that of the link's target if a link led to it. The root is in itself.
    name : str
        In that group.
    fields : tuple of str
        From a dataset's rows inwards.
    """

    node: Any
    group: Any
    name: str
    fields: tuple[str, ...] = ()

    @property
    def is_group(self) -> bool:
        """Whether it is a group."""
        return _is_group(self.node)

    @property
    def where(self) -> str:
        """The file and the path in it, for messages."""
        return f"{self.node.file.filename!r}: {'/'.join((str(self.node.name), *self.fields))}"


def find(start: Any, path: str) -> Found:
    """Return the object at a path, relative to a group or, with a leading slash, to the root.

    A compound dataset is walked into as if it were a group of its fields.

    Raises
    ------
    ConnectorError
        Nothing is there, or a link that leads nowhere.
    """
    group = start.file["/"] if path.startswith("/") else start
    found = Found(group, group, "")
    names = [name for name in path.split("/") if name not in ("", ".")]
    for i, name in enumerate(names):
        if not found.is_group:
            return _field(found, tuple(names[i:]))
        found = _member(found.node, name)
    return found


def datasets_with_rows(group: Any) -> list[Found]:
    """Return the datasets in a group that have rows, under their names there.

    Raises
    ------
    ConnectorError
        A link leads nowhere.
    """
    found = ((name, _member(group, name)) for name in group)
    return [replace(item, name=name) for name, item in found if _has_rows(item.node)]


def groups_with_rows(file: Any) -> str:
    """Return in words the groups of a file whose datasets have rows."""
    shown = []
    for group in _groups(file):
        inside = ((name, group.get(name)) for name in group)
        lengths = {
            name: node.shape[0] for name, node in inside if node is not None and _has_rows(node)
        }
        if lengths:
            shown.append(f"{group.name} ({_in_words(lengths)})")
        if len(shown) > _MOST_SHOWN:
            return "; ".join([*shown[:_MOST_SHOWN], "and more"])
    return "; ".join(shown)


def paths_named(file: Any, name: str) -> list[str]:
    """Return the paths of datasets with rows that have this name, in any group."""
    there = ((group, group.get(name)) for group in _groups(file) if name in group)
    return [f"{group.name.rstrip('/')}/{name}" for group, node in there if _has_rows(node)]


def _in_words(lengths: dict[str, int]) -> str:
    said = [f"{name}: {n_rows} rows" for name, n_rows in list(lengths.items())[:_MOST_SHOWN]]
    return ", ".join(said + ["..."] * (len(lengths) > _MOST_SHOWN))


def _groups(file: Any) -> Iterator[Any]:
    """Yield the groups of a file, each once, outer ones first."""
    waiting, seen = [file["/"]], {file["/"].id}
    visited = 0
    while waiting:
        group = waiting.pop(0)
        yield group
        for name in group:
            visited += 1
            if visited > _MOST_VISITED:
                return
            child = group.get(name)
            if child is not None and _is_group(child) and child.id not in seen:
                seen.add(child.id)
                waiting.append(child)


def _is_group(node: Any) -> bool:
    import h5py

    return isinstance(node, h5py.Group)


def _has_rows(node: Any) -> bool:
    import h5py

    return isinstance(node, h5py.Dataset) and bool(node.shape)


def _member(group: Any, name: str) -> Found:
    import h5py

    link = group.get(name, getlink=True)
    where = f"{group.file.filename!r}"
    path = f"{group.name.rstrip('/')}/{name}"
    if link is None:
        near = difflib.get_close_matches(name, list(group), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        rows = groups_with_rows(group.file)
        there = f"; groups that have rows: {rows}" if rows else ""
        inside = ", ".join(sorted(group)) or "nothing"
        raise ConnectorError(f"{where} has no {path!r}; in {group.name!r} is {inside}{hint}{there}")
    try:
        node = group.get(name)
    except (KeyError, OSError, RuntimeError):
        node = None
    if node is None:
        to = f" to {link.path!r}" if hasattr(link, "path") else ""
        to += f" in {link.filename!r}" if isinstance(link, h5py.ExternalLink) else ""
        raise ConnectorError(f"{where}: {path} is a link{to}, which leads nowhere")
    if isinstance(link, h5py.ExternalLink):
        return find(node.file["/"], "/" + link.path)
    if isinstance(link, h5py.SoftLink):
        return find(group, link.path)
    return Found(node, group, name)


def _field(found: Found, fields: tuple[str, ...]) -> Found:
    for i, name in enumerate(fields):
        try:
            names = field_names(found.node, fields[:i])
        except UnreadableType:
            names = ()
        if name not in names:
            outer = replace(found, fields=fields[:i]).where
            inside = f"its fields are {', '.join(names)}" if names else "it has no fields"
            raise ConnectorError(f"{outer} is a dataset without {name!r}; {inside}")
    return replace(found, fields=fields)
