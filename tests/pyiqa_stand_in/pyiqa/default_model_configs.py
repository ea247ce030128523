from __future__ import annotations

from typing import Any


def _config(kind: str, mode: str, lower: bool = False) -> dict[str, Any]:
    config: dict[str, Any] = {"metric_opts": {"type": kind}, "metric_mode": mode}
    return {**config, "lower_better": True} if lower else config


DEFAULT_CONFIGS = {
    "afine_all": _config("AFINE", "FR", lower=True),
    "entropy": _config("Entropy", "NR"),
    "fid": _config("FID", "NR", lower=True),
    "gmsd": _config("GMSD", "FR", lower=True),
    "lpips": _config("LPIPS", "FR", lower=True),
    "ms_ssim": _config("MS_SSIM", "FR"),
    "musiq": _config("MUSIQ", "NR"),
    "niqe": _config("NIQE", "NR", lower=True),
    "vif": _config("VIF", "FR"),
}
