"""Image files of every kind that people have and the package reads, and the pixels they hold."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

HEIGHT, WIDTH = 24, 36
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def smooth(channels: int = 4) -> np.ndarray:
    """16-bit values that compress well, of every remainder modulo 257."""
    coarse = np.random.RandomState(1).randint(0, 65536, (4, 5, channels)).astype(np.float32)
    return cv2.resize(coarse, (WIDTH, HEIGHT)).reshape(HEIGHT, WIDTH, channels).astype(np.uint16)


DEEP = smooth()
RGBA = np.rint(DEEP / 257).astype(np.uint8)
RGB = np.ascontiguousarray(RGBA[..., :3])
GREY = np.repeat(RGB[..., :1], 3, 2)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def opencv(suffix: str, values: np.ndarray) -> bytes:
    if values.ndim == 3:
        order = cv2.COLOR_RGB2BGR if values.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        values = cv2.cvtColor(values, order)
    return cv2.imencode(suffix, values)[1].tobytes()


def tiff(values: np.ndarray, photometric: str = "rgb", **options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, values, photometric=photometric, metadata=None, **options)
    return out.getvalue()


def turning(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def odd_pngs() -> dict[str, tuple[bytes, np.ndarray]]:
    color, turned = Image.fromarray(RGB), np.rot90(RGB, -1)
    palette, plain = color.quantize(30), saved(Image.fromarray(RGB), "PNG")
    exif = turning().tobytes().removeprefix(b"Exif\0\0")
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n")
    end = plain.index(b"IEND") - 4
    xmp = PngImagePlugin.PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta><r tiff:Orientation="6"/></x:xmpmeta>')
    gamma = plain[:33] + png_chunk(b"gAMA", (22000).to_bytes(4, "big")) + plain[33:]
    bits = Image.fromarray(RGB).convert("1")
    return {
        "rgb": (plain, RGB),
        "rgba": (saved(Image.fromarray(RGBA), "PNG"), RGB),
        "grey": (saved(Image.fromarray(RGB[..., 0]), "PNG"), GREY),
        "grey-alpha": (saved(Image.fromarray(RGBA[..., [0, 3]], "LA"), "PNG"), GREY),
        "palette": (saved(palette, "PNG"), np.array(palette.convert("RGB"))),
        "palette-mask": (saved(palette, "PNG", transparency=3), np.array(palette.convert("RGB"))),
        "rgb-mask": (saved(color, "PNG", transparency=tuple(map(int, RGB[2, 2]))), RGB),
        "bits": (saved(bits, "PNG"), np.array(bits.convert("RGB"))),
        "16-grey": (opencv(".png", np.ascontiguousarray(DEEP[..., 0])), GREY),
        "16-rgb": (opencv(".png", np.ascontiguousarray(DEEP[..., :3])), RGB),
        "16-rgba": (opencv(".png", DEEP), RGB),
        "turned": (saved(color, "PNG", exif=turning()), turned),
        "turned-behind": (plain[:end] + png_chunk(b"eXIf", exif) + plain[end:], turned),
        "turned-in-a-text": (saved(color, "PNG", pnginfo=text), turned),
        "turned-by-xmp": (saved(color, "PNG", pnginfo=xmp), turned),
        "gamma": (gamma, RGB),
        "animated": (saved(color, "PNG", save_all=True, append_images=[palette]), RGB),
    }


def odd_tiffs() -> dict[str, tuple[bytes, np.ndarray]]:
    color, turned = Image.fromarray(RGB), np.rot90(RGB, -1)
    palette, cmyk, deep = color.quantize(30), color.convert("CMYK"), DEEP[..., :3]
    half = np.full((HEIGHT, WIDTH, 1), 32768, np.uint16)
    halved = np.concatenate((deep // 2, half), 2)
    pages = {}
    for is_big in (False, True):
        content = io.BytesIO()
        with tifffile.TiffWriter(content, bigtiff=is_big) as file:
            file.write(RGB, photometric="rgb", metadata=None)
            file.write(np.zeros((5, 5), np.float64), metadata=None)
        pages[is_big] = content.getvalue()
    return {
        "rgb": (saved(color, "TIFF"), RGB),
        "lzw": (saved(color, "TIFF", compression="tiff_lzw"), RGB),
        "deflate": (saved(color, "TIFF", compression="tiff_adobe_deflate"), RGB),
        "rgba": (saved(Image.fromarray(RGBA), "TIFF"), RGB),
        "grey": (saved(Image.fromarray(RGB[..., 0]), "TIFF"), GREY),
        "grey-inverted": (tiff(255 - RGB[..., 0], "miniswhite"), GREY),
        "palette": (saved(palette, "TIFF"), np.array(palette.convert("RGB"))),
        "cmyk": (saved(cmyk, "TIFF"), np.array(cmyk.convert("RGB"))),
        "16-grey": (tiff(DEEP[..., 0], "minisblack"), GREY),
        "16-grey-inverted": (tiff(65535 - DEEP[..., 0], "miniswhite"), GREY),
        "16-rgb": (tiff(deep), RGB),
        "16-lzw": (opencv(".tif", np.ascontiguousarray(deep)), RGB),
        "16-rgba": (tiff(DEEP, extrasamples=["unassalpha"]), RGB),
        "16-planes": (tiff(deep.transpose(2, 0, 1), planarconfig="separate"), RGB),
        "16-premultiplied": (
            tiff(halved, extrasamples=["assocalpha"]),
            np.rint(np.minimum(deep // 2 * 65535.0 / 32768, 65535) / 257).astype(np.uint8),
        ),
        "big": (tiff(RGB, bigtiff=True), RGB),
        "turned": (saved(color, "TIFF", exif=turning()), turned),
        "16-turned": (tiff(deep, extratags=[(0x0112, 3, 1, 6, False)]), turned),
        "bands": (tiff(np.dstack((RGB, RGB[..., :2])), extrasamples=[0, 0]), RGB),
        "band": (tiff(RGBA, extrasamples=[0]), RGB),
        "16-band": (tiff(DEEP, extrasamples=[0]), RGB),
        "odd-second-page": (pages[False], RGB),
        "odd-second-page-big": (pages[True], RGB),
    }


def odd_photos() -> dict[str, tuple[bytes, np.ndarray]]:
    """JPEG, WebP and BMP: what is lossy holds what Pillow decodes of the same pixels."""
    color, cmyk = Image.fromarray(RGB), Image.fromarray(RGB).convert("CMYK")
    jpegs = {
        "jpeg": saved(color, "JPEG"),
        "jpeg-444": saved(color, "JPEG", subsampling=0),
        "jpeg-422": saved(color, "JPEG", subsampling=1),
        "jpeg-progressive": saved(color, "JPEG", progressive=True),
        "jpeg-grey": saved(color.convert("L"), "JPEG"),
        "jpeg-cmyk": saved(cmyk, "JPEG"),
        "webp": saved(color, "WEBP"),
    }
    found = {name: (content, decoded(content)) for name, content in jpegs.items()}
    jpeg = found["jpeg"][1]
    found |= {
        "jpeg-turned": (saved(color, "JPEG", exif=turning()), np.rot90(jpeg, -1)),
        "jpeg-bad-profile": (
            saved(cmyk, "JPEG", icc_profile=b"no profile at all"),
            found["jpeg-cmyk"][1],
        ),
        "mpo": (saved(color, "MPO", save_all=True, append_images=[color]), jpeg),
        "webp-lossless": (saved(color, "WEBP", lossless=True), RGB),
        "webp-alpha": (saved(Image.fromarray(RGBA), "WEBP", lossless=True, exact=True), RGB),
        "webp-turned": (
            saved(color, "WEBP", lossless=True, exif=turning()),
            np.rot90(RGB, -1),
        ),
        "webp-animated": (
            saved(color, "WEBP", lossless=True, save_all=True, append_images=[color.rotate(180)]),
            RGB,
        ),
        "bmp": (saved(color, "BMP"), RGB),
    }
    return found


def decoded(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.array(image.convert("RGB"))


def odd_images() -> dict[str, tuple[bytes, np.ndarray]]:
    """File's name to its content and its pixels, RGB of 8 bit."""
    groups = {".png": odd_pngs(), ".tif": odd_tiffs(), "": odd_photos()}
    suffixes = {"jpeg": ".jpg", "mpo": ".mpo", "webp": ".webp", "bmp": ".bmp"}
    return {
        f"{name}{suffix or suffixes[name.partition('-')[0]]}": one
        for suffix, group in groups.items()
        for name, one in group.items()
    }
