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
from ktdn_plugin.bench.ways import Way
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.opening import open_scenes

SIZE, WIDTH, HEIGHT = 64, 320, 300
SMALL = {"size": SIZE, "steps": 1}
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
        *("--crop-size", SIZE, "--steps", 1, "--warmup", 0),
        env={"TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("way "))
    cells = [re.split(r"  +", line) for line in lines[start : start + 1 + len(ROWS)]]
    assert [row[0] for row in cells] == ["way", *ROWS]
    assert {len(row) for row in cells} == {7}
    assert cells[1][3] == "1.00x"
    # Noise cannot be compressed: every form takes at least the pixels.
    assert min(float(row[-1]) for row in cells[1:]) > 6 * HEIGHT * WIDTH * 3 / 2**20
    assert "images 3 pairs of" in done.stdout
    assert list(scratch.iterdir()) == []


def test_a_reader_that_gives_something_else_is_refused(photos: Path) -> None:
    batch = {"lq": torch.rand(2, 3, 8, 8), "gt": torch.rand(2, 3, 8, 8)}
    other = {**batch, "gt": batch["gt"].clone()}
    other["gt"][1, 2, 5, 7] += 2**-20  # the smallest of differences counts
    ways = [Way(name, {}, result={"digest": bench.digest(batch)}) for name in ROWS]
    bench.check_equal(ways)
    ways[2].result = {"digest": bench.digest(other)}
    with pytest.raises(KTDNError, match=f"'{ROWS[2]}' and '{ROWS[0]}' give different samples"):
        bench.check_equal(ways)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size is 0; it must be at least 1"),
        ({"size": 301}, "320 x 300 pixels are smaller than the crop; lower --crop-size 301"),
        ({"pairs": 0}, "pairs is 0; it must be at least 1"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
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


def test_other_images_become_png_files(photos: Path, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    cv2.imwrite(str(photos / "hazy" / "a.png"), grey)
    pairs = bench.find_pairs(photos / "hazy", photos / "clear", 2)
    assert pairs is not None
    bench.write_files(tmp_path, map(bench.read_pair, pairs), SIZE)
    written = cv2.imread(str(tmp_path / "hazy" / "0000.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(written, np.repeat(grey[..., None], 3, axis=2))


def test_pairs_made_of_photographs(tmp_path: Path) -> None:
    bench.write_files(tmp_path, bench.make_pairs(1, 3), 256)
    hazy, clear = (cv2.imread(str(tmp_path / side / "0000.png")) for side in ("hazy", "clear"))
    assert hazy.shape == clear.shape == (1200, 1600, 3)
    assert hazy.mean() > clear.mean()
    # As much detail as photographs have: their PNGs are half as large as the pixels, or more.
    assert (tmp_path / "clear" / "0000.png").stat().st_size > clear.nbytes / 3
    assert len(open_scenes(tmp_path / "store")) == 1


def test_workers_read_the_same(photos: Path, tmp_path: Path) -> None:
    pairs = bench.find_pairs(photos / "hazy", photos / "clear", 2)
    assert pairs is not None
    bench.write_files(tmp_path, map(bench.read_pair, pairs), SIZE)
    results = []
    for workers in (0, 1):
        kind, store = bench.FORMS[2][1], str(tmp_path / "store")
        step = bench.prepare("cpu", kind, None, store, SIZE, 2, workers, 0)
        results.append(step()())
        assert results[-1]["count"] >= bench.BATCH_SIZE
    assert results[0]["digest"] == results[1]["digest"]


def test_samples_are_drawn_alike_whoever_reads() -> None:
    class Numbers:
        def __getitem__(self, index: int) -> tuple[int, float]:
            return index, random.random()

    one, other = (bench.DrawnSamples(Numbers(), 3, 5) for _ in range(2))
    assert [one[n][0] for n in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert other[4] == one[4] != one[1]
    assert bench.DrawnSamples(Numbers(), 3, 6)[4] != one[4]
