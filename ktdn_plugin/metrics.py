"""PSNR and SSIM as image restoration measures them: on RGB, full size, 8 bit.

What is measured on the Y channel alone, as papers on super-resolution do, is named so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.errors import printable

if TYPE_CHECKING:
    from torch import Tensor

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window (sigma 1.5) in pixels; no image may be smaller."""

LUMA_WEIGHTS = np.array([65.481, 128.553, 24.966])
"""Of R, G and B in Y, over 255 and above 16 (ITU-R BT.601)."""

UNNAMED_SPLIT = "unnamed split"
"""What tables call a split that nobody has named: its figures compare with nothing."""

RGB8 = NDArray[np.uint8]


class Measured(NamedTuple):
    """One image's distance from the clear one: PSNR in dB, SSIM, both on RGB."""

    psnr: float
    ssim: float


def measure(image: RGB8, clear: RGB8) -> Measured:
    """Measures an image by PSNR and SSIM, see :func:`psnr` and :func:`ssim`."""
    return Measured(psnr(image, clear), ssim(image, clear))


def psnr(image: RGB8, clear: RGB8, crop_border: int = 0) -> float:
    """Computes the peak signal-to-noise ratio.

    Args:
        image: RGB (h, w, 3), 0 to 255.
        clear: Same shape.
        crop_border: Pixels at each edge that are left out.

    Returns:
        dB, over all pixels and channels together; infinite for equal images.

    Raises:
        ValueError: If the shapes differ, or nothing is left of the images.
    """
    image, clear = _cropped(image, clear, crop_border, least=1)
    # Not all at once in float64: eight times the images' memory is a lot for large ones.
    error = float(np.mean(np.square(image.astype(np.int32) - clear), dtype=np.float64))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim(image: RGB8, clear: RGB8, crop_border: int = 0) -> float:
    """Computes the structural similarity.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity", IEEE TIP 2004: Gaussian window of 11 x 11, sigma 1.5, K1 = 0.01, K2 = 0.03, the
    mean over all places where the window fits, then over the channels.

    Args:
        image: RGB (h, w, 3), 0 to 255.
        clear: Same shape.
        crop_border: Pixels at each edge that are left out.

    Returns:
        At most 1, for equal images.

    Raises:
        ValueError: If the shapes differ, or the window does not fit into the images.
    """
    # Loaded where it is used: it takes a second.
    from skimage.metrics import structural_similarity

    image, clear = _cropped(image, clear, crop_border, least=SSIM_WINDOW)
    return float(
        structural_similarity(
            image,
            clear,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=2,
        )
    )


def describe_missing(metric: str, missing: Sequence[tuple[str, str]], images: int) -> str:
    """Returns a message on the images for which a metric has no value.

    Args:
        metric: The metric.
        missing: Each such image's name, and why.
        images: How many images there are.
    """
    name, reason = missing[0]
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    rest = "the mean is over the others" if len(missing) < images else "there is no mean"
    return (
        f"{metric}: no value for {len(missing)} of {images} images, "
        f"{printable(name)}{more} ({printable(reason)}); {rest}"
    )


def luma(image: RGB8) -> NDArray[np.float64]:
    """Computes the Y channel of YCbCr, as ``test_y_channel`` means it: ITU-R BT.601, not rounded.

    Args:
        image: RGB (h, w, 3), 0 to 255.

    Returns:
        (h, w), 16 to 235.
    """
    return 16 + np.asarray(image @ LUMA_WEIGHTS, np.float64) / 255


def psnr_y(image: RGB8, clear: RGB8) -> float:
    """Computes the peak signal-to-noise ratio of the Y channel, see :func:`luma`.

    Args:
        image: RGB (h, w, 3), 0 to 255.
        clear: Same shape.

    Returns:
        dB, with a peak of 255; infinite for equal channels.

    Raises:
        ValueError: If the shapes differ.
    """
    image, clear = _cropped(image, clear, 0, least=1)
    error = float(np.mean(np.square(luma(image) - luma(clear))))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim_y(image: RGB8, clear: RGB8) -> float:
    """Computes the structural similarity of the Y channel, see :func:`ssim` and :func:`luma`.

    Args:
        image: RGB (h, w, 3), 0 to 255.
        clear: Same shape.

    Returns:
        At most 1, for equal channels.

    Raises:
        ValueError: If the shapes differ, or the window does not fit into the images.
    """
    from skimage.metrics import structural_similarity

    image, clear = _cropped(image, clear, 0, least=SSIM_WINDOW)
    return float(
        structural_similarity(
            luma(image),
            luma(clear),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
        )
    )


def to_rgb8(image: Tensor) -> RGB8:
    """Converts a network's output to 8-bit RGB, as it would be saved.

    Args:
        image: (3, h, w), floating point; clamped to [0, 1].

    Returns:
        (h, w, 3), 0 to 255, rounded to the nearest, halves to the even number.
    """
    values = image.detach().float().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
    return np.ascontiguousarray((values * 255).round().astype(np.uint8))


def _cropped(image: RGB8, clear: RGB8, border: int, least: int) -> tuple[RGB8, RGB8]:
    if image.shape != clear.shape:
        raise ValueError(f"images of {image.shape} and {clear.shape} cannot be compared")
    height, width = (edge - 2 * border for edge in image.shape[:2])
    if min(height, width) < least:
        raise ValueError(
            f"an image of {image.shape[1]} x {image.shape[0]} pixels is too small to measure: "
            f"at least {least} x {least} are needed"
            + (f" inside a border of {border}" if border else "")
        )
    window = slice(border, border + height), slice(border, border + width)
    return image[window], clear[window]
