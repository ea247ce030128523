"""KTDN's files in programs that load networks by spandrel, with the real package."""

from __future__ import annotations

import functools
import importlib
import json
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import spandrel
import torch
from helpers import ENCODER
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from spandrel import MAIN_REGISTRY, ImageModelDescriptor, ModelLoader
from spandrel import architectures as theirs
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.HAT import HAT
from spandrel.architectures.MixDehazeNet import MixDehazeNet
from spandrel.architectures.NAFNet import NAFNet
from spandrel.architectures.SwinIR import SwinIR

from ktdn_plugin import KTDN, KTDNError, to_published
from ktdn_plugin.checkpoints.convert import convert
from ktdn_plugin.checkpoints.info import describe_checkpoint
from ktdn_plugin.checkpoints.metadata import KEY
from ktdn_plugin.checkpoints.networks import load_network
from ktdn_plugin.spandrel import KTDNArchitecture, install, is_ktdn


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    install()


@pytest.fixture(scope="module")
def network() -> KTDN:
    return _network()


def _network(head: str = "tanh", widths: tuple[int, ...] | None = None) -> KTDN:
    torch.manual_seed(0)
    network = KTDN(ENCODER, head=head, widths=widths).eval()
    _stir(network)
    return network


def _stir(network: torch.nn.Module) -> None:
    """Makes a random network one whose every entry counts, and whose images are not black."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                noise = 0.02 * torch.randn_like(value)
                value.add_(noise.abs() if name.endswith("running_var") else noise)
        network.tail[1].bias.fill_(0.5)


def _image(height: int = 48, width: int = 64) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def _check_equal(model: ImageModelDescriptor, network: KTDN, tolerance: float = 1e-6) -> None:
    """Compares results; tensors that lie elsewhere in memory may change the last digit."""
    with torch.inference_mode():
        wanted = network(_image()).clamp(0, 1)
    assert wanted.std() > 0.005  # not all cut off
    assert torch.allclose(model(_image()), wanted, rtol=0, atol=tolerance)


def _mmengine_content(network: KTDN, **meta: object) -> dict:
    """A file's content as mmengine's Runner saves it, log included."""
    from mmengine.logging import HistoryBuffer, MessageHub

    hub = MessageHub.get_instance("test_spandrel")
    hub.update_scalar("train/loss", 0.5)
    assert isinstance(hub.log_scalars["train/loss"], HistoryBuffer)
    weights = {f"student.{key}": value for key, value in network.state_dict().items()}
    return {
        "meta": {"iter": 3, **meta},
        "state_dict": weights,
        "message_hub": hub.state_dict(),
        "optimizer": {"state": {}, "param_groups": []},
    }


def _contents(network: KTDN) -> dict[str, object]:
    weights = network.state_dict()
    other = {key: torch.zeros_like(value) for key, value in weights.items()}
    metadata = {"network": {"type": "KTDN", "encoder": ENCODER}, "run": {"name": "a run"}}
    wrapped = {f"module.{key}": value for key, value in weights.items()}
    published = to_published(weights)
    return {
        "bare.pth": weights,
        "params.pth": {"params": weights},
        "averaged.pth": {"params": other, "params_ema": weights},
        "metadata.pth": {"params": other, "params_ema": weights, KEY: metadata},
        "wrapped.pth": {"params": wrapped},
        "published.pth": published,
        "published_inner.pth": published["model"],
        "published_bare.pt": {k.removeprefix("module."): v for k, v in published["model"].items()},
        "bare.safetensors": weights,
        "published.safetensors": published["model"],
        "half.safetensors": {
            k: v.half() if v.is_floating_point() else v for k, v in weights.items()
        },
        "mmengine.pth": _mmengine_content(network),
        "mmengine.pt": _mmengine_content(network),
    }


NAMES = list(_contents(KTDN(ENCODER)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("head", "widths"), [("tanh", None), ("affine", (64, 32, 36))])
def test_every_file_loads(name: str, head: str, widths: object, tmp_path: Path) -> None:
    network = _network(head, widths)
    path = tmp_path / name
    content = _contents(network)[name]
    if name.endswith("safetensors"):
        save_file({key: value.contiguous() for key, value in content.items()}, path)
    else:
        torch.save(content, path)

    model = ModelLoader().load_from_file(path)
    assert isinstance(model, ImageModelDescriptor)
    assert model.architecture.id == "KTDN"
    assert type(model.model) is KTDN
    assert not model.model.training
    _check_equal(model, network, 1e-2 if name.startswith("half") else 1e-6)
    assert model.dtype == torch.float32


def test_what_is_declared(network: KTDN, tmp_path: Path) -> None:
    torch.save({"params": network.state_dict()}, tmp_path / "net_g.pth")
    model = ModelLoader("cpu").load_from_file(tmp_path / "net_g.pth")
    assert model.purpose == "Restoration"
    assert model.tags == [ENCODER]
    assert (model.scale, model.input_channels, model.output_channels) == (1, 3, 3)
    assert model.size_requirements.minimum == 32
    assert model.size_requirements.multiple_of == 16
    assert not model.size_requirements.square
    assert model.tiling == spandrel.ModelTiling.DISCOURAGED
    assert MAIN_REGISTRY["KTDN"].architecture.name == "KTDN"


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenetv4_conv_small", "convnext_atto"])
def test_small_encoders_are_found_from_the_weights(encoder: str, tmp_path: Path) -> None:
    network = KTDN(encoder, reduction=4).eval()
    _stir(network)
    torch.save({"params": network.state_dict()}, tmp_path / "net_g.pth")
    model = ModelLoader().load_from_file(tmp_path / "net_g.pth")
    assert model.tags == [encoder]
    _check_equal(model, network)


def test_the_published_networks_own_encoder(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = KTDN().state_dict()
    weights = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in shapes.items()}
    weights["fam16.conv1.weight"].uniform_()
    torch.save(to_published(weights), tmp_path / "KTDN.pth")
    model = ModelLoader().load_from_file(tmp_path / "KTDN.pth")
    assert model.tags == ["res2net101d"]
    assert torch.equal(model.model.fam16.conv1.weight, weights["fam16.conv1.weight"])


@functools.cache
def _loaded() -> ImageModelDescriptor:
    return ModelLoader().load_from_state_dict(KTDN(ENCODER).state_dict())


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_any_size_gives_the_networks_own_output(height: int, width: int) -> None:
    model = _loaded()
    network = model.model
    with torch.inference_mode():
        own = network(_image(height, width))
    assert torch.equal(model(_image(height, width)), own.clamp(0, 1))


@pytest.mark.parametrize("kind", ["pth", "safetensors", "content", "mmengine content"])
def test_mean_and_std_of_the_metadata_are_kept(kind: str, tmp_path: Path) -> None:
    options = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    network = KTDN(ENCODER, **options).eval()
    _stir(network)
    metadata = {"network": {"type": "KTDN", "encoder": ENCODER, "reduction": 8, **options}}
    content = {"params": network.state_dict(), KEY: metadata}
    if kind == "pth":
        torch.save(content, tmp_path / "net_g.pth")
        model = ModelLoader().load_from_file(tmp_path / "net_g.pth")
    elif kind == "safetensors":
        header = {KEY: json.dumps(metadata)}
        save_file(network.state_dict(), tmp_path / "net_g.safetensors", metadata=header)
        model = ModelLoader().load_from_file(tmp_path / "net_g.safetensors")
    elif kind == "content":
        model = ModelLoader().load_from_state_dict(content)
    else:
        content = _mmengine_content(network, **{KEY: metadata})
        model = ModelLoader().load_from_state_dict(content)
    _check_equal(model, network)
    assert model.model.mean.flatten().tolist() == pytest.approx(options["mean"])
    assert model.model.std.flatten().tolist() == pytest.approx(options["std"])


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_what_a_program_saves_again_keeps_mean_and_std(kind: str, tmp_path: Path) -> None:
    options = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    network = KTDN(ENCODER, **options).eval()
    _stir(network)
    content = {"params": network.state_dict(), KEY: {"network": {"encoder": ENCODER, **options}}}
    model = ModelLoader().load_from_state_dict(content)
    path = tmp_path / f"saved.{kind}"
    if kind == "pth":
        torch.save(model.model.state_dict(), path)
    else:
        save_file(model.model.state_dict(), path)
    again = ModelLoader().load_from_file(path)
    _check_equal(again, network)
    assert again.model.state_dict().keys() == network.state_dict().keys() | {"mean", "std"}

    ours = load_network(path)
    assert torch.equal(ours.mean, network.mean)
    assert torch.equal(ours.std, network.std)
    assert ours.state_dict().keys() == network.state_dict().keys()
    described = describe_checkpoint(path)["network"]
    assert {key: described[key] for key in options} == options
    convert(path, tmp_path / "ours.pth")
    assert torch.equal(load_network(tmp_path / "ours.pth").mean, network.mean)
    wrong = {**model.model.state_dict(), "std": torch.zeros(1, 3, 1, 1)}
    with pytest.raises(KTDNError, match=r"says std: \[0.0, 0.0, 0.0\], which is impossible"):
        ModelLoader().load_from_state_dict(wrong)


def test_usual_mean_and_std_add_nothing_to_what_is_saved(network: KTDN) -> None:
    model = ModelLoader().load_from_state_dict(network.state_dict())
    assert model.model.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("value", [torch.zeros(3), [1, 2], "text", None, {"network": {}}])
def test_anything_may_lie_beside_the_weights(network: KTDN, value: object) -> None:
    model = ModelLoader().load_from_state_dict({**network.state_dict(), KEY: value})
    _check_equal(model, network)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("encoder", [ENCODER, "resnet18", "mobilenetv4_conv_small"])
def test_half_and_bfloat16_work_as_declared(encoder: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = KTDN(encoder).eval()
    _stir(network)
    model = ModelLoader().load_from_state_dict(network.state_dict())
    assert model.supports_half
    assert model.supports_bfloat16
    image = _image()
    exact = model(image)
    result = model.to(dtype)(image.to(dtype))
    assert result.dtype == dtype
    assert result.shape == exact.shape
    assert exact.std() > 0.005  # not all cut off
    assert (result.float() - exact).abs().max() < (0.03 if dtype == torch.bfloat16 else 0.005)


OTHERS = {
    "ESRGAN": lambda: ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=4),
    "Compact": lambda: Compact(num_feat=8, num_conv=2),
    "SwinIR": lambda: SwinIR(embed_dim=12, depths=[2], num_heads=[2], window_size=8, upscale=2),
    "HAT": lambda: HAT(embed_dim=12, depths=(2,), num_heads=(2,), window_size=8),
    "NAFNet": lambda: NAFNet(width=8, middle_blk_num=1, enc_blk_nums=[1], dec_blk_nums=[1]),
    "MixDehazeNet": lambda: MixDehazeNet(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_stay_theirs(name: str, tmp_path: Path) -> None:
    weights = OTHERS[name]().state_dict()
    assert not is_ktdn(weights)
    torch.save({"params": weights}, tmp_path / "other.pth")
    assert set(ModelLoader().load_state_dict_from_file(tmp_path / "other.pth")) == set(weights)
    finder = [s.architecture.id for s in MAIN_REGISTRY.architectures("detection")]
    found = next(
        i for i in finder if MAIN_REGISTRY[i].detect(spandrel.canonicalize_state_dict(weights))
    )
    assert found == name


def test_no_other_architecture_is_asked_before_ours_or_takes_our_files() -> None:
    order = [support.architecture.id for support in MAIN_REGISTRY.architectures("detection")]
    assert order[0] == "KTDN"
    assert len(order) > 30
    weights = KTDN(ENCODER).state_dict()
    for content in (weights, to_published(weights)["model"]):
        canonical = spandrel.canonicalize_state_dict(content)
        assert [i for i in order if MAIN_REGISTRY[i].detect(canonical)] == ["KTDN"]


def test_networks_that_come_with_the_package() -> None:
    model = ModelLoader().load_from_file("ktdn_tiny")
    assert isinstance(model.architecture, KTDNArchitecture)
    _check_equal(model, load_network("ktdn_tiny"))
    for load in (load_network, ModelLoader().load_from_file):
        with pytest.raises(KTDNError, match="ktdn_tini: no such checkpoint file"):
            load("ktdn_tini")


def test_installing_again_changes_nothing() -> None:
    before = list(MAIN_REGISTRY)
    methods = ModelLoader.load_state_dict_from_file, ModelLoader.load_from_state_dict
    install()
    assert list(MAIN_REGISTRY) == before
    assert (ModelLoader.load_state_dict_from_file, ModelLoader.load_from_state_dict) == methods
    assert sum(support.architecture.id == "KTDN" for support in MAIN_REGISTRY) == 1


def test_a_custom_registry() -> None:
    registry = spandrel.ArchRegistry()
    install(registry)
    model = ModelLoader(registry=registry).load_from_state_dict(KTDN(ENCODER).state_dict())
    assert isinstance(model.architecture, KTDNArchitecture)
    assert len(registry) == 1


def test_one_prefix_before_all_names(network: KTDN, tmp_path: Path) -> None:
    for prefix in ("_orig_mod.", "model.", "module.net."):
        weights = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
        _check_equal(ModelLoader().load_from_state_dict(weights), network)
        torch.save({"model_state_dict": weights, "params_ema": None}, tmp_path / "net.pth")
        _check_equal(ModelLoader().load_from_file(tmp_path / "net.pth"), network)


def test_hostile_files_do_not_reach_spandrels_reader(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "deep.pth", "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02}N" + b"\x85" * 10**6 + b"Ns.")
    with pytest.raises(KTDNError, match="nested more than 64 deep"):
        ModelLoader().load_from_file(tmp_path / "deep.pth")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pth")
        with pytest.raises(KTDNError, match="a pipe or a device"):
            ModelLoader().load_from_file(tmp_path / "pipe.pth")
    with pytest.raises(FileNotFoundError):
        ModelLoader().load_from_file(tmp_path / "none.pth")


class _Trap:
    """What a pickle may run when it is read."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("trapped"),))


