"""The photographs that results are of: what was hazy, and what it should look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.data.configured import (
    Configured,
    configure_clear,
    configure_paired,
    configure_synthetic,
)
from ktdn_plugin.data.listing import first_of
from ktdn_plugin.data.sources import Images
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.evaluation.truth import keys_of, open_ground_truth, open_images, pair_images
from ktdn_plugin.metrics import to_rgb8
from ktdn_plugin.photos import read_rgb
from ktdn_plugin.scenes.image_files import list_images
from ktdn_plugin.scenes.names import Names, key_of
from ktdn_plugin.training.run_log import SavedSet

RGB8 = NDArray[np.uint8]

HAZY_ONLY, CLEAR_ONLY = "SingleImageDataset", "ClearImageDataset"
_KINDS: dict[str, Callable[[Mapping[str, Any], bool], Configured]] = {
    CLEAR_ONLY: configure_clear,
    "PairedHazeDataset": configure_paired,
    "PairedImageDataset": configure_paired,
    "SyntheticHazeDataset": configure_synthetic,
}


class Pair(NamedTuple):
    """A scene's images, each (h, w, 3), 0 to 255, or None where there is none."""

    hazy: RGB8 | None
    clear: RGB8 | None


class Scene(NamedTuple):
    """A photograph.

    Attributes:
        name: What it is called.
        identity: What tells it from others, wherever it is named: where its images are.
        read: Gives its images; a KTDNError where they cannot be read.
        is_reconstructed: Whether a network is given the clear image itself, as the teacher is.
    """

    name: str
    identity: str
    read: Callable[[], Pair]
    is_reconstructed: bool = False


class SceneSet:
    """Photographs that results can be looked up among.

    Args:
        name: The set's name; empty where it has none.
        split: The name of the split; empty where it has none.
        scenes: The photographs by their keys, see :func:`ktdn_plugin.scenes.names.key_of`.
    """

    def __init__(self, name: str, split: str, scenes: Mapping[str, Scene]) -> None:
        self.name = name
        self.split = split
        self.scenes = dict(scenes)
        self._names = Names(self.scenes)

    def find(self, key: str) -> Scene | None:
        """Finds the photograph that a result is of, by the result's name."""
        found = self._names.find(key)
        return None if found is None else self.scenes[found]


def kind_of(saved: SavedSet) -> str:
    """Names the kind of a dataset, without a toolbox's scope."""
    return str(saved.options.get("type", "")).rpartition(".")[2]


def scenes_of_run(saved: SavedSet) -> SceneSet:
    """Opens the images that a run was validated or tested on, just as it saw them.

    Raises:
        KTDNError: The images are not there, or not what the options say.
    """
    kind = kind_of(saved)
    if kind == HAZY_ONLY:
        root = Path(str(saved.options.get("dataroot_lq")))
        return SceneSet(saved.name, str(saved.options.get("split") or ""), _hazy_files(root))
    if kind not in _KINDS:
        raise KTDNError(f"{saved.name}: images of a {kind or 'dataset without a type'} are unknown")
    try:
        dataset, images, split = _KINDS[kind](saved.options, False)
    except KeyError as error:
        raise KTDNError(f"{saved.name}: its options name no {error.args[0]}") from None
    named = images.clear if images.hazy is None else images.hazy
    paths = [named.name(number) for number in range(len(dataset))]
    counts = Counter(Path(path).stem for path in paths)
    scenes = {
        # As results are named: by the file alone, unless another one has that name.
        (Path(path).stem if counts[Path(path).stem] == 1 else key_of(Path(path))): Scene(
            Path(path).stem,
            named.describe(number),
            partial(_read_sample, dataset, number),
            kind == CLEAR_ONLY,
        )
        for number, path in enumerate(paths)
    }
    return SceneSet(saved.name, split, scenes)


def _read_sample(dataset: Any, number: int) -> Pair:
    sample = dataset[number]
    return Pair(to_rgb8(sample["hazy"]), to_rgb8(sample["clear"]))


def scenes_of_flags(hazy: Path | None, clear: Path | None) -> SceneSet:
    """Opens the images that a person names.

    Args:
        hazy: A folder, or a store, whose hazy images are meant.
        clear: What :func:`ktdn_plugin.evaluation.truth.open_ground_truth` takes; its hazy images
            are taken too, if there are any and ``hazy`` names no others.

    Raises:
        KTDNError: A folder is not there or has no image, a store is broken or has no such images,
            or none of the hazy images has a clear one.
    """
    given = None if hazy is None else open_images(hazy, "--hazy", "hazy")
    if clear is None:
        assert hazy is not None, "one of the two is given"
        assert given is not None
        return _scene_set("", given, keys_of(given, hazy), None)
    truth = open_ground_truth(clear, None, None)
    if hazy is None or given is None:
        named = truth.clear if truth.hazy is None else truth.hazy
        return _scene_set(truth.split, truth.hazy, keys_of(named, clear), truth.clear)
    pairing = pair_images(given, hazy, truth.clear, clear)
    if len(pairing.faults) == len(given):
        what = first_of(list(pairing.faults.values()))
        raise KTDNError(f"--hazy {hazy}: no hazy image has a clear one in --gt {clear}: {what}")
    return _scene_set(truth.split, given, keys_of(given, hazy), truth.clear, pairing.partners)


def _scene_set(
    split: str,
    hazy: Images | None,
    keys: Sequence[str],
    clear: Images | None,
    partners: Sequence[int | None] | None = None,
) -> SceneSet:
    """Puts scenes together; without ``partners``, both sides are in the same order."""
    scenes = {}
    for number, key in enumerate(keys):
        partner = number if partners is None else partners[number]
        named = clear if hazy is None else hazy
        assert named is not None, "there is a side at least"
        one = None if hazy is None else partial(hazy.read, number)
        other = None if clear is None or partner is None else partial(clear.read, partner)
        scenes[key] = Scene(key, named.describe(number), partial(_read_both, one, other))
    return SceneSet("", split, scenes)


def _read_both(hazy: Callable[[], RGB8] | None, clear: Callable[[], RGB8] | None) -> Pair:
    return Pair(None if hazy is None else hazy(), None if clear is None else clear())


def _hazy_files(root: Path) -> dict[str, Scene]:
    return {
        key_of(path, root): Scene(path.stem, str(path), partial(_read_hazy, path))
        for path in list_images(root)
    }


def _read_hazy(path: Path) -> Pair:
    return Pair(read_rgb(path), None)
