"""Converting checkpoints: bit for bit there and back, with the metadata, whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from checkpoint_files import (
    BAD,
    KEYS,
    METADATA,
    bad_file,
    described_network,
    network,
    published_file,
    published_weights,
    training_state,
    with_metadata,
)
from helpers import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from ktdn_plugin import KTDNError, cli, load_network
from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.checkpoints.convert import convert
from ktdn_plugin.checkpoints.networks import OPTIONS
from ktdn_plugin.storage.published_keys import DEAD

NAMES = {"ktdn": "a.pth", "mmengine": "b.pth", "safetensors": "c.safetensors"}


def metadata_of(path: Path) -> dict:
    return Checkpoint.read(path).metadata


def assert_weights(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Compares bit patterns: NaNs and zeros' signs as well."""
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        assert found[key].dtype == value.dtype, key
        assert found[key].shape == value.shape, key
        one, other = (x.contiguous().view(-1).view(torch.uint8) for x in (found[key], value))
        assert torch.equal(one, other), key


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(sorted(NAMES)), min_size=1, max_size=3), st.data())
def test_any_way_round_gives_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, way: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("way")
    weights = described_network().state_dict()
    # Any bits at all, in any type.
    kind = data.draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
    numbers = st.binary(min_size=8, max_size=8)
    for key, value in weights.items():
        if value.is_floating_point():
            weights[key] = value.to(kind)
    flat = weights["tail.1.weight"].view(-1).view(torch.uint8)
    flat[:8] = torch.tensor(list(data.draw(numbers)), dtype=torch.uint8)
    source = folder / "source.pth"
    torch.save({"params": weights, "ktdn": METADATA}, source)
    for number, layout in enumerate(way):
        target = folder / f"{number}{NAMES[layout]}"
        assert convert(source, target, layout).target == layout
        source = target
    assert_weights(
        {key: Checkpoint.read(source).weights[key] for key in weights}, weights
    )  # safetensors files have an order of their own
    assert metadata_of(source) == METADATA
    assert load_network(source).encoder.name == METADATA["network"]["encoder"]


def test_both_sets_of_weights_there_and_back(tmp_path: Path) -> None:
    source = with_metadata(tmp_path)
    convert(source, tmp_path / "mm.pth", "mmengine")
    content = torch.load(tmp_path / "mm.pth", weights_only=True)
    assert {key.split(".")[0] for key in content["state_dict"]} == {"generator"}  # a teacher's
    assert content["meta"]["iter"] == 40
    convert(tmp_path / "mm.pth", tmp_path / "back.pth")
    before, after = (torch.load(p, weights_only=True) for p in (source, tmp_path / "back.pth"))
    assert list(after) == ["params", "params_ema", "ktdn"]
    for key in ("params", "params_ema"):
        assert_weights(after[key], before[key])
    assert_same(after["ktdn"], before["ktdn"])


@pytest.mark.parametrize(
    ("param_key", "seed", "averaged"),
    [(None, 2, True), ("params_ema", 2, True), ("params", 1, False)],
)
def test_one_set_of_two(param_key: str, seed: int, averaged: bool, tmp_path: Path) -> None:
    source = with_metadata(tmp_path)
    convert(source, tmp_path / "one.safetensors", param_key=param_key)
    found = Checkpoint.read(tmp_path / "one.safetensors").weights
    wanted = described_network(seed).state_dict()
    assert_weights({key: found[key] for key in wanted}, wanted)
    assert metadata_of(tmp_path / "one.safetensors") == {**METADATA, "averaged": averaged}
    with safe_open(tmp_path / "one.safetensors", framework="pt") as file:
        assert file.metadata().keys() == {"format", "ktdn"}
        assert json.loads(file.metadata()["ktdn"])["run"] == METADATA["run"]


def test_param_key_alone_in_our_layout(tmp_path: Path) -> None:
    source = with_metadata(tmp_path)
    convert(source, tmp_path / "one.pth", param_key="params_ema")
    content = torch.load(tmp_path / "one.pth", weights_only=True)
    assert list(content) == ["params", "ktdn"]
    assert_weights(content["params"], described_network(2).state_dict())


