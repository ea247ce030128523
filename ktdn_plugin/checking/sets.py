"""The sets that are to be checked: stores, LMDBs, folders, and folders of those."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ktdn_plugin.checking.findings import Finding
from ktdn_plugin.checking.stores import judge_store
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.lmdb_files import is_lmdb
from ktdn_plugin.scenes.names import side_of_folder
from ktdn_plugin.scenes.opening import FOLDERS, holds_lmdbs, open_scenes
from ktdn_plugin.scenes.scene_set import SceneSet


def open_sets(paths: Sequence[Path], dataset: str | None, splits: Sequence[str]) -> list[SceneSet]:
    """Finds the sets.

    A folder that is not a set itself, but has stores or folders of pairs in it, counts as those.

    Args:
        paths: What :func:`ktdn_plugin.scenes.opening.open_scenes` takes.
        dataset: How folders are laid out, one of :data:`ktdn_plugin.scenes.opening.LAYOUTS`; as
            ``folders`` if none is given.
        splits: Which parts of the dataset, each a set; its usual one where there are none.

    Returns:
        The sets, in the order of the paths, sets of one path sorted by name.

    Raises:
        KTDNError: If a path is not a set and has none, or is given twice, or if dataset or splits
            do not fit.
    """
    layout = FOLDERS if dataset is None else dataset
    found = [part for path in paths for part in _parts_of(Path(path), layout)]
    seen: set[Path] = set()
    for path in found:
        if path.resolve() in seen:
            raise KTDNError(f"{path}: given twice; remove one")
        seen.add(path.resolve())
    _check_splits(layout, splits, found)
    only_lmdbs = all(_is_lmdb(path) for path in found)
    wanted: Sequence[str | None] = splits or (None,)
    sets: list[SceneSet] = []
    for path in found:
        if not _is_lmdb(path):
            # Incomplete ones are listed with what is missing; the files are looked into later.
            sets += [
                open_scenes(path, layout, split, allow_incomplete=True, check_files=False)
                for split in wanted
            ]
            continue
        opened = open_scenes(path)
        # Beside a folder they may be meant for that.
        if only_lmdbs and opened.dataset:
            _check_is_of(opened, dataset, splits)
        sets.append(opened)
    return sets


def name_of(scenes: SceneSet) -> str:
    """Returns what to call a set: the path, and which part of which dataset."""
    if not scenes.dataset or (scenes.kind == "folder" and scenes.dataset == FOLDERS):
        return str(scenes.place)
    return f"{scenes.place} ({scenes.dataset}/{scenes.split})"


def judge_set(scenes: SceneSet) -> list[Finding]:
    """Returns what is wrong with a set before any image is read."""
    if scenes.kind == "folder":
        lines = [f"{scenes.place}: {line}; add or remove it" for line in scenes.missing]
        return [Finding("missing", "error", line) for line in lines]
    lines = [f"{scenes.place}: {line}" for line in scenes.missing]
    own = [] if scenes.store is None else judge_store(scenes.store)
    return own + [Finding("missing", "warning", line) for line in lines]


def _check_splits(layout: str, splits: Sequence[str], found: Sequence[Path]) -> None:
    for number, split in enumerate(splits):
        if split in splits[:number]:
            raise KTDNError(f"--split {split}: given twice; remove one")
    folder = next((path for path in found if not _is_lmdb(path)), None)
    if layout == FOLDERS and len(splits) > 1 and folder is not None:
        raise KTDNError(
            f"{folder}: has only one split, which --split names; give --split once, or the "
            "layout with --dataset"
        )


def _check_is_of(scenes: SceneSet, dataset: str | None, splits: Sequence[str]) -> None:
    what = "a store" if scenes.kind == "store" else "LMDBs"
    if dataset not in (None, scenes.dataset):
        raise KTDNError(
            f"{scenes.place}: {what} of '{scenes.dataset}', not of '{dataset}'; leave out "
            "--dataset, which is for folders"
        )
    if splits and scenes.split not in splits:
        raise KTDNError(
            f"{scenes.place}: {what} of the split '{scenes.split}', not of "
            f"'{' or '.join(splits)}'; remove --split, which is for folders"
        )


def _is_lmdb(path: Path) -> bool:
    return is_lmdb(path) or holds_lmdbs(path)


def _parts_of(path: Path, dataset: str) -> list[Path]:
    if not path.is_dir() or _is_lmdb(path):
        return [path]
    try:
        below = sorted(p for p in path.iterdir() if p.is_dir() and p.name[0] != ".")
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}") from error
    if _holds_sides(path):
        return [path]
    parts = [p for p in below if _is_lmdb(p) or (dataset == FOLDERS and _holds_sides(p))]
    return parts or [path]


def _holds_sides(folder: Path) -> bool:
    return any(side_of_folder(p.name) and p.is_dir() for p in folder.iterdir())
