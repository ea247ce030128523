"""``ktdn evaluate``: figures, tables, and what is built in."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ENCODER, make_lmdbs

from ktdn_plugin import KTDN, Dehazer, dark_channel_prior
from ktdn_plugin.data.prepare import prepare
from ktdn_plugin.metrics import psnr, psnr_y, ssim, ssim_y
from ktdn_plugin.photos import read_rgb, write_rgb

Scenes = dict[str, np.ndarray]


def rows(path: str = "evaluation.csv") -> dict[tuple[str, str], dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return {(row["image"], row["method"]): row for row in csv.DictReader(file)}


def test_two_methods_and_the_baselines_as_a_user_would(scenes: Scenes, run: Callable) -> None:
    done = run(
        "evaluate", "ours", "Theirs=theirs", "--gt", "val", "--baseline", "hazy", "dcp",
        "--split", "mine", "-o", "out/table.csv", "--y", "--save", "saved",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "split mine, 3 images; mean per method"
    assert lines[1].split() == ["method", "psnr", "ssim", "psnr_y", "ssim_y"]
    assert [line.split()[0] for line in lines[2:6]] == ["hazy", "dcp", "ours", "Theirs"]
    assert lines[6:] == [
        f"Table: {Path('out/table.csv')}, {Path('out/table.md')}",
        f"Images: {Path('saved/dcp')}",
    ]
    found = rows("out/table.csv")
    assert len(found) == (3 + 1) * 4
    assert {row["split"] for row in found.values()} == {"mine"}
    for name, clear in scenes.items():
        hazy = read_rgb(f"val/hazy/{name}_hazy.png")
        dehazed = read_rgb(f"saved/dcp/{name}.png")
        assert np.array_equal(dehazed, dark_channel_prior(hazy))
        images = {
            "hazy": hazy,
            "dcp": dehazed,
            "ours": read_rgb(f"ours/{name}_hazy_ktdn_test.png"),
            "Theirs": read_rgb(f"theirs/{name}.png"),
        }
        for method, image in images.items():
            for measure in (psnr, ssim, psnr_y, ssim_y):
                value = float(found[name, method][measure.__name__])
                assert value == pytest.approx(measure(image, clear), abs=1e-6)
    for method, line in zip(images, lines[2:6], strict=True):
        mean = np.mean([float(found[name, method]["psnr"]) for name in scenes])
        assert float(found["mean", method]["psnr"]) == pytest.approx(mean, abs=1e-6)
        assert line.split()[1] == f"{mean:.2f}"
    text = Path("out/table.md").read_text(encoding="utf-8")
    assert text.startswith("# Methods compared: split mine, 3 images")
    best = found["mean", "ours"]
    assert f"| ours | **{float(best['psnr']):.2f}** | **{float(best['ssim']):.4f}** |" in text


def test_stores_name_the_split_and_bring_the_hazy_images(scenes: Scenes, evaluate) -> None:
    prepare(Path("val"), Path("store"), split="part")
    write_rgb(Path("ours/notes.png"), np.zeros((5, 5, 3), np.uint8))
    code, out, err = evaluate("ours", "--gt", "store", "--baseline", "hazy", "--per-image")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "ours: 1 further image is without ground truth, ignored: ours/notes.png"
    assert lines[1] == "split folders/part, 3 images; mean per method"
    assert lines[6].split() == ["image", "method", "psnr", "ssim"]
    assert [line.split()[:2] for line in lines[7:9]] == [["01", "hazy"], ["01", "ours"]]
    assert rows()["01", "ours"]["split"] == "folders/part"
    of_store = rows()
    code, _, err = evaluate("ours", "--gt", "val/clear", "--hazy", "store", "--baseline", "hazy")
    assert (code, err) == (0, "")
    for key, row in rows().items():
        assert row == {**of_store[key], "split": "unnamed split"}
    make_lmdbs(Path("val"), Path("lmdbs"))
    code, _, err = evaluate("ours", "--gt", "lmdbs", "--baseline", "hazy")
    assert (code, err) == (0, "")
    for key, row in rows().items():
        assert row == {**of_store[key], "split": "unnamed split"}
    code, _, err = evaluate("ours", "--gt", "lmdbs/clear.lmdb")
    assert (code, err) == (0, "")
    assert rows()["mean", "ours"] == {**of_store["mean", "ours"], "split": "unnamed split"}


def test_results_may_be_a_store(scenes: Scenes, evaluate) -> None:
    prepare(Path("theirs"), Path("store"))
    code, _, err = evaluate("a=store", "b=theirs", "--gt", "val/clear")
    assert (code, err) == (0, "")
    found = rows()
    for name in (*scenes, "mean"):
        assert found[name, "a"] == {**found[name, "b"], "method": "a"}


def test_a_public_dataset_by_its_layout(scenes: Scenes, evaluate) -> None:
    for name in range(36, 41):
        clear = scenes[f"0{name % 3 + 1}"]
        write_rgb(Path(f"O/{name}_outdoor_GT.jpg"), clear)
        write_rgb(Path(f"O/{name}_outdoor_hazy.jpg"), clear // 2)
    words = ("--dataset", "o-haze", "--split", "val", "--baseline", "hazy")
    code, out, err = evaluate("--gt", "O", *words)
    assert (code, err) == (0, "")
    assert out.startswith("split o-haze/val, 5 images;")
    Path("O/40_outdoor_GT.jpg").unlink()
    code, _, err = evaluate("--gt", "O", *words)
    assert code == 1
    assert "40_outdoor_GT.jpg is missing" in err
    code, out, _ = evaluate("--gt", "O", *words, "--allow-incomplete")
    assert code == 0
    assert out.startswith("split o-haze/val (incomplete: 1 missing), 4 images;")
    line = evaluate("--gt", "O", "--baseline", "hazy")[2]
    assert "O: not all images have a partner, 1 problem: 40_outdoor_hazy.jpg has no clear" in line


TEACHER = {"stage": "teacher", "name": "teacher", "iteration": 2}


def test_a_checkpoint_runs_and_is_saved(scenes: Scenes, evaluate) -> None:
    torch.manual_seed(0)
    torch.save({"params": KTDN(ENCODER).state_dict()}, "net.pth")
    words = ("--gt", "val", "--checkpoint", "ktdn=net.pth", "--encoder", ENCODER)
    words = (*words, "--device", "cpu", "--save", "saved")
    code, out, err = evaluate(*words)
    assert (code, err) == (0, "")
    assert "\nktdn " in out
    dehazer = Dehazer("net.pth", device="cpu", encoder=ENCODER)
    for name, clear in scenes.items():
        image = dehazer(read_rgb(f"val/hazy/{name}_hazy.png"))
        assert np.array_equal(read_rgb(f"saved/ktdn/{name}.png"), image)
        assert float(rows()[name, "ktdn"]["psnr"]) == pytest.approx(psnr(image, clear), abs=1e-6)
    before = [path.stat().st_mtime_ns for path in sorted(Path("saved/ktdn").iterdir())]
    assert evaluate(*words)[::2] == (0, "")  # its own images stay, with their figures
    assert [path.stat().st_mtime_ns for path in sorted(Path("saved/ktdn").iterdir())] == before
    write_rgb(Path("saved/ktdn/01.png"), scenes["01"])
    code, _, err = evaluate(*words)
    assert code == 1
    assert err == f"error: {Path('saved/ktdn/01.png')}: exists; --overwrite replaces it\n"
    torch.save({"params": KTDN(ENCODER).state_dict(), "ktdn": {"run": TEACHER}}, "net.pth")
    assert evaluate(*words, "--overwrite")[::2] == (
        0,
        "warning: net.pth is a teacher, which only reconstructs clear images; use the "
        "student trained with it\n",
    )


def test_help_says_the_rule_and_the_licence(evaluate) -> None:
    code, out, _ = evaluate("--help")
    assert code == 0
    text = " ".join(out.split())
    assert "01_hazy_ktdn_test pair with 01_GT.png" in text
    assert "non-commercial use only" in text
