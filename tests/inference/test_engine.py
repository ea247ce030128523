"""The engine in stripes of every height, against the plain network."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from golden_rule import GOLDEN, LAST_NORMS, draw_weights, published_weights
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ktdn_plugin import KTDN, KTDNError
from ktdn_plugin.inference import Dehazer
from ktdn_plugin.inference.engine import CELL, Engine, Heights
from ktdn_plugin.inference.frames import Frames
from ktdn_plugin.inference.preparation import check_finite
from ktdn_plugin.storage.published_keys import from_published

TOLERANCE = 1e-5
CPU = torch.device("cpu")
SIZES = st.integers(1, 150)


class Kind(NamedTuple):
    """An encoder, how its blocks' last batch norms are called, and which parts can be cut."""

    encoder: str
    last_norms: tuple[str, ...]
    cuts: tuple[bool, bool, bool]
    head: str = "tanh"
    widths: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        return self.encoder if self.head == "tanh" else self.head


KINDS = {
    kind.name: kind
    for kind in (
        Kind("test_resnet", ("bn2.weight",), (True, True, True)),
        Kind("resnet18", ("bn2.weight",), (True, True, True)),
        Kind("test_convnext", LAST_NORMS, (True, True, True)),
        Kind("test_efficientnet", LAST_NORMS, (True, True, False)),
        Kind("test_resnet", ("bn2.weight",), (True, True, True), "affine", (48, 20, 40)),
        # Squeeze and excitation in the second stage: of the whole image.
        Kind("ghostnet_050", LAST_NORMS, (True, False, False)),
    )
}


@functools.cache
def networks(name: str) -> tuple[KTDN, Engine]:
    kind = KINDS[name]
    network = KTDN(kind.encoder, head=kind.head, widths=kind.widths).eval()
    draw_weights(network, kind.last_norms)
    return network, Engine(network, CPU, torch.float32)


@functools.cache
def full() -> tuple[KTDN, Dehazer]:
    network = KTDN().eval()
    network.load_state_dict(from_published(published_weights()))
    return network, Dehazer(network, device="cpu")


def image(n: int, height: int, width: int) -> Tensor:
    values = np.random.RandomState(1000).random_sample((n, 3, height, width))
    return torch.from_numpy(values.astype(np.float32))


def every_kind(cuts: tuple[bool, bool, bool]) -> Iterator[Heights]:
    """Gives the whole, the lowest stripes, taller ones and those of each part alone."""
    for heights in (
        Heights(),
        Heights(32, 32, CELL),
        Heights(64, 32, 2 * CELL),
        Heights(128, 64, CELL),
        Heights(32, None, None),
        Heights(None, 32, 4 * CELL),
        Heights(64, 64, CELL, 16),
        Heights(None, 32, CELL, 48, recomputes=True),
    ):
        stage1, stage2, stage3 = (
            height if cut else None
            for cut, height in zip(
                cuts, (heights.stage1, heights.stage2, heights.stage3), strict=True
            )
        )
        recomputes = heights.recomputes and cuts[0]
        yield Heights(stage1, stage2, heights.decoder, stage3, recomputes)


def dehaze(engine: Engine, x: Tensor, heights: Heights) -> Tensor:
    """Runs the engine; makes sure that it gives each row once, from top to bottom."""
    frames = Frames(x, CPU)
    pieces, done = [], 0

    def emit(top: int, bottom: int, values: Tensor) -> None:
        nonlocal done
        assert top == done < bottom
        assert values.shape == (len(x), 3, bottom - top, frames.size[1])
        done = bottom
        pieces.append(values.clone())

    engine.run(frames.read, frames.size, emit, heights)
    assert done == frames.size[0]
    return torch.cat(pieces, dim=2)[:, :, : x.shape[2], : x.shape[3]]


def assert_same(network: KTDN, engine: Engine, x: Tensor, cuts: tuple[bool, bool, bool]) -> None:
    before, wanted = x.clone(), network(x)
    assert wanted.std() > 0.01 or wanted.numel() < 100
    for heights in dict.fromkeys(every_kind(cuts)):
        difference = (dehaze(engine, x, heights) - wanted).abs().max()
        assert difference <= TOLERANCE, (heights, difference)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_every_height_gives_the_plain_networks_image(name: str) -> None:
    network, engine = networks(name)
    cuts = tuple(engine.halo(number) is not None for number in range(3))
    assert cuts == KINDS[name].cuts

    @settings(max_examples=12 if KINDS[name].head == "tanh" else 4, deadline=None)
    @given(SIZES, SIZES, st.integers(1, 2))
    @example(1, 1, 1)
    @example(16, 150, 2)  # padded to 32: of no larger cell is anything left
    @example(80, 33, 1)  # the last stripe is 16 rows high, less than the largest cell
    @example(144, 47, 2)
    @example(150, 1, 1)
    def every_size(height: int, width: int, n: int) -> None:
        assert_same(network, engine, image(n, height, width), cuts)

    every_size()


