"""The dark channel prior: against naive implementations, on what is known, and on made haze."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

import ktdn_plugin
from ktdn_plugin.haze.dark_channel import (
    dark_channel,
    dark_channel_prior,
    find_airlight,
    find_transmission,
)
from ktdn_plugin.haze.scattering import synthesize_haze
from ktdn_plugin.metrics import psnr

SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 24))


def noise(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).random((*shape, 3), dtype=np.float32)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), SHAPES, st.sampled_from([1, 3, 7, 15]))
def test_dark_channel_by_its_definition(seed: int, shape: tuple[int, int], patch: int) -> None:
    image, reach = noise(seed, shape), patch // 2
    naive = np.empty(shape, np.float32)
    for row, column in np.ndindex(*shape):
        around = image[
            max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1
        ]
        naive[row, column] = around.min()
    assert np.array_equal(dark_channel(image, patch), naive)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 999),
    SHAPES,
    st.sampled_from([1, 5, 15]),
    st.floats(0, 1),
    st.floats(0.01, 1),
    st.integers(0, 30),
    st.floats(1e-6, 1),
)
def test_transmission_stays_in_its_range(
    seed: int, shape: tuple[int, int], patch: int, omega: float, t0: float, radius: int, eps: float
) -> None:
    image = noise(seed, shape)
    options = {"omega": omega, "patch": patch, "t0": t0, "radius": radius, "eps": eps}
    t = find_transmission(image, find_airlight(image, patch), **options)
    assert t.shape == shape
    assert t.dtype == np.float32
    assert t.min() >= np.float32(t0)
    assert t.max() <= 1
    result = dark_channel_prior(image, **options)
    assert 0 <= result.min() <= result.max() <= 1


@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_constant_images_stay_as_they_are(value: int) -> None:
    image = np.full((20, 30, 3), value, np.uint8)
    assert np.array_equal(dark_channel_prior(image), image)
    image[..., 2] = 0
    assert np.array_equal(dark_channel_prior(image), image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_small_images_of_each_type(shape: tuple[int, int], dtype: type) -> None:
    scale = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    image = (noise(0, shape) * scale).astype(dtype)
    before = image.copy()
    result = dark_channel_prior(image)
    assert result.shape == image.shape
    assert result.dtype == dtype
    assert np.array_equal(image, before)


def test_types_agree() -> None:
    image = data.chelsea()[:120, :160]
    whole = dark_channel_prior(image)
    fine = dark_channel_prior(image.astype(np.uint16) * 257)
    real = dark_channel_prior(image / 255)
    assert np.abs(fine / 257 - whole).max() <= 0.501
    assert np.abs(real * 255 - whole).max() <= 0.501
    turned = dark_channel_prior(image[::-1, ::-1])[::-1, ::-1]
    assert np.abs(turned - whole.astype(int)).max() <= 1


def test_airlight_is_the_brightest_of_the_haziest() -> None:
    image = np.full((100, 100, 3), 0.2, np.float32)
    image[10:40, 10:40] = 0.8
    image[25, 25] = (0.85, 0.9, 0.95)  # within the haze
    image[80, 80] = 1  # a lamp: brighter, but without haze around it
    assert np.array_equal(find_airlight(image, 5), image[25, 25])


def test_recovers_a_scene_of_which_the_prior_is_true() -> None:
    """Every patch has a black pixel, haze is homogeneous, and the sky shows the airlight."""
    clear = noise(3, (90, 120)) * 0.9
    clear[::4, ::4] = 0
    airlight = np.array([0.85, 0.9, 0.95], np.float32)
    hazy = clear * 0.5 + airlight * 0.5
    hazy[:16] = airlight
    result = dark_channel_prior(hazy, omega=1, patch=9, radius=2, eps=1e-4)
    assert np.abs(result[40:] - clear[40:]).max() < 0.02
    t = find_transmission(hazy, find_airlight(hazy, 9), omega=1, patch=9, radius=2, eps=1e-4)
    assert np.abs(t[40:] - 0.5).max() < 0.01


@pytest.mark.parametrize("photo", [data.chelsea, data.coffee])
def test_homogeneous_haze_is_removed_clearly(photo) -> None:
    clear = photo()
    haze = synthesize_haze(
        clear, 0, density=(1, 1), airlight=(0.9, 0.9), tint=(0.05, 0.05), veil=(1, 1)
    )
    hazy = np.rint(haze.hazy * 255).astype(np.uint8)
    assert psnr(dark_channel_prior(hazy), clear) > psnr(hazy, clear) + 3


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        ([[1]], {}, TypeError, "must be a numpy array, got list"),
        (np.zeros((4, 4), np.uint8), {}, ValueError, r"\(height, width, 3\), got \(4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), {}, ValueError, r"\(height, width, 3\)"),
        (np.zeros((4, 4, 3), np.int64), {}, TypeError, "uint8, uint16 or floating point"),
        (np.full((4, 4, 3), 2.0), {}, ValueError, r"must be in \[0, 1\]"),
        (np.full((4, 4, 3), np.nan), {}, ValueError, r"must be in \[0, 1\]"),
        (np.zeros((4, 4, 3)), {"patch": 4}, ValueError, "patch must be odd"),
        (np.zeros((4, 4, 3)), {"omega": 1.1}, ValueError, "omega must be"),
        (np.zeros((4, 4, 3)), {"t0": 0}, ValueError, "t0 must be"),
        (np.zeros((4, 4, 3)), {"eps": 0}, ValueError, "eps above 0"),
        (np.zeros((4, 4, 3)), {"radius": -1}, ValueError, "radius must be 0 or more"),
    ],
)
def test_what_does_not_fit_is_refused(image, options, error, message) -> None:
    with pytest.raises(error, match=message):
        dark_channel_prior(image, **options)


def test_is_a_public_name() -> None:
    assert ktdn_plugin.dark_channel_prior is dark_channel_prior
