"""Edges that haze leaves as they are: directions of gradients, whatever their strength.

Haze multiplies the contrast of a place by its transmission (``I = J t + A (1 - t)``, and t varies
slowly): an edge becomes weaker, but keeps its place and its direction. So gradients are divided by
their mean strength nearby, and their directions count with their sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]
Edges = NDArray[np.complexfloating[Any, Any]]

AREA = 256 * 192  # pixels at which pairs are compared: far finer detail moves with the wind
MULTIPLE = 8  # sizes with small prime factors make Fourier transforms fast
SMALLEST = 32  # shorter side, below which chance matches as well as scenes do

NOISE = 0.5  # gradient, in grey levels a pixel, below which it is rounding rather than an edge
AGREEING = 0.5  # product of two edges' strengths, from which they are one edge
BORDER = 3  # pixels that blurring and differences mix with what is not there
STRONGEST = 2.0  # times the mean nearby: one bright lamp must not outweigh the rest


def make_grey(rgb: NDArray[np.uint8], size: tuple[int, int]) -> Grey:
    """Makes an image small and grey.

    Args:
        rgb: (h, w, 3).
        size: Height and width.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return np.asarray(
        cv2.resize(grey, (size[1], size[0]), interpolation=cv2.INTER_AREA), dtype=np.float32
    )


def working_size(height: int, width: int) -> tuple[int, int] | None:
    """Returns the size at which an image is compared; None where it is too small for that."""
    scale = min(1.0, (AREA / (height * width)) ** 0.5)
    small = tuple(max(MULTIPLE, round(v * scale / MULTIPLE) * MULTIPLE) for v in (height, width))
    return (small[0], small[1]) if min(small) >= SMALLEST else None


def find_edges(grey: Grey, blur: float = 1.0, nearby: float = 8.0) -> Edges:
    """Finds edges as complex numbers: the direction across the edge, and a strength up to 2.

    Args:
        grey: (h, w), 0 to 255.
        blur: Standard deviation in pixels of what is taken out first: noise and compression.
        nearby: Standard deviation in pixels of the surroundings that strength is relative to.
    """
    smooth = np.asarray(cv2.GaussianBlur(grey, (0, 0), blur), dtype=np.float32)
    across, down = _gradients(smooth)
    strength = np.hypot(across, down)
    mean = np.sqrt(cv2.GaussianBlur(strength**2, (0, 0), nearby) + NOISE**2)
    relative = strength / mean
    limited = np.minimum(relative, STRONGEST) / np.maximum(relative, 1e-6) / mean
    edges = (across + 1j * down) * limited
    # What all the image has is none of its edges, such as a sky growing lighter all the way down;
    # hence without the border, at which there is no gradient for lack of a neighbour.
    inner = (slice(BORDER, -BORDER),) * 2
    edges[inner] -= edges[inner].mean()
    return edges * _fading(*grey.shape)


@lru_cache(maxsize=64)  # images of a set have few sizes
def _fading(height: int, width: int) -> Grey:
    """Fades out towards the border, which shifting by Fourier transforms joins to its opposite."""
    along = [np.pad(np.hanning(n - 2 * BORDER + 2)[1:-1] ** 0.25, BORDER) for n in (height, width)]
    return np.outer(*along).astype(np.float32)


class Outline:
    """An image's edges, and how strong its gradients are where they lie.

    Args:
        grey: (h, w), 0 to 255.
    """

    def __init__(self, grey: Grey) -> None:
        self.edges = find_edges(grey)
        self.strength = np.hypot(*_gradients(grey))


def relative_contrast(one: Outline, other: Outline) -> float:
    """Returns how much stronger an image's edges are than another's; the median.

    Only edges that both have count: gradients of the haze itself are in one of the two alone.

    Args:
        one: An image's.
        other: Another's of the same scene, of the same size.
    """
    agreement = (one.edges * np.conj(other.edges)).real
    common = (agreement > AGREEING) & (one.strength > 0) & (other.strength > 0)
    ratio = one.strength[common] / other.strength[common]
    return float(np.median(ratio)) if common.any() else 1.0


def _gradients(grey: Grey) -> list[Grey]:
    """Returns the gradients to the right and down, in grey levels a pixel."""
    directions = ((1, 0), (0, 1))
    return [np.asarray(cv2.Sobel(grey, cv2.CV_32F, *d, ksize=3) / 8) for d in directions]


@dataclass(frozen=True)
class Match:
    """How well two images' edges match, in standard deviations over all shifts between the two.

    Attributes:
        here: Where the images lie now, or within ``reach`` of that.
        best: At the best of all shifts.
        shift: That shift, (x, y): how far the first image's content lies right of and below the
            second's, as a share of width and height.
    """

    here: float
    best: float
    shift: tuple[float, float]


def spectrum(edges: Edges) -> Edges:
    """Prepares edges for :func:`match_spectra`; the last two axes are the image."""
    return np.fft.fft2(edges)


def match_spectra(one: Edges, other: Edges, reach: int = 0) -> Match:
    """Correlates two images' edges over all shifts.

    The cross power spectrum is divided by the root of its magnitude, half way to phase
    correlation: scenes peak sharply, and chance nowhere much.

    Args:
        one: A spectrum (h, w).
        other: Another of this size.
        reach: Shifts in pixels that count as none.
    """
    surface = correlation(one, other)
    height, width = surface.shape
    rows, columns = (np.arange(-reach, reach + 1) % n for n in (height, width))
    top, left = np.unravel_index(int(surface.argmax()), surface.shape)
    x, y = ((v - n if v > n // 2 else v) / n for v, n in ((int(left), width), (int(top), height)))
    here = float(surface[np.ix_(rows, columns)].max())
    return Match(here, float(surface[top, left]), (x, y))


def correlation(one: Edges, other: Edges) -> NDArray[np.floating[Any]]:
    """Returns the correlation at each shift, in standard deviations; the last two axes are it."""
    cross = one * np.conj(other)
    cross /= np.sqrt(np.abs(cross)) + 1e-9
    surface = np.fft.ifft2(cross).real
    return surface / (surface.std(axis=(-2, -1), keepdims=True) + 1e-12)
