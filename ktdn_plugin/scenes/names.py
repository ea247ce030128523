"""Which images belong together, by name: methods append endings to their input's name.

The words that distinguish hazy from clear images are only here; all pairing uses them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

Side = Literal["hazy", "clear"]

WORDS: dict[Side, tuple[str, ...]] = {
    "hazy": ("hazy", "haze", "foggy", "lq", "input", "inputs"),
    "clear": ("clear", "gt", "clean", "groundtruth", "ground_truth", "target", "targets"),
}
"""What folders are called (lower case), and what files' names end in, that tells a side."""
RESULT_WORDS = ("dehazed", "out")
SEPARATORS = "_-. "
SHEETS = ("comparison", "curves")
"""What commands call the pictures that they draw of others."""
COMPARE = "_compare"
"""What the name of a sheet ends with that shows an image before and after."""

T = TypeVar("T")


def _ending(*words: str) -> re.Pattern[str]:
    return re.compile(rf"[{re.escape(SEPARATORS)}]({'|'.join(words)})$", re.IGNORECASE)


_SIDES: dict[str, Side] = {word: side for side, words in WORDS.items() for word in words}
_ROLE = _ending(*_SIDES)
_ROLE_OR_RESULT = _ending(*_SIDES, *RESULT_WORDS)


def key_of(path: Path, root: Path | None = None) -> str:
    """Returns an image's path within a folder, without the suffix, ``/`` between its parts."""
    inner = path.relative_to(root) if root is not None else path
    return inner.with_suffix("").as_posix()


def without_role(name: str) -> str:
    """Returns a name, without suffix, without the word that tells the hazy or the clear image."""
    return _cut(name, _ROLE)


def side_of_folder(folder: str) -> Side | None:
    """Returns the side whose images a folder of this name holds, None where it tells neither."""
    return _SIDES.get(folder.casefold())


def side_of_name(name: str) -> Side | None:
    """Returns the side that the ending of a name, without suffix, tells, None for neither."""
    ending = _ROLE.search(name)
    return _SIDES[ending[1].casefold()] if ending else None


class Sides(NamedTuple):
    """Keys of hazy and of clear images."""

    hazy: list[str]
    clear: list[str]


def sides_of_names(keys: Iterable[str]) -> Sides | None:
    """Separates hazy images from clear ones that lie together, by the endings of their names.

    Where clear ones have a word (``01``, ``01_GT``), all others are hazy; where hazy ones alone
    have one (``01_hazy``, ``01``), all others are clear.

    Returns:
        None where they do not lie together: no scene has two such images, and not both words occur.
    """
    told = {key: side_of_name(key) for key in keys}
    scenes: dict[str, set[Side | None]] = defaultdict(set)
    for key, side in told.items():
        scenes[without_role(key).casefold()].add(side)
    words = set(told.values()) - {None}
    if len(words) < 2 and not any(len(sides) > 1 for sides in scenes.values()):
        return None
    rest: Side = "hazy" if "clear" in words else "clear"
    return Sides(
        [key for key, side in told.items() if (side or rest) == "hazy"],
        [key for key, side in told.items() if (side or rest) == "clear"],
    )


def clear_beside_hazy(keys: Iterable[str]) -> set[str]:
    """Returns the clear images among images, where their hazy ones lie among them, too.

    They are told by their folders, where a folder of hazy images lies beside, else by their names.
    """
    sides: dict[str, set[Side]] = defaultdict(set)
    told: dict[str, tuple[str, Side]] = {}
    others = []
    for key in keys:
        parts = key.split("/")[:-1]
        near = [number for number, part in enumerate(parts) if side_of_folder(part)]
        side = side_of_folder(parts[near[-1]]) if near else None
        if side is None:
            others.append(key)
            continue
        told[key] = "/".join(parts[: near[-1]]), side
        sides[told[key][0]].add(side)
    clear = {
        key for key, (place, side) in told.items() if side == "clear" and len(sides[place]) > 1
    }
    by_name = sides_of_names(others)
    return clear | set(by_name.clear if by_name else ())


