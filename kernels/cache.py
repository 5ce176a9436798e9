"""The cache of compiled kernels: one folder for each version of the source.

Numba's cache detects changes of a function's own file only. A caller in another file keeps
the inlined old code, and an index that refers to a removed type cannot even be loaded. So
the folder's name is a digest of all kernel sources and of everything else on which Numba's
lookup depends: after any change, and for another installation, another folder is used.

Numba unpickles the files that it finds. So a folder is used only if its owner is this user,
root or the owner of the kernels' source, and if no other user can write to it. A read-only
folder, as administrators and images provide it, is copied to one that this user can write.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import llvmlite.binding as llvm
import numba

_HERE = Path(__file__).parent
_PREFIX = "hpcstream-kernels-"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_TURNS = threading.Lock()
"""Held while Numba's setting, which is that of the process, is ours."""


@functools.cache
def digest() -> str:
    """Return 16 digits that change with the kernel sources and with Numba's environment.

    The environment is the versions of Numba and Python, the processor and its features, and
    path and modification time of each source.
    """
    features = llvm.get_host_cpu_features().flatten()
    parts = (numba.__version__, sys.version, llvm.get_host_cpu_name(), features, _HERE.resolve())
    state = hashlib.sha256("\n".join(map(str, parts)).encode(errors="surrogateescape"))
    for path in sorted(_HERE.glob("*.py")):
        state.update(f"{path.name} {path.stat().st_mtime_ns}".encode())
        state.update(path.read_bytes())
    return state.hexdigest()[:16]


def folder() -> Path:
    """Return the folder: in ``NUMBA_CACHE_DIR``, beside the source, or in the user's cache.

    The first of these that is writable for this user only, otherwise one among the temporary
    files.
    """
    name = _PREFIX + digest()
    for directory in _candidates():
        if _can_be_written(directory) and _is_ours_alone(directory / name):
            return directory / name
    return _temporary() / name


def _candidates() -> list[Path]:
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "hpcstream"
    given = os.environ.get("NUMBA_CACHE_DIR")
    return [Path(given) if given else _HERE / "__pycache__", home]


def _can_be_written(directory: Path) -> bool:
    while not directory.exists():
        directory = directory.parent
    return directory.is_dir() and os.access(directory, os.W_OK)


def _is_ours_alone(path: Path) -> bool:
    """Whether only trusted users can have written to a folder and its subfolders."""
    try:
        return all(_is_safe(entry.lstat()) for entry in (path, *_subfolders(path)))
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _is_safe(found: os.stat_result) -> bool:
    trusted = {os.getuid(), 0, _HERE.stat().st_uid}
    shared = found.st_mode & _OTHERS_WRITE
    return stat.S_ISDIR(found.st_mode) and found.st_uid in trusted and not shared


def _subfolders(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.is_dir()]


def _temporary() -> Path:
    """Return a folder of this user among the temporary files, created if necessary."""
    directory = Path(tempfile.gettempdir()) / f"hpcstream-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    return directory if _is_ours_alone(directory) else _private()


@functools.cache
def _private() -> Path:
    return Path(tempfile.mkdtemp(prefix="hpcstream-"))


@contextlib.contextmanager
def own_cache() -> Iterator[None]:
    """Cache a kernel that is decorated inside this block in `folder`."""
    with _TURNS:
        goal = ready_folder()
        settings = vars(numba.config)
        before = settings["CACHE_DIR"]
        settings["CACHE_DIR"] = str(goal)
        try:
            yield
        finally:
            settings["CACHE_DIR"] = before
            _keep_to_the_owner(goal)


@functools.cache
def ready_folder() -> Path:
    """Return `folder`, made if it is not there; looked for once in a process."""
    goal = folder()
    if not goal.is_dir():
        _make(goal)
    return goal


@functools.cache
def _keep_to_the_owner(goal: Path) -> None:
    """Remove the write permission of other users from Numba's subfolder, which is there by now."""
    with contextlib.suppress(OSError):
        for entry in _subfolders(goal):
            mode = entry.stat().st_mode
            if mode & _OTHERS_WRITE and entry.stat().st_uid == os.getuid():
                entry.chmod(stat.S_IMODE(mode) & ~_OTHERS_WRITE)


def _make(goal: Path) -> None:
    """Make the folder; copy the kernels of a read-only one if there is any."""
    _drop_others(goal)
    is_for_others_too = goal.parent == _candidates()[0]  # readable
    with contextlib.suppress(OSError):  # Numba reports the error, or caches nothing
        goal.parent.mkdir(parents=True, exist_ok=True)
        goal.mkdir(mode=0o755 if is_for_others_too else 0o700, exist_ok=True)
        for directory in _candidates():
            ready = directory / goal.name
            if ready != goal and ready.is_dir() and _is_ours_alone(ready):
                shutil.copytree(ready, goal, dirs_exist_ok=True)
                return


def _drop_others(goal: Path) -> None:
    """Remove the folders of earlier versions of this checkout or installation."""
    if goal.parent == _HERE / "__pycache__":
        for old in goal.parent.glob(f"{_PREFIX}*"):
            shutil.rmtree(old, ignore_errors=True)
