"""Which clear image belongs to each hazy one: one rule for every command."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ktdn_plugin.scenes.image_files import name_within
from ktdn_plugin.scenes.images import FileImages, Images
from ktdn_plugin.scenes.names import Match, Names, other_folder


class ImageKeys(NamedTuple):
    """An image.

    Attributes:
        label: What people find it by.
        keys: Its names, see :func:`~ktdn_plugin.scenes.names.key_of`, its own first. A clear image
            has those of hazy images, too, that are known to be its; those of a hazy one are tried
            in turn.
    """

    label: str
    keys: Sequence[str]


class Pairing(NamedTuple):
    """Which images belong together.

    Attributes:
        partners: The clear image of each hazy one, by its number; None where it has none.
        faults: Why one has none, by the hazy image's number: a line that names the images.
        ambiguous: Those of them for which there would be several.
        alone: Clear images that no hazy one has.
    """

    partners: list[int | None]
    faults: dict[int, str]
    ambiguous: set[int]
    alone: list[int]

    def hazy_problems(self) -> list[str]:
        """Returns what is wrong with hazy images, one line each."""
        return list(dict.fromkeys(self.faults.values()))

    def clear_problems(self, clear: Sequence[ImageKeys]) -> list[str]:
        """Returns what is wrong with clear images, one line each."""
        return [f"{clear[number].label} has no hazy image" for number in self.alone]


def pair(hazy: Sequence[ImageKeys], clear: Sequence[ImageKeys]) -> Pairing:
    """Finds the clear image of each hazy one, by :class:`~ktdn_plugin.scenes.names.Names`.

    Several hazy images have one clear image where their names extend its: ``1400_1`` and
    ``0001_0.8_0.2`` from ``1400`` and ``0001``, unless a hazy one of just its name is there. Two
    hazy images with the same name, or two clear ones for a hazy one, are ambiguous.
    """
    owners: dict[str, set[int]] = defaultdict(set)
    for number, image in enumerate(clear):
        for key in image.keys:
            owners[key].add(number)
    names = Names(owners)
    keys: list[str] = []
    matches: list[Match] = []
    for image in hazy:
        tried = [(key, names.match(key, may_be_numbered=True)) for key in image.keys]
        key, match = next((each for each in tried if each[1].names), tried[0])
        keys.append(key)
        matches.append(match)
    folders: dict[str, set[str]] = defaultdict(set)
    for key, match in zip(keys, matches, strict=True):
        for name in match.names:
            folders[name].add(other_folder(key))
    fitting: list[list[int]] = []
    equal: dict[tuple[int, str], list[int]] = defaultdict(list)
    for number, match in enumerate(matches):
        # Images of several folders that only a file's name speaks for may be different scenes.
        good = [name for name in match.names if not match.is_by_file or len(folders[name]) == 1]
        fitting.append(sorted({owner for name in good for owner in owners[name]}))
        if match.is_equal and len(fitting[-1]) == 1:
            for name in good:
                equal[fitting[-1][0], name].append(number)
    partners: list[int | None] = []
    faults: dict[int, str] = {}
    ambiguous: set[int] = set()
    taken: set[int] = set()
    for number, (image, found) in enumerate(zip(hazy, fitting, strict=True)):
        partners.append(found[0] if len(found) == 1 else None)
        taken.update(found)
        if not found:
            faults[number] = f"{image.label} has no clear image"
            continue
        label = clear[found[0]].label
        match = matches[number]
        # Of just its name, or of the name of another hazy image that is known to be its.
        own = match.names if match.is_equal else clear[found[0]].keys[:1]
        rivals = [each for name in own for each in equal.get((found[0], name), ())]
        if len(found) > 1:
            both = f"{label} and {clear[found[1]].label}"
            faults[number] = f"{both} could both be the clear image of {image.label}; rename one"
            ambiguous.add(number)
        elif number in rivals and set(rivals) != {number}:
            other = next(hazy[rival].label for rival in rivals if rival != number)
            both = " and ".join(sorted((image.label, other)))
            faults[number] = f"{both} could both be the hazy image of {label}; rename or remove one"
            ambiguous.add(number)
        elif rivals and number not in rivals:
            faults[number] = (
                f"{image.label} has no clear image ({label} is that of {hazy[rivals[0]].label})"
            )
        if number in faults:
            partners[number] = None
    alone = [number for number in range(len(clear)) if number not in taken]
    return Pairing(partners, faults, ambiguous, alone)


def pair_images(
    hazy: Images, clear: Images, place: Path
) -> tuple[Pairing, list[ImageKeys], list[ImageKeys]]:
    """Finds the clear image of each hazy one, wherever they lie, see :func:`pair`.

    Args:
        hazy: Hazy images.
        clear: Clear images.
        place: The folder within which files are named in messages.

    Returns:
        Which belong together, and what the hazy and the clear images are called.
    """
    hazies, clears = (
        [ImageKeys(label_of(images, n, place), (images.key(n),)) for n in range(len(images))]
        for images in (hazy, clear)
    )
    return pair(hazies, clears), hazies, clears


def label_of(images: Images, number: int, place: Path) -> str:
    """Names an image for people; a file within the folder that is spoken of."""
    if isinstance(images, FileImages):
        return name_within(images.paths[number], place)
    return images.describe(number)
