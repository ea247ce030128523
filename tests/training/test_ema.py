"""The average of a network's weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ktdn_plugin.training.ema import update_ema


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    average = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    current = copy.deepcopy(average)
    with torch.no_grad():
        for parameter in current.parameters():
            parameter.add_(torch.rand_like(parameter))
    current(torch.rand(2, 3, 8, 8))  # moves the batch statistics
    return average, current


def test_by_its_definition() -> None:
    average, current = networks()
    before = copy.deepcopy(average)
    update_ema(average, current, 0.9)
    for old, new, trained in zip(
        before.parameters(), average.parameters(), current.parameters(), strict=True
    ):
        assert torch.allclose(new, 0.9 * old + 0.1 * trained, atol=1e-7)
        assert new.grad is None
    for copied, trained in zip(average.buffers(), current.buffers(), strict=True):
        assert torch.equal(copied, trained)
    assert int(average[1].num_batches_tracked) == 1


@pytest.mark.parametrize("decay", [0, 1])
def test_copies_or_stays(decay: int) -> None:
    average, current = networks()
    expected = copy.deepcopy(current if decay == 0 else average)
    update_ema(average, current, decay)
    for one, other in zip(average.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)


def test_networks_without_parameters_or_buffers() -> None:
    update_ema(nn.ReLU(), nn.ReLU(), 0.5)
