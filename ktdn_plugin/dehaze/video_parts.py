"""The finished parts of a video on its way, which outlast the process that made them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.atomic import write_whole
from ktdn_plugin.storage.locks import lock_file
from ktdn_plugin.videos.smoothing import Grid

_SETTINGS = "settings.json"
_LOCK = "writer.lock"
_WORDS = {"source": "of another video", "sha256": "by another checkpoint"}


class Part(NamedTuple):
    """A finished part.

    Attributes:
        path: Its file, see :class:`~ktdn_plugin.videos.encoding.PartWriter`.
        times: Its packets' times, in order.
        end: When its last frame ends.
        state: The state of the :class:`~ktdn_plugin.videos.smoothing.Smoother` behind it.
    """

    path: Path
    times: list[int]
    end: int
    state: Grid | None


class Parts:
    """The hidden folder beside a result in which its parts wait; use it as a context manager.

    If the work on it is interrupted, finished parts stay for the next run with the same settings.

    Args:
        output: The result.
        settings: All that the parts depend on; None makes them anew in each run.

    Attributes:
        done: The finished parts, in order.

    Raises:
        KTDNError: If another process works on the same result.
        OSError: If the folder cannot be made.
    """

    def __init__(self, output: Path, settings: dict[str, Any] | None) -> None:
        self.output = output
        self.folder = output.with_name(f".{output.name}.ktdn-parts")
        self.settings = settings
        self.done: list[Part] = []
        self._lock: Any = None

    def __enter__(self) -> Parts:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_file(self.folder / _LOCK, self.output)
        try:
            self._resume()
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A video that cannot be dehazed cannot be in the next run either; a full disk may be freed.
        is_final = isinstance(error, KTDNError) and not isinstance(error.__cause__, OSError)
        if error is None or is_final or not self.done or self.settings is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def _resume(self) -> None:
        path = self.folder / _SETTINGS
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            before = None
        if before is not None and self.settings is not None and before == self.settings:
            while (part := self._find(len(self.done))) is not None:
                self.done.append(part)
            if self.done:
                count = sum(len(part.times) for part in self.done)
                print_lines(f"{self.output}: resumes after frame {count}")
            return
        if before is not None and self._find(0) is not None:
            print_lines(f"{self.output}: begun {self._difference(before)}; starts over")
        for old in self.folder.iterdir():
            if old.name != _LOCK:
                old.unlink()
        if self.settings is not None:
            content = json.dumps(self.settings).encode()
            write_whole(path, lambda file: file.write(content))

    def _difference(self, before: Any) -> str:
        now = self.settings or {}
        if isinstance(before, dict):
            for key, words in _WORDS.items():
                if before.get(key) != now.get(key):
                    return words
        return "with other settings"

    def _find(self, number: int) -> Part | None:
        path = self.path(number)
        try:
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as found:
                if not path.is_file():
                    return None
                state = found["state"] if len(found["state"]) else None
                return Part(path, found["times"].tolist(), int(found["end"]), state)
        except (OSError, ValueError, KeyError, EOFError):
            return None

    def path(self, number: int | None = None) -> Path:
        """Returns the file of a part; by default of the next one."""
        return self.folder / f"{len(self.done) if number is None else number:06}.nut"

    def add(self, times: list[int], end: int, state: Grid | None) -> None:
        """Adds the next part, whose file is complete, see :class:`Part`."""
        part = Part(self.path(), times, end, state)
        known = np.empty(0, np.float32) if state is None else state
        # Last: a part is finished when this is there.
        write_whole(
            part.path.with_suffix(".npz"),
            lambda file: np.savez(file, times=times, end=end, state=known),
        )
        self.done.append(part)
