"""Reading the images of a set, each once, for all that is to be measured of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
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
from ktdn_plugin.checking.findings import Finding
from ktdn_plugin.checking.likeness import ClearView, PairFacts
from ktdn_plugin.checking.values import judge_values, values_of
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.pipeline import usable_cores
from ktdn_plugin.scenes.images import StoreImages
from ktdn_plugin.scenes.names import Side
from ktdn_plugin.scenes.scene_set import Scene, SceneSet

MOST_WORKERS = 8  # each holds two decoded images
AHEAD = 2  # scenes under way for each worker, so that none waits while results are taken


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


def measure_set(scenes: SceneSet, pool: ThreadPoolExecutor) -> Iterator[int | SetFacts]:
    """Reads all images of a set.

    Args:
        scenes: The set.
        pool: Threads of :func:`make_pool`; OpenCV lets several decode at a time.

    Yields:
        Numbers of images read, to tell how far it is; what was measured at the end.
    """
    count = len(scenes.clear)
    facts = SetFacts(
        np.zeros((count, THUMBNAIL, THUMBNAIL), np.uint8), np.zeros((count, 2), np.uint64)
    )
    for scene, found in zip(scenes, _in_order(scenes, pool), strict=True):
        facts.pairs += found.pairs
        facts.findings += found.findings
        if found.clear is not None and found.thumbnail is not None:
            facts.thumbnails[found.clear] = found.thumbnail
            facts.hashes[found.clear] = found.hashes
        yield (scene.clear is not None) + len(scene.hazy)
    yield facts


def make_pool() -> ThreadPoolExecutor:
    """Makes the threads that read."""
    return ThreadPoolExecutor(max_workers=workers())


def workers() -> int:
    """Returns how many threads read: one per processor for this process."""
    return min(usable_cores(), MOST_WORKERS)


def _in_order(scenes: SceneSet, pool: ThreadPoolExecutor) -> Iterator[SceneFacts]:
    under_way: deque[Future[SceneFacts]] = deque()
    try:
        for scene in scenes:
            under_way.append(pool.submit(measure_scene, scenes, scene))
            if len(under_way) > AHEAD * workers():
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()


def measure_scene(scenes: SceneSet, scene: Scene) -> SceneFacts:
    """Reads a scene's images and measures them; its clear one once for all of its hazy ones."""
    clear = scene.clear
    facts = SceneFacts(clear)
    view = None
    rgb = None if clear is None else _read(scenes, "clear", clear, facts)
    if rgb is not None:
        facts.thumbnail = make_thumbnail(rgb)
        facts.hashes = perceptual_hashes(rgb)
        view = None if values_of(rgb).is_one_colour else ClearView(rgb)
    for number in scene.hazy:
        hazy = _read(scenes, "hazy", number, facts)
        if hazy is None or view is None or clear is None or values_of(hazy).is_one_colour:
            continue
        facts.pairs.append(view.compare(hazy, number, clear))
    return facts


def _read(scenes: SceneSet, side: Side, number: int, facts: SceneFacts) -> NDArray[np.uint8] | None:
    images = scenes.side(side)
    try:
        if isinstance(images, StoreImages):
            images.verify(number)
        rgb = images.read(number)
    except KTDNError as error:
        facts.findings.append(Finding("unreadable", "error", " ".join(str(error).split("\n"))))
        return None
    name = images.describe(number)
    facts.findings += judge_values(values_of(rgb), side, name)
    return rgb
