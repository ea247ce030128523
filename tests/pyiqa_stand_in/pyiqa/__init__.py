"""Behaves as pyiqa does towards whoever asks it for measures; its figures are other ones.

pyiqa's licence binds its users, so tests cannot count on it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pyiqa.archs import musiq_arch
from pyiqa.default_model_configs import DEFAULT_CONFIGS
from pyiqa.utils import download_util

WEIGHTS = {
    "NIQE": "https://example.com/niqe_modelparameters.mat",
    "LPIPS": "https://example.com/LPIPS_v0.1_alex-df73285e.pth",
    "MUSIQ": musiq_arch.default_model_urls["koniq10k"],
}
LEAST = 161  # shorter side of an image that MS-SSIM can halve four times


class Metric(torch.nn.Module):
    """A measure, which takes tensors (n, 3, h, w) in [0, 1] and gives one figure for each."""

    def __init__(self, name: str, device: torch.device) -> None:
        super().__init__()
        config = DEFAULT_CONFIGS[name]
        self.kind = config["metric_opts"]["type"]
        self.metric_mode = config["metric_mode"]
        self.lower_better = config.get("lower_better", False)
        if self.kind in WEIGHTS:
            path = download_util.load_file_from_url(WEIGHTS[self.kind])
            torch.load(path, map_location=device, weights_only=False)

    def forward(self, target: Tensor, ref: Tensor | None = None) -> Tensor:
        assert target.dim() == 4
        assert 0 <= float(target.min()) <= float(target.max()) <= 1
        if self.metric_mode == "NR":
            assert ref is None
            return target.std(dim=(1, 2, 3))
        assert ref is not None
        if self.kind == "MS_SSIM" and min(target.shape[2:]) < LEAST:
            raise RuntimeError("Kernel size can't be greater than actual input size")
        difference = (target - ref).abs().mean(dim=(1, 2, 3))
        return difference if self.lower_better else 1 - difference**2


def create_metric(metric_name: str, device: torch.device | str | None = None) -> Metric:
    """Gives a measure, whose weights are fetched where they are not there."""
    Path(download_util.DEFAULT_CACHE_DIR).mkdir(parents=True, exist_ok=True)
    return Metric(metric_name, torch.device(device or "cpu")).eval()
