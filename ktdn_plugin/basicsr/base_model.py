"""What the teacher's and the student's BasicSR models share."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from torch import nn

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.transfer import Step

IMAGE_LOSSES = {"l_rec": "pixel_opt", "l_lap": "laplacian_opt"}
"""Name in the log: key under ``train`` in the options; leaving the key out switches it off."""


class KTDNBaseModel(SRModel):
    """BasicSR's ``SRModel`` with KTDN's losses in place of its own."""

    def init_training_settings(self) -> None:
        """Builds the averaged network, the losses, the optimiser and its schedule."""
        self.net_g.train()
        options = self.opt["train"]
        self.ema_decay = options.get("ema_decay", 0)
        if self.ema_decay > 0:
            self._build_averaged_network()
        self.image_losses: dict[str, nn.Module] = {
            name: build_loss(options[key]).to(self.device)
            for name, key in IMAGE_LOSSES.items()
            if options.get(key)
        }
        self.build_transfer()
        if not self.image_losses:
            raise KTDNError(
                "train: no image loss is switched on; give pixel_opt, laplacian_opt or both"
            )
        self.setup_optimizers()
        self.setup_schedulers()

    def _build_averaged_network(self) -> None:
        self.net_g_ema = build_network(self.opt["network_g"]).to(self.device)
        self.model_ema(0)  # what a checkpoint does not hold starts as in the trained network
        path = self.opt["path"]
        if path.get("pretrain_network_g"):
            self.load_network(
                self.net_g_ema,
                path["pretrain_network_g"],
                path.get("strict_load_g", True),
                "params_ema",
            )
        self.net_g_ema.eval()

    def build_transfer(self) -> None:
        """Hook for what a stage needs beside image losses."""

    def trained_modules(self) -> list[nn.Module]:
        """Gives the modules whose parameters the optimiser gets."""
        return [self.net_g]

    def setup_optimizers(self) -> None:
        """Builds ``train.optim_g`` over the trained modules' parameters."""
        options = dict(self.opt["train"]["optim_g"])
        parameters = [
            parameter
            for module in self.trained_modules()
            for parameter in module.parameters()
            if parameter.requires_grad
        ]
        self.optimizer_g = self.get_optimizer(options.pop("type"), parameters, **options)
        self.optimizers.append(self.optimizer_g)

    def feed_data(self, data: dict[str, Any]) -> None:
        """Takes a batch; without ``gt`` no target of an earlier batch is left behind."""
        if hasattr(self, "gt"):
            del self.gt
        super().feed_data(data)

    def step(self) -> Step:
        """One forward pass and its losses."""
        raise NotImplementedError

    def optimize_parameters(self, current_iter: int) -> None:
        """One training iteration on the batch that :meth:`feed_data` took."""
        self.optimizer_g.zero_grad(set_to_none=True)
        output, losses = self.step()
        self.output = output.detach()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        self.optimizer_g.step()
        detached = OrderedDict((name, loss.detach()) for name, loss in losses.items())
        self.log_dict = self.reduce_loss_dict(detached)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    @master_only
    def print_network(self, net: nn.Module) -> None:
        """Logs the network's size; its thousand layers would bury everything else."""
        bare = self.get_bare_model(net)
        count = sum(parameter.numel() for parameter in bare.parameters())
        get_root_logger().info(f"Network: {type(bare).__name__}, {count:,d} parameters")
