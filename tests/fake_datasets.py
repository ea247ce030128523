"""Small copies of the public datasets: the right names and numbers, tiny pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ktdn_plugin.scenes import public_datasets

HEIGHT, WIDTH = 6, 8
BORDER = (8, 12)  # RESIDE's clear indoor images are larger than its hazy ones
AIRLIGHTS = (0.8, 0.85, 0.9, 0.95, 1)
SCATTERINGS = (0.04, 0.06, 0.08, 0.1, 0.12, 0.16, 0.2)
WEATHER = [f"{airlight}_{beta}" for airlight in AIRLIGHTS for beta in SCATTERINGS]


def write(path: Path, seed: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, (*size, 3)).astype(np.uint8)
    assert cv2.imwrite(str(path), pixels)


def write_pairs(root: Path, hazy: str, clear: str, count: int) -> None:
    for number in range(1, count + 1):
        write(root / hazy.format(number), number)
        write(root / clear.format(number), 1000 + number)


def write_its(root: Path, numbers: range) -> None:
    for number in numbers:
        write(root / f"clear/{number}.png", number, BORDER)
        write(root / f"trans/{number}_1.png", number)
        for index in range(1, 11):
            write(root / f"hazy/{number}_{index}_0.{index}5.png", 7 * number + index)


def write_ots(root: Path) -> None:
    for number in (5, 8969):
        write(root / f"clear/{number:04}.jpg", number)
        for index, weather in enumerate(WEATHER):
            write(root / f"part{1 + index % 4}/{number:04}_{weather}.jpg", number + index + 1)


def write_sots_indoor(root: Path) -> None:
    write(root / "outdoor/gt/0001.png", 3)
    for number in range(1400, 1450):
        write(root / f"indoor/gt/{number}.png", number, BORDER)
        for index in range(1, 11):
            write(root / f"indoor/hazy/{number}_{index}.png", 9 * number + index)


def write_sots_outdoor(root: Path) -> None:
    for number, hazes in ((1, 2), (2, 1)):
        write(root / f"gt/{number:04}.png", number)
        for index in range(hazes):
            write(root / f"hazy/{number:04}_0.8_{0.08 + 0.04 * index:.2}.jpg", 50 + number + index)


MAKERS: dict[str, Callable[[Path], None]] = {
    "nh-haze": lambda root: write_pairs(root, "{:02}_hazy.png", "{:02}_GT.png", 55),
    "nh-haze2": lambda root: write_pairs(root, "HAZY/{:02}.png", "GT/{:02}.png", 25),
    "o-haze": lambda root: write_pairs(
        root, "hazy/{:02}_outdoor_hazy.jpg", "GT/{:02}_outdoor_GT.JPG", 45
    ),
    "i-haze": lambda root: write_pairs(
        root, "# I-HAZY/hazy/{:02}_indoor_hazy.jpg", "# I-HAZY/GT/{:02}_indoor_GT.jpg", 35
    ),
    "dense-haze": lambda root: write_pairs(root, "hazy/{:02}_hazy.png", "GT/{:02}_GT.png", 55),
    "reside-its": lambda root: write_its(root, range(1, 4)),
    "reside-ots": write_ots,
    "sots-indoor": write_sots_indoor,
    "sots-outdoor": write_sots_outdoor,
}
COUNTS = {
    "reside-its": (30, 3),
    "reside-ots": (70, 2),
    "sots-indoor": (500, 50),
    "sots-outdoor": (3, 2),
}


def shrink_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the tables say of the small copies what they say of the real ones."""
    tiny = (HEIGHT, WIDTH)
    for name, real in public_datasets.DATASETS.items():
        changes: dict[str, object] = {}
        if real.sizes:
            clear = (tiny,) if real.center is None else (BORDER, tiny)
            changes["sizes"] = {"hazy": (tiny,), "clear": clear}
        if real.center is not None:
            changes["center"] = tiny
        if name in COUNTS:
            changes["counts"] = dict(zip(("hazy", "clear"), COUNTS[name], strict=True))
        if name == "reside-its":
            changes["numbers"] = range(1, 4)
        small = dataclasses.replace(real, **changes)  # type: ignore[arg-type]
        monkeypatch.setitem(public_datasets.DATASETS, name, small)  # type: ignore[arg-type]
