"""From a video's YUV to RGB and back, by the matrix and the range that the video names."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from av import VideoFrame
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from ktdn_plugin.errors import KTDNError

# Of swscale: bicubic chroma at full resolution, in both directions, and exact rounding.
_SCALER = 0x4 | 0x2000 | 0x4000 | 0x40000
_FULL = 2
_RGB, _BT709, _SMPTE170M, _BT2020 = 0, 1, 6, 9
# Numbers of ITU-T H.273 for which swscale has a matrix, and what it calls them.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
_OTHER_MATRICES = {8: "YCgCo", 10: "BT.2020 with constant luminance", 14: "ICtCp"}
_HDR = {16: "PQ", 18: "HLG"}


class Colours(NamedTuple):
    """What the numbers of a video's pixels mean, by the numbers of ITU-T H.273.

    Attributes:
        primaries: Of the colour space.
        transfer: The curve between numbers and light.
        matrix: Between RGB and YUV.
        range: 1 for 16 to 235 (limited), 2 for 0 to 255 (full).
    """

    primaries: int
    transfer: int
    matrix: int
    range: int


def colours_of(frame: VideoFrame, label: str) -> Colours:
    """Returns a frame's colours, as its YUV result has them.

    Args:
        frame: A decoded frame.
        label: The video.

    Raises:
        KTDNError: If it is HDR, or its matrix is not known.
    """
    transfer = int(frame.color_trc)
    kind = _HDR.get(transfer)
    if _has_dolby_vision(frame):
        kind = "Dolby Vision"
    if kind is not None:
        raise KTDNError(
            f"{label}: an HDR video ({kind}), which the networks have not learnt; convert it "
            "to SDR first, with HandBrake, for instance"
        )
    matrix = int(frame.colorspace)
    is_rgb = frame.format.is_rgb
    if is_rgb:
        matrix = _BT709 if _is_hd(frame) else _SMPTE170M
    elif matrix in _OTHER_MATRICES or matrix == _RGB:
        name = _OTHER_MATRICES.get(matrix, "RGB in YUV's place")
        raise KTDNError(
            f"{label}: its colours are in {name}, which is not read; convert it to BT.709 first"
        )
    is_full = not is_rgb and (int(frame.color_range) == _FULL or "yuvj" in frame.format.name)
    if matrix == _BT2020 and not hasattr(Colorspace, "BT2020"):
        raise KTDNError(
            f"{label}: its colours are in BT.2020, for which PyAV 18 is needed, and Python 3.11; "
            "convert it to BT.709 first"
        )
    return Colours(int(frame.color_primaries), transfer, matrix, _FULL if is_full else 1)


def to_rgb(frame: VideoFrame, colours: Colours) -> NDArray[Any]:
    """Returns a frame's RGB image (h, w, 3), uint8, or uint16 for more than 8 bit."""
    form = "rgb48le" if depth_of(frame) > 8 else "rgb24"
    matrix = None if frame.format.is_rgb else _matrix(colours.matrix, frame)
    source = _FULL if frame.format.is_rgb else colours.range
    made = frame.reformat(
        format=form,
        src_colorspace=matrix,
        src_color_range=source,
        dst_color_range=_FULL,
        interpolation=_SCALER,
    )
    return made.to_ndarray()


def to_yuv(image: NDArray[Any], colours: Colours) -> VideoFrame:
    """Returns a 4:2:0 frame of an RGB image (h, w, 3), 8 bit of uint8 and 10 bit of uint16.

    Odd sizes are extended by repeating the last column or row, as 4:2:0 has even ones alone.
    """
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    is_deep = image.dtype == np.uint16
    frame = VideoFrame.from_ndarray(
        np.ascontiguousarray(image), format="rgb48le" if is_deep else "rgb24"
    )
    return frame.reformat(
        format="yuv420p10le" if is_deep else "yuv420p",
        src_color_range=_FULL,
        dst_colorspace=_matrix(colours.matrix, frame),
        dst_color_range=colours.range,
        interpolation=_SCALER,
    )


def depth_of(frame: VideoFrame) -> int:
    """Returns the bits of a frame's samples."""
    return max(component.bits for component in frame.format.components)


def _matrix(matrix: int, frame: VideoFrame) -> int:
    """Returns swscale's number; players take BT.709 for HD that says nothing, else BT.601."""
    return _MATRICES.get(matrix, 1 if _is_hd(frame) else 5)


def _is_hd(frame: VideoFrame) -> bool:
    return max(frame.width, frame.height) >= 1280 or min(frame.width, frame.height) > 576


def _has_dolby_vision(frame: VideoFrame) -> bool:
    return any(frame.side_data.get(kind) for kind in ("DOVI_METADATA", "DOVI_RPU_BUFFER"))
