"""Means, marks and gaps of a comparison's table."""

from __future__ import annotations

import csv
import io
import math

import pytest

from ktdn_plugin.csv_files import format_csv
from ktdn_plugin.evaluation.table import Table
from ktdn_plugin.metrics import Measure

HIGH = Measure("psnr", lambda image, clear: 0.0, "dB, RGB", decimals=2)
LOW = Measure("lpips", lambda image, clear: 0.0, lower_is_better=True)


def table(values: dict[str, list[tuple[float | None, float | None]]], split: str = "s/v") -> Table:
    images = [f"i{number}" for number in range(len(next(iter(values.values()))))]
    made = Table(split, [HIGH, LOW], {name: f"about {name}" for name in values}, images)
    for method, rows in values.items():
        for image, row in zip(images, rows, strict=True):
            for measure, value in zip((HIGH, LOW), row, strict=True):
                if value is not None:
                    made.add(image, method, measure.name, value)
    return made


def test_best_of_each_column_is_bold_as_it_is_shown() -> None:
    text = table({"a": [(10, 0.5), (20, 0.7)], "b": [(12, 0.9), (18.004, 0.1)]}).as_markdown()
    assert text.startswith("# Methods compared: split s/v, 2 images\n")
    assert "- `psnr`: dB, RGB\n" in text
    assert "| method | psnr ↑ | lpips ↓ |" in text
    # 15.00 and 15.002: equal as they are shown
    assert "| a | **15.00** | 0.6000 |\n| b | **15.00** | **0.5000** |" in text
    assert "| i0 | a | 10.00 | **0.5000** |\n| i0 | b | **12.00** | 0.9000 |" in text
    assert "| i1 | a | **20.00** | 0.7000 |\n| i1 | b | 18.00 | **0.1000** |" in text
    assert "- a: about a\n- b: about b" in text


def test_means_are_over_what_every_method_has() -> None:
    made = table({"a": [(10, 0.5), (20, 0.7)], "b": [(12, 0.9), (None, 0.1)]})
    assert made.mean("a", "psnr") == 10
    assert made.mean("b", "psnr") == 12
    assert made.mean("a", "lpips") == pytest.approx(0.6)
    gap = "psnr: means are over 1 of 2 images, those that every method has"
    assert made.gaps() == [gap]
    assert gap in made.screen(False)
    assert gap in made.as_markdown()
    assert "| i1 | b | - | **0.1000** |" in made.as_markdown()


def test_a_method_without_any_figure_does_not_take_the_others_means() -> None:
    made = table({"a": [(10, 0.5)], "b": [(None, None)]})
    assert made.mean("a", "psnr") == 10
    assert made.mean("b", "psnr") is None
    assert made.screen(False)[3].split() == ["b", "-", "-"]
    assert not made.is_empty
    assert table({"a": [(None, None)]}).is_empty


def test_csv_has_each_image_and_the_means() -> None:
    made = table({"a": [(10, 0.5), (math.inf, None)], "b|c": [(12, 0.9), (1, 0.1)]})
    rows = list(csv.DictReader(io.StringIO(format_csv(made.as_rows()))))
    assert [(row["image"], row["method"]) for row in rows] == [
        (image, method) for image in ("i0", "i1", "mean") for method in ("a", "b|c")
    ]
    assert {row["split"] for row in rows} == {"s/v"}
    assert float(rows[0]["psnr"]) == 10
    assert rows[2]["lpips"] == ""
    assert float(rows[4]["psnr"]) == math.inf
    assert float(rows[5]["lpips"]) == 0.9
    assert r"| b\|c |" in made.as_markdown()


def test_screen_has_images_on_request_and_says_what_is_better() -> None:
    made = table({"a": [(10, 0.5)]}, split="")
    assert made.screen(False) == [
        "unnamed split, 1 image; mean per method",
        "method   psnr   lpips",
        "a       10.00  0.5000",
        "lower is better: lpips",
    ]
    assert made.screen(True)[-1].split() == ["i0", "a", "10.00", "0.5000"]
