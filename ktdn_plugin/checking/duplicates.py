"""Duplicates: pictures that are the same, however they were saved, resized or mirrored.

A perceptual hash finds candidates fast, edges confirm them: two skies have one hash, but no edges
in common.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.checking.edges import Edges, correlation, find_edges, make_grey, spectrum
from ktdn_plugin.checking.near_hashes import Hashes, find_near

THUMBNAIL = 48
HASHED = 32  # size of the grey image that is hashed
BITS_A_SIDE = 8

SAME_EDGES = 0.6  # correlation as they lie: of different scenes up to 0.3, re-saved above 0.8
SAME_SHIFTED_EDGES = 9.0  # deviations at the best shift: of different scenes up to 6.6
FLAT = 4  # grey levels; what has fewer has nothing to recognise it by

BATCH = 256  # candidates confirmed at a time

Thumbnails = NDArray[np.uint8]
Link = tuple[int, int, bool]
Group = list[tuple[int, bool]]
"""Images that are the same picture, in order, and whether each is mirrored against the first."""


def make_thumbnail(rgb: NDArray[np.uint8], flat: int = FLAT) -> NDArray[np.uint8]:
    """Makes the small grey image that is kept, (48, 48), of full contrast.

    Args:
        rgb: (h, w, 3).
        flat: Grey levels; an image that has fewer becomes all 0.
    """
    grey = make_grey(rgb, (THUMBNAIL, THUMBNAIL))
    low, high = float(grey.min()), float(grey.max())
    if high - low < flat:
        return np.zeros((THUMBNAIL, THUMBNAIL), np.uint8)
    return np.rint((grey - low) * (255 / (high - low))).astype(np.uint8)


def thumbnail_edges(thumbnail: NDArray[np.uint8]) -> Edges:
    """Finds a thumbnail's edges, of length 1 as one long vector."""
    edges = find_edges(thumbnail.astype(np.float32), blur=0.7, nearby=3.0)
    return edges / (np.linalg.norm(edges) + 1e-12)


def perceptual_hashes(rgb: NDArray[np.uint8]) -> tuple[int, int]:
    """Hashes an image by the signs of its lowest frequencies about their median (pHash).

    Returns:
        The hash, and that of the mirrored image, of 64 bits each.
    """
    frequencies = cv2.dct(make_grey(rgb, (HASHED, HASHED)))[:BITS_A_SIDE, :BITS_A_SIDE]
    # Mirroring turns the sign of the frequencies that are odd in x, and does nothing else.
    signs = np.where(np.arange(BITS_A_SIDE) % 2, -1, 1)
    return _bits(frequencies), _bits(frequencies * signs)


def _bits(frequencies: NDArray[Any]) -> int:
    values = frequencies.ravel()[1:]  # the first is the mean brightness, which says nothing
    return int(np.packbits(np.r_[False, values > np.median(values)]).view(">u8")[0])


def find_duplicates(hashes: Hashes, mirrored: Hashes, thumbnails: Thumbnails) -> list[Group]:
    """Groups images that show the same picture.

    Args:
        hashes: Of each image, (n,).
        mirrored: Hashes of the images mirrored, (n,).
        thumbnails: Of each image, (n, 48, 48).

    Returns:
        Groups of two or more, sorted by their first image.
    """
    first: dict[bytes, int] = {}
    links: list[Link] = []
    # Copies that are identical are one image from here on, or many would make all of their pairs.
    for number, thumbnail in enumerate(thumbnails):
        same = first.setdefault(hashlib.blake2b(thumbnail.data, digest_size=16).digest(), number)
        if same != number:
            links.append((same, number, False))
    images = np.array(sorted(first.values()), dtype=np.int64)
    for candidates, flipped in _candidates(hashes[images], mirrored[images]):
        links += _confirm(images[candidates], flipped, thumbnails)
    return _groups(links)


def _candidates(hashes: Hashes, mirrored: Hashes) -> Iterator[tuple[NDArray[np.int64], bool]]:
    for others, flipped in ((hashes, False), (mirrored, True)):
        pairs = find_near(hashes, others)
        for part in range(0, len(pairs), BATCH):
            yield pairs[part : part + BATCH], flipped


def _confirm(pairs: NDArray[np.int64], flipped: bool, thumbnails: Thumbnails) -> list[Link]:
    one = np.stack([thumbnail_edges(thumbnails[i]) for i in pairs[:, 0]])
    turn = slice(None, None, -1 if flipped else None)
    other = np.stack([thumbnail_edges(thumbnails[j][:, turn]) for j in pairs[:, 1]])
    as_they_lie = np.einsum("nij,nij->n", one, other.conj()).real
    shifted = correlation(spectrum(one), spectrum(other)).max(axis=(1, 2))
    same = (as_they_lie >= SAME_EDGES) | (shifted >= SAME_SHIFTED_EDGES)
    return [(int(i), int(j), flipped) for i, j in pairs[same]]


def _groups(links: list[Link]) -> list[Group]:
    linked: dict[int, list[tuple[int, bool]]] = defaultdict(list)
    for one, other, flipped in links:
        linked[one].append((other, flipped))
        linked[other].append((one, flipped))
    seen: dict[int, bool] = {}
    groups = []
    for start in sorted(linked):
        if start in seen:
            continue
        seen[start] = False
        members, waiting = [start], deque([start])
        while waiting:
            here = waiting.popleft()
            for other, flipped in linked[here]:
                if other not in seen:
                    seen[other] = seen[here] ^ flipped
                    members.append(other)
                    waiting.append(other)
        groups.append([(member, seen[member]) for member in sorted(members)])
    return groups
