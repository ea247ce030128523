"""Records the settings and sources of a folder's results, in files that processes append to.

Each process that writes results has its own file, ``.ktdn-dehaze/*.jsonl`` in the output folder,
with one line of JSON per result, so several can write at once, even on a file system shared between
machines. A line is written before its result is moved into place, and has the result's checksum,
size and time: the file itself tells which of several lines is true. Figures of a measured result
are a line of their own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage import journal
from ktdn_plugin.storage.atomic import digest_of
from ktdn_plugin.storage.journal import stamp_of

FOLDER = ".ktdn-dehaze"
RECORD = ".ktdn-dehaze.json"
"""The single file that earlier versions wrote; it is still read."""

Entry = dict[str, Any]
_LOSS = "the origin of its results is then unknown"
_OF_RESULT = ("name", "result", "stamp")
"""Keys that tell lines apart, and are not part of an entry."""


class Journal:
    """The file in which this process records the results it writes to a folder.

    Threads may share it.

    Args:
        folder: The output folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = journal.JournalFile(folder / FOLDER)
        self.path = self._file.path

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
        except OSError as error:
            raise KTDNError(f"{result}: {error.strerror or error}") from error
        self._file.append(row)


class Results:
    """What all processes have recorded about a folder's results.

    Args:
        folder: The output folder.

    Raises:
        KTDNError: If a file cannot be read or is broken.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._earlier = _read_earlier(folder / RECORD)
        self._journal = journal.Journal(folder / FOLDER, _LOSS)
        self.refresh = self._journal.refresh
        self._rows = self._journal.rows

    def names(self) -> list[str]:
        """Returns the paths of all results within the folder that something is known of."""
        return list(dict.fromkeys((*self._earlier, *self._journal.names())))

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
        raise KTDNError(f"{path}: broken; remove it: {_LOSS}") from error
    return dict(results)
