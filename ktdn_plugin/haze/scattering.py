"""Non-homogeneous haze over a clear photograph, for lack of real pairs or for more of them.

The haze is a function of the seed and the image size alone, to the last bit on any machine. Hence
only elementary operations, whose results IEEE 754 fixes: library exponentials, matrix products and
image resizing differ in the last bits from one processor to another.

The default ranges were chosen beside 12 real pairs of non-homogeneous haze and smoke, 190 to 320
pixels wide (``tests/haze/test_haze_statistics.py`` measures them). These are the 10, 50 and 90 %
quantiles of real haze and of haze made over the same clear images, and the ranges behind them::

    contrast loss      real 0.20 0.49 0.78   made 0.26 0.47 0.73   density, coverage
    thickest t         real 0.12 0.21 0.31   made 0.08 0.18 0.31   density
    variation of t     real 0.30 0.61 0.69   made 0.34 0.51 0.72   veil, coverage
    thin to thick      real 0.00 0.10 0.42   made 0.05 0.20 0.35   veil
    smoothness of t    real 0.52 0.76 0.88   made 0.77 0.86 0.91   the clouds' octaves
    airlight, blue     real 0.59 0.90 1.04   made 0.69 0.85 0.97   airlight
    tint               real 0.13 0.30 0.34   made 0.15 0.24 0.32   tint
    brightness gain    real 0.02 0.17 0.29   made 0.08 0.17 0.25   all of them
    PSNR, dB           real  9.3 11.3 15.9   made 10.3 12.8 16.1   all of them

Homogeneous haze varies by 0.01. Two deviations are meant: airlight as dark as that of smoke at dusk
looks wrong over photographs taken in the sun, and real haze seems rougher than it is where leaves
moved between two photographs.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.haze.clouds import MAX_OCTAVES, Floats, Window, draw_octaves, make_clouds

Range = tuple[float, float]

DENSITY: Range = (1.6, 4.5)
AIRLIGHT: Range = (0.65, 1.0)
TINT: Range = (0.1, 0.35)
VEIL: Range = (0.0, 0.25)
COVERAGE: Range = (0.6, 1.0)
OCTAVES = 6

LARGEST = 2**31 - 1  # side of an image in pixels
OPAQUE = 80.0  # optical depth beyond which float32 has no normal number for the transmission
GREEN_TINT = 0.53  # green loses this share of what red loses in a bluish airlight, as in real pairs


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


def synthesize_haze(
    clear: NDArray[Any],
    seed: int,
    *,
    density: Range = DENSITY,
    airlight: Range = AIRLIGHT,
    tint: Range = TINT,
    veil: Range = VEIL,
    coverage: Range = COVERAGE,
    octaves: int = OCTAVES,
    depth: NDArray[Any] | None = None,
    frame: tuple[int, int] | None = None,
    at: tuple[int, int] = (0, 0),
) -> Haze:
    """Adds clouds of haze to a clear image, or to a window of one.

    The scattering model (Koschmieder 1924; Narasimhan & Nayar 2002) ``I = J t + A (1 - t)``,
    ``t = exp(-beta d)``, with a beta that varies over the scene in smooth clouds of several
    octaves (fractal noise). Each range ``(low, high)`` is drawn from once per image, uniformly.
    The module says what the defaults come from.

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
        depth: d, (h, w), 0 or more, where 1 is a typical distance; all 1 by default.
        frame: Height and width of the whole image, where ``clear``, and ``depth`` with it, are
            only a window of it: the result is, to the bit, that window of the whole image's
            haze, for the cost of the window.
        at: Where the window lies: its top and its left in the whole image.

    Returns:
        The hazy image with its transmission and airlight.

    Raises:
        TypeError: ``clear`` or ``depth`` is not an array of a fitting dtype, or ``seed``,
            ``octaves``, or a number of ``frame`` or ``at`` is no integer.
        ValueError: A shape or value is outside what is said above.

    Example:
        >>> clear = np.full((60, 80, 3), 0.2)
        >>> haze = synthesize_haze(clear, seed=7)
        >>> haze.hazy.shape, haze.transmission.shape, bool(haze.hazy.mean() > clear.mean())
        ((60, 80, 3), (60, 80), True)
    """
    scene = _as_image(clear)
    height, width = scene.shape[:2]
    transmission, light = make_transmission(
        _window(height, width, frame, at),
        seed,
        density=density,
        airlight=airlight,
        tint=tint,
        veil=veil,
        coverage=coverage,
        octaves=octaves,
        depth=depth,
    )
    hazy = np.empty_like(scene)
    scattered = 1.0 - transmission
    for channel in range(3):
        passed = hazy[..., channel]
        np.multiply(scene[..., channel], transmission, out=passed)
        passed += light[channel] * scattered
    return Haze(hazy, transmission, light)


def make_transmission(
    window: Window,
    seed: int,
    *,
    density: Range = DENSITY,
    airlight: Range = AIRLIGHT,
    tint: Range = TINT,
    veil: Range = VEIL,
    coverage: Range = COVERAGE,
    octaves: int = OCTAVES,
    depth: NDArray[Any] | None = None,
) -> tuple[Floats, Floats]:
    """Makes what ``synthesize_haze`` adds to an image, without the image.

    Args:
        window: The image's size, and which part of it is wanted.
        seed: See ``synthesize_haze``, as for all that follows.

    Returns:
        Transmission (height, width) of the window and airlight (3,), both float32.

    Raises:
        TypeError: As ``synthesize_haze`` does.
        ValueError: As ``synthesize_haze`` does.
    """
    stream = np.random.RandomState(_integer("seed", seed, 0, 2**32 - 1))
    thickest = _draw(stream, "density", density, high=OPAQUE)
    brightness = _draw(stream, "airlight", airlight)
    blueness = _draw(stream, "tint", tint)
    clearest = _draw(stream, "veil", veil)
    covered = _draw(stream, "coverage", coverage)
    if covered <= 0:
        raise ValueError(f"coverage must be above 0, got {coverage!r}")

    noise = draw_octaves(stream, _integer("octaves", octaves, 1, MAX_OCTAVES))
    optical_depth = make_clouds(noise, window, covered)
    optical_depth *= 1.0 - clearest
    optical_depth += clearest
    optical_depth *= thickest
    if depth is not None:
        optical_depth *= _as_depth(depth, window.height, window.width)
    return exp_of_minus(optical_depth), _bluish(brightness, blueness)


def draw_airlight(
    stream: np.random.RandomState, airlight: Range = AIRLIGHT, tint: Range = TINT
) -> Floats:
    """Draws the airlight of a haze that has no clouds, (3,) RGB; see ``synthesize_haze``."""
    return _bluish(_draw(stream, "airlight", airlight), _draw(stream, "tint", tint))


def _bluish(brightness: float, blueness: float) -> Floats:
    shares = (1.0 - blueness, 1.0 - GREEN_TINT * blueness, 1.0)
    return np.array([brightness * share for share in shares], dtype=np.float32)


def _window(height: int, width: int, frame: tuple[int, int] | None, at: tuple[int, int]) -> Window:
    top, left = _two_integers("at", at, 0)
    whole = (height, width) if frame is None else _two_integers("frame", frame, 1)
    if top + height > whole[0] or left + width > whole[1]:
        raise ValueError(
            f"at must leave room for clear's {(height, width)} in the image's {whole}, "
            f"got {(top, left)}{'; frame is missing' if frame is None else ''}"
        )
    return Window(height, width, top, left, whole)


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


def _two_integers(name: str, values: Iterable[int], low: int) -> tuple[int, int]:
    try:
        first, second = values
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two integers, got {values!r}") from None
    return _integer(name, first, low, LARGEST), _integer(name, second, low, LARGEST)


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


def exp_of_minus(values: Floats) -> Floats:
    """Computes ``exp(-values)`` for values of 0 or more, to 1e-5 relative, alike on any machine."""
    # Some processors flush what is smaller than a normal number to zero.
    bounded = np.minimum(values, np.float32(OPAQUE))
    halvings = np.floor(bounded * (1.0 / math.log(2.0)))
    rest = halvings * math.log(2.0)
    rest -= bounded
    series = np.ones_like(rest)
    for order in range(8, 0, -1):
        series *= rest
        series /= float(order)
        series += 1.0
    result: Floats = np.ldexp(series, -halvings.astype(np.int32))
    return result
