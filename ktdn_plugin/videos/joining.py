"""Joins the parts of a video's pictures, and copies all else from the original, nothing encoded."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from ktdn_plugin.videos import WRITTEN_SUFFIXES, VideoOptions
from ktdn_plugin.videos.encoding import add_stream, order_for_decoding
from ktdn_plugin.videos.reading import (
    VideoReader,
    is_cover,
    main_stream,
    open_to_read,
    read_packets,
)

# What containers say of themselves.
_OWN = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
_TURNED = {"rotate"}
_KINDS = {
    "audio": "sound",
    "subtitle": "subtitles",
    "data": "data",
    "attachment": "attachment",
    "video": "picture",
}


def join_parts(
    parts: Sequence[Path],
    times: list[int],
    end: int,
    original: VideoReader,
    options: VideoOptions,
    result: Path,
    name: str,
) -> list[str]:
    """Writes a video of parts, with the sound, subtitles and all else of its original.

    Args:
        parts: The files that :class:`~ktdn_plugin.videos.encoding.PartWriter` wrote, in order.
        times: Their packets' times, in order.
        end: When the last frame ends; as the times in units of the original's time base.
        original: The video that they were made from.
        options: How they were compressed.
        result: The file to write.
        name: What to call it.

    Returns:
        A line for each thing that the result's format has no room for.

    Raises:
        OSError: If it cannot be written.
    """
    form = WRITTEN_SUFFIXES[result.suffix.lower()]
    look, is_deep = original.look, original.is_deep
    with open_to_read(original.path) as source:
        flags = {"movflags": _flags(source)} if form in ("mp4", "mov") else {}
        with av.open(str(result), "w", format=form, container_options=flags) as out:
            main = main_stream(source, original.path)
            video = add_stream(out, look, options, is_deep)
            base = look.time_base
            _describe(video, main)
            copies, notes = _add_copies(out, source, main, form, name)
            for key, value in source.metadata.items():
                if key.lower() not in _OWN:
                    out.metadata[key] = value
            out.set_chapters(source.chapters())
            pictures = _pictures(parts, times, end, base)
            picture = next(pictures, None)
            last: dict[int, int] = defaultdict(lambda: -(2**63))
            for packet in _packets(source, copies, notes):
                moment = (packet.dts or 0) * packet.time_base
                while picture is not None and (picture.dts or 0) * base <= moment:
                    picture.stream = video
                    out.mux(picture)
                    picture = next(pictures, None)
                if packet.dts <= last[packet.stream.index]:  # which formats refuse
                    packet.dts = last[packet.stream.index] + 1
                    packet.pts = max(packet.pts, packet.dts)
                last[packet.stream.index] = packet.dts
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
            while picture is not None:
                picture.stream = video
                out.mux(picture)
                picture = next(pictures, None)
    return notes


def _pictures(
    parts: Sequence[Path], times: list[int], end: int, base: Fraction
) -> Iterator[av.Packet]:
    """Yields the packets of all parts with their times."""
    following = dict(zip(ordered := sorted(times), [*ordered[1:], end], strict=True))
    moments = iter(zip(times, order_for_decoding(times), strict=True))
    for part in parts:
        with av.open(str(part), "r") as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.size:
                    packet.pts, packet.dts = next(moments)
                    packet.duration = following[packet.pts] - packet.pts
                    packet.time_base = base
                    yield packet


def _add_copies(
    out: Any, source: Any, main: Any, form: str, name: str
) -> tuple[dict[int, Any], list[str]]:
    """Adds a stream for each other one of the original that the format takes."""
    copies, notes = {}, []
    for stream in source.streams:
        if stream.index == main.index:
            continue
        kind = _KINDS.get(stream.type, stream.type)
        if not _takes(form, stream):
            codec = stream.codec_context.name if stream.codec_context else "of an unknown kind"
            other = next(
                (one for one in (".mkv", ".mp4") if _takes(WRITTEN_SUFFIXES[one], stream)), ""
            )
            advice = f"; -o NAME{other} keeps it" if other else ""
            suffix = Path(name).suffix
            notes.append(f"dropped: {kind} ({codec}), for which {suffix} has no room{advice}")
            continue
        if stream.type == "video" and not is_cover(stream):
            notes.append("a second video in it is copied as it is")
        copies[stream.index] = copy = out.add_stream_from_template(stream, opaque=True)
        _describe(copy, stream)
    return copies, notes


def _takes(form: str, stream: Any) -> bool:
    """Returns whether a format takes a stream, by beginning a file with it alone."""
    try:
        with av.open(io.BytesIO(), "w", format=form) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.FFmpegError, ValueError, TypeError, AttributeError):
        return False
    return True


def _describe(copy: Any, stream: Any) -> None:
    for key, value in stream.metadata.items():
        if key.lower() not in _OWN | _TURNED:
            copy.metadata[key] = value
    copy.disposition = stream.disposition


def _packets(source: Any, copies: dict[int, Any], notes: list[str]) -> Iterator[Any]:
    streams = [one for one in source.streams if one.index in copies]
    if not streams:
        return
    damaged = 0
    for packet in read_packets(source, streams):
        if packet is None:
            damaged += 1
            continue
        damaged += bool(packet.is_corrupt)
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.dts is not None:
            packet.pts = packet.dts if packet.pts is None else packet.pts
            yield packet
    if damaged:
        notes.append("parts of its sound or subtitles are missing, where the file is damaged")


def _flags(source: Any) -> str:
    """Returns flags: the index first, so that browsers need not read all; Apple's own metadata."""
    is_apple = any(key.startswith("com.") for key in source.metadata)
    return "+faststart" + ("+use_metadata_tags" if is_apple else "")
