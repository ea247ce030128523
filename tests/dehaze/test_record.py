"""Results of another checkpoint are neither kept nor measured as this one's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from dehaze.conftest import all_files, files, pixels

from ktdn_plugin.dehaze.record import RECORD

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def other(checkpoint: Path, here: Path) -> Path:
    """Another network's file."""
    content = torch.load(checkpoint)
    for value in content["params"].values():
        if value.is_floating_point():
            value *= 0.99
    torch.save(content, "other.pth")
    return Path("other.pth")


def test_another_checkpoint_and_another_precision(
    here: Path, dehaze: Command, other: Path, checkpoint: Path
) -> None:
    assert dehaze("photos", "-o", "out")[0] == 0
    before = {name: Path("out", name).read_bytes() for name in all_files("out")}
    assert RECORD in before
    code, out, err = dehaze("photos", "-o", "out", "--checkpoint", other)
    assert (code, out) == (1, "")
    assert err == (
        f"error: {Path('out/a.png')}: is there already, made with another checkpoint (net.pth); "
        "--overwrite does results anew, -o names another folder\n"
    )
    assert (
        "made with --precision float32" in dehaze("photos", "-o", "out", "--precision", "bf16")[2]
    )
    assert "made with --quality 95" in dehaze("photos", "-o", "out", "--quality", "50")[2]
    assert {name: Path("out", name).read_bytes() for name in all_files("out")} == before
    # The same network by another name goes on, where only what is missing is made.
    shutil.copy(checkpoint, "copy.pth")
    Path("out/deeper/b.jpg").unlink()
    code, out, err = dehaze("photos", "-o", "out", "--checkpoint", "copy.pth")
    assert (code, err) == (0, "")
    assert "2 of 3 were there already" in out
    assert "perhaps" not in out


def test_one_photo_done_anew_leaves_the_others_what_they_are(
    here: Path, dehaze: Command, other: Path
) -> None:
    assert dehaze("photos", "-o", "out")[0] == 0
    old = pixels("out/a.png")
    assert dehaze("photos/a.png", "-o", "out", "--overwrite", "--checkpoint", other)[0] == 0
    assert (pixels("out/a.png") != old).any()
    results = json.loads(Path("out", RECORD).read_text())["results"]
    assert {name: entry["checkpoint"] for name, entry in results.items()} == {
        "a.png": "other.pth", "deeper/b.jpg": "net.pth", "deeper/c.webp": "net.pth"
    }  # fmt: skip
    assert "b.jpg: is there already" in dehaze("photos", "-o", "out", "--checkpoint", other)[2]
    assert "a.png: is there already" in dehaze("photos", "-o", "out")[2]
    assert dehaze("photos", "-o", "out", "--checkpoint", other, "--overwrite")[0] == 0
    assert "3 of 3" in dehaze("photos", "-o", "out", "--checkpoint", other)[1]


def test_what_nothing_is_known_of(here: Path, dehaze: Command) -> None:
    assert dehaze("photos/a.png", "-o", "result.png")[0] == 0
    assert [name for name in files(".") if "/" not in name] == ["result.png"]
    said = "made earlier, perhaps by another checkpoint: "
    assert f"{said}result.png" in dehaze("photos/a.png", "-o", "result.png")[1]
    Path("out").mkdir()
    shutil.copy("result.png", "out/a.png")
    assert f"{said}{Path('out/a.png')}" in dehaze("photos/a.png", "-o", "out")[1]
    Path("out", RECORD).write_text("{")
    code, _, err = dehaze("photos/a.png", "-o", "out")
    assert (code, f"{RECORD}: broken; remove it" in err) == (1, True)


def test_a_missing_checkpoint_where_all_is_done(here: Path, dehaze: Command) -> None:
    assert dehaze("photos/a.png", "-o", "out")[0] == 0
    code, _, err = dehaze("photos/a.png", "-o", "out", "--checkpoint", "none.pth")
    assert (code, err) == (1, "error: none.pth: no such checkpoint file\n")
