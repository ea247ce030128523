"""Odd file names through the real commands, in consoles of several encodings.

What is printed may act on no terminal, nothing ends in a traceback, and tables read back.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from figures import Figures

ALPHABETS = (
    "abcxyz0189_-. ",
    "\n\r\t\x07\x08\x1b\x7f",
    "\x80\x85\x9b\x9d",
    "\u202a\u202e\u2066\u2069\u200f\u200b\ufeff\u2028\u2029",
    "=+-@'\",;|\\%$`*<>&#",
    "\udc80\udcc3\udcff",
    "雾ñß\u0301\U0001f32b\u3000\xa0\u06f1",
    "\\x0d\\u202e[2J",
)
ENCODINGS = ("utf-8", "cp1252", "ascii")
PHOTOS = 3


def run(seed: int, seconds: float, folder: Path) -> Figures:
    """Fuzzes for a given time.

    Args:
        seed: Of the names.
        seconds: How long.
        folder: To work in.
    """
    figures = Figures()
    end = time.monotonic() + seconds
    case = 0
    while (left := end - time.monotonic()) > 0:
        done = subprocess.run(
            [sys.executable, __file__, str(seed), str(case), str(left)],
            cwd=folder,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for line in done.stdout.decode("ascii").splitlines():
            case, fault = json.loads(line)
            if fault is None:
                figures.count("done")
            else:
                figures.fault(fault[0], f"seed {seed}, case {case}: {fault[1]}")
        if done.returncode:
            kind = "traceback" if done.returncode > 0 else f"signal {-done.returncode}"
            end_of_it = done.stderr.decode("utf-8", "replace")[-300:]
            figures.fault(kind, f"seed {seed}, behind case {case}: {end_of_it!r}")
        case += 1
    return figures


def names_of(seed: int, case: int) -> list[str]:
    """Draws the names of a case; no two are one to any file system or pairing."""
    draw = random.Random(f"{seed}/{case}")
    pools = draw.sample(ALPHABETS, draw.randint(1, 4))
    texts = (
        "".join(draw.choice(draw.choice(pools)) for _ in range(draw.randint(1, 24)))
        for _ in range(PHOTOS)
    )
    # Two bytes that are no UTF-8 each may be a letter together, which the folder then has.
    return [
        os.fsdecode(os.fsencode(f"{text.lstrip('.')}_{number}"))
        for number, text in enumerate(texts)
    ]


def child(seed: int, case: int, seconds: float) -> None:
    """Runs cases in this process, and prints a line for each."""
    import torch
    from helpers import ENCODER

    from ktdn_plugin import KTDN

    torch.set_num_threads(1)
    torch.save({"params": KTDN(ENCODER).state_dict()}, "net.pth")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        fault = one_case(seed, case)
        sys.__stdout__.write(json.dumps([case, fault]) + "\n")
        sys.__stdout__.flush()
        case += 1


def one_case(seed: int, case: int) -> tuple[str, str] | None:
    """Runs the commands on a folder of odd names; returns what went wrong, if anything did."""
    from helpers import write_png

    names = names_of(seed, case)
    home = Path(f"case {case}")
    for number, name in enumerate(names):
        for side in ("hazy", "clear"):
            place = home / "data" / side
            write_png(place / "new.png", number, (34, 40))
            (place / "new.png").rename(place / f"{name}.png")
    odd = home / names[0]
    words = [
        ["dehaze", home / "data/hazy", "--gt", home / "data/clear", "-o", odd / "out"],
        ["evaluate", home / "data/hazy", "--gt", home / "data/clear", "-o", odd / "a.csv"],
        ["prepare", home / "data", odd / "store", "--workers", "1"],
        ["check-data", home / "data", "-o", odd / "check.png"],
        ["convert", "net.pth", odd / "net.safetensors", "--to", "safetensors"],
        ["info", odd / "net.safetensors"],
        ["report", odd / "out", odd / "a.csv", "-o", odd / "report.html"],
        ["options", "-o", odd / "options"],
    ]
    words[0] += ["--checkpoint", "net.pth", "--device", "cpu"]
    encoding = ENCODINGS[case % len(ENCODINGS)]
    for command in words:
        with captured(encoding) as said:
            code = called([str(word) for word in command])
        text = said[0]
        where = f"{command[0]} ({encoding}), names {names!a}"
        if "Traceback" in text:
            return "traceback", f"{where}: {text[-200:]!a}"
        shown = [line for line in text.split("\n") if not line.replace("\r", "").isprintable()]
        if acting := [line for line in shown if any(acts(letter) for letter in line)]:
            return "acts on the terminal", f"{where}: {acting[0]!a}"
        if code not in (0, 1) or (code == 1 and "error" not in text):
            return f"exit {code}", f"{where}: {text[-200:]!a}"
    return wrong_table(names, [odd / "out/metrics.csv", odd / "a.csv"])


def acts(letter: str) -> bool:
    """Returns whether a letter is none that a terminal merely shows."""
    from ktdn_plugin.errors import printable

    return letter not in "\r\t" and printable(letter) != letter


def wrong_table(names: list[str], tables: list[Path]) -> tuple[str, str] | None:
    """Compares the names in tables with those of the files."""
    from ktdn_plugin.csv_files import parse_csv

    for table in tables:
        header, *rows = parse_csv(table.read_bytes().decode("utf-8"))
        place = header.cells.index("image")
        found = {row.cells[place] for row in rows} - {"mean"}
        if found != set(names):
            return "table", f"{table.name} has {found!a} for {names!a}"
    return None


def called(words: list[str]) -> int:
    """Runs a command; whatever it raises becomes a traceback in what it says."""
    from ktdn_plugin.cli import main

    try:
        return main(words)
    except Exception:
        traceback.print_exc()
        return 1


@contextlib.contextmanager
def captured(encoding: str) -> Iterator[list[str]]:
    """Gives what is printed, to a console of this encoding."""
    raw = io.BytesIO()
    before = sys.stdout, sys.stderr
    console = io.TextIOWrapper(raw, encoding, errors="strict", newline="")
    sys.stdout = sys.stderr = console
    said: list[str] = []
    try:
        yield said
    finally:
        console.flush()
        sys.stdout, sys.stderr = before
        said.append(raw.getvalue().decode(encoding))


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    child(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
