"""Reading the images of a set, each once, for all that is to be measured of them."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.checking.duplicates import (
    THUMBNAIL,
    Hashes,
    Thumbnails,
    make_thumbnail,
    perceptual_hashes,
)
from ktdn_plugin.checking.findings import Finding, Side
from ktdn_plugin.checking.scenes import ClearView, PairFacts
from ktdn_plugin.checking.sets import ImageSet
from ktdn_plugin.checking.values import judge_values, values_of
from ktdn_plugin.errors import KTDNError

MOST_WORKERS = 8  # each holds two decoded images
AHEAD = 2  # scenes under way for each worker, so that none waits while results are taken

Scene = tuple[int | None, list[int]]
"""A clear image, or none, and the hazy images that belong to it."""


@dataclass
class SceneFacts:
    """What is measured of a scene.

    Attributes:
        clear: Number of its clear image.
        thumbnail: Of the clear image; None where it cannot be read.
        hashes: Its perceptual hash, and that of its mirror image.
        pairs: One for each pair that could be compared.
        findings: What is wrong with single images.
    """

    clear: int | None
    thumbnail: NDArray[np.uint8] | None = None
    hashes: tuple[int, int] = (0, 0)
    pairs: list[PairFacts] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass
class SetFacts:
    """What is kept of a set: about 2.4 kB for each clear image, and 1 kB for each pair.

    Attributes:
        thumbnails: Of the clear images, (n, 48, 48); all 0 where there is nothing to see.
        hashes: Perceptual hashes of the clear images, (n, 2): as they are, and mirrored.
        pairs: What is measured of the pairs.
        findings: What is wrong with single images.
    """

    thumbnails: Thumbnails
    hashes: Hashes
    pairs: list[PairFacts] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def measure_set(image_set: ImageSet, pool: ThreadPoolExecutor) -> Iterator[int | SetFacts]:
    """Reads all images of a set.

    Args:
        image_set: The set.
        pool: Threads of :func:`make_pool`; OpenCV lets several decode at a time.

    Yields:
        Numbers of images read, to tell how far it is; what was measured at the end.
    """
    count = len(image_set.clear)
    facts = SetFacts(
        np.zeros((count, THUMBNAIL, THUMBNAIL), np.uint8), np.zeros((count, 2), np.uint64)
    )
    scenes = scenes_of(image_set)
    for scene, found in zip(scenes, _in_order(image_set, scenes, pool), strict=True):
        facts.pairs += found.pairs
        facts.findings += found.findings
        if found.clear is not None and found.thumbnail is not None:
            facts.thumbnails[found.clear] = found.thumbnail
            facts.hashes[found.clear] = found.hashes
        yield (scene[0] is not None) + len(scene[1])
    yield facts


def make_pool() -> ThreadPoolExecutor:
    """Makes the threads that read."""
    return ThreadPoolExecutor(max_workers=workers())


def workers() -> int:
    """Returns how many threads read: as many as there are processors for this process."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(usable or 1, MOST_WORKERS)


def scenes_of(image_set: ImageSet) -> list[Scene]:
    """Puts the hazy images to their clear ones, so that each file is decoded once."""
    hazy_of: dict[int, list[int]] = defaultdict(list)
    for hazy, clear in image_set.pairs:
        hazy_of[clear].append(hazy)
    scenes: list[Scene] = [(clear, hazy_of[clear]) for clear in range(len(image_set.clear))]
    paired = {hazy for hazy, _ in image_set.pairs}
    alone = range(0 if image_set.hazy is None else len(image_set.hazy))
    return scenes + [(None, [hazy]) for hazy in alone if hazy not in paired]


def _in_order(
    image_set: ImageSet, scenes: Iterable[Scene], pool: ThreadPoolExecutor
) -> Iterator[SceneFacts]:
    under_way: deque[Future[SceneFacts]] = deque()
    try:
        for scene in scenes:
            under_way.append(pool.submit(measure_scene, image_set, *scene))
            if len(under_way) > AHEAD * workers():
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()


def measure_scene(image_set: ImageSet, clear: int | None, hazies: list[int]) -> SceneFacts:
    """Reads a scene's images and measures them.

    Args:
        image_set: Where they are.
        clear: Number of the clear image, if there is one.
        hazies: Numbers of its hazy images.
    """
    facts = SceneFacts(clear)
    view = None
    rgb = None if clear is None else _read(image_set, "clear", clear, facts)
    if rgb is not None:
        facts.thumbnail = make_thumbnail(rgb)
        facts.hashes = perceptual_hashes(rgb)
        view = None if values_of(rgb).is_one_colour else ClearView(rgb)
    for number in hazies:
        hazy = _read(image_set, "hazy", number, facts)
        if hazy is None or view is None or clear is None or values_of(hazy).is_one_colour:
            continue
        facts.pairs.append(view.compare(hazy, number, clear))
    return facts


def _read(
    image_set: ImageSet, side: Side, number: int, facts: SceneFacts
) -> NDArray[np.uint8] | None:
    try:
        rgb = image_set.read(side, number)
    except KTDNError as error:
        facts.findings.append(Finding("unreadable", "error", " ".join(str(error).split("\n"))))
        return None
    name = image_set.side(side).describe(number)
    facts.findings += judge_values(values_of(rgb), side, name)
    return rgb
