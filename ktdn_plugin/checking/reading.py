"""Reading the images of a set, each once, for all that is to be measured of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.checking.duplicates import (
    THUMBNAIL,
    Thumbnails,
    make_thumbnail,
    perceptual_hashes,
)
from ktdn_plugin.checking.findings import Finding
from ktdn_plugin.checking.likeness import ClearView, PairFacts
from ktdn_plugin.checking.near_hashes import Hashes
from ktdn_plugin.checking.values import Values, judge_values, values_of
from ktdn_plugin.data.decoding import in_order
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.pipeline import usable_cores
from ktdn_plugin.scenes.images import StoreImages
from ktdn_plugin.scenes.names import Side
from ktdn_plugin.scenes.scene_set import Scene, SceneSet

MOST_WORKERS = 8  # each holds two decoded images


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


def measure_set(scenes: SceneSet, workers: int | None = None) -> Iterator[int | SetFacts]:
    """Reads all images of a set.

    Args:
        scenes: The set.
        workers: Scenes to measure at a time; by default one per processor, up to ``MOST_WORKERS``.
            Threads do: OpenCV and NumPy's Fourier transforms do not hold Python's lock.

    Yields:
        Numbers of images read, to tell how far it is; what was measured at the end.
    """
    count = len(scenes.clear)
    facts = SetFacts(
        np.zeros((count, THUMBNAIL, THUMBNAIL), np.uint8), np.zeros((count, 2), np.uint64)
    )
    workers = workers or min(usable_cores(), MOST_WORKERS)
    measured = in_order(partial(measure_scene, scenes), scenes, workers)
    with contextlib.closing(measured):  # so that no worker outlives an error
        for scene, found in measured:
            facts.pairs += found.pairs
            facts.findings += found.findings
            if found.clear is not None and found.thumbnail is not None:
                facts.thumbnails[found.clear] = found.thumbnail
                facts.hashes[found.clear] = found.hashes
            yield (scene.clear is not None) + len(scene.hazy)
    yield facts


def measure_scene(scenes: SceneSet, scene: Scene) -> SceneFacts:
    """Reads a scene's images and measures them; its clear one once for all of its hazy ones."""
    clear = scene.clear
    facts = SceneFacts(clear)
    view = None
    rgb = values = None
    if clear is not None:
        rgb, values = _read(scenes, "clear", clear, facts)
    if rgb is not None and values is not None:
        facts.thumbnail = make_thumbnail(rgb)
        facts.hashes = perceptual_hashes(rgb)
        view = None if values.is_one_colour else ClearView(rgb)
    for number in scene.hazy:
        hazy, values = _read(scenes, "hazy", number, facts)
        if hazy is None or view is None or clear is None or values is None or values.is_one_colour:
            continue
        facts.pairs.append(view.compare(hazy, number, clear))
    return facts


def _read(
    scenes: SceneSet, side: Side, number: int, facts: SceneFacts
) -> tuple[NDArray[np.uint8], Values] | tuple[None, None]:
    """Reads an image and counts its values; notes what is wrong with either."""
    images = scenes.side(side)
    try:
        if isinstance(images, StoreImages):
            images.verify(number)
        rgb = images.read(number)
    except KTDNError as error:
        facts.findings.append(Finding("unreadable", "error", " ".join(str(error).split("\n"))))
        return None, None
    values = values_of(rgb)
    facts.findings += judge_values(values, side, images.describe(number))
    return rgb, values
