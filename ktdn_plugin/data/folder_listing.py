"""Anyone's folders: hazy and clear images that pair by name, or clear images alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ktdn_plugin.data.images import list_images
from ktdn_plugin.data.listing import FOLDERS, Listing, name_within, refuse
from ktdn_plugin.errors import KTDNError

# Endings of a file's name that tell what it is; without them, the names of a pair are equal.
_ENDING = re.compile(r"[_-](hazy|haze|foggy|lq|input|gt|clear|clean|target)$", re.IGNORECASE)


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
    split = _checked_name("all" if split is None else split)
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
        raise KTDNError(f"{root}: no hazy image has a clear one of the same name")
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
        key = within.with_name(_ENDING.sub("", within.name) or within.name).as_posix()
        if key in paths:
            both = " and ".join(name_within(each, root) for each in (paths[key], path))
            raise KTDNError(f"{root}: {both} are the same image to us; rename or remove one")
        paths[key] = path
    return paths
