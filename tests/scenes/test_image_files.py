"""Finding the image files of a folder, and saying what of it is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes import image_files
from ktdn_plugin.scenes.image_files import list_images


def test_folder_with_an_images_name_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(KTDNError, match="holds no image"):
        list_images(tmp_path)
    (tmp_path / "folder.png/a.png").touch()
    assert list_images(tmp_path) == [tmp_path / "folder.png/a.png"]


def test_what_is_left_out_of_a_folder_is_counted_by_its_kind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a.HEIC", "b.heif", "x/c.psd", "d.dng", ".f.gif", "g.JP2", "clip.mov", "README"]
    names += ["notes.txt", "more.txt", "a.json", "Thumbs.db", "b.xmp", "c.csv"]
    taken = ["a.jfif", "b.jpe", "c.mpo", "d.apng", "e.JPG", "f.webp", "x/g.bmp", "h.gif", "i.avif"]
    (tmp_path / "x").mkdir()
    package = "pip install pillow-heif"
    monkeypatch.setattr(image_files, "missing_for", {"HEIC": package}.get)
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(KTDNError, match=r"no readable image, only 2 HEIC \(pip .*; save unread"):
        list_images(tmp_path)
    for name in taken:
        (tmp_path / name).touch()
    for _ in range(2):
        assert list_images(tmp_path) == sorted(tmp_path / name for name in taken)
    (line,) = [record.getMessage() for record in caplog.records]
    said, _, cure = line.removeprefix(f"{tmp_path}: left out: ").partition("; ")
    counts = said.split(", ")
    assert counts[0] == f"2 HEIC ({package})"
    assert {"1 PSD", "1 DNG", "1 JPEG 2000", "1 video", "2 .txt", "2 others"} <= {*counts}
    assert len(counts) == 10  # of the files that are no images three kinds more are named
    assert cure == "save unread images as PNG, JPEG, WebP or TIFF first"
    monkeypatch.setattr(image_files, "missing_for", lambda _: None)
    assert tmp_path / "a.HEIC" in list_images(tmp_path)


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
