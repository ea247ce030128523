"""The key layout of the checkpoint that the paper's authors published, there and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ktdn_plugin import KTDN, KTDNError, load_published, load_weights, to_published
from ktdn_plugin.storage.published_keys import from_published, is_published

DEAD = {"enhancer.batch1.weight", "enhancer.batch1.bias"}
LAYERS = {
    "encoder.layer3.22.bn3.running_var": "encoder.body.layer3.22.bn3.running_var",
    "mid_conv.conv1.weight": "fam16.conv1.weight",
    "attention1.calayer.ca.2.bias": "fam8.channel_attention.attention.2.bias",
    "attention2.palayer.pa.0.weight": "fam4.pixel_attention.attention.0.weight",
    "enhancer.refine3.weight": "em.fuse.weight",
    "enhancer.conv1010.bias": "em.pool_convs.0.bias",
    "enhancer.conv1040.bias": "em.pool_convs.3.bias",
    "tail.1.weight": "tail.1.weight",
}


@pytest.fixture(scope="module")
def published_weights(published_shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The published layout, each entry filled with a number of its own."""
    return {
        key: torch.full(shape, number if key.endswith("num_batches_tracked") else number / 1000)
        for number, (key, shape) in enumerate(published_shapes.items(), start=1)
    }


def assert_holds(network: KTDN, published: dict[str, Tensor]) -> None:
    # Layers have other names, but stand in the same order.
    wanted = [value for key, value in published.items() if key not in DEAD]
    for (key, value), theirs in zip(network.state_dict().items(), wanted, strict=True):
        assert torch.equal(value, theirs), key


def test_manifest_is_that_of_the_published_checkpoint(
    published_shapes: dict[str, tuple[int, ...]],
) -> None:
    assert len(published_shapes) == 990
    assert set(LAYERS) | DEAD <= set(published_shapes)


def test_round_trip(
    full_network: KTDN, published_shapes: dict[str, tuple[int, ...]], published_weights: dict
) -> None:
    full_network.load_state_dict(from_published(published_weights))
    ours = full_network.state_dict()

    published = to_published(ours)
    assert list(published) == ["model"]
    assert {key: tuple(value.shape) for key, value in published["model"].items()} == {
        f"module.{key}": shape for key, shape in published_shapes.items()
    }
    assert list(published["model"]) == [f"module.{key}" for key in published_shapes]
    for key, value in published_weights.items():
        if key not in DEAD:
            assert torch.equal(published["model"][f"module.{key}"], value), key
    assert published["model"]["module.enhancer.batch1.weight"].eq(1).all()
    assert published["model"]["module.enhancer.batch1.bias"].eq(0).all()

    back = from_published(published)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[key], value) for key, value in ours.items())


def test_names(published_weights: dict[str, Tensor]) -> None:
    ours = from_published(published_weights)
    assert len(ours) == 988
    for theirs, name in LAYERS.items():
        assert ours[name] is published_weights[theirs]


@pytest.mark.parametrize("module", ["module.", ""])
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("load", [load_published, load_weights])
def test_loads_from_a_file(
    full_network: KTDN, published_weights: dict, load, wrapped: bool, module: str, tmp_path: Path
) -> None:
    with torch.no_grad():
        for value in full_network.state_dict().values():
            value.zero_()
    content = {module + key: value for key, value in published_weights.items()}
    torch.save({"model": content} if wrapped else content, tmp_path / "KTDN.pth")
    load(full_network, tmp_path / "KTDN.pth")
    assert_holds(full_network, published_weights)


def test_what_we_write_loads_again(
    full_network: KTDN, published_weights: dict[str, Tensor], tmp_path: Path
) -> None:
    full_network.load_state_dict(from_published(published_weights))
    torch.save(to_published(full_network.state_dict()), tmp_path / "ours.pth")
    with torch.no_grad():
        for value in full_network.state_dict().values():
            value.zero_()
    load_published(full_network, tmp_path / "ours.pth")
    assert_holds(full_network, published_weights)


def test_recognised_by_its_layers(published_weights: dict[str, Tensor], full_network: KTDN) -> None:
    assert is_published(published_weights)
    assert is_published({f"module.{key}": value for key, value in published_weights.items()})
    assert not is_published(full_network.state_dict())


def test_file_in_another_layout(tmp_path: Path) -> None:
    network = KTDN("test_resnet")
    torch.save({"params": network.state_dict()}, tmp_path / "own.pth")
    with pytest.raises(KTDNError, match=r"own\.pth: not in the published KTDN layout") as caught:
        load_published(network, tmp_path / "own.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("load", [load_published, load_weights])
def test_network_with_another_encoder(published_weights: dict, load, tmp_path: Path) -> None:
    network = KTDN("test_resnet")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.save({"model": published_weights}, tmp_path / "KTDN.pth")
    with pytest.raises(KTDNError, match=r"a checkpoint of a different network") as caught:
        load(network, tmp_path / "KTDN.pth")
    assert "\n" not in str(caught.value)
    assert "such as" in str(caught.value)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_published_file_that_lacks_a_layer(
    full_network: KTDN, published_weights: dict[str, Tensor], tmp_path: Path
) -> None:
    content = {key: v for key, v in published_weights.items() if not key.startswith("attention2.")}
    torch.save({"model": content}, tmp_path / "KTDN.pth")
    with pytest.raises(KTDNError, match=r"12 of 988 entries are missing \(such as fam4"):
        load_published(full_network, tmp_path / "KTDN.pth")
