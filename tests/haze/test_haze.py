from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktdn_plugin.data import demo_photos
from ktdn_plugin.haze.scattering import Haze, synthesize_haze

PHOTOS = (*demo_photos.TRAINING_PHOTOS, *demo_photos.VALIDATION_PHOTOS)
GREY = np.full((96, 128, 3), 0.4, np.float32)


def photo(height: int = 96, width: int = 128) -> np.ndarray:
    return np.random.RandomState(5).randint(0, 256, (height, width, 3)).astype(np.uint8)


def same(one: Haze, other: Haze) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.astype("<f4").tobytes()).hexdigest()[:16]


def test_equal_seeds_give_equal_haze_whatever_else_draws_random_numbers() -> None:
    np.random.seed(1)
    first = synthesize_haze(photo(), 7)
    np.random.seed(2)
    before = np.random.get_state(legacy=False)["state"]
    assert same(first, synthesize_haze(photo(), 7))
    after = np.random.get_state(legacy=False)["state"]
    assert np.array_equal(before["key"], after["key"])
    assert before["pos"] == after["pos"]


def test_haze_is_the_same_to_the_last_bit_on_any_machine() -> None:
    haze = synthesize_haze(photo(), 7)
    assert digest(haze.transmission) == "c42fb68dfaf66b58"
    assert digest(haze.airlight) == "e7e13b226c4ef6df"
    assert digest(haze.hazy) == "f783b417c5d64040"


def test_haze_does_not_depend_on_the_image() -> None:
    assert np.array_equal(
        synthesize_haze(GREY, 3).transmission, synthesize_haze(photo(), 3).transmission
    )


def test_other_seeds_give_other_clouds_and_airlight() -> None:
    hazes = [synthesize_haze(GREY, seed) for seed in range(12)]
    assert len({digest(haze.transmission) for haze in hazes}) == 12
    assert len({digest(haze.airlight) for haze in hazes}) == 12
    clouds = np.array([haze.transmission.ravel() for haze in hazes])
    between = np.corrcoef(clouds)[np.triu_indices(12, 1)]
    assert np.abs(between).mean() < 0.6


@pytest.mark.parametrize("clear", [photo(), photo() / 255.0, photo().astype(np.float32) / 255])
def test_hazy_is_what_the_scattering_model_says(clear: np.ndarray) -> None:
    haze = synthesize_haze(clear, 11)
    t = haze.transmission.astype(np.float64)[..., None]
    expected = photo() / 255.0 * t + haze.airlight.astype(np.float64) * (1 - t)
    np.testing.assert_allclose(haze.hazy, expected, atol=1e-6)


def test_transmission_falls_off_exponentially_with_depth() -> None:
    depth = np.linspace(0, 15, 96 * 128).reshape(96, 128)
    near = synthesize_haze(GREY, 4).transmission.astype(np.float64)
    far = synthesize_haze(GREY, 4, depth=depth).transmission
    np.testing.assert_allclose(far, np.exp(depth * np.log(near)), rtol=1e-4)
    assert far[0, 0] == 1


def test_boundless_depth_leaves_only_airlight() -> None:
    haze = synthesize_haze(GREY, 4, depth=np.full((96, 128), 1e30))
    assert 0 < haze.transmission.max() < 1e-30
    np.testing.assert_allclose(haze.hazy, np.broadcast_to(haze.airlight, (96, 128, 3)))


def test_no_density_is_no_haze() -> None:
    assert np.array_equal(synthesize_haze(GREY, 4, density=(0, 0)).hazy, GREY)


def test_whole_veil_is_homogeneous_haze() -> None:
    transmission = synthesize_haze(GREY, 4, density=(1, 1), veil=(1, 1)).transmission
    np.testing.assert_allclose(transmission, np.exp(-1), rtol=1e-5)


def test_transmission_varies_strongly_and_smoothly_within_each_image() -> None:
    for seed in range(40):
        t = synthesize_haze(np.zeros((240, 320, 3), np.uint8), seed).transmission
        low, high = np.percentile(t, [5, 95])
        assert high - low > 0.3, seed
        assert high > 0.35, seed
        assert low < 0.36, seed
        step = max(np.abs(np.diff(t, axis=0)).max(), np.abs(np.diff(t, axis=1)).max())
        assert step < 0.1 * (high - low), seed


def test_clouds_have_several_scales() -> None:
    fine = synthesize_haze(GREY, 9, octaves=6).transmission
    coarse = synthesize_haze(GREY, 9, octaves=1).transmission
    assert np.abs(np.diff(fine, 2)).mean() > 3 * np.abs(np.diff(coarse, 2)).mean()


