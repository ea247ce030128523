"""The methods that are compared: existing images, and networks and baselines that run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.evaluation.pairing import ResultPairing, SceneNames
from ktdn_plugin.metrics import RGB8
from ktdn_plugin.model_zoo.weights import resolve_checkpoint
from ktdn_plugin.scenes.images import FileImages, Images, StoreImages
from ktdn_plugin.scenes.names import key_of, without_comparisons
from ktdn_plugin.scenes.opening import open_images
from ktdn_plugin.scenes.scene_set import SceneSet
from ktdn_plugin.storage.atomic import digest_of

HAZY, DARK_CHANNEL = "hazy", "dcp"
BASELINES = (HAZY, DARK_CHANNEL)


class Method:
    """A method's image of each scene.

    Args:
        name: What the method is called.
        about: What it is, in one line.
        images: The images that lie there: its own, or the hazy ones that it starts from.
        numbers: Each scene's image.
        dehaze: Makes the method's image of a hazy one; None where it lies there.
        extra: Images that belong to no scene.
        settings: Plain values on which the images that it makes depend.
    """

    def __init__(
        self,
        name: str,
        about: str,
        images: Images,
        numbers: Sequence[int],
        dehaze: Callable[[RGB8], RGB8] | None = None,
        extra: Sequence[str] = (),
        settings: Sequence[Any] = (),
    ) -> None:
        self.name = name
        self.about = about
        self.images = images
        self.numbers = list(numbers)
        self.dehaze = dehaze
        self.extra = list(extra)
        self.settings = list(settings)

    def describe(self, scene: int) -> str:
        """Names the image that is read for a scene."""
        return self.images.describe(self.numbers[scene])

    def size(self, scene: int) -> tuple[int, int]:
        """Returns height and width of a scene's image.

        Raises:
            KTDNError: If it cannot be read.
        """
        return self.images.size(self.numbers[scene])

    def read(self, scene: int) -> RGB8:
        """Reads or makes the method's image of a scene, (h, w, 3) RGB.

        Raises:
            KTDNError: If it cannot be read, or made.
        """
        image = self.images.read(self.numbers[scene])
        return image if self.dehaze is None else self.dehaze(image)


class CheckpointMethod(Method):
    """A network's image of each scene."""

    def read(self, scene: int) -> RGB8:
        """Makes the network's image of a scene; what keeps it from that names the hazy one."""
        image = self.images.read(self.numbers[scene])
        assert self.dehaze is not None
        try:
            return self.dehaze(image)
        except KTDNError as error:  # such as too little memory for its size
            raise KTDNError(f"{self.describe(scene)}: {error}") from error


def open_results(truth: SceneSet, scenes: SceneNames, results: Sequence[str]) -> list[Method]:
    """Opens folders and stores of anyone's images.

    Args:
        truth: The ground truth, each pair at its place.
        scenes: What it is called.
        results: Each ``FOLDER`` or ``NAME=FOLDER``.

    Raises:
        KTDNError: If one is not there, its images do not pair, or one is the ground truth itself.
    """
    methods = []
    for text in results:
        name, path = named(text)
        images = open_images(path)
        if isinstance(images, StoreImages) and len(images.store.sides) > 1:
            raise KTDNError(
                f"{path}: a store of hazy and clear images, not a method's results; use it as --gt"
            )
        if isinstance(images, FileImages):
            keys = {key_of(file, path): file for file in images.paths}
            sheets = set(keys.values()) - set(without_comparisons(keys).values())
            images = FileImages(
                [file for file in images.paths if file not in sheets], root=images.root
            )
        names = _names(images)
        pairing = scenes.pair(names, str(path))
        _refuse_ground_truth(truth, images, pairing, path)
        extra = [names[number] for number in pairing.extra]
        methods.append(Method(name, str(path), images, pairing.numbers, extra=extra))
    return methods


def _refuse_ground_truth(
    truth: SceneSet, images: Images, pairing: ResultPairing, where: Path
) -> None:
    """Refuses ground truth that lies among results, where its name fits best."""
    rivals = {scene: number for number, scene in pairing.rivals.items()}
    for scene, number in enumerate(pairing.numbers):
        name, clear = images.describe(number), truth.clear.describe(scene)
        if _is_same_file(name, clear):
            raise KTDNError(
                f"{where}: {name} is the ground truth itself ({clear}), not a result; give a "
                "folder "
                "that holds only results"
            )
        if scene in rivals and _is_equal(images, number, truth, scene):
            raise KTDNError(
                f"{where}: {name} is a copy of the ground truth {clear}, and "
                f"{images.describe(rivals[scene])} lies beside it; keep only results there"
            )


