"""What a photograph may take when it is read: a small file can hold pixels for all memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.system_memory import available, resident

BYTES_PER_PIXEL = {8: 12, 16: 22}
"""The most that decoding takes for a pixel, by its depth: libraries' buffers, and ours."""

_SMALL = 2**27  # bytes; the network needs more, and says how much


@dataclass(frozen=True)
class ReadLimits:
    """The largest photograph that is read; by default what the free memory allows.

    Attributes:
        max_pixels: The most pixels. Whoever reads strangers' files sets it.
        max_memory: The bytes that the whole process may hold while it reads; None for the free
            memory.

    Example:
        >>> ReadLimits(max_pixels=50_000_000).check("photo.png", height=6000, width=8000)
    """

    max_pixels: int | None = None
    max_memory: int | None = None

    def check(self, name: str | Path, height: int, width: int, depth: int = 8) -> None:
        """Refuses an image that is too large, before it is decoded.

        Args:
            name: What to call it.
            height: Its height in pixels.
            width: Its width.
            depth: Bits of a sample once it is read, 8 or 16.

        Raises:
            KTDNError: If it is.
        """
        pixels = height * width
        if self.max_pixels is not None and pixels > self.max_pixels:
            raise KTDNError(
                f"{name}: {width} x {height} pixels, and at most {self.max_pixels:,} are allowed "
                "(--max-pixels); make it smaller, or allow more"
            )
        needed = pixels * BYTES_PER_PIXEL[depth]
        if needed <= _SMALL:
            return
        if self.max_memory is None:
            free = available()
            more_than = "is free"
        else:
            held = resident()
            free = None if held is None else max(self.max_memory - held, 0)
            more_than = "--max-memory leaves"
        if free is not None and needed > free:
            raise KTDNError(
                f"{name}: {width} x {height} pixels take {needed / 1e9:.1f} GB of memory to read, "
                f"more than {more_than}; make it smaller, or split it into parts"
            )
