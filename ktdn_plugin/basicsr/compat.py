"""Makes BasicSR 1.4.2 work with current torch and without a GPU.

BasicSR's installed files stay unmodified. :func:`apply` patches, in the process, only what could
not work otherwise, and each patch defers to BasicSR's own code wherever that works. KTDN's models
bring their improvements themselves, see :mod:`ktdn_plugin.basicsr.model_methods`; only our own
commands extend them to every model, with :func:`improve_every_model`.
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

from ktdn_plugin import process_rank
from ktdn_plugin.archs import KTDN
from ktdn_plugin.basicsr.installation import require_basicsr
from ktdn_plugin.basicsr.model_methods import ModelMethods
from ktdn_plugin.basicsr.records import describe_run, run_log_of
from ktdn_plugin.basicsr.resume import State, agree, find_resume_state
from ktdn_plugin.training import distributed

Function = Callable[..., Any]


@functools.cache
def apply() -> None:
    """Makes BasicSR importable, and its own loops run KTDN, also without a GPU; idempotent.

    Raises:
        KTDNError: If BasicSR is not installed.
    """
    require_basicsr()
    _stand_in_for_functional_tensor()

    import basicsr.train
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import dist_util

    for place, name, change in (
        (basicsr.train, "load_resume_state", _resuming_without_gpu),
        (basicsr.train, "MessageLogger", _recording),
        (dist_util, "_init_dist_pytorch", functools.partial(_joining, "pytorch")),
        (dist_util, "_init_dist_slurm", functools.partial(_joining, "slurm")),
        (BaseModel, "model_to_device", _wrapping_without_gpu),
        (BaseModel, "model_ema", _averaging_statistics),
    ):
        stock = getattr(place, name)
        setattr(place, name, functools.wraps(stock)(change(stock)))


def improve_every_model() -> None:
    """Adds KTDN's methods to BasicSR's own models, for our own commands."""
    from basicsr.models.base_model import BaseModel

    for name, method in vars(ModelMethods).items():
        if isinstance(method, types.FunctionType):
            setattr(BaseModel, name, method)


def _stand_in_for_functional_tensor() -> None:
    """Replaces the removed torchvision module that BasicSR imports ``rgb_to_grayscale`` from."""
    name = "torchvision.transforms.functional_tensor"
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    stand_in = types.ModuleType(name, "Stand-in for a module that torchvision removed in 0.17.")
    stand_in.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[name] = stand_in


def _resuming_without_gpu(stock: Function) -> Function:
    """Wraps BasicSR's own, which needs a CUDA driver and a frozen teacher's ``net_t_N.pth``."""

    def load_resume_state(opt: dict[str, Any]) -> State | None:
        if _model_of(opt) is None and torch.cuda.is_available():
            found: State | None = stock(opt)
            return found
        state = find_resume_state(opt)
        agree(opt, state)
        return state

    return load_resume_state


def _model_of(opt: dict[str, Any]) -> Any:
    """Returns the class of the options' model if it is ours or derived from ours, else None."""
    from basicsr.utils.registry import MODEL_REGISTRY

    name = opt["model_type"]
    model = MODEL_REGISTRY.get(name) if name in MODEL_REGISTRY else None
    return model if model is not None and issubclass(model, ModelMethods) else None


def _recording(stock: Function) -> Function:
    """Wraps BasicSR's own, which reports KTDN's training to its log but not to the run's record."""

    def message_logger(opt: dict[str, Any], start_iter: int = 1, tb_logger: Any = None) -> Function:
        log: Function = stock(opt, start_iter, tb_logger)
        model = _model_of(opt)
        if model is None:
            return log
        return _RecordingLogger(log, opt, start_iter, getattr(model, "STAGE", ""))

    return message_logger


class _RecordingLogger:
    """BasicSR's logger, which also writes the run's own record."""

    def __init__(self, log: Any, opt: dict[str, Any], start: int, stage: str) -> None:
        self._log = log
        self._run_log = run_log_of(opt)
        dropped = self._run_log.start(start)
        if dropped:
            log.logger.info(dropped)
        # Here, only the options describe the data.
        data: dict[str, list[dict[str, Any]]] = {"train": [], "val": []}
        for phase, one in opt["datasets"].items():
            known = {"name": one.get("name", phase), "options": one}
            data.setdefault(phase.split("_")[0], []).append(known)
        describe_run(self._run_log, opt, stage, data, start)
        train = opt["datasets"]["train"]
        copies = opt["world_size"] if opt["dist"] else max(opt["num_gpu"], 1)
        self._images = train["batch_size_per_gpu"] * copies

    def __call__(self, values: dict[str, Any]) -> None:
        known = dict(values)
        epoch, iteration, rates = (known.pop(key) for key in ("epoch", "iter", "lrs"))
        seconds = known.pop("time"), known.pop("data_time")
        self._run_log.training(iteration, rates, known, seconds, self._images, epoch)
        self._log(values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def _joining(launcher: str, stock: Function) -> Function:
    """Wraps BasicSR's own, which divides by the GPU count and lacks ``dist_params.timeout``."""

    def init_dist(backend: str, **options: Any) -> None:
        has_gpu = torch.cuda.device_count() > 0
        if has_gpu and "timeout" not in options:
            stock(backend, **options)
            return
        if options.get("port") is not None:
            os.environ["MASTER_PORT"] = str(options["port"])
        place = process_rank.detect_rank(launcher)
        distributed.join(
            place, use_gpu=has_gpu, timeout=options.get("timeout", distributed.TIMEOUT)
        )

    return init_dist


def _wrapping_without_gpu(stock: Function) -> Function:
    """Wraps BasicSR's own, which passes a GPU to ``DistributedDataParallel`` even without one.

    Also, its first process validates alone: a KTDN without an average would share its batch
    statistics with processes that are training, or gone. These follow the first process's batches
    anyway, so the others' are not needed.
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
    """Wraps BasicSR's own, which never updates a KTDN's batch statistics in the average."""

    def model_ema(self: Any, decay: float = 0.999) -> None:
        if isinstance(self.get_bare_model(self.net_g), KTDN):
            ModelMethods.model_ema(self, decay)
        else:
            stock(self, decay)

    return model_ema
