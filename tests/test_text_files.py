"""Text that a person names: bounded, of plain values, and refused by one line otherwise."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from ktdn_plugin import text_files
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.text_files import LARGEST_YAML, parse_yaml, read_text

LAUGHS = "a: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


def test_plain_values() -> None:
    text = "a: 1e-4\nb: !!float 5e3\nc: [1, x, ~, true, 0x10]\nd: 2001-01-01\ne: &e {f: 1}\ng: *e"
    assert parse_yaml(text, "x") == {
        "a": 1e-4,
        "b": 5000.0,
        "c": [1, "x", None, True, 16],
        "d": "2001-01-01",
        "e": {"f": 1},
        "g": {"f": 1},
    }
    assert parse_yaml("", "x") is None
    assert parse_yaml("2001-99-99", "x") == "2001-99-99"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: !!int ''", "x, line 2: '' is not a valid int"),
        ("a: !!float z", "x, line 1: 'z' is not a valid float"),
        ("a: !!bool maybe", "'maybe' is not a valid bool"),
        ("a: !!map 1", "a section is expected here"),
        ("a: !!timestamp x", "could not determine a constructor for the tag"),
        ("a: !!set {b}", "could not determine a constructor for the tag"),
        ("a: !!python/name:os.system", "could not determine a constructor for the tag"),
        ("a: " + "9" * 5000, "is not a valid int"),
        ("a: " + "9" * 40, "is too large a number"),
        ("a: 0x" + "f" * 40, "is too large a number"),
        ("a: " + "[" * 60 + "]" * 60, "nested too deeply"),
        ("a: " + "[" * 20_000, "nested too deeply"),
        ("{a: " * 20_000, "nested too deeply"),
        (LAUGHS, "its aliases expand to too much"),
        ("a: &a [*a]", "refers to itself"),
        ("a: &a {<<: *a}", "refers to itself"),
        ('a: "b\\0c"', "the character '\\x00' is not allowed in options"),
        ('a: "\\ud800"', "the character '\\ud800' is not allowed in options"),
        ("a: \x07", "x: not valid YAML"),
        ("a: 1\na: 2", "x, line 2: the key 'a' is given twice"),
        ("a: " + "b" * LARGEST_YAML, "longer than 131,072 characters"),
    ],
    ids=lambda value: value[:20],
)
def test_what_no_options_say(text: str, said: str) -> None:
    with pytest.raises(KTDNError) as caught:
        parse_yaml(text, "x")
    assert said in str(caught.value)
    assert str(caught.value).startswith("x")
    assert len(str(caught.value)) < 200


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with named pipes")
def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(KTDNError, match=f"{path}: (not a file|cannot be read)"):
            read_text(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with named pipes")
def test_a_pipe_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    pipe = f"/dev/fd/{reader}"
    try:
        os.write(writer, "a: é\n".encode())
        threading.Timer(0.2, lambda: (os.write(writer, b"b: 2\n"), os.close(writer))).start()
        assert read_text(pipe, may_be_pipe=True) == "a: é\nb: 2\n"
    finally:
        os.close(reader)

    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(text_files, "LONGEST_WAIT", 0.1)
    with pytest.raises(KTDNError, match="this pipe was not closed within"):
        read_text(tmp_path / "pipe", may_be_pipe=True)
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        with pytest.raises(KTDNError, match="larger than 100,000 bytes"):
            read_text(f"/dev/fd/{endless.stdout.fileno()}", 100_000, may_be_pipe=True)
        endless.kill()


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    with pytest.raises(KTDNError, match="cannot be read"):
        read_text(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(KTDNError, match="not a text file in UTF-8"):
        read_text(path)
    path.write_bytes(b"a" * 11)
    assert read_text(path, 11) == "a" * 11
    with pytest.raises(KTDNError, match="larger than 10 bytes"):
        read_text(path, 10)
    with pytest.raises(KTDNError, match="is not a valid file name"):
        read_text("a\0b")
