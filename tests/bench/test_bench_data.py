"""The benchmark of reading: its rows, and that it refuses to compare unequal work."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ktdn_plugin.bench import data as bench
from ktdn_plugin.bench.data_images import find_pairs, write_pairs, write_store
from ktdn_plugin.bench.data_readers import (
    Draw,
    DrawnSamples,
    Reader,
    check_equal,
    make_draws,
)
from ktdn_plugin.errors import KTDNError

SIZE, WIDTH, HEIGHT = 64, 320, 300
SMALL = {"size": SIZE, "seconds": 0.1, "samples": 10}
ROWS = [name for name, *_ in bench.FORMS]


def write_noise(path: Path, seed: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(("b", "a", "c")):
        write_noise(tmp_path / "photos" / "hazy" / f"{name}.png", number)
        write_noise(tmp_path / "photos" / "clear" / f"{name}.png", 10 + number)
    return tmp_path / "photos"


def test_the_command(photos: Path, run: Callable, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    # Not to be taken for the folder of that name from where the command is called.
    write_noise(photos / "hazy" / "photos" / "clear" / "z.png", 0)
    done = run(
        *("bench", "data", "--hazy", "photos/hazy", "--gt", "photos/clear"),
        *("--crop-size", SIZE, "--seconds", 0.2, "--workers", 0, 1),
        env={"TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("reader "))
    cells = [re.split(r"  +", line) for line in lines[start : start + 1 + len(ROWS)]]
    assert [row[0] for row in cells] == ["reader", *ROWS]
    assert {len(row) for row in cells} == {5}
    assert cells[1][3] == "1.0x"
    # Noise cannot be compressed: every form takes at least the pixels.
    assert min(float(row[4]) for row in cells[1:]) > 6 * HEIGHT * WIDTH * 3 / 2**20
    assert "images 3 pairs of" in done.stdout
    assert "320 x 300" in done.stdout
    assert "cores that read 1600 samples a second: " in done.stdout
    assert [name for name in ROWS if f"samples/s ({name})" in done.stdout] == ROWS
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("name", ROWS[1:])
def test_a_reader_that_gives_something_else_is_refused(
    name: str, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = DrawnSamples.__getitem__

    def read_wrongly(samples: DrawnSamples, number: int) -> dict:
        sample = read(samples, number)
        if samples is wrong and number == 2:
            sample["gt"][1, 5, 7] += 2**-20  # the smallest of differences counts
        return sample

    def check(readers: list[Reader], count: int) -> None:
        nonlocal wrong
        wrong = next(reader.samples for reader in readers if reader.name == name)
        check_equal(readers, count)

    wrong = None
    monkeypatch.setattr(DrawnSamples, "__getitem__", read_wrongly)
    monkeypatch.setattr(bench, "check_equal", check)
    with pytest.raises(KTDNError, match=r"clear, sample 2\)") as caught:
        bench.run_bench_data(photos / "hazy", photos / "clear", **SMALL)
    assert f"'{name}' and '{ROWS[0]}' give different samples" in str(caught.value)
    assert "ms/sample" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size is 0; it must be at least 1"),
        ({"size": 301}, "320 x 300 pixels are less than the crop; lower --crop-size 301"),
        ({"pairs": 0}, "pairs is 0; it must be at least 1"),
        ({"samples": 0}, "samples is 0; it must be at least 1"),
        ({"seconds": 0}, "seconds is 0; it must be above 0"),
        ({"seconds": float("nan")}, "seconds is nan; it must be above 0"),
        ({"workers": [0, -1]}, "workers is -1; it must be at least 0"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"clear": None}, "--hazy and --gt go together"),
        ({"hazy": Path("nowhere")}, "nowhere: no such folder"),
    ],
)
def test_wrong_arguments(change: dict, message: str, photos: Path) -> None:
    folders = {"hazy": photos / "hazy", "clear": photos / "clear"}
    with pytest.raises(KTDNError) as caught:
        bench.run_bench_data(**{**SMALL, **folders, **change})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_images(photos: Path, tmp_path: Path) -> None:
    write_noise(photos / "hazy" / "b.png", 0, (HEIGHT, WIDTH + 1))
    with pytest.raises(KTDNError, match=r"b\.png differ in size \(321 x 300 and 320 x 300\)"):
        bench.run_bench_data(photos / "hazy", photos / "clear", **SMALL)
    write_noise(photos / "hazy" / "b.png", 0)
    content = (photos / "clear" / "a.png").read_bytes()
    (photos / "clear" / "a.png").write_bytes(content[:1000])
    with pytest.raises(KTDNError, match=r"a\.png: not a readable image"):
        bench.run_bench_data(photos / "hazy", photos / "clear", **SMALL)
    write_noise(tmp_path / "others" / "z.png", 0)
    with pytest.raises(KTDNError, match="no hazy image has a clear partner"):
        bench.run_bench_data(photos / "hazy", tmp_path / "others", **SMALL)


def test_a_disk_that_is_too_small(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ktdn_plugin.bench.data_images.free_bytes", lambda _: 2**20)
    with pytest.raises(KTDNError, match=r"up to \d+ MiB are needed, 1 MiB are free"):
        bench.run_bench_data(photos / "hazy", photos / "clear", **SMALL)


def test_other_images_become_png_files(photos: Path, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    cv2.imwrite(str(photos / "hazy" / "a.png"), grey)
    before = (photos / "hazy" / "b.png").read_bytes()
    pairs = find_pairs(photos / "hazy", photos / "clear", 2, SIZE)
    list(write_pairs(tmp_path, pairs, 0))
    assert (tmp_path / "hazy" / "0001.png").read_bytes() == before
    written = cv2.imread(str(tmp_path / "hazy" / "0000.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(written, np.repeat(grey[..., None], 3, axis=2))


def test_pairs_made_of_photographs(tmp_path: Path) -> None:
    pairs = find_pairs(None, None, 1, 256)
    list(write_pairs(tmp_path, pairs, 3))
    hazy, clear = (cv2.imread(str(tmp_path / side / "0000.png")) for side in ("hazy", "clear"))
    assert hazy.shape == clear.shape == (1200, 1600, 3)
    assert hazy.mean() > clear.mean()
    # As much detail as photographs have: their PNGs are half as large as the pixels, or more.
    assert (tmp_path / "clear" / "0000.png").stat().st_size > clear.nbytes / 3
    assert len(list(write_store(tmp_path, 1))) == 2


def test_draws() -> None:
    draws = make_draws(3, 7, 5)
    assert draws == make_draws(3, 7, 5)
    assert draws != make_draws(3, 7, 6)
    assert sorted(draw.image for draw in draws[:3]) == [0, 1, 2]

    class Numbers:
        def __getitem__(self, index: int) -> tuple[int, float]:
            return index, random.random()

    one, other = DrawnSamples(Numbers(), draws), DrawnSamples(Numbers(), draws)
    assert [one[n][0] for n in range(7)] == [draw.image for draw in draws]
    assert other[4] == one[4]
    reader = Reader("numbers", DrawnSamples([torch.zeros(1)], [Draw(0, 0)]), 0)
    reader.take_turn(60, 4)
    assert (reader.taken, len(reader.times)) == (4, 1)
