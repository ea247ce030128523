"""The guided filter against a direct solution of what it is defined by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktdn_plugin.haze import guided_filter as module
from ktdn_plugin.haze.guided_filter import guided_filter


def directly(guide: np.ndarray, image: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """Solves each window's ridge regression as least squares, and takes the means."""
    height, width = image.shape
    total, count = np.zeros(image.shape), np.zeros(image.shape)
    for row, column in np.ndindex(height, width):
        window = (
            slice(max(0, row - radius), row + radius + 1),
            slice(max(0, column - radius), column + radius + 1),
        )
        inside = guide[window].reshape(-1, 3).astype(np.float64)
        wanted = image[window].ravel().astype(np.float64)
        # sum (a I + b - p)^2 + eps |a|^2 for each pixel: rows that pull a, and not b, to 0
        left = np.column_stack([inside, np.ones(len(inside))])
        ridge = np.column_stack([np.eye(3) * np.sqrt(eps * len(inside)), np.zeros(3)])
        best = np.linalg.lstsq(
            np.vstack([left, ridge]), np.concatenate([wanted, np.zeros(3)]), rcond=None
        )[0]
        total[window] += guide[window] @ best[:3] + best[3]
        count[window] += 1
    return total / count


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 999),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 5),
    st.sampled_from([1e-4, 1e-2, 1.0]),
)
def test_solves_what_it_is_defined_by(
    seed: int, height: int, width: int, radius: int, eps: float
) -> None:
    draw = np.random.default_rng(seed)
    guide, image = draw.random((height, width, 3)), draw.random((height, width))
    wanted = directly(guide, image, radius, eps)
    np.testing.assert_allclose(guided_filter(guide, image, radius, eps), wanted, atol=1e-5)


def test_stripes_are_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    guide, image = draw.random((101, 40, 3)), draw.random((101, 40))
    whole = guided_filter(guide, image, 6, 1e-3)
    for stripe in (1, 7, 50):
        monkeypatch.setattr(module, "STRIPE", stripe)
        np.testing.assert_allclose(guided_filter(guide, image, 6, 1e-3), whole, atol=1e-6)


def test_an_edge_of_the_guide_stays() -> None:
    guide = np.zeros((40, 40, 3))
    guide[:, 20:] = (0.9, 0.5, 0.7)
    edge = (guide[..., 0] > 0).astype(np.float64)
    noisy = edge + np.random.default_rng(0).normal(0, 0.2, edge.shape)
    filtered = guided_filter(guide, noisy, 8, 1e-3)
    assert np.abs(filtered - edge).mean() < 0.05
    assert filtered[:, 20].mean() - filtered[:, 19].mean() > 0.9


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="a guide"):
        guided_filter(np.zeros((4, 5, 3)), np.zeros((5, 4)), 1, 1e-3)
