"""Files, values and duplicates: the command on whole sets."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from checking.conftest import Check, Image, problems, read, write
from helpers import make_lmdbs, one

from ktdn_plugin.checking.values import judge_values, values_of

NAME = "cat_1.png"


def test_unreadable_files_are_all_named(healthy: Path, check: Check):
    whole = (healthy / "hazy" / NAME).read_bytes()
    (healthy / "hazy" / NAME).write_bytes(whole[: len(whole) // 2])
    (healthy / "clear/rocket_0.png").write_bytes(b"")
    done = check("set")
    assert done.returncode == 1
    lines = problems(done)
    assert [line.split(":")[0] for line in lines] == [
        f"error [unreadable] set/hazy/{NAME}",
        "error [unreadable] set/clear/rocket_0.png",
    ]
    assert "scenes of 8 pairs compared: 2 cannot be read" in done.stdout


def test_unpaired_files_are_named(healthy: Path, check: Check):
    (healthy / "clear" / NAME).unlink()
    done = check("set")
    assert done.returncode == 1
    line = one(problems(done))
    assert line.startswith("error [missing]")
    assert f"hazy/{NAME} has no clear image" in line


VALUES = {
    "a single colour": ("error", lambda image: np.full_like(image, 90)),
    "nearly black": ("warning", lambda image: image // 16),
    "small part of the range": ("warning", lambda image: 100 + image // 8),
    "exactly white": ("warning", lambda image: np.clip(image.astype(int) * 9, 0, 255)),
    "entirely black": ("error", lambda image: image * 0),
}


@pytest.mark.parametrize("words", VALUES)
def test_suspicious_values_are_found(healthy: Path, check: Check, words: str):
    severity, change = VALUES[words]
    clear = healthy / "clear/astronaut_0.png"
    write(clear, change(read(clear)).astype(np.uint8))
    done = check("set")
    found = [line for line in problems(done) if "[values]" in line]
    line = one(found)
    assert line.startswith(f"{severity} [values] set/clear/astronaut_0.png: ")
    assert words in line
    assert done.returncode == (severity == "error" or len(problems(done)) > 1)


def test_a_warning_is_an_error_with_strict(tmp_path: Path, check: Check):
    dark = np.random.RandomState(0).randint(0, 20, (40, 50, 3)).astype(np.uint8)
    write(tmp_path / "set/a.png", dark)
    assert check("set").returncode == 0
    done = check("set", "--strict")
    assert done.returncode == 1
    assert "nearly black" in one(problems(done))


@pytest.mark.parametrize("size", [(1, 1), (2, 3000), (40, 40)])
def test_values_of_any_shape(size: tuple[int, int]):
    image = np.arange(size[0] * size[1] * 3, dtype=np.uint32).astype(np.uint8)
    values = values_of(image.reshape(*size, 3))
    assert values.low <= values.high
    assert (values.low, values.high) == ((0, 2) if size == (1, 1) else (0, 255))
    assert bool(judge_values(values, "clear", "x")) == (size == (1, 1))


def split(healthy: Path) -> Path:
    """Moves two pairs into a validation set."""
    root = healthy.parent / "data"
    healthy.rename(root)
    (root / "train").mkdir()
    for side in ("hazy", "clear"):
        (root / side).rename(root / "train" / side)
        (root / "val" / side).mkdir(parents=True)
        for name in ("coffee_0.png", "coffee_1.png"):
            (root / "train" / side / name).rename(root / "val" / side / name)
    return root


def jpeg(rgb: Image, path: Path) -> None:
    assert cv2.imwrite(str(path), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])


def crop(rgb: Image) -> Image:
    height, width = rgb.shape[:2]
    return np.ascontiguousarray(rgb[height // 40 :, width // 40 :])


COPIES = {
    "re-encoded": lambda rgb: rgb,
    "smaller": lambda rgb: cv2.resize(rgb, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    "cropped": crop,
    "mirrored": lambda rgb: np.ascontiguousarray(rgb[:, ::-1]),
    "brighter": lambda rgb: np.rint(255 * (rgb / 255) ** 0.7).astype(np.uint8),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_in_the_validation_set_is_found(healthy: Path, check: Check, kind: str):
    root = split(healthy)
    for side in ("hazy", "clear"):
        copy = COPIES[kind](read(root / "train" / side / "cat_0.png"))
        jpeg(copy, root / "val" / side / "copy.jpg")
    done = check("data")
    assert done.returncode == 1
    line = one(problems(done))
    mirrored = r" \(mirrored\)" if kind == "mirrored" else ""
    wanted = rf"error \[duplicate\] data/train/clear/cat_0.png, data/val/clear/copy.jpg{mirrored}: "
    assert re.match(wanted, line)
    assert "1 between sets, 0 within sets" in done.stdout
    assert (healthy.parent / "check.png").exists()


def test_a_copy_in_one_set_is_a_warning(healthy: Path, check: Check):
    split(healthy)
    for side in ("hazy", "clear"):
        shutil.copy(
            healthy.parent / f"data/train/{side}/cat_0.png",
            healthy.parent / f"data/train/{side}/again.png",
        )
    done = check("data/train", "data/val")
    assert done.returncode == 0
    line = one(problems(done))
    assert line.startswith("warning [duplicate] data/train/clear/again.png, data/train/clear/cat_0")
    assert "0 between sets, 1 within sets" in done.stdout


def test_clear_images_alone(healthy: Path, check: Check):
    shutil.rmtree(healthy / "hazy")
    done = check("set")
    assert (done.returncode, problems(done)) == (0, [])
    assert "10 clear images without hazy ones" in done.stdout


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("nowhere",), "nowhere: no such folder"),
        (("set", "set"), "set: given twice"),
        (("set", "-o", "check.gif"), "check.gif: images can be written as"),
        (("set", "-o", "set"), "set: images can be written as"),
        (
            ("set", "-o", "set/hazy/cat_0.png/x.png"),
            "cat_0.png is not a folder; choose another place",
        ),
        (("set", "-o", "/proc/x/check.png"), "/proc/x/check.png: cannot be written ("),
        (("set", "-o", "set/clear/cat_0.png"), "set/clear/cat_0.png: is one of the images"),
        (("set", "--dataset", "nh-hase"), "did you mean 'nh-haze'"),
        (("set", "--split", "a", "--split", "b"), "set: has only one split, which --split names"),
        (("set", "--split", "a", "--split", "a"), "--split a: given twice"),
    ],
)
def test_what_cannot_be_checked_is_one_line(
    healthy: Path, check: Check, words: tuple[str, ...], wanted: str
):
    done = check(*words)
    assert done.returncode == 1
    assert done.stdout == ""
    assert wanted in one(done.stderr.strip().splitlines())


def test_unusable_arguments_have_an_exit_code_of_their_own(run: Check, check: Check):
    assert run("check-data", "set", "--no-such-flag").returncode == 2
    done = check("--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.replace("│", " ").split())
    assert "replaces an existing one" in text
    assert "exit code: 0 if there is no error, 1 if" in text


def test_the_output_is_the_same_each_time(healthy: Path, check: Check):
    for path in sorted((healthy / "hazy").iterdir())[::4]:
        write(path, read(path)[::-1])
    first, second = check("set"), check("set")
    assert first.stdout == second.stdout
    assert len(problems(first)) == 3
    assert check("set", "--workers", "1").stdout == check("set", "--workers", "3").stdout


def test_an_older_picture_is_not_taken_for_a_new_one(healthy: Path, check: Check):
    Path("check.png").write_bytes(b"old")
    done = check("set", "-o", "new/x.png")
    assert "No picture: nothing to show\n" in done.stdout
    assert not Path("new").exists()
    done = check("set")
    assert "nothing to show; check.png is from an earlier check\n" in done.stdout
    assert Path("check.png").read_bytes() == b"old"


def test_a_pipe_is_named_and_not_waited_for(healthy: Path, check: Check):
    (healthy / "hazy" / NAME).unlink()
    os.mkfifo(healthy / "hazy" / NAME)
    line = one(problems(check("set")))
    assert line.startswith(f"error [unreadable] set/hazy/{NAME}: not a regular file")


def test_basicsrs_lmdbs(tmp_path: Path, check: Check):
    noise = np.random.RandomState(0).randint(0, 256, (24, 24, 3)).astype(np.uint8)
    for side in ("hazy", "clear"):
        write(tmp_path / "set" / side / "a.png", noise)
    make_lmdbs(tmp_path / "set", tmp_path / "basicsr")
    assert "basicsr: 1 hazy and 1 clear image, 1 pair" in check("basicsr").stdout
    done = check("basicsr/hazy.lmdb")
    assert done.returncode == 1
    assert "whose clear ones are beside it; give basicsr" in one(done.stderr.splitlines())
