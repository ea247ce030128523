"""Evaluations that resume, and in shares: each image measured once, one table in the end."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ktdn_plugin.evaluation.record import FOLDER
from ktdn_plugin.photos import write_rgb
from ktdn_plugin.scenes.images import FileImages
from ktdn_plugin.shards import Shard

WORDS = ("ours", "theirs", "--gt", "val/clear")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded."""
    names: list[str] = []
    original = FileImages.read

    def read(self: FileImages, number: int) -> np.ndarray:
        names.append(self.paths[number].as_posix())
        return original(self, number)

    monkeypatch.setattr(FileImages, "read", read)
    return names


SHARES = 3


def share_of(name: str) -> int:
    return next(n for n in range(1, SHARES + 1) if Shard(n, SHARES).holds(Path(name)))


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1)])
def test_the_last_share_writes_the_table_of_all(
    scenes, evaluate, reads, order: tuple[int, ...]
) -> None:
    assert evaluate(*WORDS, "-o", "whole/table.csv")[0] == 0
    all_reads = sorted(reads)
    reads.clear()
    left = set(scenes)
    for number in order:
        own = {name for name in scenes if share_of(name) == number}
        left -= own
        code, out, err = evaluate(*WORDS, "-o", "out/table.csv", "--shard", f"{number}/{SHARES}")
        assert (code, err) == (0, "")
        first, second, *_ = out.splitlines()
        assert first == f"Share {number}/{SHARES}: {len(own)} of 3 images"
        if left:
            assert second == (
                f"{3 - len(left)} of 3 images are measured so far; the table is written when all "
                "are, or by the same command without --shard"
            )
        assert Path("out/table.csv").exists() == (not left)
    for suffix in (".csv", ".md"):
        whole, merged = (Path(f"{one}/table").with_suffix(suffix) for one in ("whole", "out"))
        assert merged.read_bytes() == whole.read_bytes()
    assert sorted(reads) == all_reads


def test_torchruns_processes_are_shares(scenes, evaluate, monkeypatch) -> None:
    launcher = {"WORLD_SIZE": str(SHARES), "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for key, value in launcher.items():
        monkeypatch.setenv(key, value)
    for rank in range(SHARES):
        monkeypatch.setenv("RANK", str(rank))
        code, out, _ = evaluate(*WORDS)
        assert code == 0
        assert out.startswith(f"Share {rank + 1}/{SHARES}: ")
    assert Path("evaluation.csv").exists()


def test_problems_of_another_share_are_not_forgotten(scenes, evaluate) -> None:
    Path("theirs/01.png").write_bytes(b"broken")
    first = share_of("01")
    other, last = {1, 2, 3} - {first}
    for number in (first, other, last):
        code, out, err = evaluate(*WORDS, "--shard", f"{number}/{SHARES}")
        assert code == (number != other)
        assert err.startswith("error: theirs: theirs/01.png: ") == (number != other)
    assert "psnr: means are over 2 of 3 images" in out
    assert Path("evaluation.csv").exists()


def test_an_interrupted_evaluation_resumes(scenes, evaluate, reads) -> None:
    assert evaluate(*WORDS)[0] == 0
    table = Path("evaluation.csv").read_bytes()
    Path("evaluation.csv").unlink()
    reads.clear()
    assert evaluate(*WORDS)[::2] == (0, "")
    assert reads == []
    (journal,) = Path(FOLDER).iterdir()
    os.truncate(journal, journal.stat().st_size - 5)  # killed while it wrote the last line
    Path("evaluation.csv").unlink()
    assert evaluate(*WORDS)[::2] == (0, "")
    assert reads == ["val/clear/03_GT.png", "theirs/03.png"]
    assert Path("evaluation.csv").read_bytes() == table


def test_what_has_changed_is_measured_again(scenes, evaluate, reads) -> None:
    assert evaluate(*WORDS)[0] == 0
    before = Path("evaluation.csv").read_text().splitlines()
    write_rgb(Path("ours/02_hazy_ktdn_test.png"), scenes["02"])
    reads.clear()
    assert evaluate(*WORDS)[0] == 0
    assert reads == ["val/clear/02_GT.png", "ours/02_hazy_ktdn_test.png"]
    after = Path("evaluation.csv").read_text().splitlines()
    changed = [line.split(",")[1:3] for line in after if line not in before]
    assert changed == [["02", "ours"], ["mean", "ours"]]
    reads.clear()
    assert evaluate(*WORDS, "--metrics", "ciede2000")[0] == 0
    assert len(reads) == 3 * 3  # another metric
    reads.clear()
    assert evaluate(*WORDS)[0] == 0
    assert reads == []
    assert Path("evaluation.csv").read_text().splitlines() == after


def test_a_broken_record_is_one_line(scenes, evaluate) -> None:
    assert evaluate(*WORDS)[0] == 0
    (journal,) = Path(FOLDER).iterdir()
    journal.write_text("nonsense\n")
    code, _, err = evaluate(*WORDS)
    assert code == 1
    assert err == (f"error: {journal}: broken; remove it: what it records is then measured again\n")


def test_a_wrong_share_is_one_line(scenes, evaluate) -> None:
    code, out, err = evaluate(*WORDS, "--shard", "3/2")
    assert (code, out) == (1, "")
    assert err == "error: --shard 3/2: of 2 shares, choose one from 1 to 2\n"
