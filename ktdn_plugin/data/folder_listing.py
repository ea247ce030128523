"""Anyone's folders: hazy and clear images that pair by name, or clear images alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ktdn_plugin.data.listing import (
    Listing,
    file_image_size,
    first_of,
    headers_bar,
    name_within,
    refuse,
)
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.folders import Found, find_folders, find_images
from ktdn_plugin.scenes.image_files import list_images
from ktdn_plugin.scenes.names import WORDS, Side, key_of, without_role
from ktdn_plugin.scenes.pairing import Named, pair


def list_folders(
    root: Path,
    split: str | None,
    hazy: str | Path | None = None,
    clear: str | Path | None = None,
    *,
    clear_only: bool,
    allow_incomplete: bool,
) -> Listing:
    """Lists a folder's images; the arguments are :func:`ktdn_plugin.data.layouts.list_dataset`'s.

    Raises:
        KTDNError: If folders or images are missing, or it is not clear which belong together.
    """
    split = _own_name(root) if split is None else _checked_name(split)
    if not root.is_dir():
        raise KTDNError(f"{root}: no such folder")
    found = _find(root, hazy, clear, clear_only=clear_only)
    clears = _named(found.clear, found.folders.get("clear", root), root)
    keys = [without_role(image.keys[0]) for image in clears]
    alone = Listing("folders", split, root, found.clear, keys=keys)
    if not found.hazy:
        _refuse_equal(root, keys, clears)
        return alone
    hazies = _named(found.hazy, found.folders.get("hazy", root), root)
    pairing = pair(hazies, clears)
    problems = (
        list(dict.fromkeys(pairing.faults.values())) if clear_only else pairing.problems(clears)
    )
    if not allow_incomplete:
        refuse(root, "not all images have a partner", problems, "rename, add or remove them")
    if clear_only:
        return replace(alone, missing=problems)
    pairs = [(h, c) for h, c in enumerate(pairing.partners) if c is not None]
    if not pairs:
        raise KTDNError(f"{root}: no hazy image has a clear one: {first_of(problems)}")
    paired = [hazies[number] for number, _ in pairs]
    keys = [without_role(image.keys[0]) for image in paired]
    _refuse_equal(root, keys, paired)
    return _only(replace(alone, hazy=found.hazy, missing=problems), pairs, keys)


def _find(
    root: Path, hazy: str | Path | None, clear: str | Path | None, *, clear_only: bool
) -> Found:
    if hazy is None and clear is None:
        return find_images(root, clear_only=clear_only)
    if clear is None:
        raise KTDNError(
            f"{root}: --hazy holds hazy images, but there is no folder of clear ones beside it "
            f"({', '.join(WORDS['clear'])}); name it with --gt"
        )
    folders: dict[Side, Path] = {"clear": _place(root, Path(clear))}
    clears, hazies = list_images(folders["clear"]), []
    if hazy is not None and not clear_only:
        folders["hazy"] = _place(root, Path(hazy))
        hazies = list_images(folders["hazy"])
        if folders["hazy"].resolve() != folders["clear"].resolve():
            clears = [path for path in clears if folders["hazy"] not in path.parents]
    return Found(hazies, clears, folders)


def _named(paths: Sequence[Path], folder: Path, root: Path) -> list[Named]:
    return [Named(name_within(path, root), (key_of(path, folder),)) for path in paths]


def _refuse_equal(root: Path, keys: Sequence[str], images: Sequence[Named]) -> None:
    """Refuses images that would be called alike, in a store's keys or in a table."""
    first: dict[str, Named] = {}
    for key, image in zip(keys, images, strict=True):
        if first.setdefault(key, image) is not image:
            both = f"{first[key].label} and {image.label}"
            raise KTDNError(f"{root}: {both} are the same image to us; rename or remove one")


def _only(listing: Listing, pairs: Sequence[tuple[int, int]], keys: Sequence[str]) -> Listing:
    """Leaves out the images that are of none of some pairs."""
    hazy, clear = (
        {number: place for place, number in enumerate(sorted({each[side] for each in pairs}))}
        for side in (0, 1)
    )
    return replace(
        listing,
        hazy=[listing.hazy[number] for number in hazy],
        clear=[listing.clear[number] for number in clear],
        pairs=[(hazy[one], clear[other]) for one, other in pairs],
        keys=list(keys),
    )


def check_folders(listing: Listing, *, allow_incomplete: bool, where: str = "") -> Listing:
    """Looks into the headers of what was listed, and leaves out what cannot be used.

    Args:
        listing: What :func:`list_folders` has listed, incomplete or not.
        allow_incomplete: Leave out unusable images, and their partners, instead of refusing all.
        where: Where all problems are to be found, for a message that has not room for them.

    Returns:
        What can be used; what cannot is among its missing ones.

    Raises:
        KTDNError: If anything is missing or cannot be used and that is not allowed, or if nothing
            is left.
    """
    sizes: dict[Path, tuple[int, int]] = {}
    problems = list(listing.missing)
    for path in headers_bar([*listing.hazy, *listing.clear]):
        try:
            sizes[path] = file_image_size(path)
        except KTDNError as error:
            problems.append(str(error).replace(str(path), listing.name_of(path), 1))
    kept = []
    for number, (one, other) in enumerate(_pairs_of(listing)):
        if one not in sizes or other not in sizes:
            continue
        if sizes[one] == sizes[other]:
            kept.append(number)
            continue
        both = " and ".join(f"{sizes[path][1]} x {sizes[path][0]}" for path in (one, other))
        names = f"{listing.name_of(one)} and {listing.name_of(other)}"
        problems.append(f"{names} differ in size ({both})")
    if not allow_incomplete:
        what = "not all images can be used, or have a partner"
        refuse(listing.root, what, problems, "mend, add or remove them", where)
    if not kept:
        raise KTDNError(f"{listing.root}: no image can be used: {first_of(problems)}")
    keys = [listing.keys[number] for number in kept]
    usable = replace(listing, missing=problems)
    if not listing.pairs:
        return replace(usable, clear=[listing.clear[number] for number in kept], keys=keys)
    return _only(usable, [listing.pairs[number] for number in kept], keys)


def _pairs_of(listing: Listing) -> list[tuple[Path, Path]]:
    """Lists the files of each pair; clear images alone count as pairs with themselves."""
    if not listing.pairs:
        return [(path, path) for path in listing.clear]
    return [(listing.hazy[one], listing.clear[other]) for one, other in listing.pairs]


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


def _own_name(root: Path) -> str:
    """Names a split after its folder, so that two of them are told apart."""
    name = re.sub(r"[\\/\x00-\x1f\x7f]", "_", root.resolve().name).strip()
    return name or "all"


def _checked_name(split: str) -> str:
    if not split.strip() or "/" in split or "\\" in split:
        raise KTDNError(f"--split '{split}': a name without slashes is wanted, such as 'train'")
    return split


def _place(root: Path, path: Path) -> Path:
    """Returns a folder that was named, in the root or from where one is."""
    for candidate in (root / path, path):
        if candidate.is_dir():
            return candidate
    raise KTDNError(f"{root / path}: no such folder")
