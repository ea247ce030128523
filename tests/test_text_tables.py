"""Tables as they come out of a pipe."""

from __future__ import annotations

import pytest

from ktdn_plugin.text_tables import markdown_lines, table_lines

ROWS = [["name", "ms"], ["plain", "1.5"], ["ours", "100.25"]]


@pytest.mark.parametrize("columns", ["1", "20", "200"])
def test_nothing_is_cut_or_wrapped(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert table_lines(ROWS) == ["name       ms", "plain     1.5", "ours   100.25"]
    wide = "x " * 500
    assert table_lines([["a", wide.strip(), "1"]], "ll") == [f"a  {wide.strip()}  1"]


def test_cells_are_text_whatever_is_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = table_lines([["[red]a[/red] :smile: \x1b[2J\n", "1"], ["山", "22"]])
    shown = "[red]a[/red] :smile: \\x1b[2J\\n"
    assert lines == [f"{shown}   1", f"山{' ' * len(shown)}22"]  # as wide as two letters


def test_what_is_at_the_end_of_some_rows() -> None:
    lines = table_lines([["name", "ms", ""], ["a", "1", ""], ["b", "", "failed: no"]], "lrl")
    assert lines == ["name  ms", "a      1", "b         failed: no"]


def test_markdown() -> None:
    assert markdown_lines(ROWS) == [
        "| name | ms |",
        "| --- | ---: |",
        "| plain | 1.5 |",
        "| ours | 100.25 |",
    ]
