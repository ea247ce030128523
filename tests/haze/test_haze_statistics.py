"""The estimators, on haze that is known; and the default ranges, beside real haze."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from haze_statistics import (
    TEXTURE,
    WORKING_SIDE,
    at_working_size,
    local_transmission,
    measure_haze,
)

from ktdn_plugin.data import demo_photos
from ktdn_plugin.haze.scattering import synthesize_haze
from ktdn_plugin.photos import read_rgb

DATA = Path(os.environ.get("KTDN_DATA", Path(__file__).parents[3] / "shared" / "data"))
FLAT = {"veil": (1.0, 1.0)}


def texture(height: int = 150, width: int = 192, seed: int = 0) -> np.ndarray:
    """A scene with details of several sizes everywhere."""
    random = np.random.RandomState(seed)
    fine = random.rand(height, width, 3).astype(np.float32)
    scene = 0.35 * cv2.GaussianBlur(fine, (0, 0), 1) + 0.65 * cv2.GaussianBlur(fine, (0, 0), 3)
    return np.rint(255 * np.clip(0.35 + 2 * (scene - 0.5), 0, 1)).astype(np.uint8)


def as_bytes(image: np.ndarray) -> np.ndarray:
    return np.rint(image * 255).astype(np.uint8)


def photos() -> list[np.ndarray]:
    return [at_working_size(demo_photos._load(f)) for f in demo_photos.TRAINING_PHOTOS]


def test_transmission_is_found() -> None:
    clear = texture()
    for seed in range(6):
        haze = synthesize_haze(clear, seed)
        found = local_transmission(as_bytes(haze.hazy), clear)
        # What is looked at is a window's mean, weighted with its contrast.
        known = cv2.GaussianBlur(haze.transmission, (0, 0), 6, borderType=cv2.BORDER_REFLECT)
        assert np.isfinite(found).all()
        assert np.abs(found - known).mean() < 0.03, seed
        assert np.quantile(np.abs(found - known), 0.95) < 0.08, seed


def test_transmission_is_found_on_photographs() -> None:
    errors = []
    for number, clear in enumerate(photos()):
        for seed in range(4):
            haze = synthesize_haze(clear, 10 * number + seed)
            found = local_transmission(as_bytes(haze.hazy), clear)
            known = cv2.GaussianBlur(haze.transmission, (0, 0), 6, borderType=cv2.BORDER_REFLECT)
            errors.append(np.abs(found - known)[np.isfinite(found)])
    assert np.median(np.concatenate(errors)) < 0.03


def test_movement_and_exposure_do_not_pass_for_haze() -> None:
    clear = texture()
    moved = np.roll(clear, (2, 3), (0, 1))
    assert np.median(local_transmission(moved, clear)) == pytest.approx(1, abs=0.03)
    brighter = np.clip(clear.astype(int) + 30, 0, 255).astype(np.uint8)
    statistics = measure_haze(brighter, clear)
    assert statistics.contrast_loss == pytest.approx(0, abs=0.06)
    assert statistics.brightness == pytest.approx(30 / 255, abs=0.02)


def test_places_without_texture_are_left_out() -> None:
    clear = texture()
    clear[:, 96:] = 90
    found = local_transmission(as_bytes(synthesize_haze(clear, 1).hazy), clear)
    assert np.isnan(found[:, 130:]).all()
    assert np.isfinite(found[:, :80]).all()
    assert 0 < TEXTURE < 0.1


@pytest.mark.parametrize("density", [0.5, 1.0, 1.8])
def test_statistics_of_flat_fog(density: float) -> None:
    clear = texture()
    options = {"density": (density, density), "airlight": (0.9, 0.9), "tint": (0.2, 0.2), **FLAT}
    found = measure_haze(as_bytes(synthesize_haze(clear, 2, **options).hazy), clear)
    assert found.contrast_loss == pytest.approx(1 - np.exp(-density), abs=0.01)
    assert found.thickest == pytest.approx(np.exp(-density), abs=0.01)
    assert found.variation < 0.01
    assert found.thin_to_thick > 0.97
    assert found.airlight == pytest.approx(0.9, abs=0.01)
    assert found.tint == pytest.approx(0.2, abs=0.01)
    assert found.green_tint == pytest.approx(0.53 * 0.2, abs=0.01)


def test_statistics_of_clouds() -> None:
    clear = texture()
    for seed in range(6):
        haze = synthesize_haze(clear, seed)
        found = measure_haze(as_bytes(haze.hazy), clear)
        low, median, high = np.quantile(haze.transmission, (0.1, 0.5, 0.9))
        assert found.contrast_loss == pytest.approx(1 - median, abs=0.06)
        assert found.variation == pytest.approx(high - low, abs=0.1)
        assert found.variation > 0.25
        assert found.thin_to_thick == pytest.approx(np.log(high) / np.log(low), abs=0.08)
        assert found.smoothness > 0.7
        red, _, blue = haze.airlight
        assert found.airlight == pytest.approx(blue, abs=0.05)
        assert found.tint == pytest.approx(1 - red / blue, abs=0.05)
        difference = as_bytes(haze.hazy) / 255 - clear / 255
        assert found.brightness == pytest.approx(difference.mean(), abs=1e-6)
        assert found.psnr == pytest.approx(-10 * np.log10(np.mean(difference**2)), abs=1e-3)


def test_yellowish_haze_has_a_negative_tint() -> None:
    clear = texture()
    hazy = clear / 255 * 0.4 + np.array([0.9, 0.85, 0.75]) * 0.6
    found = measure_haze(as_bytes(hazy), clear)
    assert found.tint == pytest.approx(1 - 0.9 / 0.75, abs=0.02)


def test_smoothness_tells_clouds_from_random_haze() -> None:
    clear = texture(seed=3)
    random = np.random.RandomState(0).rand(10, 12).astype(np.float32)
    patches = cv2.resize(0.2 + 0.6 * random, (192, 150), interpolation=cv2.INTER_NEAREST)
    scattered = clear / 255 * patches[..., None] + 0.9 * (1 - patches[..., None])
    assert measure_haze(as_bytes(scattered), clear).smoothness < 0.5
    clouds = synthesize_haze(clear, 3, octaves=1)
    assert measure_haze(as_bytes(clouds.hazy), clear).smoothness > 0.75


def test_resolution_hardly_matters() -> None:
    clear = texture(600, 768)
    small = cv2.resize(clear, (384, 300), interpolation=cv2.INTER_AREA)
    one, other = (measure_haze(as_bytes(synthesize_haze(c, 4).hazy), c) for c in (clear, small))
    np.testing.assert_allclose(one, other, atol=0.05)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (5, 900), (40, 30)])
def test_any_size_is_measured(shape: tuple[int, int]) -> None:
    clear = np.random.RandomState(1).randint(0, 256, (*shape, 3)).astype(np.uint8)
    found = measure_haze(as_bytes(synthesize_haze(clear, 0).hazy), clear)
    assert np.isfinite([found.brightness, found.psnr]).all()
    assert max(at_working_size(clear).shape) == WORKING_SIDE


def test_what_does_not_tell_is_not_a_number() -> None:
    grey = np.full((60, 80, 3), 100, np.uint8)
    found = measure_haze(grey, grey)
    assert np.isnan([found.contrast_loss, found.variation, found.airlight, found.smoothness]).all()
    assert found.brightness == 0
    assert found.psnr == float("inf")


def test_images_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="alike"):
        measure_haze(texture(60, 80), texture(60, 81))


@pytest.mark.skipif(
    not (DATA / "real_pairs").is_dir(), reason=f"no real pairs in {DATA} (KTDN_DATA)"
)
def test_default_haze_is_like_real_haze() -> None:
    folder = DATA / "real_pairs"
    hazy = [path for kind in ("nh_haze_*", "smoke_*") for path in folder.glob(f"hazy/{kind}")]
    assert hazy
    real, made = [], []
    for number, path in enumerate(sorted(hazy)):
        (partner,) = folder.glob(f"clear/{path.stem}.*")
        clear = read_rgb(partner)
        real.append(measure_haze(read_rgb(path), clear))
        clear = at_working_size(clear)
        for seed in range(8 * number, 8 * number + 8):
            made.append(measure_haze(as_bytes(synthesize_haze(clear, seed).hazy), clear))
    for field, tolerance in {
        "contrast_loss": 0.08,
        "thickest": 0.06,
        "variation": 0.12,
        "thin_to_thick": 0.12,
        "tint": 0.08,
        "brightness": 0.08,
        "psnr": 2.0,
    }.items():
        one, other = (
            np.quantile([getattr(s, field) for s in statistics], (0.1, 0.5, 0.9))
            for statistics in (real, made)
        )
        np.testing.assert_allclose(other, one, atol=tolerance, err_msg=field)
