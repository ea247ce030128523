"""Student stage: dehazing, with the frozen teacher's features as a second target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ktdn_plugin.basicsr.base_model import KTDNBaseModel
from ktdn_plugin.basicsr.loaders import build_eval_loader
from ktdn_plugin.basicsr.other_networks import name_compared, try_transfer
from ktdn_plugin.basicsr.records import add_teacher, run_log_of
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.training.precision import apply_speed_options
from ktdn_plugin.training.steps import FrozenTeacher, Step, check_teacher, student_step


class KTDNModel(KTDNBaseModel):
    """Trains the student ``network_g`` with the frozen teacher ``network_t``.

    The losses, each enabled by its key under ``train`` and logged under its name, are the
    teacher's, see :class:`~ktdn_plugin.basicsr.ktdn_teacher_model.KTDNTeacherModel`, and
    ``transfer_opt`` (``l_kt``). The teacher is loaded from ``path.pretrain_network_t``; it stays in
    eval mode, gets no gradients, is in no optimiser or wrapper, and runs only as deep as the
    features that ``transfer_opt`` compares. Without ``transfer_opt`` no teacher is loaded, and the
    student trains alone, for comparison.

    Either may be a network other than KTDN: ``train.features_g`` and ``train.features_t`` name the
    modules whose outputs are compared. Such a teacher is run entirely.

    Source: Wu et al., CVPRW 2020, knowledge transfer.
    """

    STAGE = "student"
    KEYS = "KTDNModel"

    teacher: FrozenTeacher | None = None
    teacher_network: nn.Module | None = None
    transfer_loss: nn.Module | None = None

    def build_transfer(self) -> None:
        """Loads the teacher and builds the loss that compares features.

        Raises:
            KTDNError: If ``path.pretrain_network_t`` is missing or does not fit ``network_t``, or
                the networks' features cannot be computed or compared.
        """
        options = self.opt["train"].get("transfer_opt")
        if not options:
            return
        path = self.opt["path"]
        if not path.get("pretrain_network_t"):
            raise KTDNError(
                "path.pretrain_network_t: the trained teacher's checkpoint is missing; train one "
                "with options/train_teacher.yml first"
            )
        loss = build_loss(options).to(self.device)
        network = build_network(self.opt["network_t"])
        check_teacher(network, "network_t")
        self.load_network(
            network,
            path["pretrain_network_t"],
            path["strict_load_t"],
            path["param_key_t"],
        )
        train = self.opt["train"]
        student = self.get_bare_model(self.net_g)
        name_compared(student, train, "g", loss)
        name_compared(network, train, "t", loss)
        self.teacher_network = network.to(self.device).eval()
        self.teacher = FrozenTeacher(network, loss.feature_names).to(self.device)
        try_transfer(self.opt, student, network, self.teacher, loss)
        apply_speed_options(
            self.teacher.extractor,
            channels_last=train["channels_last"],
            compile=train["compile"],
        )
        self.transfer_loss = loss
        if list(loss.parameters()):
            if path.get("pretrain_network_adapters"):
                self.load_network(loss, path["pretrain_network_adapters"])
            # DataParallel would gather one loss per GPU; the loss is cheap, one GPU does it.
            self.transfer_loss = self.model_to_device(loss) if self.opt["dist"] else loss

    def trained_modules(self) -> list[nn.Module]:
        """Returns the student, and the adapters if its features differ in width."""
        return [self.net_g] + ([self.transfer_loss] if self.transfer_loss is not None else [])

    def check_teacher(self, loaders: Sequence[DataLoader]) -> list[dict[str, Any]]:
        """Measures the teacher's reconstruction, then drops its parts that features do not need.

        Args:
            loaders: The validation sets' loaders; if empty, nothing is measured.

        Returns:
            The name and PSNR of each set that has clear images.

        Raises:
            KTDNError: If the PSNR of a set is below ``train.teacher_min_psnr`` (dB).
        """
        from ktdn_plugin.basicsr.validation import identity_of, measure_reconstruction

        network, self.teacher_network = self.teacher_network, None
        rows: list[dict[str, Any]] = []
        if network is None:
            return rows
        least = self.opt["train"].get("teacher_min_psnr")
        for loader in loaders:
            options: Any = loader.dataset
            if options.opt["type"] == "SingleImageDataset":
                continue
            psnr = measure_reconstruction(network, loader, self.opt, self.device)
            name = options.opt["name"]
            get_root_logger().info(f"The teacher reconstructs {name} at {psnr:.2f} dB.")
            rows.append({"set": name, **identity_of(options), "psnr": psnr})
            if least is not None and not psnr >= least and not math.isinf(psnr):
                raise KTDNError(
                    f"path.pretrain_network_t: this teacher reconstructs poorly: {psnr:.2f} dB on "
                    f"{name}, below train.teacher_min_psnr: {least}; train it longer, or check "
                    "that it is the right checkpoint"
                )
        return rows

    def optimize_parameters(self, current_iter: int) -> None:
        """Runs one training iteration; in other loops, measures the teacher before the first."""
        if self.teacher_network is not None:
            sets = self.opt["datasets"].values() if self.opt.get("val") is not None else ()
            place = self.opt["rank"], self.opt["world_size"]
            loaders = [build_eval_loader(one, *place) for one in sets if one["phase"] == "val"]
            rows, run_log = self.check_teacher(loaders), run_log_of(self.opt)
            if run_log.is_started:
                add_teacher(run_log, rows)
        super().optimize_parameters(current_iter)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restores a state; the teacher was already measured when training began."""
        super().resume_training(resume_state)
        self.teacher_network = None

    def step(self, lq: Tensor, gt: Tensor) -> Step:
        """Dehazes and compares images and features."""
        return student_step(
            self.net_g,
            lq,
            gt,
            self.image_losses,
            self.teacher,
            self.transfer_loss,  # type: ignore[arg-type]
            self.amp,
            self.opt["train"]["clamp_output"],
        )

    def save(self, epoch: int, current_iter: int) -> None:
        """Saves the student, its average, the adapters and the training state."""
        if self.transfer_loss is not None and list(self.transfer_loss.parameters()):
            self.save_network(self.transfer_loss, "net_adapters", current_iter)
        super().save(epoch, current_iter)
