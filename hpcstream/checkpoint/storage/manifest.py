"""The manifest of a checkpoint: the file that makes it exist, written last."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hpcstream.checkpoint.format import (
    FORMAT_VERSION,
    CheckpointError,
    DamagedCheckpoint,
    WrittenFile,
    sync_directory,
)

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class StoredOperator:
    """One operator of the plan whose state a checkpoint holds.

    Attributes
    ----------
    task, place : int
        Its number in the plan: task, and place in the task's chain.
    id : str
        Name by which a later plan finds it.
    role : str
        ``"local"``, ``"final"`` or empty: operators of one id share a state.
    signature : str
        What it does; state is handed on to an operator that does the same.
    label : str
        What it does, for people.
    ranks : list of int
        Who ran it.
    state_bytes : int
        On all ranks together.
    """

    task: int
    place: int
    id: str
    role: str
    signature: str
    label: str
    ranks: Sequence[int]
    state_bytes: int = 0

    @property
    def path(self) -> str:
        """Its section in a rank's file."""
        return f"{self.task}/{self.place}"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is known of a whole checkpoint.

    Attributes
    ----------
    number, attempt, round : int
    size : int
        Number of ranks that wrote it.
    job : str
        Its name: a job goes on only from checkpoints of its own. Empty: of any job.
    fingerprint : str
        Of the plan on that number of ranks; equal plans restore bit by bit.
    kind : str
        ``"checkpoint"``, ``"savepoint"`` (kept until removed by hand) or ``"stop"``.
    finished : bool
        The job had read all its input: nothing is left to do.
    files : list of WrittenFile
        By rank.
    shared : mapping of str to WrittenFile
        Files of earlier checkpoints that hold pieces of this one's state, by their
        place in the checkpoint directory, as in ``"ckpt-000040/rank-00001.h5"``.
    operators : list of StoredOperator
    sources : mapping of str to str
        For each source, by id, what it reads.
    sinks : mapping
        For each sink, by id: the ``parts`` that this checkpoint commits, and the
        ``positions`` of its instances, in their order.
    facts : mapping
        For people: seconds it took, bytes, rows so far, watermark.
    """

    number: int
    attempt: int
    round: int
    size: int
    fingerprint: str
    job: str = ""
    kind: str = "checkpoint"
    finished: bool = False
    files: Sequence[WrittenFile] = ()
    shared: Mapping[str, WrittenFile] = field(default_factory=dict)
    operators: Sequence[StoredOperator] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    sinks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        value = asdict(self)
        value["files"] = [file.to_json() for file in self.files]
        value["shared"] = {place: file.to_json() for place, file in self.shared.items()}
        return {"format": FORMAT_VERSION, **value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """Return what `to_json` wrote."""
        fields = {name: item for name, item in value.items() if name != "format"}
        fields["files"] = [WrittenFile.from_json(file) for file in value["files"]]
        shared = value["shared"].items()
        fields["shared"] = {place: WrittenFile.from_json(file) for place, file in shared}
        fields["operators"] = [StoredOperator(**one) for one in value["operators"]]
        return cls(**fields)


def write_manifest(directory: str, manifest: Manifest) -> None:
    """Write the manifest into a checkpoint's directory: from now on the checkpoint exists."""
    body = json.dumps(manifest.to_json(), sort_keys=True)
    text = json.dumps({"checksum": _digest(body), "body": body})
    path = os.path.join(directory, MANIFEST)
    beside = f"{path}.tmp"
    with open(beside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_directory(directory)


def read_manifest(directory: str) -> Manifest:
    """Return the manifest of a checkpoint.

    Raises
    ------
    DamagedCheckpoint
        There is none, or it is not what was written.
    CheckpointError
        Another version wrote it.
    """
    path = os.path.join(directory, MANIFEST)
    try:
        with open(path, encoding="utf-8") as file:
            outer = json.load(file)
        body = outer["body"]
        intact = outer["checksum"] == _digest(body)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"{path}: {error}") from error
    if not intact:
        raise DamagedCheckpoint(f"{path}: not what was written")
    value = json.loads(body)
    if value["format"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: written in format {value['format']}; this version reads {FORMAT_VERSION}"
        )
    return Manifest.from_json(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