@torch.no_grad()
def test_very_wide_and_very_high_images() -> None:
    network, engine = networks("test_resnet")
    for height, width in ((1, 3000), (3000, 1), (1000, 17)):
        assert_same(network, engine, image(1, height, width), (True, True, True))


@torch.no_grad()
def test_a_transformer_runs_whole_up_to_its_features() -> None:
    network = KTDN("swin_tiny_patch4_window7_224").eval()
    draw_weights(network)
    engine = Engine(network, CPU, torch.float32)
    assert engine.halo(0) is None
    for x in (image(1, 50, 90), image(2, 112, 30)):
        assert_same(network, engine, x, (False, False, False))


@torch.no_grad()
def test_the_full_network() -> None:
    network, dehazer = full()
    assert_same(network, dehazer._planner.engine, image(1, 105, 50), (True, True, True))


def test_the_recorded_outputs_of_the_published_network() -> None:
    with np.load(GOLDEN / "eval_64x96.npz") as arrays:
        wanted = torch.from_numpy(arrays["out"]).clamp(0, 1)
    result = full()[1](image(1, 64, 96))
    torch.testing.assert_close(result, wanted, rtol=0, atol=TOLERANCE)
    assert wanted.std() > 0.01


def test_the_network_that_is_given_stays_as_it_is() -> None:
    network = copy.deepcopy(networks("test_resnet")[0]).train()
    network.encoder.body.layer1.eval()  # frozen batch statistics
    state = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    layout = network.fam4.conv1.weight.stride()
    Engine(network, CPU, torch.bfloat16)
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert network.fam4.conv1.weight.stride() == layout
    after = network.state_dict()
    assert list(after) == list(state)
    for key, value in state.items():
        assert after[key].dtype == value.dtype
        assert torch.equal(after[key], value), key


def test_a_network_that_is_used_up_is_not_copied() -> None:
    network = KTDN("test_convnext").eval()
    weight = network.fam4.conv1.weight
    engine = Engine(network, CPU, torch.float32, uses_up=True)
    assert engine.fam4.conv1.weight is weight


@torch.no_grad()
def test_weights_of_five_dimensions_are_left_as_they_are() -> None:
    network = copy.deepcopy(networks("test_resnet")[0])
    network.fam4.register_parameter("other", nn.Parameter(torch.zeros(1, 2, 3, 1, 1)))
    engine = Engine(network, CPU, torch.float32)
    assert engine.fam4.other.stride() == (6, 3, 1, 1, 1)
    assert engine.fam4.conv1.weight.is_contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def test_half_precision_keeps_the_image_that_gain_and_offset_change() -> None:
    engine = Engine(KTDN("test_resnet", head="affine"), CPU, torch.bfloat16)
    x = image(1, 50, 40)
    for heights in every_kind((True, True, True)):
        assert torch.equal(dehaze(engine, x, heights), x)
    pixels = np.random.RandomState(0).randint(0, 65536, (1, 50, 40, 3)).astype(np.uint16)
    frames = Frames(pixels, CPU)
    engine.run(frames.read, frames.size, frames.write, Heights(32, 32, CELL))
    assert np.array_equal(frames.result, pixels)


@torch.no_grad()
def test_weights_in_half_precision_are_folded_in_float32() -> None:
    network = copy.deepcopy(networks("test_resnet")[0]).half()
    engine = Engine(network, CPU, torch.float32)
    x = image(1, 48, 64)
    difference = (dehaze(engine, x, Heights()) - network.float()(x)).abs().max()
    assert difference <= TOLERANCE
    assert next(network.parameters()).dtype == torch.float32  # changed by this test alone


@pytest.mark.parametrize(
    "name", ["fam4.conv1.weight", "encoder.body.bn1.running_var", "encoder.body.conv1.0.weight"]
)
def test_weights_that_are_no_numbers_are_named(name: str) -> None:
    network = copy.deepcopy(networks("test_resnet")[0])
    check_finite(network)
    network.state_dict()[name].view(-1)[0] = float("inf")
    with pytest.raises(KTDNError, match=rf"'{name}' contains NaN or infinity"):
        Engine(network, CPU, torch.float32)
