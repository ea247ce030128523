"""Real pairs: the same scene with haze and without, in files whose names pair."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.data.images import list_images, read_image
from ktdn_plugin.data.listing import first_of
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.names import key_of
from ktdn_plugin.scenes.pairing import Named, pair


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
        clear_folder: Clear ones, see :func:`ktdn_plugin.scenes.pairing.pair`.
        only: Patterns such as ``nh_haze_*``, of which a name must fit one; none lets all in.

    Raises:
        KTDNError: A folder or a partner is missing, both are one folder, it is not clear which
            belong together, or none is left.
    """
    if hazy_folder.resolve() == clear_folder.resolve():
        raise KTDNError(f"{clear_folder}: given as hazy and as clear folder; name two folders")
    hazy, clear = (
        [Named(str(path), [key_of(path, folder)]) for path in list_images(folder)]
        for folder in (hazy_folder, clear_folder)
    )
    pairing = pair(hazy, clear)
    if problems := pairing.problems(clear):
        raise KTDNError(first_of(problems))
    files = [
        Files(one.keys[0], Path(one.label), Path(clear[partner].label))
        for one, partner in zip(hazy, pairing.partners, strict=True)
        if partner is not None and (not only or _fits(one.keys[0], only))
    ]
    if not files:
        raise KTDNError(f"{hazy_folder}: no name fits --only {' '.join(only)}")
    return files


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
