"""Stores: decoded images in an LMDB, out of which a reader copies only the crop it wants.

A store is a folder with one LMDB in it, whose values are

- ``info``: what the store is, as JSON (:class:`StoreInfo`); written last, so that a store which
  was never finished has none;
- ``SIDE/sizes``: height and width of each image of a side (``hazy``, ``clear``), int32 (n, 2),
  little-endian;
- ``pairs``: which hazy and which clear image make a pair, int32 (n, 2), little-endian, where there
  are hazy images: several may share one clear image;
- ``SIDE/NUMBER``: an image's pixels, uint8 RGB (h, w, 3), row by row, without any header;
- ``SIDE/NUMBER/about``: its original name, and the SHA-256 of its pixels, as JSON.

An image's rows lie in the file as they lie in memory: a crop of it is read by mapping the file and
copying, with no decoding. Memory does not grow with the store: what a process holds is the
mapping, and pages that the system may take back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.lmdb_files import LmdbFile, is_lmdb

FORMAT = 1
CHANNELS = 3
SIDES = ("hazy", "clear")

INFO_KEY = b"info"
PAIRS_KEY = b"pairs"


def sizes_key(side: str) -> bytes:
    """Returns the key of a side's table of sizes."""
    return f"{side}/sizes".encode()


def pixels_key(side: str, number: int) -> bytes:
    """Returns the key of an image's pixels."""
    return f"{side}/{number:08}".encode()


def about_key(side: str, number: int) -> bytes:
    """Returns the key of what is known about an image."""
    return f"{side}/{number:08}/about".encode()


@dataclass(frozen=True)
class StoreInfo:
    """What a store was made from.

    Attributes:
        dataset: The dataset's name, such as ``nh-haze``.
        split: The split's name, such as ``challenge-train``.
        counts: Images of each side.
        source_files: Files that were read.
        source_bytes: Their size in bytes.
        pixel_bytes: Bytes of all pixels.
        missing: What the dataset should have and the source had not, one line each.
        fingerprint: Hexadecimal digest of all names and pixels: equal for equal content.
        tool: Which version of this package wrote it.
        format: Version of the layout.
    """

    dataset: str
    split: str
    counts: Mapping[str, int]
    source_files: int
    source_bytes: int
    pixel_bytes: int
    missing: list[str] = field(default_factory=list)
    fingerprint: str = ""
    tool: str = ""
    format: int = FORMAT

    def as_json(self) -> bytes:
        """Returns the text that a store keeps."""
        return json.dumps(asdict(self), indent=1).encode()

    @property
    def name(self) -> str:
        """The split's whole name, which says so where images are missing."""
        return split_name(self.dataset, self.split, self.missing)


def split_name(dataset: str, split: str, missing: Sequence[str] = ()) -> str:
    """Returns a split's whole name, which says so where images are missing."""
    return f"{dataset}/{split}" + (f" (incomplete: {len(missing)} missing)" if missing else "")


def is_store(path: str | Path) -> bool:
    """Returns whether a path is a store, not a folder of images or another program's LMDB.

    Raises:
        KTDNError: If it is an LMDB that cannot be read.
    """
    if not is_lmdb(path):
        return False
    # A store that was never finished has images, but no info.
    keys = (INFO_KEY, *(about_key(side, 0) for side in SIDES))
    file = LmdbFile(path)
    return any(file.get(key) is not None for key in keys)


