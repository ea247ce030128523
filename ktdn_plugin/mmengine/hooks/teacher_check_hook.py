"""Checks that a teacher reconstructs images before it teaches."""

from __future__ import annotations

import sys
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import collect_results
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from tqdm import tqdm

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.metrics import psnr, to_rgb8
from ktdn_plugin.mmengine.registry import HOOKS


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Measures how well the teacher reconstructs the validation's clear images, before training.

    A resumed training's teacher was already measured at its start.

    Args:
        min_psnr: Minimum mean PSNR in dB; a teacher below it has nothing to teach, and training
            stops. None only measures and logs.

    Raises:
        KTDNError: If that is not a number.
    """

    NO_IMAGES = (
        "TeacherCheckHook: there is no val_dataloader with clear images to measure the teacher on; "
        "name one, or leave the hook out"
    )

    def __init__(self, min_psnr: float | None = None) -> None:
        if isinstance(min_psnr, bool) or not isinstance(min_psnr, (int, float, type(None))):
            raise KTDNError(f"min_psnr: {min_psnr!r} must be a number of dB")
        self.min_psnr = min_psnr
        self.psnr: float | None = None  # as measured

    def before_train(self, runner: Runner) -> None:
        """Measures the teacher.

        Raises:
            KTDNError: If it does not reconstruct, or there is nothing to measure it on.
        """
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if runner.iter > 0 or getattr(model, "teacher", None) is None:
            return
        if runner.val_loop is None:
            raise KTDNError(self.NO_IMAGES)
        network = model.load_teacher_network().to(get_device())
        values = []
        shown = runner.rank == 0 and sys.stderr.isatty()
        loader: Any = runner.val_loop.dataloader
        with torch.no_grad():
            for batch in tqdm(loader, "teacher", unit="image", disable=not shown, leave=False):
                for sample in batch["data_samples"]:
                    clear = sample.clear.to(get_device())[None]
                    image = network(clear)[0]
                    values.append(psnr(to_rgb8(image), to_rgb8(clear[0])))
        found = collect_results(values, len(loader.dataset), "gpu")
        mean = [sum(found) / len(found)] if runner.rank == 0 else [0.0]
        if runner.distributed:
            torch.distributed.broadcast_object_list(mean)
        self.psnr = mean[0]
        runner.logger.info(f"The teacher reconstructs the validation set at {mean[0]:.2f} dB.")
        if self.min_psnr is not None and not mean[0] >= self.min_psnr:
            raise KTDNError(
                f"teacher_checkpoint: this teacher reconstructs poorly: {mean[0]:.2f} dB, less "
                f"than TeacherCheckHook's min_psnr: {self.min_psnr}; train it longer, or check "
                "that it is the right checkpoint"
            )
