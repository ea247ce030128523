"""Batch statistics over processes are those of the whole batch; frozen ones do not move."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from ktdn_plugin.training import batch_norm
from ktdn_plugin.training.batch_norm import batch_norms, freeze, synchronize

# Each process takes its part of one batch; what it finds goes to a file.
SCRIPT = """
import sys
import torch
import torch.distributed as dist
from test_batch_norm import build
from ktdn_plugin.training.batch_norm import synchronize

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
network = synchronize(build(sys.argv[1]))
x = torch.load("input.pt").chunk(size)[rank].requires_grad_()
weight = torch.load("weight.pt").chunk(size)[rank]
y = network(x)
(y * weight).sum().backward()
used = [parameter for parameter in network.parameters() if parameter.grad is not None]
for parameter in used:
    dist.all_reduce(parameter.grad)
torch.save(
    {
        "y": y.detach(),
        "x": x.grad,
        "grads": [parameter.grad for parameter in used],
        "state": network.state_dict(),
    },
    f"out_{rank}.pt",
)
dist.destroy_process_group()
"""


def build(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "plain":
        network: nn.Module = nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.BatchNorm2d(6, affine=False, momentum=None),  # the mean over all batches
        )
    else:  # timm's batch norm with an activation in it
        network = timm.create_model("test_efficientnet", features_only=True, out_indices=(1,))
        network = nn.Sequential(network, _First())
    return network.double().train()


class _First(nn.Module):
    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return features[0]


@pytest.mark.parametrize("kind", ["plain", "timm"])
def test_two_processes_normalise_as_one(tmp_path: Path, kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, 32, 32, generator=generator, dtype=torch.float64).requires_grad_()
    network = build(kind)
    y = network(x)
    weight = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    (y * weight).sum().backward()
    torch.save(x.detach(), tmp_path / "input.pt")
    torch.save(weight, tmp_path / "weight.pt")
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    subprocess.run(
        [sys.executable, *torchrun, "script.py", kind],
        cwd=tmp_path,
        check=True,
        env={**os.environ, "PYTHONPATH": path_with(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    parts = [torch.load(tmp_path / f"out_{rank}.pt") for rank in range(2)]
    close = {"rtol": 1e-4, "atol": 1e-5}  # synchronised statistics are float32
    torch.testing.assert_close(torch.cat([part["y"] for part in parts]), y.detach(), **close)
    torch.testing.assert_close(torch.cat([part["x"] for part in parts]), x.grad, **close)
    for part in parts:
        used = [parameter for parameter in network.parameters() if parameter.grad is not None]
        for found, wanted in zip(part["grads"], used, strict=True):
            torch.testing.assert_close(found, wanted.grad, rtol=1e-3, atol=1e-3)
        assert part["state"].keys() == network.state_dict().keys()
        for key, wanted in network.state_dict().items():
            torch.testing.assert_close(part["state"][key], wanted, **close)


def path_with(folder: Path) -> str:
    return os.pathsep.join(part for part in (str(folder), os.environ.get("PYTHONPATH")) if part)


def test_alone_a_synchronised_network_is_the_network() -> None:
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for kind in ("plain", "timm"):
        network = build(kind)
        wanted = network(x)
        assert torch.equal(synchronize(build(kind))(x), wanted)


def test_half_precision_is_normalised_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_norm, "_alone", lambda: False)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: None)  # of one process
    x = 100 + torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x = x.to(torch.bfloat16)
    alone, together = nn.BatchNorm2d(3), synchronize(nn.BatchNorm2d(3))
    for training in (True, False):  # and then by the statistics of before
        wanted = alone.train(training)(x.float())
        found = together.train(training)(x)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), wanted, rtol=1e-2, atol=1e-2)


def test_frozen_statistics_stay_and_scales_learn() -> None:
    network = build("plain").float()
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
