"""Overlapping tiles for other networks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ktdn_plugin import KTDNError
from ktdn_plugin.inference.tiles import check_tile, run_in_tiles


def image(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 70), st.integers(0, 34))
@example(64, 64, 64, 31)
@example(65, 64, 64, 0)
@example(5, 7, 1, 0)
def test_weights_add_up_to_one(height: int, width: int, tile: int, overlap: int) -> None:
    overlap = min(overlap, (tile + 1) // 2 - 1)
    x = image(2, 3, height, width)
    seen = []

    def same(piece: Tensor) -> Tensor:
        seen.append(tuple(piece.shape))
        return piece

    torch.testing.assert_close(run_in_tiles(same, x, tile, overlap), x, rtol=0, atol=1e-6)
    assert set(seen) == {(2, 3, min(tile, height), min(tile, width))}


def test_a_tile_that_covers_the_image_is_the_image() -> None:
    torch.manual_seed(0)
    network, x = nn.Conv2d(3, 3, 3, padding=1), image(1, 3, 40, 50)
    with torch.no_grad():
        for tile in (50, 51, 1000):
            result = run_in_tiles(network, x, tile, 16)
            torch.testing.assert_close(result, network(x), rtol=0, atol=1e-6)


def test_inside_a_tile_it_is_the_networks_own_result() -> None:
    torch.manual_seed(0)
    network, x = nn.Conv2d(3, 3, 3, padding=1), image(1, 3, 40, 100)
    with torch.no_grad():
        error = (run_in_tiles(network, x, 40, 8) - network(x)).abs().amax((0, 1, 2))
    # Tiles begin at 0, 32 and 60: only where one meets its edge, the convolution looks past it.
    assert error[[10, 25, 45, 55, 80]].max() < 1e-6
    assert 1e-6 < error.max() < 1


def test_from_one_tile_to_the_next_it_is_a_ramp() -> None:
    calls = iter(range(3))
    x = torch.zeros(1, 3, 8, 20)
    result = run_in_tiles(lambda piece: piece + float(next(calls)), x, 12, 4)[0, 0, 0]
    assert result[:8].tolist() == [0] * 8
    assert result[12:].tolist() == [1] * 8
    steps = result[7:13].diff()
    torch.testing.assert_close(steps, torch.full((5,), 0.2))


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (-1, 0), (64, 32), (64, -1), (1, 1)])
def test_tile_and_overlap_that_do_not_go_together(tile: int, overlap: int) -> None:
    with pytest.raises(KTDNError, match=rf"tile: {tile} pixels with an overlap of {overlap} do"):
        check_tile(tile, overlap)
    with pytest.raises(KTDNError, match="do not go together"):
        run_in_tiles(nn.Identity(), image(1, 3, 8, 8), tile, overlap)


def test_networks_that_do_not_keep_the_size() -> None:
    with pytest.raises(KTDNError, match=r"makes \(1, 3, 4, 4\) of \(1, 3, 8, 8\)"):
        run_in_tiles(nn.AvgPool2d(2), image(1, 3, 8, 8), 8, 0)
    with pytest.raises(KTDNError, match=r"makes a list of an image"):
        run_in_tiles(lambda piece: [piece], image(1, 3, 8, 8), 8, 0)
