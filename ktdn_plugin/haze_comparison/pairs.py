"""Real pairs: the same scene with haze and without, in files of equal names."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.data.images import list_images, read_image
from ktdn_plugin.errors import KTDNError


class Files(NamedTuple):
    """A pair's files; ``name`` is what they have in common, without the ending."""

    name: str
    hazy: Path
    clear: Path


class Pair(NamedTuple):
    """A pair of RGB images, (h, w, 3) uint8, and the group that its name puts it in."""

    name: str
    group: str
    hazy: NDArray[np.uint8]
    clear: NDArray[np.uint8]


def find_pairs(hazy_folder: Path, clear_folder: Path, only: Sequence[str] = ()) -> list[Files]:
    """Finds the pairs of two folders, sorted by name.

    Args:
        hazy_folder: Hazy photographs.
        clear_folder: Clear ones of equal names; endings may differ.
        only: Patterns such as ``nh_haze_*``, of which a name must fit one; none lets all in.

    Raises:
        KTDNError: A folder or a partner is missing, both are one folder, a name is there twice, or
            none is left.
    """
    if hazy_folder.resolve() == clear_folder.resolve():
        raise KTDNError(f"{clear_folder}: given as hazy and as clear folder; name two folders")
    hazy, clear = (_by_name(folder) for folder in (hazy_folder, clear_folder))
    for here, there, folder in ((hazy, clear, clear_folder), (clear, hazy, hazy_folder)):
        alone = [path for name, path in here.items() if name not in there]
        if alone:
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise KTDNError(f"{alone[0]}: no image of this name in {folder}{more}")
    names = [name for name in hazy if not only or _fits(name, only)]
    if not names:
        raise KTDNError(f"{hazy_folder}: no name fits --only {' '.join(only)}")
    return [Files(name, hazy[name], clear[name]) for name in names]


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def read_pair(files: Files) -> Pair:
    """Reads a pair.

    Raises:
        KTDNError: A file cannot be read, or their sizes differ.
    """
    hazy, clear = read_image(files.hazy), read_image(files.clear)
    if hazy.shape != clear.shape:
        one, other = (f"{image.shape[1]}x{image.shape[0]}" for image in (hazy, clear))
        raise KTDNError(f"{files.hazy} is {one}, {files.clear} {other}: a pair has one size")
    return Pair(files.name, group_of(files.name), hazy, clear)


def group_of(name: str) -> str:
    """Tells what comes before a name's first digit: ``nh_haze_20_1`` is of ``nh_haze``."""
    return re.split(r"\d", Path(name).name)[0].strip("_-. ")


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in list_images(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise KTDNError(f"{path}: {found[name].name} has the same name; move one of them away")
        found[name] = path
    return found
