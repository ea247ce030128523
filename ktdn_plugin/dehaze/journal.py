"""Records the settings and sources of a folder's results, in files that processes append to.

Each process that writes results has its own file, ``.ktdn-dehaze/*.jsonl`` in the output folder,
with one line of JSON per result, so several can write at once, even on a file system shared between
machines. A line is written before its result is moved into place, and has the result's checksum:
the file itself tells which of several lines is true.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.atomic import digest_of

FOLDER = ".ktdn-dehaze"
RECORD = ".ktdn-dehaze.json"
"""The single file that earlier versions wrote; it is still read."""

Entry = dict[str, Any]


class Journal:
    """The file in which this process records the results it writes to a folder.

    Args:
        folder: The output folder.
    """

    def __init__(self, folder: Path) -> None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self.path = folder / FOLDER / f"{stamp}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"

    def append(self, name: str, entry: Entry, result: Path) -> None:
        """Records a result's settings and source.

        Args:
            name: The result's path within the folder.
            entry: What to record about it.
            result: Its file, not yet moved into place.

        Raises:
            KTDNError: If it cannot be written.
        """
        try:
            line = json.dumps({"name": name, "result": digest_of(result), **entry}) + "\n"
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


def read_record(folder: Path) -> dict[str, Entry]:
    """Reads the settings and sources of a folder's results.

    Returns:
        Entries by the results' paths within the folder, as defined by the class ``Record``. Where
        several differ, the one whose checksum matches the result; none if no checksum does.

    Raises:
        KTDNError: If a file cannot be read or is broken.
    """
    found: dict[str, list[Entry]] = {}
    for name, entry in _read_earlier(folder / RECORD).items():
        found.setdefault(name, []).append(entry)
    for path in sorted((folder / FOLDER).glob("*.jsonl")):
        for line in _read_lines(path):
            found.setdefault(line.pop("name"), []).append(line)
    chosen = {name: _choose(folder / name, entries) for name, entries in found.items()}
    return {name: entry for name, entry in chosen.items() if entry is not None}


def _choose(result: Path, entries: list[Entry]) -> Entry | None:
    kept = [{key: one[key] for key in one if key != "result"} for one in entries]
    if all(one == kept[-1] for one in kept):
        return kept[-1]
    try:
        digest = digest_of(result)
    except OSError:
        return None
    for one, entry in zip(reversed(entries), reversed(kept), strict=True):
        # Entries of earlier versions have no checksum, and come last.
        if one.get("result", digest) == digest:
            return entry
    return None


def _read_lines(path: Path) -> list[Entry]:
    try:
        # After the last newline there is nothing, or what a killed process left unfinished.
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        rows = [json.loads(line) for line in lines]
        if not all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows):
            raise TypeError("no entries")
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise _broken(path) from error
    return rows


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
