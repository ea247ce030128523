"""What checkpoints tell of themselves: plain values, the same in every layout."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import METADATA, assert_damage_is_one_error, network
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import nn

from ktdn_plugin import KTDN, KTDNError
from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.checkpoints.metadata import (
    describe_network,
    describe_training,
    find_metadata,
    iteration_of,
    network_of,
    stage_of,
)


def written(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


THREE = st.lists(
    st.floats(2.0**-20, 10, width=32, allow_subnormal=False), min_size=3, max_size=3
)  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(THREE, THREE)
def test_settings_come_back_as_they_were(mean: list[float], std: list[float]) -> None:
    with torch.device("meta"):
        made = KTDN("test_convnext", reduction=4)
    made.mean = torch.tensor(mean).view(1, 3, 1, 1)
    made.std = torch.tensor(std).view(1, 3, 1, 1)
    described = json.loads(json.dumps(describe_network(made)))
    assert described["reduction"] == 4
    assert torch.equal(torch.tensor(described["mean"]), made.mean.flatten())
    assert torch.equal(torch.tensor(described["std"]), made.std.flatten())


def test_networks() -> None:
    assert describe_network(network(encoder="test_resnet")) == {
        "type": "KTDN",
        "encoder": "test_resnet",
        "mean": [0.64, 0.6, 0.58],  # as it is written, not as float32 has it
        "std": [0.14, 0.15, 0.152],
        "reduction": 8,
        "head": "tanh",
        "widths": None,
    }
    described = describe_network(network(head="affine", widths=(64, 32, 36)))
    assert (described["head"], described["widths"]) == ("affine", [64, 32, 36])
    assert describe_network(nn.Linear(2, 2)) == {"type": "Linear"}


def test_only_plain_values(tmp_path: Path) -> None:
    described = describe_training(
        nn.Linear(2, 2),
        "toolbox 1",
        run={"iteration": np.int64(3), "name": Path("a"), 4: (1, 2)},
        metrics={"psnr": np.float64(20.5), "ssim": torch.tensor(0.5)},
    )
    assert json.loads(json.dumps(described)) == described
    assert described["run"] == {"iteration": 3, "name": "a", "4": [1, 2]}
    assert described["metrics"] == {"psnr": 20.5, "ssim": 0.5}
    assert type(described["metrics"]["psnr"]) is float
    torch.save({"ktdn": described}, tmp_path / "a.pth")
    assert torch.load(tmp_path / "a.pth", weights_only=True)["ktdn"] == described


def test_every_layout(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(1)}, path, {"ktdn": json.dumps(METADATA)})
    assert Checkpoint.read(path).metadata == METADATA
    save_file({"a": torch.ones(1)}, path)
    assert Checkpoint.read(path).metadata == {}
    path = tmp_path / "a.pth"
    torch.save(1, path)
    assert find_metadata({"params": {}, "ktdn": METADATA}, path) == METADATA
    assert find_metadata({"model": {}, "ktdn": METADATA}, path) == METADATA
    assert find_metadata({"meta": {"ktdn": METADATA}, "state_dict": {}}, path) == METADATA
    for content in ({"params": {}}, {"meta": {}, "state_dict": {}}, {"meta": 3, "state_dict": {}}):
        assert find_metadata(content, path) == {}


@pytest.mark.parametrize(
    "found", [3, "text", [1], {1: 2}, {"a": torch.ones(1)}, {"a": {"b": [{"c": (1, 2)}]}}]
)
def test_not_metadata(found: object, tmp_path: Path) -> None:
    with pytest.raises(KTDNError, match=r"a\.pth: what it has as 'ktdn' is not metadata"):
        find_metadata({"params": {}, "ktdn": found}, tmp_path / "a.pth")


@pytest.mark.parametrize("text", ["{", "[1]", "3", "[" * 100_000, '{"a": {"b": ' * 20 + "1"])
def test_headers_that_are_no_metadata(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(1)}, path, {"ktdn": text})
    with pytest.raises(KTDNError) as caught:
        find_metadata({}, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


WHOLE = {
    "a.safetensors": save({"a": torch.ones(1)}, {"ktdn": json.dumps(METADATA)}),
    "a.pth": written({"params": {"a": torch.ones(1)}, "ktdn": METADATA}),
}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(list(WHOLE)),
    st.lists(st.tuples(st.integers(0, 2**12), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_any_damage_is_one_error(name: str, damage: list[tuple[int, int]]) -> None:
    assert_damage_is_one_error(
        name,
        WHOLE[name],
        damage,
        lambda path: network_of(Checkpoint.read(path).metadata, path),
    )


def test_deep_nesting_is_no_metadata(tmp_path: Path) -> None:
    deep: dict = {}
    for _ in range(500):
        deep = {"a": deep}
    with pytest.raises(KTDNError, match="is not metadata"):
        find_metadata({"ktdn": deep}, tmp_path / "a.pth")


def test_parts() -> None:
    assert network_of({}, "a.pth") == {}
    assert network_of(METADATA, "a.pth") == {
        key: value for key, value in METADATA["network"].items() if key != "type"
    }
    with pytest.raises(KTDNError, match=r"a.pth: .* a different network than KTDN: SRVGGNet"):
        network_of({"network": {"type": "SRVGGNet"}}, "a.pth")
    with pytest.raises(KTDNError, match=r"a.pth: its metadata's 'network' is not a dictionary"):
        network_of({"network": "KTDN"}, "a.pth")
    assert (stage_of(METADATA), iteration_of(METADATA)) == ("teacher", 40)
    for metadata in ({}, {"run": 3}, {"run": {"stage": "x", "iteration": "y"}}):
        assert (stage_of(metadata), iteration_of(metadata)) == ("student", 0)
