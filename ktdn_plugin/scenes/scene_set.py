"""Scenes: clear images, each with the hazy images that belong to it, wherever they lie."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.scenes.images import BasicSRImages, FileImages, Images, StoreImages
from ktdn_plugin.scenes.names import Side, key_of, without_role
from ktdn_plugin.scenes.store import Store, split_name

Pairs = NDArray[np.int32]
"""Numbers of the hazy and of the clear image of each pair, (n, 2)."""


class Scene(NamedTuple):
    """A clear image and its hazy ones.

    Attributes:
        name: What it is called.
        clear: Number of the clear image; None of hazy images that have none.
        hazy: Numbers of the hazy images.
    """

    name: str
    clear: int | None
    hazy: list[int]


@dataclass(frozen=True, eq=False)
class SceneSet(Sequence[Scene]):
    """Hazy and clear images that belong together, opened by
    :func:`~ktdn_plugin.scenes.opening.open_scenes`, none of them decoded.

    It is a sequence of its scenes: one for each clear image, then one for each hazy image without
    a clear one. Images are read through :attr:`hazy` and :attr:`clear`.

    Attributes:
        place: The folder, LMDB or store that it was opened as.
        clear: The clear images.
        hazy: The hazy images; None where clear images stand alone.
        pairs: Which of them make a pair: several hazy images may share a clear one. None where
            there are no hazy images.
        dataset: The dataset's name, such as ``nh-haze``; empty where it was not named.
        split: The split's name, such as ``challenge-train``; empty where it was not named.
        missing: What the split should have and is missing or altered, one line each.
        fingerprint: Digest of all names and pixels, where it is known.
        names: A short name of each pair, or of each clear image where they stand alone, where it
            is not simply the file's.
    """

    place: Path
    clear: Images
    hazy: Images | None = None
    pairs: Pairs | None = None
    dataset: str = ""
    split: str = ""
    missing: Sequence[str] = ()
    fingerprint: str = ""
    names: Sequence[str] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.clear) + len(self.alone)

    def __getitem__(self, number: int) -> Scene:  # type: ignore[override]
        """Returns a scene."""
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        if number < len(self.clear):
            name = without_role(self.clear.key(number))
            return Scene(name, number, self._hazy_of.get(number, []))
        alone = self.alone[number - len(self.clear)]
        assert self.hazy is not None
        return Scene(without_role(self.hazy.key(alone)), None, [alone])

    def __iter__(self) -> Iterator[Scene]:
        return (self[number] for number in range(len(self)))

    @cached_property
    def _hazy_of(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for hazy, clear in [] if self.pairs is None else self.pairs.tolist():
            found[clear].append(hazy)
        return dict(found)

    @cached_property
    def alone(self) -> list[int]:
        """Numbers of the hazy images that have no clear one."""
        if self.hazy is None or self.pairs is None:
            return []
        paired = np.zeros(len(self.hazy), bool)
        paired[self.pairs[:, 0]] = True
        return [int(number) for number in np.flatnonzero(~paired)]

    @property
    def title(self) -> str:
        """The split's whole name, which says so where images are missing; empty without a name."""
        if self.dataset:
            return split_name(self.dataset, self.split, self.missing)
        if not self.missing:
            return self.split
        return f"{self.split or 'unnamed'} (incomplete: {len(self.missing)} missing)"

    @property
    def store(self) -> Store | None:
        """The store that the images are in, if they are in one."""
        return self.clear.store if isinstance(self.clear, StoreImages) else None

    @property
    def kind(self) -> str:
        """Where the images lie: in a ``folder``, an ``lmdb`` or a ``store``."""
        if isinstance(self.clear, BasicSRImages):
            return "lmdb"
        return "folder" if self.store is None else "store"

    @property
    def sides(self) -> list[Images]:
        """The hazy images where there are any, and the clear ones."""
        return [self.clear] if self.hazy is None else [self.hazy, self.clear]

    def side(self, side: Side) -> Images:
        """Returns the images of a side that is there."""
        images = self.clear if side == "clear" else self.hazy
        assert images is not None
        return images

    def files(self, side: Side) -> list[Path]:
        """Returns the files of a side, none where it is not there or lies in no files."""
        images = self.clear if side == "clear" else self.hazy
        return images.paths if isinstance(images, FileImages) else []

    def keys(self, number: int) -> list[str]:
        """Returns all that a clear image is known by: its own key, and those of its hazy images."""
        keys = [self.clear.key(number)]
        if isinstance(self.clear, FileImages):  # from here, and from the folder that was named
            keys.append(key_of(Path(self.clear.name(number)), self.place))
        if self.hazy is not None:
            keys += [self.hazy.key(hazy) for hazy in self._hazy_of.get(number, ())]
        return keys

    def name_of(self, pair: int) -> str:
        """Returns the short name of a pair, or of a clear image where they stand alone."""
        if self.names is not None:
            return self.names[pair]
        if self.hazy is None or self.pairs is None:
            return without_role(self.clear.key(pair))
        return without_role(self.hazy.key(int(self.pairs[pair, 0])))

    def aligned(self) -> SceneSet:
        """Returns the pairs alone: each hazy image with its clear one at the same place."""
        if self.hazy is None or self.pairs is None:
            return self
        if len(self.hazy) == len(self.clear) and np.array_equal(
            self.pairs, identity_pairs(len(self.hazy))
        ):
            return self
        hazy, clear = self.hazy.select(self.pairs[:, 0]), self.clear.select(self.pairs[:, 1])
        return replace(self, hazy=hazy, clear=clear, pairs=identity_pairs(len(self.pairs)))

    def only(self, pairs: Sequence[int]) -> SceneSet:
        """Keeps only the images of some pairs, or, of clear images alone, those numbers."""
        names = [self.name_of(number) for number in pairs]
        if self.hazy is None or self.pairs is None:
            return replace(self, clear=self.clear.select(pairs), names=names)
        chosen = self.pairs[np.asarray(pairs, int)]
        (hazy, hazy_of), (clear, clear_of) = (
            np.unique(chosen[:, side], return_inverse=True) for side in (0, 1)
        )
        return replace(
            self,
            hazy=self.hazy.select(hazy),
            clear=self.clear.select(clear),
            pairs=pairs_array(zip(hazy_of.tolist(), clear_of.tolist(), strict=True)),
            names=names,
        )


def pairs_array(pairs: Iterable[tuple[int, int]]) -> Pairs:
    """Returns pairs of numbers as an int32 array (n, 2)."""
    flat = np.fromiter((number for pair in pairs for number in pair), np.int32)
    return flat.reshape(-1, 2)


def identity_pairs(count: int) -> Pairs:
    """Returns the pairs (0, 0), (1, 1) and so on."""
    return np.repeat(np.arange(count, dtype=np.int32)[:, None], 2, axis=1)
