"""Image file formats: those that are read and written, and others that users have."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from PIL import features

READ_SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        ".png": "PNG",
        ".apng": "PNG",
        ".jpg": "JPEG",
        ".jpeg": "JPEG",
        ".jpe": "JPEG",
        ".jfif": "JPEG",
        ".mpo": "JPEG",
        ".webp": "WebP",
        ".tif": "TIFF",
        ".tiff": "TIFF",
        ".bmp": "BMP",
        ".gif": "GIF",
        **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
        ".avif": "AVIF",
        ".jxl": "JPEG XL",
    }
)
"""The formats that photographs are read from, by a file's suffix."""

_MODULES = {
    "HEIC": ("pillow_heif", "pip install pillow-heif"),
    "JPEG XL": ("pillow_jxl", "pip install pillow-jxl-plugin"),
}

PHOTO_SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        suffix: kind
        for suffix, kind in READ_SUFFIXES.items()
        # What is of one picture and has metadata, and what any program opens.
        if kind in ("PNG", "JPEG", "WebP", "TIFF") and suffix not in (".apng", ".mpo")
    }
)
"""The formats that photographs are written in, by a file's suffix."""

LOSSY = ("JPEG", "WebP")
"""Those of the written formats that have a quality."""

OTHER_SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx", ".j2c"), "JPEG 2000"),
        ".jxr": "JPEG XR",
        ".dng": "DNG",
        **{
            f".{suffix}": f"camera raw ({suffix.upper()})"
            for suffix in ("cr2", "cr3", "crw", "nef", "nrw", "arw", "orf", "raf", "rw2", "pef")
        },
        ".dib": "BMP (.dib)",
        **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), "PNM"),
        ".tga": "TGA",
        ".psd": "PSD",
        ".exr": "OpenEXR",
        ".hdr": "Radiance HDR",
        ".dds": "DDS",
        ".pcx": "PCX",
        ".qoi": "QOI",
        **dict.fromkeys((".ico", ".icns"), "icon"),
    }
)
"""Formats of images that are not read, by a file's suffix."""

_CONVERT = "save it as PNG, JPEG, WebP or TIFF first"
_DEVELOP = "develop it to TIFF, PNG or JPEG first"

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"GIF8", "GIF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"II\xbc", "JPEG XR"),
    (b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (b"IIRO", "camera raw (ORF)"),
    (b"IIRS", "camera raw (ORF)"),
    (b"IIU\0", "camera raw (RW2)"),
    (b"FOVb", "camera raw (X3F)"),
    (b"8BPS", "PSD"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"\0\0\1\0", "icon"),
    (b"%PDF-", "PDF"),
    (b"PK\3\4", "ZIP"),
    (b"\x1a\x45\xdf\xa3", "video (Matroska)"),
    (b"version https://git-lfs", "pointer of Git LFS"),
)
_BRANDS = {  # ISO/IEC 14496-12, the major brand of a file of boxes
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "camera raw (CR3)",
}
_CURES = {
    "ZIP": "unpack it",
    "PDF": "export its pictures as PNG or JPEG",
    "pointer of Git LFS": "fetch the file itself with 'git lfs pull'",
    "web page": "open its address in a browser and download the image itself",
}


def kind_of(content: bytes) -> str | None:
    """Returns what a file is by its first bytes, such as ``"HEIC"``; None if unknown."""
    if content[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "video (AVI)"}.get(bytes(content[8:12]))
    if content[4:8] == b"ftyp":
        # A container's own brand says nothing of what is in it; the compatible ones do.
        if content[8:12] in (b"mif1", b"msf1") and b"avif" in bytes(content[16:64]):
            return "AVIF"
        return _BRANDS.get(bytes(content[8:12]), "video (MP4)")
    if content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html")):
        return "web page"
    return next((kind for start, kind in _SIGNATURES if content.startswith(start)), None)


@cache
def missing_for(kind: str) -> str | None:
    """Returns the command that installs what a format is read with; None where that is there."""
    if kind == "AVIF":
        return None if features.check("avif") else 'pip install "pillow>=11.3"'
    module, command = _MODULES.get(kind, ("", ""))
    return command if module and importlib.util.find_spec(module) is None else None


def cure_of(kind: str) -> str:
    """Returns advice on a file whose format is not supported."""
    if kind == "DNG" or kind.startswith("camera raw"):
        return _DEVELOP
    if kind.startswith("video"):
        return "rename it with a video suffix"
    return _CURES.get(kind, _CONVERT)


def is_lossless_webp(content: bytes) -> bool:
    """Returns whether a WebP's first picture is compressed without loss."""
    at = 12
    while at + 8 <= len(content):
        name, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        # An animation's picture lies within a frame, behind its place and duration.
        at += 24 if name == b"ANMF" else 8 + length + length % 2
    return False
