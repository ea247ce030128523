"""Videos do not flicker: what the network changes is averaged over time."""

from __future__ import annotations

import numpy as np
import pytest
from dehaze.video_files import scene

from ktdn_plugin import Dehazer
from ktdn_plugin.videos.smoothing import Smoother


def haze(image: np.ndarray) -> np.ndarray:
    return (image * 0.5 + 110).astype(np.uint8)


def brightness_change(frames: list[np.ndarray]) -> float:
    """Mean change of a whole frame's brightness from one to the next."""
    means = [frame.mean() for frame in frames]
    return float(np.abs(np.diff(means)).mean())


def smooth(hazy: list[np.ndarray], dehazed: list[np.ndarray], seconds: float) -> list[np.ndarray]:
    smoother = Smoother(seconds)
    return [smoother(one, other, 1 / 25) for one, other in zip(hazy, dehazed, strict=True)]


def test_a_still_noisy_scene_flickers_three_times_less() -> None:
    """By the shipped network; the noise is a small sensor's."""
    rng = np.random.default_rng(0)
    clear = haze(scene(9, 128, 96)).astype(float)
    hazy = [
        (clear + rng.normal(0, 6, clear.shape)).round().clip(0, 255).astype(np.uint8)
        for _ in range(25)
    ]
    network = Dehazer("ktdn_tiny", device="cpu")
    dehazed = [network(image) for image in hazy]
    before = brightness_change(dehazed)
    after = brightness_change(smooth(hazy, dehazed, 0.5))
    print(f"mean change of brightness: {before:.3f}, smoothed {after:.3f}")
    assert before > 5 * brightness_change(hazy)  # which is what is to be cured
    assert after < before / 3
    assert smooth(hazy, dehazed, 0)[7] is dehazed[7]


def test_gains_are_averaged_and_detail_is_not() -> None:
    """The network's gain wavers; a bright thing that moves leaves no trail."""
    rng = np.random.default_rng(1)
    hazy, dehazed, steady = [], [], []
    for number in range(30):
        image = scene(0, 256, 192).copy()
        image[60:100, 4 * number : 4 * number + 30] = 250
        gain = 0.3 + rng.normal(0, 0.05)
        values = image.astype(float) / 2 + 60
        hazy.append(values.astype(np.uint8))
        dehazed.append((hazy[-1] * (1 + gain) - 70).clip(0, 255).astype(np.uint8))
        steady.append((hazy[-1] * 1.3 - 70).clip(0, 255))
    smoothed = smooth(hazy, dehazed, 0.5)
    wrong = [[np.abs(one - other).mean() for one, other in zip(frames, steady, strict=True)][10:]
             for frames in (dehazed, smoothed)]  # fmt: skip
    assert np.mean(wrong[1]) < np.mean(wrong[0]) / 2
    detail = [np.diff(frame.astype(float), axis=1).std() for frame in (dehazed[-1], smoothed[-1])]
    assert detail[1] == pytest.approx(detail[0], rel=0.1)


def test_another_scene_begins_anew() -> None:
    one, other = np.full((64, 96, 3), 200, np.uint8), np.full((64, 96, 3), 60, np.uint8)
    hazy = [one, one, other, other]
    dehazed = [one - 50, one - 50, other - 10, other - 20]
    smoothed = smooth(hazy, dehazed, 0.5)
    assert np.array_equal(smoothed[2], dehazed[2])
    # Of the second scene's frames the average is near the first one's.
    assert smoothed[3].mean() == pytest.approx(other.mean() - 10.8, abs=0.6)


def test_sixteen_bit_is_as_eight() -> None:
    rng = np.random.default_rng(2)
    hazy = [scene(0, 96, 64) for _ in range(4)]
    dehazed = [
        np.clip(image * (0.8 + rng.normal(0, 0.02)), 0, 255).astype(np.uint8) for image in hazy
    ]
    eight = smooth(hazy, dehazed, 0.5)
    deep = [[image.astype(np.uint16) * 257 for image in images] for images in (hazy, dehazed)]
    sixteen = smooth(*deep, 0.5)
    assert np.abs(sixteen[3] / 257 - eight[3]).max() < 0.6
