"""Replacements for methods of BasicSR's models that lose no data and need no GPU."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ktdn_plugin.basicsr import provenance
from ktdn_plugin.checkpoints import Checkpoint, load_weights, save_checkpoint
from ktdn_plugin.checkpoints.metadata import KEY
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.training.ema import update_ema
from ktdn_plugin.training.optimizers import find_optimizer


class ModelMethods:
    """KTDN's replacements for methods of ``BaseModel``, each with its reason.

    In other loops than ours, other models keep BasicSR's own, see
    :mod:`ktdn_plugin.basicsr.compat`.
    """

    def model_ema(self: Any, decay: float = 0.999) -> None:
        """Averages parameters and copies buffers.

        BasicSR's own ignores buffers: the averaged network's running batch norm statistics stay at
        their initial values, and every measurement of it is wrong.
        """
        update_ema(self.net_g_ema, self.get_bare_model(self.net_g), decay)

    def get_optimizer(
        self: Any, optim_type: str, params: Iterable[nn.Parameter], lr: float, **kwargs: Any
    ) -> torch.optim.Optimizer:
        """Builds any optimiser of torch or timm; BasicSR's own only knows Adam."""
        return find_optimizer(optim_type)(params, lr=lr, **kwargs)

    def model_to_device(self: Any, net: nn.Module) -> nn.Module:
        """Moves a network to the device and wraps it; BasicSR's own needs CUDA to wrap it."""
        net = net.to(self.device)
        if self.opt["dist"]:
            on_gpu = self.device.type == "cuda"
            return DistributedDataParallel(
                net,
                device_ids=[torch.cuda.current_device()] if on_gpu else None,
                find_unused_parameters=self.opt.get("find_unused_parameters", False),
            )
        if self.opt["num_gpu"] > 1:
            return DataParallel(net)
        return net

    def load_network(
        self: Any,
        net: nn.Module,
        load_path: str,
        strict: bool = True,
        param_key: str | None = "params",
    ) -> None:
        """Loads a checkpoint safely, running no code in it and refusing another network's.

        BasicSR's own raises a bare ``KeyError`` for a raw state dict, and with ``strict=False``
        trains from random weights if nothing in the file fits.
        """
        from basicsr.utils import get_root_logger

        logger = get_root_logger()
        net = self.get_bare_model(net)
        if strict:
            load_weights(net, load_path, param_key)
            logger.info(f"Loaded {type(net).__name__} from {load_path}.")
            return
        weights = Checkpoint.read(load_path).select(param_key)
        own = net.state_dict()
        fitting = {
            key: value
            for key, value in weights.items()
            if key in own and own[key].shape == value.shape
        }
        # Fixed-width layers fit many networks, so most of the weights must fit.
        if 2 * len(fitting) < len(own):
            raise KTDNError(
                f"{load_path}: a checkpoint of a different network: only {len(fitting)} of "
                f"{len(own)} entries of this {type(net).__name__} are in it"
            )
        net.load_state_dict(fitting, strict=False)
        logger.warning(
            f"Loaded {len(fitting)} of {len(own)} entries of {type(net).__name__} from "
            f"{load_path}; {len(own) - len(fitting)} keep their initial values, "
            f"{len(weights) - len(fitting)} of the file are unused."
        )

    def save_network(
        self: Any,
        net: nn.Module | list[nn.Module],
        net_label: str,
        current_iter: int,
        param_key: str | list[str] = "params",
    ) -> None:
        """Saves networks atomically; BasicSR's own carries on when it cannot save.

        Besides the weights the file contains metadata, see
        :mod:`ktdn_plugin.checkpoints.metadata`; BasicSR's own loading reads only the weights.
        """
        if self.opt["rank"] != 0:
            return
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        bare = [self.get_bare_model(one) for one in nets]
        content: dict[str, Any] = {
            key: {name: value.cpu() for name, value in one.state_dict().items()}
            for key, one in zip(keys, bare, strict=True)
        }
        content[KEY] = provenance.describe(self, bare[0], current_iter)
        label = "latest" if current_iter == -1 else current_iter
        save_checkpoint(content, Path(self.opt["path"]["models"]) / f"{net_label}_{label}.pth")

    def save_training_state(self: Any, epoch: int, current_iter: int) -> None:
        """Saves everything needed to resume training, atomically, see :func:`save_network`.

        Besides BasicSR's optimisers and schedulers: the best and the latest metrics, the gradient
        scaler, and what our loop keeps in ``progress`` (the position in the data, and the terms of
        the training).
        """
        if current_iter == -1 or self.opt["rank"] != 0:
            return
        best = {
            name: {
                metric: {**row, "val": float(row["val"]), "iter": int(row["iter"])}
                for metric, row in metrics.items()
            }
            for name, metrics in getattr(self, "best_metric_results", {}).items()
        }
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "best_metric_results": best,
            "last_metric_results": provenance.last_of(self),
            "scaler": self.scaler.state_dict() if hasattr(self, "scaler") else {},
            "progress": dict(getattr(self, "progress", {})),
        }
        save_checkpoint(state, Path(self.opt["path"]["training_states"]) / f"{current_iter}.state")
