"""What the server takes from anybody, at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of size and number.

    Attributes:
        upload: Bytes of a photograph's file.
        pixels: Pixels of a photograph.
        queue: Photographs that are uploaded, wait or are dehazed at a time.
        stored: Bytes of the photographs that the page keeps; a photograph that is under way may go
            beyond.
        minutes: How long the page's photographs are kept after they were last asked for.
    """

    upload: int = 50_000_000
    pixels: int = 64_000_000
    queue: int = 32
    stored: int = 10_000_000_000
    minutes: int = 60
