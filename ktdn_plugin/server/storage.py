"""The page's photographs: in a private folder, forgotten when asked to, in time, and at the end."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ktdn_plugin.server.dehazing import Looks, Result, Source, Wanted
from ktdn_plugin.server.queue import Place

_RESULTS = 3


@dataclass(eq=False)
class StoredPhoto:
    """A photograph of the page.

    Attributes:
        source: The uploaded file; what is made of it lies beside it.
        place: Its place in the queue.
        future: What becomes of it.
        results: The last results that were asked for, by what was wanted.
        touched: When it was last asked for.
        id: Its name to the browser, which cannot be guessed.
    """

    source: Source
    place: Place
    future: Future[tuple[Looks, Result]]
    results: dict[Wanted, Future[Result]] = field(default_factory=dict)
    touched: float = field(default_factory=time.monotonic)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(18))

    def futures(self) -> list[Future[Any]]:
        """Returns what the network is to do, or has done, with it."""
        return [self.future, *self.results.values()]

    def keep_result(self, wanted: Wanted, future: Future[Result]) -> None:
        """Keeps a result, in place of the oldest of a few."""
        if len(self.results) >= _RESULTS:
            oldest = next(iter(self.results))
            old = self.results.pop(oldest)
            old.add_done_callback(_remove_result)
        self.results[wanted] = future


class Storage:
    """All photographs, in a folder that nobody else can read and that goes with the process."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ktdn-serve-", ignore_cleanup_errors=True)
        self._photos: dict[str, StoredPhoto] = {}

    def new_folder(self) -> Path:
        """Makes a folder for one photograph."""
        return Path(tempfile.mkdtemp(dir=self._folder.name))

    def add(self, photo: StoredPhoto) -> None:
        """Keeps a photograph."""
        self._photos[photo.id] = photo

    def get(self, photo_id: str) -> StoredPhoto | None:
        """Returns a photograph, None if there is none of that name."""
        photo = self._photos.get(photo_id)
        if photo is not None:
            photo.touched = time.monotonic()
        return photo

    def remove(self, *photo_ids: str) -> None:
        """Forgets photographs, and what was to become of them."""
        for photo_id in photo_ids:
            photo = self._photos.pop(photo_id, None)
            if photo is not None:
                discard(photo.source.path.parent, photo.futures())

    def remove_older(self, seconds: float) -> None:
        """Forgets what nobody has asked for in so many seconds."""
        now = time.monotonic()
        for photo in list(self._photos.values()):
            if now - photo.touched > seconds and all(one.done() for one in photo.futures()):
                self.remove(photo.id)

    def size(self) -> int:
        """Returns the bytes of all files."""
        return sum(_sizes(Path(self._folder.name)))

    def close(self) -> None:
        """Removes everything."""
        self._photos.clear()
        self._folder.cleanup()


def discard(folder: Path, futures: Iterable[Future[Any]] = ()) -> None:
    """Removes a photograph's folder.

    Args:
        folder: The folder.
        futures: What the network was to do with it: cancelled. What is running already may write
            once more, so that the folder is removed again.
    """
    for future in futures:
        future.cancel()
        future.add_done_callback(lambda _: shutil.rmtree(folder, ignore_errors=True))
    shutil.rmtree(folder, ignore_errors=True)


def _remove_result(future: Future[Result]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().path.unlink(missing_ok=True)


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # removed meanwhile
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                yield status.st_size
