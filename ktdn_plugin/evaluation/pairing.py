"""Which image of a folder of results belongs to which ground truth, by names alone.

Names belong together as :class:`ktdn_plugin.scenes.names.Names` says, those of the ground truth
and those of its hazy image alike: of ``01_GT``, ``01``, ``01_hazy``, ``01_dehazed`` and
``01_hazy_ktdn_test`` do, ``01_2`` and ``011`` do not. An equal name goes first.

Folders count only where names alone do not tell ground truths apart. Where several hazy images
share a clear one, the hazy images' names are the ground truths'. Two images for one ground truth,
or none, are errors.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePath

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.scenes.names import Names, without_role
from ktdn_plugin.scenes.problems import some
from ktdn_plugin.scenes.scene_set import SceneSet


@dataclass(frozen=True)
class SceneName:
    """What a ground truth is called.

    Attributes:
        title: Its short name, which no other one has.
        exact: The name that an image has which is certainly its.
        names: All its names.
    """

    title: str
    exact: str
    names: frozenset[str]


@dataclass(frozen=True)
class ResultPairing:
    """The images that belong to scenes.

    Attributes:
        numbers: Each scene's image, by its number.
        extra: Images that belong to none.
        rivals: Those of them that would belong to a scene whose own name another one has, and the
            scene.
    """

    numbers: list[int]
    extra: list[int]
    rivals: dict[int, int]


class SceneNames:
    """The names of the ground truths.

    Args:
        clear: The clear images' names, of files or of images in a store.
        hazy: The name of each one's hazy image, where there are any.
        where: What to call the ground truth in an error.
    """

    def __init__(self, clear: Sequence[str], hazy: Sequence[str] | None, where: str) -> None:
        self.where = where
        shared = Counter(clear)
        by_hazy = hazy is not None and max(shared.values()) > 1
        main = list(hazy) if by_hazy and hazy is not None else list(clear)
        self._flat = True
        exact = self._keys(main)
        if len(set(exact)) < len(exact):
            self._flat = False
            exact = self._keys(main)
        twice = [main[exact.index(key)] for key, count in Counter(exact).items() if count > 1]
        if twice:
            raise KTDNError(
                f"{where}: several images are called {some(twice)}; rename or remove all but one"
            )
        others = exact if hazy is None else self._keys(list(hazy))
        short = [without_role(key) for key in exact]
        titles = short if len(set(short)) == len(short) else exact
        self.scenes = [
            SceneName(title, key, frozenset((key, cut, other, without_role(other))))
            for title, key, cut, other in zip(titles, exact, short, others, strict=True)
        ]
        self._owners: dict[str, set[int]] = defaultdict(set)
        for index, keys in enumerate(zip(exact, others, strict=True)):
            for key in keys:
                self._owners[key].add(index)
        self._names = Names(self._owners)

    @classmethod
    def of(cls, truth: SceneSet) -> SceneNames:
        """Returns the names of ground truth.

        Args:
            truth: The ground truth, each pair at its place.
        """
        clear, hazy = (
            None if images is None else [images.name(number) for number in range(len(images))]
            for images in (truth.clear, truth.hazy)
        )
        assert clear is not None
        return cls(clear, hazy, str(truth.place))

    @property
    def titles(self) -> list[str]:
        """The scenes' short names."""
        return [scene.title for scene in self.scenes]

    def pair(self, names: Sequence[str], where: str) -> ResultPairing:
        """Finds each scene's image.

        Args:
            names: The images' names.
            where: What to call them in an error.

        Raises:
            KTDNError: If a scene has none, or several.
        """
        keys = self._keys(names)
        numbers: dict[int, int] = {}
        by_key: dict[str, list[int]] = defaultdict(list)
        for number, key in enumerate(keys):
            by_key[key].append(number)
        for index, scene in enumerate(self.scenes):
            if scene.exact in by_key:
                numbers[index] = self._only(by_key[scene.exact], names, scene, where)
        claims: dict[int, list[int]] = defaultdict(list)
        rivals: dict[int, int] = {}
        used = set(numbers.values())
        for number, key in enumerate(keys):
            fitting = set() if number in used else self._scenes_of(key)
            if not fitting <= numbers.keys():
                if len(fitting) > 1:
                    exact = some(sorted(self.scenes[index].exact for index in fitting))
                    raise KTDNError(
                        f"{where}: {names[number]} may belong to {exact} of {self.where}; rename it"
                    )
                claims[fitting.pop()].append(number)
            elif len(fitting) == 1:
                rivals[number] = fitting.pop()
        for index, found in claims.items():
            numbers[index] = self._only(found, names, self.scenes[index], where)
        missing = [scene for index, scene in enumerate(self.scenes) if index not in numbers]
        used = set(numbers.values())
        extra = [number for number in range(len(names)) if number not in used]
        if missing:
            self._refuse(missing, [keys[number] for number in extra], where)
        return ResultPairing([numbers[index] for index in range(len(self.scenes))], extra, rivals)

    def _keys(self, names: Sequence[str]) -> list[str]:
        paths = [PurePath(name) for name in names]
        if self._flat:
            return [path.stem for path in paths]
        parents = [path.parent.parts for path in paths]
        levels = zip(*parents, strict=False)  # down to the least deep of them
        depth = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
        return [PurePath(*path.parts[depth:]).with_suffix("").as_posix() for path in paths]

    def _scenes_of(self, key: str) -> set[int]:
        return {index for name in self._names.match(key).names for index in self._owners[name]}

    def _only(
        self, found: Sequence[int], names: Sequence[str], scene: SceneName, where: str
    ) -> int:
        if len(found) > 1:
            raise KTDNError(
                f"{where}: {some([names[number] for number in found])} could all be the image of "
                f"'{scene.exact}' of {self.where}; keep one of them"
            )
        return found[0]

    def _refuse(self, missing: Sequence[SceneName], left: Sequence[str], where: str) -> None:
        one = missing[0]
        others = f" (nor of {some([s.exact for s in missing[1:]])})" if missing[1:] else ""
        shortest = min(one.names, key=lambda name: (len(name), name))
        hint = did_you_mean(one.exact, left)
        raise KTDNError(
            f"{where}: has no image for '{one.exact}'{others} of {self.where}; names must match, "
            f"or start the same, like '{shortest}_dehazed'{hint}"
        )
