"""Pixel loss: its definition, gradients, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from ktdn_plugin import PixelLoss


@pytest.mark.parametrize("criterion", ["l1", "mse", "smooth_l1"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradient(criterion: str, reduction: str) -> None:
    torch.manual_seed(0)
    image, target = (torch.rand(2, 3, 4, 5, dtype=torch.float64) * 4 for _ in range(2))
    loss = PixelLoss(0.7, reduction, criterion)
    assert torch.autograd.gradcheck(loss, (image.requires_grad_(), target))


def test_by_its_definition() -> None:
    torch.manual_seed(0)
    image, target = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    difference = image - target
    assert PixelLoss()(image, target) == pytest.approx(float(difference.abs().mean()))
    squares = PixelLoss(2.0, "sum", "mse")(image, target)
    assert squares == pytest.approx(2 * float(difference.square().sum()), rel=1e-6)
    assert torch.equal(PixelLoss(reduction="none")(image, target), difference.abs())
    assert PixelLoss()(image, image) == 0


def test_it_is_basicsrs() -> None:
    from ktdn_plugin.basicsr import compat

    compat.apply()
    from basicsr.losses.basic_loss import L1Loss, MSELoss

    torch.manual_seed(0)
    image, target = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    assert torch.equal(PixelLoss(0.3)(image, target), L1Loss(0.3)(image, target))
    ours = PixelLoss(0.3, criterion="mse")
    assert torch.equal(ours(image, target), MSELoss(0.3)(image, target))


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match=r"criterion 'l_1' is not one of .*; did you mean 'l1'"):
        PixelLoss(criterion="l_1")
    with pytest.raises(ValueError, match=r"reduction 'man' is not one of .*; did you mean 'mean'"):
        PixelLoss(reduction="man")
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\) and a target of \(1, 1, 4, 4\)"):
        PixelLoss()(torch.rand(1, 3, 4, 4), torch.rand(1, 1, 4, 4))
