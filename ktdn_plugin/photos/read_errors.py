"""Why a file cannot be read as a photograph, and what to do about it."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable
from typing import Any

from PIL import TiffImagePlugin

from ktdn_plugin.photos.formats import READ_SUFFIXES, cure_of, kind_of

_SAMPLES = {1: "integers", 2: "signed integers", 3: "floating-point numbers"}  # TIFF 6.0, tag 339
_AGAIN = "copy or download it again, or remove it"


def read_failure_reason(content: bytes, error: Exception) -> str:
    """Returns why a file cannot be read, as the part of a message after its name.

    Args:
        content: The file.
        error: What Pillow or another library raised.
    """
    kind = kind_of(content)
    if kind is None:
        kinds = ", ".join(dict.fromkeys(READ_SUFFIXES.values()))
        return f"not a readable image (none of {kinds}); {_AGAIN}"
    if kind not in READ_SUFFIXES.values():
        article = "an" if kind[0] in "AEHIOi" else "a"
        return f"not a readable image, but {article} {kind}; {cure_of(kind)}"
    if "MAX_TEXT" in str(error):
        return "has texts or a colour profile of more than 64 MB; strip them"
    if kind == "TIFF" and (found := _tiff_oddity(content)):
        return found
    if "nsupported" in str(error) or isinstance(error, NotImplementedError):
        what = " ".join(str(error).split())
        return f"an unsupported variant of {kind} ({what}); {cure_of(kind)}"
    return f"not a readable image, but a truncated or damaged {kind}; {_AGAIN}"


def depth_error(bits: Collection[int], formats: Iterable[int] = ()) -> str | None:
    """Returns what is wrong with an image's samples.

    Args:
        bits: The bits of each channel.
        formats: A TIFF's formats of samples, by their numbers; unsigned integers by default.

    Returns:
        What follows the file's name in a message; None where the samples can be read.
    """
    odd = [number for number in formats if number != 1]
    if not odd and (set(bits) == {16} or max(bits) <= 8):
        return None
    what = _SAMPLES.get(odd[0], "numbers") if odd else _SAMPLES[1]
    depths = " and ".join(map(str, sorted(set(bits))))
    return f"holds {what} of {depths} bit; only unsigned 8 or 16 bit is supported: convert it"


def _tiff_oddity(content: bytes) -> str | None:
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page: Any = file.pages[0]
            if int(page.photometric) in (0, 1) and page.samplesperpixel > 2:
                return (
                    f"has {page.samplesperpixel} bands, none of which it calls a colour; save it "
                    "as RGB or RGBA"
                )
            if page.samplesperpixel > 4:
                return (
                    f"has {page.samplesperpixel} bands of {page.bitspersample} bit; save it as "
                    "RGB or RGBA"
                )
            bits, samples, compression = page.bitspersample, page.sampleformat, page.compression
    # What it raises about damaged files is of many kinds.
    except Exception:
        return None
    depths = set(bits) if isinstance(bits, tuple) else {int(bits)}
    formats = [int(one) for one in (samples if isinstance(samples, tuple) else (samples,))]
    found = depth_error(depths, formats) if depths else None
    if found is None and int(compression) not in TiffImagePlugin.COMPRESSION_INFO:
        name = getattr(compression, "name", compression)
        return (
            f"a TIFF with {name} compression, which is not supported; save it with ZIP compression"
        )
    return found
