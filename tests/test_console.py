"""Consoles that cannot print a name, and names that would act on a console."""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from pathlib import Path

import pytest
import torch
from helpers import ENCODER, write_png
from hypothesis import given
from hypothesis import strategies as st

from ktdn_plugin import KTDN
from ktdn_plugin.console import make_console_safe, print_lines, readable_size
from ktdn_plugin.errors import printable
from ktdn_plugin.report.tables import read_table

# Runs commands one after the other, as a person would in a console of few characters.
SEVERAL = """
import json, sys
from ktdn_plugin.cli import main
for words in json.load(sys.stdin):
    print("exit", words[0], main(words), flush=True)
"""


def commands_on(folder: Path, photos: dict[str, str]) -> list[list[str]]:
    """Makes what commands read in a folder, named after ``photos`` (hazy to clear)."""
    stem = Path(next(iter(photos))).stem
    for number, (hazy, clear) in enumerate(photos.items()):
        write_png(folder / "hazy.png", 2 * number, (40, 48))
        write_png(folder / "clear.png", 2 * number + 1, (40, 48))
        for file, name in (("hazy", hazy), ("clear", clear)):
            place = folder / "data" / file / name
            place.parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{file}.png").rename(place)
    torch.save({"params": KTDN(ENCODER).state_dict()}, folder / "net.pth")
    checkpoint = f"{stem}.pth"
    (folder / "net.pth").rename(folder / checkpoint)
    run = folder / "experiments" / stem
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"kind": "train", "iter": 1, "l_pix": 1.0, "lr": [1.0]}\n')
    network = ["--checkpoint", checkpoint, "--device", "cpu"]
    return [
        ["dehaze", "data/hazy", "--gt", "data/clear", "-o", f"out {stem}", *network],
        ["prepare", "data", f"store {stem}", "--workers", "1"],
        ["evaluate", "data/hazy", "--gt", "data/clear", "-o", f"{stem}.csv", "--per-image"],
        ["check-data", "data"],
        ["info", checkpoint],
        ["curves", f"experiments/{stem}"],
        ["report", f"experiments/{stem}", f"out {stem}"],
        ["convert", checkpoint, f"{stem}.safetensors", "--to", "safetensors"],
        ["options", "-o", f"options {stem}"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_names_that_the_console_cannot_print(run, tmp_path: Path, encoding: str) -> None:
    names = {"雾_1.png": "雾_1.png", "žluť_2.png": "žluť_2.png"}
    words = commands_on(tmp_path, names)
    environment = {"PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    done = run(program=("-c", SEVERAL), env=environment, input=json.dumps(words), encoding=encoding)
    assert not [line for line in done.stderr.splitlines() if "rror" in line], done.stderr
    exits = [line for line in done.stdout.splitlines() if line.startswith("exit ")]
    codes = {"check-data": 1}  # which finds that these are no pairs, and names them
    assert exits == [f"exit {name} {codes.get(name, 0)}" for name, *_ in words]
    assert "\\u96fe_1" in done.stdout
    for made in ("out 雾_1/metrics.csv", "out 雾_1/雾_1.png", "store 雾_1/data.mdb", "雾_1.csv"):
        assert (tmp_path / made).is_file(), made


@given(st.text())
def test_shown_names_do_not_act_on_a_terminal(name: str) -> None:
    shown = printable(name)
    assert shown.encode("utf-8").decode("utf-8") == shown
    kinds = {unicodedata.category(letter) for letter in shown}
    assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert len(f"[{shown}]".splitlines()) == 1
    assert printable(shown) == shown


def test_a_name_is_one_line(capsys: pytest.CaptureFixture) -> None:
    print_lines("a\nerror: b\r\x1b[2J\x9b2J\u202e\u2028.png", "霧\u3000\xa0ü.png")
    assert capsys.readouterr().out == (
        "a\\nerror: b\\r\\x1b[2J\\x9b2J\\u202e\\u2028.png\n霧\u3000\xa0ü.png\n"
    )


def test_what_libraries_print_is_safe_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, shown in (("utf-8", "\xe9"), ("ascii", "\\xe9")):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding, newline=""))
        make_console_safe()
        make_console_safe()
        print("\xe9 \x1b]0;title\x07 \udcff \u202e\r\x1b[A\x1b[31mred\x1b[0m\t\x1b[8mhidden")
        sys.stdout.flush()
        text = (
            f"{shown} \\x1b]0;title\\x07 \\udcff \\u202e\r\x1b[A\x1b[31mred\x1b[0m\t\\x1b[8mhidden"
        )
        assert raw.getvalue().decode(encoding) == f"{text}\n"


HOSTILE = (
    "\x1b[2J\x9b1A\u202egnp.\u2028x_1",
    "a\nerror: forged\r\x85b_2",
    "=1+1_3",
    "@'\t,\"_4",
    "caf\udce9_5",  # not UTF-8
)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the file system takes no such names")
def test_hostile_names_through_the_commands(run, tmp_path: Path) -> None:
    names = {f"{name}.png": f"{name}.png" for name in HOSTILE}
    words = commands_on(tmp_path, names)
    environment = {"PYTHONIOENCODING": "utf-8"}
    done = run(program=("-c", SEVERAL), env=environment, input=json.dumps(words), encoding="utf-8")
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    lines = said.split("\n")
    assert [line for line in lines if printable(line) != line] == []
    exits = [line for line in lines if line.startswith("exit ")]
    codes = {"check-data": 1}  # which finds that these are no pairs, and names them
    assert exits == [f"exit {name} {codes.get(name, 0)}" for name, *_ in words]
    assert not [line for line in lines if line.startswith("error: forged")]
    for table in (f"out {HOSTILE[0]}/metrics.csv", f"{HOSTILE[0]}.csv"):
        text = (tmp_path / table).read_bytes().decode("utf-8")
        assert all(printable(line) == line for line in text.split("\n"))
        assert {row.image for row in read_table(tmp_path / table).rows} == {*HOSTILE, ""}
    markdown = (tmp_path / f"{HOSTILE[0]}.md").read_bytes().decode("utf-8")
    assert all(printable(line) == line for line in markdown.split("\n"))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (5 * 2**29, "2.5 GiB"),
        (2000 * 2**30, "1.953 TiB"),
    ],
)
def test_numbers_of_bytes(count: int, text: str) -> None:
    assert readable_size(count) == text
