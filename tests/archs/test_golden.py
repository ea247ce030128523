"""Our network against outputs recorded from the one that the paper's authors published."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ktdn_plugin import KTDN, load_published
from ktdn_plugin.storage.published_keys import from_published

TOLERANCE = 1e-5
assert_close = partial(torch.testing.assert_close, check_dtype=False)


def image(n: int, height: int, width: int) -> Tensor:
    values = np.random.RandomState(1000).random_sample((n, 3, height, width))
    return torch.from_numpy(values.astype(np.float32))


def recorded(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def assert_as_recorded(network: KTDN, x: Tensor, expected: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        out, features = network(x, return_features=True)
    assert_close(out, expected["out"], rtol=0, atol=TOLERANCE)
    ours = {f"layer{k}_mean": features[f"stage{k}"].mean(dim=(2, 3)) for k in (1, 2, 3)}
    for name, value in {"mid": features["mid"], **ours}.items():
        largest = expected[name].abs().max().item()
        assert_close(value, expected[name], rtol=0, atol=TOLERANCE * largest)


def test_eval_mode_from_a_file_as_the_authors_wrote_it(
    full_network: KTDN, published_weights: dict[str, Tensor], golden_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "KTDN.pth"
    torch.save({"model": {f"module.{key}": v for key, v in published_weights.items()}}, file)
    load_published(full_network, file)
    file.unlink()
    full_network.eval()
    assert_as_recorded(full_network, image(1, 64, 96), recorded(golden_folder / "eval_64x96.npz"))
    # The state dict is what was loaded: an eval pass changes nothing.
    ours = full_network.state_dict()
    for key, value in from_published(published_weights).items():
        assert torch.equal(ours[key], value), key


def test_train_mode_and_the_running_statistics_it_leaves(
    published_weights: dict[str, Tensor], golden_folder: Path
) -> None:
    # In float64: batch statistics of 32 values amplify float32's rounding to 1.0e-5 or 1.15e-5,
    # with two threads or one, and 7.6e-6 of it are the recording's.
    network = KTDN()
    network.load_state_dict(from_published(published_weights))
    network.double().train()
    expected = recorded(golden_folder / "train_2x64x64.npz")
    assert_as_recorded(network, image(2, 64, 64).double(), expected)

    prefix = "after."
    after = {key[len(prefix) :]: v for key, v in expected.items() if key.startswith(prefix)}
    assert len(after) == 4
    ours = network.state_dict()
    for key, value in from_published(after).items():
        assert_close(ours[key], value, rtol=TOLERANCE, atol=TOLERANCE)
    moved = [key for key in after if not torch.equal(after[key], published_weights[key])]
    assert moved == list(after)


def test_golden_files_can_tell_networks_apart(
    full_network: KTDN, published_weights: dict[str, Tensor], golden_folder: Path
) -> None:
    weights = from_published(published_weights)
    weights["fam4.pixel_attention.attention.2.bias"] = torch.full((1,), 0.1)
    full_network.load_state_dict(weights)
    full_network.eval()
    with pytest.raises(AssertionError, match="not close"):
        assert_as_recorded(
            full_network, image(1, 64, 96), recorded(golden_folder / "eval_64x96.npz")
        )


def test_size_of_the_published_network(full_network: KTDN) -> None:
    trainable = [p for p in full_network.parameters() if p.requires_grad]
    # As published, less the 100 + 100 of a layer that its forward pass never calls.
    assert sum(p.numel() for p in trainable) == 49_351_730 == 49_351_930 - 200
    assert len(full_network.state_dict()) == 988 == 990 - 2
    assert (full_network.mean.flatten().tolist(), full_network.std.flatten().tolist()) == (
        pytest.approx((0.64, 0.6, 0.58)),
        pytest.approx((0.14, 0.15, 0.152)),
    )


def test_every_parameter_of_the_published_network_gets_a_gradient(full_network: KTDN) -> None:
    full_network.train()
    full_network(torch.rand(1, 3, 32, 48)).square().mean().backward()
    missing = [name for name, p in full_network.named_parameters() if p.grad is None]
    full_network.zero_grad()
    assert missing == []
