"""Wrong words to ``ktdn dehaze``: one line each, and nothing is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bad_images import BAD, write_bad
from dehaze.conftest import all_files
from PIL import Image

Command = Callable[..., tuple[int, str, str]]


def refused(done: tuple[int, str, str], *said: str) -> None:
    code, out, err = done
    assert code == 1
    assert out == ""
    assert len(err.splitlines()) == 1, err
    for part in ("error: ", *said):
        assert part in err


WRONG = {
    "a name that is nearly right": (
        ["photos/aa.png"],
        ["aa.png: no such file or folder; did you mean 'a.png'?"],
    ),
    "a folder that is not there": (["phtos"], ["phtos: no such", "did you mean 'photos'?"]),
    "an empty folder": (["empty"], ["empty: holds no image"]),
    "a folder of videos": (["clips"], ["clips: contains no photo", "give them by name (", "x.mp4"]),
    "the input's folder": (["photos", "-o", "photos"], ["is the input folder"]),
    "the input's folder, by a link": (["photos", "-o", "link"], ["is the input folder"]),
    "the input itself": (["photos/a.png", "-o", "photos"], ["would replace", "a.png"]),
    "the input itself, by its name": (
        ["photos/a.png", "-o", "photos/a.png", "--overwrite"],
        ["would replace"],
    ),
    "the input itself, by a link": (
        ["photos/a.png", "-o", "linked.png", "--overwrite"],
        ["linked.png: the result would replace"],
    ),
    "the input itself, by a hard link": (["photos/a.png", "-o", "hard"], ["would replace"]),
    "two that are one": (
        ["photos/a.png", "other/a.png"],
        ["would both be written to", str(Path("dehazed/a.png"))],
    ),
    "two that are one in another format": (
        ["photos/a.png", "other/a.bmp"],
        ["would both be written to"],
    ),
    "a comparison in the way": (
        ["photos/a.png", "other/a_compare.png", "--compare"],
        ["would both be written to"],
    ),
    "a file for many": (["photos", "-o", "x.png"], ["-o x.png: is a file name"]),
    "a file for two": (
        ["photos/a.png", "photos/deeper/b.jpg", "-o", "x.png"],
        ["-o x.png: is a file name"],
    ),
    "a format that is not written": (
        ["photos/a.png", "-o", "x.bmp"],
        ["-o x.bmp: photos are written as .png"],
    ),
    "a file that is no photo's": (["photos/a.png", "-o", "notes.txt"], ["notes.txt: photos are"]),
    "two formats": (
        ["photos/a.png", "-o", "x.png", "--format", "jpg"],
        ["does not match --format"],
    ),
    "below a file": (["photos", "-o", "notes.txt/out"], ["notes.txt is not a folder"]),
    "strength": (["photos", "--strength", "3"], ["strength: 3.0 is not in [0, 2]; 0 leaves"]),
    "base size": (
        ["photos", "--base-size", "half"],
        ["base_size: 'half' is not auto, off or a number of pixels from 32 up"],
    ),
    "strength nan": (["photos", "--strength", "nan"], ["strength: nan is not in [0, 2]"]),
    "quality": (["photos", "--quality", "101"], ["--quality must be 1 to 100, got 101"]),
    "quality of PNG": (["photos", "--quality", "9", "--format", "png"], ["--quality: png loses"]),
    "compression": (["photos", "--compression", "10"], ["--compression must be 0 to 9, got 10"]),
    "compression of JPEG": (
        ["photos", "--compression", "9", "--format", "jpg"],
        ["--compression 9: no result is a PNG or TIFF"],
    ),
    "quality of what is a PNG anyway": (
        ["photos/a.png", "--quality", "9"],
        ["--quality 9: no result is a JPEG or WebP"],
    ),
    "an unknown device": (["photos", "--device", "gpu9"], ["gpu9"]),
    "too little memory, in words": (["photos", "--max-memory", "much"], ["much"]),
    "no checkpoint there": (["photos", "--checkpoint", "none.pth"], ["none.pth: no such"]),
    "a photo for a checkpoint": (["photos", "--checkpoint", "photos/a.png"], ["a.png"]),
    "another network's": (["photos", "--checkpoint", "other.pth"], ["other.pth"]),
}


@pytest.fixture
def around(here: Path) -> Path:
    """What is in the way of the photographs."""
    for folder in ("empty", "other", "clips", "hard"):
        Path(folder).mkdir()
    Path("clips/x.mp4").write_text("")
    Path("notes.txt").write_text("")
    for name in ("other/a.png", "other/a.bmp", "other/a_compare.png"):
        Image.new("RGB", (20, 20)).save(name)
    Path("link").symlink_to("photos")
    Path("linked.png").symlink_to(Path("photos/a.png"))
    os.link("photos/a.png", "hard/a.png")
    torch.save({"params": {"conv.weight": torch.zeros(3, 3)}}, "other.pth")
    return here


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG)
def test_one_line_and_nothing_is_written(
    around: Path, dehaze: Command, words: list[str], said: list[str]
) -> None:
    before = {name: Path(name).read_bytes() for name in all_files(".")}
    refused(dehaze(*words), *said)
    assert {name: Path(name).read_bytes() for name in all_files(".")} == before
    assert not Path("dehazed").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_closed_folder(here: Path, dehaze: Command) -> None:
    Path("closed").mkdir(mode=0o500)
    refused(dehaze("photos", "-o", "closed/out"), "closed", "cannot be written")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no file system that refuses")
def test_a_file_system_that_refuses(here: Path, dehaze: Command) -> None:
    refused(dehaze("photos", "-o", "/proc/self/out"), "/proc/self/out", "cannot be written")


@pytest.mark.parametrize("kind", BAD)
def test_broken_photos(here: Path, dehaze: Command, kind: str) -> None:
    path, _ = write_bad(Path("bad"), kind)
    code, out, err = dehaze(path, "-o", "out")
    assert code == 1
    assert err.startswith(f"error: {path}: ")
    assert len(err.splitlines()) == 1
    assert out == ""
    assert not Path("out").exists()


def test_too_little_memory_names_the_photo_and_a_sufficient_limit(
    here: Path, dehaze: Command
) -> None:
    code, out, err = dehaze("photos/a.png", "-o", "out", "--max-memory", "2MB")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {Path('photos/a.png')}: 53 x 37 pixels do not fit")
    assert "is enough" in err
    assert len(err.splitlines()) == 1
    assert not Path("out").exists()


def test_a_line_too_long_for_its_format_is_refused_before_the_work(
    here: Path, dehaze: Command
) -> None:
    Image.new("RGB", (100_000, 1)).save("line.png")
    code, _, err = dehaze("line.png", "-o", "out", "--format", "jpg")
    assert code == 1
    assert "100000 x 1 pixels; JPEG allows at most 65,535 on each side" in err
