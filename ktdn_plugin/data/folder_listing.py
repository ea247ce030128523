"""Anyone's folders: hazy and clear images that pair by name, or clear images alone."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from ktdn_plugin.data.images import list_images
from ktdn_plugin.data.listing import (
    FOLDERS,
    Listing,
    file_image_size,
    first_of,
    headers_bar,
    name_within,
    refuse,
)
from ktdn_plugin.data.names import without_role
from ktdn_plugin.errors import KTDNError


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
    sides = _sides(root, hazy, clear)
    if "clear" not in sides:
        where = "--hazy" if hazy is not None else f"its folder '{sides['hazy'].name}'"
        raise KTDNError(
            f"{root}: {where} holds hazy images, but there is no folder of clear ones beside it "
            f"({', '.join(FOLDERS['clear'])}); name it with --clear"
        )
    found = {
        side: _by_key(folder, root)
        for side, folder in sides.items()
        if side == "clear" or not clear_only
    }
    clears = found["clear"]
    if "hazy" not in found:
        return Listing("folders", split, root, list(clears.values()), keys=list(clears))

    hazies = found["hazy"]
    unpaired = [
        f"{name_within(path, root)} has no {other} image"
        for paths, others, other in ((hazies, clears, "clear"), (clears, hazies, "hazy"))
        for key, path in paths.items()
        if key not in others
    ]
    if not allow_incomplete:
        refuse(root, "not all images have a partner", unpaired, "add or remove them")
    keys = [key for key in hazies if key in clears]
    if not keys:
        lines = first_of(unpaired)
        raise KTDNError(f"{root}: no hazy image has a clear one of the same name: {lines}")
    return Listing(
        "folders",
        split,
        root,
        clear=[clears[key] for key in keys],
        hazy=[hazies[key] for key in keys],
        pairs=[(number, number) for number in range(len(keys))],
        keys=keys,
        missing=unpaired,
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
    # Clear images alone count as pairs with themselves.
    partners = listing.hazy or listing.clear
    kept = []
    for number, (one, other) in enumerate(zip(partners, listing.clear, strict=True)):
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
    return replace(
        listing,
        clear=[listing.clear[number] for number in kept],
        hazy=[listing.hazy[number] for number in kept if listing.hazy],
        pairs=[(number, number) for number in range(len(kept)) if listing.hazy],
        keys=[listing.keys[number] for number in kept],
        missing=problems,
    )


def count_outside(root: Path) -> tuple[int, list[str]]:
    """Counts the images that are in none of the folders that are chosen by their names.

    Returns:
        How many there are, and the names of the folders.
    """
    chosen = list(_sides(root, None, None).values())
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


def _sides(root: Path, hazy: str | Path | None, clear: str | Path | None) -> dict[str, Path]:
    given = {"hazy": hazy, "clear": clear}
    if hazy is not None or clear is not None:
        return {side: _found(root, Path(path)) for side, path in given.items() if path is not None}
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir())
    except OSError as error:
        raise KTDNError(f"{root}: {error.strerror or error}") from error
    sides = {}
    for side, names in FOLDERS.items():
        fitting = [path for path in folders if path.name.lower() in names]
        if len(fitting) > 1:
            both = " and ".join(f"'{path.name}'" for path in fitting)
            raise KTDNError(f"{root}: {both} may both hold {side} images; say which: --{side}")
        if fitting:
            sides[side] = fitting[0]
    if not sides:
        _refuse_deeper(root)
        return {"clear": root}
    return sides


def _found(root: Path, path: Path) -> Path:
    """Gives a folder that was named, in the root or from where one is."""
    for candidate in (root / path, path):
        if candidate.is_dir():
            return candidate
    raise KTDNError(f"{root / path}: no such folder")


def _refuse_deeper(root: Path) -> None:
    """Refuses to take hazy images for clear ones only because they lie deeper."""
    for parent, folders, _ in os.walk(root):
        if any(name.lower() in FOLDERS["hazy"] for name in folders):
            raise KTDNError(
                f"{root}: hazy images lie deeper, in {parent}; name that folder instead, or both "
                "sides with --hazy and --clear"
            )


def _by_key(folder: Path, root: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for path in list_images(folder):
        within = path.relative_to(folder).with_suffix("")
        key = within.with_name(without_role(within.name)).as_posix()
        if key in paths:
            both = " and ".join(name_within(each, root) for each in (paths[key], path))
            raise KTDNError(f"{root}: {both} are the same image to us; rename or remove one")
        paths[key] = path
    return paths
