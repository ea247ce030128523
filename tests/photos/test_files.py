"""Files on their way to the reader: missing, closed, of another kind, cut off; and sizes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from bad_images import bomb, coded, photo
from PIL import Image

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import read_rgb, read_size


def test_bomb_does_not_go_off_when_its_size_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(bomb())
    with pytest.raises(KTDNError, match="900000 x 900000 pixels take 9720") as caught:
        read_size(tmp_path / "x.png")
    assert "x.png" in str(caught.value)


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(coded(".png"))
    (tmp_path / "x.png").chmod(0)
    if os.access(tmp_path / "x.png", os.R_OK):
        pytest.skip("root may read everything")
    for use in (read_rgb, read_size):
        with pytest.raises(KTDNError, match=r"x\.png: Permission denied"):
            use(tmp_path / "x.png")


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for use in (read_rgb, read_size):
        with pytest.raises(KTDNError, match=r"absent\.png: No such file"):
            use(tmp_path / "absent.png")
        with pytest.raises(KTDNError, match=r"folder\.png: not a regular file"):
            use(tmp_path / "folder.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_size_out_of_the_header_is_that_of_the_decoded_image(tmp_path: Path, suffix: str) -> None:
    for orientation in range(1, 9):
        image = Image.fromarray(photo()[:20, :30])
        exif = image.getexif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.{suffix}"
        image.save(path, exif=exif)
        size = read_rgb(path).shape[:2]
        assert read_size(path) == size
        assert size == ((20, 30) if orientation < 5 else (30, 20))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for use in (read_rgb, read_size):
        with pytest.raises(KTDNError, match=r"pipe\.png: not a regular file"):
            use(tmp_path / "pipe.png")


def test_a_jpeg_may_have_something_behind_its_end_but_not_lack_it(tmp_path: Path) -> None:
    whole, path = coded(".jpg"), tmp_path / "x.jpg"
    path.write_bytes(whole)
    pixels = read_rgb(path)
    video = b"MotionPhoto" + bytes(range(256)) * 4 + b"\xff\xda and so on"
    for thumbnail in (b"", b"\xff\xe1\x00\x0aEx\xff\xd8\xff\xda\xff\xd9"):
        content = whole[:2] + thumbnail + whole[2:]
        for end in (b"", video):
            path.write_bytes(content + end)
            assert np.array_equal(read_rgb(path), pixels)
        for cut in (len(content) - 1, len(content) // 2, 30 + len(thumbnail), 3):
            path.write_bytes(content[:cut])
            with pytest.raises(KTDNError, match="not a readable image, but a truncated"):
                read_rgb(path)
