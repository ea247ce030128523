"""Which clear image belongs to each hazy one: one rule, whoever asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from ktdn_plugin.scenes.names import Names, other_folder


class Named(NamedTuple):
    """An image.

    Attributes:
        label: What people find it by.
        keys: Its names, see :func:`~ktdn_plugin.scenes.names.key_of`; one of a hazy image.
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

    def problems(self, clear: Sequence[Named]) -> list[str]:
        """Returns all that is wrong, a line each."""
        lonely = [f"{clear[number].label} has no hazy image" for number in self.alone]
        return [*dict.fromkeys(self.faults.values()), *lonely]


def pair(hazy: Sequence[Named], clear: Sequence[Named]) -> Pairing:
    """Finds the clear image of each hazy one, by :class:`~ktdn_plugin.scenes.names.Names`.

    Several hazy images have one clear image where their names go on from its: ``1400_1`` and
    ``0001_0.8_0.2`` from ``1400`` and ``0001``, unless a hazy one of just its name is there. Two
    hazy images of one name, or two clear ones for a hazy one, are ambiguous.
    """
    owners: dict[str, set[int]] = defaultdict(set)
    for number, image in enumerate(clear):
        for key in image.keys:
            owners[key].add(number)
    names = Names(owners)
    keys = [image.keys[0] for image in hazy]
    matches = [names.match(key, may_be_numbered=True) for key in keys]
    folders: dict[str, set[str]] = defaultdict(set)
    for key, match in zip(keys, matches, strict=True):
        for name in match.names:
            folders[name].add(other_folder(key))
    fitting: list[list[int]] = []
    equal: dict[int, list[int]] = defaultdict(list)
    for number, match in enumerate(matches):
        # Images of several folders that only a file's name speaks for may be different scenes.
        good = [name for name in match.names if not match.is_by_file or len(folders[name]) == 1]
        fitting.append(sorted({owner for name in good for owner in owners[name]}))
        if match.is_equal and len(fitting[-1]) == 1:
            equal[fitting[-1][0]].append(number)
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
        rivals = equal[found[0]] if len(found) == 1 else []
        if len(found) > 1:
            both = f"{label} and {clear[found[1]].label}"
            faults[number] = f"{both} may both be the clear image of {image.label}; rename one"
            ambiguous.add(number)
        elif number in rivals and len(rivals) > 1:
            other = next(hazy[rival].label for rival in rivals if rival != number)
            both = " and ".join(sorted((image.label, other)))
            faults[number] = f"{both} may both be the hazy image of {label}; rename or remove one"
            ambiguous.add(number)
        elif rivals and number not in rivals:
            faults[number] = (
                f"{image.label} has no clear image ({label} is that of {hazy[rivals[0]].label})"
            )
        if number in faults:
            partners[number] = None
    alone = [number for number in range(len(clear)) if number not in taken]
    return Pairing(partners, faults, ambiguous, alone)
