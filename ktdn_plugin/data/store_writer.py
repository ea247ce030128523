"""Writing a store: image by image, so that one that is cut off resumes where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

import ktdn_plugin
from ktdn_plugin.data.atomic_folders import check_free, disk_failures_as_errors, lock_draft, move
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.lmdb_files import DamagedLmdbError, LmdbFile, is_lmdb
from ktdn_plugin.scenes.store import (
    CHANNELS,
    INFO_KEY,
    PAIRS_KEY,
    StoreInfo,
    about_key,
    checksum,
    pixels_key,
    sizes_key,
)

PLAN_KEY = b"plan"
COMMIT_BYTES = 64 * 2**20  # what a kill can cost, and what memory holds of it until then
COMMIT_IMAGES = 1000
# By which the mapping grows; on Windows the file is as large as that.
ROOM = 2**26 if os.name == "nt" else 2**30

Entries = Sequence[tuple[bytes, bytes | memoryview]]


class StoreWriter:
    """Writes a store into a hidden folder beside its place, and moves it there when it is whole.

    Args:
        path: The store's folder; it must not exist.
        plan: What goes into it, as plain values. A draft that an earlier run left is resumed
            if its plan is the same, and started over if not.

    Attributes:
        started_over: Whether there was a draft that could not be resumed.

    Raises:
        KTDNError: If ``path`` is taken, cannot be written to, or is being written by another
            process.
    """

    def __init__(self, path: str | Path, plan: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.draft = self.path.parent / f".{self.path.name}.part"
        check_free(self.path)
        self._lock = lock_draft(self.draft, self.path)
        text = json.dumps(plan, sort_keys=True).encode()
        try:
            self.started_over = not self._resumes(text)
            if self.started_over:
                (self.draft / "data.mdb").unlink()
                self._resumes(text)
        except BaseException:
            self.close()
            raise
        self._pending: list[tuple[bytes, bytes | memoryview]] = []
        self._pending_bytes = 0

    def _resumes(self, plan: bytes) -> bool:
        """Opens the draft if it follows the plan, or is new; leaves it closed if not."""
        with self._explained():
            try:
                if is_lmdb(self.draft):
                    LmdbFile(self.draft).check()
            except DamagedLmdbError:
                return False  # cut off before there was anything in it, or damaged since
            self._environment = lmdb.open(lmdb_path(self.draft), map_size=ROOM, metasync=False)
            with self._environment.begin() as transaction:
                found = transaction.get(PLAN_KEY)
            if found is None:
                put(self._environment, [(PLAN_KEY, plan)])
            elif found != plan:
                self._environment.close()
        return found is None or found == plan

    def has(self, side: str, number: int, source: Sequence[int] = ()) -> bool:
        """Returns whether an image is in the draft already, made of the same source."""
        with self._environment.begin() as transaction:
            content = transaction.get(about_key(side, number))
        return content is not None and json.loads(content)["source"] == list(source)

    def add(
        self,
        side: str,
        number: int,
        image: NDArray[np.uint8],
        name: str,
        source: Sequence[int] = (),
    ) -> None:
        """Adds an image.

        Args:
            side: ``hazy`` or ``clear``.
            number: Its number.
            image: RGB, (h, w, 3), uint8.
            name: Its file's name, relative to the source.
            source: What tells the file from a later version of it, such as size and time.

        Raises:
            KTDNError: If the disk is full, or cannot be written to.
        """
        image = np.ascontiguousarray(image)
        height, width, _ = image.shape
        about = {
            "name": name,
            "height": height,
            "width": width,
            "sha256": checksum(image),
            "source": list(source),
        }
        self._pending += [
            (pixels_key(side, number), image.reshape(-1).data),
            (about_key(side, number), json.dumps(about).encode()),
        ]
        self._pending_bytes += image.nbytes
        if self._pending_bytes >= COMMIT_BYTES or len(self._pending) >= 2 * COMMIT_IMAGES:
            self.flush()

    def flush(self) -> None:
        """Writes what has been added to the disk."""
        with self._explained():
            put(self._environment, self._pending)
        self._pending, self._pending_bytes = [], 0

    def finish(self, info: StoreInfo, pairs: NDArray[np.int32] | None) -> StoreInfo:
        """Completes the store and moves it to its place.

        Args:
            info: What it was made from; the fingerprint, the bytes of its pixels and the version
                are filled in here.
            pairs: Hazy and clear image of each pair, (n, 2), where there are hazy images.

        Returns:
            The information as it is in the store.
        """
        self.flush()
        content = Content(pairs)
        entries: list[tuple[bytes, bytes | memoryview]] = []
        for side, count in info.counts.items():
            sizes = np.empty((count, 2), "<i4")
            for number, about in enumerate(self._abouts(side, count)):
                sizes[number] = about["height"], about["width"]
                content.add(side, about["name"], about["sha256"], sizes[number])
            entries.append((sizes_key(side), sizes.tobytes()))
        if pairs is not None:
            entries.append((PAIRS_KEY, np.ascontiguousarray(pairs, "<i4").tobytes()))
        info = content.complete(info)
        with self._explained():
            put(self._environment, [*entries, (INFO_KEY, info.as_json())])
            self._environment.sync(True)
            self._environment.close()
            move(self.draft, self.path)
        return info

    def close(self) -> None:
        """Closes the draft, which stays to be resumed."""
        if hasattr(self, "_environment"):
            self._environment.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> StoreWriter:
        """Returns the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Keeps what has been added, whatever went wrong, for the next try."""
        try:
            # Not where it is the disk that failed.
            if kind is not None and self._pending:
                with contextlib.suppress(KTDNError):
                    self.flush()
        finally:
            self.close()

    def _abouts(self, side: str, count: int) -> Iterator[dict[str, Any]]:
        with self._environment.begin() as transaction:
            for number in range(count):
                content = transaction.get(about_key(side, number))
                if content is None:
                    raise ValueError(f"{side} image {number} was never added")
                yield json.loads(content)

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        stays = f"finished images stay in {self.draft}; run the same command again to resume"
        return disk_failures_as_errors(self.path, stays)


class Content:
    """Fingerprints a set's images, whatever file they are kept in.

    Args:
        pairs: Hazy and clear image of each pair, (n, 2), where there are hazy images.
    """

    def __init__(self, pairs: NDArray[np.int32] | None) -> None:
        self._digest = hashlib.sha256(b"" if pairs is None else pairs.astype("<i4").tobytes())
        self._pixel_bytes = 0

    def add(self, side: str, name: str, sha256: str, size: Sequence[int]) -> None:
        """Adds an image; hazy ones come before clear ones, each side in order."""
        self._digest.update(f"{side} {name} {sha256}\n".encode("utf-8", "surrogatepass"))
        self._pixel_bytes += int(size[0]) * int(size[1]) * CHANNELS

    def complete(self, info: StoreInfo) -> StoreInfo:
        """Fills in the fingerprint, the bytes of the pixels, and the version."""
        return replace(
            info,
            pixel_bytes=self._pixel_bytes,
            fingerprint=self._digest.hexdigest()[:16],
            tool=f"ktdn-plugin {ktdn_plugin.__version__}",
        )


def lmdb_path(path: Path) -> str | bytes:
    """Returns a path as LMDB takes it, though its name be no UTF-8."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def put(environment: lmdb.Environment, entries: Entries) -> None:
    """Writes all entries or none; enlarges the mapping where it is too small."""
    needed = sum(len(value) for _, value in entries)
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in entries:
                    transaction.put(key, value)
            return
        except lmdb.MapFullError:
            # The file itself grows only by what is written.
            environment.set_mapsize(environment.info()["map_size"] + needed + ROOM)
