"""Journals: folders of files to which processes append what they have done, a line of JSON each.

Each process has its own file, so several can write at once, even on a file system shared between
machines, and one that is killed loses at most the line that it was writing.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from ktdn_plugin.errors import KTDNError

Row = dict[str, Any]


def stamp_of(path: Path) -> list[int]:
    """Returns a file's size and time of modification, which moving it keeps."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


class JournalFile:
    """The file of a journal that this process appends to. Threads may share it.

    Args:
        folder: The journal; made when the first row is appended.
    """

    def __init__(self, folder: Path) -> None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self.path = folder / f"{stamp}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self._lock = threading.Lock()

    def append(self, row: Row) -> None:
        """Appends a row, and waits until it is on the disk.

        Args:
            row: Plain values, among them ``name``, by which it is found.

        Raises:
            KTDNError: If it cannot be written.
        """
        try:
            line = json.dumps(row) + "\n"
            with self._lock:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("ab", buffering=0) as file:
                    end = file.tell()
                    if file.write(line.encode()) != len(line):  # ASCII: one byte per character
                        file.truncate(end)
                        file.write(line.encode())  # raises the reason, such as a full disk
                    os.fsync(file.fileno())
        except OSError as error:
            raise KTDNError(
                f"{self.path}: cannot be written ({error.strerror or error}); free some space or "
                "choose another folder"
            ) from error


class Journal:
    """What all processes have appended to a journal.

    Holds where each line is, not the lines, of which there may be millions.

    Args:
        folder: The journal; it need not be there.
        loss: What a broken file means, for a message.

    Raises:
        KTDNError: If a file cannot be read or is broken.
    """

    def __init__(self, folder: Path, loss: str) -> None:
        self._folder = folder
        self._loss = loss
        self._files: list[Path] = []
        self._read: dict[Path, int] = {}
        self._lines: dict[str, list[tuple[int, int]]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Reads what has been appended since.

        Raises:
            KTDNError: If a file cannot be read or is broken.
        """
        for path in sorted(self._folder.glob("*.jsonl")):
            if path not in self._read:
                self._read[path] = 0
                self._files.append(path)
            try:
                self._index(path, self._files.index(path))
            except OSError as error:
                raise KTDNError(f"{path}: {error.strerror or error}") from error

    def _index(self, path: Path, number: int) -> None:
        if path.stat().st_size == self._read[path]:
            return
        with path.open("rb") as file:
            file.seek(self._read[path])
            for line in file:
                # What a killed process left unfinished, or another one is writing just now.
                if not line.endswith(b"\n"):
                    return
                place = (number, self._read[path])
                self._lines.setdefault(self._parse(line, path)["name"], []).append(place)
                self._read[path] += len(line)

    def names(self) -> list[str]:
        """Returns the names that there are rows of."""
        return list(self._lines)

    def rows(self, name: str) -> list[Row]:
        """Returns all rows of a name; of one process's in order.

        Raises:
            KTDNError: If a file cannot be read.
        """
        rows = []
        for number, offset in self._lines.get(name, ()):
            path = self._files[number]
            try:
                with path.open("rb") as file:
                    file.seek(offset)
                    rows.append(self._parse(file.readline(), path))
            except OSError as error:
                raise KTDNError(f"{path}: {error.strerror or error}") from error
        return rows

    def _parse(self, line: bytes, path: Path) -> Row:
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("name"), str):
                raise TypeError("no entry")
        except (ValueError, TypeError, RecursionError) as error:
            raise KTDNError(f"{path}: broken; remove it: {self._loss}") from error
        return row
