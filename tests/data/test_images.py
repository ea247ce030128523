from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from bad_images import BAD, bomb, coded, photo, write_bad
from PIL import Image

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import decode_rgb, read_rgb, read_size
from ktdn_plugin.scenes.image_files import list_images


def one_line(caught: pytest.ExceptionInfo[KTDNError]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", BAD)
def test_bad_images_are_named(kind: str, tmp_path: Path) -> None:
    path, said = write_bad(tmp_path, kind)
    with pytest.raises(KTDNError, match=said) as caught:
        read_rgb(path)
    assert str(path) in one_line(caught)


def test_bomb_does_not_go_off_when_its_size_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(bomb())
    with pytest.raises(KTDNError, match="more pixels than a photograph") as caught:
        read_size(tmp_path / "x.png")
    assert "x.png" in one_line(caught)


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
    with pytest.raises(KTDNError, match="no such image"):
        decode_rgb(None, "key")


def test_folder_with_an_images_name_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(KTDNError, match="holds no image"):
        list_images(tmp_path)
    (tmp_path / "folder.png/a.png").touch()
    assert list_images(tmp_path) == [tmp_path / "folder.png/a.png"]


def test_what_is_left_out_of_a_folder_is_counted_by_its_kind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["a.HEIC", "b.heif", "x/c.gif", "d.dng", "e.avif", ".f.gif", "notes.txt", "g.JP2"]
    taken = ["a.jfif", "b.jpe", "c.mpo", "d.apng", "e.JPG", "f.webp", "x/g.bmp"]
    (tmp_path / "x").mkdir()
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(KTDNError, match=r"no image that can be read, but 2 HEIC, .*; save them as"):
        list_images(tmp_path)
    for name in taken:
        (tmp_path / name).touch()
    for _ in range(2):
        assert list_images(tmp_path) == sorted(tmp_path / name for name in taken)
    (line,) = [record.getMessage() for record in caplog.records]
    said, _, cure = line.removeprefix(
        f"{tmp_path}: left out, since they cannot be read: "
    ).partition("; ")
    assert sorted(said.split(", ")) == ["1 AVIF", "1 DNG", "1 GIF", "1 JPEG 2000", "2 HEIC"]
    assert cure == "save them as PNG, JPEG, WebP or TIFF first"


def test_other_modes_become_rgb(tmp_path: Path) -> None:
    rgb = photo()
    path = tmp_path / "x.png"
    Image.fromarray(rgb).save(path)
    assert np.array_equal(read_rgb(path), rgb)
    Image.fromarray(np.dstack([rgb, rgb[..., 0]])).save(path)
    assert np.array_equal(read_rgb(path), rgb)
    Image.fromarray(rgb[..., 0]).save(path)
    assert np.array_equal(read_rgb(path), np.repeat(rgb[..., :1], 3, 2))
    cv2.imwrite(str(path), rgb[..., ::-1].astype(np.uint16) * 257)
    assert np.array_equal(read_rgb(path), rgb)


def test_turned_photographs_have_the_size_that_they_are_decoded_to(tmp_path: Path) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.jpg"
        Image.fromarray(photo(40, 56)).save(path, exif=exif)
        assert read_size(path) == read_rgb(path).shape[:2]
        assert read_size(path) == ((40, 56) if orientation < 5 else (56, 40))


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


def test_a_folder_that_cannot_be_read_is_named_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").touch()
    scandir = os.scandir

    def refusing(path: str) -> object:  # as it does where this user may not look
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(KTDNError, match="closed: Permission denied"):
        list_images(tmp_path)


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
