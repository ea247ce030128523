"""Damages videos, and dehazes all of them in processes of their own, without a network."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from figures import Figures

STARTING = 60  # seconds that a process may take beyond its time
NAMES = ("a.mp4", "b.mkv", "c.mov", "d.ts")


def run(seed: int, seconds: float, folder: Path) -> Figures:
    """Runs cases until the time is over; what one process does not survive, the next goes on from.

    Args:
        seed: What decides all cases.
        seconds: How long to go on.
        folder: A folder to work in.
    """
    from dehaze.video_files import write_video

    for name in NAMES:
        flags = "+faststart" if name.endswith("mov") else ""
        write_video(folder / name, 20, size=(64, 48), flags=flags)
    figures = Figures()
    end = time.monotonic() + seconds
    case = 0
    while (left := end - time.monotonic()) > 0:
        words = [sys.executable, __file__, str(folder), str(seed), str(case), str(left)]
        try:
            child = subprocess.run(
                words, capture_output=True, text=True, timeout=left + STARTING, check=False
            )
            ended = f"exit {child.returncode}" if child.returncode else ""
            printed = child.stdout
        except subprocess.TimeoutExpired as error:
            ended, printed = "no answer", (error.stdout or b"").decode()
        for line in printed.splitlines():
            number, outcome = line.split(" ", 1)
            case = int(number) + 1
            if outcome.startswith("traceback"):
                figures.fault("traceback", f"{outcome}; seed {seed}, case {number}")
            else:
                figures.count(outcome)
        if ended:
            figures.fault(ended, f"seed {seed}, case {case}")
            case += 1
    return figures


def damage(content: bytes, draw: random.Random) -> bytes:
    """Returns a video that is cut off, or has other bytes, bits or a hole in it."""
    kind = draw.randrange(4)
    damaged = bytearray(content)
    if kind == 0:
        return content[: draw.randrange(len(content))]
    for _ in range(draw.choice((1, 3, 30))):
        # Headers, at either end, are small and worth more cases than their size.
        at = draw.choice(
            (draw.randrange(len(damaged)), draw.randrange(900), -draw.randrange(1, 900))
        )
        if kind == 1:
            damaged[at] = draw.randrange(256)
        elif kind == 2:
            damaged[at] ^= 1 << draw.randrange(8)
        else:
            at %= len(damaged)
            del damaged[at : at + draw.randrange(200)]
    return bytes(damaged)


def _child(folder: Path, seed: int, case: int, seconds: float) -> None:
    from ktdn_plugin.dehaze.video import dehaze_video
    from ktdn_plugin.errors import KTDNError
    from ktdn_plugin.videos import VideoOptions

    def same(image: Any) -> Any:
        return image

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        draw = random.Random(f"{seed} {case}")
        name = draw.choice(NAMES)
        hurt = folder / f"hurt{Path(name).suffix}"
        hurt.write_bytes(damage((folder / name).read_bytes(), draw))
        result = folder / "result.mkv"
        result.unlink(missing_ok=True)
        try:
            dehaze_video(hurt, result, same, VideoOptions())
            outcome = "dehazed" if result.exists() else "traceback: no result"
        except KTDNError as error:
            outcome = "refused"
            if "\n" in str(error) or result.exists():
                outcome = "traceback: not one line, or half a result"
        except Exception as error:
            outcome = f"traceback: {name} {type(error).__name__} {' '.join(str(error).split())}"
        left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        if left:
            outcome = f"traceback: {left[0]} is left"
        print(case, outcome, flush=True)
        case += 1


if __name__ == "__main__":
    _child(Path(sys.argv[1]), *map(int, sys.argv[2:4]), float(sys.argv[4]))
