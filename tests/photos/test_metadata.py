"""What is read and written again is the same photograph, in each format and either depth."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from ktdn_plugin.photos import Photo, not_kept, read_photo, write_photo
from ktdn_plugin.photos.photo import Metadata, to_8_bit

SUFFIXES = (".png", ".jpg", ".webp", ".tif")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description tiff:Orientation="6" dc:rights="mine"/></rdf:RDF></x:xmpmeta>'
)
MAKE, ORIENTATION, EXPOSURE, WIDTH, MAKER_NOTE = 0x010F, 0x0112, 0x829A, 0xA002, 0x927C


def smooth(height: int = 37, width: int = 52, channels: int = 3, deep: bool = False) -> np.ndarray:
    coarse = np.random.RandomState(height).randint(0, 65536, (4, 5, channels)).astype(np.float32)
    values = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    values = values.reshape(height, width, channels)
    return values.astype(np.uint16) if deep else (values / 257).astype(np.uint8)


def exif(orientation: int = 1, byte_order: str = "II") -> bytes:
    block = Image.Exif()
    block.endian = "<" if byte_order == "II" else ">"
    block[MAKE], block[ORIENTATION] = "Maker of cameras", orientation
    block.get_ifd(0x8769).update({EXPOSURE: 0.125, WIDTH: 999, MAKER_NOTE: b"\x01\x02secret"})
    block.get_ifd(0x8825).update({1: "N", 2: (47.0, 3.0, 1.5)})
    return block.tobytes().removeprefix(b"Exif\0\0")


def metadata(**other: object) -> Metadata:
    return Metadata(exif=exif(), icc=SRGB, xmp=XMP, dpi=(300.0, 240.0), **other)


def error_db(one: np.ndarray, other: np.ndarray) -> float:
    difference = to_8_bit(one).astype(float) - to_8_bit(other)
    return float(10 * np.log10(255**2 / max(np.mean(difference**2), 1e-9)))


def said_by_pillow(path: Path) -> dict:
    with Image.open(path) as image:
        image.load()
        block = image.getexif()
        details, place = block.get_ifd(0x8769), block.get_ifd(0x8825)
        return {
            "size": image.size,
            "mode": image.mode,
            "make": block.get(MAKE),
            "orientation": block.get(ORIENTATION, 1),
            "exposure": float(details.get(EXPOSURE, 0)),
            "width": details.get(WIDTH),
            "note": details.get(MAKER_NOTE),
            "place": tuple(map(float, place.get(2, ()))),
            "icc": image.info.get("icc_profile"),
            "xmp": image.info.get("xmp"),
            "dpi": tuple(round(float(value), 1) for value in image.info.get("dpi", ())),
        }


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("deep", [False, True], ids=["8 bit", "16 bit"])
@pytest.mark.parametrize("has_alpha", [False, True], ids=["rgb", "alpha"])
def test_pixels_and_metadata_survive_and_other_programs_read_them(
    tmp_path: Path, suffix: str, deep: bool, has_alpha: bool
) -> None:
    alpha = smooth(37, 52, 1, deep)[..., 0] if has_alpha else None
    photo = Photo(smooth(deep=deep), alpha, metadata())
    path = tmp_path / "in a folder" / f"x{suffix}"
    write_photo(path, photo)
    said = said_by_pillow(path)
    assert said["size"] == (52, 37)
    assert said["make"] == "Maker of cameras"
    assert said["exposure"] == 0.125
    assert said["note"] == b"\x01\x02secret"
    assert said["place"] == (47.0, 3.0, 1.5)
    assert said["icc"] == SRGB
    assert said["xmp"] == XMP
    assert said["dpi"] == (() if suffix == ".webp" else (300.0, 240.0))

    back = read_photo(path)
    lossless = suffix in (".png", ".tif")
    assert back.is_deep == (deep and lossless)
    assert back.notes == []
    for field in ("icc", "exif") if suffix != ".tif" else ("icc",):
        assert getattr(back.metadata, field) == getattr(described(photo), field), field
    if lossless:
        assert np.array_equal(back.pixels, photo.pixels)
        by_opencv = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if deep or not has_alpha or suffix == ".png":  # else it multiplies alpha into the colours
            assert np.array_equal(by_opencv[..., 2::-1], photo.pixels)
    else:
        assert error_db(back.pixels, photo.pixels) > 35
    if has_alpha and suffix != ".jpg":
        assert np.array_equal(back.alpha, to_8_bit(alpha) if suffix == ".webp" else alpha)
    else:
        assert back.alpha is None
    if suffix == ".tif":
        expected = photo.pixels if alpha is None else np.dstack((photo.pixels, alpha))
        assert np.array_equal(tifffile.imread(path), expected)
    lost = set(not_kept(path, photo))
    assert ("8 of 16 bits" in lost) == (deep and not lossless)
    assert ("alpha" in lost) == (has_alpha and suffix == ".jpg")
    assert ("the resolution" in lost) == (suffix == ".webp")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def described(photo: Photo) -> Metadata:
    """The metadata with the size that reading puts into them."""
    from ktdn_plugin.photos.exif import with_size

    height, width = photo.pixels.shape[:2]
    return Metadata(with_size(photo.metadata.exif, height, width), photo.metadata.icc)


def upright_and_lying(orientation: int, deep: bool) -> tuple[np.ndarray, np.ndarray]:
    """An image, and how a file of this orientation stores it, turned by Pillow's own method."""
    upright = smooth(37, 52, deep=deep)
    # What lies in the file becomes upright by Pillow's transposition; this is the way back.
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    places = Image.fromarray(np.arange(37 * 52, dtype=np.int32).reshape(37, 52))
    if orientation in back:
        places = places.transpose(back[orientation])
    return upright, upright.reshape(-1, 3)[np.asarray(places)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "png-16", "tif-16", "tif-16-MM"])
