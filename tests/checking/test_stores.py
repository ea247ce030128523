"""Stores: checked like folders, and for what they say of themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import lmdb
import numpy as np
import pytest
from checking.conftest import Check, Image, problems, read, write
from helpers import one

from ktdn_plugin.data.store_writer import StoreWriter
from ktdn_plugin.scenes.store import StoreInfo


def make_store(folder: Path, path: Path, missing: Sequence[str] = ()) -> Path:
    names = sorted(p.name for p in (folder / "clear").iterdir())
    with StoreWriter(path, {"test": 1}) as writer:
        for number, name in enumerate(names):
            for side in ("hazy", "clear"):
                writer.add(side, number, read(folder / side / name), f"{side}/{name}")
        counts = {"hazy": len(names), "clear": len(names)}
        pairs = np.repeat(np.arange(len(names), dtype=np.int32)[:, None], 2, axis=1)
        info = StoreInfo("folders", "train", counts, 2 * len(names), 1234, 0, list(missing))
        writer.finish(info, pairs)
    return path


def change(store: Path, key: bytes, edit: Callable[[bytes], bytes]) -> None:
    with (
        lmdb.open(str(store), map_size=2**30) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(key, edit(bytes(transaction.get(key))))


def test_a_store_is_checked_like_a_folder(healthy: Path, check: Check):
    store = make_store(healthy, healthy.parent / "good.store")
    done = check("good.store")
    assert (done.returncode, problems(done)) == (0, []), done.stdout
    assert "checksums and fingerprint compared" in done.stdout

    hazy = healthy / "hazy"
    (hazy / "cat_0.png").rename(hazy / "x.png")
    (hazy / "cat_1.png").rename(hazy / "cat_0.png")
    (hazy / "x.png").rename(hazy / "cat_1.png")
    make_store(healthy, healthy.parent / "bad.store")
    done = check(store, "bad.store")
    assert done.returncode == 1
    kinds = [line.split("]")[0] for line in problems(done)]
    assert kinds == ["error [scene"] * 2 + ["error [duplicate"] * 10
    assert "bad.store, hazy image hazy/cat_0.png and bad.store, clear image" in done.stdout


def test_a_damaged_store_is_found_by_its_checksums(healthy: Path, check: Check):
    store = make_store(healthy, healthy.parent / "good.store")
    names = sorted(path.name for path in (healthy / "clear").iterdir())
    change(store, b"clear/00000003", lambda old: old[:1000] + bytes([old[1000] ^ 1]) + old[1001:])
    done = check("good.store")
    assert done.returncode == 1
    line = one(problems(done))
    assert line.startswith(
        f"error [unreadable] good.store, clear image clear/{names[3]}: its checksum is wrong"
    )


@pytest.fixture
def small(tmp_path: Path, photos: dict[str, Image], hazy: dict[str, Image]) -> Path:
    """A folder ``set`` of two pairs."""
    for name in ("cat_0", "coffee_0"):
        write(tmp_path / "set/hazy" / f"{name}.png", hazy[name])
        write(tmp_path / "set/clear" / f"{name}.png", photos[name])
    return tmp_path / "set"


def test_what_a_store_was_made_from_is_reported(small: Path, check: Check):
    make_store(small, Path("a.store"), ["hazy/3.png is missing", "hazy/4.png is missing"])
    done = check("a.store")
    assert done.returncode == 0
    lines = problems(done)
    assert lines == [f"warning [missing] a.store: hazy/{n}.png is missing" for n in (3, 4)]
    line = one([line for line in done.stdout.splitlines() if line.startswith("a.store: ")])
    assert line.startswith(
        "a.store: folders/train (incomplete: 2 missing), from 4 files of 1.205 KiB; "
    )
    assert " KiB of pixels; fingerprint " in line or " MiB of pixels; fingerprint " in line
    assert "; created by ktdn-plugin " in line


def transposed(sizes: bytes) -> bytes:
    return np.frombuffer(sizes, "<i4").reshape(-1, 2)[:, ::-1].tobytes()


def renamed(about: bytes) -> bytes:
    return json.dumps({**json.loads(about), "name": "clear/other.png"}).encode()


@pytest.mark.parametrize(
    ("key", "edit", "wanted"),
    [
        (b"pairs", lambda pairs: pairs[8:] + pairs[:8], "its fingerprint is wrong"),
        (b"clear/00000001/about", renamed, "its fingerprint is wrong"),
        (b"clear/sizes", transposed, "its table of clear sizes is damaged"),
        (b"hazy/00000000/about", lambda _: b'{"name": "x"}', "damaged (hazy image 0 has no 'he"),
    ],
)
def test_tables_that_do_not_fit_are_an_error(
    small: Path, check: Check, key: bytes, edit: Callable[[bytes], bytes], wanted: str
):
    change(make_store(small, Path("a.store")), key, edit)
    done = check("a.store")
    assert done.returncode == 1
    line = one([line for line in problems(done) if "[store]" in line])
    assert line.startswith(f"error [store] a.store: {wanted}")
    assert line.endswith("; rebuild the store")
    assert "1 wrong in the store itself" in done.stdout


def test_flags_that_contradict_a_store_are_refused(small: Path, check: Check):
    make_store(small, Path("a.store"))
    for flags, wanted in (
        (("--dataset", "nh-haze"), "a.store: a store of 'folders', not of 'nh-haze'"),
        (("--split", "nonsense"), "a.store: a store of the split 'train', not of 'nonsense'"),
    ):
        done = check("a.store", *flags)
        assert (done.returncode, done.stdout) == (1, "")
        assert wanted in one(done.stderr.splitlines())
    assert check("a.store", "--dataset", "folders", "--split", "train").returncode == 0
    # Beside a folder, they are the folder's.
    assert "between sets" in check("a.store", "set", "--split", "val").stdout
