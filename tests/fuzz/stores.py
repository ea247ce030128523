"""Damages stores and LMDBs of BasicSR's layout, and reads all of them in processes of their own."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import cv2
import lmdb
import numpy as np
from figures import Figures

from ktdn_plugin.data.store_writer import StoreWriter
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.images import BasicSRImages
from ktdn_plugin.scenes.lmdb_files import LmdbFile
from ktdn_plugin.scenes.store import Store, StoreInfo

PAGE = 4096
KINDS = {"store": "a.store", "LMDB": "a.lmdb"}
IMAGES = {"store": 60, "LMDB": 150}
STARTING = 60  # seconds that a process may take beyond its time


def run(seed: int, seconds: float, folder: Path) -> Figures:
    """Runs cases until the time is over; what one process does not survive, the next goes on from.

    Args:
        seed: What decides all cases.
        seconds: How long to go on.
        folder: A folder to work in.
    """
    make_store(folder / KINDS["store"])
    make_lmdb(folder / KINDS["LMDB"])
    figures = Figures()
    end = time.monotonic() + seconds
    case = 0
    while (left := end - time.monotonic()) > 0:
        words = [sys.executable, __file__, str(folder), str(seed), str(case), str(left)]
        try:
            child = subprocess.run(
                words, capture_output=True, text=True, timeout=left + STARTING, check=False
            )
            ended = f"signal {-child.returncode}" if child.returncode < 0 else ""
            ended = ended or (f"exit {child.returncode}" if child.returncode else "")
            printed, said = child.stdout, child.stderr
        except subprocess.TimeoutExpired as error:
            ended, printed, said = "no answer", (error.stdout or b"").decode(), ""
        for line in printed.splitlines():
            number, outcome = line.split(" ", 1)
            case = int(number) + 1
            if outcome.startswith("traceback"):
                figures.fault("traceback", f"{outcome}; seed {seed}, case {number}")
            else:
                figures.count(outcome)
        if ended:
            last = said.strip().splitlines()[-1:]
            figures.fault(ended, f"seed {seed}, case {case} {' '.join(last)}")
            case += 1
    return figures


def make_store(path: Path) -> None:
    """Makes a store whose tree has three levels of small images."""
    draw = np.random.RandomState(0)
    count = IMAGES["store"]
    with StoreWriter(path, {}) as writer:
        for number in range(count):
            for side in ("hazy", "clear"):
                image = draw.randint(0, 256, (30 + number % 3, 40, 3)).astype(np.uint8)
                writer.add(side, number, image, f"{side}/{number}.png")
        pairs = np.repeat(np.arange(count, dtype=np.int32)[:, None], 2, 1)
        counts = {"hazy": count, "clear": count}
        writer.finish(StoreInfo("folders", "all", counts, 2 * count, 0, 0), pairs)


def make_lmdb(path: Path) -> None:
    """Makes an LMDB as BasicSR's tools do, with values on the pages of the keys, and on others."""
    with (
        lmdb.open(str(path), map_size=2**28) as environment,
        environment.begin(write=True) as transaction,
    ):
        for number in range(IMAGES["LMDB"]):
            size = 8 if number % 2 else 40
            image = np.random.RandomState(number).randint(0, 256, (size, size, 3))
            png = cv2.imencode(".png", image.astype(np.uint8))[1].tobytes()
            transaction.put(f"{number:04}".encode(), png)


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Changes a few bytes, mostly of those that say where others are."""
    changed = bytearray(content)
    pages = range(0, len(content), PAGE)
    tree = [start for start in pages if content[start + 10] & 0x0B and not content[start + 11]]
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        start = draw.choice(tree)
        how = draw.randrange(6)
        if how == 0:  # a bit of what begins a page
            changed[start + draw.randrange(160)] ^= 1 << draw.randrange(8)
        elif how == 1:  # a byte of a page with keys
            changed[start + draw.randrange(PAGE)] = draw.randrange(256)
        elif how == 2:  # a number that is at an edge
            number = draw.choice((0, 1, 2, PAGE - 1, PAGE, len(pages), len(pages) - 1, 2**16 - 1))
            struct.pack_into("<H", changed, start + 2 * draw.randrange(PAGE // 2), number)
        elif how == 3:
            number = draw.choice((0, 1, len(pages), len(pages) - 1, 2**31, 2**63, 2**64 - 1))
            struct.pack_into("<Q", changed, start + draw.randrange(PAGE - 8), number)
        elif how == 4:  # a page in another one's place
            other = draw.choice(pages)
            changed[start : start + PAGE] = content[other : other + PAGE]
        else:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    if draw.randrange(20) == 0:
        del changed[draw.randrange(len(changed)) :]
    return bytes(changed)


def read(path: Path, kind: str) -> str:
    """Reads all that a file holds, by our reader and by LMDB's library, as training would."""
    try:
        if kind == "store":
            store = Store(path)
            for side in store.sides:
                for number in range(store.info.counts[side]):
                    store.verify(side, number)
                    store.name(side, number)
        else:
            keys = [f"{number:04}" for number in range(IMAGES[kind])]
            images = BasicSRImages(path, keys)
            for number in range(len(keys)):
                images.read(number)
        outcome = "read"
    except KTDNError as error:
        outcome = "refused" if "\n" not in str(error) else f"refused on several lines: {error}"
    try:
        LmdbFile(path).check()
    except KTDNError:
        return outcome
    # What passes must be safe for BasicSR's own reader, which maps it.
    try:
        with (
            lmdb.open(str(path), readonly=True, lock=False, readahead=False) as environment,
            environment.begin() as transaction,
        ):
            for number in range(200):
                for key in (f"{number:04}", f"hazy/{number:08}", f"clear/{number:08}/about"):
                    transaction.get(key.encode())
    except lmdb.Error:
        pass
    return outcome


def child(folder: Path, seed: int, case: int, seconds: float) -> None:
    """Runs cases, and prints a line for each."""
    contents = {kind: (folder / name / "data.mdb").read_bytes() for kind, name in KINDS.items()}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        draw = random.Random(f"{seed} {case}")
        kind = draw.choice(list(KINDS))
        path = folder / f"{case}.lmdb"
        path.mkdir()
        (path / "data.mdb").write_bytes(mutate(contents[kind], draw))
        try:
            outcome = f"{kind} {read(path, kind)}"
        except Exception as error:
            outcome = f"traceback {type(error).__name__}: {error}".replace("\n", " ")
        print(case, outcome, flush=True)
        shutil.rmtree(path)
        case += 1


if __name__ == "__main__":
    child(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