def test_what_spandrel_refuses_stays_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"params": KTDN(ENCODER).state_dict(), "more": _Trap()}, "net_g.pth")
    with pytest.raises(pickle.UnpicklingError, match="forbidden"):
        ModelLoader().load_from_file("net_g.pth")
    other = _mmengine_content(KTDN(ENCODER))
    other["state_dict"] = OrderedDict(OTHERS["Compact"]().state_dict())
    torch.save(other, "other.pth")
    with pytest.raises(pickle.UnpicklingError, match="HistoryBuffer"):
        ModelLoader().load_from_file("other.pth")
    assert not Path("trapped").exists()
    with pytest.raises(ValueError, match="Unsupported model file extension"):
        ModelLoader().load_from_file("net_g.bin")
    with pytest.raises(spandrel.UnsupportedModelError):
        ModelLoader().load_from_state_dict({"layer.weight": torch.zeros(1)})


def test_a_damaged_ktdn_is_named(tmp_path: Path) -> None:
    weights = KTDN(ENCODER).state_dict()
    del weights["tail.1.weight"]
    torch.save({"params": weights}, tmp_path / "net_g.pth")
    with pytest.raises(
        KTDNError, match=r"net_g\.pth: not a complete KTDN: it lacks 'tail\.1\.weight'"
    ):
        ModelLoader().load_from_file(tmp_path / "net_g.pth")


def test_one_line_where_spandrel_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    monkeypatch.delitem(sys.modules, "ktdn_plugin.spandrel")
    with pytest.raises(KTDNError, match="pip install spandrel") as caught:
        importlib.import_module("ktdn_plugin.spandrel")
    assert len(str(caught.value).splitlines()) == 1


def test_the_stand_ins_are_spandrels_own() -> None:
    assert {name for name in OTHERS} <= set(vars(theirs))
