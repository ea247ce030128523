"""Writing photographs, whole or not at all, with the metadata that they came with.

Whatever writes an image file, a result, a dataset or a picture for people, writes it here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos.exif import PREFIX
from ktdn_plugin.photos.formats import LOSSY, PHOTO_SUFFIXES
from ktdn_plugin.photos.metadata import XMP_KEYWORD
from ktdn_plugin.photos.photo import MOST_TEXT, Metadata, Photo, PhotoPixels, to_8_bit
from ktdn_plugin.photos.png_chunks import HEADER_END, chunks
from ktdn_plugin.photos.tiff import LIMIT, TooLargeError, read_exif, write_tiff
from ktdn_plugin.storage.atomic import make_folder, write_whole

QUALITY = 95

_LONGEST = {"PNG": 1_000_000, "JPEG": 65_535, "WebP": 16_383, "TIFF": 2**31 - 1}
_SEGMENT = 65_533  # bytes that a JPEG's marker segment has room for
_FAST = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
"""Of dehazed photographs it takes half the time of zlib's levels and is smaller than most: what the
filters leave is noise, in which longer matches only cost time."""


def check_size(path: Path, height: int, width: int) -> None:
    """Refuses an image that is too large for a file's format.

    Raises:
        KTDNError: If it has none, or the suffix is not one of :data:`PHOTO_SUFFIXES`.
    """
    kind = format_of(path)
    if max(height, width) > _LONGEST[kind]:
        raise KTDNError(
            f"{path}: {width} x {height} pixels; {kind} allows at most {_LONGEST[kind]:,} on each "
            "side: use TIFF"
        )


def not_kept(path: Path, photo: Photo) -> list[str]:
    """Lists what of a photograph a file's format cannot store.

    Args:
        path: The file, see :data:`PHOTO_SUFFIXES`.
        photo: The photograph.

    Returns:
        A few words each, such as ``"alpha"``.
    """
    return _not_kept(format_of(path), photo)


def _not_kept(kind: str, photo: Photo) -> list[str]:
    metadata = photo.metadata
    texts = sum(map(len, metadata.text.values()))
    too_long = {
        "EXIF data": kind == "JPEG" and len(PREFIX + metadata.exif) > _SEGMENT,
        "XMP": len(metadata.xmp) > {"JPEG": _SEGMENT - 29, "PNG": MOST_TEXT}.get(kind, LIMIT),
        "such a long colour profile": len(metadata.icc)
        > {"JPEG": 255 * (_SEGMENT - 14), "PNG": MOST_TEXT}.get(kind, LIMIT),
        "such a long comment": kind == "JPEG" and len(metadata.comment) > _SEGMENT,
        "PNG texts": bool(metadata.text)
        and (kind != "PNG" or texts + len(metadata.xmp) > MOST_TEXT),
    }
    found = {
        "8 of 16 bits": photo.is_deep and kind in LOSSY,
        "alpha": photo.alpha is not None and kind == "JPEG",
        "PNG colour chunks": bool(metadata.colour) and not metadata.icc and kind != "PNG",
        "the comment": bool(metadata.comment) and kind != "JPEG",
        "IPTC data": bool(metadata.iptc) and kind != "JPEG",
        "the resolution": metadata.dpi is not None and kind == "WebP",
        "damaged EXIF data": bool(metadata.exif)
        and kind == "TIFF"
        and read_exif(metadata.exif) is None,
        **too_long,
    }
    return [what for what, is_lost in found.items() if is_lost]


def write_photo(
    path: str | Path,
    photo: Photo,
    quality: int | None = None,
    *,
    compression: int | None = None,
    before_move: Callable[[Path], Any] | None = None,
) -> None:
    """Writes a photograph, whole or not at all; an existing file is replaced.

    16 bit stay 16 bit in PNG and TIFF and become 8 in JPEG and WebP. What else a format has no
    room for, :func:`not_kept` says.

    Args:
        path: The file, whose suffix is one of :data:`PHOTO_SUFFIXES`; its folder is made where it
            is missing.
        photo: The photograph.
        quality: Of JPEG and WebP, 1 to 100; 95 by default, but a WebP that was compressed
            without loss stays so.
        compression: zlib's level of PNG and TIFF, 0 (none) to 9 (smallest and slowest); by default
            what is fast on photographs. The pixels are the same.
        before_move: Called with the whole file, before it takes the place of ``path``.

    Raises:
        KTDNError: If the suffix is another one, the format has no room for so large an image, or
            the file cannot be written.
        TypeError: If the pixels are neither uint8 nor uint16.
        ValueError: If the pixels have no fitting shape, or alpha has another one or another type.

    Example:
        >>> write_photo("photo.jpg", Photo(np.zeros((4, 6, 3), np.uint8)), quality=90)
    """
    path = Path(path)
    kind = format_of(path)
    check_compression(compression)
    _check(photo)
    check_size(path, *photo.pixels.shape[:2])
    make_folder(path.parent)
    if kind == "TIFF":
        try:
            write_whole(
                path, lambda file: write_tiff(file, photo, compression), before_move=before_move
            )
        except TooLargeError as error:
            raise KTDNError(f"{path}: {error}") from error
    elif kind == "PNG":
        write_whole(
            path, lambda file: _write_png(file, photo, compression), before_move=before_move
        )
    else:
        content = encode_lossy(photo, kind, quality)
        write_whole(path, lambda file: file.write(content), before_move=before_move)


def encode_photo(
    path: str | Path,
    photo: Photo,
    quality: int | None = None,
    *,
    compression: int | None = None,
) -> memoryview:
    """Encodes a photograph as :func:`write_photo` would write it.

    Args:
        path: A name whose suffix says the format, and which errors name.
        photo: The photograph.
        quality: As with :func:`write_photo`.
        compression: As with :func:`write_photo`.

    Returns:
        The file's content.

    Raises:
        KTDNError: As :func:`write_photo`, but for what writing a file may meet.
    """
    path = Path(path)
    kind = format_of(path)
    check_compression(compression)
    _check(photo)
    check_size(path, *photo.pixels.shape[:2])
    if kind in LOSSY:
        return encode_lossy(photo, kind, quality)
    content = io.BytesIO()
    try:
        (write_tiff if kind == "TIFF" else _write_png)(content, photo, compression)
    except TooLargeError as error:
        raise KTDNError(f"{path}: {error}") from error
    return content.getbuffer()


def write_rgb(path: str | Path, rgb: NDArray[np.uint8]) -> None:
    """Writes pixels alone as an image file, whole or not at all; an existing file is replaced.

    Args:
        path: The file, as with :func:`write_photo`.
        rgb: (h, w, 3), 0 to 255.

    Raises:
        KTDNError: As :func:`write_photo`.
        TypeError: If the pixels are no array of uint8.
        ValueError: If they have no fitting shape.
    """
    if getattr(rgb, "dtype", None) != np.uint8:
        raise TypeError(f"an image must be a uint8 array, got {getattr(rgb, 'dtype', type(rgb))}")
    write_photo(path, Photo(np.ascontiguousarray(rgb)))


def format_of(path: Path) -> str:
    """Returns the format that a file is written in, by its suffix.

    Raises:
        KTDNError: If the suffix is not one of :data:`PHOTO_SUFFIXES`.
    """
    kind = PHOTO_SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise KTDNError(
            f"{path}: images can be written as {', '.join(PHOTO_SUFFIXES)}; use one of these "
            "suffixes"
        )
    return kind


def _check(photo: Photo) -> None:
    pixels, alpha = photo.pixels, photo.alpha
    if pixels.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"a photo's pixels must be uint8 or uint16, got {pixels.dtype}")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"a photo's pixels must have shape (height, width, 3), got {pixels.shape}")
    if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
        raise ValueError(
            f"a photo of {pixels.shape}, {pixels.dtype}, has an alpha channel of {alpha.shape}, "
            f"{alpha.dtype}"
        )


def check_compression(compression: int | None, flag: str = "compression") -> None:
    """Refuses a level that zlib does not have.

    Raises:
        KTDNError: If it is neither None nor 0 to 9, naming the flag.
    """
    if compression is not None and not 0 <= compression <= 9:
        raise KTDNError(f"{flag} must be 0 to 9, got {compression}")


def _write_png(file: BinaryIO, photo: Photo, compression: int | None) -> None:
    """Writes a PNG of either depth, with the metadata's chunks behind its header."""
    options = _FAST if compression is None else (cv2.IMWRITE_PNG_COMPRESSION, compression)
    encoded = encode_png(photo.pixels, photo.alpha, options)
    file.write(encoded[:HEADER_END])
    for chunk in _png_chunks(photo.metadata, _not_kept("PNG", photo)):
        file.write(chunk)
    file.write(encoded[HEADER_END:])


