"""The photographs that results are of: what was hazy, and what it should look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.data.options import configure_synthetic
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.metrics import to_rgb8
from ktdn_plugin.scenes.images import FileImages
from ktdn_plugin.scenes.names import Names, key_of
from ktdn_plugin.scenes.opening import open_images, open_scenes
from ktdn_plugin.scenes.options import scenes_of_options
from ktdn_plugin.scenes.scene_set import SceneSet, pairs_array
from ktdn_plugin.training.run_log import SavedSet

RGB8 = NDArray[np.uint8]
Read = Callable[[], RGB8 | None]

HAZY_ONLY, CLEAR_ONLY, SYNTHETIC = (
    "SingleImageDataset",
    "ClearImageDataset",
    "SyntheticHazeDataset",
)
PAIRED = ("PairedHazeDataset", "PairedImageDataset")


class Photograph(NamedTuple):
    """A photograph.

    Attributes:
        name: What it is called.
        identity: What tells it from others, wherever it is named: where its images are.
        hazy: Reads its hazy image, (h, w, 3), 0 to 255, if it is there still; None where there is
            none.
        clear: Reads its clear image, alike.
        is_reconstructed: Whether a network is given the clear image itself, as the teacher is.
    """

    name: str
    identity: str
    hazy: Read | None
    clear: Read | None
    is_reconstructed: bool = False


class Photographs:
    """Photographs that results can be looked up among.

    Args:
        name: The set's name; empty where it has none.
        split: The name of the split; empty where it has none.
        photographs: The photographs by their keys, see :func:`ktdn_plugin.scenes.names.key_of`.
    """

    def __init__(self, name: str, split: str, photographs: Mapping[str, Photograph]) -> None:
        self.name = name
        self.split = split
        self.photographs = dict(photographs)
        self._names = Names(self.photographs)

    def find(self, key: str) -> Photograph | None:
        """Finds the photograph that a result is of, by the result's name."""
        named = [self.photographs[name] for name in self._names.match(key).names]
        return named[0] if len({one.identity for one in named}) == 1 else None


def kind_of(saved: SavedSet) -> str:
    """Names the kind of a dataset, without a toolbox's scope."""
    return str(saved.options.get("type", "")).rpartition(".")[2]


def photographs_of_run(saved: SavedSet) -> Photographs:
    """Opens the images that a run was validated or tested on, just as it saw them.

    Raises:
        KTDNError: The images are not there, or not what the options say.
    """
    kind, options = kind_of(saved), saved.options
    dataset: Any = None
    try:
        if kind == HAZY_ONLY:
            root = Path(str(options.get("dataroot_lq")))
            split = str(options.get("split") or "")
            return _by_name(saved.name, split, _hazy_alone(root))
        if kind == SYNTHETIC:
            dataset, scenes, split = configure_synthetic(options, False)
        elif kind in PAIRED or kind == CLEAR_ONLY:
            scenes = scenes_of_options(options, paired=kind in PAIRED)
            split = scenes.title
        else:
            what = kind or "dataset without a type"
            raise KTDNError(f"{saved.name}: images of a {what} are unknown")
    except KeyError as error:
        raise KTDNError(f"{saved.name}: its options have no {error.args[0]}") from None
    found = _list(scenes, kind == CLEAR_ONLY)
    files = [Path(one.name).name for one in found]
    counts = Counter(files)
    photographs = {}
    for number, (file, one) in enumerate(zip(files, found, strict=True)):
        # As results are named: by the file alone, unless another one has that name.
        hazy = one.hazy if dataset is None else partial(_read_made, dataset, number)
        key = file if counts[file] == 1 else one.name
        photographs[key] = one._replace(name=file, hazy=hazy)
    return Photographs(saved.name, split, photographs)


def _read_made(dataset: Any, number: int) -> RGB8:
    return to_rgb8(dataset[number]["hazy"])


def photographs_of_flags(hazy: Path | None, clear: Path | None) -> Photographs:
    """Opens the images that the user names.

    Args:
        hazy: A folder, or a store, whose hazy images are meant.
        clear: What :func:`ktdn_plugin.scenes.opening.open_scenes` takes; its hazy images are taken
            too, if there are any and ``hazy`` names no others.

    Raises:
        KTDNError: A folder is not there or has no image, a store is broken or has no such images,
            or none of the hazy images has a clear one.
    """
    if clear is None:
        assert hazy is not None, "one of the two is given"
        return _by_name("", "", _hazy_alone(hazy))
    scenes = open_scenes(clear, hazy=hazy, may_be_alone=("hazy", "clear"))
    return _by_name("", scenes.title, scenes)


def _hazy_alone(root: Path) -> SceneSet:
    return SceneSet(root, FileImages([]), open_images(root, "hazy"), pairs_array(()))


def _by_name(name: str, split: str, scenes: SceneSet) -> Photographs:
    found: dict[str, Photograph] = {}
    are_files = isinstance(scenes.sides[0], FileImages)
    for one in _list(scenes):
        found[one.name] = one
        path = Path(one.identity)
        if are_files and scenes.place in path.parents:  # as results of that folder are named
            found[key_of(path, scenes.place)] = one
    return Photographs(name, split, found)


def _list(scenes: SceneSet, is_reconstructed: bool = False) -> list[Photograph]:
    """Lists a set's photographs: one for each hazy image, or clear ones alone."""
    found = []
    for scene in scenes:
        clear = None if scene.clear is None else partial(scenes.clear.read, scene.clear)
        if scenes.hazy is None and scene.clear is not None:
            key, identity = scenes.clear.key(scene.clear), scenes.clear.describe(scene.clear)
            found.append(Photograph(key, identity, None, clear, is_reconstructed))
        for number in scene.hazy:
            images = scenes.side("hazy")
            key, identity = images.key(number), images.describe(number)
            found.append(Photograph(key, identity, partial(images.read, number), clear))
    return found
