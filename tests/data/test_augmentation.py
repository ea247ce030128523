from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ktdn_plugin.data.augmentation import Augmentation, ColorJitter, change_colors, to_tensor
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.images import cut

# Each pixel tells where it is.
ROWS, COLUMNS = np.mgrid[:60, :90].astype(np.uint8)
WHERE = np.stack([ROWS, COLUMNS, np.zeros_like(ROWS)], axis=2)


def drawn(augmentation: Augmentation, seed: int):
    random.seed(seed)
    return augmentation.draw(*WHERE.shape[:2])


def orientation(placed: np.ndarray) -> tuple[int, ...]:
    """How rows and columns of the image run along the first row and the first column."""
    across, down = (
        placed[edge].astype(int)[..., :2] - placed[0, 0].astype(int)[:2]
        for edge in ((0, 1), (1, 0))
    )
    return (*across, *down)


def test_flips_and_turns_lay_a_square_in_all_eight_ways_and_take_part_of_the_image() -> None:
    augmentation = Augmentation(20)
    seen = {}
    for seed in range(400):
        draw = drawn(augmentation, seed)
        placed = augmentation.place(cut(WHERE, draw.window), draw)
        assert placed.shape == (20, 20, 3)
        top, left = draw.window[:2]
        assert {*np.unique(placed[..., 0])} == {*range(top, top + 20)}
        assert {*np.unique(placed[..., 1])} == {*range(left, left + 20)}
        seen[orientation(placed)] = seen.get(orientation(placed), 0) + 1
    assert len(seen) == 8
    assert min(seen.values()) > 25


@pytest.mark.parametrize(
    ("hflip", "rot", "ways"), [(False, False, 1), (True, False, 2), (False, True, 4)]
)
def test_only_what_is_asked_for(hflip: bool, rot: bool, ways: int) -> None:
    augmentation = Augmentation(20, hflip, rot)
    draws = [drawn(augmentation, seed) for seed in range(60)]
    seen = {orientation(augmentation.place(cut(WHERE, d.window), d)) for d in draws}
    assert len(seen) == ways


def test_crops_reach_every_edge() -> None:
    windows = [drawn(Augmentation(58), seed).window for seed in range(400)]
    assert {window[0] for window in windows} == {0, 1, 2}
    assert {window[1] for window in windows} == set(range(33))


@given(st.integers(0, 2**32), st.floats(0.2, 1.0), st.floats(1.0, 4.0))
def test_scale_takes_more_or_less_of_the_image(seed: int, low: float, high: float) -> None:
    augmentation = Augmentation(24, scale=(low, high))
    draw = drawn(augmentation, seed)
    top, left, height, width = draw.window
    assert height == width
    assert round(24 / high) <= height <= min(60, round(24 / low))
    assert 0 <= top <= 60 - height
    assert 0 <= left <= 90 - width
    floats = augmentation.place(cut(WHERE, draw.window).astype(np.float32) / 255, draw)
    placed = augmentation.place(cut(WHERE, draw.window), draw)
    assert placed.shape == floats.shape == (24, 24, 3)
    assert floats.min() >= 0
    # Means stay: what is scaled is the content, not the values.
    assert abs(placed.mean() - cut(WHERE, draw.window).mean()) < 1.5


def test_image_smaller_than_the_crop() -> None:
    with pytest.raises(KTDNError, match="90 x 60 pixels, smaller than the crop, gt_size: 61"):
        Augmentation(61).draw(60, 90)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (2.0, 1.0), (1.0,), ("a", 1.0), 2, (1.0, 11.0)])
def test_invalid_scale(scale: object) -> None:
    with pytest.raises(KTDNError, match="use_scale: "):
        Augmentation(20, scale=scale)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("section", "part"),
    [
        ({"brightnes": 0.1}, "did you mean 'brightness'?"),
        ({"hue": 0.6}, "color_jitter.hue: 0.6 must be a number from 0 to 0.5"),
        ({"contrast": "much"}, "color_jitter.contrast: 'much' must be a number"),
    ],
)
def test_invalid_jitter(section: dict, part: str) -> None:
    with pytest.raises(KTDNError) as error:
        ColorJitter.of(section)
    assert part in str(error.value)


@pytest.mark.parametrize("key", ["brightness", "contrast", "saturation", "hue"])
def test_colours_change_by_the_same_function_of_a_pixel(key: str) -> None:
    """What hazy and clear images have in common stays in common."""
    augmentation = Augmentation(16, jitter=ColorJitter(**{key: 0.4}))
    torch.manual_seed(0)
    one = torch.rand(3, 16, 16)
    other = torch.rand(3, 16, 16)
    other[:, :8] = one[:, :8]
    changes = 0
    for seed in range(20):
        draw = drawn(augmentation, seed)
        changed = change_colors([one, other], draw)
        assert torch.equal(changed[0][:, :8], changed[1][:, :8])
        assert changed[0].min() >= 0
        assert changed[0].max() <= 1
        changes += not torch.allclose(changed[0], one, atol=0.02)
    assert changes > 10


def test_no_jitter_changes_nothing() -> None:
    image = torch.rand(3, 8, 8)
    for jitter in (None, ColorJitter()):
        draw = drawn(Augmentation(8, jitter=jitter), 0)
        torch.testing.assert_close(change_colors([image], draw)[0], image, atol=1e-6, rtol=0)


@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.booleans())
def test_tensors_are_what_basicsr_computes(h: int, w: int, flipped: bool, turned: bool) -> None:
    image = np.random.RandomState(h * w).randint(0, 256, (h, w, 3)).astype(np.uint8)
    view = image[::-1] if flipped else image
    view = view.swapaxes(0, 1) if turned else view
    expected = np.ascontiguousarray(view.astype(np.float32) / 255.0).transpose(2, 0, 1)
    tensor = to_tensor(view)
    assert tensor.is_contiguous()
    assert np.array_equal(tensor.numpy(), expected)
