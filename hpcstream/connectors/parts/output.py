"""The output directory of a file sink, as one rank of one attempt works in it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from hpcstream.connectors.base import OutputPart
from hpcstream.connectors.parts import directory as part_directory
from hpcstream.errors import ConnectorError


class PartOutput:
    """Publishes and removes parts; rank 0 keeps the manifest of those that we wrote.

    Parameters
    ----------
    directory : str
    extension : str
        Of the names of parts.
    rank, size : int
    attempt : int
        Of a job with checkpoints; 0: of one without.
    """

    def __init__(
        self, directory: str, extension: str, *, rank: int, size: int, attempt: int
    ) -> None:
        self.directory = directory
        self.extension = extension
        self.rank = rank
        self.size = size
        self._attempt = attempt
        self._token = part_directory.new_token()

    def listed(self) -> set[str]:
        """Return the names in the manifest."""
        return set(part_directory.read_manifest(self.directory, self.extension))

    def visible(self) -> set[str]:
        """Return the names of files that look like parts of the format."""
        return set(part_directory.visible_parts(self.directory, self.extension))

    def temporary_name(self, name: str) -> str:
        """Return the name that a part has until it is committed."""
        return part_directory.temporary_name(name, self._attempt, self._token)

    def path(self, name: str) -> str:
        """Return the path of a part."""
        return os.path.join(self.directory, name)

    def take_over(self) -> None:
        """Shut out older attempts of a job with checkpoints: one may still live."""
        if self.rank == 0 and self._attempt:
            part_directory.take_over(self.directory, self.extension, self._attempt)

    def leftovers(self) -> list[str]:
        """Return the uncommitted parts that earlier attempts left in this rank's care."""
        return part_directory.leftovers(self.directory, self.rank, self.size, self._attempt)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; missing ones are ignored."""
        part_directory.remove(self.directory, names)

    def commit(self, parts: Sequence[OutputPart], replaced: Collection[str]) -> list[str]:
        """Rename this rank's share of the parts of all ranks; return which ones.

        Rank 0 lists them, and then removes ``replaced`` parts of an earlier run.
        """
        names = [part["name"] for part in parts]
        if self.rank == 0:
            self._write_manifest(self.listed().union(names))
        own = [part for part in parts if part["rank"] % self.size == self.rank]
        for part in own:
            part_directory.publish(self.directory, part["temporary"], part["name"])
        if self.rank == 0:
            self._drop(set(replaced).difference(names))
        part_directory.sync_directory(self.directory)
        return [part["temporary"] for part in own]

    def remove_after(self, positions: Sequence[Mapping[str, int]]) -> None:
        """Remove visible parts of ours that a checkpoint with these positions does not know."""
        listed = self.listed()
        unknown = {name for name in listed if not part_directory.is_before(name, positions)}
        if unknown:
            self.remove(unknown)
            self._write_manifest(listed - unknown)

    def _drop(self, names: Collection[str]) -> None:
        for name in sorted(names):
            self._check_attempt()
            self.remove([name])
        if names:
            self._write_manifest(self.listed().difference(names))

    def _write_manifest(self, names: set[str]) -> None:
        self._check_attempt()
        part_directory.write_manifest(self.directory, self.extension, names, self._attempt)

    def _check_attempt(self) -> None:
        if self._attempt:
            part_directory.check_attempt(self.directory, self.extension, self._attempt)


def refuse_existing(directory: str, names: Sequence[str]) -> None:
    """Raise `ConnectorError` if there are parts, and ``mode="error"`` says that none may be."""
    if names:
        raise ConnectorError(
            f"mode='error': {directory!r} already has {_shown(names)}; write elsewhere, "
            "or say mode='overwrite' or mode='append'"
        )


def refuse_unlisted(directory: str, extension: str, names: Sequence[str]) -> None:
    """Raise `ConnectorError` if there are parts that may be ours, but that are not listed."""
    if not names:
        return
    path = part_directory.manifest_path(directory, extension)
    raise ConnectorError(
        f"mode='overwrite': {directory!r} has {_shown(names)}, which "
        f"{os.path.basename(path)} does not list: were they copied there without it? They are not "
        "removed, and readers would find them beside the new parts; remove them yourself, write "
        "elsewhere, or say mode='append'"
    )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
