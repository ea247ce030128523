"""Reading photographs: pixels turned upright, of the file's depth, and the file's metadata.

Whatever reads an image file, for training, measuring or dehazing, reads it here: a file has the
same pixels for all of them.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos.bands import Bands, colours_alone, read_bands
from ktdn_plugin.photos.exif import (
    PREFIX,
    directories,
    first_picture_alone,
    reset_orientation,
    with_size,
)
from ktdn_plugin.photos.formats import kind_of, missing_for
from ktdn_plugin.photos.heic import (
    avif_depth,
    decode_deep_avif,
    decode_heic,
    metadata_of,
    open_heic,
    unkept_colours,
)
from ktdn_plugin.photos.jxl import decode_jxl, read_header
from ktdn_plugin.photos.library_messages import suppress_library_messages
from ktdn_plugin.photos.limits import ReadLimits
from ktdn_plugin.photos.metadata import exif_block, is_of_rgb, read_metadata, to_srgb
from ktdn_plugin.photos.photo import MOST_TEXT, Metadata, Photo, PhotoPixels, to_8_bit
from ktdn_plugin.photos.png_chunks import bit_depth, has_texts_behind, is_plain_png, size_of
from ktdn_plugin.photos.read_errors import depth_error, read_failure_reason
from ktdn_plugin.photos.sixteen_bit import decode_sixteen_bit, split_channels

# JPEGs of several pictures are MPO when open
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
_UNLIMITED = ReadLimits()
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _SUBFILE_TYPE, _SAMPLE_FORMAT = 256, 257, 258, 254, 339
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK")
_STRIP = 2**20  # pixels that are converted at a time, so that a large image has no second copy
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
_UPRIGHT = 1

# Pillow's own limit, 1 MiB, is less than what printers' profiles take, and than what it writes.
PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, MOST_TEXT)
PngImagePlugin.MAX_TEXT_MEMORY = max(PngImagePlugin.MAX_TEXT_MEMORY, MOST_TEXT)


def read_photo(path: str | Path, limits: ReadLimits = _UNLIMITED) -> Photo:
    """Reads a photograph and all that its file says of it.

    PNG, JPEG, WebP, TIFF, BMP, GIF, HEIC, AVIF and JPEG XL, by their content. Grey and palettes
    become RGB; CMYK becomes sRGB, by its profile where it has one. Of several pictures in a file
    it is the first; of a HEIC the one that is shown.

    Args:
        path: The file.
        limits: How large it may be.

    Returns:
        The photograph, turned upright as its EXIF orientation says.

    Raises:
        KTDNError: If the file cannot be read or is not an image, is truncated or damaged, has more
            pixels than ``limits`` allow, or pixels that are not of 8 or 16 bit, or if the package
            that reads its format is not installed.

    Example:
        >>> write_photo("photo.png", Photo(np.full((4, 6, 3), 40000, np.uint16)))
        >>> read_photo("photo.png").pixels[0, 0]
        array([40000, 40000, 40000], dtype=uint16)
    """
    return decode_photo(read_file(path), path, limits)


def read_rgb(path: str | Path, limits: ReadLimits = _UNLIMITED) -> NDArray[np.uint8]:
    """Reads the pixels of a photograph alone: RGB, (h, w, 3), 16 bit rounded to 8.

    Raises:
        KTDNError: As :func:`read_photo`.
    """
    return decode_rgb(read_file(path), path, limits)


def read_size(path: str | Path) -> tuple[int, int]:
    """Reads a photograph's height and width, turned upright, out of its header.

    Raises:
        KTDNError: As :func:`read_photo`, but for what only shows when pixels are decoded.
    """
    path = Path(path)
    try:
        _require_file(path)
        with suppress_library_messages(), path.open("rb") as file, _opened(file, path) as image:
            return _size(image, file)
    except KTDNError:
        raise
    # What is wrong with a file, or where its size is, can be said by its whole content alone.
    except Exception:
        content = read_file(path)
        with _explained(content, path):
            kind = kind_of(content)
            if kind == "HEIC":
                width, height = open_heic(content)[0].size
            elif kind == "JPEG XL":
                height, width = read_header(content)[:2]
            else:
                with _opened(io.BytesIO(content), path) as image:
                    return _size(image, io.BytesIO(content))
            _UNLIMITED.check(path, height, width)
            return height, width


def read_file(path: str | Path) -> bytes:
    """Reads a file's content.

    Raises:
        KTDNError: If it cannot be read or is not a regular file.
    """
    try:
        _require_file(path)
        return Path(path).read_bytes()
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}") from error
    except MemoryError as error:
        raise _too_large(path) from error


def decode_photo(content: bytes, name: str | Path, limits: ReadLimits = _UNLIMITED) -> Photo:
    """Decodes a photograph's file; the rest is as with :func:`read_photo`.

    Args:
        content: The file's bytes.
        name: What to call it in an error.
        limits: How large it may be.
    """
    with _explained(content, name):
        kind = kind_of(content)
        if kind == "HEIC":
            return _read_heic(content, name, limits)
        if kind == "JPEG XL":
            return _read_jxl(content, name, limits)
        pictures = len(directories(content)) or None
        bands = read_bands(content) if pictures else None
        if pictures:
            content = first_picture_alone(content)  # a later one may be of a kind that is not read
        header = colours_alone(content) if bands and bands.needs_tifffile else content
        with _opened(io.BytesIO(header), name, limits) as image:
            return _read(image, content, name, pictures, bands)


def decode_rgb(
    content: bytes | memoryview, name: str | Path, limits: ReadLimits = _UNLIMITED
) -> NDArray[np.uint8]:
    """Decodes the pixels of a photograph's file alone: RGB, (h, w, 3), 16 bit rounded to 8.

    Args:
        content: The file's bytes.
        name: What to call it in an error.
        limits: How large it may be.

    Raises:
        KTDNError: As :func:`read_photo`.
    """
    found = _plain_pixels(content, name, limits)
    return to_8_bit(decode_photo(bytes(content), name, limits).pixels) if found is None else found


def _plain_pixels(
    content: bytes | memoryview, name: str | Path, limits: ReadLimits
) -> NDArray[np.uint8] | None:
    """Decodes a plain PNG with OpenCV, which is quicker; None of what is left to Pillow."""
    if not is_plain_png(content):
        return None
    limits.check(name, *size_of(content))
    try:
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if bgr is None else np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, bgr), np.uint8)


def _require_file(path: str | Path) -> None:
    """Refuses what could be waited for without end, such as a pipe."""
    if not Path(path).is_file():
        Path(path).stat()  # which says it where there is nothing
        raise KTDNError(f"{path}: not a regular file; remove it")


@contextlib.contextmanager
def _opened(
    file: BinaryIO, name: str | Path, limits: ReadLimits = _UNLIMITED
) -> Iterator[Image.Image]:
    """Opens an image of a size and of samples that can be read."""
    with _open(file) as image:
        if image.format == "TIFF" and int(_tag(image, _SUBFILE_TYPE, 0)) & 1:
            raise KTDNError(
                f"{name}: its first image is a preview, as in camera raw files; develop it "
                "to TIFF, PNG or JPEG first"
            )
        bits = _bits(image, file)
        formats = _numbers(_tag(image, _SAMPLE_FORMAT, 1)) if image.format == "TIFF" else {1}
        if image.format != "AVIF" and (problem := depth_error(bits, formats)):
            raise KTDNError(f"{name}: {problem}")
        if bits != {16} and image.mode not in _MODES:
            raise KTDNError(
                f"{name}: has colour mode {image.mode}; only RGB, grey, palettes and CMYK "
                "are supported: convert it to RGB"
            )
        limits.check(name, image.height, image.width, 8 if max(bits) <= 8 else 16)
        yield image


def _open(file: BinaryIO) -> Image.Image:
    """Opens an image as :func:`PIL.Image.open` does, which has one limit for a whole process."""
    prefix = file.read(16)
    if not Image.OPEN.keys() >= set(FORMATS):
        Image.init()
    for kind in FORMATS:
        factory, accept = Image.OPEN.get(kind, (None, None))
        if factory is not None and accept is not None and accept(prefix) is True:
            file.seek(0)
            return factory(file, "")
    raise UnidentifiedImageError("none of the formats that are read")


def _size(image: Image.Image, file: BinaryIO) -> tuple[int, int]:
    if image.format == "TIFF":  # some versions of Pillow have turned the size already
        width, height = int(_tag(image, _WIDTH, 0)), int(_tag(image, _HEIGHT, 0))
    else:
        width, height = image.size
    if image.format != "PNG" or has_texts_behind(file):
        block = exif_block(image, [])  # which decodes a PNG
    else:
        exif = Image.Image.getexif(image)
        block = bytearray(exif.tobytes().removeprefix(PREFIX) if len(exif) else b"")
    return (width, height) if reset_orientation(block) in _TURNED else (height, width)


def _read(
    image: Image.Image,
    content: bytes,
    name: str | Path,
    pictures: int | None,
    bands: Bands | None,
) -> Photo:
    bits = _bits(image, io.BytesIO(content))
    is_deep = bits == {16} or (bands is not None and bands.needs_tifffile)
    notes: list[str] = []
    count = _count(image.format, content) if pictures is None else pictures
    if count != 1:
        notes.append(f"used the first of its {count or 'several'} images")
    if bands is not None:
        notes += bands.notes()
    if image.format == "PNG" or not (is_deep or image.format == "AVIF"):
        image.load()
    metadata, orientation = read_metadata(image, content, notes)
    is_avif = image.format == "AVIF"
    if is_avif and not metadata.icc and (note := unkept_colours(content)):
        notes.append(note)
    color: PhotoPixels
    alpha: PhotoPixels | None
    if is_deep:
        mask = image.info.get("transparency")
        image.close()  # it has eight of the bits, and for PNG the memory of all pixels
        color, alpha = decode_sixteen_bit(content, name, mask, bands)
    elif is_avif and (deep := _deep_avif(content, bits, notes)) is not None:
        image.close()
        color, alpha = split_channels(deep, name)
    else:
        if image.mode == "CMYK":
            image, metadata.icc = to_srgb(image, metadata.icc, notes), b""
        color, alpha = _pixels(image)
        image.close()
    return _photo(color, alpha, metadata, orientation, notes)


def _deep_avif(content: bytes, bits: set[int], notes: list[str]) -> PhotoPixels | None:
    depth = max(bits)
    deep = decode_deep_avif(content, depth) if depth > 8 else None
    if depth > 8 and deep is None:
        notes.append(f"read with 8 of its {depth} bits, as this OpenCV knows no AVIF")
    return deep


def _read_heic(content: bytes, name: str | Path, limits: ReadLimits) -> Photo:
    image, notes = open_heic(content)
    width, height = image.size
    limits.check(name, height, width, 8 if image.info["bit_depth"] == 8 else 16)
    stub = metadata_of(image)
    metadata, _ = read_metadata(stub, content, notes)
    if not metadata.icc and (note := unkept_colours(content)):
        notes.append(note)
    color, alpha = split_channels(decode_heic(image), name)
    return _photo(color, alpha, metadata, _UPRIGHT, notes)


def _read_jxl(content: bytes, name: str | Path, limits: ReadLimits) -> Photo:
    header = read_header(content)
    limits.check(name, header.height, header.width, 8 if header.bits <= 8 else 16)
    if header.is_float:
        raise KTDNError(f"{name}: {depth_error({header.bits}, {3})}")
    decoded = decode_jxl(content)
    if decoded.jpeg:
        return decode_photo(decoded.jpeg, name, limits)
    notes: list[str] = []
    if header.is_animated:
        notes.append("used the last of its images, as pillow-jxl-plugin gives no other")
    notes += [f"its {what} is compressed with Brotli and was dropped" for what in decoded.unread]
    stub = Image.new("RGB", (1, 1))
    stub.format = "JXL"
    stub.info = {"exif": decoded.exif, "xmp": decoded.xmp, "icc_profile": decoded.icc}
    metadata, _ = read_metadata(stub, content, notes)
    color, alpha = split_channels(decoded.values, name)
    if header.bits > 8 and color.dtype == np.uint8:
        notes.append(f"read with 8 of its {header.bits} bits, as pillow-jxl-plugin gives no more")
    return _photo(color, alpha, metadata, _UPRIGHT, notes)


def _photo(
    color: PhotoPixels,
    alpha: PhotoPixels | None,
    metadata: Metadata,
    orientation: int,
    notes: list[str],
) -> Photo:
    """Turns pixels upright, and lets the metadata say of them what holds."""
    if metadata.icc and not is_of_rgb(metadata.icc):
        metadata.icc = b""
        notes.append("its colour profile is not for RGB and was dropped")
    color = apply_orientation(color, orientation)
    alpha = None if alpha is None else apply_orientation(alpha, orientation)
    metadata.exif = with_size(metadata.exif, *color.shape[:2])
    return Photo(color, alpha, metadata, notes)


def _count(kind: str | None, content: bytes) -> int:
    """Counts a file's pictures; 0 stands for several, of which one is of a kind that is not read.

    Those of an MPO are reported elsewhere: most are previews.
    """
    if kind not in ("PNG", "WEBP", "TIFF", "GIF", "AVIF"):
        return 1
    try:
        # Reopened, since Pillow loses its place where a later picture cannot be read.
        with _open(io.BytesIO(content)) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:
        return 0


def apply_orientation(array: PhotoPixels, orientation: int) -> PhotoPixels:
    """Turns an image upright.

    Args:
        array: (h, w, ...), as it lies in the file.
        orientation: The EXIF orientation, 1 to 8: where the file's first row and column belong
            (EXIF 2.32, tag 274).

    Returns:
        A contiguous array; the same one where it stands upright already.
    """
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def rgb_of(image: Image.Image) -> NDArray[np.uint8]:
    """Converts a Pillow image to what :func:`read_rgb` makes of a file of its pixels.

    Args:
        image: The image, whose EXIF orientation is left to whoever has opened it.

    Returns:
        RGB, (h, w, 3), 16 bit rounded to 8.

    Raises:
        KTDNError: If it has neither 8 nor 16 bit, or other colours than RGB, grey, a palette or
            CMYK.
    """
    if image.mode.startswith("I;16"):
        grey = to_8_bit(np.asarray(image).astype(np.uint16))
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode not in _MODES:
        raise KTDNError(
            f"an image of Pillow's of mode {image.mode}: RGB, grey, palettes and CMYK of 8 or 16 "
            "bit can be read; convert it, or name its file"
        )
    if image.mode == "CMYK":
        image = to_srgb(image, image.info.get("icc_profile") or b"", [])
    return _pixels(image)[0]


def _pixels(image: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Converts an image to RGB and alpha, part by part."""
    width, height = image.size
    mode = "RGBA" if image.has_transparency_data else "RGB"
    color = np.empty((height, width, 3), np.uint8)
    alpha = np.empty((height, width), np.uint8) if mode == "RGBA" else None
    step = max(1, _STRIP // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        strip = image if step >= height else image.crop((0, rows.start, width, rows.stop))
        part = np.asarray(strip if strip.mode == mode else strip.convert(mode))
        color[rows] = part[..., :3]
        if alpha is not None:
            alpha[rows] = part[..., 3]
    return color, alpha


def _bits(image: Image.Image, file: BinaryIO) -> set[int]:
    """Returns the bits of each channel in the file, whatever Pillow makes of them."""
    if image.format == "PNG":
        at = file.tell()
        file.seek(0)
        bits = bit_depth(file.read(26))
        file.seek(at)
        return {bits}
    if image.format == "AVIF":
        file.seek(0)
        return {avif_depth(file.read())}
    return _numbers(_tag(image, _BITS_PER_SAMPLE, 1)) if image.format == "TIFF" else {8}


def _tag(image: Any, tag: int, default: Any) -> Any:
    return image.tag_v2.get(tag, default)


def _numbers(value: Any) -> set[int]:
    return set(map(int, value)) if isinstance(value, tuple) else {int(value)}


@contextlib.contextmanager
def _explained(content: bytes, name: str | Path) -> Iterator[None]:
    """Raises what goes wrong with an image file as one line that names it."""
    if not content:
        raise KTDNError(f"{name}: empty file (0 bytes); copy or download it again")
    kind = kind_of(content)
    if kind is not None and (command := missing_for(kind)):
        article = "an" if kind[0] in "AH" else "a"
        raise KTDNError(f"{name}: {article} {kind}, which needs another package: {command}")
    try:
        with suppress_library_messages():
            yield
    except KTDNError:
        raise
    except MemoryError as error:
        raise _too_large(name) from error
    # Pillow answers damaged files with errors of many kinds.
    except Exception as error:
        raise KTDNError(f"{name}: {read_failure_reason(content, error)}") from error


def _too_large(name: str | Path) -> KTDNError:
    return KTDNError(f"{name}: too large for this machine's memory; split it into parts")
