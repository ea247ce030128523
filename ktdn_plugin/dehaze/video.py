"""Dehazing videos, frame by frame, through OpenCV."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.atomic import temporary_beside

VIDEO_CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
"""Suffixes of written videos, and codecs that every OpenCV build has."""

MISSING_AT_MOST = 0.01
"""Share of the declared frames that may be missing: many files only estimate the number."""

Frame = NDArray[np.uint8]


class Shape(NamedTuple):
    """What a video file says about itself; the number of frames is 0 if unknown."""

    width: int
    height: int
    rate: float
    frames: int


def dehaze_video(
    path: Path,
    output: Path,
    dehaze: Callable[[Frame], Frame],
    before_move: Callable[[Path], Any] | None = None,
) -> str:
    """Dehazes a video, replacing the output only once the result is complete.

    Args:
        path: The video.
        output: The file to write, with one of the suffixes of :data:`VIDEO_CODECS`.
        dehaze: Maps an RGB image (h, w, 3), 0 to 255, to another one.
        before_move: Called with the complete result, before it is moved to ``output``.

    Returns:
        A line saying what the result lacks.

    Raises:
        KTDNError: If the video cannot be decoded or ends before it should, or the result cannot
            be written.
    """
    with _opened(path) as (video, shape), _drafted(output, before_move) as draft:
        count = _convert(video, shape, path, draft, dehaze)
        if shape.frames and count < shape.frames - max(1, shape.frames * MISSING_AT_MOST):
            raise KTDNError(
                f"{path}: ends early, after {count} of {shape.frames} frames; copy or download it "
                "again"
            )
        _check_written(draft, output, count)
    return "the sound of videos is not kept" + _cut_edge(shape)


def _convert(
    video: Any, shape: Shape, path: Path, draft: Path, dehaze: Callable[[Frame], Frame]
) -> int:
    codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[draft.suffix])
    size = (shape.width, shape.height)
    writer = cv2.VideoWriter(str(draft), cv2.CAP_FFMPEG, codec, shape.rate, size)
    bar = tqdm(total=shape.frames or None, desc=path.name, unit="frame", disable=None, leave=False)
    count = 0
    try:
        if not writer.isOpened():
            raise KTDNError(f"{draft}: this OpenCV cannot write such a video; use another suffix")
        while True:
            is_there, frame = video.read()
            if not is_there:
                break
            if frame.shape[:2] != (shape.height, shape.width):
                raise KTDNError(f"{path}: its frames change size; it cannot be dehazed")
            dehazed = dehaze(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            writer.write(cv2.cvtColor(dehazed, cv2.COLOR_RGB2BGR))
            count += 1
            bar.update()
    finally:
        bar.close()
        writer.release()
    if not count:
        raise KTDNError(f"{path}: no frame of it can be decoded")
    return count


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Shape]]:
    # On a broken file FFmpeg logs what the error below says better.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise KTDNError(f"{path}: not a decodable video, or a truncated one")
        rate = float(video.get(cv2.CAP_PROP_FPS))
        if not 0 < rate < 10_000:
            raise KTDNError(f"{path}: does not state its frame rate")
        width, height, frames = (
            max(0, int(video.get(what)))
            for what in (
                cv2.CAP_PROP_FRAME_WIDTH,
                cv2.CAP_PROP_FRAME_HEIGHT,
                cv2.CAP_PROP_FRAME_COUNT,
            )
        )
        yield video, Shape(width, height, rate, frames)
    finally:
        video.release()


@contextlib.contextmanager
def _drafted(output: Path, before_move: Callable[[Path], Any] | None) -> Iterator[Path]:
    """Yields a path beside the output, whose file replaces it if nothing goes wrong."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with temporary_beside(output, output.suffix.lower()) as draft:
            yield draft
            if before_move is not None:
                before_move(draft)
            draft.replace(output)
    except OSError as error:
        raise KTDNError(f"{output}: cannot be written ({error.strerror or error})") from error


def _check_written(draft: Path, output: Path, count: int) -> None:
    """Counts the frames that can be read back, as OpenCV ignores a full disk when writing."""
    video = cv2.VideoCapture(str(draft))
    try:
        found = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    finally:
        video.release()
    if abs(found - count) > 1:
        raise KTDNError(
            f"{output}: cannot be written completely ({found} of {count} frames); free some space"
        )


def _cut_edge(shape: Shape) -> str:
    """Returns a note on what is cropped from an odd size: chroma subsampling needs even ones."""
    if shape.width % 2 == 0 and shape.height % 2 == 0:
        return ""
    size = f"{shape.width} x {shape.height}"
    return f", and of {size} pixels the last odd row or column is cut off"
