"""Pairs: whether a hazy and a clear image show the same scene, in the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.checking.duplicates import Thumbnails, make_thumbnail, thumbnail_edges
from ktdn_plugin.checking.edges import (
    Edges,
    Match,
    Outline,
    find_edges,
    make_grey,
    match_spectra,
    relative_contrast,
    spectrum,
    working_size,
)

SAME = 12.0
"""Match of one scene: real pairs have 29 and more, the densest haze among them; with a seventh of
their contrast left and noise added, 18 and more."""
UNRELATED = 8.0  # match that different scenes stay below: up to 5.7
ELSEWHERE = 16.0  # match at a shift, by which two are called shifted; views of one room have 16
CLEARLY = 1.5  # times as good as where the images lie
BEYOND_DOUBT = 25.0

REACH = 0.02  # shift, as a share of the longer side, that is taken for a good pair's

LIKE = 0.3  # correlation of thumbnails' edges: different scenes have up to 0.28, pairs from 0.34
MARGIN = 0.15  # by which another image must match better; of real pairs, each leads itself

NO_HAZE = 36.0  # dB between hazy and clear, 4 grey levels; light haze has 18, JPEG copies 38
LARGEST_PSNR = 99.0  # of images that differ in a few pixels
CONTRAST = 1.03  # of hazy edges relative to clear ones; haze leaves 0.93 at most

HAZY_BLOCK, CLEAR_BLOCK = 4096, 256  # thumbnails compared at a time, which take 80 MB

TURNS = {"mirrored": 1, "upside down": 0, "turned by 180 degrees": -1}
"""What was done to one of two images, and OpenCV's code that undoes it."""


@dataclass(frozen=True)
class PairFacts:
    """What is measured of a pair.

    Attributes:
        hazy: Number of the hazy image.
        clear: Number of the clear one.
        sizes: Height and width of the hazy image, and of the clear one.
        match: How well the edges match; None where the images are too small, or shaped too
            differently, to tell.
        turn: One of ``TURNS`` after which they match, where they do not as they are.
        contrast: Of the hazy image's edges, relative to the clear one's.
        psnr: Of the small grey images, which differ little by compression, in dB; infinite where
            the images are identical; None where their sizes differ.
        thumbnail: Of the hazy image, kept where the match alone does not decide.
    """

    hazy: int
    clear: int
    sizes: tuple[tuple[int, int], tuple[int, int]]
    match: Match | None = None
    turn: str | None = None
    contrast: float = 0.0
    psnr: float | None = None
    thumbnail: NDArray[np.uint8] | None = None

    @property
    def is_shifted(self) -> bool:
        """Returns whether the edges match, but at another place."""
        match = self.match
        return match is not None and match.best >= ELSEWHERE and match.best >= CLEARLY * match.here

    @property
    def is_in_doubt(self) -> bool:
        """Returns whether it takes the other clear images to judge."""
        match = self.match
        return (
            match is not None
            and match.here < BEYOND_DOUBT
            and not self.is_shifted
            and self.turn is None
        )


