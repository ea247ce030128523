"""Reads an image file's metadata with Pillow."""

from __future__ import annotations

import io

from PIL import Image, ImageCms

from ktdn_plugin.photos.auxiliary import drop_auxiliary
from ktdn_plugin.photos.exif import PREFIX, reset_orientation, reset_xmp_orientation
from ktdn_plugin.photos.formats import is_lossless_webp
from ktdn_plugin.photos.photo import Metadata
from ktdn_plugin.photos.png_chunks import COLOUR, chunks

XMP_KEYWORD = "XML:com.adobe.xmp"
_RAW_EXIF = "Raw profile type exif"
_JPEGS = ("JPEG", "MPO")
_APP13 = b"\xff\xed"

STRUCTURE = frozenset(
    {*range(254, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 301, 317}
    | {*range(320, 326), 330, *range(332, 335), *range(336, 342), 347, *range(512, 522)}
    | {*range(529, 533), 700, 34675}
)
"""Tags of a TIFF that say how its pixels lie in it, or that have a place of their own in
:class:`Metadata`: sizes, compression, strips, tiles, palettes; XMP and the ICC profile."""


def read_metadata(image: Image.Image, content: bytes, notes: list[str]) -> tuple[Metadata, int]:
    """Reads an image's metadata.

    Args:
        image: The opened image. A PNG's pixels are loaded: some metadata is behind them.
        content: Its file.
        notes: Gets a line for what cannot be taken over.

    Returns:
        The metadata, the ICC profile as it is, and the EXIF orientation, 1 to 8, by which the
        pixels have yet to be turned.
    """
    is_jpeg = image.format in _JPEGS
    text = {key: str(value) for key, value in getattr(image, "text", {}).items()}
    text.pop(XMP_KEYWORD, None)
    block = exif_block(image, notes)
    orientation = reset_orientation(block)
    if "exif" not in image.info:
        text.pop(_RAW_EXIF, None)  # it is in the block now, and would say another orientation
    xmp, companions = drop_auxiliary(image, content, _as_bytes(image.info.get("xmp")))
    notes += [f"dropped: {words}" for words in companions]
    metadata = Metadata(
        exif=bytes(block),
        icc=image.info.get("icc_profile") or b"",
        xmp=reset_xmp_orientation(xmp),
        text=text,
        dpi=_resolution(image),
        comment=_as_bytes(image.info.get("comment")) if is_jpeg else b"",
        iptc=_iptc(image) if is_jpeg else b"",
        is_lossless_webp=image.format == "WEBP" and is_lossless_webp(content),
    )
    if image.format == "PNG":
        metadata.colour = {
            name: bytes(part[8:-4]) for name, part in chunks(content) if name in COLOUR
        }
    return metadata, orientation


def is_of_rgb(icc: bytes) -> bool:
    """Returns whether a profile is of RGB, no other colour space (ICC.1:2022, section 7.2.6)."""
    return icc[16:20] == b"RGB "


def to_srgb(image: Image.Image, icc: bytes, notes: list[str]) -> Image.Image:
    """Converts CMYK to sRGB: by its profile, or, where none can be used, as Pillow does it.

    Args:
        image: The image.
        icc: Its profile, or nothing.
        notes: Gets a line for what was done.
    """
    note = "CMYK converted to sRGB"
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(
                image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            note += " without its colour profile, which is damaged or not for CMYK"
        else:
            assert converted is not None  # only in place there is nothing to return
            notes.append(note)
            return converted
    notes.append(note)
    return image.convert("RGB")


def exif_block(image: Image.Image, notes: list[str]) -> bytearray:
    """Returns an image's EXIF block; nothing, and a note, where it is damaged."""
    block = _as_bytes(image.info.get("exif"))
    if block:
        return bytearray(block.removeprefix(PREFIX))
    try:
        exif = image.getexif()  # of a TIFF, of all of its tags
        for tag in STRUCTURE & exif.keys():
            del exif[tag]
        return bytearray(exif.tobytes().removeprefix(PREFIX) if len(exif) else b"")
    # Pillow answers what does not make sense in there with errors of many kinds.
    except Exception:
        notes.append("its EXIF data is damaged and was dropped")
        return bytearray()


def _resolution(image: Image.Image) -> tuple[float, float] | None:
    try:
        across, down = image.info["dpi"]
        found = float(across), float(down)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    # Some files say 0, 1 or nonsense where the resolution is not known.
    return found if all(1 < value < 1e5 for value in found) else None


def _iptc(image: Image.Image) -> bytes:
    segments = [data for name, data in getattr(image, "applist", ()) if name == "APP13"]
    return b"".join(_APP13 + (len(data) + 2).to_bytes(2, "big") + data for data in segments)


def _as_bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return bytes(value) if isinstance(value, (bytes, bytearray)) else b""
