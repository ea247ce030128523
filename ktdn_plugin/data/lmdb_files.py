"""LMDB files: opened for reading so that a broken one is an error, not the end of the process."""

from __future__ import annotations

from pathlib import Path

import lmdb

from ktdn_plugin.errors import KTDNError

DATA = "data.mdb"

_File = tuple[int, int]  # device and inode, by which LMDB, too, knows a file again

_opened: dict[_File, tuple[lmdb.Environment, lmdb.Transaction]] = {}


def is_lmdb(path: str | Path) -> bool:
    """Tells a folder that holds an LMDB."""
    return (Path(path) / DATA).is_file()


def open_lmdb(path: str | Path) -> lmdb.Transaction:
    """Opens an LMDB for reading, for as long as the process lives.

    The file is mapped: what is got out of it are views, which cost memory, and time, only where
    they are looked at, and memory that the system may take back. One process opens a file once,
    however many readers it has; one that is forked reads on through the mapping that it inherits
    (without locks, and with nothing writing, there is nothing that the two could disturb).

    Returns:
        A transaction whose ``get(key)`` gives a memoryview, or None.

    Raises:
        KTDNError: If it is none, is truncated, or cannot be read.
    """
    path = Path(path)
    try:
        found = (path / DATA).stat()
    except OSError as error:
        raise KTDNError(f"{path / DATA}: {error.strerror or error}") from error
    file = found.st_dev, found.st_ino
    if file not in _opened:
        environment = _open(path, found.st_size)
        _opened[file] = environment, environment.begin(buffers=True)
    return _opened[file][1]


def close_lmdb(path: str | Path) -> None:
    """Closes an LMDB that other code wants to open: LMDB allows a process one opening of a file.

    Nothing that was got out of it may be used any more.
    """
    try:
        found = (Path(path) / DATA).stat()
    except OSError:
        return
    opened = _opened.pop((found.st_dev, found.st_ino), None)
    if opened is not None:
        opened[1].abort()
        opened[0].close()


def _open(path: Path, size: int) -> lmdb.Environment:
    try:
        # No lock file: nothing writes any more, and the folder may be one we must not write to.
        # No reading ahead: crops are small and lie anywhere.
        environment = lmdb.open(
            str(path), readonly=True, lock=False, readahead=False, create=False, max_readers=1
        )
    except lmdb.Error as error:
        raise KTDNError(f"{path}: not a readable LMDB ({error}); copy or make it again") from error
    # Touching a page behind the end of a truncated file kills the process (bus error).
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if size < needed:
        environment.close()
        raise KTDNError(f"{path}: truncated, {size} of {needed} bytes; copy or make it again")
    return environment
