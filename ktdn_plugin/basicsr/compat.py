"""What BasicSR 1.4.2 needs to work on today's torch and without a GPU.

BasicSR itself stays as it was installed. :func:`apply` changes in the process what could not work
otherwise, and each change hands on to BasicSR's own wherever that works. What KTDN's models do
better, they do themselves, see :mod:`ktdn_plugin.basicsr.model_methods`; only our own commands
let every model do so, by :func:`improve_every_model`.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ktdn_plugin.archs import KTDN
from ktdn_plugin.basicsr.model_methods import ModelMethods
from ktdn_plugin.basicsr.resume import State, agree, find_resume_state
from ktdn_plugin.training import distributed

Function = Callable[..., Any]


@functools.cache
def apply() -> None:
    """Makes BasicSR importable, and its own loops run KTDN and run without a GPU; idempotent."""
    _stand_in_for_functional_tensor()

    import basicsr.train
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import dist_util

    for place, name, change in (
        (basicsr.train, "load_resume_state", _resuming_without_gpu),
        (dist_util, "_init_dist_pytorch", functools.partial(_joining, "pytorch")),
        (dist_util, "_init_dist_slurm", functools.partial(_joining, "slurm")),
        (BaseModel, "model_to_device", _wrapping_without_gpu),
        (BaseModel, "model_ema", _averaging_statistics),
    ):
        stock = getattr(place, name)
        setattr(place, name, functools.wraps(stock)(change(stock)))


def improve_every_model() -> None:
    """Returns BasicSR's own models, too, the methods of KTDN's; for our own commands."""
    from basicsr.models.base_model import BaseModel

    for name, method in vars(ModelMethods).items():
        if isinstance(method, types.FunctionType):
            setattr(BaseModel, name, method)


def _stand_in_for_functional_tensor() -> None:
    """BasicSR imports ``rgb_to_grayscale`` from a module that torchvision has since removed."""
    name = "torchvision.transforms.functional_tensor"
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    stand_in = types.ModuleType(name, "Stand-in for a module that torchvision removed in 0.17.")
    stand_in.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[name] = stand_in


def _resuming_without_gpu(stock: Function) -> Function:
    """BasicSR's own asks for a CUDA driver, and for a frozen teacher's ``net_t_N.pth``."""

    from basicsr.utils.registry import MODEL_REGISTRY

    def load_resume_state(opt: dict[str, Any]) -> State | None:
        name = opt["model_type"]
        # Also somebody's own model that is made from ours.
        is_ours = name in MODEL_REGISTRY and issubclass(MODEL_REGISTRY.get(name), ModelMethods)
        if not is_ours and torch.cuda.is_available():
            found: State | None = stock(opt)
            return found
        state = find_resume_state(opt)
        agree(opt, state)
        return state

    return load_resume_state


def _joining(launcher: str, stock: Function) -> Function:
    """BasicSR's own divides by the number of GPUs, and does not know ``dist_params.timeout``."""

    def init_dist(backend: str, **options: Any) -> None:
        has_gpu = torch.cuda.device_count() > 0
        if has_gpu and "timeout" not in options:
            stock(backend, **options)
            return
        if options.get("port") is not None:
            os.environ["MASTER_PORT"] = str(options["port"])
        place = distributed.detect_rank(launcher)
        distributed.join(
            place, use_gpu=has_gpu, timeout=options.get("timeout", distributed.TIMEOUT)
        )

    return init_dist


def _wrapping_without_gpu(stock: Function) -> Function:
    """BasicSR's own names a GPU to ``DistributedDataParallel``, whether there is one or not.

    And its first process validates alone: a KTDN without an average would share its batch
    statistics with processes that are training, or gone. They follow the first process' batches
    anyway, so nobody needs the others'.
    """

    def model_to_device(self: Any, net: nn.Module) -> nn.Module:
        if self.opt["dist"] and self.device.type == "cpu":
            wrapped = ModelMethods.model_to_device(self, net)
        else:
            wrapped = stock(self, net)
        if isinstance(wrapped, DistributedDataParallel) and isinstance(wrapped.module, KTDN):
            wrapped.broadcast_buffers = False
        return wrapped

    return model_to_device


def _averaging_statistics(stock: Function) -> Function:
    """BasicSR's own leaves a KTDN's batch statistics in the average as they were initialised."""

    def model_ema(self: Any, decay: float = 0.999) -> None:
        if isinstance(self.get_bare_model(self.net_g), KTDN):
            ModelMethods.model_ema(self, decay)
        else:
            stock(self, decay)

    return model_ema