def test_orientation_is_applied_once(tmp_path: Path, orientation: int, kind: str) -> None:
    suffix, deep = f".{kind[:4].strip('-')}", "16" in kind
    upright, lying = upright_and_lying(orientation, deep)
    path = tmp_path / f"x{suffix}"
    if deep:
        block = exif(orientation, "MM" if kind.endswith("MM") else "II")
        write_photo(path, Photo(lying, None, Metadata(exif=block, xmp=XMP)))
        assert said_by_pillow(path)["size"] == (
            lying.shape[1::-1] if suffix == ".png" or orientation < 5 else upright.shape[1::-1]
        )
    else:
        options = {} if suffix == ".tif" else {"quality": 100}
        Image.fromarray(lying).save(path, exif=b"Exif\0\0" + exif(orientation), **options)
    photo = read_photo(path)
    assert photo.pixels.shape == upright.shape
    assert error_db(photo.pixels, upright) > 35
    out = tmp_path / f"out{suffix}"
    write_photo(out, photo)
    said = said_by_pillow(out)
    assert said["orientation"] == 1
    assert said["make"] == "Maker of cameras"
    assert said["width"] == (52 if suffix != ".tif" or deep else said["width"])
    assert said["size"] == (52, 37)
    assert b'Orientation="6"' not in out.read_bytes()
    again = read_photo(out)
    assert again.pixels.shape == upright.shape
    assert error_db(again.pixels, upright) > 35


def test_a_camera_s_exif_block_stays_as_it_is_but_for_orientation_size_and_thumbnail(
    tmp_path: Path,
) -> None:
    thumbnail = io.BytesIO()
    Image.fromarray(smooth(12, 16)).save(thumbnail, "JPEG")
    block = bytearray(exif(6))
    # A second directory, behind all else, is the thumbnail's (EXIF 2.32, section 4.5.8).
    count = int.from_bytes(block[8:10], "little")
    block[10 + 12 * count : 14 + 12 * count] = len(block).to_bytes(4, "little")
    block += (0).to_bytes(2, "little") + thumbnail.getvalue()
    path, out = tmp_path / "x.jpg", tmp_path / "out.jpg"
    Image.fromarray(smooth(52, 37)).save(path, exif=b"Exif\0\0" + bytes(block))
    write_photo(out, read_photo(path))
    with Image.open(out) as image:
        kept = image.info["exif"].removeprefix(b"Exif\0\0")
    assert len(kept) == len(block)
    changed = [at for at, (a, b) in enumerate(zip(block, kept, strict=True)) if a != b]
    assert 1 <= len(changed) <= 1 + 2 + 4
    assert said_by_pillow(out)["note"] == b"\x01\x02secret"
    assert said_by_pillow(out)["width"] == 52


