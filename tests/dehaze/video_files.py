"""Small videos with sound and subtitles, and what is in a video."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from skimage import data

TICK = Fraction(1, 90000)
FRAME = 3600  # ticks at 25 frames per second


def scene(number: int, width: int, height: int) -> np.ndarray:
    """A photograph that moves by a few rows with each frame."""
    top = number * 4 % (511 - height)
    return np.ascontiguousarray(data.astronaut()[top : top + height, 40 : 40 + width])


def write_video(
    path: str | Path,
    frames: int = 12,
    *,
    size: tuple[int, int] = (96, 64),
    times: Sequence[int] | None = None,
    images: Sequence[np.ndarray] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    sound: str | None = "aac",
    subtitles: str | None = None,
    matrix: int = 2,
    rate: int = 25,
    flags: str = "",
    turned: tuple[int, int, int, int] | None = None,
    format: str | None = None,
    **context: Any,
) -> None:
    """Writes a video.

    Args:
        path: The file.
        frames: How many.
        size: Width and height.
        times: The frames' times in 1/90000 s; 25 in a second by default.
        images: RGB images of the frames.
        codec: FFmpeg's encoder.
        pixels: Its pixel format.
        sound: The sound's codec; None for silence.
        subtitles: The subtitles' codec, if any.
        matrix: Between RGB and YUV, a number of H.273.
        rate: Frames per second that it names.
        flags: The MP4 writer's.
        turned: Of the matrix that turns it upright, a, b, c and d.
        format: The container's, if not the suffix'.
        context: Attributes of the codec's context.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [scene(number, *size) for number in range(frames)] if images is None else images
    times = [number * FRAME for number in range(len(images))] if times is None else times
    options = {"movflags": flags} if flags else {}
    with av.open(str(path), "w", format=format, container_options=options) as out:
        out.metadata["title"] = "A title"
        quality = {"x265-params": "log-level=none:crf=8"} if codec == "libx265" else {"crf": "8"}
        stream: Any = out.add_stream(codec, rate, quality if "x26" in codec else {})
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        base = TICK if "x26" in codec else Fraction(1, rate)
        stream.time_base = stream.codec_context.time_base = base
        stream.codec_context.colorspace = matrix
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        copies: list[Any] = []
        if sound:
            noise: Any = out.add_stream(sound, 44100)
            noise.layout = "mono"
            noise.metadata["language"] = "fra"
        if subtitles:
            copies.append(out.add_mux_stream(subtitles))
        out.start_encoding()
        for image, time in zip(images, times, strict=True):
            frame = av.VideoFrame.from_ndarray(
                image, format="rgb48le" if image.dtype == np.uint16 else "rgb24"
            ).reformat(
                format=pixels,
                dst_colorspace={2: 5, 6: 5}.get(matrix, matrix) or None,
                dst_color_range=context.get("color_range", 1),
            )
            frame.pts, frame.time_base = int(time * TICK / base), base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound:
            seconds = float((max(times) + FRAME) * TICK)
            for number in range(int(seconds * 44100 / 1024)):
                wave = np.sin(np.arange(1024) / (9 + number % 5))[None] / 3
                form = noise.codec_context.format.name
                samples = (
                    wave.astype(np.float32) if "flt" in form else (wave * 9999).astype(np.int16)
                )
                piece = av.AudioFrame.from_ndarray(samples, format=form, layout="mono")
                piece.sample_rate, piece.pts = 44100, number * 1024
                piece.time_base = Fraction(1, 44100)
                out.mux(noise.encode(piece))
            out.mux(noise.encode(None))
        for copy in copies:
            for number in range(2):
                text = b"line %d" % number
                packet = av.Packet(
                    struct.pack(">H", len(text)) + text
                    if ".m" in path.suffix and path.suffix != ".mkv"
                    else text
                )
                packet.stream, packet.time_base = copy, Fraction(1, 1000)
                packet.pts = packet.dts = number * 200
                packet.duration = 150
                out.mux(packet)
    if turned:
        content = bytearray(path.read_bytes())
        at = content.find(b"tkhd") + 44
        a, b, c, d = (value * 65536 for value in turned)
        content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        path.write_bytes(content)


class Found(NamedTuple):
    """What is in a video.

    Attributes:
        images: The frames, RGB.
        times: Theirs, in seconds.
        video: What the stream says of itself.
        copies: Each other stream's codec and its packets' times and bytes.
        metadata: The file's.
    """

    images: list[np.ndarray]
    times: list[Fraction]
    video: dict[str, Any]
    copies: dict[str, list[tuple[Fraction, bytes]]]
    metadata: dict[str, str]


def read_video(path: str | Path, matrix: int | None = None) -> Found:
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        context = stream.codec_context
        images, times = [], []
        for frame in container.decode(stream):
            is_deep = frame.format.components[0].bits > 8
            made = frame.reformat(
                format="rgb48le" if is_deep else "rgb24", src_colorspace=matrix, dst_color_range=2
            )
            images.append(made.to_ndarray())
            times.append(frame.pts * stream.time_base)
        names = ("width", "height", "pix_fmt", "color_range", "colorspace", "color_primaries")
        video = {name: getattr(context, name) for name in (*names, "color_trc", "codec_tag")}
        video |= {"codec": context.name, "shape": stream.sample_aspect_ratio}
        metadata = dict(container.metadata)
    copies: dict[str, list[tuple[Fraction, bytes]]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.stream.type != "video" and packet.size > 2:
                name = packet.stream.codec_context.name
                found = packet.pts * packet.time_base, bytes(packet)
                copies.setdefault(name, []).append(found)
    return Found(images, times, video, copies, metadata)
