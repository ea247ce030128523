"""HEIC, AVIF, JPEG XL and animations, made by the libraries that read them."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from odd_images import DEEP, HEIGHT, RGB, RGBA, WIDTH, saved, turning
from PIL import Image, features

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import ReadLimits, decode_photo, formats, read_photo, read_size, write_photo
from ktdn_plugin.photos.jxl import read_header

pillow_heif = pytest.importorskip("pillow_heif")
pytest.importorskip("pillow_jxl")
if not features.check("avif"):
    pytest.skip("this Pillow has no AVIF", allow_module_level=True)
pillow_heif.register_heif_opener()

PICTURE = Image.fromarray(RGB)
EXACT = {
    "HEIF": {"quality": -1, "chroma": 444},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "JXL": {"lossless": True},
}
SUFFIXES = {"HEIF": ".heic", "AVIF": ".avif", "JXL": ".jxl"}
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def deep_heic(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    mode = {3: "RGB;16", 4: "RGBA;16"}[values.shape[2]]
    file = pillow_heif.from_bytes(mode, (WIDTH, HEIGHT), values.tobytes())
    file.save(out, quality=-1, chroma=444, matrix_coefficients=0)
    return out.getvalue()


@pytest.mark.parametrize("kind", EXACT)
def test_pixels_alpha_and_metadata_are_those_of_the_file(tmp_path: Path, kind: str) -> None:
    exif = turning(6)
    exif[0x010F] = "Maker"
    image = Image.fromarray(RGBA)
    content = saved(image, kind, exif=exif.tobytes(), xmp=XMP, **EXACT[kind])
    path = tmp_path / f"x{SUFFIXES[kind]}"
    path.write_bytes(content)
    photo = read_photo(path)
    # A JPEG XL says by itself how it is turned, and this one says that it is not.
    turn = (lambda pixels: pixels) if kind == "JXL" else (lambda pixels: np.rot90(pixels, -1))
    assert np.abs(photo.pixels.astype(int) - turn(RGB)).max() <= 3
    assert np.abs(photo.alpha.astype(int) - turn(RGBA[..., 3])).max() <= 3
    assert read_size(path) == photo.pixels.shape[:2]
    assert b"Maker" in photo.metadata.exif
    assert photo.metadata.xmp.startswith(b"<x:xmpmeta")
    write_photo(tmp_path / "x.jpg", photo)
    again = Image.open(tmp_path / "x.jpg")
    assert again.getexif()[0x010F] == "Maker"
    assert again.getexif()[0x0112] == 1


def test_ten_bits_of_a_heic_are_sixteen_over_the_whole_range() -> None:
    for values in (DEEP[..., :3], DEEP, np.full_like(DEEP, 65535)):
        photo = decode_photo(deep_heic(np.ascontiguousarray(values)), "x.heic")
        assert photo.pixels.dtype == np.uint16
        assert np.abs(photo.pixels.astype(int) - values[..., :3]).max() <= 64
        assert (photo.alpha is not None) == (values.shape[2] == 4)
    assert photo.pixels.max() == 65535


def test_ten_bits_of_an_avif_are_kept_where_opencv_knows_the_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codecs = pytest.importorskip("imagecodecs")
    content = codecs.avif_encode(DEEP[..., :3] >> 6, level=100, bitspersample=10)
    if "AVIF" in cv2.getBuildInformation():
        photo = decode_photo(content, "x.avif")
        assert photo.pixels.dtype == np.uint16
        assert np.abs(photo.pixels.astype(int) - DEEP[..., :3]).max() <= 65
        assert photo.notes == []
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    photo = decode_photo(content, "x.avif")
    assert photo.pixels.dtype == np.uint8
    assert photo.notes == ["read with 8 of its 10 bits, as this OpenCV knows no AVIF"]


def test_what_the_library_for_jpeg_xl_cannot_give_is_said() -> None:
    codecs = pytest.importorskip("imagecodecs")
    photo = decode_photo(codecs.jpegxl_encode(DEEP[..., :3], lossless=True), "x.jxl")
    assert photo.notes == ["read with 8 of its 16 bits, as pillow-jxl-plugin gives no more"]
    assert np.abs(photo.pixels.astype(float) * 257 - DEEP[..., :3]).max() <= 257
    grey = decode_photo(codecs.jpegxl_encode(DEEP[..., 0], lossless=True), "x.jxl")
    assert (grey.pixels == DEEP[..., :1]).all()
    numbers = codecs.jpegxl_encode((DEEP[..., :3] / 65535).astype(np.float32), lossless=True)
    with pytest.raises(KTDNError, match="holds floating-point numbers of 32 bit"):
        decode_photo(numbers, "x.jxl")
    frames = codecs.jpegxl_encode(np.stack([255 - RGB, RGB]), lossless=True, photometric="rgb")
    photo = decode_photo(frames, "x.jxl")
    assert (photo.pixels == RGB).all()
    assert photo.notes == ["used the last of its images, as pillow-jxl-plugin gives no other"]
    packed = saved(PICTURE, "JXL", exif=turning().tobytes(), compress_metadata=True)
    assert decode_photo(packed, "x.jxl").notes == [
        "its EXIF data is compressed with Brotli and was dropped"
    ]


def test_a_jpeg_in_a_jpeg_xl_is_that_jpeg(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "x.jpg", exif=turning(6), comment=b"hello")
    with Image.open(tmp_path / "x.jpg") as jpeg:
        jpeg.save(tmp_path / "x.jxl", lossless_jpeg=True)
    found, expected = read_photo(tmp_path / "x.jxl"), read_photo(tmp_path / "x.jpg")
    assert np.array_equal(found.pixels, expected.pixels)
    assert found.metadata == expected.metadata


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (300, 200), (1600, 900), (123, 4567)])
def test_the_size_of_a_jpeg_xl_is_in_its_header(size: tuple[int, int]) -> None:
    assert read_header(saved(Image.new("RGB", size), "JXL"))[1::-1] == size


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
def test_the_first_picture_of_an_animation_is_used_with_a_note(kind: str) -> None:
    options = {**EXACT.get(kind, {}), **({"lossless": True} if kind == "WEBP" else {})}
    content = saved(PICTURE, kind, save_all=True, append_images=[PICTURE.rotate(180)], **options)
    photo = decode_photo(content, "x")
    assert photo.notes == ["used the first of its 2 images"]
    assert np.abs(photo.pixels.astype(int) - RGB).mean() < 12  # of a GIF's palette


def test_further_pictures_and_depth_of_a_heic_are_named() -> None:
    content = saved(PICTURE, "HEIF", save_all=True, append_images=[PICTURE.rotate(180)])
    assert decode_photo(content, "x").notes == ["used the main one of its 2 images"]
    video = b"\0\0\0\x18ftypmp42" + bytes(300)
    motion = saved(PICTURE, "HEIF") + (308 + 24).to_bytes(4, "big") + b"mpvd" + video
    assert decode_photo(motion, "x").notes == ["dropped: the video of its motion photo"]


@pytest.mark.parametrize("kind", EXACT)
def test_a_broken_file_has_one_line(kind: str, capfd: pytest.CaptureFixture) -> None:
    content = saved(PICTURE, kind)
    for cut in (15, 40, len(content) // 2):
        with pytest.raises(KTDNError, match=r"^x: not a readable image, but a truncated") as caught:
            decode_photo(content[:cut], "x")
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    content = {kind: saved(PICTURE, kind) for kind in EXACT}
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(formats.features, "check", lambda _: False)
    formats.missing_for.cache_clear()
    try:
        for kind, command in (
            ("HEIF", "an HEIC, which needs another package: pip install pillow-heif"),
            ("JXL", "a JPEG XL, which needs another package: pip install pillow-jxl-plugin"),
            ("AVIF", 'an AVIF, which needs another package: pip install "pillow>=11.3"'),
        ):
            with pytest.raises(KTDNError) as caught:
                decode_photo(content[kind], "x")
            assert str(caught.value) == f"x: {command}"
    finally:
        formats.missing_for.cache_clear()


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    limits = ReadLimits(max_pixels=HEIGHT * WIDTH - 1)
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", *EXACT):
        content = saved(PICTURE, kind)
        with pytest.raises(KTDNError, match=r"36 x 24 pixels, and at most 863 are allowed"):
            decode_photo(content, "x", limits)
        assert decode_photo(content, "x", ReadLimits(max_pixels=HEIGHT * WIDTH)).pixels.size
    for kind in ("PNG", "JPEG", "JXL"):
        content = saved(Image.new("RGB", (4000, 4000)), kind)
        with pytest.raises(KTDNError, match="to read, more than --max-memory leaves"):
            decode_photo(content, "x", ReadLimits(max_memory=1))


@pytest.mark.slow
def test_200_megapixels_are_read_in_two_gigabytes(tmp_path: Path) -> None:
    row = np.linspace(0, 255, 16320).astype(np.uint8)
    Image.fromarray(np.broadcast_to(row, (12240, 16320))).save(tmp_path / "x.jpg", quality=50)
    code = (
        "import sys\nfrom ktdn_plugin.photos import ReadLimits, read_photo\n"
        "from ktdn_plugin.system_memory import peak_resident\n"
        "photo = read_photo(sys.argv[1], ReadLimits(max_memory=4 * 10**9))\n"
        "print(photo.pixels.shape, peak_resident())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.jpg")],
        capture_output=True,
        text=True,
        check=True,
    )
    shape, _, peak = done.stdout.strip().rpartition(" ")
    assert shape == "(12240, 16320, 3)"
    assert int(peak) < 2 * 10**9
