"""Several processes write results into one folder, and each result is known by its own maker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dehaze.conftest import pixels

from ktdn_plugin.dehaze.journal import FOLDER, RECORD, Journal, read_record
from ktdn_plugin.errors import KTDNError


@pytest.mark.slow
def test_two_processes_with_different_checkpoints(here: Path, dehaze, checkpoint: Path) -> None:
    content = torch.load(checkpoint)
    for value in content["params"].values():
        if value.is_floating_point():
            value *= 0.9
    torch.save(content, "other.pth")
    words = [sys.executable, "-m", "ktdn_plugin", "dehaze", "photos", "-o", "out", "--overwrite"]
    processes = [
        subprocess.Popen(
            [*words, "--device", "cpu", "--checkpoint", file],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for file in (checkpoint, "other.pth")
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    for file in (checkpoint, "other.pth"):
        assert dehaze("photos", "-o", f"by {Path(file).name}", "--checkpoint", file)[0] == 0
    record = read_record(Path("out"))
    assert len(record) == 3
    for name, entry in record.items():
        expected = pixels(Path(f"by {entry['checkpoint']}", name))
        assert (pixels(Path("out", name)) == expected).all()


def test_a_result_is_of_the_process_that_wrote_it_last(tmp_path: Path) -> None:
    ours, theirs = Journal(tmp_path), Journal(tmp_path)
    for number, journal in enumerate((ours, theirs)):
        (tmp_path / f"{number}.tmp").write_text(str(number))
        journal.append("a.png", {"checkpoint": str(number)}, tmp_path / f"{number}.tmp")
    (tmp_path / "1.tmp").replace(tmp_path / "a.png")
    assert read_record(tmp_path)["a.png"] == {"checkpoint": "1"}
    (tmp_path / "0.tmp").replace(tmp_path / "a.png")
    assert read_record(tmp_path)["a.png"] == {"checkpoint": "0"}
    (tmp_path / "a.png").write_text("by nobody")
    assert read_record(tmp_path) == {}
    (tmp_path / RECORD).write_text(json.dumps({"results": {"a.png": {"checkpoint": "old"}}}))
    assert read_record(tmp_path)["a.png"] == {"checkpoint": "old"}


def test_a_line_that_was_not_finished_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("a")
    journal = Journal(tmp_path)
    journal.append("a.png", {"checkpoint": "x"}, tmp_path / "a.png")
    with journal.path.open("a") as file:
        file.write('{"name": "b.p')
    assert read_record(tmp_path) == {"a.png": {"checkpoint": "x"}}
    with journal.path.open("a") as file:
        file.write("\n")
    with pytest.raises(KTDNError, match=r"jsonl: broken; remove it"):
        read_record(tmp_path)


def test_a_photo_with_a_name_of_250_bytes(here: Path, dehaze) -> None:
    name = "n" * 246
    Path("photos/a.png").rename(f"photos/{name}.png")
    assert dehaze("photos", "-o", "out")[::2] == (0, "")
    assert Path(f"out/{name}.png").is_file()


def test_names_that_clash_do_not_stop_the_others(here: Path, dehaze) -> None:
    from PIL import Image

    Image.open("photos/a.png").save("photos/a.bmp")
    code, out, err = dehaze("photos", "-o", "out")
    assert code == 1
    assert "Dehazed: out (2 of 4)" in out
    lines = err.splitlines()
    assert lines[0] == "error: 2 of 4 are left out, whose results would have one name:"
    both = f"{Path('photos/a.bmp')} and {Path('photos/a.png')} would both be written to"
    assert lines[1].startswith(f"error: {both} {Path('out/a.png')}; rename one")
    assert len(lines) == 2
    assert sorted(path.name for path in Path("out").rglob("*.*")) == [
        FOLDER, *(path.name for path in Path("out", FOLDER).iterdir()), "b.jpg", "c.webp"
    ]  # fmt: skip
