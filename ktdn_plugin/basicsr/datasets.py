"""BasicSR's side of the datasets: options in, samples with BasicSR's keys out."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from ktdn_plugin.basicsr.options.loading import with_numbers
from ktdn_plugin.data.options import configure_clear, configure_paired, configure_synthetic

NUMBERS = ("gt_size", "use_scale", "color_jitter", "haze", "degradation")
"""Options that are numbers or sections of numbers."""


class ClearImageDataset(Dataset):
    """Clear images, which are both input and target, for the teacher's stage.

    Args:
        opt: The dataset's options:

            - ``dataroot_gt``, ``layout``, ``split``, ``meta_info_file``: which images, see
              :func:`ktdn_plugin.scenes.options.scenes_of_options`;
            - ``phase``: ``train`` gives random crops, anything else whole images;
            - ``gt_size``: crop size in pixels; ``use_hflip``, ``use_rot``: random flips and quarter
              turns; ``use_scale: [low, high]``: random scale; ``color_jitter``: random
              ``brightness``, ``contrast``, ``saturation`` and ``hue``. In training only.

    Raises:
        KTDNError: If an option is wrong, or the images do not exist.
    """

    configure = staticmethod(configure_clear)

    def __init__(self, opt: dict[str, Any]) -> None:
        opt |= {key: with_numbers(opt[key]) for key in NUMBERS if key in opt}
        self.opt = opt
        configured = self.configure(opt, opt["phase"] == "train")
        self.dataset, self.images, self.split = configured
        self.fingerprint = configured.images.fingerprint

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns ``lq`` and ``gt``, RGB tensors (3, h, w) in [0, 1], and their names as paths.

        Raises:
            KTDNError: If an image cannot be read, or is smaller than the crop.
        """
        sample = self.dataset[index]
        return {
            "lq": sample["hazy"],
            "gt": sample["clear"],
            "lq_path": sample["name"],
            "gt_path": sample.get("clear_name", sample["name"]),
        }


class PairedHazeDataset(ClearImageDataset):
    """Hazy images paired with clear ones of the same scenes, for the student's stage.

    Args:
        opt: As for :class:`ClearImageDataset`; without a store or a layout, ``dataroot_lq`` is the
            hazy images' folder or LMDB, and ``filename_tmpl`` a hazy file's name in terms of its
            clear one.

    Raises:
        KTDNError: If an option is wrong, or the images do not exist or cannot be paired.
    """

    configure = staticmethod(configure_paired)


class SyntheticHazeDataset(ClearImageDataset):
    """Clear images with haze synthesised on the fly.

    In training each use of an image gets different haze; in validation an image keeps its own.

    Args:
        opt: As for :class:`ClearImageDataset`, and

            - ``haze``: ranges of ``density``, ``airlight``, ``tint``, ``veil`` and ``coverage``,
              each ``[low, high]``, and ``octaves``, see
              :func:`ktdn_plugin.haze.scattering.synthesize_haze`;
            - ``degradation``: other kinds of haze, and camera effects before and after it, see
              :class:`ktdn_plugin.haze.degradation.Degradation`;
            - ``dataroot_depth``: a folder with a depth map of the same name for each image.

    Raises:
        KTDNError: If an option is wrong, or the images do not exist.
    """

    configure = staticmethod(configure_synthetic)


DATASETS = (ClearImageDataset, PairedHazeDataset, SyntheticHazeDataset)
