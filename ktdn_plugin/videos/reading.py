"""Reads the frames of a video file, upright, one after another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import av
import numpy as np
from av import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.videos.colours import Colours, colours_of, depth_of, to_rgb

_MISSING = Fraction(1, 5)  # seconds that may be missing at the end: some files only estimate it
_MISSING_SHARE = Fraction(1, 100)  # of a long video
_FAILURES = 100  # in a row, after which nothing whole is to be hoped for
_RATE = Fraction(25)  # for files that name none


class Frame(NamedTuple):
    """A frame.

    Attributes:
        image: RGB (h, w, 3), uint8 or uint16.
        time: When it is shown, in units of the video's time base; each later than the one before.
        duration: For how long, in the same units.
    """

    image: NDArray[Any]
    time: int
    duration: int


class Look(NamedTuple):
    """What the frames of a video have in common.

    Attributes:
        height: Of the upright frames, in pixels.
        width: The same.
        pixel_shape: A pixel's width by its height.
        colours: What the numbers mean.
        time_base: The unit of times, in seconds.
        rate: Frames per second, on average.
    """

    height: int
    width: int
    pixel_shape: Fraction
    colours: Colours
    time_base: Fraction
    rate: Fraction


class VideoReader:
    """Reads a video's frames; use it as a context manager.

    Args:
        path: The video.

    Attributes:
        look: What the frames have in common.
        frames: About how many there are; 0 if that is unknown.

    Raises:
        KTDNError: If it cannot be decoded, or it is HDR.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._container = open_to_read(path)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise KTDNError(_unreadable(path, error)) from error
        try:
            self._open()
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._container.close()

    def _open(self) -> None:
        stream = self._stream = main_stream(self._container, self.path)
        if stream.codec_context is None:
            raise KTDNError(
                f"{self.path}: its codec is not known to this FFmpeg, or it is damaged; convert it "
                "to H.264 first"
            )
        stream.thread_type = "AUTO"
        self._damaged = self._moved = self._count = 0
        self._is_interlaced = False
        self._last: int | None = None
        self._end = 0
        base = stream.time_base or Fraction(1, 1000)
        rate = stream.average_rate or stream.guessed_rate or _RATE
        self._step = max(1, round(1 / (rate * base)))
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            raise KTDNError(f"{self.path}: no frame of it can be decoded")
        self._waiting: VideoFrame | None = first
        self._size = first.width, first.height
        self._matrix = _matrix_of(first)
        self._depth = depth_of(first)
        self._has_alpha = "a" in first.format.name.partition("p")[0].replace("gray", "")
        colours = colours_of(first, str(self.path))
        shape = stream.sample_aspect_ratio or Fraction(1)
        width, height = self._size
        if _is_turned(self._matrix):
            width, height, shape = height, width, 1 / shape
        self.look = Look(height, width, shape, colours, base, rate)
        length = self._length()
        self.frames = stream.frames or (round(length * rate) if length else 0)

    def _length(self) -> Fraction | None:
        """Returns the seconds that the file says the video has, if it does."""
        stream = self._stream
        if stream.duration and stream.time_base:
            return stream.duration * stream.time_base
        of_all = self._container.duration
        return Fraction(of_all, av.time_base) if of_all else None

    @property
    def is_deep(self) -> bool:
        """Whether frames are uint16."""
        return self._depth > 8

    def read(self) -> Frame | None:
        """Returns the next frame, None after the last one.

        Raises:
            KTDNError: If its size or its colours are not the first one's.
        """
        frame = self._next()
        if frame is None:
            return None
        time, duration = self._time(frame)
        image = to_rgb(frame, self.look.colours)
        return Frame(_upright(image, self._matrix), time, duration)

    def skip(self, count: int) -> int:
        """Decodes frames and returns how many there were, at most ``count``."""
        for done in range(count):
            frame = self._next()
            if frame is None:
                return done
            self._time(frame)
        return count

    def _next(self) -> VideoFrame | None:
        frame = self._waiting or next(self._decoded, None)
        self._waiting = None
        if frame is None:
            return None
        if (frame.width, frame.height) != self._size:
            raise KTDNError(f"{self.path}: its frames change size; it cannot be dehazed")
        self._count += 1
        self._is_interlaced |= bool(frame.interlaced_frame)
        self._damaged += bool(frame.is_corrupt)
        return frame

    def _time(self, frame: VideoFrame) -> tuple[int, int]:
        duration = int(frame.duration or 0) or self._step
        time = frame.pts
        if time is None:
            time = 0 if self._last is None else self._last + self._step
        elif self._last is not None and time <= self._last:
            self._moved += 1
            time = self._last + 1
        self._last = time
        self._end = max(self._end, time + duration)
        return time, duration

    def _decode(self) -> Iterator[VideoFrame]:
        for packet in read_packets(self._container, [self._stream]):
            if packet is None or packet.is_corrupt:
                self._damaged += 1
            if packet is None:
                continue
            try:
                yield from self._stream.codec_context.decode(packet)
            except av.FFmpegError:
                self._damaged += 1
        with contextlib.suppress(av.FFmpegError):
            yield from self._stream.codec_context.decode(None)

    def notes(self) -> list[str]:
        """Returns, after the last frame, a line for each thing that the result lacks or had not."""
        notes = []
        look = self.look
        if missing := self._missing():
            notes.append(f"cut off or damaged: {missing}")
        elif self._damaged:
            notes.append(f"places that could not be decoded without loss: {self._damaged}")
        if self._moved:
            notes.append(f"frames shown no later than the one before: {self._moved}; each is now")
        if look.width % 2 or look.height % 2:
            notes.append(
                f"{look.width} x {look.height} pixels are odd, which players do not take: the last "
                "column or row is repeated once"
            )
        if self._depth > 10:
            notes.append(f"{self._depth} bits are kept as 10")
        if self._has_alpha:
            notes.append("its transparency is not kept")
        if self._is_interlaced:
            notes.append(
                "interlaced; each frame is dehazed as it is, with both fields: deinterlace it first"
            )
        if _matrix_of_any_angle(self._matrix):
            notes.append("turned by another angle than 90 degrees; it is not turned")
        return notes

    def _missing(self) -> str | None:
        length = self._length()
        if length is None:
            return None
        stream, base = self._stream, self.look.time_base
        start = stream.start_time * base if stream.start_time is not None else Fraction(0)
        end = self._end * base - start
        if length - end <= max(_MISSING, length * _MISSING_SHARE):
            return None
        of_frames = f" of {stream.frames}" if stream.frames else ""
        return (
            f"{self._count}{of_frames} frames ({float(end):.1f} of {float(length):.1f} seconds) "
            "could be decoded and are dehazed"
        )


