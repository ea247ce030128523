"""KTDN for inference: batch norms folded, channels last, deep parts whole, wide ones in stripes.

What :class:`~ktdn_plugin.archs.KTDN` computes in one go, this computes in phases, each holding as
little as possible. The result is the same up to rounding: stripes carry the extra rows in the
convolutions' receptive field, and global values (the averages of channel attention, the enhancing
module's pools) are computed over the whole image before they are used.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ktdn_plugin.archs import KTDN
from ktdn_plugin.archs.ktdn_arch import apply_affine
from ktdn_plugin.blocks import FAM
from ktdn_plugin.blocks.em import POOL_SIZES
from ktdn_plugin.inference.pools import Pool
from ktdn_plugin.inference.preparation import check_finite, fold, split
from ktdn_plugin.inference.stripes import (
    Halo,
    Rows,
    empty,
    find_halo,
    run_stripe,
    run_striped,
    stripes,
)

CELL = max(POOL_SIZES)
"""The decoder's stripe heights are multiples of the largest pooling cell."""

_LOOK = 4  # rows on either side seen by the last two convolutions, 3x3 and 7x7
_REFINE = 2  # rows on either side seen by the enhancing module's first two
_FAM = 2  # rows on either side seen by a FAM's convolutions
_FAM_ROWS = 64  # of a stripe, where FAMs are run in stripes

Emit = Callable[[int, int, Tensor], None]
"""Receives the result's rows ``top`` up to but excluding ``bottom``, (n, 3, ., W), not clamped."""


@dataclass(frozen=True)
class Heights:
    """Height of each phase's stripes in image rows; None runs the phase on the whole image.

    Attributes:
        stage1: The encoder up to stride 4.
        stage2: The encoder from stride 4 to 8.
        decoder: From stride 4 to the image; a multiple of ``CELL``.
        stage3: The encoder from stride 8 to 16.
        recomputes: Computes the features at stride 4, which are the largest, again for each stripe
            that needs them, instead of holding them: up to half the memory, for twice the time of
            what is computed there. Needs ``stage2`` and ``decoder``.
    """

    stage1: int | None = None
    stage2: int | None = None
    decoder: int | None = None
    stage3: int | None = None
    recomputes: bool = False