def encode_png(
    pixels: PhotoPixels, alpha: PhotoPixels | None = None, options: Sequence[int] = _FAST
) -> memoryview:
    """Encodes pixels as a PNG of their depth, with OpenCV, which Pillow cannot do with 16 bit.

    Args:
        pixels: RGB, (h, w, 3), uint8 or uint16.
        alpha: (h, w) of the same type, if there is any.
        options: OpenCV's flags and their values; none is larger and quick to decode.

    Raises:
        OSError: If OpenCV cannot encode it.
    """
    if alpha is None:
        values = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    else:
        values = cv2.merge([*(pixels[..., channel] for channel in (2, 1, 0)), alpha])
    done, content = cv2.imencode(".png", values, options)
    if not done:
        raise OSError("OpenCV cannot encode it as PNG")
    return np.asarray(content).ravel().data


def _png_chunks(metadata: Metadata, lost: Collection[str]) -> list[memoryview]:
    """Lets Pillow, which only knows 8 bit, write the metadata of a one-pixel image."""
    texts = PngImagePlugin.PngInfo()
    for name, value in metadata.colour.items():
        texts.add(name, value)
    for keyword, text in metadata.text.items() if "PNG texts" not in lost else ():
        texts.add_text(keyword, text)
    if metadata.xmp and "XMP" not in lost:
        texts.add_itxt(XMP_KEYWORD, metadata.xmp.decode("utf-8", "replace"))
    options: dict[str, Any] = {"exif": metadata.exif}
    if "such a long colour profile" not in lost:
        options["icc_profile"] = metadata.icc
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    content = io.BytesIO()
    Image.new("RGB", (1, 1)).save(
        content, "PNG", pnginfo=texts, **{key: value for key, value in options.items() if value}
    )
    picture = (b"IHDR", b"IDAT", b"IEND")
    return [chunk for name, chunk in chunks(content.getvalue()) if name not in picture]


