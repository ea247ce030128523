"""Dehazing a video: frames are decoded, dehazed and encoded at the same time, in parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ktdn_plugin.dehaze.video_parts import Parts
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.pipeline import BYTES_PER_PIXEL, Pipeline, Task
from ktdn_plugin.storage.atomic import temporary_beside
from ktdn_plugin.videos import VideoOptions
from ktdn_plugin.videos.encoding import PART, PartWriter
from ktdn_plugin.videos.joining import join_parts
from ktdn_plugin.videos.reading import Frame, VideoReader
from ktdn_plugin.videos.smoothing import Smoother

Dehaze = Callable[[NDArray[Any]], NDArray[Any]]


def dehaze_video(
    path: Path,
    output: Path,
    dehaze: Dehaze,
    options: VideoOptions,
    *,
    settings: dict[str, Any] | None = None,
    workers: int = 0,
    devices: int = 1,
    room: int | None = None,
    before_move: Callable[[Path], Any] | None = None,
) -> list[str]:
    """Dehazes a video, writing the result whole or not at all.

    Sound, subtitles and other streams are copied. After an interruption, the same call resumes
    behind the last finished part.

    Args:
        path: The video.
        output: The file to write, with one of the suffixes of
            :data:`~ktdn_plugin.videos.WRITTEN_SUFFIXES`.
        dehaze: Maps an RGB image (h, w, 3), uint8 or uint16, to another one.
        options: How to smooth and to compress it.
        settings: All that the result depends on, to be resumed by; None never resumes.
        workers: 0 decodes, dehazes and encodes one after another; otherwise at the same time.
        devices: How many frames ``dehaze`` takes at the same time.
        room: Bytes that frames may take on their way.
        before_move: Called with the complete result, before it is moved to ``output``.

    Returns:
        Lines that say what the result lacks.

    Raises:
        KTDNError: If the video cannot be decoded or is HDR, or the result cannot be written.
    """
    with VideoReader(path) as reader:
        try:
            if settings is not None:
                versions = {name: list(one) for name, one in av.library_versions.items()}
                settings = {**settings, "versions": versions}
            with Parts(output, settings) as parts:
                pipeline = Pipeline(workers, devices, room if workers else None, in_turn=True)
                _convert(reader, parts, dehaze, options, pipeline)
                with temporary_beside(output, output.suffix.lower()) as draft:
                    dropped = _join(parts, reader, options, draft, output)
                    if before_move is not None:
                        before_move(draft)
                    draft.replace(output)
        except (OSError, av.FFmpegError) as error:
            raise KTDNError(
                f"{output}: cannot be written ({error.strerror or error}); free some space or "
                "choose another folder"
            ) from error
        return reader.notes() + dropped


def _join(
    parts: Parts, reader: VideoReader, options: VideoOptions, draft: Path, output: Path
) -> list[str]:
    files = [part.path for part in parts.done]
    times = [time for part in parts.done for time in part.times]
    dropped = join_parts(files, times, parts.done[-1].end, reader, options, draft, output.name)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    return dropped


def _convert(
    reader: VideoReader, parts: Parts, dehaze: Dehaze, options: VideoOptions, pipeline: Pipeline
) -> None:
    """Dehazes the frames whose parts are not there yet."""
    done = sum(len(part.times) for part in parts.done)
    reader.skip(done)
    encoder = _Encoder(reader, parts, options)
    stages = _FrameStages(reader, dehaze, encoder)
    with tqdm(
        total=reader.frames or None,
        initial=done,
        desc=reader.path.name,
        unit="frame",
        disable=None,
        leave=False,
    ) as bar:
        try:
            with pipeline:
                for task in pipeline.run(stages.tasks(), stages.read, stages.compute, stages.write):
                    if task.error is not None:
                        raise task.error
                    bar.update(not task.is_end)
            encoder.finish_part()
        finally:
            encoder.close()


class _FrameTask(Task):
    """A frame on its way.

    Attributes:
        frame: The hazy frame, while it is needed; None behind the last one.
        dehazed: The result's image.
        is_end: Whether there is no such frame.
    """

    def __init__(self, cost: int) -> None:
        super().__init__(cost)
        self.frame: Frame | None = None
        self.dehazed: NDArray[Any] | None = None
        self.is_end = False


class _FrameStages:
    """What is done with each frame, by threads of a pipeline."""

    def __init__(self, reader: VideoReader, dehaze: Dehaze, encoder: _Encoder) -> None:
        self._reader = reader
        self._dehaze = dehaze
        self._encoder = encoder
        self._ended = False

    def tasks(self) -> Iterator[_FrameTask]:
        """Yields tasks until there are no more frames."""
        look = self._reader.look
        cost = BYTES_PER_PIXEL * look.height * look.width * (2 if self._reader.is_deep else 1)
        while not self._ended:
            yield _FrameTask(cost)

    def read(self, task: _FrameTask) -> None:
        """Decodes the next frame."""
        task.frame = None if self._ended else self._reader.read()
        self._ended = task.is_end = task.frame is None

    def compute(self, task: _FrameTask) -> None:
        """Dehazes it."""
        if task.frame is not None:
            task.dehazed = self._dehaze(task.frame.image)

    def write(self, task: _FrameTask) -> None:
        """Smooths and encodes it."""
        if task.frame is not None and task.dehazed is not None:
            self._encoder.add(task.frame, task.dehazed)
        task.frame = task.dehazed = None


class _Encoder:
    """Smooths frames, and encodes them in parts."""

    def __init__(self, reader: VideoReader, parts: Parts, options: VideoOptions) -> None:
        self._reader = reader
        self._parts = parts
        self._options = options
        self._writer: PartWriter | None = None
        self._smoother = Smoother(options.smooth)
        self._last = self._end = self._count = 0
        if parts.done:
            *_, before = parts.done
            self._smoother.state = before.state
            self._last, self._end = max(before.times), before.end

    def add(self, frame: Frame, dehazed: NDArray[Any]) -> None:
        """Adds a frame and its result."""
        if dehazed.shape != frame.image.shape or dehazed.dtype != frame.image.dtype:
            raise KTDNError(f"{self._reader.path}: the network's image has another size or type")
        base: Fraction = self._reader.look.time_base
        passed = float((frame.time - self._last) * base)
        image = self._smoother(frame.image, dehazed, passed)
        if self._writer is None:
            is_deep = image.dtype == np.uint16
            self._writer = PartWriter(self._parts.path(), self._reader.look, self._options, is_deep)
        self._writer.write(image, frame.time)
        self._count += 1
        self._last, self._end = frame.time, frame.time + frame.duration
        if self._count == PART:
            self.finish_part()

    def finish_part(self) -> None:
        """Completes the part, if one is begun."""
        if self._writer is not None:
            self._writer.finish()
            self._parts.add(self._writer.times, self._end, self._smoother.state)
            self._writer = None
            self._count = 0

    def close(self) -> None:
        """Abandons a part that is begun."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
