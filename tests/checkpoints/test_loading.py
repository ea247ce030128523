"""Loading into a network that is there: what the file says of its own has to agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from checkpoint_files import described_network, network, with_metadata
from helpers import ENCODER

from ktdn_plugin import KTDN, KTDNError, load_network, load_weights
from ktdn_plugin.checkpoints.convert import convert
from ktdn_plugin.checkpoints.networks import store_settings

SHAPED = {"reduction": 4, "head": "affine", "widths": (64, 32, 36)}
TOLD = {"encoder": ENCODER, "mean": (0.5, 0.25, 0.125), "std": (0.2, 0.3, 0.4), **SHAPED}


def refused(made: KTDN, path: Path, *words: str) -> None:
    before = {key: value.clone() for key, value in made.state_dict().items()}
    with pytest.raises(KTDNError) as caught:
        load_weights(made, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert [word for word in words if word not in message] == []
    assert all(torch.equal(before[key], value) for key, value in made.state_dict().items())


@pytest.mark.parametrize("layout", ["ktdn", "safetensors", "mmengine"])
def test_settings(layout: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.safetensors" if layout == "safetensors" else "a.pth")
    convert(with_metadata(tmp_path), path, layout)
    for dtype in (torch.float32, torch.float16, torch.float64):
        made = network(3, **TOLD).to(dtype)
        load_weights(made, path)
        assert torch.equal(made.tail[1].bias, described_network(2).tail[1].bias.to(dtype))
    refused(
        network(**{**TOLD, "mean": (0.64, 0.6, 0.58)}), path,
        "it says mean [0.5, 0.25, 0.125], and this network has [0.64, 0.6, 0.58]",
        "ktdn_plugin.load_network(path)",
    )  # fmt: skip
    refused(network(**SHAPED), path, "mean [0.5", "; std [0.2, 0.3, 0.4], and this network has")
    refused(network(**{**SHAPED, "reduction": 8}), path, "a different network than this KTDN with")


@pytest.mark.parametrize(
    ("own", "other", "words"),
    [
        ({"head": "affine"}, {}, "has head: tanh, this one head: affine; set head: tanh for the"),
        ({}, {"head": "affine", "widths": (64, 32, 36)}, "set head: affine for the network, or"),
        ({"widths": (64, 32, 36)}, {}, "has widths: null, this one widths: [64, 32, 36]; set wid"),
        ({}, {"widths": (64, 32, 36)}, "set widths: [64, 32, 36] for the network, or name another"),
    ],
)
def test_another_head_or_widths(own: dict, other: dict, words: str, tmp_path: Path) -> None:
    torch.save({"params": network(**other).state_dict()}, tmp_path / "net.pth")
    refused(network(**own), tmp_path / "net.pth", "a different network than this KTDN with", words)


def test_what_a_file_says_wrongly_of_its_head_and_widths(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    for told, words in (
        ({"head": "affine"}, "it says head affine, and this network has tanh"),
        ({"widths": [64, 32, 36]}, "it says widths [64, 32, 36], and this network has other ones"),
    ):
        torch.save({"params": network().state_dict(), "ktdn": {"network": told}}, path)
        refused(network(), path, words)


def test_encoders_of_the_same_layers(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    trained = network(encoder="resnet18")
    told = {"type": "KTDN", "encoder": "resnet18.a1_in1k"}
    torch.save({"params": trained.state_dict(), "ktdn": {"network": told}}, path)
    load_weights(network(1, encoder="resnet18"), path)
    refused(network(encoder="resnetblur18"), path,
            "encoder resnet18.a1_in1k, and this network has resnetblur18")  # fmt: skip


def test_a_reduction_that_the_weights_deny(tmp_path: Path) -> None:
    told = {"type": "KTDN", "reduction": 2}
    path = tmp_path / "net.pth"
    torch.save({"params": network().state_dict(), "ktdn": {"network": told}}, path)
    refused(network(), path, "it says reduction 2")


def test_guesses_are_not_binding(tmp_path: Path) -> None:
    """What a conversion has found is not the file's word."""
    torch.save(network(encoder="resnetblur18").state_dict(), tmp_path / "net.pth")
    convert(tmp_path / "net.pth", tmp_path / "a.pth")
    made = network(1, encoder="resnetblur18", mean=(0.5, 0.5, 0.5))
    load_weights(made, tmp_path / "a.pth")
    assert made.encoder.name == "resnetblur18"


def test_settings_among_the_weights(tmp_path: Path) -> None:
    """Programs that save state dicts and no metadata keep them so."""
    trained = described_network()
    store_settings(trained)
    path = tmp_path / "net.pth"
    torch.save({"params": trained.state_dict()}, path)
    load_weights(network(1, **TOLD), path)
    refused(network(**SHAPED), path, "it says mean [0.5, 0.25, 0.125]")
    assert torch.equal(load_network(path).mean, trained.mean)


def test_other_networks_and_files_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(network(**TOLD).state_dict(), path)
    load_weights(network(**SHAPED), path)
    torch.save({"params": torch.nn.Linear(2, 2).state_dict(), "ktdn": 3}, path)
    load_weights(torch.nn.Linear(2, 2), path)


@pytest.mark.parametrize("name", ["net.pt2", "net.pth", "net.onnx"])
def test_exported_networks(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    module, image = torch.nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, 8, 8)
    program = torch.export.export(module, (image,))
    if path.suffix == ".onnx":
        pytest.importorskip("onnxscript")
        torch.onnx.export(program, dynamo=True, verbose=False).save(path)
    else:
        torch.export.save(program, path if path.suffix == ".pt2" else tmp_path / "net.pt2")
        (tmp_path / "net.pt2").replace(path)
    kind = "ONNX" if path.suffix == ".onnx" else "torch.export"
    words = rf": an exported network \({kind}.*the checkpoint that it was exported from"
    with pytest.raises(KTDNError, match=re.escape(str(path)) + words) as caught:
        load_network(path)
    assert "\n" not in str(caught.value)
