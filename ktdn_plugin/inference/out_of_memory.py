"""Messages for insufficient memory, before and during a run."""

from __future__ import annotations

from ktdn_plugin.inference.frames import Frames
from ktdn_plugin.inference.memory_sizes import format_memory


def word_too_little(frames: Frames, given: str, precision: str, needed: int, held: int = 0) -> str:
    """Returns the message that images do not fit, and how much memory would be enough.

    Args:
        frames: The images.
        given: The available memory, in words.
        precision: The precision of the planned run.
        needed: Bytes that would be enough.
        held: How many of these are already held.
    """
    parts = f", of which {format_memory(held)} is already in use" if held else ""
    # For a small image, another precision could halve only a small share.
    is_halved = precision not in ("bf16", "fp16") and needed - held > needed // 3
    return (
        f"{_size(frames)} do not fit into {given} in precision {precision}; "
        f"{format_memory(needed)} is enough{parts}{'; less in precision bf16' if is_halved else ''}"
    )


def word_out_of_memory(frames: Frames, precision: str, needed: int | None) -> str:
    """Returns the message that a run ran out of memory, and what to do.

    Args:
        frames: The images.
        precision: The precision of the run.
        needed: Bytes that the most frugal run takes; None for networks other than KTDN.
    """
    advice = (
        "use smaller images"
        if needed is None
        else f"give --max-memory {format_memory(needed)} (max_memory=), the least that is "
        "enough, if that much is free"
    )
    return f"out of memory: {_size(frames)} on {frames.device} in precision {precision}; {advice}"


def _size(frames: Frames) -> str:
    return f"{frames.width} x {frames.height} pixels"
