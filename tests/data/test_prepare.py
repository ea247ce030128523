from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from bad_images import BAD, write_bad
from fake_datasets import MAKERS, shrink_tables, write
from helpers import make_lmdbs

from ktdn_plugin.data import decoding
from ktdn_plugin.data.decoding import Source, in_order
from ktdn_plugin.data.prepare import prepare
from ktdn_plugin.data.store_writer import StoreWriter
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import read_rgb
from ktdn_plugin.photos import read_size as read_header
from ktdn_plugin.scenes import image_files
from ktdn_plugin.scenes.images import StoreImages
from ktdn_plugin.scenes.opening import LAYOUTS, open_scenes
from ktdn_plugin.scenes.store import Store

SPLITS = {"nh-haze": "test-5", "nh-haze2": "test-5", "o-haze": "val", "i-haze": "val"}
SPLITS["dense-haze"] = "test"


def refusal(*arguments: object, **flags: object) -> str:
    with pytest.raises(KTDNError) as caught:
        prepare(*arguments, **flags)
    message = str(caught.value)
    assert "\n" not in message
    return message


def error_line(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 1, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def workers_left() -> list[str]:
    return [each.name for each in threading.enumerate() if decoding.THREADS in each.name]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pairs."""
    for number in range(6):
        write(tmp_path / f"photos/hazy/{number}.png", number, (20, 30))
        write(tmp_path / f"photos/GT/{number}.jpg", 50 + number, (20, 30))
    return tmp_path / "photos"


@pytest.mark.parametrize("name", MAKERS)
def test_store_holds_what_the_files_hold(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_tables(monkeypatch)
    MAKERS[name](tmp_path / "copy")
    split = SPLITS.get(name)
    info = prepare(tmp_path / "copy", tmp_path / "store", name, split, workers=2)
    scenes = open_scenes(tmp_path / "copy", name, split)
    store = Store(tmp_path / "store")
    assert store.info == info
    assert info.name == f"{name}/{split or 'all'}"
    assert info.counts == {"hazy": len(scenes.hazy), "clear": len(scenes.clear)}
    assert store.pairs is not None
    assert store.pairs.tolist() == scenes.pairs.tolist()
    for side in ("hazy", "clear"):
        images, stored = scenes.side(side), StoreImages(store, side)
        assert len(stored) == len(images)
        for number, path in enumerate(images.paths):
            assert np.array_equal(stored.read(number), images.read(number))
            assert stored.name(number) == path.relative_to(scenes.place).as_posix()
            store.verify(side, number)
    paths = [*scenes.files("hazy"), *scenes.files("clear")]
    assert info.source_files == len(paths)
    assert info.source_bytes == sum(path.stat().st_size for path in paths)
    assert info.pixel_bytes == (len(paths)) * 6 * 8 * 3


def test_command_makes_a_store_of_a_published_size(tmp_path: Path, run) -> None:
    for number in range(51, 56):
        for side in ("hazy", "GT"):
            path = tmp_path / f"NH-HAZE/{number}_{side}.png"
            path.parent.mkdir(exist_ok=True)
            assert cv2.imwrite(str(path), np.full((1200, 1600, 3), number + len(side), np.uint8))
    words = ("prepare", "NH-HAZE", "out/store", "--dataset", "nh-haze")
    assert "challenge-val (46-50" in error_line(run(*words))
    done = run(*words, "--split", "challenge-test", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "5 hazy and 5 clear images, 54.93 MiB" in done.stdout.splitlines()[0]
    info = Store(tmp_path / "out/store").info
    assert f"fingerprint {info.fingerprint}" in done.stdout.splitlines()[-1]
    assert info.name == "nh-haze/challenge-test"
    assert "already exists" in error_line(run(*words, "--split", "challenge-test"))

    (tmp_path / "NH-HAZE/53_GT.png").unlink()
    words = ("prepare", "NH-HAZE", "more", "--dataset", "nh-haze", "--split", "test-5")
    assert "1 problem: 53_GT.png is missing" in error_line(run(*words))
    done = run(*words, "--allow_incomplete")
    assert done.returncode == 0, done.stderr
    assert "53_GT.png is missing" in done.stdout
    info = Store(tmp_path / "more").info
    assert info.name == "nh-haze/test-5 (incomplete: 1 missing)"
    assert info.missing == ["53_GT.png is missing"]
    assert info.counts == {"hazy": 4, "clear": 4}


def test_help_names_every_layout(run) -> None:
    text = run("prepare", "--help").stdout.replace("-\n", "-").split()
    named = {word.strip(",():") for word in " ".join(text).replace("- ", "-").split()}
    assert set(LAYOUTS) <= named
    assert "--workers. Must be >= 1" in run("prepare", "a", "b", "--workers", "0").stderr


def test_clear_images_alone(photos: Path, tmp_path: Path) -> None:
    info = prepare(photos, tmp_path / "store", split="mine", clear_only=True)
    assert (info.name, info.counts) == ("folders/mine", {"clear": 6})
    assert Store(tmp_path / "store").pairs is None


def test_each_header_is_read_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def read_size(path: Path) -> tuple[int, int]:
        read.append(path)
        return read_header(path)

    monkeypatch.setattr(image_files, "read_size", read_size)
    prepare(photos, tmp_path / "store")
    files = sorted(path for path in photos.rglob("*") if path in set(read))
    assert sorted(read) == files
    assert len(files) == sum(Store(tmp_path / "store").info.counts.values())


def test_number_of_workers_changes_nothing(photos: Path, tmp_path: Path) -> None:
    prints = {
        prepare(photos, tmp_path / str(workers), workers=workers).fingerprint
        for workers in (1, 5, None)
    }
    assert len(prints) == 1


@pytest.mark.parametrize("place", ["taken/file", "file", "photos/hazy/store", "photos"])
def test_place_must_be_free_and_outside(place: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    message = refusal(photos, tmp_path / place)
    assert "already exists" in message or "lies within" in message
    assert sorted(tmp_path.rglob("*")) == before


def test_link_to_an_empty_folder_is_followed(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "other" / "store").mkdir(parents=True)
    (tmp_path / "store").symlink_to(tmp_path / "other" / "store")
    prepare(photos, tmp_path / "store")
    assert (tmp_path / "store").is_symlink()
    assert Store(tmp_path / "store").info.counts["hazy"] == 6
    assert [each.name for each in (tmp_path / "other").iterdir()] == ["store"]


@pytest.mark.parametrize("name", [".", "", "../here"])
def test_current_folder_is_not_replaced(
    name: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))
    message = refusal(photos, name)
    assert "current folder" in message
    assert "choose a folder within it" in message
    assert sorted(tmp_path.rglob("*")) == before


def test_mount_point_is_refused_before_anything_is_done(photos: Path, small_disk: Path) -> None:
    (small_disk / "within").mkdir()
    (small_disk / "a b").mkdir()
    bound = ["mount", "--bind", str(small_disk / "within"), str(small_disk / "a b")]
    subprocess.run(bound, check=True)
    try:
        message = refusal(photos, small_disk / "a b")
        assert f"choose a folder within it, such as {small_disk / 'a b/store'}" in message
    finally:
        subprocess.run(["umount", str(small_disk / "a b")], check=True)
    for folder in ("a b", "within"):
        (small_disk / folder).rmdir()
    (small_disk.parent / "link").symlink_to(small_disk)
    for place in (small_disk, small_disk.parent / "link"):
        assert "a disk is mounted there" in refusal(photos, place)
    assert list(small_disk.iterdir()) == []
    prepare(photos, small_disk / "store")


def test_lmdb_is_no_folder_of_images(photos: Path, tmp_path: Path) -> None:
    make_lmdbs(photos, tmp_path / "bs")
    prepare(photos, tmp_path / "store")
    for folder in ("bs/hazy.lmdb", "store"):
        message = refusal(tmp_path / folder, tmp_path / "more")
        assert "an LMDB is not a folder of images" in message
        assert "io_backend" not in message
    message = refusal(photos, tmp_path / "more", clear=tmp_path / "bs/clear.lmdb")
    assert "clear.lmdb: an LMDB is not a folder" in message


def test_images_beside_the_chosen_folders_are_counted(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(photos, tmp_path / "whole")
    assert "Ignoring" not in capsys.readouterr().out
    write(photos / "more.png", 1)
    write(photos / "notes/a/b.png", 1)
    prepare(photos, tmp_path / "store")
    assert f"Ignoring 2 images of {photos} outside hazy and GT." in capsys.readouterr().out


def test_unusable_pairs_of_folders_are_reported_at_once_and_left_out(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "hazy/1.png").unlink()
    write(photos / "hazy/2.png", 1, (21, 30))
    (photos / "GT/3.jpg").write_bytes(b"")
    lines = (
        "GT/1.jpg has no hazy image",
        "hazy/2.png and GT/2.jpg differ in size (30 x 21 and 30 x 20)",
        "GT/3.jpg: empty file",
    )
    message = refusal(photos, tmp_path / "store")
    info = prepare(photos, tmp_path / "store", allow_incomplete=True)
    printed = capsys.readouterr().out
    assert "3 problems" in message
    assert info.counts == {"hazy": 3, "clear": 3}
    for line in lines:
        assert line in message
        assert line in printed
        assert any(each.startswith(line) for each in info.missing)
    assert Store(tmp_path / "store").name("clear", 1) == "GT/4.jpg"


def test_unusable_clear_images_alone_are_left_out(photos: Path, tmp_path: Path) -> None:
    (photos / "GT/3.jpg").write_bytes(b"")
    info = prepare(photos / "GT", tmp_path / "store", allow_incomplete=True)
    assert (info.split, info.counts, len(info.missing)) == ("GT", {"clear": 5}, 1)
    for path in (photos / "GT").iterdir():
        path.write_bytes(b"")
    assert "no image can be used" in refusal(
        photos / "GT", tmp_path / "none", allow_incomplete=True
    )


def test_message_says_where_a_long_list_is_kept(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(20):
        write(photos / f"hazy/x{number}.png", number)
    assert f"and 10 more ('ktdn check-data {photos}' lists them all)" not in refusal(
        photos, tmp_path / "refused", hazy="hazy", clear="GT"
    )
    message = refusal(photos, tmp_path / "refused")
    assert f"and 10 more ('ktdn check-data {photos}' lists them all)" in message
    store = prepare(photos, tmp_path / "store", allow_incomplete=True)
    assert f"all 20 are kept in {tmp_path / 'store'}" in capsys.readouterr().out
    assert len(store.missing) == 20


def test_empty_folder_is_filled(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    prepare(photos, tmp_path / "store")
    assert Store(tmp_path / "store").info.counts["hazy"] == 6


@pytest.mark.parametrize("kind", BAD)
def test_bad_image_is_named_and_nothing_looks_whole(
    kind: str, photos: Path, tmp_path: Path
) -> None:
    path, said = write_bad(photos / "hazy", kind)
    write(photos / "GT/x.png", 1, (40, 56))
    message = refusal(photos, tmp_path / "store", workers=3)
    assert path.name in message
    assert said in message
    assert not (tmp_path / "store").exists()
    assert workers_left() == []

    write(photos / "hazy" / Path(path.name).with_suffix(".png"), 9, (40, 56))
    if path.suffix != ".png":
        path.unlink()
    assert prepare(photos, tmp_path / "store").counts == {"hazy": 7, "clear": 7}


def test_only_the_fixed_image_is_redone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = photos / "GT/5.jpg"  # the last of all
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-200])
    assert "finished images are kept" in refusal(photos, tmp_path / "store", workers=1)
    victim.write_bytes(whole)
    capsys.readouterr()
    prepare(photos, tmp_path / "store")
    assert "Resuming: 11 of 12 images are already done." in capsys.readouterr().out


def test_file_that_changed_meanwhile_is_done_again(photos: Path, tmp_path: Path) -> None:
    (photos / "GT/5.jpg").write_bytes((photos / "GT/5.jpg").read_bytes()[:-200])
    refusal(photos, tmp_path / "store")
    write(photos / "GT/5.jpg", 1, (20, 30))
    write(photos / "hazy/0.png", 99, (20, 30))
    prepare(photos, tmp_path / "store")
    expected = read_rgb(photos / "hazy/0.png")
    assert np.array_equal(Store(tmp_path / "store").pixels("hazy", 0), expected)


def test_other_files_start_over(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "GT/5.jpg").write_bytes((photos / "GT/5.jpg").read_bytes()[:-200])
    refusal(photos, tmp_path / "store")
    for side in ("hazy/5.png", "GT/5.jpg", "hazy/0.png", "GT/0.jpg"):
        (photos / side).unlink()
    capsys.readouterr()
    prepare(photos, tmp_path / "store")
    printed = capsys.readouterr().out
    assert "starting over" in printed
    assert "Resuming" not in printed
    assert Store(tmp_path / "store").name("hazy", 0) == "hazy/1.png"


def test_pairs_of_two_sizes_are_named(photos: Path, tmp_path: Path) -> None:
    write(photos / "GT/3.jpg", 1, (20, 31))
    message = refusal(photos, tmp_path / "store")
    assert "hazy/3.png" in message
    assert "GT/3.jpg differ in size (30 x 20 and 31 x 20)" in message


def test_pipe_is_not_waited_for(photos: Path, tmp_path: Path) -> None:
    os.mkfifo(photos / "hazy/pipe.png")
    write(photos / "GT/pipe.png", 1)
    assert "pipe.png: not a regular file" in refusal(photos, tmp_path / "store")


def test_dangling_link_is_named(photos: Path, tmp_path: Path) -> None:
    (photos / "hazy/link.png").symlink_to(tmp_path / "gone.png")
    write(photos / "GT/link.png", 1)
    assert "link.png: No such file" in refusal(photos, tmp_path / "store")


def test_unreadable_image_is_named(photos: Path, tmp_path: Path) -> None:
    (photos / "hazy/3.png").chmod(0)
    if os.access(photos / "hazy/3.png", os.R_OK):
        pytest.skip("root may read everything")
    assert "3.png: Permission denied" in refusal(photos, tmp_path / "store")


def test_one_process_at_a_time(photos: Path, tmp_path: Path, run) -> None:
    with StoreWriter(tmp_path / "store", {}):
        assert "another process is writing it" in error_line(run("prepare", "photos", "store"))
    assert run("prepare", "photos", "store").returncode == 0


# Commits often, so that many kills find something that is done, and takes its time, so that it is
# not done before a test that waits for its turn on a busy machine gets to kill it.
COMMAND = (
    sys.executable,
    "-c",
    "import time\n"
    "from ktdn_plugin import cli\n"
    "from ktdn_plugin.data import decoding, store_writer\n"
    "store_writer.COMMIT_BYTES = 2**20\n"
    "decode = decoding.Source.decode\n"
    "decoding.Source.decode = lambda *given: [time.sleep(0.05), decode(*given)][1]\n"
    "raise SystemExit(cli.main())\n",
)


@pytest.fixture
def long_work(tmp_path: Path) -> Iterator[tuple[list[str], Path]]:
    """A command that works for a few seconds, and the file that grows meanwhile."""
    for number in range(60):
        path = tmp_path / f"many/{number:02}.png"
        write(path, number, (400, 600))
    yield (
        [*COMMAND, "prepare", "many", "store", "--workers", "1"],
        tmp_path / ".store.part/data.mdb",
    )
    shutil.rmtree(tmp_path / "many")


def wait_for(process: subprocess.Popen, file: Path, size: float) -> None:
    """Waits until a file has grown so far, or the process has ended."""
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if file.exists() and file.stat().st_size >= size:
            return
        time.sleep(0.001)


def test_killed_at_any_moment_it_ends_up_the_same(
    long_work: tuple[list[str], Path], tmp_path: Path, run
) -> None:
    command, draft = long_work
    whole = 60 * 400 * 600 * 3
    draw = random.Random(4)
    # Some at any moment, beginning with the first; some when a part is known to be done.
    moments = [("time", draw.uniform(0.05, 0.6)) for _ in range(4)]
    moments += [("size", whole * part) for part in (0.1, 0.3, 0.5, 0.7, 0.9)]
    went_on = 0
    for kind, moment in moments:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        if kind == "time":
            time.sleep(moment)
        else:
            wait_for(process, draft, moment)
        process.kill()
        printed, _ = process.communicate()
        went_on += "Resuming: " in printed
        assert process.returncode in (-signal.SIGKILL, 0)
        if process.returncode == 0:
            break
        assert not (tmp_path / "store").exists()
    assert went_on >= 2
    if not (tmp_path / "store").exists():
        done = run("prepare", "many", "store")
        assert done.returncode == 0, done.stderr
        assert "Resuming: " in done.stdout
    straight = prepare(tmp_path / "many", tmp_path / "straight")
    store = Store(tmp_path / "store")
    assert store.info.fingerprint == straight.fingerprint
    for number in range(60):
        store.verify("clear", number)
    assert not draft.exists()


def test_interrupted_it_ends_at_once_and_resumes(
    long_work: tuple[list[str], Path], tmp_path: Path
) -> None:
    command, draft = long_work
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for(process, draft, 10e6)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 10
    assert said.splitlines()[-1].startswith("Interrupted.")
    assert "Traceback" not in said
    assert not (tmp_path / "store").exists()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Resuming: " in done.stdout


def test_too_small_a_disk_is_found_out_before_anything_is_done(
    long_work: tuple[list[str], Path], small_disk: Path, run
) -> None:
    message = error_line(run("prepare", "many", "disk/store"))
    assert "are needed, but only 20 MiB are free" in message
    assert list(small_disk.iterdir()) == []


UNAWARE = (
    "-c",
    "from ktdn_plugin import cli\n"
    "from ktdn_plugin.data import prepare, store_writer\n"
    "prepare._check_room = lambda *_: None  # the disk fills up only later\n"
    "store_writer.COMMIT_BYTES = 2**20\n"
    "raise SystemExit(cli.main())\n",
)


def test_disk_that_fills_up_loses_nothing(
    long_work: tuple[list[str], Path], small_disk: Path, run
) -> None:
    message = error_line(run("prepare", "many", "disk/store", program=UNAWARE))
    assert "disk/store: cannot be written (the disk is full" in message
    assert "run the same command again to resume" in message
    assert not (small_disk / "store").exists()
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    done = run("prepare", "many", "disk/store")
    assert done.returncode == 0, done.stderr
    assert "Resuming: " in done.stdout
    assert Store(small_disk / "store").info.counts == {"clear": 60}


def test_results_come_in_order_and_not_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def work(source: Source) -> int:
        begun.append(source.number)
        time.sleep(0.003 * (source.number % 3))
        return source.number

    sources = [
        Source("clear", number, Path("x"), "x", 1, 1, (100, 100), None) for number in range(60)
    ]
    results = in_order(work, sources, workers=4)
    for count, (source, number) in enumerate(results):
        assert source.number == number == count
        assert len(begun) <= count + 2 + 2 * 4
    assert len(begun) == 60

    begun.clear()
    monkeypatch.setattr(decoding, "AHEAD_BYTES", 3 * 100 * 100 * 3)
    bounded = in_order(work, sources, 4, lambda source: source.pixel_bytes)
    for count, _ in enumerate(bounded):
        assert len(begun) <= count + 4


def test_error_in_a_worker_stops_the_others() -> None:
    begun: list[int] = []

    def work(source: Source) -> None:
        begun.append(source.number)
        if source.number == 5:
            raise KTDNError("five")

    sources = [Source("clear", n, Path("x"), "x", 1, 1, (1, 1), None) for n in range(1000)]
    with pytest.raises(KTDNError, match="five"):
        list(in_order(work, sources, workers=2))
    assert len(begun) < 20
    assert workers_left() == []
