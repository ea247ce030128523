"""Every kind of image file that people have: what comes out of it, or what is said of it."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from bad_images import BAD, write_bad
from PIL import Image, ImageCms
from skimage import data

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import Photo, read_photo, write_photo

RANDOM = np.random.RandomState(0)
DEEP = RANDOM.randint(0, 65536, (40, 56, 4)).astype(np.uint16)


def read_back(image: Image.Image, path: Path, **options: object) -> Photo:
    image.save(path, **options)
    return read_photo(path)


def png(values: np.ndarray, color_type: int, more: bytes = b"") -> bytes:
    """A PNG of 16 bit, of whichever kind Pillow and OpenCV do not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0))
    mask = chunk(b"tRNS", more) if more else b""
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + mask + end


def test_grey_palettes_and_bits_become_rgb(tmp_path: Path) -> None:
    photo = Image.fromarray(data.astronaut()[:60, :80])
    grey = photo.convert("L")
    assert np.array_equal(
        read_back(grey, tmp_path / "grey.png").pixels, np.repeat(np.array(grey)[..., None], 3, 2)
    )
    palette = photo.quantize(60)
    assert np.array_equal(
        read_back(palette, tmp_path / "palette.png").pixels, np.array(palette.convert("RGB"))
    )
    bits = photo.convert("1")
    assert set(read_back(bits, tmp_path / "bits.png").pixels.ravel()) == {0, 255}
    assert read_back(grey, tmp_path / "grey.jpg").alpha is None
    assert np.array_equal(read_back(photo, tmp_path / "x.bmp").pixels, np.array(photo))


def test_transparency_of_every_kind_is_alpha(tmp_path: Path) -> None:
    photo = Image.fromarray(data.astronaut()[:60, :80])
    palette = photo.quantize(60)
    masked = read_back(palette, tmp_path / "palette.png", transparency=7)
    assert np.array_equal(masked.alpha == 0, np.array(palette) == 7)
    pair = Image.merge("LA", (photo.getchannel(0), photo.getchannel(1)))
    two = read_back(pair, tmp_path / "two.png")
    assert np.array_equal(two.alpha, np.array(photo)[..., 1])
    assert np.array_equal(two.pixels[..., 2], np.array(photo)[..., 0])


@pytest.mark.parametrize("kind", ["grey", "grey-alpha", "rgb-mask", "grey-mask"])
def test_png_of_16_bit_of_every_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.png"
    grey = DEEP[..., 0]
    if kind == "grey":
        path.write_bytes(png(grey, 0))
    elif kind == "grey-alpha":
        path.write_bytes(png(DEEP[..., :2], 4))
    elif kind == "grey-mask":
        path.write_bytes(png(grey, 0, int(grey[3, 4]).to_bytes(2, "big")))
    else:
        path.write_bytes(png(DEEP[..., :3], 2, DEEP[3, 4, :3].astype(">u2").tobytes()))
    photo = read_photo(path)
    expected = DEEP[..., :3] if kind == "rgb-mask" else np.repeat(grey[..., None], 3, 2)
    assert np.array_equal(photo.pixels, expected)
    if kind == "grey":
        assert photo.alpha is None
    elif kind == "grey-alpha":
        assert np.array_equal(photo.alpha, DEEP[..., 1])
    else:
        assert photo.alpha[3, 4] == 0
        assert np.mean(photo.alpha == 65535) > 0.99


TIFFS = {
    "plain": {},
    "tiles, big-endian": {"tile": (16, 16), "byteorder": ">"},
    "deflate": {"compression": "zlib", "predictor": True},
    "planes": {"planarconfig": "separate"},
    "large": {"bigtiff": True},
}


@pytest.mark.parametrize("options", TIFFS.values(), ids=TIFFS)
def test_tiff_of_16_bit_of_every_kind(tmp_path: Path, options: dict) -> None:
    path = tmp_path / "x.tif"
    expected = DEEP[..., :3]
    values = expected.transpose(2, 0, 1) if "planarconfig" in options else expected
    tifffile.imwrite(path, values, photometric="rgb", metadata=None, **options)
    photo = read_photo(path)
    assert photo.pixels.dtype == np.uint16
    assert np.array_equal(photo.pixels, expected)