def test_png_texts_and_colour_chunks(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "Nebel")
    info.add_itxt("Author", "Łukasz")
    info.add(b"gAMA", (100000).to_bytes(4, "big"))
    path = tmp_path / "x.png"
    Image.fromarray(smooth()).save(path, pnginfo=info)
    photo = read_photo(path)
    assert photo.metadata.text == {"Title": "Nebel", "Author": "Łukasz"}
    write_photo(tmp_path / "out.png", photo)
    with Image.open(tmp_path / "out.png") as image:
        image.load()
        assert image.text == {"Title": "Nebel", "Author": "Łukasz"}
        assert image.info["gamma"] == 1.0
    assert set(not_kept(tmp_path / "x.jpg", photo)) == {"PNG texts", "PNG colour chunks"}


def test_a_jpeg_s_comment_and_captions(tmp_path: Path) -> None:
    caption = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x08\x1c\x02\x78\0\x03fog"
    segment = b"\xff\xed" + (len(caption) + 2).to_bytes(2, "big") + caption
    path, out = tmp_path / "x.jpg", tmp_path / "out.jpg"
    Image.fromarray(smooth()).save(path, comment=b"taken at dawn", extra=segment)
    write_photo(out, read_photo(path))
    with Image.open(out) as image:
        assert image.info["comment"] == b"taken at dawn"
        assert dict(image.applist)["APP13"] == caption


def test_metadata_too_long_for_a_jpeg_are_left_out_and_named(tmp_path: Path) -> None:
    photo = Photo(smooth(), None, Metadata(exif=exif() + bytes(70000), xmp=XMP + b" " * 70000))
    assert not_kept(tmp_path / "x.jpg", photo) == ["EXIF data", "XMP"]
    write_photo(tmp_path / "x.jpg", photo)
    assert read_photo(tmp_path / "x.jpg").metadata.xmp == b""
    write_photo(tmp_path / "x.png", photo)
    assert len(read_photo(tmp_path / "x.png").metadata.xmp) == len(photo.metadata.xmp)


SIZES = st.integers(1, 40)


@settings(max_examples=6, deadline=None)
@given(height=SIZES, width=SIZES, seed=st.integers(0, 99))
def test_any_size_goes_through_any_format(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("sizes")
    deep_values = np.random.RandomState(seed).randint(0, 65536, (height, width, 4))
    for suffix, deep, has_alpha in itertools.product(SUFFIXES, (False, True), (False, True)):
        values = (deep_values if deep else deep_values // 256).astype("u2" if deep else "u1")
        photo = Photo(values[..., :3], values[..., 3] if has_alpha else None)
        path = folder / f"x{suffix}"
        write_photo(path, photo)
        back = read_photo(path)
        assert back.pixels.shape == (height, width, 3)
        if suffix in (".png", ".tif"):
            assert back.pixels.dtype == values.dtype
            assert np.array_equal(back.pixels, photo.pixels)
            assert (back.alpha is None) == (not has_alpha)
            assert back.alpha is None or np.array_equal(back.alpha, photo.alpha)


@given(st.integers(0, 65535))
def test_16_bit_are_rounded_to_8(value: int) -> None:
    assert to_8_bit(np.full((1, 1), value, np.uint16))[0, 0] == round(value / 257)


def test_suffixes_in_capitals(tmp_path: Path) -> None:
    for suffix in (".PNG", ".JPEG", ".TIFF"):
        write_photo(tmp_path / f"x{suffix}", Photo(smooth()))
        assert read_photo(tmp_path / f"x{suffix}").pixels.shape == (37, 52, 3)
