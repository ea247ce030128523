"""Drafts: a folder is written beside its place, and moved there when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.locks import lock_file

LOCK_FILE = "writer.lock"
FULL_BYTES = 4 * 2**20  # what a full disk may have left


class DiskError(KTDNError):
    """A disk is full, or cannot be written to."""


@contextlib.contextmanager
def disk_failures_as_errors(path: Path, hint: str) -> Iterator[None]:
    """Turns a disk's failures into one-line errors."""
    try:
        yield
    except (OSError, lmdb.Error) as error:
        number = getattr(error, "errno", None)
        text = os.strerror(number) if number else str(error)
        left = free_bytes(path)
        # LMDB calls it an input/output error where the first part of a write had room.
        if os.strerror(errno.ENOSPC) in text or (
            os.strerror(errno.EIO) in text and left < FULL_BYTES
        ):
            text = f"the disk is full, only {left / 2**20:.0f} MiB are free"
        raise DiskError(f"{path}: cannot be written ({text}); {hint}") from error


def free_bytes(path: Path) -> int:
    """Returns the free space of the disk that a file or folder is on, or is to be on."""
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return shutil.disk_usage(path).free


def lock_draft(draft: Path, path: Path) -> Any:
    """Creates a draft's folder, and locks it against other processes."""
    with disk_failures_as_errors(path, "choose another place"):
        draft.mkdir(parents=True, exist_ok=True)
        # On Windows LMDB's own lock keeps the file whole.
        return lock_file(draft / LOCK_FILE, path)


def move(draft: Path, path: Path) -> None:
    """Moves a complete draft to its place."""
    check_free(path)
    if path.is_dir():  # an empty one; Windows renames onto nothing that exists
        path.rmdir()
    draft.rename(path)
    # Only now: until it was moved, another process could have locked a new file in the draft.
    for file in (path / LOCK_FILE, *path.rglob("lock.mdb")):
        file.unlink(missing_ok=True)


def place_for(path: Path) -> Path:
    """Returns the place that a path means, once it is sure that a draft can be moved there.

    Raises:
        KTDNError: If there is something, or it is a place that cannot be replaced.
    """
    check_free(path)
    # A link stays and what it names is replaced; '.' and '..' have no name to put a draft beside.
    place = path.resolve() if path.is_symlink() or path.name in ("", "..") else path
    if place.is_dir():
        # Only a folder within them can be moved to in one piece, when all is done.
        within = f"choose a folder within it, such as {path / 'store'}"
        if place.resolve() == Path.cwd():
            raise KTDNError(f"{path}: the current folder, which cannot be replaced; {within}")
        if _is_mounted(place.resolve()):
            raise KTDNError(f"{path}: a disk is mounted there, so it cannot be replaced; {within}")
    return place


def _is_mounted(path: Path) -> bool:
    if os.path.ismount(path):
        return True
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return False
    # A folder of the same disk, as containers are given them, is told by this list alone.
    escaped = str(path)
    for character in "\\ \t\n":
        escaped = escaped.replace(character, f"\\{ord(character):03o}")
    return any(line.split(" ")[4] == escaped for line in lines.split("\n") if line)


def check_free(path: Path) -> None:
    """Refuses to write over anything.

    Raises:
        KTDNError: If there is something.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise KTDNError(f"{path}: already exists; delete it, or choose another place")