class Engine(nn.Module):
    """A network ready to dehaze.

    Args:
        network: The network; it is copied and left unchanged.
        device: Where to run.
        dtype: The dtype to compute in.
        uses_up: Takes over the network itself instead of a copy; it must not be used afterwards.

    Raises:
        KTDNError: If a weight is not finite.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: KTDN, device: torch.device, dtype: torch.dtype, uses_up: bool = False
    ) -> None:
        super().__init__()
        check_finite(network)
        if not uses_up:
            network = copy.deepcopy(network)
        # Fold reduced-precision weights in float32, so that they are rounded once, not twice.
        network.eval().requires_grad_(False).float()
        fold(network)
        self.register_buffer("mean", network.mean, persistent=False)
        self.register_buffer("std", network.std, persistent=False)
        self.encoder = network.encoder
        self.project4 = network.project4
        self.project8 = network.project8
        self.project16 = network.project16
        self.fam16, self.fam8, self.fam4 = network.fam16, network.fam8, network.fam4
        self.em = network.em
        self.tail = network.tail
        self.head = network.head
        self.dtype = dtype
        # Mean and std stay in float32: the image is normalised in it.
        for module in self.children():
            module.to(device, dtype)
        self.to(device)
        for parameter in self.parameters():
            if parameter.ndim == 4:  # nn.Module.to fails on encoders with 5-D parameters
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.parts = split(self.encoder)
        self._halos: dict[int, Halo | None] = {}

    def halo(self, number: int) -> Halo | None:
        """Returns the halo of one of the encoder's parts (0, 1, 2); None if it is global."""
        if self.parts is None:
            return None
        if number not in self._halos:
            channels = (3, *self.encoder.channels)[number]
            stride = (4, 2, 2)[number]
            self._halos[number] = find_halo(self.parts[number], channels, stride)
        return self._halos[number]

    def adopt_halos(self, other: Engine) -> None:
        """Takes over the halos found with a twin of this network."""
        self._halos.update(other._halos)

    def run(self, image: Rows, size: tuple[int, int], emit: Emit, heights: Heights) -> None:
        """Dehazes images; must be called with gradients disabled.

        Args:
            image: Returns rows of RGB images (n, 3, ., W) in [0, 1], float32, on the device.
            size: Height and width H, W of the padded images: multiples of 16, at least 32.
            emit: Receives the result, from top to bottom.
            heights: Stripe heights of the phases.
        """
        stage1, stage2, up8 = self.encode(image, size, heights)
        self.decode(stage1, stage2, up8, image, emit, heights.decoder, heights.recomputes)

    def encode(
        self, image: Rows, size: tuple[int, int], heights: Heights
    ) -> tuple[Rows, Rows, Tensor]:
        """Returns stage 1 (1/4), stage 2 as the decoder takes it (1/8), and the second FAM."""

        def normalised(top: int, bottom: int) -> Tensor:
            rows = (image(top, bottom) - self.mean) / self.std
            return rows.to(self.dtype).contiguous(memory_format=torch.channels_last)

        if self.parts is None:
            first, second, third = self.encoder(normalised(0, size[0]))
            stage1, stage2 = rows_of(first), second
            del first, second
        else:
            stage1 = self._stage1(normalised, size[0], heights)
            stage2 = self._stage(1, stage1, size[0], heights.stage2)
            third = self._stage(2, rows_of(stage2), size[0], heights.stage3)
        rows = _FAM_ROWS if heights.recomputes else None
        mid = self.project16(third)
        del third
        mid = run_fam(self.fam16, mid, rows)
        up8 = F.pixel_shuffle(mid, 2)
        del mid
        if heights.recomputes:
            skip8 = through(self.project8, rows_of(stage2))
        else:
            skip8 = rows_of(self.project8(stage2))
        del stage2
        return stage1, skip8, run_fam(self.fam8, up8, rows)

    def _stage1(self, normalised: Rows, height: int, heights: Heights) -> Rows:
        """Returns the encoder's first feature, or what computes its rows when they are needed."""
        if not heights.recomputes:
            return rows_of(self._stage(0, normalised, height, heights.stage1))
        assert self.parts is not None
        part, halo = self.parts[0], self.halo(0)
        assert halo is not None
        return lambda top, bottom: run_stripe(part, normalised, height // 4, top, bottom, halo)

    def _stage(self, number: int, source: Rows, rows: int, height: int | None) -> Tensor:
        """Runs a part of the encoder, in stripes if they have a height."""
        assert self.parts is not None
        stride = 4 << number
        if height is None:
            return self.parts[number](source(0, rows // (1, 4, 8)[number]))
        halo = self.halo(number)
        assert halo is not None
        return run_striped(self.parts[number], source, rows // stride, height // stride, halo)

    def decode(
        self,
        stage1: Rows,
        stage2: Rows,
        up8: Tensor,
        image: Rows,
        emit: Emit,
        height: int | None,
        recomputes: bool = False,
    ) -> None:
        """Decodes the output of :meth:`encode` in stripes of ``height`` rows.

        The ``affine`` head also reads the image's rows.
        """
        rows4, width4 = 2 * up8.shape[2], 2 * up8.shape[3]
        height = 4 * rows4 if height is None else height

        def up4(top: int, bottom: int) -> Tensor:
            top, bottom = top // 2, bottom // 2
            both = torch.cat([up8[:, :, top:bottom], stage2(top, bottom)], 1)
            return F.pixel_shuffle(both, 2)

        def convolved(top: int, bottom: int) -> Tensor:
            """Returns the output of the third FAM's second convolution."""
            first, last = max(top - _FAM, 0), min(bottom + _FAM, rows4)
            piece = convolve_fam(self.fam4, up4(first, last))
            return piece[:, :, top - first : bottom - first]

        residual, factor = self._attend_channels(convolved, rows4, height // 4, recomputes)

        def full(top: int, bottom: int) -> Tensor:
            """Returns the enhancing module's input."""
            # Two extra rows: pixel shuffle yields rows in pairs.
            first, last = max(top // 4 // 2 * 2, 0), min(-(-bottom // 8) * 2, rows4)
            attended = residual(first, last) * factor
            attended.mul_(self.fam4.pixel_attention.attention(attended))
            attended.add_(up4(first, last))
            both = torch.cat([attended, self.project4(stage1(first, last))], 1)
            del attended
            both = F.pixel_shuffle(F.pixel_shuffle(both, 2), 2)
            return both[:, :, top - 4 * first : bottom - 4 * first]

        def finish(top: int, bottom: int, values: Tensor) -> None:
            # The image stays in float32, whatever dtype the gain has.
            is_affine = self.head == "affine"
            emit(top, bottom, apply_affine(image(top, bottom), values) if is_affine else values)

        self._enhance(full, 4 * rows4, 4 * width4, height, finish)

    def _attend_channels(
        self, convolved: Rows, rows: int, height: int, recomputes: bool
    ) -> tuple[Rows, Tensor]:
        """Runs the third FAM up to its channel attention.

        Returns:
            The output of its second convolution, and the channel factors (n, c, 1, 1), computed
            from averages over the whole image.
        """
        whole: Tensor | None = None
        total: Tensor | None = None
        width, dtype = 0, self.dtype
        for top, bottom in stripes(rows, height):
            piece = convolved(top, bottom)
            width, dtype = piece.shape[3], piece.dtype
            part = piece.sum((2, 3), keepdim=True, dtype=torch.float32)
            total = part if total is None else total + part
            if recomputes:
                continue
            if (top, bottom) == (0, rows):
                whole = piece
                break
            if whole is None:
                whole = empty(piece, rows)
            whole[:, :, top:bottom] = piece
            del piece
        assert total is not None
        factor = self.fam4.channel_attention.attention((total / (rows * width)).to(dtype))
        return convolved if whole is None else rows_of(whole), factor

    def _enhance(self, full: Rows, rows: int, width: int, height: int, emit: Emit) -> None:
        """Runs the enhancing module and the last convolution.

        Each stripe's cells are pooled before any of its pixels are produced: a pixel depends only
        on cells of its own stripe and of those above.
        """
        em = self.em
        pooled = [Pool(cell, rows, width) for cell in POOL_SIZES]
        carried: Tensor | None = None  # the feature's last rows of the stripe above
        for top, bottom in stripes(rows, height):
            first, last = max(top - _REFINE, 0), min(bottom + _REFINE, rows)
            feature = em.act(em.refine2(em.act(em.refine1(full(first, last)))))
            feature = feature[:, :, top - first : bottom - first]
            for pool, conv in zip(pooled, em.pool_convs, strict=True):
                pool.add(feature, top, nn.Sequential(conv, em.act))
            start = top if carried is None else top - carried.shape[2]
            done = top if carried is None else top - _LOOK
            until = bottom if bottom == rows else bottom - _LOOK
            n, channels = feature.shape[:2]
            fused = torch.empty(
                (n, len(pooled) + channels, bottom - start, width),
                dtype=feature.dtype,
                device=feature.device,
                memory_format=torch.channels_last,
            )
            fused[:, len(pooled) :, top - start :] = feature
            del feature
            if carried is not None:
                fused[:, len(pooled) :, : top - start] = carried
            for number, pool in enumerate(pooled):
                fused[:, number : number + 1] = pool.spread(start, bottom)
            kept = max(until - _LOOK, 0) - start
            carried = fused[:, len(pooled) :, kept:].clone() if bottom < rows else None
            image = em.fuse(fused).tanh_()
            del fused
            image = self.tail(image)
            emit(done, until, image[:, :, done - start : until - start])


def convolve_fam(fam: FAM, x: Tensor) -> Tensor:
    """Runs a FAM's two convolutions, up to its attentions."""
    return fam.conv2(fam.conv1(x).relu_().add_(x))


def run_fam(fam: FAM, x: Tensor, height: int | None = None) -> Tensor:
    """Runs a FAM, holding at most three features at a time, or two in stripes of some rows."""
    if height is None or height >= x.shape[2]:
        residual = convolve_fam(fam, x)
    else:
        rows = x.shape[2]
        residual = empty(x, rows)
        for top, bottom in stripes(rows, height):
            first, last = max(top - _FAM, 0), min(bottom + _FAM, rows)
            piece = convolve_fam(fam, x[:, :, first:last])
            residual[:, :, top:bottom] = piece[:, :, top - first : bottom - first]
            del piece
    mean = residual.mean((2, 3), keepdim=True, dtype=torch.float32).to(x.dtype)
    residual.mul_(fam.channel_attention.attention(mean))
    residual.mul_(fam.pixel_attention.attention(residual))
    return residual.add_(x)


def through(part: nn.Module, rows: Rows) -> Rows:
    """Returns what sends rows through a part that sees one row at a time."""
    return lambda top, bottom: part(rows(top, bottom))


def rows_of(feature: Tensor) -> Rows:
    """Returns what returns rows of a feature."""
    return lambda top, bottom: feature[:, :, top:bottom]
