"""What ``ktdn evaluate`` says of what it cannot use: one line, and nothing is written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ktdn_plugin import KTDNError
from ktdn_plugin.data.prepare import prepare
from ktdn_plugin.evaluation import evaluate as evaluate_methods
from ktdn_plugin.photos import read_rgb, write_rgb


@pytest.fixture
def refused(scenes, evaluate):
    """Runs a command that must be refused; gives its one line."""

    def run(*words: object) -> str:
        before = sorted(Path().rglob("*"))
        code, out, err = evaluate(*words)
        assert code == 1, out
        assert out == ""
        assert sorted(Path().rglob("*")) == before
        lines = err.splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    return run


def test_folders_that_are_not_there(refused) -> None:
    assert refused("ours", "--gt", "vall") == "vall: no such folder; did you mean 'val'?"
    line = refused("our", "--gt", "val")
    assert line == "our: no such folder; did you mean 'ours'?"
    line = refused("--gt", "val/clear", "--hazy", "val/hazi", "--baseline", "hazy")
    assert line == f"{Path('val/hazi')}: no such folder; did you mean 'hazy'?"
    line = refused("ours/01_hazy_ktdn_test.png", "--gt", "val")
    assert line.endswith("a file, not a folder; give its folder, or unpack it if it is an archive")
    assert f"{Path('nowhere/at/all')}: no such folder" in refused("a=nowhere/at/all", "--gt", "val")
    Path("empty").mkdir()
    assert refused("empty", "--gt", "val").startswith("empty: holds no image")


def test_images_that_do_not_pair(refused) -> None:
    Path("ours/02_hazy_ktdn_test.png").unlink()
    line = refused("ours", "--gt", "val")
    assert line.startswith(
        "ours: has no image for '02_GT' of val; names must match, or start the same"
    )
    Path("theirs/01.jpg").write_bytes(b"")
    line = refused("theirs", "--gt", "val")
    assert "01.jpg" in line
    assert "01.png could all be the image of '01_GT'" in line
    line = refused("--gt", "val/clear", "--hazy", "ours", "--baseline", "dcp")
    clear = Path("val/clear")
    assert line.startswith(f"{clear}: not all images have a partner, 1 problem: 02_GT.png has no ")


def test_sizes_that_differ(refused) -> None:
    write_rgb(Path("theirs/02.png"), read_rgb("theirs/02.png")[1:])
    line = refused("theirs", "--gt", "val")
    assert line == (
        f"{Path('theirs/02.png')} is 64 x 47, its ground truth {Path('val/clear/02_GT.png')} "
        "64 x 48; sizes must match, nothing is resized here"
    )


def test_missing_or_duplicate_options(refused) -> None:
    assert refused("--gt", "val").startswith("nothing to compare: give a folder of results")
    line = refused("--gt", "val/clear", "--baseline", "dcp")
    assert line == "--baseline dcp: needs hazy images, and there are none beside --gt; give --hazy"
    assert refused("--gt", "val/clear", "--checkpoint", "x.pth").startswith("--checkpoint x.pth:")
    line = refused("ours", "ours=theirs", "--gt", "val")
    assert line == "2 methods are called 'ours' (ours, theirs); use NAME=PATH for one"
    assert "must be NAME=PATH" in refused("=ours", "--gt", "val")
    assert "must be NAME=PATH" in refused("..=ours", "--gt", "val")


def test_what_does_not_fit(refused) -> None:
    prepare(Path("val"), Path("store"), split="part")
    assert "a store of hazy and clear images" in refused("store", "--gt", "val")
    line = refused("ours", "--gt", "store", "--split", "other")
    assert line == "split: other was requested, but store holds folders/part"
    line = refused("ours", "--gt", "val", "--dataset", "nh-hase")
    assert line.endswith("did you mean 'nh-haze'?")
    assert refused("--gt", "val", "--checkpoint", "no.pth").startswith("no.pth: no such checkpoint")
    Path("fake.pth").write_bytes(b"no checkpoint")
    assert refused("--gt", "val", "--checkpoint", "fake.pth").startswith("fake.pth: ")


def test_places_that_cannot_be_written(refused) -> None:
    line = refused("ours", "--gt", "val", "-o", "table.txt")
    assert (
        line
        == "-o table.txt: the table is written as .csv (and .md beside it); use the suffix .csv"
    )
    Path("taken.csv").mkdir()
    assert refused("ours", "--gt", "val", "-o", "taken.csv") == (
        "-o taken.csv: a folder; give a file"
    )
    line = refused("ours", "--gt", "val", "-o", "ours/01_hazy_ktdn_test.png/x.csv")
    assert line.endswith("is not a folder; choose another place")
    line = refused("ours", "--gt", "val", "--save", "saved")
    assert line.startswith("--save saved: there are no images to save")
    Path("file").touch()
    line = refused("--gt", "val", "--baseline", "dcp", "--save", "file")
    assert line.endswith("is not a folder; choose another place")
    (Path("val") / "dcp").symlink_to("hazy")
    for path in Path("val/hazy").iterdir():
        path.rename(path.with_name(path.name.replace("_hazy", "")))
    line = refused("--gt", "val", "--baseline", "dcp", "--save", "val", "--overwrite")
    assert line == f"{Path('val/dcp/01.png')}: is one of the images; choose another --save folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_closed_folder(refused) -> None:
    Path("closed").mkdir(mode=0o500)
    assert "cannot be written" in refused("ours", "--gt", "val", "-o", "closed/x.csv")


def test_broken_images_are_named_and_the_rest_is_measured(scenes, evaluate) -> None:
    content = Path("theirs/02.png").read_bytes()
    Path("theirs/02.png").write_bytes(content[: len(content) // 2])
    Path("val/clear/03_GT.png").write_bytes(b"")
    code, out, err = evaluate("ours", "theirs", "--gt", "val/clear")
    assert code == 1
    assert err.splitlines() == [
        f"error: theirs: {Path('theirs/02.png')}: not a readable image, but a truncated "
        "or damaged PNG; copy or download it again, or remove it",
        f"error: ground truth: {Path('val/clear/03_GT.png')}: empty file (0 bytes); copy or "
        "download it again",
        "2 problems; the rest was measured",
    ]
    assert "psnr: means are over 1 of 3 images, those that every method has" in out
    lines = Path("evaluation.csv").read_text().splitlines()
    cells = {tuple(line.split(",")[1:3]): line.split(",")[3:] for line in lines}
    assert cells["mean", "ours"] == cells["01", "ours"]
    assert cells["02", "theirs"] == cells["03", "ours"] == ["", ""]
    assert float(cells["02", "ours"][0]) > 30


def test_nothing_that_can_be_measured(refused) -> None:
    for path in Path("theirs").iterdir():
        path.write_bytes(b"x")
    line = refused("theirs", "--gt", "val/clear")
    assert line.startswith("no image could be measured: theirs: ")


def test_images_too_small_for_a_measure(scenes, evaluate) -> None:
    for folder in ("small/gt", "small/mine"):
        write_rgb(Path(folder, "x.png"), np.full((8, 9, 3), 90, np.uint8))
    code, out, err = evaluate("small/mine", "--gt", "small/gt")
    assert code == 1
    assert "x.png has no ssim: an image of 9 x 8 pixels is too small" in err
    assert out.splitlines()[2].split() == ["mine", "inf", "-"]


@pytest.mark.usefixtures("scenes")
def test_an_unknown_baseline_is_not_replaced_by_another() -> None:
    with pytest.raises(KTDNError, match=r"'dpc' is not a baseline .*did you mean 'dcp'"):
        evaluate_methods([], Path("val"), Path("t.csv"), baselines=["dpc"])
