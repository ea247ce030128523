"""Compresses frames as H.264 or HEVC, in parts that follow each other without seams."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.videos import CRF, VideoOptions
from ktdn_plugin.videos.colours import to_yuv
from ktdn_plugin.videos.reading import Look

PART = 48
"""Frames of a part, which begins with a keyframe."""

_ENCODERS = {"h264": "libx264", "hevc": "libx265"}
_OPTIONS = {
    "h264": {"x264-params": "open-gop=0"},
    "hevc": {"x265-params": "log-level=none:open-gop=0"},
}


def add_stream(container: Any, look: Look, options: VideoOptions, is_deep: bool) -> Any:
    """Adds a stream for a video's pictures to a file; those of all parts fit to its headers.

    Args:
        container: The file, open for writing.
        look: What the frames have in common.
        options: How to compress them.
        is_deep: Whether the frames are uint16.
    """
    codec = options.codec
    if codec == "auto":
        codec = "hevc" if is_deep else "h264"
    crf = CRF[codec] if options.crf is None else options.crf
    settings = {"crf": str(crf), "g": str(PART), **_OPTIONS[codec]}
    stream = container.add_stream(_ENCODERS[codec], look.rate, settings)
    stream.width, stream.height = look.width + look.width % 2, look.height + look.height % 2
    stream.pix_fmt = "yuv420p10le" if is_deep else "yuv420p"
    context = stream.codec_context
    context.time_base = stream.time_base = look.time_base
    context.framerate = look.rate
    context.sample_aspect_ratio = look.pixel_shape
    context.color_range = look.colours.range
    context.colorspace = look.colours.matrix
    context.color_primaries = look.colours.primaries
    context.color_trc = look.colours.transfer
    if codec == "hevc" and container.format.name in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # Apple's players want it
    return stream


class PartWriter:
    """Writes one part of a video, a file that holds nothing but its pictures.

    The file has no times, as :attr:`times` keeps them exactly; it is a NUT file.

    Args:
        path: The file.
        look: What the frames have in common.
        options: How to compress them.
        is_deep: Whether the frames are uint16.

    Attributes:
        times: Each packet's frame's time, in the order in which they are in the file.
    """

    def __init__(self, path: Path, look: Look, options: VideoOptions, is_deep: bool) -> None:
        self._look = look
        self._file = path.open("wb")
        self._container = av.open(
            self._file, "w", format="nut", container_options={"avoid_negative_ts": "disabled"}
        )
        self._stream = add_stream(self._container, look, options, is_deep)
        self._first: int | None = None
        self.times: list[int] = []

    def write(self, image: NDArray[Any], time: int) -> None:
        """Adds a frame.

        Args:
            image: RGB (h, w, 3), uint8 or uint16.
            time: When it is shown, in units of the look's time base.
        """
        frame = to_yuv(image, self._look.colours)
        if self._first is None:
            self._first = time
        frame.pts = time - self._first
        frame.time_base = self._look.time_base
        self._mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Completes the file, so that it survives a power cut."""
        self._mux(self._stream.encode(None))
        self._container.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Closes the file as it is."""
        self._container.close()
        self._file.close()

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self.times.append(packet.pts + self._first)
            self._container.mux(packet)


def order_for_decoding(shown: list[int]) -> list[int]:
    """Returns the times at which packets are decoded, strictly increasing, none after it is shown.

    Args:
        shown: When each packet's frame is shown, in the order of decoding; no two the same.
    """
    ordered = np.sort(shown)
    places = np.searchsorted(ordered, shown)
    # A frame is shown that many packets before it is decoded, were they decoded without delay.
    delay = int(max(0, (np.arange(len(shown)) - places).max(initial=0)))
    step = int(ordered[1] - ordered[0]) if len(shown) > 1 else 1
    before = [int(ordered[0]) - step * number for number in range(delay, 0, -1)]
    return before + [int(time) for time in ordered[: len(shown) - delay]]
