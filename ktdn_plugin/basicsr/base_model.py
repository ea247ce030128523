"""The common base of the teacher's and the student's BasicSR models."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from copy import deepcopy
from typing import Any

import torch
from basicsr.archs.vgg_arch import VGG_PRETRAIN_PATH
from basicsr.losses import build_loss
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ktdn_plugin.basicsr.loaders import share_out
from ktdn_plugin.basicsr.model_methods import ModelMethods
from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.basicsr.options.loading import complete_model_options, image_loss_sections
from ktdn_plugin.basicsr.other_networks import try_network
from ktdn_plugin.basicsr.records import run_log_of
from ktdn_plugin.basicsr.retention import keep_newest, save_best
from ktdn_plugin.errors import KTDNError, NotFiniteError
from ktdn_plugin.training import distributed
from ktdn_plugin.training.batch_norm import batch_norms, freeze, synchronize
from ktdn_plugin.training.precision import AMP, SkippedSteps, apply_speed_options, match_state
from ktdn_plugin.training.steps import Step

# Only once, not in every iteration.
warn_once = functools.cache(lambda text: get_root_logger().warning(text))

FUSED = ("Adam", "AdamW", "SGD")
"""Optimisers with a fused torch version for CPUs and GPUs; ``fused: false`` disables it."""


def _total(loss: nn.Module, image: Tensor, target: Tensor) -> Tensor:
    """Adds up a loss's terms: ``PerceptualLoss`` returns two, None for a disabled one."""
    value = loss(image, target)
    if isinstance(value, Tensor):
        return value
    return torch.stack([term for term in value if term is not None]).sum()


