"""Teacher stage: reconstructing clear images."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ktdn_plugin.basicsr.base_model import KTDNBaseModel
from ktdn_plugin.training.steps import Step, check_teacher, teacher_step


class KTDNTeacherModel(KTDNBaseModel):
    """Trains ``network_g`` to reproduce the clear images it is shown.

    The losses, each enabled by its key under ``train`` and logged under its name, are
    ``pixel_opt`` (``l_rec``), ``laplacian_opt`` (``l_lap``) and any other ``NAME_opt`` with a
    registered loss that compares images (``l_NAME``), such as ``ssim_opt: {type: SSIMLoss}``.

    Source: Wu et al., CVPRW 2020, the teacher network.
    """

    STAGE = "teacher"

    def init_training_settings(self) -> None:
        """Builds what training needs.

        Raises:
            KTDNError: If ``network_g`` has a head that uses no features.
        """
        check_teacher(self.get_bare_model(self.net_g), "network_g")
        super().init_training_settings()

    def feed_data(self, data: dict[str, Any]) -> None:
        """Takes the clear images: the teacher trains and is measured on these, even with pairs."""
        super().feed_data({**data, "lq": data.get("gt", data["lq"])})

    def step(self, lq: Tensor, gt: Tensor) -> Step:
        """Reconstructs the clear images."""
        clamp = self.opt["train"]["clamp_output"]
        return teacher_step(self.net_g, gt, self.image_losses, self.amp, clamp)
