from __future__ import annotations

import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ktdn_plugin.curves.runs import read_run
from ktdn_plugin.report.charts import HEIGHT, WIDTH, Chart, draw_charts
from ktdn_plugin.report.contents import NamedRun


def charts_of(folder: Path, *records: dict, name: str = "run") -> list[Chart]:
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    return draw_charts([NamedRun(name, read_run(folder), False)])


def curves(chart: Chart, colour: str = "c0") -> list[str]:
    """The paths of a colour, bold ones last; raises where the drawing is no XML."""
    paths = ElementTree.fromstring(chart.svg).iter("path")
    return [one.get("d", "") for one in paths if one.get("stroke") == f"var(--{colour})"]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) ([\d.]+)", path)]


def test_curves_are_where_the_values_are(tmp_path: Path) -> None:
    rows = [
        {"kind": "val", "iter": i, "set": "s", "psnr": v} for i, v in ((10, 2), (20, 4), (40, 3))
    ]
    (chart,) = charts_of(tmp_path, *rows)
    assert chart.title == "PSNR in dB on s"
    assert [one.text for one in chart.legend] == ["run: best 4.000 @ 20"]
    (x0, y0), (x1, y1), (x2, y2) = points(curves(chart)[0])
    assert x2 - x1 == pytest.approx(2 * (x1 - x0), abs=0.2)  # iterations 10, 20, 40
    assert y0 - y1 == pytest.approx(2 * (y2 - y1), abs=0.2)  # values 2, 4, 3; downwards
    tree = ElementTree.fromstring(chart.svg)
    marks = [(float(one.get("x", 0)), float(one.get("y", 0))) for one in tree.iter("use")]
    assert marks == [pytest.approx(point, abs=0.01) for point in ((x0, y0), (x1, y1), (x2, y2))]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in marks)
    words = [one.text for one in tree.iter("text")]
    assert {"0", "10", "40", "2.0", "4.0"} <= set(words)


def test_gaps_and_broken_values(tmp_path: Path) -> None:
    values = [0.5, 0.25, math.nan, 0.125, 0.1]
    rows = [{"kind": "train", "iter": i, "l_rec": v} for i, v in enumerate(values, 1)]
    (chart,) = charts_of(tmp_path, *rows)
    assert curves(chart)[0].count("M") == 2
    assert [one.text for one in chart.legend] == ["run", "run: NaN or infinite @ 3"]


def test_teacher_far_above_is_stated_and_not_drawn(tmp_path: Path) -> None:
    teacher = {"kind": "teacher", "iter": 0, "set": "s", "psnr": 40.0}
    rows = [{"kind": "val", "iter": i, "set": "s", "psnr": 10.0 + i} for i in (1, 2)]
    (chart,) = charts_of(tmp_path, teacher, *rows)
    assert chart.legend[-1].text == "teacher: 40.00 (above)"
    assert "var(--soft)" not in chart.svg
    (chart,) = charts_of(tmp_path, {**teacher, "psnr": 11.5}, *rows)
    assert 'stroke="var(--soft)"' in chart.svg


def test_one_picture_each_time_in_the_pages_colours_alone(tmp_path: Path) -> None:
    rows = [
        {"kind": "train", "iter": i, "lr": [0.1 / i], "l_rec": 1 / i, "l_kt": i}
        for i in range(1, 40)
    ]
    charts = charts_of(tmp_path, *rows)
    assert charts == charts_of(tmp_path, *rows)
    assert [one.is_averaged for one in charts] == [True, True, False]
    identifiers = [one for chart in charts for one in re.findall(r' id="(\w+)"', chart.svg)]
    assert len(identifiers) == len(set(identifiers)) > 0
    for chart in charts:
        assert set(re.findall(r'(?:fill|stroke)="([^"]*)"', chart.svg)) <= {
            *("none", "var(--c0)", "var(--line)", "var(--faint)", "#000000")
        }
        tree = ElementTree.fromstring(chart.svg)
        assert not [one for one in tree.iter() if "style" in one.attrib or one.tag == "style"]


def test_names_are_escaped(tmp_path: Path) -> None:
    row = {"kind": "val", "iter": 1, "set": '<b>"&', "psnr": 1.0}
    (chart,) = charts_of(tmp_path, row, name="<i>")
    ElementTree.fromstring(chart.svg)
    assert "<b>" not in chart.svg
    assert "<i>" not in chart.svg
