"""Opens scenes: one way into folders, public datasets, LMDBs and stores."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.scenes.folders import find_folders, find_images, list_side
from ktdn_plugin.scenes.image_files import list_images
from ktdn_plugin.scenes.images import BasicSRImages, FileImages, Images, StoreImages
from ktdn_plugin.scenes.lmdb_files import is_lmdb
from ktdn_plugin.scenes.meta_info import read_meta_info
from ktdn_plugin.scenes.names import Side, without_role
from ktdn_plugin.scenes.pairing import label_of, pair_images
from ktdn_plugin.scenes.problems import first_of, refuse, some
from ktdn_plugin.scenes.public_copies import list_public
from ktdn_plugin.scenes.public_datasets import DATASETS
from ktdn_plugin.scenes.scene_set import SceneSet, identity_pairs, pairs_array
from ktdn_plugin.scenes.store import Store, StoreInfo, is_store

FOLDERS = "folders"
LAYOUTS = (*DATASETS, FOLDERS)
HAZY_LMDB, CLEAR_LMDB = "hazy.lmdb", "clear.lmdb"
"""LMDBs of BasicSR's that lie in one folder and belong together."""


def open_scenes(
    place: str | Path,
    dataset: str | None = None,
    split: str | None = None,
    *,
    hazy: str | Path | None = None,
    clear: str | Path | None = None,
    clear_only: bool = False,
    allow_incomplete: bool = False,
    check_files: bool = True,
    may_be_alone: Sequence[Side] = (),
) -> SceneSet:
    """Opens hazy and clear images that belong together, or clear images alone; decodes none.

    Args:
        place: A store made by ``ktdn prepare``; a BasicSR LMDB, or a folder of two,
            ``hazy.lmdb`` and ``clear.lmdb``; or a folder: of hazy and clear images, see
            :func:`ktdn_plugin.scenes.folders.find_images`, of clear images alone, or, with
            ``dataset``, of a public dataset as it is unpacked.
        dataset: One of ``LAYOUTS``. ``folders`` is any folder, as when none is given, and gives
            the split the folder's name where it has none.
        split: Which part of a public dataset; needed where there are several. Else a name that the
            images shall go by.
        hazy: Folder, LMDB or store of the hazy images, in place of those beside the clear ones.
        clear: Folder of the clear images, where that is not ``place`` itself.
        clear_only: Take the clear images alone.
        allow_incomplete: Take what is there instead of refusing an incomplete or altered copy, or
            images without a partner.
        check_files: Look into the files of a public dataset as well (sizes out of their headers,
            hazy and clear not the same file), not only at their names.
        may_be_alone: Sides whose images may lack a partner where ``hazy`` is named; they stay, in
            no pair.

    Raises:
        KTDNError: If there is no such dataset, split, folder or image, or if images are missing,
            altered, or do not pair, and that is not allowed.
    """
    place = Path(place)
    if dataset is not None and dataset not in LAYOUTS:
        hint = did_you_mean(dataset, LAYOUTS)
        raise KTDNError(f"'{dataset}' is not a known dataset ({', '.join(LAYOUTS)}){hint}")
    without_hazy = clear_only or hazy is not None
    if is_lmdb(place) or holds_lmdbs(place):
        scenes = _open_lmdb(place, dataset, split, without_hazy)
    elif dataset is not None and dataset != FOLDERS:
        _require_folder(place)
        scenes = list_public(
            place,
            dataset,
            split,
            clear_only=without_hazy,
            allow_incomplete=allow_incomplete,
            check_files=check_files,
        )
    else:
        _require_folder(place)
        named = _name_split(place, dataset, split)
        if hazy is None and clear is None:
            return _open_folder(place, *named, clear_only, allow_incomplete)
        clears, hazies = _list_named(place, hazy, clear, clear_only)
        scenes = SceneSet(place, clears, None, None, *named)
        if hazies is None:
            return _with_names(scenes, [], allow_incomplete)
        return _pair(scenes, hazies, allow_incomplete, may_be_alone)
    if hazy is None or clear_only:
        return scenes
    if scenes.kind == "lmdb" and is_lmdb(hazy) and not is_store(hazy):
        both = open_lmdbs({"hazy": Path(hazy), "clear": place})
        return replace(scenes, hazy=both[0], clear=both[1], pairs=identity_pairs(len(both[0])))
    return _pair(scenes, open_images(Path(hazy), "hazy"), allow_incomplete, may_be_alone)


def holds_lmdbs(place: Path) -> bool:
    """Returns whether a folder has LMDBs of BasicSR's in it, that of the clear images at least."""
    return is_lmdb(place / CLEAR_LMDB)


