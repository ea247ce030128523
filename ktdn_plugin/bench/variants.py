"""The training steps compared: the plain one, and ours with its switches.

All start from the same weights and get the same batches. None keeps averaged weights (EMA), which
would cost every variant the same and is not part of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ktdn_plugin.archs import KTDN
from ktdn_plugin.losses import KnowledgeTransferLoss, LaplacianLoss
from ktdn_plugin.losses.laplacian_loss import laplacian_pyramid
from ktdn_plugin.training.precision import AMP, apply_speed_options
from ktdn_plugin.training.steps import FrozenTeacher, student_step

LEARNING_RATE = 1e-4
LAPLACIAN_LEVELS = 5
LAPLACIAN_WEIGHT = 0.3
MINIMUM_SIZE = 2 * 2 ** (LAPLACIAN_LEVELS - 1) + 1
"""The smallest image that has a Laplacian pyramid of that many levels."""

TrainingStep = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Trains on (hazy, clear) and returns the weighted losses by name, detached."""


class Switches(NamedTuple):
    """How our step computes, see :mod:`ktdn_plugin.training.precision`."""

    amp: str = "off"
    channels_last: bool = False
    compile: bool = False


PLAIN = "plain"
OURS = "ours"
SWITCHES = {
    OURS: Switches(),
    "channels_last": Switches(channels_last=True),
    "bf16": Switches(amp="bf16"),
    "bf16+channels_last": Switches(amp="bf16", channels_last=True),
    "fp16": Switches(amp="fp16"),
    "compile": Switches(compile=True),
    "all": Switches(amp="bf16", channels_last=True, compile=True),
}
"""Our variants by name, in table order."""


def variant_names(device: torch.device) -> list[str]:
    """Lists the variants that a device can run."""
    # Half precision needs a GPU: on a CPU it is slower than float32.
    return [PLAIN, *(name for name in SWITCHES if name != "fp16" or device.type == "cuda")]


def build_step(name: str, encoder: str, device: torch.device, seed: int) -> TrainingStep:
    """Builds a variant's student, teacher and optimiser.

    Args:
        name: ``plain``, or one of :data:`SWITCHES`.
        encoder: The networks' timm backbone, with random weights.
        device: Where to train.
        seed: Seed of the weights; the same seed gives every variant the same weights.

    Raises:
        KTDNError: If timm cannot build the encoder.
    """
    torch.manual_seed(seed)
    # Both on the CPU first: a GPU would draw different random numbers.
    student, teacher = KTDN(encoder), KTDN(encoder)
    student, teacher = student.to(device).train(), teacher.to(device)
    if name == PLAIN:
        return _plain_step(student, teacher)
    return _our_step(student, teacher, SWITCHES[name], device)


def _plain_step(student: KTDN, teacher: KTDN) -> TrainingStep:
    """Returns the step written straight from the paper: whole networks, a pyramid per image."""
    teacher.eval()
    optimizer = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE)

    def step(hazy: Tensor, clear: Tensor) -> dict[str, Tensor]:
        optimizer.zero_grad()
        output, features = student(hazy, return_features=True)
        with torch.no_grad():
            _, targets = teacher(clear, return_features=True)
        pyramids = (laplacian_pyramid(image, LAPLACIAN_LEVELS) for image in (output, clear))
        levels = [
            4.0**-j * F.l1_loss(ours, target)
            for j, (ours, target) in enumerate(zip(*pyramids, strict=True))
        ]
        losses = {
            "l_rec": F.l1_loss(output, clear),
            "l_lap": LAPLACIAN_WEIGHT * torch.stack(levels).sum(),
            "l_kt": F.l1_loss(features["mid"], targets["mid"]),
        }
        torch.stack([*losses.values()]).sum().backward()
        optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}

    return step


def _our_step(
    student: KTDN, teacher_network: KTDN, switches: Switches, device: torch.device
) -> TrainingStep:
    teacher = FrozenTeacher(teacher_network)
    for network in (student, teacher.extractor):
        apply_speed_options(network, channels_last=switches.channels_last, compile=switches.compile)
    amp = AMP[switches.amp]
    image_losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "l_rec": nn.L1Loss(),
        "l_lap": LaplacianLoss(LAPLACIAN_WEIGHT, levels=LAPLACIAN_LEVELS).to(device),
    }
    transfer_loss = KnowledgeTransferLoss()
    # One pass over the weights instead of a dozen.
    optimizer = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=amp is torch.float16, init_scale=2.0**14)

    def step(hazy: Tensor, clear: Tensor) -> dict[str, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        losses = student_step(
            student, hazy, clear, image_losses, teacher, transfer_loss, amp
        ).losses
        scaler.scale(torch.stack([*losses.values()]).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        return {name: loss.detach() for name, loss in losses.items()}

    return step


def synthetic_batches(
    batch_size: int, size: int, seed: int, count: int = 2
) -> list[tuple[Tensor, Tensor]]:
    """Makes batches of smooth clear images and their hazy versions, in [0, 1], on the CPU.

    Args:
        batch_size: Images per batch.
        size: Height and width of an image.
        seed: Seed of the images.
        count: Number of batches.
    """
    generator = torch.Generator().manual_seed(seed)

    def smooth(channels: int, cells: int) -> Tensor:
        coarse = torch.rand(batch_size, channels, cells, cells, generator=generator)
        return F.interpolate(coarse, size=(size, size), mode="bilinear")

    batches = []
    for _ in range(count):
        clear = smooth(3, max(size // 8, 2))
        transmission = 0.3 + 0.6 * smooth(1, max(size // 64, 2))
        batches.append((clear * transmission + 0.9 * (1 - transmission), clear))
    return batches