def test_published_there_and_back(tmp_path: Path) -> None:
    """990 entries in their order, bit for bit, those that the network never uses as well."""
    source = published_file(tmp_path)
    before = torch.load(source, weights_only=True)
    made = convert(source, tmp_path / "ours.safetensors")
    assert made == ("published", "safetensors", "res2net101d", ("params",))
    assert len(Checkpoint.read(tmp_path / "ours.safetensors").weights) == 988
    convert(tmp_path / "ours.safetensors", tmp_path / "back.pth", "published")
    after = torch.load(tmp_path / "back.pth", weights_only=True)
    assert [key.removeprefix("module.") for key in after["model"]] == [
        *json.loads(KEYS.read_text())
    ]
    assert len(after["model"]) == 990
    assert_weights(after["model"], before["model"])
    assert set(after) == {"model", "ktdn"}
    assert set(after["ktdn"]) == {"network", "found"}


def test_published_as_it_is_written_without_its_unused_entries(tmp_path: Path) -> None:
    weights = {key: value.clone() for key, value in published_weights().items()}
    for key in DEAD:
        weights[key] = torch.full((100,), float(key.endswith("weight")))
    torch.save({"model": weights}, tmp_path / "KTDN.pth")
    convert(tmp_path / "KTDN.pth", tmp_path / "ours.pth")
    assert set(metadata_of(tmp_path / "ours.pth")) == {"network", "found"}
    convert(tmp_path / "ours.pth", tmp_path / "back.pth", "published")
    after = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    for key in DEAD:
        assert torch.equal(after[f"module.{key}"], weights[key])


def fails(*words: str, source: Path, target: Path, **options: object) -> None:
    before = {path: path.read_bytes() for path in target.parent.rglob("*") if path.is_file()}
    with pytest.raises(KTDNError) as caught:
        convert(source, target, **options)
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []
    after = {path: path.read_bytes() for path in target.parent.rglob("*") if path.is_file()}
    assert before == after


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder": "test_resnet"}, "encoder test_resnet, not res2net101d"),
        ({"reduction": 4}, "reduction 4, not 8"),
        ({"head": "affine"}, "head affine, not tanh"),
        ({"widths": (64, 32, 36)}, "widths [64, 32, 36], not None"),
        ({"mean": (0.5, 0.5, 0.5)}, "mean [0.5, 0.5, 0.5], not [0.64, 0.6, 0.58]"),
    ],
)
def test_what_the_published_layout_has_no_room_for(
    options: dict, words: str, tmp_path: Path
) -> None:
    made = network(**options)
    described = {key: list(v) if isinstance(v, tuple) else v for key, v in options.items()}
    metadata = {"network": {"type": "KTDN", **described}}
    torch.save({"params": made.state_dict(), "ktdn": metadata}, tmp_path / "net.pth")
    fails(
        "net.pth: the published network differs", words, "convert to ktdn, safetensors or",
        source=tmp_path / "net.pth", target=tmp_path / "new.pth", to="published",
    )  # fmt: skip


def test_invalid_targets(tmp_path: Path) -> None:
    source = with_metadata(tmp_path)
    other = tmp_path / "other.pth"
    other.write_bytes(b"mine")
    (tmp_path / "link.pth").symlink_to(source)
    (tmp_path / "folder.pth").mkdir()
    new = tmp_path / "new.pth"
    fails("other.pth: already exists", "--overwrite", source=source, target=other)
    for same in (source, tmp_path / "link.pth", tmp_path / "folder.pth" / ".." / source.name):
        fails("is the source itself", source=source, target=same, overwrite=True)
    fails("is a folder", source=source, target=tmp_path / "folder.pth", overwrite=True)
    fails("cannot be saved", source=source, target=tmp_path / "none" / "new.pth")
    fails(
        "'.bin', does not tell the layout", "--to ktdn", source=source, target=tmp_path / "new.bin"
    )
    fails("'', does not tell the layout", source=source, target=tmp_path / "new")
    fails("'safetensor' is not one of", "did you mean 'safetensors'", source=source, target=new,
          to="safetensor")  # fmt: skip
    fails("needs the suffix .safetensors", source=source, target=new,
          to="safetensors")  # fmt: skip
    fails("needs the suffix .pth", source=source, to="mmengine",
          target=tmp_path / "new.safetensors")  # fmt: skip
    fails("'ema' is not one of", source=source, target=new, param_key="ema")
    torch.save({"params": network().state_dict()}, other)
    fails("has no 'params_ema', only params", source=other, target=new, param_key="params_ema")
    fails("a training state of iteration 40", source=training_state(tmp_path), target=new)
    fails("do not fit KTDN with encoder", source=other, target=new, encoder="test_resnet")
    assert convert(source, other, overwrite=True).source == "ktdn"
    assert metadata_of(other) == METADATA