class KTDNBaseModel(ModelMethods, SRModel):
    """BasicSR's ``SRModel`` with KTDN's losses and training step instead of its own.

    It works in BasicSR's own loop as well as in ours.

    Args:
        opt: The options, as read by any loop: defaults are filled in here.

    Attributes:
        STAGE: The stage that it trains, for its checkpoints.
        KEYS: The model whose option keys it reads.
    """

    STAGE = ""
    KEYS = "KTDNTeacherModel"

    def __init__(self, opt: Options) -> None:
        complete_model_options(opt, self.KEYS)  # other loops than ours have not done so
        super().__init__(opt)

    def init_training_settings(self) -> None:
        """Builds the averaged network, the losses, the optimiser and its schedule."""
        self.net_g.train()
        options = self.opt["train"]
        self.amp = AMP[options["amp"]]
        # Without scaling, small gradients would underflow in half precision.
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.amp is torch.float16, init_scale=2.0**14
        )
        self.skipped = SkippedSteps()
        self.norms = batch_norms(self.net_g)
        self.ema_decay = options["ema_decay"]
        frozen = options["freeze_bn"]
        self.frozen_after = (0 if frozen else None) if isinstance(frozen, bool) else frozen
        if self.ema_decay > 0:
            self._build_averaged_network()
        self.image_losses = {
            name: functools.partial(_total, self._build_image_loss(key))
            for name, key in image_loss_sections(options).items()
        }
        try_network(self.opt, self.get_bare_model(self.net_g), "network_g")
        self.build_transfer()
        if not self.image_losses:
            raise KTDNError("train: no image loss is enabled; set pixel_opt, laplacian_opt, ...")
        self.setup_optimizers()
        self.setup_schedulers()

    def _build_image_loss(self, key: str) -> nn.Module:
        try:
            return build_loss(self.opt["train"][key]).to(self.device)
        except OSError as error:
            raise KTDNError(
                f"train.{key}: its weights could not be downloaded ({error}); copy torchvision's "
                "from a "
                f"machine that is online to {VGG_PRETRAIN_PATH}"
            ) from error

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Moves a network to the device, with the step's switches, and wraps it."""
        if self.is_train:
            options = self.opt["train"]
            net = net.to(self.device)
            if options["sync_bn"] and options["freeze_bn"] is not True and self.opt["dist"]:
                net = synchronize(net, "train.sync_bn", get_root_logger().warning)
            net = apply_speed_options(
                net,
                channels_last=options["channels_last"],
                compile=options["compile"],
            )
        return super().model_to_device(net)

    def _build_averaged_network(self) -> None:
        self.net_g_ema = deepcopy(self.get_bare_model(self.net_g))
        path = self.opt["path"]
        if path.get("pretrain_network_g"):
            self.load_network(
                self.net_g_ema,
                path["pretrain_network_g"],
                path["strict_load_g"],
                "params_ema",
            )
        self.net_g_ema.eval()

    def build_transfer(self) -> None:
        """Hook for what a stage needs besides image losses."""

    def trained_modules(self) -> list[nn.Module]:
        """Returns the modules whose parameters are optimised."""
        return [self.net_g]

    def setup_optimizers(self) -> None:
        """Builds ``train.optim_g`` over the trained modules' parameters.

        If it contains ``encoder_lr``, the encoder is a second parameter group.
        """
        options = dict(self.opt["train"]["optim_g"])
        encoder_lr = options.pop("encoder_lr", None)
        every = [
            parameter
            for module in self.trained_modules()
            for parameter in module.parameters()
            if parameter.requires_grad
        ]
        groups: list[Any] = every
        if encoder_lr is not None:
            encoder = getattr(self.get_bare_model(self.net_g), "encoder", None)
            if encoder is None:
                raise KTDNError("train.optim_g.encoder_lr: this network_g has no encoder")
            inside = {id(parameter) for parameter in encoder.parameters()}
            groups = [
                {"params": [one for one in every if id(one) not in inside]},
                {"params": [one for one in every if id(one) in inside], "lr": encoder_lr},
            ]
        if options["type"] in FUSED and not {"foreach", "capturable", "differentiable"} & set(
            options
        ):
            # One pass over the weights instead of a dozen.
            options.setdefault("fused", True)
        self.parameters = every
        self.optimizer_g = self.get_optimizer(options.pop("type"), groups, **options)
        self.optimizers.append(self.optimizer_g)

    def feed_data(self, data: dict[str, Any]) -> None:
        """Takes a batch; if it lacks ``gt``, an earlier batch's target is dropped."""
        if hasattr(self, "gt"):
            del self.gt
        self.files = data.get("gt_path") or data.get("lq_path") or []
        super().feed_data(data)

    def step(self, lq: Tensor, gt: Tensor) -> Step:
        """Runs one forward pass and computes its losses on one part of a batch."""
        raise NotImplementedError

    def optimize_parameters(self, current_iter: int) -> None:
        """Runs one training iteration on the batch that :meth:`feed_data` took.

        Raises:
            NotFiniteError: If a loss or the gradient became NaN or infinite. Nothing has then been
                learned from the batch: weights and batch statistics are those of the previous
                iteration.
        """
        if self.frozen_after is not None and self.frozen_after < current_iter:
            freeze(self.norms)
        statistics = [
            buffer.clone() for norm in self.norms if norm.training for buffer in norm.buffers()
        ]
        self.optimizer_g.zero_grad(set_to_none=True)
        losses = self._accumulate()
        norm = self._gradient_norm()
        try:
            self._record(losses, norm)
        except NotFiniteError:
            moving = [buffer for one in self.norms if one.training for buffer in one.buffers()]
            for buffer, before in zip(moving, statistics, strict=True):
                buffer.copy_(before)
            raise
        self.scaler.step(self.optimizer_g)
        self.scaler.update()
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _accumulate(self) -> dict[str, Tensor]:
        """Accumulates the gradients of the batch's parts; returns the losses of the whole batch."""
        steps = self.opt["train"]["grad_accum_steps"]
        if steps > 1 and len(self.lq) < steps * self.opt["datasets"]["train"]["batch_size_per_gpu"]:
            warn_once(
                f"train.grad_accum_steps: {steps}: this loop reads batches of {len(self.lq)}, "
                "which are divided into so many parts: memory falls, the batch does not grow."
            )
        count = min(steps, len(self.lq))
        totals: dict[str, Tensor] = {}
        parts = list(zip(self.lq.chunk(count), self.gt.chunk(count), strict=True))
        for number, (lq, gt) in enumerate(parts, start=1):
            share = len(lq) / len(self.lq)
            with ExitStack() as stack:
                if number < len(parts):  # gradients are averaged over processes once, at the end
                    for module in self.trained_modules():
                        if isinstance(module, DistributedDataParallel):
                            stack.enter_context(module.no_sync())
                losses = self.step(lq, gt).losses
                loss = torch.stack([one for one in losses.values()]).sum() * share
                self.scaler.scale(loss).backward()
            for name, value in losses.items():
                totals[name] = totals.get(name, 0) + value.detach() * share
        return totals

    def _gradient_norm(self) -> Tensor:
        self.scaler.unscale_(self.optimizer_g)
        most = self.opt["train"].get("clip_grad") or float("inf")
        return torch.nn.utils.clip_grad_norm_(self.parameters, most)

    def _record(self, losses: dict[str, Tensor], norm: Tensor) -> None:
        """Averages the losses over the processes, and stops if one is NaN or infinite."""
        values = torch.stack([*losses.values(), norm])
        own = values.clone()
        if distributed.is_distributed():
            torch.distributed.all_reduce(values)
            values /= self.opt["world_size"]
        # The only point in an iteration where the CPU waits for the GPU.
        self.log_dict = dict(zip([*losses, "grad_norm"], values.tolist(), strict=True))
        finite = values.isfinite()
        # The scaler handles gradients that overflow half precision, by skipping the step.
        goes_on = self.skipped.note(bool(finite[-1])) if self.scaler.is_enabled() else finite[-1]
        if bool(finite[:-1].all()) and goes_on:
            return
        mine = zip(losses, own.isfinite().tolist()[:-1], strict=True)
        bad = [name for name, is_finite in mine if not is_finite]
        reports = distributed.gather((bad, list(self.files)))
        guilty = [report for report in reports if report[0]] or reports
        names = sorted({name for report in guilty for name in report[0]})
        files = sorted({str(file) for report in guilty for file in report[1]})
        what = (
            f"{', '.join(names)} became NaN or infinite"
            if names
            else "the gradient became NaN or infinite"
        )
        if not names and self.skipped.count:
            what += f" in {self.skipped.count} iterations in a row"
        raise NotFiniteError(f"{what} on the batch of {', '.join(files)}")

    def validation(
        self,
        dataloader: DataLoader,
        current_iter: int | str,
        tb_logger: Any,
        save_img: bool = False,
    ) -> None:
        """Validates in BasicSR's own loop as in ours, splitting the images among processes.

        The figures of the first validation set decide which network is ``net_g_best.pth``.
        """
        from ktdn_plugin.basicsr.validation import identity_of, validate

        self.opt["val"]["save_img"] = save_img
        if isinstance(current_iter, int):  # after the last iteration BasicSR's loop keeps counting
            current_iter = min(current_iter, self.opt["train"]["total_iter"])
        dataset: Any = dataloader.dataset
        loader = share_out(dataset, self.opt["rank"], self.opt["world_size"])
        figures = validate(self, loader, current_iter, tb_logger)
        if self.is_train and figures:
            run_log, name = run_log_of(self.opt), dataset.opt["name"]
            if isinstance(current_iter, int) and run_log.is_started:
                run_log.figures("val", current_iter, name, identity_of(dataset), figures)
            if name == self._first_set():
                save_best(self, name, current_iter)

    def _first_set(self) -> str:
        sets = self.opt["datasets"].values()
        return next(str(one["name"]) for one in sets if one["phase"] == "val")

    def save(self, epoch: int, current_iter: int) -> None:
        """Saves networks and state, deleting what ``logger.keep_checkpoints`` does not keep."""
        super().save(epoch, current_iter)
        if current_iter != -1:
            keep_newest(self.opt)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restores optimisers, schedules, the gradient scaler and the best metrics."""
        super().resume_training(resume_state)
        for optimizer in self.optimizers:
            match_state(optimizer)  # channels_last may have changed meanwhile
        if resume_state.get("scaler"):
            self.scaler.load_state_dict(resume_state["scaler"])
        if resume_state.get("best_metric_results"):
            self.best_metric_results = resume_state["best_metric_results"]

    @master_only
    def print_network(self, net: nn.Module) -> None:
        """Logs only the network's size, as its thousand layers would bury everything else."""
        bare = self.get_bare_model(net)
        count = sum(parameter.numel() for parameter in bare.parameters())
        get_root_logger().info(f"Network: {type(bare).__name__}, {count:,d} parameters")
