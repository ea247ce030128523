"""Smooth noise over several octaves: where haze is thick, where thin, and where there is none.

A function of the random stream and of the image's size alone, to the last bit on any machine.
Hence only elementary operations, whose results IEEE 754 fixes: library exponentials, matrix
products and image resizing differ in the last bits from one processor to another. Each value
follows from its own place only, so that a window can be made without what surrounds it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

CELLS = 2  # grid cells of the coarsest octave along the longer side: how large the clouds are
PERSISTENCE = 0.5  # amplitude of an octave relative to the next coarser one, of half the cells
MAX_OCTAVES = 10
FADE_IN = 1.0  # share of a cloud's rise over which it sets in, so that clouds have no outline


class Window(NamedTuple):
    """A part of an image, in pixels; it may be the whole of it.

    Attributes:
        height: The window's height.
        width: The window's width.
        top: Rows of the image above the window.
        left: Columns of the image to the left of the window.
        frame: Height and width of the whole image.
    """

    height: int
    width: int
    top: int
    left: int
    frame: tuple[int, int]


class Octave(NamedTuple):
    """One octave of the noise: a grid of values, ``cells`` of its cells along the longer side."""

    cells: int
    offset: NDArray[np.float64]
    grid: Floats


def draw_octaves(stream: np.random.RandomState, count: int) -> list[Octave]:
    """Draws the noise, the coarsest octave first; further octaves leave the first ones equal."""
    noise = []
    for octave in range(count):
        cells = CELLS * 2**octave
        # One cell for the offset and three for the spline's support at the border.
        side = cells + 4
        offset = stream.random_sample(2)
        noise.append(Octave(cells, offset, stream.random_sample((side, side)).astype(np.float32)))
    return noise


def make_clouds(noise: list[Octave], window: Window, covered: float) -> Floats:
    """Makes clouds of noise, in a window of an image.

    Args:
        noise: The octaves, coarsest first.
        window: Which part of the image. What is in it does not depend on the window's size.
        covered: Share of the whole image that clouds reach, above 0 and up to 1.

    Returns:
        How thick the haze is, (height, width) of the window: 0 where there is none, about 1 in
        the thickest hundredth of the whole image.
    """
    height, width = window.frame
    longer = max(height, width)
    # The levels come from a fixed number of points, so that they, too, are the same at any
    # resolution, and from the image's frame, so that every image has thin and thick places.
    points = (np.arange(64) + 0.5) / 64
    levels = np.sort(_sample(noise, points * (height / longer), points * (width / longer)), None)
    none = float(levels[int((1.0 - covered) * (levels.size - 1))])
    thick = float(levels[int(0.99 * (levels.size - 1))])

    # What is finer than two pixels would be aliased: its mean stands in for it.
    seen = [octave for octave in noise if 2 * octave.cells <= longer] or noise[:1]
    ys = (np.arange(window.top, window.top + window.height) + 0.5) / longer
    xs = (np.arange(window.left, window.left + window.width) + 0.5) / longer
    rise = _sample(seen, ys, xs)
    rise += sum(0.5 * PERSISTENCE**octave for octave in range(len(seen), len(noise)))
    rise -= none
    rise /= thick - none
    np.maximum(rise, np.float32(0), out=rise)
    clouds: Floats = rise * rise
    rise += FADE_IN
    clouds /= rise
    clouds *= 1.0 + FADE_IN
    return clouds


def _sample(noise: list[Octave], ys: NDArray[np.float64], xs: NDArray[np.float64]) -> Floats:
    """Sums the octaves at points (y, x), in units of the longer side, by cubic B-splines."""
    total = np.zeros((len(ys), len(xs)), np.float32)
    # Memory that is used again and again: to get and clear it costs more than to compute.
    part = np.empty_like(total)
    amplitude = 1.0
    for cells, offset, grid in noise:
        row, row_weights = _spline(ys * cells + offset[0])
        column, column_weights = _spline(xs * cells + offset[1])
        # Only the grid's rows that the points lie between: few, where the points are a window.
        first = row[0]
        grid = grid[first : row[-1] + 4]
        # Columns first: the small grid is what gets indexed there, and whole rows are next.
        wide = np.zeros((len(grid), len(xs)), np.float32)
        for tap, weights in enumerate(column_weights):
            wide += grid[:, column + tap] * (amplitude * weights)
        row -= first
        for tap, weights in enumerate(row_weights):
            # mode: the default one gets itself memory as large as its result.
            np.take(wide, row + tap, axis=0, out=part, mode="clip")
            np.multiply(part, weights[:, None], out=part)
            np.add(total, part, out=total)
        amplitude *= PERSISTENCE
    return total


def _spline(at: NDArray[np.float64]) -> tuple[NDArray[np.intp], Floats]:
    """First of the four grid points around each position, and their weights, (4, n)."""
    first = np.floor(at).astype(np.intp)
    after = (at - first).astype(np.float32)
    before = 1.0 - after
    weights = [
        before * before * before / 6.0,
        (after * after * (3.0 * after - 6.0) + 4.0) / 6.0,
        (before * before * (3.0 * before - 6.0) + 4.0) / 6.0,
        after * after * after / 6.0,
    ]
    return first, np.array(weights, dtype=np.float32)
