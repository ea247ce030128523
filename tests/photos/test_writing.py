"""Pixels alone as image files, through the one writer."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import write_rgb

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
    with pytest.raises(KTDNError, match=r"images are written as \.png, \.jpg, \.jpeg"):
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
