"""``ktdn dehaze --gt``: pairs by name, the table on screen and as CSV, with the split's name."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dehaze.conftest import files, pixels
from PIL import Image
from skimage import data

from ktdn_plugin.data.prepare import prepare
from ktdn_plugin.dehaze import dehaze_all
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.metrics import measure

Command = Callable[..., tuple[int, str, str]]


def brighter(image: np.ndarray) -> np.ndarray:
    return np.minimum(image.astype(int) + 9, 255).astype(np.uint8)


@pytest.fixture
def scenes(here: Path) -> Path:
    """``set/hazy`` and ``set/GT``: three scenes, 01_hazy.png and 01_GT.png and so on."""
    for number in (1, 2, 3):
        clear = data.astronaut()[100 * number : 100 * number + 40, 50:110]
        hazy = (clear * 0.5 + 100).astype(np.uint8)
        for kind, image in (("hazy", hazy), ("GT", clear)):
            Path("set", kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(Path("set", kind, f"0{number}_{kind}.png"))
    return here


def table(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def check(rows: list[dict[str, str]], split: str, dehazed: str) -> None:
    assert [row["image"] for row in rows] == ["01_hazy", "02_hazy", "03_hazy", "mean"]
    assert {row["split"] for row in rows} == {split}
    columns = ("hazy_psnr", "hazy_ssim", "dehazed_psnr", "dehazed_ssim")
    for number, row in enumerate(rows[:3], start=1):
        clear = pixels(f"set/GT/0{number}_GT.png")
        before = measure(pixels(f"set/hazy/0{number}_hazy.png"), clear)
        after = measure(pixels(dehazed.format(number)), clear)
        assert [float(row[key]) for key in columns] == pytest.approx([*before, *after], abs=1e-4)
    for key in columns:
        mean = np.mean([float(row[key]) for row in rows[:3]])
        assert float(rows[3][key]) == pytest.approx(mean, abs=1e-4)


def test_table_of_a_folder(scenes: Path, dehaze: Command) -> None:
    words = ("set/hazy", "-o", "out", "--gt", "set/GT", "--split", "mine", "--compare")
    code, out, err = dehaze(*words)
    assert (code, err) == (0, "")
    rows = table("out/metrics.csv")
    check(rows, "mine", "out/0{}_hazy.png")
    lines = out.splitlines()
    assert lines[0] == "split: mine"
    assert lines[2].split() == [
        "01_hazy",
        f"{float(rows[0]['hazy_psnr']):.2f}",
        "/",
        f"{float(rows[0]['hazy_ssim']):.3f}",
        f"{float(rows[0]['dehazed_psnr']):.2f}",
        "/",
        f"{float(rows[0]['dehazed_ssim']):.3f}",
    ]
    assert lines[5].startswith("mean")
    assert lines[6] == f"Table: {Path('out/metrics.csv')}"
    assert pixels("out/01_hazy_compare.png").shape[1] > 3 * 60
    # A second run measures what it skips, too.
    Path("out/02_hazy.png").unlink()
    first = Path("out/metrics.csv").read_text()
    code, out, _ = dehaze(*words)
    assert "2 of 3 were there already" in out
    assert Path("out/metrics.csv").read_text() == first


def test_lossy_results_are_measured_as_they_lie_in_their_files(scenes: Path) -> None:
    dehaze_all(
        [Path("set/hazy")],
        Path("out"),
        lambda: brighter,
        ground_truth=Path("set/GT"),
        form="jpg",
        quality=40,
    )
    check(table("out/metrics.csv"), "unnamed split", "out/0{}_hazy.jpg")


def test_a_store_knows_its_clear_images_and_its_split(
    scenes: Path, capsys: pytest.CaptureFixture
) -> None:
    prepare(Path("set"), Path("a store"), split="val-3")
    capsys.readouterr()
    dehaze_all([Path("a store")], Path("out"), lambda: brighter)
    out = capsys.readouterr().out
    names = [f"hazy/0{number}_hazy.png" for number in (1, 2, 3)]
    assert files("out") == [*names, "metrics.csv"]
    rows = table("out/metrics.csv")
    assert {row["split"] for row in rows} == {"folders/val-3"}
    assert out.startswith("split: folders/val-3\n")
    assert np.array_equal(pixels(f"out/{names[0]}"), brighter(pixels(f"set/{names[0]}")))
    # The store as ground truth of a folder of its hazy images, and of results of that name.
    dehaze_all([Path("set/hazy")], Path("out2"), lambda: brighter, ground_truth=Path("a store"))
    check(table("out2/metrics.csv"), "folders/val-3", "out2/0{}_hazy.png")


def test_a_store_without_hazy_images(scenes: Path, capsys: pytest.CaptureFixture) -> None:
    prepare(Path("set"), Path("clear store"), clear_only=True)
    with pytest.raises(KTDNError, match=r"clear store: .*only clear images, none to dehaze"):
        dehaze_all([Path("clear store")], Path("out"), lambda: brighter)


def test_a_photo_without_ground_truth_is_named(scenes: Path, dehaze: Command) -> None:
    Image.fromarray(data.coffee()[:40, :60]).save("set/hazy/04_hazy.png")
    Image.fromarray(data.coffee()[:20, :60]).save("set/hazy/05_hazy.png")
    Image.fromarray(data.coffee()[:40, :60]).save("set/GT/05_GT.png")
    code, out, err = dehaze("set/hazy", "-o", "out", "--gt", "set/GT")
    assert code == 1
    assert err.splitlines()[0] == "error: 2 of 5 could not be measured:"
    assert err.splitlines()[1].startswith(
        f"error: {Path('set/hazy/04_hazy.png')} has no clear image"
    )
    assert "05_hazy.png is 60 x 20, its ground truth" in err.splitlines()[2]
    assert "Dehazed: out (5 of 5)" in out
    check(table("out/metrics.csv"), "unnamed split", "out/0{}_hazy.png")


def test_ground_truth_of_none_is_reported_before_the_work(scenes: Path, dehaze: Command) -> None:
    Path("others").mkdir()
    Image.fromarray(data.coffee()[:40, :60]).save("others/cup.png")
    code, out, err = dehaze("set/hazy", "-o", "out", "--gt", "others")
    assert (code, out) == (1, "")
    assert err == (
        f"error: {Path('set/hazy/01_hazy.png')} has no clear image (--gt others); none of the 3 "
        "photos has its ground truth\n"
    )
    assert not Path("out").exists()


def test_a_split_that_no_table_would_show(scenes: Path, dehaze: Command) -> None:
    prepare(Path("set"), Path("a store"), split="val-3")
    for words in (("a store",), ("set/hazy", "--gt", "a store")):
        code, _, err = dehaze(*words, "-o", "out", "--split", "foo")
        assert (code, err) == (
            1, "error: --split foo: a store knows its split, folders/val-3; remove it\n"
        )  # fmt: skip
    assert "--split foo: only labels the table" in dehaze("set/hazy", "--split", "foo")[2]
    assert not Path("out").exists()


def test_ground_truth_is_never_written_over(scenes: Path, dehaze: Command) -> None:
    Path("clear").mkdir()
    for number in (1, 2, 3):
        os.link(f"set/GT/0{number}_GT.png", f"clear/0{number}_hazy.png")
    code, _, err = dehaze("set/hazy", "-o", "clear", "--gt", "clear", "--overwrite")
    assert code == 1
    assert "would replace" in err
    code, _, err = dehaze("set/hazy", "-o", "out", "--gt", "set/TG")
    assert (code, err) == (1, f"error: {Path('set/TG')}: no such folder\n")
    assert not Path("out").exists()


def test_a_single_file_has_its_own_table(scenes: Path) -> None:
    dehaze_all(
        [Path("set/hazy/01_hazy.png")],
        Path("result.png"),
        lambda: brighter,
        ground_truth=Path("set/GT"),
    )
    assert [row["image"] for row in table("result_metrics.csv")] == ["01_hazy", "mean"]


DATA = Path(os.environ.get("KTDN_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.skipif(
    not (DATA / "real_pairs").is_dir(), reason="KTDN_DATA names no folder with real_pairs"
)
def test_real_pairs(here: Path, dehaze: Command) -> None:
    names = sorted((DATA / "real_pairs" / "hazy").glob("nh_haze_*"))[:2]
    assert names
    code, _, err = dehaze(*names, "-o", "out", "--gt", DATA / "real_pairs" / "clear")
    assert (code, err) == (0, "")
    assert [row["image"] for row in table("out/metrics.csv")][:-1] == [n.stem for n in names]
