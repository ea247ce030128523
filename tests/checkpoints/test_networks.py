"""A network from a file alone, in any layout; and what is said of files that hold none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoint_files import (
    BAD,
    bad_file,
    described_network,
    network,
    published_file,
    published_weights,
    training_state,
    with_metadata,
)
from helpers import ENCODER
from safetensors.torch import save_file
from torch import Tensor

from ktdn_plugin import KTDN, KTDNError, load_network, to_published
from ktdn_plugin.checkpoints.info import describe_checkpoint
from ktdn_plugin.storage.published_keys import from_published

Weights = dict[str, Tensor]


def _params(weights: Weights, folder: Path) -> Path:
    torch.save({"params": weights}, folder / "net.pth")
    return folder / "net.pth"


def _averaged(weights: Weights, folder: Path) -> Path:
    other = {key: torch.zeros_like(value) for key, value in weights.items()}
    torch.save({"params": other, "params_ema": weights}, folder / "net.pth")
    return folder / "net.pth"


def _bare(weights: Weights, folder: Path) -> Path:
    torch.save({f"module.{key}": value for key, value in weights.items()}, folder / "net.pth")
    return folder / "net.pth"


def _safetensors(weights: Weights, folder: Path) -> Path:
    save_file(weights, folder / "net.safetensors")
    return folder / "net.safetensors"


def _misnamed_safetensors(weights: Weights, folder: Path) -> Path:
    return _safetensors(weights, folder).rename(folder / "net.pth")


def _misnamed_archive(weights: Weights, folder: Path) -> Path:
    return _params(weights, folder).rename(folder / "net.safetensors")


def _mmengine(weights: Weights, folder: Path) -> Path:
    own = {f"student.{key}": value for key, value in weights.items()}
    trained = {f"module.{key}": torch.zeros_like(value) for key, value in own.items()}
    content = {"meta": {"iter": 3}, "state_dict": own | {"transfer_loss.a": torch.ones(1)}}
    torch.save({**content, "ema_state_dict": {**trained, "steps": torch.tensor(3)}}, folder / "x")
    return folder / "x"


def _half(weights: Weights, folder: Path) -> Path:
    return _params({key: v.half() if v.is_floating_point() else v for key, v in weights.items()},
                   folder)  # fmt: skip


LAYOUTS = (
    _params, _averaged, _bare, _safetensors, _misnamed_safetensors, _misnamed_archive, _mmengine,
)  # fmt: skip


@pytest.mark.parametrize("write", LAYOUTS)
def test_any_layout(write: Callable[[Weights, Path], Path], tmp_path: Path) -> None:
    wanted = network(3)
    loaded = load_network(write(wanted.state_dict(), tmp_path))
    assert type(loaded) is KTDN
    assert not loaded.training
    assert list(loaded.state_dict()) == list(wanted.state_dict())
    assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))
    x = torch.rand(1, 3, 33, 47)
    assert torch.equal(loaded(x), wanted(x))
    loaded(x).mean().backward()  # it can be trained on
    assert all(parameter.grad is not None for parameter in loaded.parameters())


PREFIXES = ("_orig_mod.", "module._orig_mod.", "model.", "net.", "generator.", "model.net_g.")


@pytest.mark.parametrize("published", [False, True])
def test_names_below_one_prefix(published: bool, tmp_path: Path) -> None:
    """What torch.compile, Lightning, GANs and others put before all names."""
    wanted = network(3)
    weights = wanted.state_dict()
    if published:
        weights = {k.removeprefix("module."): v for k, v in to_published(weights)["model"].items()}
    path = tmp_path / "net.pth"
    for number, prefix in enumerate(PREFIXES):
        inner = {f"{prefix}{key}": value for key, value in weights.items()}
        keys = ("params", "model_state_dict", "state_dict")
        content: object = {keys[number % 3]: inner, "params_ema": None} if number else inner
        torch.save(content, path)
        loaded = load_network(path, ENCODER)
        assert all(
            torch.equal(value, loaded.state_dict()[key])
            for key, value in wanted.state_dict().items()
        )
        assert describe_checkpoint(path)["weights"] == ["params"]
    compiled = {key.replace("encoder.", "encoder._orig_mod."): v for key, v in weights.items()}
    torch.save(compiled, path)
    load_network(path, ENCODER)
    torch.save({f"student.{k}": v for k, v in weights.items()} | {"teacher.x": torch.ones(1)}, path)
    fails(path, "a different network than KTDN")


def test_weights_of_another_kind(tmp_path: Path) -> None:
    weights = network().state_dict()
    key = "fam4.conv1.weight"
    path = tmp_path / "net.pth"
    for value, words in (
        (weights[key].to(torch.int8), f"(such as {key}: torch.int8 instead of torch.float32)"),
        (weights[key].to(torch.complex64), "torch.complex64 instead of torch.float32"),
        (weights[key].expand(10**6, *weights[key].shape), "holds expanded tensors"),
    ):
        torch.save({"params": {**weights, key: value}}, path)
        fails(path, words, encoder=ENCODER)
    squeezed = "fam4.channel_attention.attention.0.weight"
    torch.save({"params": {**weights, squeezed: torch.zeros(0, 10**12, 1, 1)}}, path)
    fails(path, f"'{squeezed}' has no values", encoder=ENCODER)
    torch.save({"params": {**weights, "mean": torch.zeros(10**6)}}, path)
    fails(path, "its 'mean' is (1000000,), not three numbers")


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    wanted = network(3)
    loaded = load_network(_half(wanted.state_dict(), tmp_path))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    for key, value in wanted.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.half().to(value.dtype))


def test_the_published_file(tmp_path: Path) -> None:
    loaded = load_network(published_file(tmp_path))
    wanted = from_published(published_weights())
    assert loaded.encoder.name == "res2net101d"
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, wanted[key]), key
        assert value.is_contiguous()  # numbers of its own where the file has a view
    assert loaded.mean.flatten().tolist() == pytest.approx([0.64, 0.6, 0.58])
    assert loaded.std.flatten().tolist() == pytest.approx([0.14, 0.15, 0.152])


def test_metadata_comes_first(tmp_path: Path) -> None:
    path = with_metadata(tmp_path)
    x = torch.rand(1, 3, 40, 40)
    assert torch.equal(load_network(path)(x), described_network(2)(x))
    assert torch.equal(load_network(path, param_key="params")(x), described_network(1)(x))
    assert load_network(path).mean.flatten().tolist() == [0.5, 0.25, 0.125]
    assert torch.equal(load_network(path).std, described_network().std)


def test_metadata_settles_which_encoder_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = network(encoder="resnet18").state_dict()
    torch.save({"params": weights}, tmp_path / "a.pth")
    described = {"network": {"type": "KTDN", "encoder": "resnetblur18"}}
    torch.save({"params": weights, "ktdn": described}, tmp_path / "b.pth")
    assert load_network(tmp_path / "b.pth").encoder.name == "resnetblur18"
    assert load_network(tmp_path / "b.pth", encoder="resnet18").encoder.name == "resnet18"
    assert load_network(tmp_path / "a.pth", "resnetblur18").encoder.name == "resnetblur18"
    assert not caplog.records
    assert load_network(tmp_path / "a.pth").encoder.name == "resnet18"
    assert len(caplog.records) == 1


@pytest.mark.parametrize("encoder", ["test_resnet", "swin_tiny_patch4_window7_224"])
def test_no_random_number_is_drawn(encoder: str, tmp_path: Path) -> None:
    """Swin has tensors that are in no checkpoint, and must not stay without numbers."""
    wanted = network(3, encoder=encoder)
    path = _params(wanted.state_dict(), tmp_path)
    state = torch.random.get_rng_state()
    loaded = load_network(path, encoder)
    assert torch.equal(torch.random.get_rng_state(), state)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(x), wanted(x))


def fails(path: Path, *words: str, **options: object) -> None:
    with pytest.raises(KTDNError) as caught:
        load_network(path, **options)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("name", BAD)
def test_files_without_a_network(name: str, tmp_path: Path) -> None:
    fails(bad_file(tmp_path, name), BAD[name][1])
    assert not (tmp_path / "marker").exists()


def test_no_file_a_folder_or_a_training_state(tmp_path: Path) -> None:
    fails(tmp_path / "none.pth", "no such checkpoint file")
    fails(tmp_path, "no such checkpoint file")
    fails(training_state(tmp_path), "a training state of iteration 40", "models/net_g_40.pth")


def test_another_encoder_than_it_has(tmp_path: Path) -> None:
    path = _params(network().state_dict(), tmp_path)
    fails(path, "do not fit KTDN with encoder 'test_resnet': ", encoder="test_resnet")
    fails(path, "'test_convnex' is not a timm model; did you mean", encoder="test_convnex")
    fails(path, "encoder '' is not a timm model", encoder="")
    assert load_network(path, ENCODER).encoder.name == ENCODER


@pytest.mark.parametrize(
    "described",
    [{"encoder": 3}, {"encoder": ""}, {"mean": [1, 2]}, {"mean": "abc"}, {"std": [1, 0, 1]},
     {"std": [1, float("nan"), 1]}, {"mean": [10**400] * 3}, {"encoder": "x" * 10**4},
     {"reduction": 0}, {"reduction": True}, {"reduction": 2.5}, {"head": "x"}, {"head": ["tanh"]},
     {"widths": [64, 32]}, {"widths": "abc"}, {"widths": [64, 0, 36]}, {"widths": 3}],
)  # fmt: skip
def test_values_that_cannot_be(described: dict, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    metadata = {"network": {"type": "KTDN", **described}}
    torch.save({"params": network().state_dict(), "ktdn": metadata}, path)
    fails(path, f"its metadata says {next(iter(described))}: ", "which is impossible")
    with pytest.raises(KTDNError) as caught:
        load_network(path)
    assert len(str(caught.value)) < len(str(path)) + 200


def test_metadata_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    for large in ([0.5] * 2**21, "x" * 2**21, [["x" * 2**14] * 64] * 64):
        torch.save({"params": network().state_dict(), "ktdn": {"run": large}}, path)
        fails(path, "what it has as 'ktdn' is not metadata")
    path = tmp_path / "net.safetensors"
    save_file(network().state_dict(), path, {"ktdn": json.dumps({"run": "x" * 2**21})})
    fails(path, "its metadata, 'ktdn', is too long")
