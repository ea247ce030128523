"""NIQE, MUSIQ and other measures through pyiqa, where it is installed.

pyiqa is loaded when one of them is asked for: that takes seconds. Its licence is another one than
ours, and its weights are downloaded by itself.
"""

from __future__ import annotations

import importlib.metadata
import io
import logging
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor

from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError, describe_error, did_you_mean
from ktdn_plugin.evaluation.measures import INSTALL_PYIQA
from ktdn_plugin.evaluation.weights import (
    SAFE_LOADING,
    as_batch,
    missing_weights,
    plain_weights_only,
)
from ktdn_plugin.metrics import RGB8, Measure

_OF_SETS = ("FID", "InceptionScore", "CLIPScore")  # of two folders, of many images, of captions
_DOWNLOADING = re.compile(r'Downloading: "(?P<url>[^"]+)" to (?P<file>\S.*)')


def open_measures(names: Sequence[str], device: str) -> list[Measure]:
    """Prepares pyiqa metrics, and says on screen what its licence is.

    Args:
        names: As pyiqa calls them.
        device: Where they run, such as ``cpu``.

    Raises:
        KTDNError: If pyiqa cannot be loaded, knows no such measure, or cannot prepare it, for lack
            of its weights for example.
    """
    if not names:
        return []
    version, terms = licence()
    # Before it is loaded, so that whoever may not use it can stop.
    print_lines(
        f"{', '.join(names)}: by pyiqa {version}, whose licence allows non-commercial use only "
        f"({terms})",
        to_stderr=True,
    )
    configs = _load(names)
    for name in names:
        _check(name, configs, version)
    return [_open(name, configs[name], device) for name in names]


def licence() -> tuple[str, str]:
    """Returns the version and the licence that the installed pyiqa states."""
    about = importlib.metadata.metadata("pyiqa")
    stated = [about[key] for key in ("License-Expression", "License") if key in about]
    return about["Version"], stated[0].strip().splitlines()[0] if stated else "see its LICENSE file"


def _load(names: Sequence[str]) -> dict[str, Any]:
    try:
        import pyiqa  # noqa: F401
        from pyiqa.default_model_configs import DEFAULT_CONFIGS
        from pyiqa.utils import get_root_logger

        get_root_logger(log_level=logging.WARNING)
    # What it loads itself is another dozen packages, and any may be broken.
    except Exception as error:
        raise KTDNError(
            f"--metrics {' '.join(names)}: pyiqa cannot be loaded ({describe_error(error)}); "
            f"install it again: {INSTALL_PYIQA}"
        ) from error
    return dict(DEFAULT_CONFIGS)


def _check(name: str, configs: dict[str, Any], version: str) -> None:
    if name not in configs:
        hint = did_you_mean(name, configs) or f", only {', '.join(sorted(configs))[:200]}, ..."
        raise KTDNError(f"--metrics {name}: pyiqa {version} has no such metric{hint}")
    if configs[name]["metric_opts"]["type"] in _OF_SETS:
        raise KTDNError(
            f"--metrics {name}: measures sets of images or captions, not single images; remove it"
        )


def _open(name: str, config: dict[str, Any], device: str) -> Measure:
    import pyiqa

    said = io.StringIO()
    try:
        with plain_weights_only(), redirect_stdout(_Copy(said)), redirect_stderr(_Copy(said)):
            metric = pyiqa.create_metric(name, device=torch.device(device))
    except KeyboardInterrupt:
        raise
    # Weights come from several places, each with errors of its own.
    except BaseException as error:
        raise KTDNError(_why_not(name, error, said.getvalue())) from error

    def compute(image: RGB8, clear: RGB8) -> float:
        images = [as_batch(one, device) for one in (image, clear)]
        if metric.metric_mode != "FR":
            images = images[:1]
        try:
            with torch.inference_mode():
                value = metric(*images)
        # Images that are too small, too large or flat lead to errors of any kind.
        except Exception as error:
            raise ValueError(describe_error(error)) from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ValueError("does not return a single value")
        return float(value)

    return Measure(name, compute, "pyiqa", lower_is_better=bool(metric.lower_better))


def _why_not(name: str, error: BaseException, said: str) -> str:
    if isinstance(error, ModuleNotFoundError):
        return (
            f"--metrics {name}: needs the module '{error.name}', which is not installed; install "
            f"it, or remove {name}"
        )
    if "weights_only" in str(error).lower() or "weights only" in str(error).lower():
        return (
            f"--metrics {name}: its weights are not plain tensors, and loading them could run "
            "code; "
            f"remove {name}, or, if you trust pyiqa's files, set {SAFE_LOADING}=0"
        )
    reason = str(getattr(error, "reason", "")) or describe_error(error)
    found = list(_DOWNLOADING.finditer(said))
    if found and isinstance(error, OSError):
        url, file = found[-1]["url"], found[-1]["file"].strip()
        return missing_weights(name, reason, url, file)
    if isinstance(error, OSError):
        return (
            f"--metrics {name}: its weights cannot be downloaded ({reason}); run it once with "
            f"network access, or remove {name}"
        )
    return f"--metrics {name}: pyiqa cannot prepare it ({reason}); remove it"


class _Copy(io.TextIOBase):
    """Shows on stderr what is printed, and keeps it."""

    def __init__(self, kept: io.StringIO) -> None:
        self._kept = kept
        self._shown = sys.stderr

    def write(self, text: str) -> int:
        self._shown.write(text)
        return self._kept.write(text)

    def flush(self) -> None:
        self._shown.flush()

    def isatty(self) -> bool:
        return self._shown.isatty()
