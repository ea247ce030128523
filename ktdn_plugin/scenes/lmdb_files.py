"""Reads LMDB files so that a damaged page raises an error instead of crashing the process.

LMDB's library trusts every number on the pages that it maps, and a flipped bit sends it outside
the file: the process dies of a bus error. What reads here follows the same tree with every number
checked before it is used; the library only writes. What the format looks like stands in the
library's ``mdb.c`` (``MDB_meta``, ``MDB_page``, ``MDB_node``), as 64-bit machines write it.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_left, bisect_right
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ktdn_plugin.errors import KTDNError

DATA = "data.mdb"

_PAGE = struct.Struct("<QHHHH")  # number, nothing, flags, end of the offsets, start of the nodes
_DATABASE = "IHHQQQQQ"  # page size, flags, depth, three counts of pages, entries, root
_META = struct.Struct(f"<IIQQ{_DATABASE}{_DATABASE}QQ")  # the last two: last page, transaction
_OFFSET = struct.Struct("<H")
_NODE = struct.Struct("<HHHH")  # size or page: low and high half; flags; length of the key
_NUMBER = struct.Struct("<Q")

_BRANCH, _LEAF, _OVERFLOW, _META_PAGE, _KINDS = 0x01, 0x02, 0x04, 0x08, 0x6F
_OVERFLOWING = 0x01  # a node whose value lies on pages of its own
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_EMPTY = 2**64 - 1
_DEEPEST = 32  # levels; LMDB goes no further
_KEPT = 4096  # pages whose keys are kept in memory, a few kilobytes each


class DamagedLmdbError(KTDNError):
    """A file that can be read, but is not a complete LMDB."""


class _DamagedError(Exception):
    """What is wrong with a page."""


class _Page(NamedTuple):
    """A page of the tree, of which every number has been checked."""

    keys: list[bytes]
    places: list[_Place]


class _Place(NamedTuple):
    """What a node points to: a page of the tree; or a value, which may have pages to itself."""

    page: int
    start: int = 0
    size: int = 0


class _Tree:
    """A mapped file and where its tree begins."""

    def __init__(self, file: mmap.mmap, page_size: int, pages: int, root: int, depth: int) -> None:
        self.file, self.page_size, self.pages, self.root = file, page_size, pages, root
        self.levels = [_BRANCH] * (depth - 1) + [_LEAF] * (depth > 0)
        self._read: dict[tuple[int, int], _Page] = {}

    def get(self, key: bytes) -> memoryview | None:
        """Returns a value, or None where the key is not there."""
        number = self.root
        for level in self.levels:
            page = self._page(number, level)
            if level == _BRANCH:
                # A branch's first node is for every key that is less than the second one's.
                number = page.places[bisect_right(page.keys, key, lo=1) - 1].page
                continue
            index = bisect_left(page.keys, key)
            if index < len(page.keys) and page.keys[index] == key:
                number, start, size = page.places[index]
                if number and self._header(number)[:2] != (number, _OVERFLOW):
                    raise _DamagedError(f"page {number} is not part of a value")
                return memoryview(self.file)[start : start + size]
        return None

    def check(self) -> None:
        """Looks at every page of the tree once, and at none of the values'."""
        numbers = [self.root]
        seen: set[int] = set()
        for level in self.levels:
            below: list[int] = []
            for number in numbers:
                if number in seen:
                    raise _DamagedError(f"page {number} is in the tree twice")
                seen.add(number)
                below += [place.page for place in self._page(number, level).places]
            numbers = below

    def _page(self, number: int, kind: int) -> _Page:
        page = self._read.get((number, kind))
        if page is None:
            page = self._parse(number, kind)
            if len(self._read) >= _KEPT:
                self._read.clear()
            self._read[number, kind] = page
        return page

    def _parse(self, number: int, kind: int) -> _Page:
        own, found, lower, upper = self._header(number)
        count = (lower - _PAGE.size) // _OFFSET.size
        fits = _PAGE.size < lower <= upper <= self.page_size and lower % _OFFSET.size == 0
        if own != number or found != kind or not fits or (kind == _BRANCH and count < 2):
            raise _DamagedError(f"page {number} is not part of the tree")
        start = number * self.page_size
        page = self.file[start : start + self.page_size]
        keys, places = [], []
        for (offset,) in _OFFSET.iter_unpack(page[_PAGE.size : lower]):
            key = offset + _NODE.size
            if not upper <= offset <= key <= self.page_size or offset % _OFFSET.size:
                raise _DamagedError(f"a node of page {number} is outside of it")
            low, high, flags, length = _NODE.unpack_from(page, offset)
            end = key + length
            size = low | high << 16
            if kind == _BRANCH:
                place, end_of_node = _Place(size | flags << 32), end
            elif flags == 0:
                place, end_of_node = _Place(0, start + end, size), end + size
            elif flags == _OVERFLOWING:
                place, end_of_node = self._overflow(page, end, size), end + _NUMBER.size
            else:
                raise _DamagedError(f"page {number} has a node of another kind")
            if end_of_node > self.page_size:
                raise _DamagedError(f"a node of page {number} leaves it")
            keys.append(page[key:end])
            places.append(place)
        return _Page(keys, places)

    def _overflow(self, page: bytes, where: int, size: int) -> _Place:
        (number,) = _NUMBER.unpack(page[where : where + _NUMBER.size].ljust(_NUMBER.size))
        start = number * self.page_size + _PAGE.size
        if number < 2 or start + size > self.pages * self.page_size:
            raise _DamagedError("a value is outside of the file")
        return _Place(number, start, size)

    def _header(self, number: int) -> tuple[int, int, int, int]:
        """Returns a page header: number, kind, and the two ends of its free space."""
        if not 1 < number < self.pages:
            raise _DamagedError(f"there is no page {number}")
        own, _, flags, lower, upper = _PAGE.unpack_from(self.file, number * self.page_size)
        return own, flags & _KINDS, lower, upper


