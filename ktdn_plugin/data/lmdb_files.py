"""LMDB files: opened for reading so that a broken one is an error, not the end of the process."""

from __future__ import annotations

from pathlib import Path

import lmdb

from ktdn_plugin.errors import KTDNError

DATA = "data.mdb"

_File = tuple[int, int]  # device and inode, by which LMDB, too, knows a file again

_opened: dict[_File, LmdbFile] = {}


class LmdbFile:
    """An LMDB that is open for reading.

    Args:
        path: The folder.
        environment: LMDB's own handle.
    """

    def __init__(self, path: Path, environment: lmdb.Environment) -> None:
        self.path = path
        self._environment = environment
        self._transaction = environment.begin(buffers=True)
        self._ended: list[lmdb.Transaction] = []

    def get(self, key: bytes) -> memoryview | None:
        """Gives a value as it lies in the file, or None.

        Raises:
            KTDNError: If the file is damaged where the value should be.
        """
        try:
            value: memoryview | None = self._transaction.get(key)
        except lmdb.Error as error:
            # A damaged page ends a transaction for all others too. It is kept: what was got out of
            # it is in use.
            self._ended.append(self._transaction)
            self._transaction = self._environment.begin(buffers=True)
            raise KTDNError(
                f"{self.path}: damaged at '{key.decode(errors='replace')}' ({error}); copy or make "
                "it again"
            ) from error
        return value

    def close(self) -> None:
        """Closes the file; nothing that was got out of it may be used any more."""
        for transaction in (self._transaction, *self._ended):
            transaction.abort()
        self._environment.close()


def is_lmdb(path: str | Path) -> bool:
    """Tells a folder that holds an LMDB."""
    return (Path(path) / DATA).is_file()


def open_lmdb(path: str | Path) -> LmdbFile:
    """Opens an LMDB for reading, for as long as the process lives.

    The file is mapped: what is got out of it are views, which cost memory, and time, only where
    they are looked at, and memory that the system may take back. One process opens a file once,
    however many readers it has; one that is forked reads on through the mapping that it inherits
    (without locks, and with nothing writing, there is nothing that the two could disturb).

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
        _opened[file] = LmdbFile(path, _open(path, found.st_size))
    return _opened[file]


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
        opened.close()


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
