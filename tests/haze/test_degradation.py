from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from ktdn_plugin.data.augmentation import Augmentation
from ktdn_plugin.data.datasets import SyntheticHazeDataset
from ktdn_plugin.data.options import configure_synthetic
from ktdn_plugin.data.order import SampleDraw, SeededDataset
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.haze.degradation import OPERATIONS, Degradation, degrade
from ktdn_plugin.haze.depth import DepthMaps
from ktdn_plugin.haze.scattering import synthesize_haze
from ktdn_plugin.scenes.image_files import list_images
from ktdn_plugin.scenes.images import FileImages

EVERYTHING = {name: {"share": 1} for name in OPERATIONS}
WHITE = {"airlight": {"share": 1, "brightness": [1, 1], "color": [0, 0]}}
BLACK = np.zeros((48, 64, 3), np.uint8)
GREY = np.full((64, 64, 3), 100, np.uint8)
PHOTO = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)


def one_kind(kind: str, **options: object) -> Degradation:
    return Degradation.of({"kinds": {kind: 1}, **options})


def unhazed(image: np.ndarray, **options: object) -> np.ndarray:
    """What the operations alone make of an image."""
    return degrade(image, 5, one_kind("homogeneous", beta=[0, 0], **options))


def test_kinds_come_as_often_as_their_shares_say() -> None:
    shares = {"clouds": 0.0, "depth": 0.6, "homogeneous": 0.3, "no_haze": 0.1}
    degradation = Degradation.of({"kinds": shares})
    stream = np.random.default_rng(1)
    drawn = Counter(degradation.draw_kind(stream) for _ in range(4000))
    assert drawn["clouds"] == 0
    for kind, share in shares.items():
        assert drawn[kind] / 4000 == pytest.approx(share, abs=0.03)


def test_clouds_are_those_of_synthesize_haze() -> None:
    expected = np.rint(synthesize_haze(PHOTO, 7, veil=(0.2, 0.3)).hazy * 255)
    hazy = degrade(PHOTO, 7, one_kind("clouds"), {"veil": (0.2, 0.3)})
    np.testing.assert_allclose(hazy, expected, atol=1, rtol=0)


def test_haze_thickens_with_a_depth_map_as_the_formula_says() -> None:
    distance = np.linspace(0, 1, 48, dtype=np.float32)[:, None].repeat(64, 1)
    hazy = degrade(BLACK, 3, one_kind("depth", beta=[0.7, 0.7], **WHITE), distance=distance)
    expected = 255 * (1 - np.exp(-2 * 0.7 * distance))
    np.testing.assert_allclose(hazy, np.rint(expected)[..., None].repeat(3, 2), atol=1)
    # And clouds at the distance 0.5, which is a typical one, are clouds as they always are.
    middle = np.full_like(distance, 0.5)
    behind = degrade(BLACK, 3, one_kind("clouds_and_depth"), distance=middle)
    np.testing.assert_array_equal(behind, degrade(BLACK, 3, one_kind("clouds")))
    nowhere = degrade(BLACK, 3, one_kind("clouds_and_depth"), distance=middle * 0)
    assert nowhere.max() == 0


def test_ramps_are_far_at_the_top() -> None:
    for seed in range(30):
        hazy = degrade(BLACK, seed, one_kind("depth", beta=[1, 1], **WHITE)).astype(float)
        assert hazy[:8].mean() > hazy[-8:].mean() + 10


def test_homogeneous_haze_is_the_same_everywhere() -> None:
    hazy = [degrade(BLACK, seed, one_kind("homogeneous")) for seed in range(20)]
    assert all(np.ptp(image, axis=(0, 1)).max() == 0 for image in hazy)
    assert len({image.tobytes() for image in hazy}) > 15


def test_least_transmission() -> None:
    thick = one_kind("homogeneous", beta=[30, 30], min_transmission=0.2, **WHITE)
    assert (degrade(BLACK, 0, thick) == 204).all()


@pytest.mark.parametrize("kind", ["clouds", "depth", "clouds_and_depth"])
def test_a_window_gets_its_part_of_the_whole_photographs_haze(kind: str) -> None:
    whole = degrade(PHOTO, 11, one_kind(kind))
    part = degrade(PHOTO[20:50, 30:70], 11, one_kind(kind), frame=(60, 90), at=(20, 30))
    np.testing.assert_array_equal(part, whole[20:50, 30:70])


def test_airlight_is_neutral_in_its_share_and_else_bluish() -> None:
    options = {"beta": [40, 40], "airlight": {"share": 0.5}}
    lights = [degrade(BLACK, s, one_kind("homogeneous", **options))[0, 0] for s in range(200)]
    spreads = np.array([int(light.max()) - int(light.min()) for light in lights])
    neutral = spreads <= 13  # 0.05 of 255
    assert 70 < neutral.sum() < 130
    assert min(light[0] for light in np.array(lights)[neutral]) < 100 < 0.65 * 255
    assert all(light[0] < light[1] < light[2] for light in np.array(lights)[~neutral])


def test_darkening_noise_and_camera_effects() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    dark = unhazed(ramp, darkening={"share": 1, "gamma": [2, 2]})
    np.testing.assert_allclose(dark, np.rint((ramp / 255) ** 2 * 255), atol=1)
    for name in ("noise", "noise_before"):
        noise = unhazed(GREY, **{name: {"share": 1, "sigma": [10, 10]}}).astype(float) - 100
        assert noise.std() == pytest.approx(10, rel=0.1)
        assert abs(noise.mean()) < 0.6
    balanced = unhazed(GREY, white_balance={"share": 1, "gain": [1.2, 1.2]})
    assert (balanced == (120, 100, 120)).all()
    assert (unhazed(GREY, exposure={"share": 1, "gain": [0.5, 0.5]}) == 50).all()
    toned = unhazed(GREY, tone={"share": 1, "gamma": [0.5, 0.5]})
    assert (toned == round((100 / 255) ** 0.5 * 255)).all()
    assert (unhazed(GREY, contrast={"share": 1, "factor": [2, 2]}) == 72).all()  # 127.5 - 55
    jpeg = unhazed(PHOTO, jpeg={"share": 1, "quality": [40, 40]})
    _, content = cv2.imencode(".jpg", PHOTO[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 40])
    np.testing.assert_array_equal(jpeg, cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1])


