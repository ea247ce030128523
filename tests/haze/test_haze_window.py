from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktdn_plugin.haze.scattering import synthesize_haze

# A window's side, and what of the image lies before and behind it.
SIDE = st.tuples(st.integers(1, 90), st.integers(0, 60), st.integers(0, 60))


def photo(height: int, width: int) -> np.ndarray:
    return np.random.RandomState(5).randint(0, 256, (height, width, 3)).astype(np.uint8)


@settings(max_examples=80, deadline=None)
@given(
    sides=st.tuples(SIDE, SIDE),
    seed=st.integers(0, 2**32 - 1),
    octaves=st.integers(1, 10),
    with_depth=st.booleans(),
)
def test_a_windows_haze_is_that_window_of_the_whole_images_haze(
    sides: tuple[tuple[int, int, int], ...], seed: int, octaves: int, with_depth: bool
) -> None:
    (height, top, below), (width, left, right) = sides
    frame = (top + height + below, left + width + right)
    clear = photo(*frame)
    depth = np.random.RandomState(6).rand(*frame) * 3 if with_depth else None
    part = np.s_[top : top + height, left : left + width]
    whole = synthesize_haze(clear, seed, octaves=octaves, depth=depth)
    window = synthesize_haze(
        clear[part],
        seed,
        octaves=octaves,
        depth=None if depth is None else depth[part],
        frame=frame,
        at=(top, left),
    )
    assert np.array_equal(window.hazy, whole.hazy[part])
    assert np.array_equal(window.transmission, whole.transmission[part])
    assert np.array_equal(window.airlight, whole.airlight)


def test_a_window_of_a_large_photo_is_that_window_of_its_haze() -> None:
    clear = photo(1200, 1600)
    whole = synthesize_haze(clear, 3)
    for at in ((0, 0), (944, 1344), (411, 700)):
        part = np.s_[at[0] : at[0] + 256, at[1] : at[1] + 256]
        window = synthesize_haze(clear[part], 3, frame=(1200, 1600), at=at)
        assert np.array_equal(window.hazy, whole.hazy[part])


def test_a_window_costs_what_it_is_large_and_not_what_the_image_is() -> None:
    clear = photo(64, 64)

    def seconds(frame: tuple[int, int]) -> float:
        times = []
        for _ in range(7):
            start = time.perf_counter()
            synthesize_haze(clear, 3, frame=frame)
            times.append(time.perf_counter() - start)
        return min(times)

    # The whole of the larger image would cost hundreds of times as much, and gigabytes.
    assert seconds((40_000, 60_000)) < 10 * seconds((64, 64))


def test_whole_images_need_no_frame() -> None:
    clear = photo(30, 40)
    framed = synthesize_haze(clear, 3, frame=(30, 40), at=(0, 0))
    assert np.array_equal(framed.hazy, synthesize_haze(clear, 3).hazy)


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"at": (1, 0)}, ValueError, "at"),
        ({"at": (0, 1), "frame": (4, 6)}, ValueError, "at"),
        ({"at": (-1, 0), "frame": (9, 9)}, ValueError, "at"),
        ({"at": (0.5, 0), "frame": (9, 9)}, TypeError, "at"),
        ({"at": 3, "frame": (9, 9)}, ValueError, "at"),
        ({"frame": (4, 5)}, ValueError, "at"),
        ({"frame": (0, 6)}, ValueError, "frame"),
        ({"frame": (4, 6, 3)}, ValueError, "frame"),
        ({"frame": (4.0, 6)}, TypeError, "frame"),
        ({"frame": (2**40, 6)}, ValueError, "frame"),
        ({"frame": (9, 9), "depth": np.ones((9, 9))}, ValueError, "depth"),
    ],
)
def test_unfit_windows_are_refused_in_one_line(
    options: dict[str, Any], error: type[Exception], name: str
) -> None:
    with pytest.raises(error, match=rf"^{name} .*") as caught:
        synthesize_haze(photo(4, 6), 0, **options)
    assert "\n" not in str(caught.value)
