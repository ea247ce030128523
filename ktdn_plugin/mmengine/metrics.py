"""PSNR and SSIM as mmengine metrics, with the core's values for each image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dist import master_only
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.metrics import RGB8, describe_missing, psnr, ssim, to_rgb8
from ktdn_plugin.mmengine.registry import METRICS

COLLECT_DEVICES = ("cpu", "gpu", "npu")


class ImageMetric(BaseMetric):
    """The mean of a metric over images, on 8-bit RGB at full size.

    Raises:
        KTDNError: If an argument is wrong, or, when measuring, there are no clear images.
    """

    default_prefix = ""  # None would give a warning
    measure: Callable[[RGB8, RGB8, int], float]

    def __init__(
        self, crop_border: int = 0, collect_device: str = "gpu", prefix: str | None = None
    ) -> None:
        name = type(self).__name__
        if isinstance(crop_border, bool) or not isinstance(crop_border, int) or crop_border < 0:
            raise KTDNError(
                f"{name}.crop_border: {crop_border!r} must be a whole number of pixels, 0 or more"
            )
        if collect_device not in COLLECT_DEVICES:
            raise KTDNError(
                f"{name}.collect_device: {collect_device!r} is not one of "
                f"{', '.join(COLLECT_DEVICES)}"
            )
        if prefix is not None and not isinstance(prefix, str):
            raise KTDNError(f"{name}.prefix: {prefix!r} must be a string")
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.crop_border = crop_border

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Measures each image of a batch: ``dehazed`` against ``clear``, (3, h, w) in [0, 1]."""
        for sample in data_samples:
            name = sample.get("name", "")
            if "clear" not in sample or "dehazed" not in sample:
                raise KTDNError(
                    f"{type(self).__name__}: {name or 'a sample'} has no "
                    f"{'clear' if 'clear' not in sample else 'dehazed'} image to be measured with"
                )
            if not sample["dehazed"].isfinite().all():
                raise KTDNError(
                    f"{type(self).__name__}: {name}: the network's image has NaN or infinite values"
                )
            images = to_rgb8(sample["dehazed"]), to_rgb8(sample["clear"])
            try:
                self.results.append((type(self).measure(*images, self.crop_border), name, ""))
            except ValueError as error:  # validation continues without this image
                self.results.append((math.nan, name, str(error)))

    def compute_metrics(self, results: list[tuple[float, str, str]]) -> dict[str, float | None]:
        """Returns the mean of all processes' figures, which are in image order.

        Images without a figure are left out and named; the mean is None if there are none.
        """
        missing = [(name, reason) for value, name, reason in results if math.isnan(value)]
        self._report(len(results), missing)
        values = [value for value, _, _ in results if not math.isnan(value)]
        total = 0.0
        for value in values:
            total += value
        return {type(self).__name__: total / len(values) if values else None}

    @master_only
    def _report(self, images: int, missing: list[tuple[str, str]]) -> None:
        """Logs the figure's split, as figures of different splits do not compare."""
        split = (self.dataset_meta or {}).get("split")
        name = f"split {split}" if split else "unnamed split"
        logger = MMLogger.get_current_instance()
        logger.info(f"{type(self).__name__} over {images} images, {name}")
        if missing:
            logger.warning(describe_missing(type(self).__name__, missing, images))


@METRICS.register_module()
class PSNR(ImageMetric):
    """Peak signal-to-noise ratio in dB, see :func:`ktdn_plugin.metrics.psnr`.

    Args:
        crop_border: Pixels to ignore at each edge.
        collect_device: How the processes' figures are gathered: ``gpu``, by messages between them,
            also on CPUs; ``cpu``, through files in ``.dist_test``.
        prefix: Prefix of the metric's name, to tell several sets apart.
    """

    measure = staticmethod(psnr)


@METRICS.register_module()
class SSIM(ImageMetric):
    """Structural similarity, see :func:`ktdn_plugin.metrics.ssim`.

    Args:
        crop_border: Pixels to ignore at each edge.
        collect_device: How the processes' figures are gathered: ``gpu``, by messages between them,
            also on CPUs; ``cpu``, through files in ``.dist_test``.
        prefix: Prefix of the metric's name, to tell several sets apart.
    """

    measure = staticmethod(ssim)
