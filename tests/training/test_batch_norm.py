"""Batch norms that are frozen do not move; synchronised ones are torch's, on GPUs alone."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from ktdn_plugin.training.batch_norm import batch_norms, freeze, synchronize


def build() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.BatchNorm2d(6, affine=False, momentum=None),  # the mean over all batches
    )


def test_torchs_synchronised_norms_with_timms_activations() -> None:
    with torch.device("meta"):
        network = timm.create_model("test_efficientnet", features_only=True)
        state = network.state_dict().keys()
    synchronised = synchronize(network, "sync_bn", pytest.fail)
    norms = batch_norms(synchronised)
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert any(isinstance(module, nn.SiLU) for module in synchronised.modules())
    assert synchronised.state_dict().keys() == state


def test_on_a_cpu_they_stay_with_a_warning() -> None:
    warnings: list[str] = []
    network = build()
    assert synchronize(network, "train.sync_bn", warnings.append) is network
    assert not any(isinstance(norm, nn.SyncBatchNorm) for norm in batch_norms(network))
    (line,) = warnings
    assert line.startswith("train.sync_bn: batch norms are synchronised only on GPUs")
    convolution = nn.Sequential(nn.Conv2d(3, 6, 3))
    assert synchronize(convolution, "train.sync_bn", pytest.fail) is convolution


def test_frozen_statistics_stay_and_scales_learn() -> None:
    network = build()
    norms = batch_norms(network)
    assert len(norms) == 2
    freeze(norms)
    before = [buffer.clone() for buffer in network.buffers()]
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(before, network.buffers(), strict=True))
    assert network[1].weight.grad.abs().sum() > 0
    network.train()
    network(torch.randn(2, 3, 8, 8))
    assert not torch.equal(before[0], next(network.buffers()))
