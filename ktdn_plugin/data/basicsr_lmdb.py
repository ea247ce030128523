"""LMDBs of BasicSR's format: a PNG under each key, and a text file that lists them.

Stock BasicSR pairs hazy and clear images by equal keys, so a clear image that several hazy ones
share is stored once for each of them. Keys end at the first dot of what the text file says, and
must be ASCII.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import lmdb
import numpy as np
from tqdm import tqdm

from ktdn_plugin.data.atomic_folders import check_free, disk_failures_as_errors, lock_draft, move
from ktdn_plugin.data.decoding import Source, in_order
from ktdn_plugin.data.store_writer import COMMIT_BYTES, ROOM, Content, lmdb_path, put
from ktdn_plugin.photos import encode_png, read_file
from ktdn_plugin.photos.png_chunks import is_plain_png
from ktdn_plugin.scenes.opening import INFO_FILE
from ktdn_plugin.scenes.scene_set import SceneSet
from ktdn_plugin.scenes.store import StoreInfo, checksum

COMPRESSION = 1  # quick to decode; BasicSR's own tools choose it, too
_LONGEST = 500  # LMDB takes 511 bytes


def write_basicsr_lmdbs(
    scenes: SceneSet,
    sources: Sequence[Source],
    info: StoreInfo,
    destination: Path,
    workers: int | None,
) -> StoreInfo:
    """Writes ``hazy.lmdb`` and ``clear.lmdb``, or ``clear.lmdb`` alone, and ``ktdn.json``.

    They are made in a hidden folder, which is moved to its place when it is whole. An interrupted
    one is begun anew.

    Args:
        scenes: The images.
        sources: The same, measured.
        info: What to write about them.
        destination: The folder to make.
        workers: Images to decode at a time.

    Returns:
        The information, with the fingerprint that a store of the same images has.

    Raises:
        KTDNError: If the place is taken, an image cannot be read, or the disk is full.
    """
    draft = destination.parent / f".{destination.name}.basicsr.part"
    check_free(destination)
    with contextlib.ExitStack() as stack:
        lock = lock_draft(draft, destination)
        if lock is not None:
            stack.enter_context(lock)
        stack.enter_context(_removed_on_failure(draft))
        # Inside: how much space is left is asked before anything is removed.
        stack.enter_context(
            disk_failures_as_errors(destination, "free some space, or name another place")
        )
        for folder in draft.glob("*.lmdb"):  # of a try that was killed
            shutil.rmtree(folder)
        count = len(scenes.clear if scenes.pairs is None else scenes.pairs)
        keys = unique_keys([scenes.name_of(number) for number in range(count)])
        content = Content(scenes.pairs)
        bar = stack.enter_context(tqdm(total=len(sources), unit="image", disable=None))
        for side, of_each in _keys_by_image(scenes, keys).items():
            _write_side(
                draft / f"{side}.lmdb",
                [each for each in sources if each.side == side],
                of_each,
                content,
                workers,
                bar,
            )
        info = content.complete(info)
        (draft / INFO_FILE).write_bytes(info.as_json())
        move(draft, destination)
    return info


@contextlib.contextmanager
def _removed_on_failure(draft: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def unique_keys(names: Sequence[str]) -> list[str]:
    """Makes keys out of names: ASCII, without dots, no two alike."""
    taken: set[str] = set()
    keys = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[-_LONGEST:]
        key, more = plain, 1
        while key in taken:
            more += 1
            key = f"{plain}_{more}"
        taken.add(key)
        keys.append(key)
    return keys


def _keys_by_image(scenes: SceneSet, keys: Sequence[str]) -> dict[str, list[list[str]]]:
    if scenes.hazy is None or scenes.pairs is None:
        return {"clear": [[key] for key in keys]}
    found: dict[str, list[list[str]]] = {
        "hazy": [[] for _ in range(len(scenes.hazy))],
        "clear": [[] for _ in range(len(scenes.clear))],
    }
    for key, (hazy, clear) in zip(keys, scenes.pairs.tolist(), strict=True):
        found["hazy"][hazy].append(key)
        found["clear"][clear].append(key)
    return found


def _write_side(
    folder: Path,
    sources: Sequence[Source],
    keys: Sequence[Sequence[str]],
    content: Content,
    workers: int | None,
    bar: tqdm,
) -> None:
    lines: list[str] = []
    entries: list[tuple[bytes, bytes | memoryview]] = []
    environment = lmdb.open(lmdb_path(folder), map_size=ROOM)
    results = in_order(_encode, sources, workers)
    with contextlib.closing(environment), contextlib.closing(results):
        for source, (png, sha256) in results:
            height, width = source.kept
            for key in keys[source.number]:
                entries.append((key.encode(), png))
                lines.append(f"{key}.png ({height},{width},3) {COMPRESSION}\n")
            content.add(source.side, source.name, sha256, source.kept)
            if sum(len(value) for _, value in entries) > COMMIT_BYTES:
                put(environment, entries)
                entries = []
            bar.update()
        put(environment, entries)
    (folder / "meta_info.txt").write_text("".join(sorted(lines)), encoding="ascii")


def _encode(source: Source) -> tuple[bytes | memoryview, str]:
    """Returns an image as a PNG, and the checksum of its pixels."""
    content = read_file(source.path)
    rgb = np.ascontiguousarray(source.decode(content))
    sha256 = checksum(rgb)
    if rgb.shape[:2] == source.size and is_plain_png(content):
        return content, sha256
    return encode_png(rgb, level=COMPRESSION), sha256
