from __future__ import annotations

import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktdn_plugin.curves.runs import read_run
from ktdn_plugin.report.axes import linear_axis, log_axis, short
from ktdn_plugin.report.charts import HEIGHT, WIDTH, Chart, draw_charts
from ktdn_plugin.report.contents import NamedRun

VALUES = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=6)


@given(VALUES)
def test_linear_axis_has_all_values_on_it(values: list[float]) -> None:
    axis = linear_axis(values)
    assert all(-1e-6 <= axis.at(value) <= 1 + 1e-6 for value in values)
    assert 2 <= len(axis.ticks) <= 8


@given(st.lists(st.floats(1e-12, 1e12), min_size=2, max_size=6, unique=True))
def test_log_axis_has_all_values_on_it(values: list[float]) -> None:
    axis = log_axis(values)
    assert all(-1e-6 <= axis.at(value) <= 1 + 1e-6 for value in values)
    assert len(axis.ticks) <= 6


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (1500, "1500"), (20000, "20k"), (3e6, "3M"), (1e-5, "1e-5")],
)
def test_ticks_are_short(value: float, text: str) -> None:
    assert short(value) == text


def charts_of(folder: Path, *records: dict, name: str = "run") -> list[Chart]:
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    return draw_charts([NamedRun(name, read_run(folder), False)])


def points(chart: Chart) -> list[tuple[float, float]]:
    """The curve's points in pixels; raises where the drawing is no XML."""
    tree = ElementTree.fromstring(chart.svg)
    path = next(one for one in tree.iter("path") if one.get("class") == "line c0")
    found = re.findall(r"[ML](\S+) ([\d.]+)", path.get("d") or "")
    return [(float(x), float(y)) for x, y in found]


def test_curves_are_where_the_values_are(tmp_path: Path) -> None:
    rows = [
        {"kind": "val", "iter": i, "set": "s", "psnr": v} for i, v in ((10, 2), (20, 4), (40, 3))
    ]
    (chart,) = charts_of(tmp_path, *rows)
    assert chart.title == "PSNR in dB on s"
    assert [one.text for one in chart.legend] == ["run: best 4.000 @ 20"]
    (x0, y0), (x1, y1), (x2, y2) = points(chart)
    assert x2 - x1 == pytest.approx(2 * (x1 - x0), abs=0.2)  # iterations 10, 20, 40
    assert y0 - y1 == pytest.approx(2 * (y2 - y1), abs=0.2)  # values 2, 4, 3; downwards
    assert chart.svg.count("<circle") == 3
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points(chart))


def test_gaps_and_broken_values(tmp_path: Path) -> None:
    values = [0.5, 0.25, math.nan, 0.125]
    rows = [{"kind": "train", "iter": i, "l_rec": v} for i, v in enumerate(values, 1)]
    (chart,) = charts_of(tmp_path, *rows)
    curve = next(d for d in re.findall(r'class="line c0" d="([^"]*)"', chart.svg) if "L" in d)
    assert curve.count("M") == 2
    assert "run: NaN or infinite @ 3" in [one.text for one in chart.legend]


def test_teacher_far_above_is_told_and_not_drawn(tmp_path: Path) -> None:
    teacher = {"kind": "teacher", "iter": 0, "set": "s", "psnr": 40.0}
    rows = [{"kind": "val", "iter": i, "set": "s", "psnr": 10.0 + i} for i in (1, 2)]
    (chart,) = charts_of(tmp_path, teacher, *rows)
    assert chart.legend[-1].text == "teacher: 40.00 (above)"
    assert "teacher" not in chart.svg.replace("teacher: 40.00", "")
    near = {**teacher, "psnr": 11.5}
    (chart,) = charts_of(tmp_path, near, *rows)
    assert 'class="line teacher"' in chart.svg


def test_names_are_escaped(tmp_path: Path) -> None:
    row = {"kind": "val", "iter": 1, "set": '<b>"&', "psnr": 1.0}
    (chart,) = charts_of(tmp_path, row, name="<i>")
    ElementTree.fromstring(chart.svg)
    assert "<b>" not in chart.svg
    assert "<i>" not in chart.svg
