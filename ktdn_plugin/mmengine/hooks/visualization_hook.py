"""Pictures of the output: sheets in validation, results in tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.metrics import SSIM_WINDOW, measure, to_rgb8
from ktdn_plugin.mmengine.registry import HOOKS
from ktdn_plugin.photos import write_rgb
from ktdn_plugin.sheets import comparison_sheet


@HOOKS.register_module()
class DehazingVisualizationHook(Hook):
    """Draws hazy, dehazed and clear images side by side, and saves results.

    Sheets go to the visualizer's backends under the image's name: into the run's ``vis_data``
    folder, and to tensorboard if it is one of the backends.

    Args:
        images: Number of images to draw in each validation: the first ones that rank 0 validates.
        save_results: In tests, save every dehazed image as ``results/NAME.png`` in the work
            directory.

    Raises:
        KTDNError: If an argument has the wrong type.
    """

    def __init__(self, images: int = 1, save_results: bool = True) -> None:
        if isinstance(images, bool) or not isinstance(images, int) or images < 0:
            raise KTDNError(f"images: {images!r} must be a whole number, 0 or more")
        self.images = images
        self.save_results = save_results

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draws the images of a batch."""
        if runner.rank != 0:
            return
        for number, sample in enumerate(outputs or ()):
            if batch_idx * len(outputs or ()) + number < self.images:
                # No slash in the name: the local backend would write to a missing folder.
                runner.visualizer.add_image(_stem(sample), _sheet(sample), step=runner.iter)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Saves the results of a batch, atomically."""
        if not self.save_results:
            return
        for sample in outputs or ():
            path = Path(runner.work_dir) / "results" / f"{_stem(sample)}.png"
            write_rgb(path, to_rgb8(sample.dehazed))


def _stem(sample: BaseDataElement) -> str:
    return Path(str(sample.get("name", "image"))).stem


def _sheet(sample: BaseDataElement) -> np.ndarray:
    hazy, dehazed = to_rgb8(sample.hazy), to_rgb8(sample.dehazed)
    if "clear" not in sample:
        return comparison_sheet([[(hazy, ""), (dehazed, "")]], ("hazy", "dehazed"))
    clear = to_rgb8(sample.clear)
    captions = [_caption(image, clear) for image in (hazy, dehazed)]
    if np.array_equal(hazy, clear):  # the teacher's
        row = [(clear, _stem(sample)), (dehazed, captions[1])]
        return comparison_sheet([row], ("clear", "reconstructed"))
    row = [(hazy, captions[0]), (dehazed, captions[1]), (clear, _stem(sample))]
    return comparison_sheet([row])


def _caption(image: np.ndarray, clear: np.ndarray) -> str:
    if min(image.shape[:2]) < SSIM_WINDOW:
        return ""
    return measure(image, clear).text(" dB")
