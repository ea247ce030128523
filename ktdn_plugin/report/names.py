"""Which image goes with which, by their names: methods add endings to those of their input."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

# Endings that tell what an image is, not of what scene.
_ENDING = re.compile(r"[_-](hazy|haze|foggy|lq|input|gt|clear|clean|target|dehazed|out)$", re.I)
_JOINTS = "_-. "


def key_of(path: Path, root: Path | None = None) -> str:
    """Names an image by its path within a folder, without the suffix, ``/`` between its parts."""
    inner = path.relative_to(root) if root is not None else path
    return inner.with_suffix("").as_posix()


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

        That is an equal one; else one that is equal without endings such as ``_hazy`` and ``_GT``;
        else one whose file's name alone is; else the longest that the name goes on from, as
        ``51_results_of_mine`` does from ``51`` or ``51_GT``.

        Args:
            name: The name.
            may_be_numbered: Whether ``51_2`` goes on from ``51``, as hazes of one scene do, rather
                than being a scene of its own.

        Returns:
            None where there is none, or several would do.
        """
        for form, index in zip(_FORMS, self._indices, strict=True):
            found = index.get(form(name), [])
            if found:
                return found[0] if len(found) == 1 else None
        for form, index in zip(_FORMS[1:], self._indices[1:], strict=True):
            whole = form(name)
            for end in range(len(whole) - 1, 0, -1):
                if not may_be_numbered and whole[end + 1 : end + 2].isdigit():
                    continue
                if whole[end] in _JOINTS and whole[:end] in index:
                    found = index[whole[:end]]
                    return found[0] if len(found) == 1 else None
        return None


def _bare(name: str) -> str:
    return _ENDING.sub("", name)


def _bare_file(name: str) -> str:
    return _bare(PurePosixPath(name).name)


_FORMS: tuple[Callable[[str], str], ...] = (str, _bare, _bare_file)


def _index(names: Iterable[str], form: Callable[[str], str]) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        index.setdefault(form(name), []).append(name)
    return index
