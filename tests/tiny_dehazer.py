"""A tiny network that dehazes, and a photograph for it."""

from __future__ import annotations

import functools

import numpy as np
import skimage.data
import torch
from golden_rule import draw_weights
from torch import Tensor

from ktdn_plugin import KTDN
from ktdn_plugin.inference import Dehazer

HEIGHT, WIDTH = 75, 110


@functools.cache
def network() -> KTDN:
    result = KTDN("test_resnet").eval()
    draw_weights(result, ("bn2.weight",))
    return result


@functools.cache
def dehazer() -> Dehazer:
    return Dehazer(network(), device="cpu")


@functools.cache
def photo() -> np.ndarray:
    image = skimage.data.astronaut()[100 : 100 + HEIGHT, 50 : 50 + WIDTH]
    image = image.copy()
    image.flags.writeable = False
    return image


def plain(image: np.ndarray) -> Tensor:
    """The network's image in [0, 1], without anything of ours."""
    with torch.no_grad():
        x = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
        return network()(x / (255 if image.dtype == np.uint8 else 65535))[0].clamp(0, 1)
