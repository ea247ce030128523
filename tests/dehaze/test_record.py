"""Results of another checkpoint or photo are neither kept nor measured as this run's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from dehaze.conftest import all_files, files, pixels
from PIL import Image
from skimage import data

from ktdn_plugin.data.prepare import prepare
from ktdn_plugin.dehaze.journal import FOLDER, RECORD, read_record
from ktdn_plugin.scenes.store import Store

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
    assert any(name.startswith(f"{FOLDER}/") for name in before)
    code, out, err = dehaze("photos", "-o", "out", "--checkpoint", other)
    assert (code, out) == (1, "")
    assert err == (
        f"error: {Path('out/a.png')}: is there already, made with another checkpoint (net.pth); "
        "--overwrite redoes existing results, -o names another folder\n"
    )
    assert (
        "made with --precision float32" in dehaze("photos", "-o", "out", "--precision", "bf16")[2]
    )
    assert "made with --strength 1;" in dehaze("photos", "-o", "out", "--strength", "0.7")[2]
    assert "made with --base-size auto;" in dehaze("photos", "-o", "out", "--base-size", "64")[2]
    assert "made with --quality 95" in dehaze("photos", "-o", "out", "--quality", "50")[2]
    assert {name: Path("out", name).read_bytes() for name in all_files("out")} == before
    # The same network by another name goes on, where only what is missing is made.
    shutil.copy(checkpoint, "copy.pth")
    Path("out/deeper/b.jpg").unlink()
    code, out, err = dehaze("photos", "-o", "out", "--checkpoint", "copy.pth")
    assert (code, err) == (0, "")
    assert "2 of 3 were there already" in out
    assert "perhaps" not in out


def test_one_photo_redone_leaves_the_others_what_they_are(
    here: Path, dehaze: Command, other: Path
) -> None:
    assert dehaze("photos", "-o", "out")[0] == 0
    old = pixels("out/a.png")
    assert dehaze("photos/a.png", "-o", "out", "--overwrite", "--checkpoint", other)[0] == 0
    assert (pixels("out/a.png") != old).any()
    results = read_record(Path("out"))
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
    said = "made earlier, perhaps by another checkpoint or from another photo: "
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


def test_another_photo_of_the_same_name(here: Path, dehaze: Command) -> None:
    for folder, left in (("trip_a", 0), ("trip_b", 200)):
        Path(folder).mkdir()
        Image.fromarray(data.astronaut()[:37, left : left + 53]).save(Path(folder, "1.png"))
    assert dehaze("trip_a/1.png", "-o", "trips")[0] == 0
    before = Path("trips/1.png").read_bytes()
    code, out, err = dehaze("trip_b/1.png", "-o", "trips")
    result, source = Path("trips/1.png"), Path("trip_a/1.png")
    again = "use another -o, or --overwrite"
    assert (code, out) == (1, "")
    assert err == f"error: {result} was made from another photo ({source}); {again}\n"
    assert result.read_bytes() == before
    # A copy of the photo goes on, the photo that has changed does not.
    Path("copies").mkdir()
    shutil.copy(source, "copies/1.png")
    code, out, err = dehaze("copies/1.png", "-o", "trips")
    assert (code, err, out) == (0, "", "1 of 1 was there already; --overwrite does it again\n")
    shutil.copy("trip_b/1.png", source)
    err = dehaze(source, "-o", "trips")[2]
    assert f"from another photo ({source}, which has changed since); {again}" in err
    assert dehaze("trip_b/1.png", "-o", "trips", "--overwrite")[0] == 0
    assert result.read_bytes() != before
    assert dehaze("trip_b/1.png", "-o", "trips")[1].startswith("1 of 1 was there already")
    # Of a record that says nothing of sources, as earlier versions' do.
    entry = read_record(Path("trips"))["1.png"]
    del entry["source"]
    shutil.rmtree(Path("trips", FOLDER))
    Path("trips", RECORD).write_text(json.dumps({"results": {"1.png": entry}}))
    assert "perhaps by another checkpoint or from another photo" in dehaze(
        "trip_b/1.png", "-o", "trips"
    )[1]  # fmt: skip


def test_another_image_of_a_store(here: Path, dehaze: Command) -> None:
    for name, bright in (("one", 0), ("two", 9)):
        for side in ("hazy", "GT"):
            Path(name, side).mkdir(parents=True)
            image = data.astronaut()[:37, :53] // 2 + bright
            Image.fromarray(image).save(Path(name, side, f"1_{side}.png"))
        prepare(Path(name), Path(f"{name} store"), split="val")
    assert dehaze("one store", "-o", "out")[0] == 0
    entry = read_record(Path("out"))["hazy/1_hazy.png"]["source"]
    fingerprint = Store("one store").info.fingerprint
    assert entry == {
        "path": str(Path("one store").absolute()), "fingerprint": fingerprint, "number": 0
    }  # fmt: skip
    code, _, err = dehaze("two store", "-o", "out")
    assert code == 1
    assert "was made from another photo (one store, image 0); use another -o" in err
    code, out, err = dehaze("one store", "-o", "out")
    assert (code, err, "1 of 1 was there already" in out) == (0, "", True)


def test_results_of_unknown_origin_are_reported_before_they_are_measured(
    here: Path, dehaze: Command
) -> None:
    shutil.copytree("photos", "clear")
    shutil.copytree("photos", "out")
    code, out, _ = dehaze("photos", "-o", "out", "--gt", "clear")
    assert code == 0
    assert out.index("made earlier, perhaps") < out.index("hazy PSNR")


def test_a_teacher_is_reported(here: Path, dehaze: Command, checkpoint: Path) -> None:
    for stage in ("teacher", "student"):
        content = {**torch.load(checkpoint), "ktdn": {"run": {"stage": stage}}}
        torch.save(content, f"{stage}.pth")
    code, _, err = dehaze("photos/a.png", "-o", "out", "--checkpoint", "teacher.pth")
    assert (code, err) == (
        0,
        "warning: teacher.pth is a teacher, which only reconstructs clear images; use the "
        "student trained with it\n",
    )
    assert dehaze("photos/a.png", "-o", "out2", "--checkpoint", "student.pth")[::2] == (0, "")