def _is_same_file(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except (OSError, ValueError):  # images of stores are no files
        return False


def _is_equal(images: Images, number: int, truth: SceneSet, scene: int) -> bool:
    try:
        if images.size(number) != truth.clear.size(scene):
            return False
        return bool(np.array_equal(images.read(number), truth.clear.read(scene)))
    except KTDNError:
        return False  # which is reported when it is measured


def open_baselines(hazy: Images | None, baselines: Sequence[str]) -> list[Method]:
    """Prepares the methods that need no training.

    Args:
        hazy: Each scene's hazy image.
        baselines: Some of :data:`BASELINES`.

    Raises:
        KTDNError: If there are no hazy images, or there is no such baseline.
    """
    methods = []
    for name in baselines:
        if name not in BASELINES:
            raise KTDNError(
                f"'{name}' is not a baseline "
                f"({', '.join(BASELINES)}){did_you_mean(name, BASELINES)}"
            )
        images = _required(hazy, f"--baseline {name}")
        numbers = range(len(images))
        if name == HAZY:
            methods.append(Method(name, "the hazy images unchanged", images, numbers))
        else:
            about = _about_dark_channel()
            settings = [about]
            methods.append(Method(name, about, images, numbers, _dark_channel, settings=settings))
    return methods


def open_checkpoints(
    hazy: Images | None, checkpoints: Sequence[str], **options: Any
) -> list[Method]:
    """Loads trained networks.

    Args:
        hazy: Each scene's hazy image.
        checkpoints: Each ``FILE`` or ``NAME=FILE``.
        options: For :class:`~ktdn_plugin.Dehazer`: device, precision, memory, encoder,
            base_size.

    Raises:
        KTDNError: If there are no hazy images, or a checkpoint cannot be used.
    """
    methods: list[Method] = []
    for text in checkpoints:
        from ktdn_plugin.evaluation.stage import warn_if_teacher
        from ktdn_plugin.inference import Dehazer

        name, path = named(text)
        path = resolve_checkpoint(path)
        images = _required(hazy, f"--checkpoint {text}")
        warn_if_teacher(path)
        network = Dehazer(path, **options)
        # Memory and device change a value here and there by rounding, as they do in a table.
        settings = [digest_of(path), *(options.get(key) for key in ("precision", "base_size"))]
        numbers = range(len(images))
        methods.append(
            CheckpointMethod(name, str(path), images, numbers, network, settings=settings)
        )
    return methods


def check_names(methods: Sequence[Method]) -> None:
    """Refuses two methods with the same name, which could not be distinguished.

    Raises:
        KTDNError: If there are, or if there is no method at all.
    """
    if not methods:
        raise KTDNError(
            "nothing to compare: give a folder of results, --baseline hazy dcp, or --checkpoint "
            "NAME=FILE"
        )
    name, count = Counter(method.name.casefold() for method in methods).most_common(1)[0]
    if count > 1:
        several = ", ".join(each.about for each in methods if each.name.casefold() == name)
        raise KTDNError(f"{count} methods are called '{name}' ({several}); use NAME=PATH for one")


def named(text: str) -> tuple[str, Path]:
    """Splits ``NAME=PATH``; a path alone goes by its own name."""
    name, equals, rest = text.partition("=")
    if equals and not Path(text).exists():
        if name.strip() in ("", ".", "..") or not rest or "/" in name or "\\" in name:
            raise KTDNError(f"'{text}': must be NAME=PATH, with a name without slashes")
        return name.strip(), Path(rest)
    path = Path(text)
    return (path.resolve().name if path.is_dir() else path.stem), path


def _names(images: Images) -> list[str]:
    return [images.name(number) for number in range(len(images))]


def _required(hazy: Images | None, flag: str) -> Images:
    if hazy is None:
        raise KTDNError(f"{flag}: needs hazy images, and there are none beside --gt; give --hazy")
    return hazy


def _dark_channel(image: RGB8) -> RGB8:
    from ktdn_plugin.haze.dark_channel import dark_channel_prior

    return dark_channel_prior(image)


def _about_dark_channel() -> str:
    from ktdn_plugin.haze.dark_channel import EPS, OMEGA, PATCH, RADIUS, T0

    return (
        f"dark channel prior (He et al.): omega {OMEGA:g}, patch {PATCH}, t0 {T0:g}, guided filter "
        f"of radius {RADIUS} and eps {EPS:g}"
    )
