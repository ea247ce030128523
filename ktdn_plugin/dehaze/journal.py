"""Records the settings and sources of a folder's results, in files that processes append to.

Each process that writes results has its own file, ``.ktdn-dehaze/*.jsonl`` in the output folder,
with one line of JSON per result, so several can write at once, even on a file system shared between
machines. A line is written before its result is moved into place, and has the result's checksum,
size and time: the file itself tells which of several lines is true. Figures of a measured result
are a line of their own.
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
from ktdn_plugin.storage.atomic import digest_of

FOLDER = ".ktdn-dehaze"
RECORD = ".ktdn-dehaze.json"
"""The single file that earlier versions wrote; it is still read."""

Entry = dict[str, Any]
_OF_RESULT = ("name", "result", "stamp")
"""Keys that tell lines apart, and are not part of an entry."""


def stamp_of(path: Path) -> list[int]:
    """Returns a file's size and time of modification, which moving it keeps."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


class Journal:
    """The file in which this process records the results it writes to a folder.

    Threads may share it.

    Args:
        folder: The output folder.
    """

    def __init__(self, folder: Path) -> None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self.path = folder / FOLDER / f"{stamp}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self._lock = threading.Lock()

    def append(self, name: str, entry: Entry, result: Path) -> None:
        """Records a result's settings and source, or its figures.

        Args:
            name: The result's path within the folder.
            entry: What to record about it; figures are under ``figures``.
            result: Its file; for settings the one that is not yet moved into place.

        Raises:
            KTDNError: If it cannot be written.
        """
        try:
            row = {"name": name, "stamp": stamp_of(result), **entry}
            if "figures" not in entry:
                row["result"] = digest_of(result)
            line = json.dumps(row) + "\n"
            with self._lock:
                self.path.parent.mkdir(exist_ok=True)
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


class Results:
    """What all processes have recorded about a folder's results.

    Holds where each line is, not the lines, of which there may be millions.

    Args:
        folder: The output folder.

    Raises:
        KTDNError: If a file cannot be read or is broken.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._earlier = _read_earlier(folder / RECORD)
        self._files: list[Path] = []
        self._read: dict[Path, int] = {}
        self._lines: dict[str, list[tuple[int, int]]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Reads what has been recorded since.

        Raises:
            KTDNError: If a file cannot be read or is broken.
        """
        for path in sorted((self._folder / FOLDER).glob("*.jsonl")):
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
                self._lines.setdefault(_parse(line, path)["name"], []).append(place)
                self._read[path] += len(line)

    def names(self) -> list[str]:
        """Returns the paths of all results within the folder that something is known of."""
        return list(dict.fromkeys((*self._earlier, *self._lines)))

    def find(self, name: str) -> Entry | None:
        """Returns a result's settings and source, as defined by the class ``Record``.

        Where several differ, those whose size and time, or else checksum, match the result; None if
        there are none.
        """
        rows = [row for row in self._rows(name) if "figures" not in row]
        if name in self._earlier:
            rows.insert(0, self._earlier[name])
        return _choose(self._folder / name, rows) if rows else None

    def figures(self, name: str) -> Entry | None:
        """Returns the latest figures of a result, with all that was recorded beside them.

        None if there are none, or of another result of this name.
        """
        rows = [row for row in self._rows(name) if "figures" in row]
        try:
            stamp = stamp_of(self._folder / name) if rows else None
        except OSError:
            return None
        return next((row for row in reversed(rows) if row.get("stamp") == stamp), None)

    def _rows(self, name: str) -> list[Entry]:
        rows = []
        for number, offset in self._lines.get(name, ()):
            path = self._files[number]
            try:
                with path.open("rb") as file:
                    file.seek(offset)
                    rows.append(_parse(file.readline(), path))
            except OSError as error:
                raise KTDNError(f"{path}: {error.strerror or error}") from error
        return rows


def read_record(folder: Path) -> dict[str, Entry]:
    """Reads the settings and sources of a folder's results.

    Returns:
        Entries by the results' paths within the folder, as :meth:`Results.find` finds them.

    Raises:
        KTDNError: If a file cannot be read or is broken.
    """
    results = Results(folder)
    found = {name: results.find(name) for name in results.names()}
    return {name: entry for name, entry in found.items() if entry is not None}


def _choose(result: Path, entries: list[Entry]) -> Entry | None:
    kept = [{key: one[key] for key in one if key not in _OF_RESULT} for one in entries]
    if all(one == kept[-1] for one in kept):
        return kept[-1]
    try:
        stamp = stamp_of(result)
        same = [
            entry for one, entry in zip(entries, kept, strict=True) if one.get("stamp") == stamp
        ]
        if len(same) == 1:
            return same[0]
        digest = digest_of(result)
    except OSError:
        return None
    for one, entry in zip(reversed(entries), reversed(kept), strict=True):
        # Entries of earlier versions have no checksum, and come last.
        if one.get("result", digest) == digest:
            return entry
    return None


def _parse(line: bytes, path: Path) -> Entry:
    try:
        row = json.loads(line)
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise TypeError("no entry")
    except (ValueError, TypeError, RecursionError) as error:
        raise _broken(path) from error
    return row


def _read_earlier(path: Path) -> dict[str, Entry]:
    try:
        results: dict[str, Entry] = json.loads(path.read_text(encoding="utf-8"))["results"]
        if not all(isinstance(entry, dict) for entry in results.values()):
            raise TypeError("no entries")
    except (FileNotFoundError, NotADirectoryError):
        return {}  # a file in the way is reported on writing
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _broken(path) from error
    return dict(results)


def _broken(path: Path) -> KTDNError:
    return KTDNError(f"{path}: broken; remove it: the origin of its results is then unknown")
