"""A disk that fills up in the middle of a folder: nothing half-written, and the rest later."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from dehaze.conftest import all_files
from PIL import Image

from ktdn_plugin.dehaze import dehaze_all
from ktdn_plugin.dehaze.journal import FOLDER, read_record
from ktdn_plugin.errors import KTDNError


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_others_are_made_once_there_is_room(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.chdir(tmp_path)
    resize(small_disk, "400k")
    Path("photos").mkdir()
    noise = np.random.default_rng(0)
    for number in range(16):  # 49 kB each
        image = noise.integers(0, 256, (128, 128, 3), np.uint8)
        Image.fromarray(image).save(f"photos/{number:02}.png")
    Path("net.pth").write_bytes(b"a network")
    made = []

    def network(image):
        made.append(1)
        return 255 - image

    def run() -> object:
        out = small_disk / "out"
        return dehaze_all(
            [Path("photos")], out, lambda: network, checkpoint=Path("net.pth"), workers=workers
        )

    with pytest.raises(KTDNError, match="No space left on device") as error:
        run()
    assert " were not tried; the same command goes on with them" in str(error.value)
    assert len(made) < 16  # the others were not tried
    there = [name for name in all_files(small_disk / "out") if FOLDER not in name]
    assert 0 < len(there) < 16
    for name in there:
        hazy = np.asarray(Image.open(Path("photos", name)))
        assert np.array_equal(np.asarray(Image.open(small_disk / "out" / name)), 255 - hazy)
    resize(small_disk, "20m")
    made.clear()
    run()
    assert len(made) == 16 - len(there)
    assert set(read_record(small_disk / "out")) == {f"{number:02}.png" for number in range(16)}
