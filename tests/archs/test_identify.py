"""The encoder and the reduction, found from weights alone."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import Tensor

from ktdn_plugin import KTDN, KTDNError
from ktdn_plugin.checkpoints import Checkpoint, identify
from ktdn_plugin.checkpoints.identify import (
    are_the_same,
    digest_of,
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


def test_backbones_that_compute_the_same() -> None:
    # They differ in the classifier alone.
    assert shapes_of("mobilenetv1_100") == shapes_of("mobilenetv1_100h")
    weights = weights_of("mobilenetv1_100h")
    assert find_encoders(weights) == ("mobilenetv1_100",)
    assert are_the_same("mobilenetv1_100", "mobilenetv1_100h", weights)


def test_backbones_that_do_not() -> None:
    assert shapes_of("test_efficientnet_gn") == shapes_of("test_efficientnet_ln")
    with pytest.raises(KTDNError, match="fit several encoders, which compute different") as caught:
        network_options(weights_of("test_efficientnet_ln"))
    assert "test_efficientnet_gn, test_efficientnet_ln; say" in str(caught.value)
    assert "--encoder NAME" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_same_encoder_or_another() -> None:
    weights = weights_of("resnet18")
    assert are_the_same("resnet18", "resnet18.a1_in1k", weights)
    assert not are_the_same("resnet18", "resnetblur18", weights)
    assert not are_the_same("resnet18", "resnet34", weights)
    assert not are_the_same("resnet18", "no_such_model", weights)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite(value: float) -> None:
    weights = weights_of("resnet18")
    weights["encoder.body.layer1.0.conv1.weight"][0, 0, 0, 0] = value
    with pytest.raises(KTDNError, match="its weights are not finite") as caught:
        find_encoders(weights)
    assert "such as encoder.body.layer1.0.conv1.weight" in str(caught.value)
    assert "(resnet18 or resnetblur18)" in str(caught.value)
    # Where one encoder alone has such layers, nothing needs to be computed.
    weights = weights_of("test_convnext")
    weights["encoder.body.stem_0.weight"][0] = value
    assert find_encoders(weights) == ("test_convnext",)


def test_features_that_are_not_finite() -> None:
    weights = weights_of("resnet18")
    weights["encoder.body.bn1.running_var"][:] = -1.0
    with pytest.raises(KTDNError, match="give features that are not finite"):
        find_encoders(weights)


def test_the_usual_one_is_taken() -> None:
    assert find_encoders(weights_of("resnet18")) == ("resnet18", "resnetblur18")
    assert identify._usual(["resnetaa50d", "resnet50d"]) == "resnet50d"
    assert identify._usual(["resnet50d", "efficientnet_b0"]) is None
    assert identify._usual(["efficientnet_b0", "efficientnet_blur_b0"]) is None


def test_no_backbone_has_such_layers() -> None:
    weights = weights_of("test_resnet")
    weights["encoder.body.conv1.weight"] = torch.zeros(7, 3, 3, 3)
    with pytest.raises(KTDNError, match=f"no encoder of timm {timm.__version__} has just these"):
        find_encoders(weights)


def test_a_timm_that_was_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """New models are looked at; all of them where those of another version have changed."""
    wanted = weights_of("test_resnet")
    monkeypatch.setattr(timm, "list_models", lambda: ["test_resnet", "test_vit", "test_convnext"])
    identify._same_shapes.cache_clear()
    for known in (
        identify._Known(timm.__version__, {}, frozenset(["test_convnext"])),
        identify._Known("0.0", {}, frozenset(["test_convnext", "test_resnet", "test_vit"])),
    ):
        monkeypatch.setattr(identify, "_known", lambda known=known: known)
        assert find_encoders(wanted) == ("test_resnet",)
        identify._same_shapes.cache_clear()
    known = identify._Known(timm.__version__, {}, frozenset(["test_resnet"]))
    monkeypatch.setattr(identify, "_known", lambda: known)
    with pytest.raises(KTDNError, match="no encoder of timm"):
        find_encoders(wanted)
    identify._same_shapes.cache_clear()


def test_the_table_is_that_of_the_timm_it_names() -> None:
    known = identify._known()
    for name in ("res2net101d", "resnet34", "convnext_atto", "test_efficientnet", "edgenext_small"):
        shapes = shapes_of(name)
        assert shapes is not None
        assert name in known.encoders[digest_of(shapes)]
    if timm.__version__ == known.timm:
        assert known.names == set(timm.list_models())
    every = [name for names in known.encoders.values() for name in names]
    assert len(every) == len(set(every)) > 500
    assert "test_vit" not in every
    assert shapes_of("test_vit") is None


def test_nothing_is_drawn_or_changed() -> None:
    weights = weights_of("mobilenetv1_100")
    state = torch.random.get_rng_state()
    before = {key: value.clone() for key, value in weights.items()}
    identify._same_shapes.cache_clear()
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
         "another network than KTDN (its 2 entries are in conv_first, body)"),
        (lambda w: {f"layer{i}.weight": torch.ones(1) for i in range(9)},
         "(its 9 entries are in layer0, layer1, layer2, layer3, layer4, layer5, ...)"),
        (lambda w: {}, "holds no network's weights"),
        (lambda w: {"adapters.mid.weight": torch.ones(1)}, "the adapters of a training"),
        (lambda w: {k: v for k, v in w.items() if not k.startswith("encoder.")},
         "no whole KTDN: it lacks the encoder"),
        (lambda w: {k: v for k, v in w.items() if not k.startswith("fam8.")},
         "no whole KTDN: it lacks 'fam8.conv1.weight'"),
        (lambda w: {k: v for k, v in w.items() if "fam4.channel" not in k},
         "no whole KTDN: it lacks 'fam4.channel_attention.attention.0.weight'"),
        (lambda w: {k: v for k, v in w.items() if "fam8.conv1" not in k},
         "no whole KTDN: it lacks 'fam8.conv1.weight'"),
        (lambda w: {k: v for k, v in w.items() if "tail" not in k},
         "no whole KTDN: it lacks 'tail.1.weight'"),
        (lambda w: w | {"tail.1.weight": torch.ones(4, 3, 7, 7)},
         "its last convolution has 4 channels, not 3 (tanh) or 6 (affine)"),
        (lambda w: w | {"fam4.channel_attention.attention.0.weight": torch.ones(99, 2, 1, 1)},
         "the bottlenecks of its attentions are"),
    ],
)  # fmt: skip
def test_what_is_no_ktdn(edit, words: str) -> None:
    with pytest.raises(KTDNError) as caught:
        network_options(edit(shapes_without_numbers("test_resnet")))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