def test_erosion_spreads_haze_over_edges() -> None:
    distance = np.zeros((9, 9), np.float32)
    distance[4, 4] = 1
    options = {"beta": [1, 1], "erosion": {"share": 1, "times": [2, 2]}, **WHITE}
    hazy = degrade(BLACK[:9, :9], 0, one_kind("depth", **options), distance=distance)
    expected = np.zeros((9, 9), bool)
    expected[2:7, 2:7] = True
    np.testing.assert_array_equal(hazy[..., 0] > 0, expected)


def test_without_haze_nothing_is_done() -> None:
    assert degrade(PHOTO, 0, one_kind("no_haze", **EVERYTHING)) is PHOTO


def test_samples_follow_from_their_seed_and_the_target_stays_clear(pairs: Path) -> None:
    opt = {
        "dataroot_gt": str(pairs / "train/clear"),
        "gt_size": 32,
        "use_scale": [0.6, 1.5],
        "degradation": EVERYTHING,
    }
    plain, degraded = (
        SeededDataset(configure_synthetic(opt | change, True).dataset, 4)
        for change in ({"degradation": None}, {})
    )
    for turn in range(4):
        sample, again = degraded[SampleDraw(turn, 2)], degraded[SampleDraw(turn, 2)]
        assert sample["hazy"].equal(again["hazy"])
        assert sample["hazy"].shape == (3, 32, 32)
        assert sample["clear"].equal(plain[SampleDraw(turn, 2)]["clear"])
        assert not sample["hazy"].equal(degraded[SampleDraw(turn + 1, 2)]["hazy"])
    # Whole images keep the haze that follows from their names.
    first, second = (configure_synthetic(opt, False) for _ in range(2))
    random.seed(1)
    assert first.dataset[1]["hazy"].equal(second.dataset[1]["hazy"])
    others = configure_synthetic(opt | {"degradation": {"jpeg": {"share": 0.5}}}, False)
    assert first.split == second.split != others.split


def test_depth_maps_follow_their_photographs_crops_and_scale(pairs: Path) -> None:
    clear = FileImages(list_images(pairs / "val/clear"))
    (pairs / "depth").mkdir()
    for path in clear.paths:
        cv2.imwrite(str(path), np.zeros((64, 80, 3), np.uint8))
        far = np.linspace(1000, 60000, 80, dtype=np.uint16)[None].repeat(64, 0)
        cv2.imwrite(str(pairs / "depth" / path.name), far)
    depth = DepthMaps.of_folder(pairs / "depth", [str(path) for path in clear.paths])
    degradation = one_kind("depth", beta=[1, 1], **WHITE)
    whole = SyntheticHazeDataset(clear, depth=depth, degradation=degradation)[0]["hazy"][0]
    expected = 1 - np.exp(-2 * np.linspace(0, 1, 80))
    np.testing.assert_allclose(whole, expected[None].repeat(64, 0), atol=0.006)
    halved = Augmentation(32, hflip=False, rot=False, scale=(0.5, 0.5))
    random.seed(3)
    crop = SyntheticHazeDataset(clear, halved, depth=depth, degradation=degradation)[0]["hazy"][0]
    random.seed(3)
    left = halved.draw(64, 80).window[1]
    halves = expected[left : left + 64].reshape(32, 2).mean(1)
    np.testing.assert_allclose(crop[0], halves, atol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": {}}, "degradation.kind: unknown key; did you mean 'kinds'?"),
        ({"kinds": {"cloud": 1}}, "degradation.kinds.cloud: unknown key; did you mean 'clouds'?"),
        ({"kinds": {"clouds": 0.5, "depth": 0.4}}, "the shares must add up to 1, not 0.9"),
        ({"kinds": {"clouds": 1.5}}, "degradation.kinds.clouds: 1.5 must be a number from 0 to 1"),
        ({"kinds": ["clouds"]}, "degradation.kinds: must be a section of 'key: value' lines"),
        ({"beta": [2, 1]}, "degradation.beta: [2, 1] must have its smallest number first"),
        ({"beta": 1}, "degradation.beta: 1 must be two numbers: [smallest, largest]"),
        ({"min_transmission": 1}, "degradation.min_transmission: 1 leaves no haze"),
        ({"jpg": {"share": 1}}, "degradation.jpg: unknown key; did you mean 'jpeg'?"),
        ({"jpeg": {"quality": [30, 95]}}, "degradation.jpeg.share: missing"),
        ({"jpeg": 0.5}, "degradation.jpeg: must be a section of 'key: value' lines, not 0.5"),
        ({"jpeg": {"share": 1, "quality": [30, 101]}}, "jpeg.quality: 101 must be a number from 1"),
        ({"noise": {"share": 1, "sigm": [0, 1]}}, "noise.sigm: unknown key; did you mean 'sigma'?"),
        ({"noise": {"share": float("nan")}}, "degradation.noise.share: nan must be a number"),
        ({"tone": {"share": True}}, "degradation.tone.share: True must be a number from 0 to 1"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(KTDNError) as caught:
        Degradation.of(options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
