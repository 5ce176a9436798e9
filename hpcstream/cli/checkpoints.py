"""``hpcstream checkpoints`` and ``hpcstream savepoint``: inspect a checkpoint directory."""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

from hpcstream.checkpoint.format import CheckpointError, CheckpointFile
from hpcstream.checkpoint.lease import LOCK
from hpcstream.checkpoint.storage.directory import (
    REQUEST,
    SAVEPOINT,
    CheckpointStore,
    Stored,
    verify,
)
from hpcstream.checkpoint.storage.manifest import Manifest, read_manifest
from hpcstream.columns.event_time import MAX_TIME, MIN_TIME
from hpcstream.log import complain
from hpcstream.quantities import format_bytes


def checkpoints(options: argparse.Namespace) -> int:
    """Run ``hpcstream checkpoints ls|show|verify|rm``."""
    store = _store(options.directory)
    actions = {"ls": _list, "show": _show, "verify": _verify, "rm": _remove}
    return actions[options.action](store, options.number)


def savepoint(options: argparse.Namespace) -> int:
    """Ask a running job for a savepoint, and wait for it."""
    store = _store(options.directory)
    lock = os.path.join(store.directory, LOCK)
    if not os.path.exists(lock):
        raise CheckpointError(f"no job runs in {store.directory!r}")
    before = {entry.number for entry in store.stored()}
    path = os.path.join(store.directory, REQUEST)
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        json.dump({"stop": options.stop}, file)
    os.replace(f"{path}.tmp", path)
    give_up = time.monotonic() + options.timeout
    runs = True
    while runs and time.monotonic() < give_up:
        runs = os.path.exists(lock)  # read first: the last checkpoint of the job may be a savepoint
        for entry in store.stored():
            if entry.kind == SAVEPOINT and entry.number not in before:
                print(entry.path)
                return 0
        time.sleep(0.1)
    store.take_request()  # else the next start would take it
    if not runs:
        raise CheckpointError(f"the job in {store.directory!r} ended without a savepoint")
    raise CheckpointError(
        f"no savepoint within {options.timeout:g} s: does the job in {store.directory!r} still run?"
    )


def _store(directory: str) -> CheckpointStore:
    store = CheckpointStore(directory)
    if not os.path.isdir(store.directory):
        raise CheckpointError(f"{store.directory!r}: there is no such directory")
    return store


def _chosen(store: CheckpointStore, number: int | None) -> list[Stored]:
    """Return the checkpoint of that number, or all of them, newest first."""
    found = [entry for entry in store.stored() if number is None or entry.number == number]
    if not found:
        which = "checkpoint" if number is None else f"checkpoint {number}"
        raise CheckpointError(f"there is no {which} in {store.directory!r}")
    return found


def _list(store: CheckpointStore, number: int | None) -> int:
    counting = store.candidates()
    for entry in _chosen(store, number):
        void = "" if entry in counting else "  void: a later start went back behind it"
        try:
            print(_line(entry, read_manifest(entry.path)) + void)
        except CheckpointError as error:
            print(f"{os.path.basename(entry.path)}  DAMAGED: {error}")
    return 0


def _line(stored: Stored, manifest: Manifest) -> str:
    facts = manifest.facts
    ranks = f"{manifest.size} rank{'s' if manifest.size > 1 else ''}"
    state = "  finished" if manifest.finished else ""
    return (
        f"{os.path.basename(stored.path)}  {facts['created']}  round {manifest.round}  {ranks}  "
        f"{facts['rows_in']:,} rows read  {format_bytes(facts['bytes'])}  "
        f"{facts['seconds']:.2f} s, pause {1e3 * facts['pause_s']:.1f} ms{state}"
    )


def _show(store: CheckpointStore, number: int | None) -> int:
    stored = _chosen(store, number)[0]
    manifest = read_manifest(stored.path)
    print(f"{stored.path}: job {manifest.job!r}, attempt {manifest.attempt}")
    print(_line(stored, manifest))
    print(f"watermark {_time(manifest.facts['watermark'])}")
    print("\noperators")
    for operator in manifest.operators:
        role = f" ({operator.role})" if operator.role else ""
        print(f"  {format_bytes(operator.state_bytes):>10}  {operator.label}{role}")
    print("\nsinks")
    for name, record in manifest.sinks.items():
        rows = sum(part.get("rows", 0) for part in record["parts"])
        print(f"  {name}: {len(record['parts'])} parts, {rows:,} rows committed with it")
    print("\nsources")
    for rank, sources in enumerate(_sources(stored, manifest)):
        for facts in sources:
            _show_source(rank, facts)
    return 0


def _show_source(rank: int, facts: dict[str, Any]) -> None:
    done = sum(split["done"] for split in facts["splits"])
    print(
        f"  rank {rank}: {facts['id']}: {facts['rows']:,} rows, {done} of {len(facts['splits'])} "
        f"splits done, watermark {_time(facts['watermark'])}"
    )
    for split in facts["splits"]:
        if (split["rows"] or split["position"] is not None) and not split["done"]:
            name = split["split"]["id"].encode(errors="backslashreplace").decode()
            print(f"    {name}: {_where(split)}")


def _sources(stored: Stored, manifest: Manifest) -> list[list[dict[str, Any]]]:
    found = []
    for written in manifest.files:
        with CheckpointFile(os.path.join(stored.path, written.name), written) as file:
            tasks = json.loads(file.arrays("tasks")["facts"].tobytes())
        found.append([facts["source"] for facts in tasks.values() if "source" in facts])
    return found


def _verify(store: CheckpointStore, number: int | None) -> int:
    status = 0
    for stored in _chosen(store, number):
        name = os.path.basename(stored.path)
        for file, result in verify(stored.path):
            if isinstance(result, CheckpointError):
                status = 1
                print(f"{name}/{file}: DAMAGED: {result}")
            else:
                print(f"{name}/{file}: {format_bytes(result)} checked, whole")
    return status


def _remove(store: CheckpointStore, number: int | None) -> int:
    if number is None:
        complain("error: say which one: its number, as `ls` shows it")
        return 2
    for stored in _chosen(store, number):
        store.discard(stored.path)
        print(f"removed {stored.path}")
    return 0


def _time(mark: int | None) -> str:
    if mark is None or mark == MIN_TIME:
        return "not known yet"
    return "end of stream" if mark == MAX_TIME else str(mark)


def _where(split: dict[str, Any]) -> str:
    """Return the position of a split, as text."""
    at = f"row {split['rows']:,}"
    return at if split["position"] is None else f"{at}, position {split['position']!r}"