def test_tiff_of_16_bit_grey_lzw_and_premultiplied(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    for photometric, expected in (
        ("minisblack", DEEP[..., 0]),
        ("miniswhite", 65535 - DEEP[..., 0]),
    ):
        tifffile.imwrite(path, DEEP[..., 0], photometric=photometric, metadata=None)
        assert np.array_equal(read_photo(path).pixels, np.repeat(expected[..., None], 3, 2))
    cv2.imwrite(str(path), DEEP[..., 2::-1])  # compressed by LZW
    assert np.array_equal(read_photo(path).pixels, DEEP[..., :3])
    alpha = np.full((40, 56, 1), 32768, np.uint16)
    halved = np.concatenate((DEEP[..., :3] // 2, alpha), axis=2)
    tifffile.imwrite(path, halved, photometric="rgb", extrasamples=["assocalpha"], metadata=None)
    photo = read_photo(path)
    assert np.abs(photo.pixels.astype(int) - DEEP[..., :3]).max() <= 2
    assert (photo.alpha == 32768).all()


def test_cmyk_becomes_srgb_with_a_note(tmp_path: Path) -> None:
    photo = Image.fromarray(data.astronaut()[:64, :80])
    path = tmp_path / "x.jpg"
    photo.convert("CMYK").save(path, quality=98)
    read = read_photo(path)
    assert read.notes == ["CMYK converted to sRGB"]
    assert np.abs(read.pixels.astype(int) - np.array(photo)).mean() < 4


def test_profiles_that_do_not_describe_rgb_are_dropped_with_a_note(tmp_path: Path) -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    path = tmp_path / "x.png"
    Image.fromarray(data.astronaut()[:9, :9]).convert("L").save(path, icc_profile=bytes(profile))
    photo = read_photo(path)
    assert photo.metadata.icc == b""
    assert photo.notes == ["its colour profile is not for RGB and was dropped"]


def test_the_first_of_several_pictures(tmp_path: Path) -> None:
    pictures = [Image.fromarray(data.astronaut()[at : at + 30, :40]) for at in (0, 100, 200)]
    for name in ("x.tif", "x.webp", "x.png"):
        options = {"lossless": True} if name == "x.webp" else {}
        photo = read_back(
            pictures[0], tmp_path / name, save_all=True, append_images=pictures[1:], **options
        )
        assert np.array_equal(photo.pixels, np.array(pictures[0])), name
        assert photo.notes == ["used the first of its 3 images"]
    path = tmp_path / "phone.jpg"
    pictures[0].save(path, "MPO", save_all=True, append_images=pictures[1:])
    assert read_photo(path).notes == ["dropped: 2 more images"]
    assert read_photo(path).pixels.shape == (30, 40, 3)


def test_exif_in_a_text_of_a_png(tmp_path: Path) -> None:
    from PIL import PngImagePlugin

    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    block, info = exif.tobytes(), PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n")
    photo = read_back(Image.new("RGB", (20, 10)), tmp_path / "x.png", pnginfo=info)
    assert photo.pixels.shape == (20, 10, 3)
    write_photo(tmp_path / "out.png", photo)
    with Image.open(tmp_path / "out.png") as image:
        image.load()
        assert image.text == {}
        assert dict(image.getexif()) == {0x010F: "Maker", 0x0112: 1}


def test_nonsense_in_exif_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    for block in (b"II*\0\xff\xff\xff\xff", b"MM\0*", b"II*\0\x08\0\0\0\xff\xff", b"nonsense"):
        Image.new("RGB", (20, 10)).save(path, exif=b"Exif\0\0" + block)
        photo = read_photo(path)
        assert photo.pixels.shape == (10, 20, 3)
        for suffix in (".jpg", ".png", ".webp", ".tif"):
            write_photo(tmp_path / f"out{suffix}", photo)
            assert read_photo(tmp_path / f"out{suffix}").pixels.shape == (10, 20, 3)


@pytest.mark.parametrize("kind", BAD)
def test_broken_files_are_named(tmp_path: Path, kind: str) -> None:
    path, said = write_bad(tmp_path, kind)
    with pytest.raises(KTDNError, match=said) as caught:
        read_photo(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def coded(name: str, values: np.ndarray) -> bytes:
    out = io.BytesIO()
    if values.dtype == np.uint16:
        return cv2.imencode(Path(name).suffix, values)[1].tobytes()
    Image.fromarray(values).save(out, name[2:].upper().replace("TIF", "TIFF"))
    return out.getvalue()


@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.tif", "d.png", "d.tif"])
def test_truncated_files_of_every_kind(tmp_path: Path, name: str) -> None:
    values = DEEP[..., :3] if name[0] == "d" else (DEEP[..., :3] // 257).astype(np.uint8)
    whole = coded(name, np.ascontiguousarray(values))
    for share in (0.3, 0.6, 0.95):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(KTDNError, match="truncated"):
            read_photo(tmp_path / name)
    (tmp_path / name).write_bytes(whole)
    assert read_photo(tmp_path / name).pixels.shape == (40, 56, 3)


def test_unsupported_samples_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros((9, 9, 3), np.uint32), photometric="rgb")
    with pytest.raises(KTDNError, match=r"x\.tif: .*8 or 16 bit|32 bit"):
        read_photo(path)
    tifffile.imwrite(path, np.zeros((9, 9, 4), np.uint16), photometric="separated")
    with pytest.raises(KTDNError, match="SEPARATED of 16 bit"):
        read_photo(path)
    tifffile.imwrite(path, np.zeros((9, 9, 3), np.uint8), photometric="rgb", subfiletype=1)
    with pytest.raises(KTDNError, match="is a preview"):
        read_photo(path)
    with pytest.raises(KTDNError, match="No such file"):
        read_photo(tmp_path / "none.png")
    with pytest.raises(KTDNError, match="not a regular file"):
        read_photo(tmp_path)
