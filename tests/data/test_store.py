from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktdn_plugin.data import store_writer
from ktdn_plugin.data.store_writer import StoreWriter
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import read_rgb
from ktdn_plugin.scenes.images import StoreImages, cut
from ktdn_plugin.scenes.store import FORMAT, INFO_KEY, Store, StoreInfo, is_store

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


def random_image(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def about(counts: dict[str, int], **more: Any) -> StoreInfo:
    return StoreInfo("folders", "all", counts, sum(counts.values()), 0, 0, **more)


def write_store(path: Path, count: int = 4, size: tuple[int, int] = (30, 40)) -> StoreInfo:
    with StoreWriter(path, {}) as writer:
        for number in range(count):
            for side in ("hazy", "clear"):
                seed = number + 100 * (side == "clear")
                writer.add(side, number, random_image(seed, *size), f"{side}/{number}.png")
        pairs = np.repeat(np.arange(count, dtype=np.int32)[:, None], 2, 1)
        return writer.finish(about({"hazy": count, "clear": count}), pairs)


def change(path: Path, key: bytes, value: bytes | None) -> None:
    with (
        lmdb.open(str(path), map_size=2**24, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.delete(key) if value is None else transaction.put(key, value)


def refusal(path: Path) -> str:
    with pytest.raises(KTDNError) as caught:
        Store(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 70), st.integers(1, 70), NAMES, st.sampled_from([".png", ".jpg"])),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_store_gives_back_what_the_files_hold(
    tmp_path_factory: pytest.TempPathFactory, images: list, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("store")
    pixels = []
    with StoreWriter(folder / "store", {}) as writer:
        for number, (height, width, name, suffix) in enumerate(images):
            path = folder / f"{number}{suffix}"
            cv2.imwrite(str(path), random_image(number, height, width))
            pixels.append(read_rgb(path))
            writer.add("clear", number, pixels[-1], name)
        writer.finish(about({"clear": len(images)}), None)
    store = Store(folder / "store")
    stored = StoreImages(store, "clear")
    assert store.info.pixel_bytes == sum(image.nbytes for image in pixels)
    for number, image in enumerate(pixels):
        height, width = image.shape[:2]
        assert stored.size(number) == (height, width)
        assert stored.name(number) == images[number][2]
        assert np.array_equal(stored.read(number), image)
        top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        rows = data.draw(st.integers(1, height - top))
        columns = data.draw(st.integers(1, width - left))
        part = cut(stored.read(number), (top, left, rows, columns))
        assert np.array_equal(part, image[top : top + rows, left : left + columns])
        assert not part.flags.writeable
        store.verify("clear", number)


def test_store_says_what_it_was_made_from(tmp_path: Path) -> None:
    info = write_store(tmp_path / "store")
    assert Store(tmp_path / "store").info == info
    assert info.counts == {"hazy": 4, "clear": 4}
    assert info.pixel_bytes == 8 * 30 * 40 * 3
    assert info.tool.startswith("ktdn-plugin ")
    assert is_store(tmp_path / "store")
    assert not is_store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["data.mdb"]


def test_fingerprint_tells_content_and_names_apart(tmp_path: Path) -> None:
    prints = set()
    for index, (seed, name) in enumerate([(1, "a"), (2, "a"), (1, "b"), (1, "a")]):
        with StoreWriter(tmp_path / str(index), {"plan": index}) as writer:
            writer.add("clear", 0, random_image(seed, 3, 4), name, (index,))
            prints.add(writer.finish(about({"clear": 1}), None).fingerprint)
    assert len(prints) == 3


def test_store_goes_to_other_processes(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    store = Store(tmp_path / "store")
    expected = store.pixels("hazy", 2)
    assert np.array_equal(pickle.loads(pickle.dumps(store)).pixels("hazy", 2), expected)
    code = (
        "import os, pickle, sys\n"
        "from ktdn_plugin.scenes.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "before = store.pixels('hazy', 2).tobytes()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if store.pixels('hazy', 2).tobytes() == before else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(store.path)]).returncode == 0


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.95])
def test_truncated_store_is_an_error_and_not_the_end(kept: float, tmp_path: Path, run) -> None:
    write_store(tmp_path / "store", count=40)
    file = tmp_path / "store/data.mdb"
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    code = (
        "from ktdn_plugin.scenes.store import Store\n"
        "from ktdn_plugin.errors import KTDNError\n"
        "try:\n"
        "    store = Store('store')\n"
        "    [store.pixels(side, number) for side in store.sides for number in range(40)]\n"
        "except KTDNError as error:\n"
        "    raise SystemExit(f'error: {error}')\n"
    )
    done = run(program=("-c", code))  # a process of its own, which a bus error would end
    assert done.returncode == 1, done
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "store" in done.stderr
    assert ("truncated" if kept else "LMDB") in done.stderr


def test_store_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    values = json.loads(Store(tmp_path / "store").info.as_json())
    newer = {**values, "format": FORMAT + 1, "tool": "ktdn-plugin 9.0", "unheard of": 1}
    change(tmp_path / "store", INFO_KEY, json.dumps(newer).encode())
    message = refusal(tmp_path / "store")
    assert "format 2, created by ktdn-plugin 9.0" in message
    assert "upgrade" in message


@pytest.mark.parametrize("info", [b"", b"{", b"[]", b'{"format": "x"}', b'{"format": 1}', b"\xff"])
def test_damaged_description_is_an_error(info: bytes, tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    change(tmp_path / "store", INFO_KEY, info)
    refusal(tmp_path / "store")


def test_missing_tables_and_pixels_are_errors(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    change(tmp_path / "store", b"clear/00000001", b"\0" * 5)
    with pytest.raises(KTDNError, match=r"clear/1\.png: damaged"):
        Store(tmp_path / "store").pixels("clear", 1)
    change(tmp_path / "store", b"clear/00000001/about", b"{")
    with pytest.raises(KTDNError, match="clear image 1: damaged"):
        Store(tmp_path / "store").name("clear", 1)
    for table in (None, b"abc", bytes(8)):
        change(tmp_path / "store", b"clear/sizes", table)
        assert "damaged" in refusal(tmp_path / "store")


def test_changed_pixels_are_found(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    Store(tmp_path / "store").verify("hazy", 3)
    change(tmp_path / "store", b"hazy/00000003", random_image(77, 30, 40).tobytes())
    with pytest.raises(KTDNError, match=r"hazy/3\.png: its checksum is wrong"):
        Store(tmp_path / "store").verify("hazy", 3)


def test_non_stores_are_recognised(tmp_path: Path) -> None:
    assert "not a store" in refusal(tmp_path / "absent")
    (tmp_path / "folder").mkdir()
    assert "not a store" in refusal(tmp_path / "folder")
    lmdb.open(str(tmp_path / "other")).close()
    assert "not a store" in refusal(tmp_path / "other")
    assert not is_store(tmp_path / "other")
    (tmp_path / "folder/data.mdb").write_bytes(b"not an LMDB" * 1000)
    assert "not a readable LMDB" in refusal(tmp_path / "folder")


def test_unfinished_store_is_no_store(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", {}) as writer:
        writer.add("clear", 0, random_image(0, 3, 4), "a")
    assert not (tmp_path / "store").exists()
    with StoreWriter(tmp_path / "store", {}) as writer:
        writer.add("clear", 0, random_image(0, 3, 4), "a")
        writer.flush()
        draft = writer.draft
    assert "never finished" in refusal(draft)


def test_draft_is_gone_on_with(tmp_path: Path) -> None:
    def begin() -> None:
        with StoreWriter(tmp_path / "store", {"plan": 1}) as writer:
            writer.add("clear", 0, random_image(0, 3, 4), "a", (1, 2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        begin()
    with StoreWriter(tmp_path / "store", {"plan": 1}) as writer:
        assert not writer.started_over
        assert writer.has("clear", 0, (1, 2))
        assert not writer.has("clear", 0, (1, 3))  # another version of the file
        assert not writer.has("clear", 1, (1, 2))
        writer.finish(about({"clear": 1}), None)
    assert np.array_equal(Store(tmp_path / "store").pixels("clear", 0), random_image(0, 3, 4))


@pytest.mark.parametrize("limit", ["COMMIT_BYTES", "COMMIT_IMAGES"])
def test_images_do_not_pile_up(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_writer, limit, {"COMMIT_BYTES": 100, "COMMIT_IMAGES": 3}[limit])
    with StoreWriter(tmp_path / "store", {}) as writer:
        for number in range(3):
            assert not writer.has("clear", number)
            writer.add("clear", number, random_image(number, 3, 4), "a")  # 36 bytes
        assert all(writer.has("clear", number) for number in range(3))


def test_draft_of_another_plan_starts_over(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", {"plan": 1}) as writer:
        writer.add("clear", 0, random_image(0, 3, 4), "a")
        writer.flush()
    with StoreWriter(tmp_path / "store", {"plan": 2}) as writer:
        assert writer.started_over
        assert not writer.has("clear", 0)


def test_draft_that_was_complete_but_not_moved_keeps_its_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(plan: int) -> None:
        with StoreWriter(tmp_path / "store", {"plan": plan}) as writer:
            started_over.append(writer.started_over)
            writer.add("clear", 0, random_image(0, 3, 4), "a")
            writer.finish(about({"clear": 1}), None)

    started_over: list[bool] = []
    with monkeypatch.context() as patch:
        patch.setattr("ktdn_plugin.data.store_writer.move", lambda *_: 1 / 0)
        for plan in (1, 1, 2):
            with pytest.raises(ZeroDivisionError):
                write(plan)
    assert started_over == [False, False, True]
    with StoreWriter(tmp_path / "store", {"plan": 2}) as writer:
        writer.finish(about({"clear": 1}), None)
    assert Store(tmp_path / "store").info.counts == {"clear": 1}


@pytest.mark.parametrize("content", [b"x", b"\0" * 4096, b"garbage" * 3000])
def test_damaged_draft_starts_over(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ".store.part").mkdir()
    (tmp_path / ".store.part/data.mdb").write_bytes(content)
    write_store(tmp_path / "store")
    assert len(StoreImages(Store(tmp_path / "store"), "hazy")) == 4


def test_draft_with_a_damaged_page_starts_over(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", {}) as writer:
        writer.add("clear", 0, random_image(0, 3, 4), "a")
        writer.flush()
        file = writer.draft / "data.mdb"
    content = bytearray(file.read_bytes())
    leaves = [start for start in range(8192, len(content), 4096) if content[start + 10] == 2]
    for leaf in leaves:
        content[leaf + 16 : leaf + 18] = b"\xff\xff"  # where LMDB would look for the first key
    file.write_bytes(content)
    with StoreWriter(tmp_path / "store", {}) as writer:
        assert writer.started_over
        assert not writer.has("clear", 0)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        StoreWriter(tmp_path / "store", {}),
        pytest.raises(KTDNError, match="another process is writing it"),
    ):
        StoreWriter(tmp_path / "store", {})
    write_store(tmp_path / "store")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    (tmp_path / "file").touch()
    for name in ("store", "file"):
        with pytest.raises(KTDNError, match="already exists"):
            StoreWriter(tmp_path / name, {})
    # Not even what came while it was written.
    with StoreWriter(tmp_path / "late", {}) as writer:
        writer.add("clear", 0, random_image(0, 3, 4), "a")
        (tmp_path / "late").mkdir()
        (tmp_path / "late/mine.txt").touch()
        with pytest.raises(KTDNError, match="already exists"):
            writer.finish(about({"clear": 1}), None)
    assert [path.name for path in (tmp_path / "late").iterdir()] == ["mine.txt"]


def test_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KTDNError, match="file/store: cannot be written"):
        StoreWriter(tmp_path / "file/store", {})


READING = """
import random, sys
from pathlib import Path
from ktdn_plugin.scenes.store import Store

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

before = anonymous()
store = Store(sys.argv[1])
draw = random.Random(0)
touched = 0
for _ in range(4):
    for number in range(store.info.counts["clear"]):
        top, left = draw.randrange(1000 - 256), draw.randrange(1000 - 256)
        crop = store.pixels("clear", number)[top : top + 256, left : left + 256].copy()
        touched += (crop == number).all()
print(touched, anonymous() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_store(tmp_path: Path, run) -> None:
    count = 100
    with StoreWriter(tmp_path / "store", {}) as writer:
        for number in range(count):
            writer.add("clear", number, np.full((1000, 1000, 3), number, np.uint8), str(number))
        info = writer.finish(about({"clear": count}), None)
    assert info.pixel_bytes == 3e8
    done = run(tmp_path / "store", program=("-c", READING))
    assert done.returncode == 0, done.stderr
    touched, grown = done.stdout.split()
    assert int(touched) == 4 * count
    assert float(grown) < 30  # MiB
    (tmp_path / "store/data.mdb").unlink()


DAMAGE = """
import sys
from pathlib import Path
from ktdn_plugin.scenes.store import Store
from ktdn_plugin.errors import KTDNError

folder, whole = Path(sys.argv[1]), Path(sys.argv[1], "data.mdb").read_bytes()
refused = spoilt = 0
for page in range(len(whole) // 4096):
    content = bytearray(whole)
    content[4096 * page : 4096 * (page + 1)] = b"\\xff" * 4096
    (folder / "data.mdb").write_bytes(content)
    try:
        store = Store(folder)
    except KTDNError:
        refused += 1
        continue
    outcomes = []
    for side in store.sides:
        for number in range(store.info.counts[side]):
            try:
                store.verify(side, number)
                outcomes.append(True)
            except KTDNError:
                outcomes.append(False)
    spoilt += any(outcomes) and not all(outcomes)
print(refused, spoilt)
"""


def test_a_damaged_page_spoils_no_more_than_what_is_on_it(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused, spoilt = map(int, done.stdout.split())
    assert refused > 0
    assert spoilt > 0