def test_clouds_look_the_same_at_any_resolution() -> None:
    small = synthesize_haze(np.zeros((120, 160, 3), np.uint8), 3).transmission
    large = synthesize_haze(np.zeros((480, 640, 3), np.uint8), 3).transmission
    shrunk = large.reshape(120, 4, 160, 4).mean((1, 3))
    assert np.abs(small - shrunk).max() < 0.03


def test_airlight_is_near_white_or_bluish() -> None:
    lights = np.array([synthesize_haze(GREY[:1, :1], seed).airlight for seed in range(200)])
    red, green, blue = lights.T
    assert (red <= green).all()
    assert (green <= blue).all()
    assert 0.65 <= blue.min() < 0.7
    assert blue.max() > 0.95
    tint = 1 - red / blue
    assert 0.1 - 1e-6 <= tint.min() < 0.13
    assert 0.32 < tint.max() <= 0.35 + 1e-6
    np.testing.assert_allclose(1 - green / blue, 0.53 * tint, atol=1e-6)


def test_density_of_default_haze_is_that_of_real_pairs() -> None:
    photos = [demo_photos._load(file) for file in PHOTOS]
    found = []
    for number, clear in enumerate(photos):
        for seed in range(5):
            hazy = synthesize_haze(clear, 100 * number + seed).hazy
            found.append(-10 * np.log10(np.mean((hazy - clear / 255.0) ** 2)))
    assert 10 < np.median(found) < 13
    assert np.mean([7.5 < psnr < 17 for psnr in found]) > 0.9


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
    value=st.floats(0, 1, width=32),
)
def test_any_size_works(height: int, width: int, seed: int, value: float) -> None:
    clear = np.full((height, width, 3), value, np.float32)
    haze = synthesize_haze(clear, seed)
    assert haze.hazy.shape == clear.shape
    assert haze.transmission.shape == (height, width)
    assert haze.airlight.shape == (3,)
    for array in haze:
        assert array.dtype == np.float32
        assert array.min() >= 0
        assert array.max() <= 1
    assert haze.transmission.min() > 0


@pytest.mark.parametrize("octaves", [1, 10])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (2, 2)])
def test_extreme_shapes_work(shape: tuple[int, int], octaves: int) -> None:
    haze = synthesize_haze(np.ones((*shape, 3)), 0, octaves=octaves)
    assert np.isfinite(haze.hazy).all()
    assert haze.hazy.max() <= 1


def test_input_is_not_changed() -> None:
    clear, depth = photo(), np.full((96, 128), 2.0, np.float32)
    synthesize_haze(clear, 0, depth=depth)
    assert np.array_equal(clear, photo())
    assert (depth == 2).all()


@pytest.mark.parametrize(
    ("clear", "error"),
    [
        ([[[0.5, 0.5, 0.5]]], TypeError),
        (np.zeros((4, 4, 3), np.int64), TypeError),
        (np.zeros((4, 4, 3), bool), TypeError),
        (np.zeros((4, 4)), ValueError),
        (np.zeros((4, 4, 4)), ValueError),
        (np.zeros((1, 4, 4, 3)), ValueError),
        (np.zeros((0, 4, 3)), ValueError),
        (np.full((4, 4, 3), 1.01), ValueError),
        (np.full((4, 4, 3), -0.01), ValueError),
        (np.full((4, 4, 3), np.nan), ValueError),
    ],
)
def test_unfit_images_are_refused_in_one_line(clear: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^clear .*") as caught:
        synthesize_haze(clear, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"seed": -1}, ValueError),
        ({"seed": 2**32}, ValueError),
        ({"seed": 0.5}, TypeError),
        ({"octaves": 0}, ValueError),
        ({"octaves": 11}, ValueError),
        ({"octaves": "6"}, TypeError),
        ({"density": (2, 1)}, ValueError),
        ({"density": (-1, 1)}, ValueError),
        ({"density": (1, float("inf"))}, ValueError),
        ({"density": 1.5}, ValueError),
        ({"airlight": (0.5, 1.5)}, ValueError),
        ({"airlight": (float("nan"), 1)}, ValueError),
        ({"tint": (0.1, 0.2, 0.3)}, ValueError),
        ({"veil": "ab"}, ValueError),
        ({"coverage": (0, 0)}, ValueError),
        ({"depth": np.ones((4, 4))}, ValueError),
        ({"depth": np.full((96, 128), -1)}, ValueError),
        ({"depth": np.full((96, 128), np.nan)}, ValueError),
        ({"depth": np.full((96, 128), 1e300)}, ValueError),
        ({"depth": 2.0}, TypeError),
    ],
)
def test_unfit_options_are_refused_in_one_line(
    options: dict[str, Any], error: type[Exception]
) -> None:
    (name,) = options
    with pytest.raises(error, match=rf"^{name} .*") as caught:
        synthesize_haze(GREY, **{"seed": 0, **options})
    assert "\n" not in str(caught.value)
