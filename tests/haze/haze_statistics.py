"""What haze did to a photograph, as numbers, measured from a hazy image and its clear self.

For comparing haze that was made with real haze. The real pairs that people have differ by more
than haze: leaves moved, a camera chose another exposure, a file was compressed. So everything
rests on local contrast, which endures that, and on quantiles. All is measured at one small
resolution, because contrast between neighbouring pixels depends on how large these are.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

WORKING_SIDE = 192  # pixels of the longer side: so many have the smallest real pairs at hand
DETAIL = 2.0  # standard deviation in pixels of the Gaussian that details stick out from
WINDOW = 6.0  # ... and of the one that local contrast is averaged with
STEP = 8  # pixels between the places where the statistics look
APART = 2  # steps between neighbours: 16 pixels, whose windows share little
TEXTURE = 0.02  # local contrast of the clear image below which haze has nothing to take away


class HazeStatistics(NamedTuple):
    """Haze in numbers; NaN where an image does not tell.

    t is the local transmission that ``local_transmission`` finds, A the airlight.

    Attributes:
        contrast_loss: Median of 1 - t: what haze takes away of local contrast.
        thickest: The 10 % quantile of t: transmission where haze is thick.
        variation: From the 10 % to the 90 % quantile of t, how much it varies within the image.
        thin_to_thick: Optical depth where haze is thin (90 % quantile of t), as a share of that
            where it is thick (10 % quantile): 0 where parts are clear, 1 in homogeneous haze.
        smoothness: Correlation of t with t a twelfth of the longer side away, from 1 in wide
            smooth clouds to 0 where it varies at random.
        airlight: A's blue channel.
        tint: What A's red lacks of its blue, as a share of the blue; negative where yellowish.
        green_tint: What A's green lacks of its blue, so too.
        brightness: Mean of the hazy image less that of the clear one.
        psnr: Of the hazy image against the clear one, dB.
    """

    contrast_loss: float
    thickest: float
    variation: float
    thin_to_thick: float
    smoothness: float
    airlight: float
    tint: float
    green_tint: float
    brightness: float
    psnr: float


def at_working_size(rgb: Image) -> Image:
    """Brings an image, (h, w, 3) uint8, to the size at which haze is measured."""
    height, width = rgb.shape[:2]
    scale = WORKING_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, size, interpolation=how), dtype=np.uint8)


def local_transmission(hazy: Image, clear: Image) -> Floats:
    """Finds transmission as the contrast that is left.

    With ``I = J t + A (1 - t)`` and a t that changes less from pixel to pixel than J does, details
    (what sticks out from a blurred copy) shrink by t. So t is the ratio of the standard deviations
    of details around each place, over all three channels. It needs no airlight. A regression of
    hazy details on clear ones gives the same on haze that was made, but too little wherever the
    scene moved between two real photographs; the ratio does not mind.

    Args:
        hazy: I, (h, w, 3) uint8 RGB, at the working size.
        clear: J, as large.

    Returns:
        (h, w) float32, at the least 0; it may exceed 1 where two real photographs differ by more
        than haze. NaN where the clear image has too little texture.
    """
    left, had = _local_contrast(hazy), _local_contrast(clear)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.where(had >= TEXTURE, left / had, np.float32("nan"))
    return ratio


def measure_haze(hazy: Image, clear: Image) -> HazeStatistics:
    """Measures what haze did to an image.

    The airlight is the one that, with the local transmission, explains the local means of the
    hazy image best by least squares, which lets thick haze count most:
    ``A = sum (1 - t) (I - J t) / sum (1 - t)^2``.

    Args:
        hazy: I, (h, w, 3) uint8 RGB of any size.
        clear: J, the same scene, pixel by pixel, of equal shape.

    Raises:
        ValueError: The shapes differ, or are not those of RGB images.
    """
    if hazy.shape != clear.shape or hazy.ndim != 3 or hazy.shape[2] != 3 or not hazy.size:
        raise ValueError(f"hazy and clear must be (h, w, 3) alike, got {hazy.shape, clear.shape}")
    hazy, clear = at_working_size(hazy), at_working_size(clear)
    places = np.s_[STEP // 2 :: STEP, STEP // 2 :: STEP]
    grid = local_transmission(hazy, clear)[places]
    known = np.isfinite(grid)
    t = grid[known]
    thick, median, thin = np.quantile(t, [0.1, 0.5, 0.9]) if t.size else [np.nan] * 3
    red, green, blue = _airlight(
        t, _local_mean(hazy)[places][known], _local_mean(clear)[places][known]
    )
    difference = hazy.astype(np.float64) / 255 - clear.astype(np.float64) / 255
    error = np.mean(difference**2)
    return HazeStatistics(
        contrast_loss=float(1 - median),
        thickest=float(thick),
        variation=float(thin - thick),
        thin_to_thick=_ratio(_optical_depth(thin), _optical_depth(thick)),
        smoothness=_smoothness(grid),
        airlight=blue,
        tint=1 - _ratio(red, blue),
        green_tint=1 - _ratio(green, blue),
        brightness=float(difference.mean()),
        psnr=float(-10 * np.log10(error)) if error > 0 else float("inf"),
    )


def _local_mean(rgb: Image) -> Floats:
    return _blurred(rgb.astype(np.float32) / np.float32(255), WINDOW)


def _local_contrast(rgb: Image) -> Floats:
    image = rgb.astype(np.float32) / np.float32(255)
    details = image - _blurred(image, DETAIL)
    # Rounding may leave a blurred square a hair below 0.
    return np.sqrt(np.maximum(_blurred((details**2).mean(2), WINDOW), 0))


def _blurred(image: Floats, sigma: float) -> Floats:
    # Reflected with the border pixel: fits images of a single pixel too.
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))


def _airlight(t: Floats, hazy: Floats, clear: Floats) -> tuple[float, float, float]:
    passed = np.clip(t, 0, 1)[:, None].astype(np.float64)
    lost = 1 - passed
    light = (lost * (hazy - clear * passed)).sum(0)
    red, green, blue = (_ratio(float(value), float((lost**2).sum())) for value in light)
    return red, green, blue


def _optical_depth(transmission: float) -> float:
    return float(-np.log(np.clip(transmission, 1e-4, 1)))


def _ratio(one: float, other: float) -> float:
    return one / other if other > 1e-6 else float("nan")


def _smoothness(grid: Floats) -> float:
    """Correlation of the grid with itself moved by ``APART``, down and to the right."""
    off = grid - (np.nanmean(grid) if np.isfinite(grid).any() else 0)
    products = np.concatenate(
        [(off[:-APART] * off[APART:]).ravel(), (off[:, :-APART] * off[:, APART:]).ravel()]
    )
    if not np.isfinite(products).any():
        return float("nan")
    return _ratio(float(np.nanmean(products)), float(np.nanmean(off**2)))
