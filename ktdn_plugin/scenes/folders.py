"""Finds a folder's hazy and clear images by its subfolders' names, else by its files'."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.image_files import list_images
from ktdn_plugin.scenes.names import WORDS, Side, key_of, side_of_folder, sides_of_names

FLAGS: dict[Side, str] = {"hazy": "--hazy", "clear": "--gt"}
"""The commands' flags that name a side's folder."""


class FolderImages(NamedTuple):
    """The images of a folder.

    Attributes:
        hazy: Hazy images; none where clear images stand alone.
        clear: Clear images.
        folders: The folders that they were searched in, by their side, where there are such.
    """

    hazy: list[Path]
    clear: list[Path]
    folders: dict[Side, Path]


def find_images(root: Path, *, clear_only: bool = False) -> FolderImages:
    """Finds a folder's hazy and clear images; reads none.

    They are in subfolders named for them, at any depth; else names end in ``_hazy`` or ``_GT``,
    or similar; else all are clear images.

    Args:
        root: The folder.
        clear_only: Do not look for hazy images in a folder of their own.

    Raises:
        KTDNError: If there is no such folder or it holds no image, or it does not tell which are
            hazy and which are clear.
    """
    if not root.is_dir():
        raise KTDNError(f"{root}: no such folder")
    folders = find_folders(root)
    if folders:
        hazy = [] if clear_only or "hazy" not in folders else list_images(folders["hazy"])
        return FolderImages(hazy, list_images(folders["clear"]), folders)
    paths = list_images(root)
    by_key: dict[str, list[Path]] = {}
    for path in paths:
        by_key.setdefault(key_of(path, root), []).append(path)
    sides = sides_of_names(by_key)
    if sides is None:
        return FolderImages([], paths, {})
    hazy, clear = (sorted(path for key in keys for path in by_key[key]) for keys in sides)
    return FolderImages(hazy, clear, {})


def list_side(root: Path, side: Side) -> tuple[list[Path], Path]:
    """Lists the images of a folder that is named for one side.

    Returns:
        That side's images where hazy and clear ones lie in folders of their own below, else all
        images; and the folder that they were found in.

    Raises:
        KTDNError: If there is no such folder or it holds no image, or it holds several such pairs
            of folders.
    """
    found = _search(root)
    place = _choose(root, found)[side] if found.pairs else root
    return list_images(place), place


class _Folders(NamedTuple):
    """Folders whose names tell a side.

    Attributes:
        pairs: Those of both sides that lie beside each other.
        lonely: One of hazy images without one of clear ones beside it.
        clear: Those of clear images, at the top.
    """

    pairs: list[dict[Side, list[Path]]]
    lonely: Path | None
    clear: list[Path]


def find_folders(root: Path) -> dict[Side, Path]:
    """Finds the folders of hazy and of clear images that lie beside each other.

    Returns:
        Both, or that of clear images alone, or none.

    Raises:
        KTDNError: If there are several that would do, or hazy images without clear ones beside.
    """
    return _choose(root, _search(root))


def _search(root: Path) -> _Folders:
    pairs: list[dict[Side, list[Path]]] = []
    lonely: Path | None = None
    clear: list[Path] = []
    for parent, names, _ in os.walk(root):
        names[:] = sorted(name for name in names if name[0] != ".")
        found: dict[Side, list[Path]] = {"hazy": [], "clear": []}
        for name in names:
            if side := side_of_folder(name):
                found[side].append(Path(parent, name))
        if found["hazy"] and found["clear"]:
            pairs.append(found)
            names.clear()  # what lies deeper is a part of these
        elif found["hazy"]:
            lonely = lonely or found["hazy"][0]
        elif Path(parent) == root:
            clear = found["clear"]
    return _Folders(pairs, lonely, clear)


def _choose(root: Path, found: _Folders) -> dict[Side, Path]:
    pairs, lonely = found.pairs, found.lonely
    places = [each["hazy"][0] for each in pairs] + ([lonely] if lonely else [])
    if len(places) > 1:
        both = " and ".join(str(place.parent) for place in places[:2])
        raise KTDNError(
            f"{root}: hazy images are in subfolders, {both}; give one of these folders instead, or "
            "both sides with --hazy and --gt"
        )
    if lonely:
        raise KTDNError(
            f"{lonely.parent}: its folder '{lonely.name}' holds hazy images, but there is no "
            f"folder of clear ones beside it ({', '.join(WORDS['clear'])}); give it with --gt"
        )
    chosen: dict[Side, list[Path]] = pairs[0] if pairs else {"clear": found.clear}
    for side, fitting in chosen.items():
        if len(fitting) > 1:
            both = " and ".join(f"'{path.name}'" for path in fitting)
            raise KTDNError(
                f"{fitting[0].parent}: {both} could both hold the {side} images; say which: "
                f"{FLAGS[side]}"
            )
    return {side: fitting[0] for side, fitting in chosen.items() if fitting}
