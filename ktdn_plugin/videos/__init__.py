"""The reader and the writer of video files: frames by PyAV, everything else copied as it is.

Importing this package does not load PyAV, which photographs do not need.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from ktdn_plugin.errors import KTDNError

WRITTEN_SUFFIXES = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Suffixes of written videos, and FFmpeg's names of their formats."""

CRF = {"h264": 18, "hevc": 20}
"""Default constant rate factors: hardly any loss is visible."""

WORST_CRF = 51
SMOOTH = 0.5
"""Default time constant in seconds, see :class:`~ktdn_plugin.videos.smoothing.Smoother`."""


@dataclass(frozen=True)
class VideoOptions:
    """How videos are dehazed and compressed.

    Attributes:
        codec: ``h264``, ``hevc``, or ``auto``: H.264 for 8 bit, which all browsers play, and HEVC
            for 10 bit, which is the codec that devices play with 10 bit.
        crf: Constant rate factor, 0 to 51, less is better; by default that of :data:`CRF`.
        smooth: Seconds over which the network's change is averaged against flicker; 0 dehazes each
            frame by itself.

    Raises:
        KTDNError: If a value is out of range.
    """

    codec: Literal["auto", "h264", "hevc"] = "auto"
    crf: int | None = None
    smooth: float = SMOOTH

    def __post_init__(self) -> None:
        if self.crf is not None and not 0 <= self.crf <= WORST_CRF:
            raise KTDNError(f"--crf must be 0 to {WORST_CRF}, got {self.crf}")
        if not 0 <= self.smooth < 60:  # written so that NaN fails too
            raise KTDNError(f"--smooth must be 0 to 60 seconds, got {self.smooth}")

    def given(self) -> list[str]:
        """Returns what differs from the defaults, as flags."""
        flags = []
        if self.codec != "auto":
            flags.append(f"--codec {self.codec}")
        if self.crf is not None:
            flags.append(f"--crf {self.crf}")
        if self.smooth != SMOOTH:
            flags.append(f"--smooth {self.smooth:g}")
        return flags


DEFAULTS = VideoOptions()


def require_av(label: str) -> None:
    """Checks that PyAV is there.

    Args:
        label: The video.

    Raises:
        KTDNError: If it is not.
    """
    if importlib.util.find_spec("av") is None:
        raise KTDNError(f"{label}: videos need PyAV; install it: pip install av")