def encode_lossy(photo: Photo, kind: str, quality: int | None = None) -> memoryview:
    """Encodes a photograph as JPEG or WebP, with its metadata.

    Args:
        photo: The photograph.
        kind: One of :data:`LOSSY`.
        quality: As with :func:`write_photo`.
    """
    metadata, lost = photo.metadata, _not_kept(kind, photo)
    options: dict[str, Any] = {
        "exif": PREFIX + metadata.exif if metadata.exif and "EXIF data" not in lost else b"",
        "xmp": metadata.xmp if "XMP" not in lost else b"",
        "icc_profile": metadata.icc if "such a long colour profile" not in lost else b"",
    }
    image = Image.fromarray(to_8_bit(photo.pixels))
    if kind == "JPEG":
        options |= {"dpi": metadata.dpi, "extra": metadata.iptc}
        options["comment"] = metadata.comment if "such a long comment" not in lost else b""
    elif photo.alpha is not None:
        image.putalpha(Image.fromarray(to_8_bit(photo.alpha)))
        options["exact"] = True  # colours stay where they are transparent
    options = {key: value for key, value in options.items() if value}
    content = io.BytesIO()
    if kind == "WebP" and metadata.is_lossless_webp and quality is None:
        image.save(content, kind, lossless=True, **options)
    else:
        image.save(content, kind, quality=quality or QUALITY, subsampling=0, **options)
    return content.getbuffer()
