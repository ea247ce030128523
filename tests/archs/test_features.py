"""The features that knowledge transfer compares, and networks that compute only these."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ktdn_plugin import KTDN
from ktdn_plugin.archs.ktdn_arch import FEATURES

STRIDES = {"stage1": 4, "stage2": 8, "stage3": 16, "mid": 16}
ENCODERS = ("test_resnet", "test_convnext", "test_efficientnet")


@pytest.fixture(scope="module", params=ENCODERS)
def network(request: pytest.FixtureRequest) -> KTDN:
    torch.manual_seed(0)
    return KTDN(request.param).eval()


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 3, 50, 33, generator=torch.Generator().manual_seed(0))


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def assert_same(features: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(features) == list(expected)
    for name, value in expected.items():
        assert torch.equal(features[name], value), name


@torch.no_grad()
def test_names_and_shapes(network: KTDN, image: Tensor) -> None:
    features = network.forward_features(image)
    assert tuple(features) == FEATURES == tuple(STRIDES)
    for name, stride in STRIDES.items():
        assert features[name].shape[0] == 2
        # The image is padded to 64 x 48.
        assert features[name].shape[2:] == (64 // stride, 48 // stride)
    channels = tuple(features[f"stage{k}"].shape[1] for k in (1, 2, 3))
    assert channels == network.encoder.channels
    widened = -(-channels[2] // 4) * 4
    assert features["mid"].shape[1] == widened


@torch.no_grad()
def test_forward_gives_the_same_ones(network: KTDN, image: Tensor) -> None:
    output, features = network(image, return_features=True)
    assert torch.equal(output, network(image))
    assert_same(features, network.forward_features(image))


@torch.no_grad()
def test_chosen_ones_in_the_order_asked(network: KTDN, image: Tensor) -> None:
    every = network.forward_features(image)
    for names in (["mid"], ["stage2", "stage1"], ("mid", "stage1"), iter(["stage3"])):
        names = list(names)
        assert_same(network.forward_features(image, names), {name: every[name] for name in names})


@pytest.mark.parametrize(
    "names", [["stage1"], ["stage2"], ["stage3"], ["mid"], ["stage2", "stage1"], list(FEATURES)]
)
@torch.no_grad()
def test_extractor_is_equal_and_smaller(network: KTDN, image: Tensor, names: list[str]) -> None:
    extractor = network.feature_extractor(names).eval()
    assert_same(extractor(image), network.forward_features(image, names))
    kept = set(extractor.state_dict())
    assert not [key for key in kept if key.startswith(("fam8", "fam4", "em.", "tail."))]
    assert any(key.startswith("fam16.") for key in kept) == ("mid" in names)
    assert kept <= set(network.state_dict())
    assert parameters(extractor) < parameters(network)


@torch.no_grad()
def test_extractor_runs_no_deeper_than_it_must() -> None:
    network = KTDN("test_resnet").eval()
    sizes = [parameters(network.feature_extractor([name])) for name in FEATURES]
    assert sizes == sorted(set(sizes))
    shallow = set(network.feature_extractor(["stage1"]).state_dict())
    assert [key for key in shallow if ".layer1." in key]
    assert not [key for key in shallow if ".layer2." in key or ".layer3." in key]
    assert not [key for key in network.state_dict() if ".layer4." in key]

    ran = []
    extractor = network.feature_extractor(["stage2"])
    for name, module in extractor.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    extractor.eval()(torch.rand(1, 3, 32, 32))
    assert any(".layer2" in name for name in ran)
    assert not any(".layer3" in name for name in ran)


def test_extractor_shares_the_weights() -> None:
    network = KTDN("test_resnet")
    ours = dict(network.named_parameters())
    extractor = network.feature_extractor(["mid"])
    assert all(p is ours[name] for name, p in extractor.named_parameters())


def test_cut_encoder_keeps_mode_and_type_and_draws_no_random_numbers() -> None:
    network = KTDN("test_convnext").double().eval()
    before = torch.get_rng_state()
    extractor = network.feature_extractor(["stage1"])
    assert torch.equal(torch.get_rng_state(), before)
    assert not extractor.encoder.training
    assert extractor(torch.rand(1, 3, 32, 32).double())["stage1"].dtype == torch.float64


def test_unknown_name_gets_a_suggestion(network: KTDN, image: Tensor) -> None:
    for call in (
        lambda names: network.forward_features(image, names),
        network.feature_extractor,
    ):
        with pytest.raises(ValueError, match=r"no feature 'stage_1'; did you mean 'stage1'\?"):
            call(["mid", "stage_1"])
        with pytest.raises(ValueError, match=r"no feature 'xyz' \(it has stage1, .*mid\)"):
            call(["xyz"])
        with pytest.raises(ValueError, match="no features requested"):
            call([])
