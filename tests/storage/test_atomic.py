"""Files and folders are whole or not there, whatever they are called and whoever was killed."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ktdn_plugin
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.option_files import copy_options_folder
from ktdn_plugin.photos import read_rgb, write_rgb
from ktdn_plugin.storage import atomic
from ktdn_plugin.storage.atomic import temporary_beside, write_whole
from ktdn_plugin.storage.earlier_runs import archive_run


@contextlib.contextmanager
def full_disk(room: int) -> Iterator[None]:
    resource = pytest.importorskip("resource", reason="there are no such limits on this system")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def killed_while_writing(path: Path) -> Path:
    """Leaves what a process leaves that is killed while it writes a file."""
    pytest.importorskip("fcntl", reason="processes are not forked on this system")
    child = os.fork()
    if not child:
        write_whole(path, lambda file: os._exit(0))
    os.waitpid(child, 0)
    (left,) = path.parent.glob(".ktdn-*")
    return left


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_cleared", set())


def test_names_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    longest = os.pathconf(tmp_path, "PC_NAME_MAX") if hasattr(os, "pathconf") else 200
    for number, suffix in enumerate((".pth", ".png")):
        path = tmp_path / f"{'n' * (longest - 4)}{suffix}"
        if suffix == ".pth":
            write_whole(path, lambda file: file.write(b"content"))
        else:
            write_rgb(path, np.zeros((2, 2, 3), np.uint8))
        assert len(list(tmp_path.iterdir())) == number + 1
    with pytest.raises(KTDNError, match="give it a shorter name"):
        write_whole(tmp_path / ("n" * (longest + 1)), lambda file: file.write(b""))


def test_the_next_run_deletes_what_a_killed_one_left(tmp_path: Path) -> None:
    left = killed_while_writing(tmp_path / "net.pth")
    write_whole(tmp_path / "other.pth", lambda file: file.write(b"content"))
    assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["other.pth"]


def test_an_earlier_run_is_kept_without_what_it_left_half_written(tmp_path: Path) -> None:
    (tmp_path / "run/models").mkdir(parents=True)
    killed_while_writing(tmp_path / "run/models/net.pth")
    (tmp_path / "run/models/.mine.tmp").touch()
    kept = archive_run(tmp_path / "run")
    assert [path.name for path in (kept / "models").iterdir()] == [".mine.tmp"]


def test_what_others_are_writing_stays(tmp_path: Path) -> None:
    left = killed_while_writing(tmp_path / "net.pth")
    _, machine, gone, token = left.name.split("-")
    ours, others, strange, old = (
        left.with_name(name)
        for name in (
            f".ktdn-{machine}-{os.getppid()}-{token}",
            f".ktdn-00000000-{gone}-{token}",
            f".ktdn-{machine}-{10**30}-{token}",  # of which nothing can be told
            f".ktdn-00000000-1-{token}",
        )
    )
    for path in (ours, others, strange, old):
        path.touch()
    day_and_more = time.time() - 25 * 60 * 60
    os.utime(old, (day_and_more, day_and_more))
    with temporary_beside(tmp_path / "net.pth"):
        assert set(tmp_path.iterdir()) == {ours, others, strange}


def test_a_file_takes_its_name_when_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(b"old")
    seen = []

    def flush(number: int) -> None:
        if stat.S_ISREG(os.fstat(number).st_mode):
            seen.append((os.fstat(number).st_size, path.read_bytes()))
        else:
            seen.append((os.path.samestat(os.fstat(number), tmp_path.stat()), path.read_bytes()))

    monkeypatch.setattr(os, "fsync", flush)
    write_whole(path, lambda file: file.write(b"content"))
    assert seen[0] == (7, b"old")
    if os.name != "nt":  # where no folder can be flushed
        assert seen[1:] == [(True, b"content")]


def test_what_is_looked_at_before_may_keep_it_from_being_written(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(b"old")

    def refuse(temporary: Path) -> None:
        assert temporary.read_bytes() == b"new"
        raise KTDNError("not this one")

    with pytest.raises(KTDNError, match="not this one"):
        write_whole(path, lambda file: file.write(b"new"), before_move=refuse)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_options_on_a_full_disk(tmp_path: Path) -> None:
    folder = tmp_path / "options"
    with full_disk(100), pytest.raises(KTDNError, match="options: cannot be written") as error:
        copy_options_folder(folder)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
    copy_options_folder(folder)
    assert (folder / "train_ktdn.yml").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["options"]


def test_a_test_s_image_on_a_full_disk(tmp_path: Path) -> None:
    ktdn_plugin.register()  # without which BasicSR cannot be imported
    from ktdn_plugin.basicsr.validation import _as_rgb

    noise = np.random.RandomState(0).randint(0, 256, (40, 40, 3), np.uint8)
    path = tmp_path / "val" / "0001_name.png"
    with full_disk(1000), pytest.raises(KTDNError, match=r"0001_name\.png: cannot be saved"):
        write_rgb(path, _as_rgb(noise))
    assert list(path.parent.iterdir()) == []
    for image in (noise, noise[..., 0]):
        write_rgb(path, _as_rgb(image))
        assert np.array_equal(read_rgb(path), np.broadcast_to(image.T, (3, 40, 40)).T[..., ::-1])
    assert [one.name for one in path.parent.iterdir()] == [path.name]