class ClearView:
    """A clear image, prepared for the hazy images that belong to it.

    Args:
        rgb: (h, w, 3).
    """

    def __init__(self, rgb: NDArray[np.uint8]) -> None:
        self.rgb = rgb
        self.size = rgb.shape[0], rgb.shape[1]
        self.working_size = working_size(*self.size)
        if self.working_size is not None:
            self._grey = make_grey(rgb, self.working_size)
            self._outline = Outline(self._grey)
            self._spectrum = spectrum(self._outline.edges)

    def compare(self, hazy: NDArray[np.uint8], number: int, clear: int) -> PairFacts:
        """Measures a pair.

        Args:
            hazy: The hazy image, (h, w, 3).
            number: Its number.
            clear: This one's number.
        """
        size = hazy.shape[0], hazy.shape[1]
        sizes = size, self.size
        if self.working_size is None or not _alike(*sizes):
            return PairFacts(number, clear, sizes)
        grey = make_grey(hazy, self.working_size)
        psnr = _psnr(grey, self._grey) if size == self.size else None
        if psnr is not None and psnr == np.inf and not np.array_equal(hazy, self.rgb):
            psnr = LARGEST_PSNR
        outline = Outline(grey)
        match = self._match(outline.edges)
        facts = PairFacts(number, clear, sizes, match)
        turn = None
        if match.here < SAME and not facts.is_shifted:
            turn = self._turn(grey)
        contrast = relative_contrast(outline, self._outline)
        facts = PairFacts(number, clear, sizes, match, turn, contrast, psnr)
        if not facts.is_in_doubt:
            return facts
        return replace(facts, thumbnail=make_thumbnail(hazy, flat=1))

    def _match(self, edges: Edges) -> Match:
        reach = max(3, round(REACH * max(edges.shape)))
        return match_spectra(spectrum(edges), self._spectrum, reach)

    def _turn(self, grey: NDArray[np.float32]) -> str | None:
        best = {}
        for name, code in TURNS.items():
            turned = np.asarray(cv2.flip(grey, code), dtype=np.float32)
            best[name] = self._match(find_edges(turned)).best
        name = max(best, key=lambda turn: best[turn])
        return name if best[name] >= ELSEWHERE else None


def _psnr(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    error = float(np.square(one - other).mean())
    return 10 * np.log10(255**2 / error) if error else np.inf


def _alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Returns whether images have one shape, whatever their sizes."""
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) < 0.02


@dataclass(frozen=True)
class Verdict:
    """What is thought of a pair in doubt.

    Attributes:
        is_same: Whether it is one scene.
        better: Number of the clear image that matches clearly better, where there is one.
    """

    is_same: bool
    better: int | None = None


def judge_doubtful(doubtful: Sequence[PairFacts], thumbnails: Thumbnails) -> list[Verdict]:
    """Judges pairs by whether another clear image of the set matches better.

    Args:
        doubtful: Pairs whose ``thumbnail`` is kept.
        thumbnails: Of all clear images of the set, (n, 48, 48); all 0 where there is none.

    Returns:
        One verdict for each pair.
    """
    verdicts: list[Verdict] = []
    for start in range(0, len(doubtful), HAZY_BLOCK):
        verdicts += _judge(doubtful[start : start + HAZY_BLOCK], thumbnails)
    return verdicts


def _judge(doubtful: Sequence[PairFacts], thumbnails: Thumbnails) -> list[Verdict]:
    hazy = np.stack([_vector(facts.thumbnail) for facts in doubtful])
    numbers = np.array([facts.clear for facts in doubtful])
    rows = np.arange(len(doubtful))
    own, best = np.full((2, len(doubtful)), -1.0)
    best_number = np.full(len(doubtful), -1)
    for start in range(0, len(thumbnails), CLEAR_BLOCK):
        block = thumbnails[start : start + CLEAR_BLOCK]
        likeness = hazy @ np.stack([_vector(thumbnail) for thumbnail in block]).T
        here = (numbers >= start) & (numbers < start + len(block))
        own[here] = likeness[rows[here], numbers[here] - start]
        likeness[rows[here], numbers[here] - start] = -1
        column = likeness.argmax(axis=1)
        found = likeness[rows, column]
        better = found > best
        best[better], best_number[better] = found[better], column[better] + start
    return [
        _verdict(facts, *values)
        for facts, *values in zip(doubtful, own, best, best_number, strict=True)
    ]


def _verdict(facts: PairFacts, own: float, best: float, number: int) -> Verdict:
    assert facts.match is not None
    better = int(number) if best >= LIKE and best - own >= MARGIN else None
    # In the densest haze little is left to match, but chance would favour any image alike.
    leads = own >= LIKE and own - best >= MARGIN and best > -1
    is_same = facts.match.here >= UNRELATED or leads
    return Verdict(is_same and better is None, better)


def _vector(thumbnail: NDArray[np.uint8] | None) -> NDArray[np.float32]:
    assert thumbnail is not None
    edges = thumbnail_edges(thumbnail)
    return np.concatenate([edges.real.ravel(), edges.imag.ravel()]).astype(np.float32)