class Store:
    """A finished store, open for reading.

    It may be handed to other processes, forked or spawned.

    Args:
        path: The store's folder.

    Raises:
        KTDNError: If it is not a store, is truncated or was never finished, or was made by a newer
            version of this package.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file, self.info = _open(self.path)
        self.sides = tuple(side for side in SIDES if side in self.info.counts)
        self._sizes = {side: self._table(sizes_key(side)) for side in self.sides}
        for side, sizes in self._sizes.items():
            if len(sizes) != self.info.counts[side]:
                raise KTDNError(
                    f"{self.path}: damaged ({len(sizes)} {side} sizes); create it again"
                )
        self.pairs = self._table(PAIRS_KEY) if "hazy" in self.sides else None
        if self.pairs is not None:
            counts = [self.info.counts.get(side, 0) for side in SIDES]
            if not ((self.pairs >= 0) & (self.pairs < counts)).all():
                raise KTDNError(f"{self.path}: damaged (pairs of absent images); create it again")

    def size(self, side: str, number: int) -> tuple[int, int]:
        """Returns an image's height and width."""
        height, width = self._sizes[side][number]
        return int(height), int(width)

    def smallest(self, side: str) -> int:
        """Returns the number of the image whose shorter edge is the shortest of all."""
        return int(self._sizes[side].min(axis=1).argmin())

    def pixels(self, side: str, number: int) -> NDArray[np.uint8]:
        """Returns an image as it lies in the file: only what is looked at of it is read.

        Args:
            side: ``hazy`` or ``clear``.
            number: Which image.

        Returns:
            RGB, (h, w, 3), 0 to 255, read-only.

        Raises:
            KTDNError: If the image is not there.
        """
        height, width = self._sizes[side][number]
        content = self._file.get(pixels_key(side, number))
        if content is None or len(content) != height * width * CHANNELS:
            raise KTDNError(f"{self.describe(side, number)}: damaged; rebuild the store")
        return np.frombuffer(content, np.uint8).reshape(height, width, CHANNELS)

    def about(self, side: str, number: int) -> dict[str, Any]:
        """Returns an image's original ``name`` and the ``sha256`` of its pixels."""
        content = self._file.get(about_key(side, number))
        try:
            return dict(json.loads(bytes(content or b"")))
        except ValueError as error:
            raise KTDNError(
                f"{self.path}, {side} image {number}: damaged; rebuild the store"
            ) from error

    def name(self, side: str, number: int) -> str:
        """Returns the name that an image's file had, relative to the source."""
        return str(self.about(side, number)["name"])

    def describe(self, side: str, number: int) -> str:
        """Names an image for people."""
        return f"{self.path}, {side} image {self.name(side, number)}"

    def verify(self, side: str, number: int) -> None:
        """Compares an image's pixels with their checksum.

        Raises:
            KTDNError: If they differ.
        """
        if checksum(self.pixels(side, number)) != self.about(side, number).get("sha256"):
            raise KTDNError(
                f"{self.describe(side, number)}: its checksum is wrong; rebuild the store"
            )

    def _table(self, key: bytes) -> NDArray[np.int32]:
        content = self._file.get(key)
        if content is None or len(content) % 8:
            raise KTDNError(f"{self.path}: damaged ('{key.decode()}'); create it again")
        # Eight bytes per image, which is little even for a hundred thousand.
        return np.frombuffer(content, "<i4").reshape(-1, 2)


def checksum(pixels: NDArray[np.uint8]) -> str:
    """Returns the SHA-256 of an image's pixels, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def _open(path: Path) -> tuple[LmdbFile, StoreInfo]:
    if not is_lmdb(path):
        raise KTDNError(f"{path}: not a store (a folder created by 'ktdn prepare')")
    file = LmdbFile(path)
    content = file.get(INFO_KEY)
    begun = any(file.get(about_key(side, 0)) is not None for side in SIDES)
    if content is None:
        raise KTDNError(
            f"{path}: a store that was never finished; run the same 'ktdn prepare' again"
            if begun
            else f"{path}: an LMDB, but not a store created by 'ktdn prepare'"
        )
    try:
        values = json.loads(bytes(content))
        found = int(values["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise KTDNError(f"{path}: an LMDB, but not a store created by 'ktdn prepare'") from error
    if found > FORMAT:
        raise KTDNError(
            f"{path}: a store of format {found}, created by "
            f"{values.get('tool', 'a newer version')}; "
            f"this version reads up to {FORMAT}: upgrade ktdn-plugin, or rebuild the store"
        )
    try:
        info = StoreInfo(**values)
        if not all(isinstance(info.counts[side], int) for side in info.counts):
            raise TypeError("counts")
        return file, info
    except TypeError as error:
        raise KTDNError(f"{path}: damaged store ({error}); create it again") from error
