"""``ktdn prepare``: images are decoded once, into a store."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ktdn_plugin.console import print_lines, readable_size
from ktdn_plugin.data.atomic_folders import DiskError, free_bytes, place_for
from ktdn_plugin.data.decoding import Source, in_order, measure
from ktdn_plugin.data.store_writer import StoreWriter
from ktdn_plugin.data.usable import drop_unusable
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import read_file
from ktdn_plugin.scenes.image_files import name_within
from ktdn_plugin.scenes.images import FileImages
from ktdn_plugin.scenes.lmdb_files import is_lmdb
from ktdn_plugin.scenes.names import WORDS
from ktdn_plugin.scenes.opening import FOLDERS, count_outside, open_scenes
from ktdn_plugin.scenes.problems import first_of
from ktdn_plugin.scenes.scene_set import SceneSet
from ktdn_plugin.scenes.store import StoreInfo

PAGE = 4096  # LMDB stores whole pages
RESERVE = 4 * 2**20  # for LMDB's own tables, at least


def prepare(
    source: str | Path,
    destination: str | Path,
    dataset: str = FOLDERS,
    split: str | None = None,
    *,
    clear_only: bool = False,
    allow_incomplete: bool = False,
    hazy: str | Path | None = None,
    clear: str | Path | None = None,
    workers: int | None = None,
) -> StoreInfo:
    """Makes a store of a dataset's images.

    It appears at its place only when it is whole. One that was interrupted, by whatever, is gone on
    with where it was when it is made again.

    Args:
        source: The folder that the dataset was unpacked into.
        destination: The folder to make.
        dataset: Its layout; this and the arguments up to ``clear`` are
            :func:`ktdn_plugin.scenes.opening.open_scenes`'s.
        split: Which part of it.
        clear_only: Take the clear images alone.
        allow_incomplete: Take what is there instead of refusing an incomplete or altered copy.
        hazy: The folder of hazy images.
        clear: The folder of clear images.
        workers: Images to decode at a time; by default one per processor.

    Returns:
        What the store says about itself.

    Raises:
        KTDNError: If the place is taken, an image is missing or cannot be read, or the disk is
            full.
    """
    source, destination = Path(source), place_for(Path(destination))
    for folder in (source, hazy, clear):
        _refuse_lmdb(folder)
    if destination.resolve().is_relative_to(source.resolve()):
        raise KTDNError(f"{destination}: lies within {source}, its own source")
    if dataset != FOLDERS and (hazy is not None or clear is not None):
        raise KTDNError(
            f"--hazy and --gt only apply to '{FOLDERS}': the folders of {dataset} are known"
        )
    if hazy is not None and clear is None:
        raise KTDNError(
            f"{source}: --hazy holds hazy images, but there is no folder of clear ones beside it "
            f"({', '.join(WORDS['clear'])}); give it with --gt"
        )
    hazy, clear = (None if each is None else _place(source, Path(each)) for each in (hazy, clear))
    scenes = open_scenes(
        source,
        dataset,
        split,
        clear_only=clear_only,
        # What is wrong with anyone's folders is told below, together with their files' faults.
        allow_incomplete=allow_incomplete or dataset == FOLDERS,
        hazy=hazy,
        clear=clear,
    )
    if dataset == FOLDERS:
        chosen = hazy is None and clear is None
        where = f"'ktdn check-data {source}' lists them all" if chosen else ""
        scenes = drop_unusable(scenes, allow_incomplete=allow_incomplete, where=where)
        outside, names = count_outside(source) if chosen else (0, [])
        if outside:
            count = "1 image" if outside == 1 else f"{outside} images"
            print_lines(f"Ignoring {count} of {source} outside {' and '.join(names)}.")
    sources = measure(scenes)
    info = StoreInfo(
        dataset=scenes.dataset,
        split=scenes.split,
        counts=_counts(scenes),
        source_files=len(sources),
        source_bytes=sum(each.file_bytes for each in sources),
        pixel_bytes=sum(each.pixel_bytes for each in sources),
        missing=list(scenes.missing),
    )
    if scenes.missing:
        where = f"all {len(scenes.missing)} are kept in {destination}: 'ktdn check-data' lists them"
        lines = first_of(scenes.missing, where)
        print_lines(
            f"Continuing with an incomplete or altered copy, without what is unusable: {lines}"
        )
    info = _write_store(scenes, sources, info, destination, workers)
    print_lines(
        f"Created {destination}: {info.name}, {_counted(info)}, fingerprint {info.fingerprint}."
    )
    return info


def _place(root: Path, path: Path) -> Path:
    """Returns a folder that was named, in the root or from where one is."""
    for candidate in (root / path, path):
        if candidate.is_dir():
            return candidate
    raise KTDNError(f"{root / path}: no such folder")


def _refuse_lmdb(path: str | Path | None) -> None:
    if path is not None and is_lmdb(path):
        raise KTDNError(
            f"{path}: an LMDB is not a folder of images; stores and BasicSR's LMDBs are read "
            "directly by the datasets"
        )


def _counts(scenes: SceneSet) -> dict[str, int]:
    sides = {"hazy": len(scenes.files("hazy")), "clear": len(scenes.files("clear"))}
    return {side: count for side, count in sides.items() if count}


def _counted(info: StoreInfo) -> str:
    counts = " and ".join(f"{count} {side}" for side, count in info.counts.items())
    return f"{counts} images, {readable_size(info.pixel_bytes)} of pixels"


def _check_room(path: Path, needed: int) -> None:
    free = free_bytes(path.parent)  # where the draft is
    if needed > free:
        raise KTDNError(
            f"{path}: {readable_size(needed)} are needed, but only {readable_size(free)} are "
            "free on its disk; free "
            "some space, or name another place"
        )


def _write_store(
    scenes: SceneSet,
    sources: Sequence[Source],
    info: StoreInfo,
    destination: Path,
    workers: int | None,
) -> StoreInfo:
    print_lines(f"Creating {destination}: {info.name}, {_counted(info)}.")
    pages = sum(each.pixel_bytes // PAGE + 2 for each in sources)
    needed = pages * PAGE + pages * PAGE // 100 + RESERVE
    draft = destination.parent / f".{destination.name}.part" / "data.mdb"
    # A draft's space is used again, whether it is resumed or started over.
    _check_room(destination, needed - (draft.stat().st_size if draft.exists() else 0))
    with StoreWriter(destination, _plan(scenes)) as writer:
        if writer.started_over:
            print_lines("An earlier, unfinished attempt used other files: starting over.")
        left = [each for each in sources if not writer.has(each.side, each.number, each.version)]
        done = len(sources) - len(left)
        if done:
            print_lines(f"Resuming: {done} of {len(sources)} images are already done.")
        results = in_order(_decode, left, workers, lambda source: source.pixel_bytes)
        bar = tqdm(total=len(sources), initial=done, unit="image", disable=None)
        try:
            # Closed, so that no worker outlives an error.
            with bar, contextlib.closing(results):
                for each, image in results:
                    writer.add(each.side, each.number, image, each.name, each.version)
                    bar.update()
        except DiskError:  # says so itself
            raise
        except KTDNError as error:
            raise KTDNError(
                f"{error}; finished images are kept: run the same command again to resume"
            ) from error
        return writer.finish(info, scenes.pairs)


def _decode(source: Source) -> NDArray[np.uint8]:
    return np.ascontiguousarray(source.decode(read_file(source.path)))


def _plan(scenes: SceneSet) -> dict[str, Any]:
    """What an unfinished store must agree with; a file that was only fixed does not change it."""
    files = [
        [side, name_within(path, scenes.place)]
        for side, paths in (("hazy", scenes.files("hazy")), ("clear", scenes.files("clear")))
        for path in paths
    ]
    return {
        "split": f"{scenes.dataset}/{scenes.split}",
        "center": scenes.clear.center if isinstance(scenes.clear, FileImages) else None,
        "files": hashlib.sha256(json.dumps(files).encode()).hexdigest(),
    }