def without_comparisons(images: dict[str, T]) -> dict[str, T]:
    """Leaves out, of images by their keys, sheets that lie beside the images that they show."""
    return {
        key: image
        for key, image in images.items()
        if not (key.endswith(COMPARE) and key.removesuffix(COMPARE) in images) and key not in SHEETS
    }


class Match(NamedTuple):
    """The known names that a name may belong to; several are equally good.

    Attributes:
        names: The known names.
        is_equal: Whether the whole name speaks for them, not only what it begins with.
        is_by_file: Whether the file's name alone speaks for them, not its folder.
    """

    names: list[str]
    is_equal: bool = False
    is_by_file: bool = False


class Names:
    """Names that others are looked up among, by the one rule by which images belong together.

    A name belongs to the one that is equal; else to one that is equal without endings such as
    ``_hazy`` and ``_GT``, and folders named for them; else, where one of the two lies in no
    other folder, to one whose file's name alone is; else to the longest that it begins with, up to
    ``_``, ``-``, ``.`` or a space, as ``51_results_of_mine`` does with ``51`` or ``51_GT``.

    Args:
        names: Keys as :func:`key_of` returns them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        known = list(names)
        self._indices = [_index(known, form) for form in _FORMS]

    def find(self, name: str) -> str | None:
        """Returns the one that a name belongs to, None where there is none, or several would do."""
        found = self.match(name).names
        return found[0] if len(found) == 1 else None

    def match(self, name: str, may_be_numbered: bool = False) -> Match:
        """Finds those that a name may belong to.

        Args:
            name: The name.
            may_be_numbered: Whether ``51_2`` belongs to ``51``, as hazes of one scene do, rather
                than being a scene of its own.
        """
        forms = [
            (form, form(name), index) for form, index in zip(_FORMS, self._indices, strict=True)
        ]
        for form, whole, index in forms:
            if found := _near(index.get(whole, []), name, form):
                return Match(found, True, form is _bare_file)
        for form, whole, index in forms[1:]:
            for part in _beginnings(whole, may_be_numbered):
                if found := _near(index.get(part, []), name, form):
                    return Match(found, False, form is _bare_file)
        return Match([])


def within_side(key: str) -> str:
    """Returns an image's name within the folder that tells its side; all of it without one."""
    *folders, name = key.split("/")
    last = max((place for place, part in enumerate(folders) if side_of_folder(part)), default=-1)
    return "/".join((*folders[last + 1 :], name))


def other_folder(key: str) -> str:
    """Returns an image's folder, without those that tell its side."""
    parts = key.casefold().split("/")[:-1]
    return "/".join(part for part in parts if side_of_folder(part) is None)


def _beginnings(name: str, may_be_numbered: bool) -> Iterator[str]:
    for end in range(len(name) - 2, name.rfind("/") + 1, -1):
        if name[end] in SEPARATORS and (may_be_numbered or not name[end + 1].isdigit()):
            yield name[:end]


def _near(found: list[str], name: str, form: Callable[[str], str]) -> list[str]:
    """Leaves out images of the same file name in another folder: another scene's, likely."""
    if not found or form is not _bare_file or not other_folder(name):
        return found
    return [key for key in found if other_folder(key) in ("", other_folder(name))]


def _cut(name: str, ending: re.Pattern[str]) -> str:
    cut = ending.sub("", name)
    return name if not cut or cut.endswith("/") else cut


def _bare(name: str) -> str:
    file, folder = _bare_file(name), other_folder(name)
    return unicodedata.normalize("NFC", f"{folder}/{file}" if folder else file)


def _bare_file(name: str) -> str:
    file = _cut(name.rpartition("/")[2], _ROLE_OR_RESULT).casefold()
    return unicodedata.normalize("NFC", file)


_FORMS: tuple[Callable[[str], str], ...] = (str, _bare, _bare_file)


def _index(names: Iterable[str], form: Callable[[str], str]) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        index.setdefault(form(name), []).append(name)
    return index
