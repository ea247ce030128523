"""SSIM and Lab loss: against another library's figures, gradients, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from skimage.metrics import structural_similarity
from torch import nn

from ktdn_plugin import LabLoss, SSIMLoss

LOSSES = [SSIMLoss, LabLoss]


def two_images(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    clear = torch.rand(shape, generator=generator, dtype=dtype)
    noise = torch.rand(shape, generator=generator, dtype=dtype)
    return 0.7 * clear + 0.3 * noise, clear


def array(images: torch.Tensor, number: int) -> np.ndarray:
    return images[number].permute(1, 2, 0).numpy()


def test_ssim_is_scikit_images() -> None:
    images, clear = two_images(2, 3, 24, 30, dtype=torch.float64)
    expected = [
        structural_similarity(
            array(images, number),
            array(clear, number),
            channel_axis=2,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for number in range(2)
    ]
    assert float(SSIMLoss(0.3)(images, clear)) == pytest.approx(0.3 * (1 - np.mean(expected)))
    assert float(SSIMLoss()(clear, clear)) == pytest.approx(0, abs=1e-12)


def test_lab_is_scikit_images() -> None:
    images, clear = two_images(1, 3, 8, 9, dtype=torch.float64)
    distance = (rgb2lab(array(images, 0)) - rgb2lab(array(clear, 0))) / 100
    loss = LabLoss(0.5)(images, clear)
    assert float(loss) == pytest.approx(0.5 * np.square(distance).mean(), rel=1e-3)
    assert LabLoss()(clear, clear) == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient(loss: type[nn.Module]) -> None:
    images, clear = two_images(1, 3, 12, 13, dtype=torch.float64)
    assert torch.autograd.gradcheck(loss(0.7), (images.requires_grad_(), clear))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_where_a_network_overshoots_is_finite(loss: type[nn.Module]) -> None:
    images, clear = two_images(1, 3, 16, 16)
    images = (images * 3 - 1).requires_grad_()  # Lab's formulas take powers of negative numbers
    loss()(images, clear).backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_computed_in_float32(loss: type[nn.Module]) -> None:
    images, clear = (image.bfloat16() for image in two_images(1, 3, 16, 16))
    with torch.autocast("cpu", torch.bfloat16):
        value = loss()(images, clear)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss()(images.float(), clear.float()))


@pytest.mark.parametrize("loss", LOSSES)
def test_what_they_refuse(loss: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=rf"{loss.__name__}: an image of \(1, 3, 16, 16\) and"):
        loss()(torch.rand(1, 3, 16, 16), torch.rand(1, 1, 16, 16))
    small = torch.rand((1, 3, 10, 16) if loss is SSIMLoss else (1, 1, 16, 16))
    with pytest.raises(ValueError, match=rf"{loss.__name__}: takes .*, got \(1, "):
        loss()(small, small)