class LmdbFile:
    """An LMDB that is open for reading, for as long as it, or anything got out of it, is in use.

    Opening it reads its first two pages, whatever its size. The file is mapped: what is got out
    of it are views, which cost memory, and time, only where they are looked at, and memory that
    the system may take back. It may be handed to other processes, forked or spawned.

    Args:
        path: The folder.

    Raises:
        KTDNError: If it holds no LMDB, is truncated, or cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _ = self._tree  # what is wrong with it is said now

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the mapping, which another process has to make for itself."""
        return {"path": self.path}

    @cached_property
    def _tree(self) -> _Tree:
        return _open(self.path)

    def get(self, key: bytes) -> memoryview | None:
        """Returns a value as it lies in the file, or None.

        Raises:
            KTDNError: If the file is damaged where the value should be.
        """
        try:
            return self._tree.get(key)
        except _DamagedError as error:
            raise DamagedLmdbError(
                f"{self.path}: damaged at '{key.decode(errors='replace')}' ({error}); copy or make "
                "it again"
            ) from error

    def check(self) -> None:
        """Checks that LMDB's library, too, can read the file without leaving it.

        This reads every page that has keys, about 40 bytes per image beside the names, and no
        value.

        Raises:
            KTDNError: If a page is damaged.
        """
        try:
            self._tree.check()
        except _DamagedError as error:
            raise DamagedLmdbError(
                f"{self.path}: damaged ({error}); copy or create it again"
            ) from error


def is_lmdb(path: str | Path) -> bool:
    """Returns whether a folder holds an LMDB."""
    return (Path(path) / DATA).is_file()


def _open(path: Path) -> _Tree:
    try:
        with (path / DATA).open("rb") as opened:
            size = opened.seek(0, 2)
            if size == 0:
                raise _DamagedError("an empty file")
            file = mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            file.madvise(mmap.MADV_RANDOM)  # no reading ahead: crops are small and lie anywhere
        page_size, pages, root, depth = _newest_meta(file)
    except OSError as error:
        raise KTDNError(f"{path / DATA}: {error.strerror or error}") from error
    except (_DamagedError, struct.error) as error:
        raise DamagedLmdbError(
            f"{path}: not a readable LMDB ({error}); copy or create it again"
        ) from error
    if size < pages * page_size:
        raise DamagedLmdbError(
            f"{path}: truncated, {size} of {pages * page_size} bytes; copy or create it again"
        )
    return _Tree(file, page_size, pages, root, depth)


def _newest_meta(file: mmap.mmap) -> tuple[int, int, int, int]:
    """Returns size and number of the pages, and root and depth of the tree."""
    metas = []
    start = 0
    for number in range(2):
        own, _, flags, *_ = _PAGE.unpack_from(file, start)
        magic, version, _, _, *values, last, transaction = _META.unpack_from(
            file, start + _PAGE.size
        )
        page_size, tree_flags, depth, root = values[0], values[9], values[10], values[15]
        if magic != _MAGIC or not flags & _META_PAGE or own != number:
            raise _DamagedError(f"page {number} is not an LMDB meta page")
        if version != _VERSION:
            raise _DamagedError(f"version {version} of the format, not {_VERSION}")
        if page_size not in (2**power for power in range(9, 17)):
            raise _DamagedError(f"pages of {page_size} bytes")
        if tree_flags or depth > _DEEPEST or (depth == 0) != (root == _EMPTY):
            raise _DamagedError("another kind of tree")
        metas.append((transaction, page_size, last + 1, root, depth))
        start = page_size
    if metas[0][1] != metas[1][1]:
        raise _DamagedError("pages of two sizes")
    _, *newest = max(metas, key=lambda meta: meta[0])
    return tuple(newest)
