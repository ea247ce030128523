"""Knowledge transfer as plain torch: the frozen teacher, one teacher step, one student step.

Any training loop calls a step, sums the losses it gets back and runs backward on the sum.

Source: Wu et al., "Knowledge Transfer Dehazing Network for NonHomogeneous Dehazing", CVPRW 2020:
L = L_rec + w_lap L_lap + w_kt L_kt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ktdn_plugin.archs import KTDN
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.losses import KnowledgeTransferLoss
from ktdn_plugin.training.precision import autocast

ImageLoss = Callable[[Tensor, Tensor], Tensor]


class Step(NamedTuple):
    """What one forward pass of training gives.

    Attributes:
        output: The network's images (n, 3, h, w), not clamped.
        losses: Name to weighted loss (scalars); their sum is what to run backward on.
    """

    output: Tensor
    losses: dict[str, Tensor]


def check_teacher(network: nn.Module, where: str) -> None:
    """Checks that a network's features are worth transferring.

    Args:
        network: The teacher, trained or to be trained.
        where: Its section in the options.

    Raises:
        KTDNError: If it is a KTDN with the head ``affine``, which need not look at an image to
            give it back.
    """
    if isinstance(network, KTDN) and network.head == "affine":
        raise KTDNError(
            f"{where}.head: a teacher with an affine head reconstructs any image with a gain and "
            "offset of zero, whatever its features, so they teach nothing; use tanh here "
            "(the default); the student may still use affine"
        )


class FrozenTeacher(nn.Module):
    """A teacher that only returns features: always in eval mode, never with gradients.

    Args:
        network: The trained teacher: a network with ``feature_extractor(names)``, such as
            :class:`~ktdn_plugin.archs.KTDN`. Its weights are shared and frozen.
        names: The features that are compared; what lies behind them is not kept.

    Raises:
        KTDNError: If its features are not worth teaching, see :func:`check_teacher`.

    Example:
        >>> teacher = FrozenTeacher(KTDN("test_resnet"))
        >>> list(teacher(torch.rand(1, 3, 64, 64)))
        ['mid']
    """

    def __init__(self, network: nn.Module, names: Iterable[str] = ("mid",)) -> None:
        super().__init__()
        check_teacher(network, "network")
        extract = cast("Callable[[Iterable[str]], nn.Module]", network.feature_extractor)
        self.extractor = extract(tuple(names)).requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Stays in eval mode whatever the argument: its batch statistics must not change."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, clear: Tensor) -> dict[str, Tensor]:
        """Returns the features of clear RGB images (n, 3, h, w) in [0, 1]."""
        # The network it came from shares its layers, and may have been set to train meanwhile.
        self.train(False)
        return self.extractor(clear)


def image_losses(
    output: Tensor, clear: Tensor, losses: Mapping[str, ImageLoss], clamp: bool = False
) -> dict[str, Tensor]:
    """Compares images by each loss, in float32 at least, whatever the network computed in.

    Args:
        output: The network's images (n, 3, h, w).
        clear: The clear images, same shape, in [0, 1].
        losses: Name to loss; a loss takes (output, clear) and returns a scalar.
        clamp: Whether the network's images are clamped to [0, 1] first, as SRKTDN does. What
            nobody will see is not corrected then; but where the network overshoots, no gradient
            pulls it back, and if it does so everywhere, it stops learning.
    """
    dtype = torch.promote_types(torch.promote_types(output.dtype, clear.dtype), torch.float32)
    with torch.autocast(output.device.type, enabled=False):
        output, clear = output.to(dtype), clear.to(dtype)
        if clamp:
            output = output.clamp(0, 1)
        return {name: loss(output, clear) for name, loss in losses.items()}


def teacher_step(
    network: nn.Module,
    clear: Tensor,
    losses: Mapping[str, ImageLoss],
    amp: torch.dtype | None = None,
    clamp_output: bool = False,
) -> Step:
    """One forward pass of the teacher's stage: reconstruct clear images.

    Args:
        network: The teacher, in train mode.
        clear: Clear RGB images (n, 3, h, w) in [0, 1], input and target alike.
        losses: Name to image loss, such as ``{"l_rec": nn.L1Loss(), "l_lap": LaplacianLoss()}``.
        amp: Precision of the network, see :func:`~ktdn_plugin.training.precision.autocast`.
        clamp_output: See :func:`image_losses`.

    Example:
        >>> clear = torch.rand(1, 3, 64, 64)
        >>> step = teacher_step(KTDN("test_resnet"), clear, {"l_rec": PixelLoss()})
        >>> sum(step.losses.values()).backward()
    """
    with autocast(clear.device, amp):
        output = network(clear)
    return Step(output, image_losses(output, clear, losses, clamp_output))


def student_step(
    student: nn.Module,
    hazy: Tensor,
    clear: Tensor,
    losses: Mapping[str, ImageLoss],
    teacher: FrozenTeacher | None = None,
    transfer_loss: KnowledgeTransferLoss | None = None,
    amp: torch.dtype | None = None,
    clamp_output: bool = False,
) -> Step:
    """One forward pass of the student's stage: dehaze, and match the teacher's features.

    Args:
        student: The student, in train mode; where knowledge is transferred its forward takes
            ``return_features=True``, as :class:`~ktdn_plugin.archs.KTDN`'s does.
        hazy: Hazy RGB images (n, 3, h, w) in [0, 1].
        clear: The same scenes without haze, same shape and range.
        losses: Name to image loss, as for :func:`teacher_step`.
        teacher: The frozen teacher; it sees the clear images. None trains without transfer.
        transfer_loss: Compares the features; given if and only if there is a teacher.
        amp: Precision of both networks, see :func:`~ktdn_plugin.training.precision.autocast`; the
            losses are computed in float32.
        clamp_output: See :func:`image_losses`.

    Returns:
        The step; with a teacher its losses have ``l_kt`` as well.

    Raises:
        ValueError: If only one of ``teacher`` and ``transfer_loss`` is given.

    Example:
        >>> student, teacher = KTDN("test_resnet"), FrozenTeacher(KTDN("test_resnet"))
        >>> hazy, clear = torch.rand(2, 1, 3, 64, 64)
        >>> losses = {"l_rec": PixelLoss()}
        >>> step = student_step(student, hazy, clear, losses, teacher, KnowledgeTransferLoss())
        >>> sorted(step.losses)
        ['l_kt', 'l_rec']
    """
    if (teacher is None) != (transfer_loss is None):
        raise ValueError("knowledge transfer needs both a teacher and a transfer_loss, or neither")
    if teacher is None or transfer_loss is None:
        with autocast(hazy.device, amp):
            output = student(hazy)
        return Step(output, image_losses(output, clear, losses, clamp_output))
    with autocast(hazy.device, amp):
        output, features = student(hazy, return_features=True)
        targets = teacher(clear)
    terms = image_losses(output, clear, losses, clamp_output)
    with torch.autocast(hazy.device.type, enabled=False):
        terms["l_kt"] = transfer_loss(features, targets)
    return Step(output, terms)