def open_to_read(path: Path) -> Any:
    """Returns a file's open container, whatever bytes its metadata hold.

    Raises:
        OSError, av.FFmpegError, ValueError: If it cannot be opened.
    """
    # PyAV 19 has no such argument: it always takes such bytes.
    is_strict = int(av.__version__.partition(".")[0]) < 19
    tolerant: dict[str, Any] = {"metadata_errors": "replace"} if is_strict else {}
    return av.open(str(path), "r", **tolerant)


def read_packets(container: Any, streams: Sequence[Any]) -> Iterator[Any]:
    """Yields the packets of streams, and None where the file is damaged and reading goes on."""
    failures = 0
    while failures < _FAILURES:
        try:
            for packet in container.demux(streams):
                if packet.size:
                    failures = 0
                    yield packet
        except (av.FFmpegError, OSError):  # what comes behind may be whole
            failures += 1
            yield None
        else:
            return


def main_stream(container: Any, path: Path) -> VideoStream:
    """Returns the video of a file; raises KTDNError if there is none, but sound alone."""
    streams = [one for one in container.streams.video if not is_cover(one)]
    if not streams:
        raise KTDNError(f"{path}: holds no video")
    found: VideoStream = streams[0]
    return found


def is_cover(stream: Any) -> bool:
    """Returns whether a stream is a picture that stands for the file."""
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _unreadable(path: Path, error: BaseException) -> str:
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return f"{path}: {error.strerror}"
    return f"{path}: not a decodable video, or a truncated one; copy or download it again"


def _matrix_of(frame: VideoFrame) -> NDArray[Any] | None:
    """Returns the four numbers that turn a frame upright, None if there are none."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(data), "=i4")[:5].astype(float)
    return np.array([a, b, c, d]) / (max(abs(a), abs(b), abs(c), abs(d)) or 1)


def _matrix_of_any_angle(matrix: NDArray[Any] | None) -> bool:
    return matrix is not None and not ({*np.abs(matrix.round(2))} <= {0.0, 1.0})


def _is_turned(matrix: NDArray[Any] | None) -> bool:
    """Returns whether the sides change places."""
    return matrix is not None and not _matrix_of_any_angle(matrix) and abs(matrix[0]) < 0.5


def _upright(image: NDArray[Any], matrix: NDArray[Any] | None) -> NDArray[Any]:
    if matrix is None or _matrix_of_any_angle(matrix):
        return image
    a, b, c, d = matrix
    if _is_turned(matrix):
        image, across, down = image.transpose(1, 0, 2), c, b
    else:
        across, down = a, d
    image = image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
    return np.ascontiguousarray(image)
