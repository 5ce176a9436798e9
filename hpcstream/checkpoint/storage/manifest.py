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
        The number of its task in the plan, and its index in the task's chain.
    id : str
        Identity by which a later plan finds it.
    role : str
        ``"local"``, ``"final"`` or empty: operators of one id share a state.
    signature : str
        What it does; only an operator with the same signature takes over its state.
    label : str
        What it does, for people.
    ranks : list of int
        The ranks that ran it.
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
    """The description of a complete checkpoint.

    Attributes
    ----------
    number, attempt, round : int
    size : int
        Number of ranks that wrote it.
    job : str
        Its name: a job continues only from its own checkpoints. Empty: of any job.
    fingerprint : str
        Of the plan on that number of ranks; equal plans restore bit by bit.
    kind : str
        ``"checkpoint"``, ``"savepoint"`` (kept until removed by hand) or ``"stop"``.
    finished : bool
        The job had read all its input.
    files : list of WrittenFile
        By rank.
    shared : mapping of str to WrittenFile
        Files of earlier checkpoints that hold segments of this one's state, by their path
        in the checkpoint directory, as in ``"ckpt-000040/rank-00001.h5"``.
    operators : list of StoredOperator
    sources : mapping of str to str
        What each source reads, by its id.
    sinks : mapping
        By the id of each sink: the ``parts`` that this checkpoint commits, and the
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
        value["shared"] = {path: file.to_json() for path, file in self.shared.items()}
        return {"format": FORMAT_VERSION, **value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """Return what `to_json` wrote."""
        fields = {name: item for name, item in value.items() if name != "format"}
        fields["files"] = [WrittenFile.from_json(file) for file in value["files"]]
        shared = value["shared"].items()
        fields["shared"] = {path: WrittenFile.from_json(file) for path, file in shared}
        fields["operators"] = [StoredOperator(**operator) for operator in value["operators"]]
        return cls(**fields)


def write_manifest(directory: str, manifest: Manifest) -> None:
    """Write the manifest into the directory of a checkpoint, which exists from now on."""
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
        It is missing, or not what was written.
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
