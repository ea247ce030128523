"""Finding the image files of a folder, and saying what of it is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.image_files import list_images


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
    with pytest.raises(KTDNError, match=r"no readable image, only 2 HEIC, .*; save them as"):
        list_images(tmp_path)
    for name in taken:
        (tmp_path / name).touch()
    for _ in range(2):
        assert list_images(tmp_path) == sorted(tmp_path / name for name in taken)
    (line,) = [record.getMessage() for record in caplog.records]
    said, _, cure = line.removeprefix(
        f"{tmp_path}: skipped, since they cannot be read: "
    ).partition("; ")
    assert sorted(said.split(", ")) == ["1 AVIF", "1 DNG", "1 GIF", "1 JPEG 2000", "2 HEIC"]
    assert cure == "save them as PNG, JPEG, WebP or TIFF first"


def test_a_folder_that_cannot_be_read_is_reported_not_skipped(
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
