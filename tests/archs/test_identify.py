"""The encoder and the reduction, found from weights alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ktdn_plugin import KTDN, KTDNError
from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.checkpoints.identify import (
    USUAL_ENCODERS,
    find_encoders,
    find_head,
    find_reduction,
    find_widths,
    fits_reduction,
    fits_widths,
    shapes_of,
)
from ktdn_plugin.checkpoints.networks import complete_options
from ktdn_plugin.variants import VARIANTS


def weights_of(encoder: str, reduction: int = 8) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return KTDN(encoder, reduction=reduction).state_dict()


def network_options(weights: dict[str, Tensor]) -> dict[str, object]:
    """What is found of a file that holds these weights and nothing else."""
    weights = Checkpoint({"params": weights}, "net.pth").select_ktdn()
    found = complete_options(weights, {}, "net.pth").options
    return {key: found[key] for key in ("encoder", "reduction")}


def shapes_without_numbers(encoder: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return KTDN(encoder).state_dict()


@pytest.mark.parametrize("reduction", [1, 3, 8])
@pytest.mark.parametrize("encoder", ["test_convnext", "test_resnet", "test_efficientnet"])
def test_small_networks(encoder: str, reduction: int) -> None:
    found = network_options(weights_of(encoder, reduction))
    assert found["encoder"] == encoder
    # Other numbers may give the very same widths; then it is the same network.
    assert KTDN(**found).state_dict().keys() == weights_of(encoder, reduction).keys()
    with torch.device("meta"):
        same = KTDN(**found).fam16.channel_attention.attention[0].weight.shape
        assert (
            same
            == KTDN(encoder, reduction=reduction).fam16.channel_attention.attention[0].weight.shape
        )


@pytest.mark.parametrize("encoder", [one.encoder for one in VARIANTS.values()])
def test_our_own_named_networks(encoder: str) -> None:
    weights = weights_of(encoder)
    assert network_options(weights) == {"encoder": encoder, "reduction": 8}
    assert find_encoders(weights)[1:] == (("resnetblur18",) if encoder == "resnet18" else ())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_layout(published_shapes: dict[str, tuple[int, ...]], prefix: str) -> None:
    weights = {
        prefix + key: torch.zeros(()).expand(shape) for key, shape in published_shapes.items()
    }
    if prefix:
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
    assert network_options(weights) == {"encoder": "res2net101d", "reduction": 8}


@pytest.mark.parametrize(
    "encoder", ["resnet18", "resnet50", "resnext50_32x4d", "efficientnet_b0", "test_convnext"]
)
def test_usual_encoders_are_as_the_table_says(encoder: str) -> None:
    shapes = shapes_of(encoder)
    assert shapes is not None
    usual = USUAL_ENCODERS[encoder]
    assert len(shapes) == usual.entries
    assert all(shapes_of(name) == shapes for name in usual.others)
    for name, other in USUAL_ENCODERS.items():
        if name != encoder and other.entries == usual.entries:
            assert shapes_of(name) != shapes


def test_the_usual_one_is_taken() -> None:
    assert find_encoders(weights_of("resnet18")) == ("resnet18", "resnetblur18")


def test_no_usual_backbone_has_such_layers() -> None:
    for weights in (weights_of("test_efficientnet_ln"), weights_of("test_resnet")):
        weights["encoder.body.conv1.weight"] = torch.zeros(7, 3, 3, 3)
        with pytest.raises(
            KTDNError, match="none of the usual encoders has exactly these"
        ) as caught:
            network_options(weights)
        assert "--encoder NAME" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_nothing_is_drawn_or_changed() -> None:
    weights = weights_of("mobilenetv1_100")
    state = torch.random.get_rng_state()
    before = {key: value.clone() for key, value in weights.items()}
    shapes_of.cache_clear()
    network_options(weights)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[key], value) for key, value in weights.items())


@pytest.mark.parametrize("reduction", [1, 2, 5, 8, 16, 64, 5000])
def test_reduction(reduction: int) -> None:
    with torch.device("meta"):
        weights = KTDN("test_convnext", reduction=reduction).state_dict()
        found = find_reduction(weights)
        again = KTDN("test_convnext", reduction=found).state_dict()
    assert {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in again.items()}
    assert found <= reduction or found == 8
    assert fits_reduction(weights, reduction)
    assert fits_reduction(weights, found)
    assert not fits_reduction(weights, 4)


@pytest.mark.parametrize("widths", [None, (64, 32, 36), (256, 128, 64), (4, 3, 15)])
@pytest.mark.parametrize("encoder", ["test_convnext", "resnet18"])
def test_head_and_widths(encoder: str, widths: tuple[int, ...] | None) -> None:
    with torch.device("meta"):
        for head in ("tanh", "affine"):
            weights = KTDN(encoder, head=head, widths=widths).state_dict()
            assert find_head(weights) == head
        found = find_widths(weights)
        again = KTDN(encoder, widths=found).state_dict()
    own = encoder == "resnet18" and widths == (256, 128, 64)  # what its features are already
    assert found == (None if widths is None or own else list(widths))
    assert {k: v.shape for k, v in weights.items() if k[:4] != "tail"} == {
        k: v.shape for k, v in again.items() if k[:4] != "tail"
    }
    assert fits_widths(weights, widths)
    assert fits_widths(weights, found)
    assert not fits_widths(weights, (64, 32, 52))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda w: {"conv_first.weight": torch.ones(1), "body.0.a": torch.ones(1)},
         "a different network than KTDN (its 2 entries are in conv_first, body)"),
        (lambda w: {f"layer{i}.weight": torch.ones(1) for i in range(9)},
         "(its 9 entries are in layer0, layer1, layer2, layer3, layer4, layer5, ...)"),
        (lambda w: {}, "contains no network weights"),
        (lambda w: {"adapters.mid.weight": torch.ones(1)}, "the adapters of a training"),
        (lambda w: {k: v for k, v in w.items() if not k.startswith("encoder.")},
         "not a complete KTDN: it lacks the encoder"),
        (lambda w: {k: v for k, v in w.items() if not k.startswith("fam8.")},
         "not a complete KTDN: it lacks 'fam8.conv1.weight'"),
        (lambda w: {k: v for k, v in w.items() if "fam4.channel" not in k},
         "not a complete KTDN: it lacks 'fam4.channel_attention.attention.0.weight'"),
        (lambda w: {k: v for k, v in w.items() if "fam8.conv1" not in k},
         "not a complete KTDN: it lacks 'fam8.conv1.weight'"),
        (lambda w: {k: v for k, v in w.items() if "tail" not in k},
         "not a complete KTDN: it lacks 'tail.1.weight'"),
        (lambda w: w | {"tail.1.weight": torch.ones(4, 3, 7, 7)},
         "its last convolution has 4 channels, not 3 (tanh) or 6 (affine)"),
        (lambda w: w | {"fam4.channel_attention.attention.0.weight": torch.ones(99, 2, 1, 1)},
         "the bottlenecks of its attentions are"),
    ],
)  # fmt: skip
def test_not_ktdn(edit, words: str) -> None:
    with pytest.raises(KTDNError) as caught:
        network_options(edit(shapes_without_numbers("test_resnet")))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
