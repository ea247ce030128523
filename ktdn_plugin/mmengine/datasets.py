"""mmengine's side of the datasets: the core's datasets, giving mmengine's samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from ktdn_plugin.data.options import configure_clear, configure_paired, configure_synthetic
from ktdn_plugin.data.order import SampleDraw, SeededDataset
from ktdn_plugin.data.skipping import FAILURES, SkippingDataset
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.mmengine.registry import DATASETS

ON_ERROR = ("raise", "skip")


@DATASETS.register_module()
class ClearImageDataset(Dataset):
    """Clear images, which are both input and target, for the teacher's stage.

    The options are those of BasicSR's side, so a dataset is described in one way only.

    Args:
        dataroot_gt: A store, a public dataset's folder with ``layout``, a folder of clear images,
            or a BasicSR LMDB, see :func:`ktdn_plugin.scenes.options.scenes_of_options`.
        **options:

            - ``layout``: which public dataset the folder is, as unpacked; ``split``: which part of
              it, or for other images a name reported with the figures; ``allow_incomplete``:
              accept an incomplete copy;
            - ``meta_info_file``: a file that lists the images, as in BasicSR;
            - ``gt_size``: side of the random crop in pixels; whole images without it;
            - ``use_hflip``, ``use_rot``: random flips and quarter turns (both on by default);
              ``use_scale``: random enlargement, (from, to); ``color_jitter``: maximum change of
              ``brightness``, ``contrast``, ``saturation`` and ``hue``. With a crop only;
            - ``on_error``: ``'raise'`` if an image cannot be read, or ``'skip'`` it, count it and
              take the next one, which requires ``SeededTrainLoop``.

    Attributes:
        metainfo: ``split`` and ``fingerprint`` of the images, for logs and checkpoints.
        seed: Seed of the augmentation, if a ``SeededSampler`` draws the samples.

    Raises:
        KTDNError: If an option is wrong, or the images do not exist.
    """

    OPTIONS: tuple[str, ...] = (
        "layout", "split", "allow_incomplete", "meta_info_file", "gt_size", "use_hflip", "use_rot",
        "use_scale", "color_jitter", "on_error",
    )  # fmt: skip
    configure = staticmethod(configure_clear)

    def __init__(self, dataroot_gt: str, **options: Any) -> None:
        for key in options:
            if key not in self.OPTIONS:
                raise KTDNError(
                    f"{type(self).__name__}: unknown option '{key}'"
                    f"{did_you_mean(key, self.OPTIONS)}"
                )
        self.on_error = options.pop("on_error", "raise")
        if self.on_error not in ON_ERROR:
            raise KTDNError(
                f"on_error: {self.on_error!r} is not one of {', '.join(ON_ERROR)}"
                f"{did_you_mean(self.on_error, ON_ERROR)}"
            )
        # None counts as not given.
        given = {key: _plain(value) for key, value in options.items() if value is not None}
        self.crop: int | None = given.get("gt_size")
        opt = {"dataroot_gt": dataroot_gt, **given}
        self.dataset, self.images, split = self.configure(opt, self.crop is not None)
        self.metainfo = {"split": split, "fingerprint": self.images.fingerprint}
        self.seed = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def full_init(self) -> None:
        """Does nothing; mmengine's wrappers, such as ``RepeatDataset``, call it."""

    def __getitem__(self, index: int | SampleDraw) -> dict[str, Any]:
        """Returns a sample.

        Args:
            index: The image's number; with ``SeededSampler`` also the pass over the images, which
                determines its augmentation.

        Returns:
            ``inputs``, the hazy image (3, h, w), float32 RGB in [0, 1], and ``data_samples`` with
            ``clear`` in the same format, and their ``name`` and ``clear_name``.

        Raises:
            KTDNError: If an image cannot be read, or is smaller than the crop.
        """
        failures = {}
        if not isinstance(index, SampleDraw):
            sample = self.dataset[index]
        elif self.on_error == "skip":
            sample = SkippingDataset(SeededDataset(self.dataset, self.seed))[index]
            failures = {FAILURES: sample[FAILURES]}
        else:
            sample = SeededDataset(self.dataset, self.seed)[index]
        names = {"name": sample["name"], "clear_name": sample.get("clear_name", sample["name"])}
        element = BaseDataElement(metainfo=names, clear=sample["clear"])
        return {"inputs": sample["hazy"], "data_samples": element, **failures}


@DATASETS.register_module()
class PairedHazeDataset(ClearImageDataset):
    """Hazy images paired with clear ones of the same scenes, for the student's stage.

    Args:
        dataroot_gt: As for :class:`ClearImageDataset`.
        **options: As for :class:`ClearImageDataset`, and if ``dataroot_gt`` is neither a store nor
            has a layout, ``dataroot_lq``, the hazy images' folder or LMDB, and ``filename_tmpl``,
            the hazy file's name in terms of its clear one (``'{}_hazy'``).

    Raises:
        KTDNError: If an option is wrong, or the images do not exist or cannot be paired.
    """

    OPTIONS = (*ClearImageDataset.OPTIONS, "dataroot_lq", "filename_tmpl")
    configure = staticmethod(configure_paired)


@DATASETS.register_module()
class SyntheticHazeDataset(ClearImageDataset):
    """Clear images with haze synthesised on the fly.

    With ``gt_size`` each use of an image gets different haze; without it, an image keeps its own.

    Args:
        dataroot_gt: As for :class:`ClearImageDataset`.
        **options: As for :class:`ClearImageDataset`, and ``haze``, ranges of ``density``,
            ``airlight``, ``tint``, ``veil`` and ``coverage``, and ``octaves``, see
            :func:`~ktdn_plugin.haze.scattering.synthesize_haze`; ``degradation``, other kinds of
            haze and camera effects before and after it, see
            :class:`ktdn_plugin.haze.degradation.Degradation`; ``dataroot_depth``, a folder with a
            depth map of the same name for each image.

    Raises:
        KTDNError: If an option is wrong, or the images do not exist.
    """

    OPTIONS = (*ClearImageDataset.OPTIONS, "haze", "degradation", "dataroot_depth")
    configure = staticmethod(configure_synthetic)


def _plain(value: Any) -> Any:
    """Converts mmengine's own dictionaries, and tuples, to the types of options files."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
