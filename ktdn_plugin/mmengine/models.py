"""The two training stages as mmengine models: the teacher, and the distiller."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ktdn_plugin.checkpoints import load_weights
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.losses import KnowledgeTransferLoss
from ktdn_plugin.mmengine.registry import MODELS
from ktdn_plugin.mmengine.restorer import (
    Config,
    Restorer,
    Samples,
    clear_images,
    without_pretrained,
)
from ktdn_plugin.training.features import name_features
from ktdn_plugin.training.precision import apply_speed_options
from ktdn_plugin.training.steps import (
    FrozenTeacher,
    Step,
    check_teacher,
    student_step,
    teacher_step,
)


@MODELS.register_module()
class KTDNTeacher(Restorer):
    """Trains a network to reconstruct the clear images it is shown.

    Source: Wu et al., CVPRW 2020, the teacher network.

    Args:
        generator: The network's config, such as ``dict(type='KTDN', encoder='res2net101d')``; any
            registered network that maps images to images.
        pixel_loss: The reconstruction loss's config; None switches it off.
        laplacian_loss: The Laplacian loss's config; None switches it off.
        data_preprocessor: By default ``DehazingDataPreprocessor``.
        sync_bn: In distributed training, batch statistics over the batches of all processes, each
            on a GPU.
        channels_last: Lay the weights out as convolutions on tensor cores want them.
        clamp_output: Clamp the network's images to [0, 1] before they are compared, see
            :func:`ktdn_plugin.training.steps.image_losses`.
        **losses: Configs of further losses that compare images, as ``NAME_loss``, such as
            ``ssim_loss=dict(type='SSIMLoss', loss_weight=0.3)``; in the log ``loss_NAME``.

    Raises:
        KTDNError: If there is no loss, or the network cannot be built or serve as a teacher.
    """

    NETWORK = "generator"
    STAGE = "teacher"

    def __init__(
        self,
        generator: Config,
        pixel_loss: Config | None = None,
        laplacian_loss: Config | None = None,
        data_preprocessor: Config | nn.Module | None = None,
        *,
        sync_bn: bool = False,
        channels_last: bool = False,
        clamp_output: bool = False,
        **losses: Config | None,
    ) -> None:
        super().__init__(
            generator,
            {
                "pixel_loss": pixel_loss,
                "laplacian_loss": laplacian_loss,
                **dict(sorted(losses.items())),
            },
            data_preprocessor,
            sync_bn=sync_bn,
            channels_last=channels_last,
            clamp_output=clamp_output,
        )
        check_teacher(self.network, "generator")

    def step(self, hazy: Tensor, clear: Tensor) -> Step:
        """Reconstructs the clear images."""
        return teacher_step(
            self.network, clear, dict(self.image_losses.items()), clamp_output=self.clamp_output
        )

    def _predict(self, inputs: Tensor, data_samples: Samples | None) -> list[BaseDataElement]:
        # On pairs too, the teacher is given, and measured on, the clear images.
        if data_samples and all("clear" in sample for sample in data_samples):
            inputs = clear_images(data_samples)
        return super()._predict(inputs, data_samples)


@MODELS.register_module()
class KTDNDistiller(Restorer):
    """Trains a student to dehaze, with a frozen teacher's features as a second target.

    Student and teacher may be any registered networks whose features can be named. The teacher is
    always in eval mode, gets no gradients, is in no optimiser, average or checkpoint, and, if the
    network can be cut, runs only as deep as the compared features.

    Source: Wu et al., CVPRW 2020, knowledge transfer.

    Args:
        student: The student's config.
        teacher: The teacher's config; None trains without a teacher, for comparison.
        teacher_checkpoint: A checkpoint of the teacher's stage, from here or BasicSR's side, or any
            file with the teacher's weights.
        transfer_loss: Config of the loss that compares features; required with a teacher.
        pixel_loss: The reconstruction loss's config; None switches it off.
        laplacian_loss: The Laplacian loss's config; None switches it off.
        student_features: Name to module of the student, such as ``{'mid': 'body.3'}``, for a
            network other than KTDN; the names are those that ``transfer_loss`` compares.
        teacher_features: The same for the teacher.
        teacher_param_key: Which weights of the teacher's file to use: ``params_ema``, the averaged
            ones, or ``params``.
        data_preprocessor: By default ``DehazingDataPreprocessor``.
        sync_bn: In distributed training, batch statistics over the batches of all processes, each
            on a GPU.
        channels_last: Lay the weights out as convolutions on tensor cores want them.
        clamp_output: Clamp the network's images to [0, 1] before they are compared, see
            :func:`ktdn_plugin.training.steps.image_losses`.
        **losses: Configs of further losses that compare images, as ``NAME_loss``, such as
            ``ssim_loss=dict(type='SSIMLoss', loss_weight=0.3)``; in the log ``loss_NAME``.

    Raises:
        KTDNError: If the teacher's checkpoint is missing or another network's, its head uses no
            features, or features are not available.
    """

    NETWORK = "student"
    STAGE = "student"

    def __init__(
        self,
        student: Config,
        teacher: Config | None = None,
        teacher_checkpoint: str | None = None,
        transfer_loss: Config | None = None,
        pixel_loss: Config | None = None,
        laplacian_loss: Config | None = None,
        student_features: Mapping[str, str] | None = None,
        teacher_features: Mapping[str, str] | None = None,
        teacher_param_key: str = "params_ema",
        data_preprocessor: Config | nn.Module | None = None,
        *,
        sync_bn: bool = False,
        channels_last: bool = False,
        clamp_output: bool = False,
        **losses: Config | None,
    ) -> None:
        super().__init__(
            student,
            {
                "pixel_loss": pixel_loss,
                "laplacian_loss": laplacian_loss,
                **dict(sorted(losses.items())),
            },
            data_preprocessor,
            sync_bn=sync_bn,
            channels_last=channels_last,
            clamp_output=clamp_output,
        )
        if (teacher is None) != (transfer_loss is None):
            raise KTDNError(
                "KTDNDistiller: knowledge transfer needs both a teacher and a transfer_loss, or "
                "neither"
            )
        self.transfer_loss: KnowledgeTransferLoss | None = None
        self._shared = _Shared(None, self)
        self._teacher_config = (teacher, teacher_checkpoint, teacher_param_key)
        if transfer_loss is None:
            return
        loss = MODELS.build(transfer_loss)
        network = self.load_teacher_network()
        names = loss.feature_names
        _name_compared(self.network, student_features, names, "student_features")
        _name_compared(network, teacher_features, names, "teacher_features")
        self.transfer_loss = loss
        frozen = FrozenTeacher(network, loss.feature_names)
        apply_speed_options(frozen.extractor, channels_last=channels_last)
        self._shared = _Shared(frozen, self)

    @property
    def teacher(self) -> FrozenTeacher | None:
        """The frozen teacher, if there is one."""
        return self._shared.teacher

    def load_teacher_network(self) -> nn.Module:
        """Builds the whole teacher with its weights, for example to measure its reconstruction.

        Raises:
            KTDNError: If its checkpoint is missing, or is another network's.
        """
        config, checkpoint, param_key = self._teacher_config
        if not checkpoint:
            raise KTDNError(
                "teacher_checkpoint: the trained teacher's checkpoint is missing; train one with "
                "options/mmengine/train_teacher.py first"
            )
        # Its checkpoint contains the encoder, so nothing needs downloading.
        network: nn.Module = MODELS.build(without_pretrained(config or {}))
        check_teacher(network, "teacher")
        try:
            load_weights(network, checkpoint, param_key)
        except KTDNError as error:
            raise KTDNError(f"teacher_checkpoint: {error}") from error
        return network.eval()

    def step(self, hazy: Tensor, clear: Tensor) -> Step:
        """Dehazes, and compares images and features."""
        return student_step(
            self.network,
            hazy,
            clear,
            dict(self.image_losses.items()),
            self.teacher,
            self.transfer_loss,
            clamp_output=self.clamp_output,
        )

    def _apply(self, fn: Any, recurse: bool = True) -> KTDNDistiller:
        # A copy may move elsewhere; the teacher stays with the trained model.
        if self.teacher is not None and self._shared.owner() is self:
            self.teacher._apply(fn)
        applied: KTDNDistiller = super()._apply(fn, recurse)
        return applied


def _name_compared(
    network: nn.Module, modules: Mapping[str, str] | None, names: Sequence[str], option: str
) -> None:
    """Names the features to compare; others are not kept."""
    modules = modules or {}
    for name in modules:
        if name not in names:
            raise KTDNError(
                f"{option}: transfer_loss does not compare '{name}'{did_you_mean(name, names)}"
            )
    for name in names:
        if modules and name not in modules:
            raise KTDNError(
                f"{option}: has no '{name}', which transfer_loss compares"
                f"{did_you_mean(name, modules)}"
            )
    try:
        name_features(network, {name: modules[name] for name in names if name in modules})
    except KTDNError as error:
        raise KTDNError(f"{option}: {error}") from error


class _Shared:
    """Hides the teacher from torch.

    This keeps it out of parameters and checkpoints, and lets copies of the model, such as the
    averaged one, share it.
    """

    def __init__(self, teacher: FrozenTeacher | None, owner: nn.Module) -> None:
        self.teacher = teacher
        self.owner = weakref.ref(owner)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self
