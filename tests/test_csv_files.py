"""Names in CSV files: read back as they were, and no formulas."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktdn_plugin.csv_files import format_csv, from_cell, parse_csv, to_cell, write_csv
from ktdn_plugin.errors import printable

NAMES = st.text(st.characters() | st.sampled_from("\\xu0129cdefU'=+-@\r\n\t,\";"))


@given(st.lists(st.lists(NAMES, min_size=1), min_size=1))
def test_rows_are_read_back(rows: list[list[str]]) -> None:
    text = format_csv(rows)
    assert text.encode("utf-8").decode("utf-8") == text
    assert all(printable(line) == line for line in text.split("\n"))
    assert [line.cells for line in parse_csv(text)] == rows


@given(NAMES)
def test_no_cell_is_a_formula(name: str) -> None:
    cell = to_cell(name)
    if cell[:1] in ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"):
        float(cell)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1.png", "'=1+1.png"),
        ("'=1", "''=1"),
        ("-12.5", "-12.5"),
        ("a\rb", "a\\x0db"),
        ("caf\udce9", "caf\\udce9"),
        ("\\x0d", "\\x5cx0d"),
        ("C:\\runs\\new\\u2.pth", "C:\\runs\\new\\u2.pth"),
        ("霧\u3000ü", "霧\u3000ü"),
    ],
)
def test_cells(name: str, cell: str) -> None:
    assert to_cell(name) == cell
    assert from_cell(cell) == name


def test_cells_of_other_programs_stay_what_they_are() -> None:
    for cell in ("'quoted'", "C:\\new\\x.png", "a\\u0061", "\\U00110000"):
        assert from_cell(cell) == cell


def test_a_broken_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(csv.Error):
        list(parse_csv('a,"b\n'))
    write_csv(tmp_path / "a.csv", [("image", "psnr"), ("=x", 1.5)])
    assert (tmp_path / "a.csv").read_text() == "image,psnr\n'=x,1.5\n"