def open_images(place: Path, side: Side | None = None) -> Images:
    """Opens images alone, from a folder, a store or an LMDB.

    Args:
        place: Where they are.
        side: What is wanted of a store, and of a folder that has folders of hazy and clear images
            in it; all of a folder by default. Of a store without this side, the other is taken.

    Raises:
        KTDNError: If it is not there or holds no image.
    """
    if is_store(place):
        store = Store(place)
        return StoreImages(store, side if side in store.sides else store.sides[-1])
    if is_lmdb(place):
        return open_lmdbs({side or "": place})[0]
    _require_folder(place)
    paths, folder = (list_images(place), place) if side is None else list_side(place, side)
    return FileImages(paths, root=folder)


def _require_folder(place: Path) -> None:
    """Refuses what is not a folder, and suggests a name."""
    if place.is_dir():
        return
    if place.exists():
        raise KTDNError(
            f"{place}: a file, not a folder; give its folder, or unpack it if it is an archive"
        )
    try:
        near = [folder.name for folder in place.parent.iterdir() if folder.is_dir()]
    except OSError:
        near = []
    raise KTDNError(f"{place}: no such folder{did_you_mean(place.name, near)}")


def _name_split(place: Path, dataset: str | None, split: str | None) -> tuple[str, str]:
    """Returns the names of dataset and split of anyone's folder."""
    if split is not None and (not split.strip() or "/" in split or "\\" in split):
        raise KTDNError(f"--split '{split}': must be a name without slashes, such as 'train'")
    if dataset is None or split is not None:
        return dataset or "", split or ""
    # After its folder, so that two of them are distinguished.
    name = re.sub(r"[\\/\x00-\x1f\x7f]", "_", place.resolve().name).strip()
    return dataset, name or "all"


def _open_folder(
    place: Path, dataset: str, split: str, clear_only: bool, allow_incomplete: bool
) -> SceneSet:
    found = find_images(place, clear_only=clear_only)
    clear = FileImages(found.clear, root=found.folders.get("clear", place))
    scenes = SceneSet(place, clear, None, None, dataset, split)
    if not found.hazy:
        return _with_names(scenes, [], allow_incomplete)
    hazy = FileImages(found.hazy, root=found.folders.get("hazy", place))
    if not clear_only:
        return _pair(scenes, hazy, allow_incomplete)
    # They lie together: what tells the clear ones has to hold of all.
    pairing, _, _ = pair_images(hazy, clear, place)
    return _with_names(scenes, pairing.hazy_problems(), allow_incomplete)


def _list_named(
    place: Path, hazy: str | Path | None, clear: str | Path | None, clear_only: bool
) -> tuple[FileImages, Images | None]:
    """Lists clear and hazy images whose folders were named."""
    clear_place = place if clear is None else Path(clear)
    _require_folder(clear_place)
    if hazy is None or clear_only:
        paths = find_images(clear_place, clear_only=True)
        return FileImages(paths.clear, root=paths.folders.get("clear", clear_place)), None
    hazy_place = Path(hazy)
    if hazy_place.resolve() == clear_place.resolve():
        both = find_images(clear_place)
        if not both.hazy:
            raise KTDNError(
                f"{hazy_place}: named for hazy and for clear images, and neither folders nor names "
                "tell which is which; give a folder for each"
            )
        roots = [both.folders.get(side, place) for side in ("clear", "hazy")]
        return FileImages(both.clear, root=roots[0]), FileImages(both.hazy, root=roots[1])
    found = find_images(clear_place, clear_only=True)
    clear_root = found.folders.get("clear", clear_place)
    hazies = open_images(hazy_place, "hazy")
    if not isinstance(hazies, FileImages):
        return FileImages(found.clear, root=clear_root), hazies
    hazy_root = hazies.root or hazy_place
    clear_paths = _outside(found.clear, clear_root, hazy_root)
    hazy_paths = _outside(hazies.paths, hazy_root, clear_root)
    return FileImages(clear_paths, root=clear_root), FileImages(hazy_paths, root=hazy_root)


def _outside(paths: list[Path], root: Path, other: Path) -> list[Path]:
    """Leaves out, of the files below a folder, those of another folder that lies in it."""
    if root not in other.parents:
        return paths
    return [path for path in paths if other not in path.parents]


def _with_names(scenes: SceneSet, problems: list[str], allow_incomplete: bool) -> SceneSet:
    """Completes a set of clear images alone."""
    clear = scenes.clear
    names = [without_role(clear.key(number)) for number in range(len(clear))]
    problems = [*problems, *_called_alike(names, lambda n: label_of(clear, n, scenes.place))]
    if not allow_incomplete:
        refuse(scenes.place, "not all images can be used", problems, "rename, add or remove them")
    return replace(scenes, names=names, missing=problems)


