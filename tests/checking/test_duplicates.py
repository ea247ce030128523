"""Perceptual hashes: stable where a picture stays the same, and fast where there are many."""

from __future__ import annotations

import time

import cv2
import numpy as np
from checking.conftest import Image, scenes
from hypothesis import given, settings
from hypothesis import strategies as st

from ktdn_plugin.checking.duplicates import find_duplicates, make_thumbnail, perceptual_hashes
from ktdn_plugin.checking.near_hashes import RADIUS

SCENES = scenes()
NAMES = st.sampled_from(sorted(SCENES))


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def groups_of(images: list[Image]) -> list[list[tuple[int, bool]]]:
    hashes = np.array([perceptual_hashes(image) for image in images], dtype=np.uint64)
    thumbnails = np.stack([make_thumbnail(image) for image in images])
    return find_duplicates(hashes[:, 0], hashes[:, 1], thumbnails)


@settings(max_examples=40, deadline=None)
@given(NAMES, st.integers(30, 100), st.floats(0.3, 2.0), st.booleans())
def test_a_hash_survives_saving_and_resizing(name: str, quality: int, scale: float, mirrored: bool):
    original = SCENES[name]
    copy = cv2.resize(original, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, code = cv2.imencode(".jpg", copy, [cv2.IMWRITE_JPEG_QUALITY, quality])
    copy = cv2.imdecode(code, cv2.IMREAD_COLOR)
    if mirrored:
        copy = np.ascontiguousarray(copy[:, ::-1])
    assert (
        distance(perceptual_hashes(original)[mirrored], perceptual_hashes(copy)[0]) <= RADIUS // 2
    )
    assert groups_of([original, copy]) == [[(0, False), (1, mirrored)]]


@settings(max_examples=30, deadline=None)
@given(NAMES, NAMES)
def test_mirroring_twice_is_nothing(name: str, other: str):
    image = SCENES[name]
    there, back = perceptual_hashes(image), perceptual_hashes(np.ascontiguousarray(image[:, ::-1]))
    assert distance(there[1], back[0]) <= 2
    assert distance(there[0], back[1]) <= 2
    if name != other:
        assert groups_of([image, SCENES[other]]) == []


def sky(seed: int) -> Image:
    random = np.random.RandomState(seed)
    down, right = np.linspace(0, 1, 300)[:, None, None], np.linspace(0, 1, 400)[None, :, None]
    colours = random.randint(90, 110, 3), random.randint(180, 220, 3)
    slope = down ** random.uniform(0.7, 1.4) + random.uniform(-0.1, 0.1) * right
    image = colours[0] + (colours[1] - colours[0]) * slope + 2 * random.randn(300, 400, 3)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def test_skies_of_one_hash_are_no_duplicates():
    thumbnails = np.stack([make_thumbnail(sky(seed)) for seed in range(12)])
    same = np.full(12, 12345, dtype=np.uint64)
    assert find_duplicates(same, ~same, thumbnails) == []
    copies = np.concatenate([thumbnails, thumbnails[3:4]])
    same = np.full(13, 12345, dtype=np.uint64)
    assert find_duplicates(same, ~same, copies) == [[(3, False), (12, False)]]


def test_chains_become_one_group():
    image = SCENES["coffee_1"]
    mirrored = np.ascontiguousarray(image[:, ::-1])
    small = cv2.resize(image, (120, 160), interpolation=cv2.INTER_AREA)
    found = groups_of([SCENES["cat_0"], mirrored, image, SCENES["rocket_0"], small, mirrored])
    assert found == [[(1, False), (2, True), (4, True), (5, False)]]


def test_many_images_take_seconds_and_many_copies_no_longer():
    random = np.random.RandomState(0)
    count = 10_000
    hashes = random.randint(0, 2**63, (count, 2)).astype(np.uint64)
    thumbnails = random.randint(0, 256, (count, 48, 48)).astype(np.uint8)
    hashes[7000:], thumbnails[7000:] = hashes[5], thumbnails[5]
    start = time.process_time()
    groups = find_duplicates(hashes[:, 0], hashes[:, 1], thumbnails)
    assert time.process_time() - start < 10  # half a second on a desktop
    assert [member for member, _ in groups[0]] == [5, *range(7000, count)]
    assert len(groups) == 1
