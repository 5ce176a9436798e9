"""Checks datasets whose values are in other files, or need filters that are missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from hpcstream.errors import ConnectorError

_PLUGINS = {
    305: "lzo",
    307: "bzip2",
    32000: "lzf",
    32001: "Blosc",
    32004: "LZ4",
    32008: "Bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32019: "JPEG",
    32023: "SPERR",
    32024: "SZ3",
    32026: "Blosc2",
}
_SOME_CHUNKS = 1_000


def check_filters(dataset: Any) -> None:
    """Raise `ConnectorError` if values are compressed by a filter that is missing."""
    import h5py

    plan = dataset.id.get_create_plist()
    for index in range(plan.get_nfilters()):
        number, _, _, said = plan.get_filter(index)
        if h5py.h5z.filter_avail(number) or not _is_applied(dataset, index):
            continue
        name = _PLUGINS.get(number) or said.decode(errors="replace") or "of an unknown name"
        raise ConnectorError(
            f"{dataset.file.filename!r}: {dataset.name} is compressed by HDF5 filter {number} "
            f"({name}), which is not there; if it is one of those of the package hdf5plugin: "
            "pip install hdf5plugin, and write `import hdf5plugin` at the top of the script"
        )


def check_sources(dataset: Any) -> None:
    """Raise `ConnectorError` if values are in files that are missing or too short.

    HDF5 would return fill values instead.
    """
    if dataset.is_virtual:
        _check_virtual(dataset)
    for name, *_ in dataset.external or ():
        if not any(os.path.exists(path) for path in _candidates(dataset, os.fsdecode(name))):
            raise ConnectorError(
                f"{_where(dataset)} has its values in the file {os.fsdecode(name)!r}, which is "
                "not there"
            )


def _is_applied(dataset: Any, index: int) -> bool:
    """Whether a filter was applied to any chunk; a chunk may omit an optional filter."""
    n_chunks = dataset.id.get_num_chunks()
    if n_chunks > _SOME_CHUNKS:
        return True
    masks = (dataset.id.get_chunk_info(i).filter_mask for i in range(n_chunks))
    return any(not mask >> index & 1 for mask in masks)


def _check_virtual(dataset: Any) -> None:
    import h5py

    for source in dataset.virtual_sources():
        if "%" in source.file_name:
            continue  # as many files as there are
        if source.file_name == ".":
            _check_source(dataset, source, dataset.file)
            continue
        path = next(filter(os.path.exists, _candidates(dataset, source.file_name)), None)
        if path is None:
            raise ConnectorError(
                f"{_where(dataset)} is virtual: its rows are in {source.file_name!r}, which is "
                "not there"
            )
        try:
            with h5py.File(path, "r", locking=False) as file:
                _check_source(dataset, source, file)
        except OSError as error:
            raise ConnectorError(
                f"{_where(dataset)} is virtual: its source {path!r} cannot be read ({error})"
            ) from error


def _check_source(dataset: Any, source: Any, file: Any) -> None:
    import h5py

    found = file.get(source.dset_name)
    wanted = source.src_space
    if found is None:
        raise ConnectorError(
            f"{_where(dataset)} is virtual: {source.file_name!r} has no {source.dset_name!r}"
        )
    check_filters(found)
    if wanted.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not wanted.get_select_npoints() > 0:
        return
    _, last = wanted.get_select_bounds()
    if any(end >= size for end, size in zip(last, found.shape, strict=True)):
        raise ConnectorError(
            f"{_where(dataset)} is virtual: it needs rows up to {tuple(end + 1 for end in last)} "
            f"of {source.dset_name!r} in {source.file_name!r}, which has {found.shape}"
        )


def _candidates(dataset: Any, name: str) -> Iterator[str]:
    """Yield the paths at which HDF5 looks for a file that a dataset names."""
    yield from (
        os.path.join(folder, name)
        for folder in (
            os.path.dirname(os.path.realpath(dataset.file.filename)),
            os.path.dirname(dataset.file.filename),
            os.environ.get("HDF5_VDS_PREFIX", ""),
            "",
        )
    )


def _where(dataset: Any) -> str:
    return f"{dataset.file.filename!r}: {dataset.name}"
