"""What the server of :mod:`preloaded` loads before it forks."""

import gc
import importlib.util

import mmengine.runner  # noqa: F401
import torch
from helpers import ENCODER

import ktdn_plugin

if importlib.util.find_spec("basicsr"):
    ktdn_plugin.register()

    import basicsr.data
    import basicsr.models  # noqa: F401

import ktdn_plugin.inference
from ktdn_plugin import cli

cli.SECONDS_TO_SPEAK = 0  # for which others wait that torchrun would end
with torch.device("meta"):  # what is found out of an encoder is kept
    for encoder in (ENCODER, "test_resnet"):
        ktdn_plugin.KTDN(encoder)
gc.collect()
gc.freeze()  # collections of a child would copy every page of it
