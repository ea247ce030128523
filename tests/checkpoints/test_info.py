"""``ktdn info``: what it tells of every layout, and in one line of everything else."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from checkpoint_files import (
    BAD,
    METADATA,
    bad_file,
    described_network,
    network,
    published_file,
    training_state,
    with_metadata,
)

from ktdn_plugin import cli
from ktdn_plugin.checkpoints.convert import convert
from ktdn_plugin.checkpoints.info import describe_checkpoint
from ktdn_plugin.checkpoints.networks import OPTIONS


def info(capsys: pytest.CaptureFixture, *words: object) -> tuple[int, str, list[str]]:
    capsys.readouterr()
    code = cli.main(["info", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err.splitlines()


def rows(text: str) -> dict[str, str]:
    return dict(line.strip().split("  ", 1) for line in text.splitlines() if line.startswith("  "))


def test_what_a_training_saved(tmp_path: Path, run) -> None:
    path = with_metadata(tmp_path)
    done = run("info", path.name)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    head, *lines = done.stdout.splitlines()
    assert head == path.name
    parameters = sum(parameter.numel() for parameter in described_network().parameters())
    size = path.stat().st_size / 2**20
    assert [" ".join(line.split()) for line in lines] == [
        f"size on disk {size:.4g} MiB",
        "layout ours (BasicSR's), params and params_ema",
        "architecture KTDN",
        "encoder test_convnext",
        "reduction 4",
        "head affine",
        "widths 64, 32, 36",
        f"parameters {parameters:,d}",
        "dtype float32",
        "input RGB in [0, 1], any size",
        "mean 0.5, 0.25, 0.125",
        "std 0.2, 0.3, 0.4",
        "trained with ktdn-plugin 0.1.0, BasicSR 1.4.2",
        "run trained, teacher stage",
        "iteration 40 of 50",
        "trained on train: split nh-train, 45 images, fingerprint ab12",
        "validated on val: unnamed split, 5 images",
        "last figures val: psnr 21.0625, ssim 0.7500 (iteration 40)",
        "best figures val: psnr 21.5000 (iteration 30)",
    ]


@pytest.mark.parametrize(
    ("name", "to", "layout"),
    [
        ("a.pth", "mmengine", "mmengine's, params and params_ema"),
        ("a.safetensors", None, "safetensors, params (averaged)"),
        ("a.pth", "ktdn", "ours (BasicSR's), params and params_ema"),
    ],
)
def test_layouts_tell_the_same(
    name: str, to: str | None, layout: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = with_metadata(tmp_path)
    convert(source, tmp_path / name, to, overwrite=True)
    first, second = (rows(info(capsys, path)[1]) for path in (source, tmp_path / name))
    assert second.pop("layout").strip() == layout
    assert {**second, "size on disk": ""} == {
        key: value for key, value in ({**first, "size on disk": ""}).items() if key != "layout"
    }


def test_the_published_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code, out, _ = info(capsys, published_file(tmp_path))
    found = {key: value.strip() for key, value in rows(out).items()}
    assert code == 0
    assert found["layout"] == "published (KTDN's authors'), params"
    assert found["encoder"] == "res2net101d (inferred from the weights)"
    assert found["parameters"] == "49,351,730"  # the published count less 200 that are never used
    assert found["mean"] == "0.64, 0.6, 0.58 (the default; the file has none)"
    assert found["training"] == "not recorded in the file"


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, state = with_metadata(tmp_path), training_state(tmp_path)
    torch.save(network().half().state_dict(), tmp_path / "bare.pth")
    code, out, err = info(capsys, path, state, tmp_path / "bare.pth", "--json")
    assert (code, err) == (0, [])
    first, second, third = json.loads(out)
    assert first["metadata"] == METADATA
    assert first["network"] == METADATA["network"]
    assert first["weights"] == ["params", "params_ema"]
    assert first["from_metadata"] == sorted(OPTIONS)
    assert first["bytes"] == path.stat().st_size
    assert second["kind"] == "training state"
    assert "models/net_g_40.pth" in second["note"]
    assert (third["layout"], third["dtype"]) == ("bare", "float16")
    assert (first["found"], third["found"]) == ([], sorted(OPTIONS))
    assert (third["network"]["head"], third["network"]["widths"]) == ("tanh", None)
    assert third["from_metadata"] == []
    assert third["metadata"] == {}


def test_numbers_that_json_has_no_name_for(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    figures = {"last": {"val": {"iteration": 1, "figures": {"psnr": math.inf, "ssim": math.nan}}}}
    content = {"params": network().state_dict(), "ktdn": {"metrics": figures}}
    torch.save(content, tmp_path / "net.pth")
    out = info(capsys, tmp_path / "net.pth", "--json")[1]
    last = json.loads(out, parse_constant=pytest.fail)[0]["metadata"]["metrics"]["last"]
    assert last["val"]["figures"] == {"psnr": "inf", "ssim": "nan"}
    assert "psnr inf, ssim nan" in info(capsys, tmp_path / "net.pth")[1]


def test_an_encoder_that_cannot_be_identified(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torch.save(network(encoder="test_efficientnet_ln").state_dict(), tmp_path / "net.pth")
    code, out, _ = info(capsys, tmp_path / "net.pth")
    assert code == 0
    assert "encoder       unknown, see note" in out
    assert "none of the usual encoders has exactly these" in out
    assert "--encoder NAME" in out
    assert describe_checkpoint(tmp_path / "net.pth")["network"]["encoder"] is None


@pytest.mark.parametrize("name", BAD)
def test_one_line_of_everything_else(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    bad, good = bad_file(tmp_path, name), with_metadata(tmp_path)
    code, out, err = info(capsys, bad, good)
    assert code == 1
    assert out.splitlines()[0] == str(good)  # one bad file does not stop the rest
    (line,) = err
    assert line.startswith(f"error: {bad}: ")
    assert BAD[name][1] in line
    assert not (tmp_path / "marker").exists()


def test_several_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code, out, err = info(capsys, tmp_path / "none.pth", tmp_path, bad_file(tmp_path, "text.pth"))
    assert (code, out) == (1, "")
    assert len(err) == 3
    assert all(line.startswith("error: ") for line in err)
    assert "no such checkpoint file" in err[0]


@pytest.mark.parametrize(
    "metadata",
    [
        {"run": 3, "data": [], "metrics": "x"},
        {"run": {"name": None}, "data": {"train": 4, "val": [1, {}]}},
        {"metrics": {"last": {"a": 1}, "best": [2]}},
        {"metrics": {"best": {"val": {"psnr": 3}}, "last": {"val": {"figures": {"psnr": "high"}}}}},
        {"toolbox": ["a"], "ktdn_plugin": 3.5, "something": {"else": True}},
    ],
)
def test_metadata_of_another_program(
    metadata: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torch.save({"params": network().state_dict(), "ktdn": metadata}, tmp_path / "net.pth")
    assert info(capsys, tmp_path / "net.pth")[0] == 0
    assert info(capsys, tmp_path / "net.pth", "--json")[0] == 0


def test_words_that_would_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    metadata = {"run": {"name": "a\x1b[2J\nerror: b"}}
    torch.save({"params": network().state_dict(), "ktdn": metadata}, tmp_path / "net.pth")
    out = info(capsys, tmp_path / "net.pth")[1]
    assert "a\\x1b[2J\\nerror: b" in out
    assert "\x1b" not in out


def test_an_encoder_that_is_a_guess(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "net.pth"
    torch.save(network(encoder="resnet18", mean=(0.5, 0.5, 0.5)).state_dict(), path)
    convert(path, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    convert(path, tmp_path / "named.pth", encoder="resnet18")
    for name, end in (
        ("net.pth", " (the default; the file has none)"),
        ("a.safetensors", " (the default; the file was converted from one that has none)"),
        ("b.pth", " (the default; the file was converted from one that has none)"),
    ):
        code, out, err = info(capsys, tmp_path / name)
        assert (code, err) == (0, [])
        found = {key: value.strip() for key, value in rows(out).items()}
        assert found["encoder"] == "resnet18 (inferred from the weights)"
        assert found["reduction"] == "8 (inferred from the weights)"
        assert found["head"] == "tanh (inferred from the weights)"
        assert "widths" not in found
        assert found["mean"] == "0.64, 0.6, 0.58" + end
        assert "resnet18 is used, though resnetblur18 would fit as well" in found["note"]
        assert found["training"] == "not recorded in the file"
        (told,) = json.loads(info(capsys, tmp_path / name, "--json")[1])
        assert told["from_metadata"] == []
        assert told["found"] == sorted(OPTIONS)
        assert "resnetblur18" in told["note"]
    (told,) = json.loads(info(capsys, tmp_path / "named.pth", "--json")[1])
    assert (told["from_metadata"], "note" in told) == (["encoder"], False)
    assert told["metadata"]["found"] == [key for key in OPTIONS if key != "encoder"]


def test_names_with_line_breaks(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    none, good = tmp_path / "a\nerror: b\x1b[2J.pth", tmp_path / "c\nd.pth"
    with_metadata(tmp_path).rename(good)
    code, out, err = info(capsys, none, good, tmp_path / "none.pth")
    assert code == 1
    assert out.splitlines()[0] == f"{tmp_path}/c\\nd.pth"
    assert err == [
        f"error: {tmp_path}/a\\nerror: b\\x1b[2J.pth: no such checkpoint file",
        f"error: {tmp_path}/none.pth: no such checkpoint file",
    ]
