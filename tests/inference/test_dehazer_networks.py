"""Dehazer: checkpoints, KTDN as it is given, and networks that are not KTDN."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_dehazer import dehazer, network, photo
from torch import Tensor, nn

from ktdn_plugin import KTDN, KTDNError
from ktdn_plugin.inference import Dehazer
from ktdn_plugin.metrics import psnr, to_rgb8


def save(folder: Path, encoder: str = "test_resnet") -> Path:
    path = folder / "net.pth"
    torch.save({"params": KTDN(encoder).state_dict()}, path)
    return path


def test_checkpoints_by_their_path(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"params": network().state_dict()}, path)
    for name in (path, str(path)):
        assert np.array_equal(Dehazer(name, device="cpu")(photo()), dehazer()(photo()))


def test_inside_inference_mode(tmp_path: Path) -> None:
    with torch.inference_mode():
        inside = Dehazer(save(tmp_path), device="cpu", max_memory="100GB")
        other = Dehazer(network(), device="cpu")
        assert inside.needs(75, 110)
        assert other(torch.rand(3, 40, 50)).shape == (3, 40, 50)
        result = inside(photo())
    assert np.array_equal(result, inside(photo()))


def test_an_encoder_that_does_not_fit(tmp_path: Path) -> None:
    path = save(tmp_path)
    with pytest.raises(KTDNError, match=r"net\.pth") as raised:
        Dehazer(path, device="cpu", encoder="resnet18")
    assert "\n" not in str(raised.value)
    with pytest.raises(KTDNError, match="did you mean 'test_resnet'"):
        Dehazer(path, device="cpu", encoder="test_resnett")


def test_files_that_are_no_network(tmp_path: Path) -> None:
    with pytest.raises(KTDNError, match=r"none\.pth"):
        Dehazer(tmp_path / "none.pth", device="cpu")
    (tmp_path / "text.pth").write_text("no network")
    with pytest.raises(KTDNError, match=r"text\.pth"):
        Dehazer(tmp_path / "text.pth", device="cpu")


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    broken = copy.deepcopy(network())
    broken.fam8.conv1.bias.data[3] = float("nan")
    path = tmp_path / "net.pth"
    torch.save({"params": broken.state_dict()}, path)
    with pytest.raises(KTDNError, match=r"^\S*net\.pth: 'fam8\.conv1\.bias' contains NaN or"):
        Dehazer(path, device="cpu")
    with pytest.raises(KTDNError, match=r"^'fam8\.conv1\.bias' contains NaN"):
        Dehazer(broken, device="cpu")


def test_weights_that_overflow_on_the_way() -> None:
    broken = copy.deepcopy(network())
    for convolution in (broken.fam16.conv1, broken.fam16.conv2):
        convolution.weight.data.mul_(1e30)
    with pytest.raises(
        KTDNError, match="image has NaN or infinite values in precision float32"
    ) as raised:
        Dehazer(broken, device="cpu")(photo())
    assert "\n" not in str(raised.value)


def test_the_callers_network_stays_as_it_is() -> None:
    training = copy.deepcopy(network()).train()
    state = copy.deepcopy(training.state_dict())
    result = Dehazer(training, device="cpu", precision="bf16")(photo())
    assert np.array_equal(result, Dehazer(network(), device="cpu", precision="bf16")(photo()))
    assert all(module.training for module in training.modules())
    assert all(parameter.requires_grad for parameter in training.parameters())
    for key, value in training.state_dict().items():
        assert torch.equal(value, state[key]), key
    # And the other way round: training goes on, the dehazer keeps what it was given.
    training.tail[1].weight.data.zero_()
    assert dehazer()(photo()).std() > 5


def test_bf16_is_close() -> None:
    close = Dehazer(network(), device="cpu", precision="bf16")(photo())
    assert 35 < psnr(close, dehazer()(photo())) < 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device 'gpu' is not one of auto, cpu, cuda, mps"),
        ({"precision": "fp32"}, "precision 'fp32' is not one of float32, tf32, bf16, fp16; did"),
        ({"precision": "fp16"}, "precision fp16 is for GPUs"),
        ({"max_memory": "much"}, "max memory: 'much' is not a memory size; write it as 4GB"),
        ({"max_memory": 0}, "max memory: '0' is zero"),
        ({"encoder": "resnet18"}, "encoder: goes with a checkpoint's path"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(KTDNError, match=message) as raised:
        Dehazer(network(), **{"device": "cpu", **options})
    assert "\n" not in str(raised.value)


def test_options_are_looked_at_before_a_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(KTDNError, match="max memory"):
        Dehazer(tmp_path / "none.pth", device="cpu", max_memory="4XB")


class Other(nn.Module):
    """A network that looks at its neighbours, and notes in which mode it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.register_buffer("ran", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert x.dtype == self.conv.weight.dtype
        return self.conv(x).sigmoid()


@torch.no_grad()
def test_another_network() -> None:
    torch.manual_seed(0)
    other = Other()
    x = torch.from_numpy(photo().copy()).permute(2, 0, 1)[None].float() / 255
    wanted = to_rgb8(copy.deepcopy(other).eval()(x)[0])
    state = copy.deepcopy(other.state_dict())
    result = Dehazer(other, device="cpu")(photo())
    assert np.abs(result.astype(int) - wanted).max() <= 1
    assert (result != wanted).mean() < 0.001
    close = Dehazer(other, device="cpu", precision="bf16")(photo())
    assert psnr(close, wanted) > 35
    assert other.training
    assert other.conv.weight.dtype == torch.float32
    assert other.conv.weight.requires_grad
    assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())


def test_several_images_by_another_network() -> None:
    same = Dehazer(nn.Identity(), device="cpu")
    assert np.array_equal(same(photo()), photo())
    assert np.array_equal(same(np.stack([photo(), photo()]))[1], photo())


def test_what_only_ktdn_has() -> None:
    with pytest.raises(KTDNError, match="only for KTDN; other networks run on the whole"):
        Dehazer(Other(), device="cpu", max_memory="4GB")
    other = Dehazer(Other(), device="cpu")
    with pytest.raises(KTDNError, match="max_memory: only for KTDN"):
        other.max_memory = 10**9
    assert other.max_memory is None
    with pytest.raises(KTDNError, match="what another network than KTDN needs is not known"):
        other.needs(10, 10)


def test_another_network_that_makes_something_else() -> None:
    with pytest.raises(KTDNError, match=r"makes \(1, 3, 37, 55\) of \(1, 3, 75, 110\)"):
        Dehazer(nn.AvgPool2d(2), device="cpu")(photo())
    broken = nn.Conv2d(3, 3, 1)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(KTDNError, match="the network's image has NaN or infinite values"):
        Dehazer(broken, device="cpu")(photo())


def test_wrapped_networks_are_ktdn_too() -> None:
    wrapped = Dehazer(nn.DataParallel(network()), device="cpu", max_memory="100GB")
    assert (wrapped(photo()) == dehazer()(photo())).all()
