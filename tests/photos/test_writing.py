"""Image files, through the one writer: whole or not at all, and what does not fit is said."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import Photo, encode_photo, not_kept, read_photo, write_photo, write_rgb
from ktdn_plugin.photos.photo import Metadata

RED, BLUE = (230, 10, 10), (10, 10, 230)


def plain(colour: tuple[int, int, int], height: int = 60, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


@pytest.mark.parametrize("name", ["out.png", "out.PNG", "über 霧.png", "new/folders/out.png"])
def test_png_comes_back_to_the_bit(name: str, tmp_path: Path) -> None:
    image = np.random.RandomState(0).randint(0, 256, (21, 34, 3)).astype(np.uint8)
    write_rgb(tmp_path / name, image[:, ::-1])
    with Image.open(tmp_path / name) as read:
        assert np.array_equal(np.array(read), image[:, ::-1])


@pytest.mark.parametrize("name", ["out.jpg", "out.JPEG"])
def test_jpeg_comes_back_nearly(name: str, tmp_path: Path) -> None:
    write_rgb(tmp_path / name, plain(RED))
    with Image.open(tmp_path / name) as read:
        assert read.format == "JPEG"
        assert np.abs(np.array(read).astype(int) - plain(RED)).max() <= 4


def test_existing_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    write_rgb(path, plain(RED))
    write_rgb(path, plain(BLUE))
    with Image.open(path) as read:
        assert read.getpixel((0, 0)) == BLUE
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    write_rgb(tmp_path / "out.png", plain(RED))
    (tmp_path / "usual").touch()
    assert (tmp_path / "out.png").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_failed_writing_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.png"
    write_rgb(path, plain(RED))
    before = path.read_bytes()

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KTDNError, match="No space left on device"):
        write_rgb(path, plain(BLUE))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_write_protected_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(KTDNError, match="Permission denied"):
            write_rgb(tmp_path / "out.png", plain(RED))
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", ["out", "out.bmp", "out.txt", ".png"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(KTDNError, match=r"images can be written as \.png, \.jpg, \.jpeg"):
        write_rgb(tmp_path / name, plain(RED))


@pytest.mark.parametrize(
    ("image", "error"),
    [(plain(RED) / 255, TypeError), (plain(RED)[..., 0], ValueError), (None, TypeError)],
)
def test_unfit_arrays_are_refused(
    image: np.ndarray, error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error):
        write_rgb(tmp_path / "out.png", image)


@pytest.mark.parametrize(
    ("name", "size"), [("x.webp", (16384, 1)), ("x.jpg", (1, 65536)), ("x.bmp", (1, 1))]
)
def test_what_a_format_has_no_room_for(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    with pytest.raises(KTDNError, match=r"allows at most|images can be written as") as caught:
        write_photo(tmp_path / name, Photo(np.zeros((*size, 3), np.uint8)))
    assert str(tmp_path / name) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_tiff_beyond_its_32_bit_offsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (70, 30, 3)).astype(np.uint8)
    write_photo(tmp_path / "x.tif", Photo(pixels))
    before = (tmp_path / "x.tif").read_bytes()
    monkeypatch.setattr("ktdn_plugin.photos.tiff.LIMIT", len(before))
    write_photo(tmp_path / "x.tif", Photo(pixels))
    for limit, photo in (
        (6000, Photo(pixels)),
        (len(before), Photo(pixels, None, Metadata(icc=bytes(1000)))),
    ):
        monkeypatch.setattr("ktdn_plugin.photos.tiff.LIMIT", limit)
        with pytest.raises(KTDNError, match=rf"x\.tif: .* at most {limit:,}: use PNG$"):
            write_photo(tmp_path / "x.tif", photo)
        assert [path.name for path in tmp_path.iterdir()] == ["x.tif"]
        assert (tmp_path / "x.tif").read_bytes() == before


def test_pixels_of_the_wrong_kind() -> None:
    with pytest.raises(TypeError, match="uint8 or uint16, got float32"):
        write_photo("x.png", Photo(np.zeros((2, 2, 3), np.float32)))
    with pytest.raises(ValueError, match="shape"):
        write_photo("x.png", Photo(np.zeros((2, 2), np.uint8)))
    with pytest.raises(ValueError, match="alpha"):
        write_photo("x.png", Photo(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint16)))


def test_long_and_tiny(tmp_path: Path) -> None:
    for size in ((1, 1), (1, 100_000), (100_000, 1)):
        photo = Photo(np.full((*size, 3), 9, np.uint16))
        for suffix in (".png", ".tif"):
            write_photo(tmp_path / f"x{suffix}", photo)
            assert np.array_equal(read_photo(tmp_path / f"x{suffix}").pixels, photo.pixels)


def test_nothing_is_left_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KTDNError, match="file"):
        write_photo(tmp_path / "file" / "x.png", Photo(np.zeros((2, 2, 3), np.uint8)))
    (tmp_path / "x.png").mkdir()
    with pytest.raises(KTDNError, match=r"x\.png: cannot be saved \(Is a directory\)"):
        write_photo(tmp_path / "x.png", Photo(np.zeros((2, 2, 3), np.uint8)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.png"]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_compression_changes_the_size_and_no_pixel(
    tmp_path: Path, suffix: str, dtype: type
) -> None:
    largest = np.iinfo(dtype).max
    values = data.chelsea() / 255 + np.random.RandomState(0).normal(0, 0.01, (300, 451, 3))
    pixels = np.rint(values.clip(0, 1) * largest).astype(dtype)
    alpha = np.ascontiguousarray(pixels[..., 1])
    sizes = {}
    for level in (None, 0, 1, 9):
        path = tmp_path / f"{level}{suffix}"
        write_photo(path, Photo(pixels, alpha), compression=level)
        assert path.read_bytes() == encode_photo(path, Photo(pixels, alpha), compression=level)
        found = read_photo(path)
        assert np.array_equal(found.pixels, pixels)
        assert np.array_equal(found.alpha, alpha)
        sizes[level] = path.stat().st_size
    assert sizes[9] < sizes[1] < sizes[0]
    assert sizes[None] < 1.15 * sizes[1]
    for level in (-1, 10):
        with pytest.raises(KTDNError, match=f"compression must be 0 to 9, got {level}"):
            write_photo(tmp_path / f"bad{suffix}", Photo(pixels), compression=level)
    assert not (tmp_path / f"bad{suffix}").exists()


def test_damaged_exif_is_named_where_it_cannot_be_kept(tmp_path: Path) -> None:
    photo = Photo(np.zeros((2, 2, 3), np.uint8), None, Metadata(exif=b"II*\0\x08\0\0\0\xff\xff"))
    assert not_kept(tmp_path / "x.tif", photo) == ["damaged EXIF data"]
    assert not_kept(tmp_path / "x.jpg", photo) == []
