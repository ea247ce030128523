"""Fused optimisers whose state has another layout, and the memory of a training on a CPU."""

from __future__ import annotations

import copy
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from ktdn_plugin.allocator import keep_freed_memory
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.training.precision import apply_speed_options, match_state


def trained(channels_last: bool, state: dict | None, fused: bool) -> tuple[nn.Module, dict]:
    torch.manual_seed(0)
    network = apply_speed_options(nn.Conv2d(4, 8, 3), channels_last=channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, fused=fused)
    if state is not None:
        optimizer.load_state_dict(copy.deepcopy(state))
        match_state(optimizer)
    for seed in range(3):
        x = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()
    return network, optimizer.state_dict()


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_fused_optimizer_continues_in_another_layout(before: bool, after: bool) -> None:
    _, state = trained(before, None, fused=True)
    expected, _ = trained(before, state, fused=True)
    network, _ = trained(after, state, fused=True)
    torch.testing.assert_close(network.weight, expected.weight)


@pytest.mark.parametrize("fused", [True, False])
def test_a_state_of_another_network_is_refused(fused: bool) -> None:
    _, state = trained(False, None, fused=fused)
    state["state"][0]["exp_avg"] = torch.zeros(1)
    with pytest.raises(KTDNError, match=r"different network: exp_avg of shape \(1,\) for a"):
        trained(False, state, fused=fused)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_kept() -> None:
    code = (
        "import sys, torch\n"
        "from ktdn_plugin.allocator import keep_freed_memory\n"
        "from ktdn_plugin.system_memory import resident\n"
        "if sys.argv[1] == 'keep': assert keep_freed_memory()\n"
        "before = resident(); x = torch.ones(2**25); del x\n"
        "print((resident() - before) / 2**27)"
    )
    kept, given_back = (
        float(subprocess.check_output([sys.executable, "-c", code, word])) for word in ("keep", "")
    )
    assert kept > 0.9
    assert given_back < 0.2


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert not keep_freed_memory()
