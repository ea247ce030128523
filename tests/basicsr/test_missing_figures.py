"""Metrics that have no value for an image: named and counted, and the run goes on without."""

from __future__ import annotations

import json
from pathlib import Path

from helpers import evaluation_options, log_of, one, teacher_file, teacher_options, write_options
from helpers import write_png as write_photo

from ktdn_plugin import cli


def rows_of(folder: Path) -> list[dict]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    lines = (folder / "experiments/teacher/metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_a_metric_that_raises_or_gives_nan(pairs: Path, train) -> None:
    opt = teacher_options(4)
    opt["path"]["pretrain_network_g"] = str(teacher_file(pairs))
    opt["val"]["metrics"] = {
        # Needs a patch of 96 x 96 pixels; there is one such image.
        "niqe": {"type": "calculate_niqe", "crop_border": 0, "better": "lower"},
        # Its window of 11 pixels fits into none.
        "ssim": {"type": "calculate_ssim", "crop_border": 24},
        "psnr": {"type": "calculate_psnr", "crop_border": 0},
    }
    opt["val"]["best_metric"] = "niqe"
    small = len(list((pairs / "val/clear").iterdir()))
    write_photo(pairs / "val/clear/large.png", seed=3, size=(224, 224))
    train(opt)
    text = log_of(pairs, "teacher")
    warnings = [line for line in text.splitlines() if "no value for" in line]
    assert len(warnings) == 4  # of two metrics, in two validations
    assert f"val.metrics.niqe: val: no value for {small} of {small + 1} images" in warnings[0]
    assert "the mean is over the others" in warnings[0]
    assert "val/clear/" in warnings[0]
    assert f"val.metrics.ssim: val: no value for {small} of {small + 1} images" in warnings[1]
    figures = [row for row in rows_of(pairs) if row["kind"] == "val"]
    assert len(figures) == 2
    assert all(0 < row["niqe"] < 1000 and 0 < row["ssim"] <= 1 for row in figures)
    assert (pairs / "experiments/teacher/models/net_g_best.pth").is_file()


def test_a_metric_without_any_value(pairs: Path, train) -> None:
    opt = teacher_options(2)
    opt["val"]["metrics"]["ssim"]["crop_border"] = 24
    train(opt)
    (row,) = [row for row in rows_of(pairs) if row["kind"] == "val"]
    assert row["ssim"] is None
    assert row["psnr"] > 0
    assert "(it returned NaN); there is no mean" in log_of(pairs, "teacher")
    assert "# ssim: nan\n" in log_of(pairs, "teacher")
    assert (pairs / "experiments/teacher/models/net_g_best.pth").is_file()  # by psnr


def test_a_table_leaves_missing_figures_empty(pairs: Path, monkeypatch) -> None:
    monkeypatch.chdir(pairs)
    opt = evaluation_options(teacher_file(pairs))
    opt["val"]["metrics"]["ssim"]["crop_border"] = 24
    assert cli.main(["test", "-opt", str(write_options(pairs, opt))]) == 0
    head, row = (pairs / "results/evaluation/metrics.csv").read_text().splitlines()
    figures = dict(zip(head.split(","), row.split(","), strict=True))
    assert figures["ssim"] == ""
    assert float(figures["psnr"]) > 0


def test_a_border_that_leaves_nothing_is_refused(fails) -> None:
    opt = teacher_options()
    opt["val"]["metrics"]["psnr"]["crop_border"] = 25
    line = one(fails(opt))
    assert "datasets.val: val/clear/" in line
    assert "75 x 50 pixels leave nothing to measure within " in line
    assert "val.metrics.psnr.crop_border: 25; lower it" in line
    opt["val"]["metrics"]["psnr"]["crop_border"] = -1
    assert "val.metrics.psnr.crop_border: -1 must be a whole number" in one(fails(opt))