@pytest.mark.parametrize("name", BAD)
def test_invalid_sources(name: str, tmp_path: Path) -> None:
    source = bad_file(tmp_path, name)
    fails(f"{source}: ", BAD[name][1], source=source, target=tmp_path / "new.pth")
    assert not (tmp_path / "marker").exists()


def test_encoder_that_the_file_does_not_tell(tmp_path: Path) -> None:
    torch.save(network(encoder="test_efficientnet_ln").state_dict(), tmp_path / "net.pth")
    target = tmp_path / "new.safetensors"
    fails(
        "none of the usual encoders has exactly these",
        "--encoder NAME",
        source=tmp_path / "net.pth",
        target=target,
    )
    made = convert(tmp_path / "net.pth", target, encoder="test_efficientnet_ln")
    assert made.source == "bare"
    assert load_network(target).encoder.name == "test_efficientnet_ln"
    assert metadata_of(target)["found"] == [*OPTIONS[1:]]


def test_inferred_values_are_reported_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(network(encoder="resnet18").state_dict(), tmp_path / "net.pth")
    convert(tmp_path / "net.pth", tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth", "mmengine")
    assert metadata_of(tmp_path / "b.pth")["found"] == [*OPTIONS]
    caplog.clear()
    assert load_network(tmp_path / "b.pth").encoder.name == "resnet18"
    (record,) = caplog.records
    assert "resnet18 is used, though resnetblur18 would fit as well" in record.getMessage()
    convert(tmp_path / "b.pth", tmp_path / "c.pth", encoder="resnetblur18")
    assert metadata_of(tmp_path / "c.pth")["found"] == [*OPTIONS[1:]]
    assert load_network(tmp_path / "c.pth").encoder.name == "resnetblur18"
    assert len(caplog.records) == 1


def test_numbers_that_json_has_no_name_for(tmp_path: Path) -> None:
    figures = {"psnr": math.inf, "ssim": math.nan, "x": -math.inf, "y": 0.5}
    metrics = {"last": {"val": {"iteration": 1, "figures": figures}}}
    metadata = {**METADATA, "metrics": metrics, "run": {"name": "nan"}}
    source = with_metadata(tmp_path)
    torch.save({**torch.load(source), "ktdn": metadata}, source)
    convert(source, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        json.loads(file.metadata()["ktdn"], parse_constant=pytest.fail)
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    found = metadata_of(tmp_path / "b.pth")
    assert repr(found["metrics"]) == repr(metrics)
    assert found["run"] == {"name": "nan"}


def test_the_command(tmp_path: Path, run) -> None:
    source = with_metadata(tmp_path)
    done = run("convert", source, "net.safetensors", "--param-key", "params")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{source} (ktdn) -> net.safetensors (safetensors): KTDN with test_convnext, params\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.safetensors", source.name]
    assert torch.equal(
        Checkpoint.read(tmp_path / "net.safetensors").weights["tail.1.bias"],
        described_network(1).state_dict()["tail.1.bias"],
    )


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = with_metadata(tmp_path)
    assert cli.main(["convert", str(source), str(source), "--overwrite"]) == 1
    assert capsys.readouterr().err == (
        f"error: {source}: is the source itself; choose another file\n"
    )
