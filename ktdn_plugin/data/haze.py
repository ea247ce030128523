"""Non-homogeneous haze over a clear photograph, for want of real pairs or for more of them.

The haze is a function of the seed and the image size alone, to the last bit on any machine. Hence
only elementary operations, whose results IEEE 754 fixes: library exponentials, matrix products and
image resizing differ in the last bits from one processor to another.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Range = tuple[float, float]

CELLS = 2  # grid cells of the coarsest octave along the longer side: how large the clouds are
PERSISTENCE = 0.5  # amplitude of an octave relative to the next coarser one, of half the cells
MAX_OCTAVES = 10
OPAQUE = 80.0  # optical depth beyond which float32 has no normal number for the transmission
FADE_IN = 0.25  # share of a cloud's rise over which it sets in, so that clouds have no outline
GREEN_TINT = 0.45  # green loses this share of what red loses in a bluish airlight


class Haze(NamedTuple):
    """A hazy image and what made it, with ``I = J t + A (1 - t)``.

    Attributes:
        hazy: I, (h, w, 3) float32 RGB in [0, 1].
        transmission: t, (h, w) float32 in (0, 1]; 1 where there is no haze.
        airlight: A, (3,) float32 RGB in [0, 1].
    """

    hazy: Floats
    transmission: Floats
    airlight: Floats


class _Octave(NamedTuple):
    """One octave of the noise: a grid of values, ``cells`` of its cells along the longer side."""

    cells: int
    offset: NDArray[np.float64]
    grid: Floats


def synthesize_haze(
    clear: NDArray[Any],
    seed: int,
    *,
    density: Range = (1.3, 3.2),
    airlight: Range = (0.8, 1.0),
    tint: Range = (0.0, 0.3),
    veil: Range = (0.03, 0.2),
    coverage: Range = (0.7, 1.0),
    octaves: int = 6,
    depth: NDArray[Any] | None = None,
) -> Haze:
    """Lays clouds of haze over a clear image.

    The scattering model (Koschmieder 1924; Narasimhan & Nayar 2002) ``I = J t + A (1 - t)``,
    ``t = exp(-beta d)``, with a beta that varies over the scene in smooth clouds of several
    octaves (fractal noise). Each range ``(low, high)`` is drawn from once per image, uniformly.
    The defaults were chosen beside real non-homogeneous haze; they leave a photograph at a PSNR
    of 11 dB or so against its clear self.

    Args:
        clear: J, (h, w, 3) RGB of any size: floating point in [0, 1], or uint8.
        seed: Which haze, in [0, 2**32 - 1]. Equal seeds and sizes give equal haze; an image of
            another resolution gets the same clouds, sampled more finely or coarsely.
        density: Optical depth ``beta d`` of the thickest clouds at depth 1, in [0, 80].
        airlight: Brightness of the airlight's blue channel, in [0, 1].
        tint: How bluish the airlight is, in [0, 1]: the share that red lacks; 0 is neutral.
        veil: Haze in the clearest places as a share of that in the thickest clouds, in [0, 1].
            ``(1, 1)`` is homogeneous haze.
        coverage: Share of the image that clouds reach, above 0 and up to 1.
        octaves: Scales of the clouds, each half as large as the one before, 1 to 10.
        depth: d, (h, w), 0 or more, where 1 is a typical distance; all 1 where absent.

    Returns:
        The hazy image with its transmission and airlight.

    Raises:
        TypeError: ``clear`` or ``depth`` is no array of a fitting dtype, or ``seed`` or
            ``octaves`` is no integer.
        ValueError: A shape or value is outside what is said above.
    """
    scene = _as_image(clear)
    height, width = scene.shape[:2]
    stream = np.random.RandomState(_integer("seed", seed, 0, 2**32 - 1))
    thickest = _draw(stream, "density", density, high=OPAQUE)
    brightness = _draw(stream, "airlight", airlight)
    blueness = _draw(stream, "tint", tint)
    clearest = _draw(stream, "veil", veil)
    covered = _draw(stream, "coverage", coverage)
    if covered <= 0:
        raise ValueError(f"coverage must be above 0, got {coverage!r}")

    noise = _octaves(stream, _integer("octaves", octaves, 1, MAX_OCTAVES))
    clouds = _clouds(noise, height, width, covered)
    optical_depth = thickest * (clearest + (1.0 - clearest) * clouds)
    if depth is not None:
        optical_depth *= _as_depth(depth, height, width)
    transmission = _exp_of_minus(optical_depth)
    light = np.array(
        [
            brightness * (1.0 - blueness),
            brightness * (1.0 - GREEN_TINT * blueness),
            brightness,
        ],
        dtype=np.float32,
    )
    passed = transmission[..., None]
    return Haze(scene * passed + light * (1.0 - passed), transmission, light)


def _as_image(clear: NDArray[Any]) -> Floats:
    if not isinstance(clear, np.ndarray):
        raise TypeError(f"clear must be a numpy array, got {type(clear).__name__}")
    if clear.ndim != 3 or clear.shape[2] != 3 or clear.size == 0:
        raise ValueError(f"clear must have shape (height, width, 3), got {clear.shape}")
    if clear.dtype == np.uint8:
        return clear.astype(np.float32) / np.float32(255)
    if not np.issubdtype(clear.dtype, np.floating):
        raise TypeError(f"clear must be uint8 or floating point, got {clear.dtype}")
    # Written so that NaN fails it too.
    if not (clear.min() >= 0 and clear.max() <= 1):
        raise ValueError(
            f"clear must lie in [0, 1] where it is floating point, got values from "
            f"{clear.min():g} to {clear.max():g}"
        )
    return clear.astype(np.float32)


def _as_depth(depth: NDArray[Any], height: int, width: int) -> Floats:
    if not isinstance(depth, np.ndarray) or depth.dtype.kind not in "fiu":
        kind = depth.dtype if isinstance(depth, np.ndarray) else type(depth).__name__
        raise TypeError(f"depth must be a numpy array of numbers, got {kind}")
    if depth.shape != (height, width):
        raise ValueError(f"depth must have shape {(height, width)} as clear, got {depth.shape}")
    with np.errstate(over="ignore"):
        distance = depth.astype(np.float32)
    if not (distance.min() >= 0 and np.isfinite(distance.max())):
        raise ValueError("depth must be finite and 0 or more everywhere")
    return distance


def _integer(name: str, value: int, low: int, high: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
    if not low <= number <= high:
        raise ValueError(f"{name} must lie in [{low}, {high}], got {number}")
    return number


def _draw(
    stream: np.random.RandomState, name: str, bounds: Iterable[float], high: float = 1.0
) -> float:
    try:
        first, last = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two numbers (low, high), got {bounds!r}") from None
    if not 0 <= first <= last <= high:
        raise ValueError(
            f"{name} must be (low, high) with 0 <= low <= high <= {high:g}, got {bounds!r}"
        )
    # Not uniform(low, high): its scaling runs in compiled code that some processors round once
    # less, while random_sample() is a fraction of two integers.
    return first + (last - first) * float(stream.random_sample())


def _octaves(stream: np.random.RandomState, count: int) -> list[_Octave]:
    noise = []
    for octave in range(count):
        cells = CELLS * 2**octave
        # One cell for the offset and three for the spline's support at the border.
        side = cells + 4
        offset = stream.random_sample(2)
        noise.append(_Octave(cells, offset, stream.random_sample((side, side)).astype(np.float32)))
    return noise


def _clouds(noise: list[_Octave], height: int, width: int, covered: float) -> Floats:
    """How thick the haze is: (height, width), from 0 where there is none to 1 or a bit more."""
    longer = max(height, width)
    # The levels come from a fixed number of points, so that they, too, are the same at any
    # resolution, and from this image's frame, so that every image has thin and thick places.
    points = (np.arange(64) + 0.5) / 64
    levels = np.sort(_sample(noise, points * (height / longer), points * (width / longer)), None)
    none = float(levels[int((1.0 - covered) * (levels.size - 1))])
    thick = float(levels[int(0.99 * (levels.size - 1))])

    # What is finer than two pixels would be aliased: its mean stands in for it.
    seen = [octave for octave in noise if 2 * octave.cells <= longer] or noise[:1]
    field = _sample(seen, (np.arange(height) + 0.5) / longer, (np.arange(width) + 0.5) / longer)
    field += sum(0.5 * PERSISTENCE**octave for octave in range(len(seen), len(noise)))
    rise = np.maximum((field - none) / (thick - none), np.float32(0))
    clouds: Floats = rise * rise / (rise + FADE_IN) * (1.0 + FADE_IN)
    return clouds


def _sample(noise: list[_Octave], ys: NDArray[np.float64], xs: NDArray[np.float64]) -> Floats:
    """Sums the octaves at points (y, x), in units of the longer side, by cubic B-splines."""
    total = np.zeros((len(ys), len(xs)), np.float32)
    amplitude = 1.0
    for cells, offset, grid in noise:
        row, row_weights = _spline(ys * cells + offset[0])
        column, column_weights = _spline(xs * cells + offset[1])
        # Columns first: the small grid is what gets indexed there, and whole rows are next.
        wide = np.zeros((len(grid), len(xs)), np.float32)
        for tap, weights in enumerate(column_weights):
            wide += grid[:, column + tap] * (amplitude * weights)
        for tap, weights in enumerate(row_weights):
            total += wide[row + tap] * weights[:, None]
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


def _exp_of_minus(values: Floats) -> Floats:
    """``exp(-values)`` for values of 0 or more, to 1e-5 relative, equal on every machine."""
    # Some processors flush what is smaller than a normal number to zero.
    bounded = np.minimum(values, np.float32(OPAQUE))
    halvings = np.floor(bounded * (1.0 / math.log(2.0)))
    rest = halvings * math.log(2.0) - bounded
    series = np.ones_like(rest)
    for order in range(8, 0, -1):
        series = 1.0 + rest * series / float(order)
    result: Floats = np.ldexp(series, -halvings.astype(np.int32))
    return result
