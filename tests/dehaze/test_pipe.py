"""One photograph from standard input to standard output."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ktdn_plugin.cli import main
from ktdn_plugin.dehaze import checkpoint
from ktdn_plugin.photos import decode_photo, read_photo

Run = Callable[..., tuple[int, bytes]]
PIXELS = np.random.RandomState(0).randint(0, 256, (30, 40, 3)).astype(np.uint8)


def saved(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    loads = checkpoint.dehaze_pipe

    def chatty(pixels: np.ndarray) -> np.ndarray:
        print("a library's own line")
        return 255 - pixels if pixels.dtype == np.uint8 else 65535 - pixels

    def without_network(inputs: object, output: object, _: object, **options: object) -> None:
        loads(inputs, output, lambda: chatty, **options)

    monkeypatch.setattr(checkpoint, "dehaze_pipe", without_network)

    def run(content: bytes | None, *words: str) -> tuple[int, bytes]:
        out = io.BytesIO()
        stdin = io.TextIOWrapper(io.BytesIO(content or b""))
        if content is None:
            monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out))
        code = main(["dehaze", *words])
        return code, out.getvalue()

    return run


@pytest.mark.parametrize(
    ("kind", "start"), [("PNG", b"\x89PNG"), ("JPEG", b"\xff\xd8"), ("TIFF", b"II")]
)
def test_a_photo_goes_through_in_its_own_format(
    pipe: Run, kind: str, start: bytes, capfd: pytest.CaptureFixture
) -> None:
    content = saved(kind)
    code, out = pipe(content, "-", "-o", "-")
    assert code == 0
    assert out.startswith(start)  # and nothing else: the library's line is on standard error
    expected = 255 - decode_photo(content, "x").pixels
    assert np.abs(decode_photo(out, "x").pixels.astype(int) - expected).mean() < 3
    assert "a library's own line" in capfd.readouterr().err


def test_one_side_may_be_a_file(pipe: Run) -> None:
    content = saved("PNG")
    assert pipe(content, "-", "-o", "clear.png") == (0, b"")
    assert np.array_equal(read_photo("clear.png").pixels, 255 - PIXELS)
    code, out = pipe(b"", "clear.png", "-o", "-", "--format", "webp")
    assert (code, out[8:12]) == (0, b"WEBP")
    code, out = pipe(saved("GIF"), "-", "-o", "-")
    assert out.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        (b"", "- -o -", "standard input: empty (0 bytes); the program that pipes into it"),
        (b"hello", "- -o -", "standard input: not a readable image (none of PNG"),
        (saved("PNG")[:99], "- -o -", "standard input: not a readable image, but a truncated"),
        (None, "- -o -", "-: standard input is a terminal; pipe a photo into it"),
        (b"x", "-", "-: needs the result's place: -o FILE, or -o -"),
        (b"x", "- -o folder", "-o folder: a folder, and what comes by a pipe has no name"),
        (b"x", "- a.jpg -o -", "-: a pipe takes one photo"),
        (b"x", "- -o - --compare", "--compare: not with a pipe"),
        (b"x", "- -o a.png --format jpg", "-o a.png: does not match --format jpg"),
        (saved("JPEG"), "- -o - --compression 3", "--compression 3: is of PNG and TIFF"),
        (saved("PNG"), "- -o - --quality 90", "--quality 90: PNG loses nothing, and has none"),
        (saved("PNG"), "- -o - --max-pixels 9", "40 x 30 pixels, and at most 9 are allowed"),
        (b"x", ". -o -", ".: a folder, and -o - takes one photo"),
        (b"x", "a.mp4 -o -", "a.mp4: a video, and -o - takes one photo"),
    ],
)
def test_what_does_not_go_has_one_line(
    pipe: Run, content: bytes | None, words: str, said: str, capsys: pytest.CaptureFixture
) -> None:
    code, out = pipe(content, *words.split())
    assert (code, out) == (1, b"")
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_an_existing_file_is_not_replaced_unasked(pipe: Run) -> None:
    Path("x.png").write_bytes(b"mine")
    assert pipe(saved("PNG"), "-", "-o", "x.png")[0] == 1
    assert Path("x.png").read_bytes() == b"mine"
    assert pipe(saved("PNG"), "-", "-o", "x.png", "--overwrite")[0] == 0
    assert Path("x.png").read_bytes() != b"mine"
