"""Raw RGB frames between programs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dehaze.video_files import scene
from helpers import FRESH

from ktdn_plugin import Dehazer
from ktdn_plugin.cli import main

FRAMES = np.stack([scene(number, 64, 48) for number in range(5)])


def start(folder: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *FRESH, "dehaze", *words, "--checkpoint", "ktdn_tiny", "--device", "cpu"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_frames_go_through(tmp_path: Path) -> None:
    process = start(tmp_path, "-", "--raw", "64x48", "-o", "-", "--smooth", "0")
    out, err = process.communicate(FRAMES.tobytes(), 100)
    assert (process.returncode, err.decode()) == (0, "Dehazed: 5 frames\n")
    found = np.frombuffer(out, np.uint8).reshape(FRAMES.shape)
    network = Dehazer("ktdn_tiny", device="cpu")
    for hazy, dehazed in zip(FRAMES, found, strict=True):
        assert np.abs(network(hazy).astype(int) - dehazed).max() <= 1


@pytest.fixture
def piped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command in this process, between a file and a file, or another one's number."""

    def run(content: bytes, size: str, output: Path | int) -> int:
        (tmp_path / "in").write_bytes(content)
        sink = open(output, "w")  # noqa: SIM115, PTH123
        with (tmp_path / "in").open() as source, sink, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", source)
            patch.setattr(sys, "stdout", sink)
            words = ("--checkpoint", "ktdn_tiny", "--device", "cpu", "-o", "-")
            return main(["dehaze", "-", "--raw", size, *words])

    return run


def test_a_reader_that_ends_is_one_line(
    piped: Callable[..., int], capfd: pytest.CaptureFixture
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert piped(FRAMES.tobytes(), "64x48", writer) == 1
    assert capfd.readouterr().err == (
        "error: standard output: the program that reads from it has ended before it had all\n"
    )


@pytest.mark.parametrize(
    ("size", "content", "said"),
    [
        (
            "64x48",
            FRAMES[:2].tobytes()[:-7],
            "error: standard input: ends within a frame, after 1 whole ones (with 9,209 of 9,216 "
            "bytes); --raw 64x48 must be the frames' size, and their -pix_fmt rgb24",
        ),
        ("64x48", b"", "error: standard input: empty (0 bytes); the program that pipes into it"),
        ("64*48", b"", "error: --raw 64*48: write the frames' size as 1920x1080, width first"),
    ],
)
def test_what_does_not_go_has_one_line(
    size: str,
    content: bytes,
    said: str,
    tmp_path: Path,
    piped: Callable[..., int],
    capfd: pytest.CaptureFixture,
) -> None:
    assert piped(content, size, tmp_path / "out") == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(said)
    # The whole frames before it are there.
    assert (tmp_path / "out").stat().st_size == (9216 if len(content) > 9216 else 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("- --raw 64x48 -o x.png", "--raw: frames go from standard input to standard output"),
        ("a.mp4 --raw 64x48 -o -", "--raw: frames go from standard input to standard output"),
        ("- --raw 64x48 -o - --format png", "--format: not with --raw"),
        ("- --raw 64x48 -o - --quality 9", "--quality: not with --raw"),
        ("- --raw 64x48 -o - --crf 9", "--crf 9: not with --raw"),
        ("- --raw 64x48 -o - --max-pixels 9", "--raw: 64 x 48 pixels, and at most 9 are allowed"),
        ("- -o - --crf 9", "--crf 9: is of videos, and a pipe takes one photo"),
    ],
)
def test_options_that_do_not_go(words: str, said: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["dehaze", *words.split()]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {said}")
