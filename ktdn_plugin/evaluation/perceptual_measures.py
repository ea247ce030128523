"""LPIPS and DISTS by torchmetrics (Apache-2.0), where it is installed.

Their own weights come with it. Those of the networks below, AlexNet and VGG16 as trained on
ImageNet, are torchvision's, which downloads them once.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

from ktdn_plugin.errors import KTDNError, describe_error
from ktdn_plugin.evaluation.weights import as_batch, missing_weights, plain_weights_only
from ktdn_plugin.metrics import RGB8, Measure

INSTALL = "pip install torchmetrics"
ABOUT = {
    "lpips": "torchmetrics, AlexNet, version 0.1, RGB, full resolution",
    "dists": "torchmetrics, VGG16, RGB, full resolution",
}


def open_measures(names: Sequence[str], device: str) -> list[Measure]:
    """Loads LPIPS and DISTS.

    Args:
        names: ``lpips``, ``dists``.
        device: Where they run, such as ``cpu``.

    Raises:
        KTDNError: If torchmetrics is not installed or too old, or weights cannot be had.
    """
    return [_open(name, device) for name in names]


def _open(name: str, device: str) -> Measure:
    if importlib.util.find_spec("torchmetrics") is None:
        raise KTDNError(f"--metrics {name}: torchmetrics is not installed: {INSTALL}")
    try:
        with plain_weights_only(), redirect_stdout(sys.stderr):  # what is downloaded
            network = _networks(name).to(device).eval()
    except ImportError as error:
        raise KTDNError(
            f"--metrics {name}: torchmetrics is too old, or broken ({describe_error(error)}): "
            f"{INSTALL} -U"
        ) from error
    except OSError as error:
        reason = str(getattr(error, "reason", "")) or describe_error(error)
        raise KTDNError(missing_weights(name, reason, *_backbone(name))) from error
    # A file that was cut off, is another network's, or would run code.
    except Exception as error:
        url, file = _backbone(name)
        raise KTDNError(
            f"--metrics {name}: {file} cannot be used ({describe_error(error)}); remove it, and "
            f"get {url} again"
        ) from error

    def compute(image: RGB8, clear: RGB8) -> float:
        images = [as_batch(one, device) for one in (image, clear)]
        try:
            with torch.inference_mode():
                return float(_apply(name, network, *images))
        except RuntimeError as error:  # images that are too small
            raise ValueError(describe_error(error)) from error

    return Measure(name, compute, ABOUT[name], lower_is_better=True)


def _networks(name: str) -> nn.Module:
    if name == "lpips":
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        return _NoTrainLpips(net="alex")
    from torchmetrics.functional.image.dists import DISTSNetwork

    return DISTSNetwork()


def _apply(name: str, network: nn.Module, image: Tensor, clear: Tensor) -> Tensor:
    result: Tensor
    result = network(image, clear, normalize=True) if name == "lpips" else network(image, clear)
    return result


def _backbone(name: str) -> tuple[str, Path]:
    """Returns the address of a backbone's weights, and the file in which they are kept."""
    from torchvision.models import AlexNet_Weights, VGG16_Weights

    url = (AlexNet_Weights if name == "lpips" else VGG16_Weights).DEFAULT.url
    return url, Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[1])
