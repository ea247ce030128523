"""Damages image files of every kind, reads them in each way, and writes what is read.

In processes of their own, each for many cases: decoders are written in C.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from figures import Figures
from odd_images import odd_images

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import (
    PHOTO_SUFFIXES,
    decode_photo,
    decode_rgb,
    not_kept,
    read_photo,
    read_size,
    write_photo,
)
from ktdn_plugin.photos.photo import to_8_bit

STARTING = 60  # seconds that a process may take beyond its time
PATIENCE = 20  # seconds that a case may take
NUMBERS = (0, 1, 2, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def run(seed: int, seconds: float, folder: Path) -> Figures:
    """Runs cases until the time is over; what one process does not survive, the next goes on from.

    Args:
        seed: What decides all cases.
        seconds: How long to go on.
        folder: A folder to work in.
    """
    figures = Figures()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    end = time.monotonic() + seconds
    case = 0
    while (left := end - time.monotonic()) > 0:
        words = [sys.executable, __file__, str(folder), str(seed), str(case), str(left)]
        try:
            child = subprocess.run(
                words,
                capture_output=True,
                text=True,
                timeout=left + STARTING,
                check=False,
                env=environment,
            )
            ended = f"signal {-child.returncode}" if child.returncode < 0 else ""
            ended = ended or (f"exit {child.returncode}" if child.returncode else "")
            printed, said = child.stdout, child.stderr
        except subprocess.TimeoutExpired as error:
            ended, printed, said = "no answer", (error.stdout or b"").decode(), ""
        for line in printed.splitlines():
            number, _, outcome = line.partition(" ")
            case = int(number) + 1
            if outcome.startswith("wrong"):
                figures.fault(
                    "wrong", f"{outcome.removeprefix('wrong: ')}; seed {seed}, case {number}"
                )
            else:
                figures.count(outcome)
        if ended:
            last = said.strip().splitlines()[-1:]
            figures.fault(ended, f"seed {seed}, case {case} {' '.join(last)}")
            case += 1
    return figures


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Changes a file at a few places, most of them in its head, where its structure is."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 12))):
        at = draw.randrange(min(len(data), draw.choice((64, 512, len(data)))) or 1)
        kind = draw.randrange(7)
        if kind == 0:
            data[at : at + 1] = bytes((draw.randrange(256),))
        elif kind == 1:
            data[at : at + 1] = bytes((data[at] ^ 1 << draw.randrange(8),)) if data else b""
        elif kind == 2:
            size = draw.choice("HI")
            number = draw.choice(NUMBERS) & (0xFFFF if size == "H" else 0xFFFFFFFF)
            packed = struct.pack(draw.choice("<>") + size, number)
            data[at : at + len(packed)] = packed
        elif kind == 3:
            del data[at : at + draw.randrange(1, 40)]
        elif kind == 4:
            data[at:at] = draw.randbytes(draw.randrange(1, 40))
        elif kind == 5:
            part = data[at : at + draw.randrange(1, 200)]
            place = draw.randrange(len(data) + 1)
            data[place : place + draw.choice((0, len(part)))] = part
        else:
            del data[draw.randrange(len(data) + 1) :]
        if not data:
            break
    return bytes(data)


def check(content: bytes, suffix: str, folder: Path, case: int) -> str:
    """Reads and writes a file; raises what must not happen."""
    source = folder / f"source{suffix}"
    source.write_bytes(content)
    lines = 1
    try:
        photo = decode_photo(content, source)
    except KTDNError as error:
        photo, lines = None, str(error).count("\n") + 1
    assert lines == 1, "more than one line"
    try:
        pixels = decode_rgb(content, source)
    except KTDNError:
        pixels = None
    try:
        size = read_size(source)
    except KTDNError:
        size = None
    assert (photo is None) == (pixels is None), "one reading is refused, the other is not"
    if photo is None or pixels is None:
        return "refused"
    assert np.array_equal(to_8_bit(photo.pixels), pixels), "two readings differ"
    assert size == pixels.shape[:2], f"size {size} of {pixels.shape}"
    target = folder / f"result{list(PHOTO_SUFFIXES)[case % len(PHOTO_SUFFIXES)]}"
    not_kept(target, photo)
    try:
        write_photo(target, photo)
    except KTDNError as error:
        if "has room for" not in str(error):
            raise
        return "too large to be written"
    again = read_photo(target)
    if PHOTO_SUFFIXES[target.suffix] in ("PNG", "TIFF"):
        assert np.array_equal(again.pixels, photo.pixels), f"{target.suffix} holds other pixels"
    else:
        assert again.pixels.shape == photo.pixels.shape, f"{target.suffix} has another size"
    return "read and written"


def main(folder: Path, seed: int, first: int, seconds: float) -> None:
    """Runs cases from one on, and prints what came of each."""
    seeds = list(odd_images().items())
    end = time.monotonic() + seconds
    case = first
    while time.monotonic() < end:
        draw = random.Random(f"{seed} {case}")
        name, (content, _) = draw.choice(seeds)
        data = damaged(content, draw)
        start = time.monotonic()
        try:
            outcome = check(data, Path(name).suffix, folder, case)
        except Exception as error:
            text = " ".join(str(error).split())
            outcome = f"wrong: {type(error).__name__} {text[:150]}, of {name}"
        if time.monotonic() - start > PATIENCE:
            outcome = f"wrong: took {time.monotonic() - start:.0f} s, of {name}"
        print(case, outcome, flush=True)
        case += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:4]), float(sys.argv[4]))