def _pair(
    scenes: SceneSet, hazy: Images, allow_incomplete: bool, may_be_alone: Sequence[Side] = ()
) -> SceneSet:
    """Completes a set with the hazy images of its clear ones."""
    place, clear = scenes.place, scenes.clear
    pairing, hazies, clears = pair_images(hazy, clear, place)
    if may_be_alone and pairing.ambiguous:
        raise KTDNError(first_of([pairing.faults[n] for n in sorted(pairing.ambiguous)]))
    faults = {"hazy": pairing.hazy_problems(), "clear": pairing.clear_problems(clears)}
    problems = [line for side in faults if side not in may_be_alone for line in faults[side]]
    numbers = [(h, c) for h, c in enumerate(pairing.partners) if c is not None]
    names = [without_role(hazies[number].keys[0]) for number, _ in numbers]
    problems += _called_alike(names, lambda n: hazies[numbers[n][0]].label)
    if not allow_incomplete:
        refuse(place, "not all images have a partner", problems, "rename, add or remove them")
    if not numbers:
        lines = first_of(problems or faults["hazy"])
        raise KTDNError(f"{place}: no hazy image has a clear partner: {lines}")
    whole = replace(
        scenes,
        hazy=hazy,
        pairs=pairs_array(numbers),
        missing=[*scenes.missing, *problems],
        fingerprint="",
        names=names,
    )
    if may_be_alone or not (pairing.faults or pairing.alone):
        return whole
    return whole.only(range(len(numbers)))


def _called_alike(names: Sequence[str], label: Callable[[int], str]) -> list[str]:
    """Finds images that would be called alike, in a store's keys or in a table."""
    first: dict[str, int] = {}
    lines = []
    for number, name in enumerate(names):
        if (other := first.setdefault(name, number)) != number:
            both = f"{label(other)} and {label(number)}"
            lines.append(f"{both} count as the same image; rename or remove one")
    return lines


def count_outside(root: Path) -> tuple[int, list[str]]:
    """Counts the images that are in none of the folders that are chosen by their names.

    Returns:
        How many there are, and the names of the folders.
    """
    chosen = list(find_folders(root).values())
    if not chosen:
        return 0, []
    folders, names = [folder.resolve() for folder in chosen], [folder.name for folder in chosen]
    try:
        parents = Counter(path.parent for path in list_images(root, announces=False))
    except KTDNError:  # a folder beside them that may not be read
        return 0, names
    count = sum(
        count
        for parent, count in parents.items()
        if not any(parent.resolve().is_relative_to(folder) for folder in folders)
    )
    return count, names


def _open_lmdb(place: Path, dataset: str | None, split: str | None, clear_only: bool) -> SceneSet:
    if is_store(place):
        return _open_store(Store(place), dataset, split, clear_only)
    both = not is_lmdb(place)
    clear_place = place / CLEAR_LMDB if both else place
    roots = {"clear": clear_place}
    if place.name == HAZY_LMDB and is_lmdb(place.parent / CLEAR_LMDB):
        raise KTDNError(
            f"{place}: hazy images, whose clear ones are beside it; give {place.parent}"
        )
    if both and not clear_only and is_lmdb(place / HAZY_LMDB):
        roots = {"hazy": place / HAZY_LMDB, **roots}
    if dataset:
        raise KTDNError("layout: BasicSR's LMDBs list their own images; remove this key")
    images = open_lmdbs(roots)
    pairs = identity_pairs(len(images[0])) if len(images) > 1 else None
    hazy = images[0] if len(images) > 1 else None
    return SceneSet(place, images[-1], hazy, pairs, split=split or "")


def _open_store(store: Store, dataset: str | None, split: str | None, clear_only: bool) -> SceneSet:
    _compare(dataset, split, store.info, store.path)
    clear = StoreImages(store, "clear")
    hazy = None if clear_only or "hazy" not in store.sides else StoreImages(store, "hazy")
    scenes = SceneSet(store.path, clear, hazy, None if hazy is None else store.pairs)
    return replace(
        scenes,
        dataset=store.info.dataset,
        split=store.info.split,
        missing=store.info.missing,
        fingerprint=store.info.fingerprint,
    )


def _compare(dataset: str | None, split: str | None, info: StoreInfo, path: Path) -> None:
    for key, wanted, found in (("layout", dataset, info.dataset), ("split", split, info.split)):
        if wanted not in (None, found):
            raise KTDNError(f"{key}: {wanted} was requested, but {path} holds {info.name}")


def open_lmdbs(roots: dict[str, Path]) -> list[BasicSRImages]:
    """Opens LMDBs made by BasicSR's tools, whose keys must be the same.

    Args:
        roots: The LMDBs, by the options that name them.

    Raises:
        KTDNError: If one is none, cannot be read, or has other keys.
    """
    keys = {}
    for option, root in roots.items():
        if root.suffix != ".lmdb" or not is_lmdb(root):
            raise KTDNError(
                f"{option}: {root} is not an LMDB (a folder NAME.lmdb with data.mdb in it)"
            )
        keys[option] = sorted(line.split(".")[0] for line in read_meta_info(root / "meta_info.txt"))
    first, *others = keys.values()
    for other in others:
        differing = sorted(set(first) ^ set(other))
        if differing:
            raise KTDNError(f"the two LMDBs do not pair: {some(differing)} is in one of them only")
    return [BasicSRImages(root, first) for root in roots.values()]
