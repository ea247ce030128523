"""Which image goes with which, by their names: methods add endings to those of their input.

The words that tell hazy images from clear ones are here alone; whatever pairs images uses them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

HAZY_WORDS = ("hazy", "haze", "foggy", "lq", "input")
CLEAR_WORDS = ("gt", "clear", "clean", "target")
RESULT_WORDS = ("dehazed", "out")
SEPARATORS = "_-. "
SHEETS = ("comparison", "curves")
"""What commands call the pictures that they draw of others."""
COMPARE = "_compare"
"""What the name of a sheet ends with that shows an image before and after."""

T = TypeVar("T")


def _ending(*words: str) -> re.Pattern[str]:
    return re.compile(rf"[{re.escape(SEPARATORS)}]({'|'.join(words)})$", re.IGNORECASE)


_ROLE = _ending(*HAZY_WORDS, *CLEAR_WORDS)
_ROLE_OR_RESULT = _ending(*HAZY_WORDS, *CLEAR_WORDS, *RESULT_WORDS)


def key_of(path: Path, root: Path | None = None) -> str:
    """Names an image by its path within a folder, without the suffix, ``/`` between its parts."""
    inner = path.relative_to(root) if root is not None else path
    return inner.with_suffix("").as_posix()


def without_role(name: str) -> str:
    """Leaves out of a name, without suffix, what says that it is the hazy or the clear image."""
    return _cut(name, _ROLE)


def is_clear(key: str) -> bool | None:
    """Tells a clear image by its key: by the ending of its name, else by its nearest folder.

    Returns:
        None where no word tells.
    """
    *folders, name = key.casefold().split("/")
    ending = _ROLE.search(name)
    for word in ([ending[1]] if ending else []) + [name, *reversed(folders)]:
        if word in CLEAR_WORDS or word in HAZY_WORDS:
            return word in CLEAR_WORDS
    return None


class Sides(NamedTuple):
    """Keys of images that lie together.

    Attributes:
        clear: Clear images of which there are others: hazy ones, or some that no word tells of.
        others: Those others.
    """

    clear: set[str]
    others: set[str]


def sides_of(keys: Iterable[str]) -> Sides:
    """Finds the scenes of which clear and other images lie together, and tells them apart."""
    scenes: dict[str, dict[bool, set[str]]] = defaultdict(lambda: {True: set(), False: set()})
    for key in keys:
        scenes[_bare(key)][is_clear(key) is True].add(key)
    both = [scene for scene in scenes.values() if scene[True] and scene[False]]
    return Sides(
        {key for scene in both for key in scene[True]},
        {key for scene in both for key in scene[False]},
    )


def without_comparisons(images: dict[str, T]) -> dict[str, T]:
    """Leaves out, of images by their keys, sheets that lie beside the images that they show."""
    return {
        key: image
        for key, image in images.items()
        if not (key.endswith(COMPARE) and key.removesuffix(COMPARE) in images) and key not in SHEETS
    }


def beginnings(name: str, may_be_numbered: bool = False) -> Iterator[str]:
    """Gives what a name may go on from, from the longest on.

    Args:
        name: The name, such as ``51_results_of_mine``, which goes on from ``51``.
        may_be_numbered: Whether ``51_2`` goes on from ``51``, too.
    """
    for end in range(len(name) - 2, 0, -1):
        if name[end] in SEPARATORS and (may_be_numbered or not name[end + 1].isdigit()):
            yield name[:end]


class Names:
    """Names that others are looked up among.

    Args:
        names: Keys as :func:`key_of` gives them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        known = list(names)
        self._indices = [_index(known, form) for form in _FORMS]

    def find(self, name: str, may_be_numbered: bool = False) -> str | None:
        """Finds the one that a name belongs to.

        That is an equal one; else one that is equal without endings such as ``_hazy`` and ``_GT``,
        and folders that are called so; else, where one of the two lies in no other folder, one
        whose file's name alone is; else the longest that the name goes on from, as
        ``51_results_of_mine`` does from ``51`` or ``51_GT``.

        Args:
            name: The name.
            may_be_numbered: Whether ``51_2`` goes on from ``51``, as hazes of one scene do, rather
                than being a scene of its own.

        Returns:
            None where there is none, or several would do.
        """
        found, _ = self._fitting(name, may_be_numbered)
        return found[0] if len(found) == 1 else None

    def find_all(self, names: Sequence[str], may_be_numbered: bool = False) -> list[list[str]]:
        """Finds those that each of some names may belong to, as :meth:`find` does.

        One is not found for images of several folders where the file's name alone speaks for it:
        they may be different scenes.
        """
        found = [self._fitting(name, may_be_numbered) for name in names]
        folders: dict[str, set[str]] = defaultdict(set)
        for name, (keys, _) in zip(names, found, strict=True):
            for key in keys:
                folders[key].add(_folder(name))
        return [
            [key for key in keys if not by_file or len(folders[key]) == 1]
            for keys, by_file in found
        ]

    def _fitting(self, name: str, may_be_numbered: bool) -> tuple[list[str], bool]:
        """Gives those that fit best, and whether the file's name alone speaks for them."""
        for form, index in zip(_FORMS, self._indices, strict=True):
            found = _near(index.get(form(name), []), name, form)
            if found:
                return found, form is _bare_file
        for form, index in zip(_FORMS[1:], self._indices[1:], strict=True):
            for part in beginnings(form(name), may_be_numbered):
                found = _near(index.get(part, []), name, form)
                if found:
                    return found, form is _bare_file
        return [], False


def _near(found: list[str], name: str, form: Callable[[str], str]) -> list[str]:
    """Leaves out images of the same file name in another folder: another scene's, likely."""
    if form is not _bare_file or not _folder(name):
        return found
    return [key for key in found if _folder(key) in ("", _folder(name))]


def _cut(name: str, ending: re.Pattern[str]) -> str:
    cut = ending.sub("", name)
    return name if not cut or cut.endswith("/") else cut


def _folder(key: str) -> str:
    """Gives an image's folder, without those that say which side it is."""
    parts = key.casefold().split("/")[:-1]
    return "/".join(part for part in parts if part not in (*HAZY_WORDS, *CLEAR_WORDS))


def _bare(name: str) -> str:
    file = _bare_file(name)
    return f"{folder}/{file}" if (folder := _folder(name)) else file


def _bare_file(name: str) -> str:
    return _cut(PurePosixPath(name).name, _ROLE_OR_RESULT).casefold()


_FORMS: tuple[Callable[[str], str], ...] = (str, _bare, _bare_file)


def _index(names: Iterable[str], form: Callable[[str], str]) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        index.setdefault(form(name), []).append(name)
    return index
