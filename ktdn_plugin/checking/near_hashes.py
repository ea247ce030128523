"""Finds all pairs of hashes that differ in a few bits, without comparing each with each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Pairs = NDArray[np.int64]

RADIUS = 12  # bits of 63; re-saving changes up to 6, cropping 3 % up to 12 of nearly all images
MOST_NEAR = 64  # of one hash: more are chained to one another anyway

BAND_BITS = 16
BAND_RADII = (3, 2, 2, 2)
"""Bits in which the bands of 16 bits of two hashes may differ.

Of two hashes that differ in 12 bits, one band or another differs in no more than that: if none did,
there would be 4 + 3 + 3 + 3 = 13.
"""

FEW = 20_000  # hashes; up to here, comparing each with each is as fast
ROWS = 64  # hashes compared with all others at a time: 51 MB for 100,000
JOINED = 2**21  # pairs compared at a time
KEPT = 2**23  # pairs found, above which those beyond the nearest are dropped


def find_near(hashes: Hashes, others: Hashes) -> Pairs:
    """Finds the pairs ``i < j`` for which ``hashes[i]`` and ``others[j]`` differ in few bits.

    Args:
        hashes: (n,).
        others: (n,).

    Returns:
        Pairs (i, j), (m, 2), sorted: all that differ in up to ``RADIUS`` bits, but of one i with
        more than ``MOST_NEAR`` only the first.
    """
    if len(hashes) <= FEW:
        return _compare_all(hashes, others)
    bands = [(_band(hashes, number), _band(others, number)) for number in range(len(BAND_RADII))]
    masks = [_masks(radius) for radius in BAND_RADII]
    # Hashes that crowd in a few bands, such as of images of one kind, gain nothing.
    joined = sum(_count_joined(*band, own) for band, own in zip(bands, masks, strict=True))
    if joined > len(hashes) ** 2 / 4:
        return _compare_all(hashes, others)
    found: list[Pairs] = [np.empty((0, 2), np.int64)]
    for band, own in zip(bands, masks, strict=True):
        for pairs in _join(hashes, others, *band, own):
            found.append(pairs)
            if sum(map(len, found)) > KEPT:
                found = [_nearest(np.concatenate(found))]
    return _nearest(np.concatenate(found))


def count_bits(values: Hashes) -> NDArray[np.uint8]:
    """Counts the bits that are set, in each number."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(values), dtype=np.uint8)
    # NumPy before 2.0: bits summed within ever larger groups.
    v = values - ((values >> np.uint64(1)) & np.uint64(0x5555555555555555))
    pairs = np.uint64(0x3333333333333333)
    v = (v & pairs) + ((v >> np.uint64(2)) & pairs)
    v = (v + (v >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((v * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)


def _compare_all(hashes: Hashes, others: Hashes) -> Pairs:
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(hashes), ROWS):
        near = count_bits(hashes[start : start + ROWS, None] ^ others[None, start:]) <= RADIUS
        near &= ~np.tri(*near.shape, dtype=np.bool_)  # each pair once
        if near.any():
            found.append(_nearest(np.argwhere(near) + start))
    return np.concatenate(found)


def _nearest(pairs: Pairs) -> Pairs:
    """Sorts pairs, and keeps the first few of each hash."""
    numbers = np.unique(pairs[:, 0] << 32 | pairs[:, 1])
    pairs = np.stack([numbers >> 32, numbers & (2**32 - 1)], axis=1)
    rank = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
    return pairs[rank < MOST_NEAR]


def _band(hashes: Hashes, number: int) -> NDArray[np.int64]:
    bits = hashes >> np.uint64(number * BAND_BITS)
    return (bits & np.uint64(2**BAND_BITS - 1)).astype(np.int64)


def _masks(radius: int) -> list[int]:
    """Lists all differences of up to so many bits that two bands may have."""
    places = range(BAND_BITS)
    return [
        sum(1 << place for place in chosen)
        for count in range(radius + 1)
        for chosen in combinations(places, count)
    ]


def _count_joined(one: NDArray[np.int64], other: NDArray[np.int64], masks: list[int]) -> int:
    ours, theirs = (np.bincount(band, minlength=2**BAND_BITS) for band in (one, other))
    values = np.arange(2**BAND_BITS)
    return sum(int(ours @ theirs[values ^ mask]) for mask in masks)


def _join(
    hashes: Hashes,
    others: Hashes,
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    masks: list[int],
) -> Iterator[Pairs]:
    """Compares the hashes whose bands differ by one of the masks."""
    ours, theirs = (np.argsort(band, kind="stable") for band in (one, other))
    keys, hashes, others = one[ours], hashes[ours], others[theirs]
    ends = np.cumsum(np.bincount(other, minlength=2**BAND_BITS))
    starts = np.concatenate([[0], ends[:-1]])
    for mask in masks:
        first = starts[keys ^ mask]
        count = ends[keys ^ mask] - first
        before = np.cumsum(count)
        parts = np.searchsorted(before, np.arange(JOINED, before[-1] + JOINED, JOINED))
        begin = 0
        for end in dict.fromkeys((*parts.tolist(), len(keys))):
            part = slice(begin, end)
            rows = np.repeat(np.arange(begin, end), count[part])
            if len(rows):
                columns = np.arange(len(rows)) + np.repeat(
                    first[part] - (before[part] - count[part] - (before[begin] - count[begin])),
                    count[part],
                )
                near = np.flatnonzero(count_bits(hashes[rows] ^ others[columns]) <= RADIUS)
                pairs = np.stack([ours[rows[near]], theirs[columns[near]]], axis=1)
                yield pairs[pairs[:, 0] < pairs[:, 1]]
            begin = end
