"""Turns a data loader's output into a batch on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from ktdn_plugin.data.skipping import FAILURES
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.mmengine.registry import MODELS


@MODELS.register_module()
class DehazingDataPreprocessor(BaseDataPreprocessor):
    """Makes a batch of images, and moves it to the device.

    The network normalises its input itself, so nothing is normalised here.

    Args:
        non_blocking: Copy to the GPU while the CPU continues; requires ``pin_memory``.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Batches the output of mmengine's collate functions.

        Args:
            data: ``inputs``, RGB images (3, h, w) in [0, 1], floating point or uint8, stacked or
                in a list; ``data_samples``, a list of data elements, if there are any.
            training: Unused, as augmentation belongs to the dataset.

        Returns:
            ``inputs`` (n, 3, h, w), and ``data_samples``.

        Raises:
            KTDNError: If the images differ in size, or unreadable ones were skipped without
                anything counting them.
        """
        data = dict(data)
        if FAILURES in data:
            raise KTDNError(
                "on_error='skip': skipped images are counted by train_cfg=dict("
                "type='SeededTrainLoop', ...); use it, or on_error='raise'"
            )
        inputs = data["inputs"]
        if not isinstance(inputs, Tensor):
            _check_sizes(inputs)
            inputs = torch.stack(list(inputs))
        data["inputs"] = inputs
        batch: dict[str, Any] = self.cast_data(data)
        if not batch["inputs"].is_floating_point():
            batch["inputs"] = batch["inputs"] / 255
        batch.setdefault("data_samples", None)
        return batch


def _check_sizes(images: Sequence[Tensor]) -> None:
    sizes = {tuple(image.shape[-2:]) for image in images}
    if len(sizes) > 1:
        (height, width), (other_height, other_width), *_ = sorted(sizes)
        raise KTDNError(
            f"a batch of images of {width} x {height} and {other_width} x {other_height} pixels: "
            "take batch_size=1 for whole photographs"
        )
