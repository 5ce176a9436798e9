"""Checks whether a restarted job still reads the same input.

A position in a source is valid only while the rows before it are those that were read. A
source keeps its position if the plan still has it and, if it reads files, if these are found
again with the same bytes: under any spelling of their paths, or moved together to another
directory. Else the job does not start: it would read the rows from the beginning, and the
results that windows hold and sinks have committed would count them twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hpcstream.checkpoint.format import CheckpointError
from hpcstream.checkpoint.storage.manifest import Manifest
from hpcstream.connectors.base import Split
from hpcstream.connectors.files.fingerprint import FileFingerprint, change_of, fingerprint_of
from hpcstream.connectors.files.paths import location_of
from hpcstream.connectors.files.source import FileSource
from hpcstream.errors import ConnectorError
from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes
from hpcstream.log import say
from hpcstream.runtime.sources.split_progress import SplitProgress


def assigned_sources(
    stored: Mapping[str, str], names: Mapping[int, str], origins: Mapping[int, str]
) -> dict[int, str]:
    """Return the source of a checkpoint that each source of a plan continues, by task.

    It is the source of the same name if that reads in the same way; else the only source left
    that reads like it, if the plan, too, has only one such source left.

    Parameters
    ----------
    stored : mapping of str to str
        Name of each source of the checkpoint, and how it is read.
    names, origins : mapping of int to str
        The same of the plan.
    """
    found = {t: name for t, name in names.items() if stored.get(name) == origins[t]}
    left = {name: kind for name, kind in stored.items() if name not in found.values()}
    for task, kind in origins.items():
        rivals = [t for t in names if t not in found and origins[t] == kind]
        candidates = [name for name, other in left.items() if other == kind]
        if rivals == [task] and len(candidates) == 1:
            found[task] = candidates[0]
            del left[candidates[0]]
    return found


@dataclass
class KnownFile:
    """A file that a checkpoint has read, wholly or in part.

    Attributes
    ----------
    facts : FileFingerprint or None
        None: the file grows.
    is_begun, is_done : bool
        Whether any, and whether all of its rows were read.
    """

    facts: FileFingerprint | None
    is_begun: bool = False
    is_done: bool = True

    def add(self, *, is_begun: bool, is_done: bool) -> None:
        """Add a part of the file."""
        self.is_begun = self.is_begun or is_begun
        self.is_done = self.is_done and is_done


def known_files(splits: Iterable[SplitProgress]) -> dict[str, KnownFile]:
    """Return the files of splits, by path."""
    files: dict[str, KnownFile] = {}
    for progress in splits:
        facts: Any = progress.split.info.get("file")
        file = files.setdefault(str(progress.split.info["path"]), KnownFile(facts))
        file.add(is_begun=progress.done or progress.rows > 0, is_done=progress.done)
    return files


def merged(shares: Iterable[Mapping[str, KnownFile]]) -> dict[str, KnownFile]:
    """Return the files of all ranks together."""
    files: dict[str, KnownFile] = {}
    for share in shares:
        for path, own in share.items():
            file = files.setdefault(path, KnownFile(own.facts))
            file.add(is_begun=own.is_begun, is_done=own.is_done)
    return files


@dataclass(frozen=True)
class Comparison:
    """The files of a checkpoint beside those that exist now.

    Attributes
    ----------
    moved : dict of str to str
        Present path of each file that was found again, by its path before.
    facts : dict of str to FileFingerprint
        Of files whose time or path has changed, by present path.
    changed : dict of str to str
        How files differ from before, by present path.
    gone, added : list of str
    """

    moved: dict[str, str] = field(default_factory=dict)
    facts: dict[str, FileFingerprint] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)


def compared(
    known: Mapping[str, KnownFile], found: Sequence[str], *, look: bool = True
) -> Comparison:
    """Compare files; raises `ConnectorError` if one cannot be read.

    ``look``: whether to look for changes of their contents, too.
    """
    real = {location_of(path): path for path in found}
    here = {path: real[location_of(path)] for path in known if location_of(path) in real}
    moved = here | _moved_together(known, found, here)
    result = Comparison(moved)
    for before, now in moved.items():
        facts = known[before].facts
        if facts is None or not look:
            continue
        change = change_of(now, facts, is_elsewhere=before not in here)
        if change is not None:
            result.changed[now] = change
        elif before not in here or os.stat(now).st_mtime_ns != facts["mtime"]:
            result.facts[now] = fingerprint_of(now)
    result.gone.extend(path for path in known if path not in moved)
    taken = set(moved.values())
    result.added.extend(path for path in found if path not in taken)
    return result


def _moved_together(
    known: Mapping[str, KnownFile], found: Sequence[str], here: Mapping[str, str]
) -> dict[str, str]:
    """Return the files that were moved to another directory with the same names below it."""
    missing = [path for path in known if path not in here]
    if not missing:
        return {}
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in known])
    names = {os.path.relpath(os.path.abspath(path), root): path for path in missing}
    free = {os.path.abspath(path): path for path in found if path not in here.values()}
    first = next(iter(names))
    best: dict[str, str] = {}
    for path in free:
        if path.endswith(f"{os.sep}{first}"):
            base = path.removesuffix(first)
            below = {
                before: free[base + name] for name, before in names.items() if base + name in free
            }
            best = max(best, below, key=len)
    return best


def objection(
    known: Mapping[str, KnownFile], result: Comparison, source: str, *, finished: bool
) -> str | None:
    """Return why a job cannot continue with the files that exist now; None: it can."""
    if result.changed and not finished:
        path, what = next(iter(result.changed.items()))
        more = f" (and {len(result.changed) - 1} more)" if len(result.changed) > 1 else ""
        return f"{path!r}{more} has changed since the checkpoint: {what}"
    if result.gone and not result.moved and result.added:
        return (
            f"{source} reads other files than before: {result.gone[0]!r} is not among them, "
            f"{result.added[0]!r} is new"
        )
    needed = [path for path in result.gone if not known[path].is_done]
    if needed and not finished:
        state = "was read in part" if known[needed[0]].is_begun else "is not read yet"
        more = f" (and {len(needed) - 1} more)" if len(needed) > 1 else ""
        return f"{needed[0]!r}{more}, which {state}, is not among the files of {source} any more"
    return None


def remark(result: Comparison, source: str) -> str | None:
    """Return a message about changes that make no difference to the job."""
    remarks = []
    if result.added:
        n_files = _files(len(result.added))
        remarks.append(
            f"{n_files} added to {source} since the job began, as {result.added[0]!r}, "
            "and not read: a job reads the files that were there when it began"
        )
    if result.gone:
        remarks.append(f"{_files(len(result.gone))} read already and gone, as {result.gone[0]!r}")
    return "; ".join(remarks) or None


def _files(number: int) -> str:
    return "1 file was" if number == 1 else f"{number} files were"


def found_again(
    source: FileSource, share: Sequence[SplitProgress], manifest: Manifest, comm: Communicator
) -> Procedure[Comparison]:
    """Find the files of a checkpoint among those of a source, on rank 0 for all. Collective.

    Parameters
    ----------
    share : sequence of SplitProgress
        The splits of the checkpoint that this rank contributes.

    Raises
    ------
    CheckpointError
        Files have changed or are gone, so that positions in them are invalid.
    """
    own = {path: asdict(file) for path, file in known_files(share).items()}
    texts = yield from gather_bytes(comm, json.dumps(own).encode())
    answer, error = "", None
    if comm.rank == 0:
        shares = [json.loads(text) for text in texts if text]
        known = merged({p: KnownFile(**f) for p, f in share.items()} for share in shares)
        try:
            answer = json.dumps(asdict(_checked(source, known, manifest)))
        except Exception as failure:
            error = failure
    yield from raise_together(error, comm)
    (first, *_) = yield from gather_bytes(comm, answer.encode())
    return Comparison(**json.loads(first))


def _checked(source: FileSource, known: Mapping[str, KnownFile], manifest: Manifest) -> Comparison:
    try:
        found = source.files()
    except ConnectorError:
        if not manifest.finished:
            raise
        found = list(known)  # input may go when the job is finished
    result = compared(known, found, look=not manifest.finished)
    why = objection(known, result, source.call, finished=manifest.finished)
    if why is not None:
        raise CheckpointError(
            f"checkpoint {manifest.number} of job {manifest.job!r}: {why}; positions in it mean "
            "nothing any more: put the files back as they were, or start afresh with "
            "restore_from=None"
        )
    text = remark(result, source.call)
    if text is not None:
        say(text)
    return result


def relocated(split: Split, result: Comparison) -> Split:
    """Return a split with the present path and facts of its file."""
    before = str(split.info["path"])
    now = result.moved.get(before, before)
    info = {**split.info, "path": now}
    if now in result.facts:
        info["file"] = result.facts[now]
    name = now + split.id.removeprefix(before) if split.id.startswith(before) else split.id
    return Split(name, info, split.n_rows, split.first_time, split.last_time)
