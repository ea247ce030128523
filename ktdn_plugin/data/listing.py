"""What images of a dataset there are, and which belong together."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import read_size

SHOWN = 10
PATIENCE = 3  # seconds after which a bar shows that headers are being read

Item = TypeVar("Item")


@dataclass(frozen=True)
class Listing:
    """The images of a split.

    Attributes:
        dataset: The dataset's name, such as ``nh-haze``.
        split: The split's name, such as ``challenge-train``.
        root: The folder that was searched.
        clear: Clear images.
        hazy: Hazy images; none where clear images stand alone.
        pairs: Numbers of the hazy and of the clear image of each pair; several hazy images may
            share a clear one.
        keys: A short name of each pair, or of each clear image where they stand alone.
        center: Height and width of what is kept of a larger clear image, around its centre.
        missing: What the split should have and the copy lacks or has altered, one line each.
    """

    dataset: str
    split: str
    root: Path
    clear: list[Path]
    hazy: list[Path] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    center: tuple[int, int] | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The split's whole name."""
        return f"{self.dataset}/{self.split}"

    def name_of(self, path: Path) -> str:
        """Returns a file's name within the folder, the same on every system."""
        return name_within(path, self.root)


def name_within(path: Path, root: Path) -> str:
    """Returns a path relative to a folder, where it lies in it."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def file_status(path: Path) -> os.stat_result:
    """Asks for a file's size and time.

    Raises:
        KTDNError: If it is no file that can be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
        raise KTDNError(f"{path}: not a regular file; remove it")
    return status


def file_image_size(path: Path) -> tuple[int, int]:
    """Reads an image's height and width from its header.

    Raises:
        KTDNError: If it is no file that can be read, or no image.
    """
    file_status(path)
    return read_size(path)


def headers_bar(items: Iterable[Item]) -> Iterable[Item]:
    """Shows a bar where reading many headers takes long."""
    bar: Iterable[Item] = tqdm(
        items, "Reading headers", unit="image", leave=False, delay=PATIENCE, disable=None
    )
    return bar


def first_of(lines: Sequence[str], where: str = "") -> str:
    """Puts lines into one, as many as a person would read.

    Args:
        lines: What to say.
        where: Where all of them are, which is said where some are cut off.
    """
    if len(lines) <= SHOWN:
        return "; ".join(lines)
    return "; ".join(lines[:SHOWN]) + f"; and {len(lines) - SHOWN} more" + (where and f" ({where})")


def refuse(root: Path, what: str, lines: Sequence[str], cure: str, where: str = "") -> None:
    """Refuses a folder in which something is missing.

    Args:
        root: The folder.
        what: What is wrong with it.
        lines: What is missing.
        cure: What to do about it.
        where: Where all lines are to be found, as for :func:`first_of`.

    Raises:
        KTDNError: If anything is.
    """
    if lines:
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise KTDNError(
            f"{root}: {what}, {count}: {first_of(lines, where)}; {cure}, or go on with what there "
            "is (--allow-incomplete, or allow_incomplete in options)"
        )
