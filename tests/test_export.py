"""Exported files: right on every size, runnable without this package, and whole or not there."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_png
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from preloaded import Command
from torch import Tensor

import ktdn_plugin.export as export_module
from ktdn_plugin import KTDN, KTDNError
from ktdn_plugin.cli import main
from ktdn_plugin.export import TOLERANCE, export_checkpoint
from ktdn_plugin.export.graph import record
from ktdn_plugin.export.onnx_file import OnnxFile
from ktdn_plugin.export.torch_file import METADATA, TorchFile
from ktdn_plugin.training.batch_norm import batch_norms

onnx = pytest.importorskip("onnx", reason="needs the extra 'export'")
pytest.importorskip("onnxscript", reason="needs the extra 'export'")
pytest.importorskip("onnxruntime", reason="needs the extra 'export'")

ENCODER = "test_resnet"
MEAN = (0.5, 0.4, 0.3)
SIZES = st.integers(1, 130)
CLOSE = 2e-6
FORMS = ("onnx", "pt2")


@functools.cache
def network() -> KTDN:
    torch.manual_seed(0)
    # The enhancing module has a tanh as well: the affine head is the one that adds to a graph.
    built = KTDN(ENCODER, mean=MEAN, head="affine", widths=(48, 20, 40)).eval()
    for parameter in built.tail.parameters():
        torch.nn.init.normal_(parameter, 0, 0.05)
    for norm in batch_norms(built):
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 1.5)
    return built


def image(height: int, width: int, count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(height + width)
    return torch.rand(count, 3, height, width, generator=generator)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, exported to both formats (one by the command), and what was said at that."""
    folder = tmp_path_factory.mktemp("export")
    options = {"type": "KTDN", "encoder": ENCODER, "mean": list(MEAN)}
    metadata = {"network": options}
    torch.save({"params": network().state_dict(), "ktdn": metadata}, folder / "net.pth")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        export_checkpoint(folder / "net.pth", folder / "net.onnx")
    (folder / "onnx.txt").write_text(said.getvalue(), encoding="utf-8")
    done = Command(["export", "net.pth", "-o", "net.pt2", "--torch"], folder, {}).wait(300)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    (folder / "pt2.txt").write_text(done.stdout, encoding="utf-8")
    made = ["net.onnx", "net.pt2", "net.pth", "onnx.txt", "pt2.txt"]
    assert sorted(path.name for path in folder.iterdir()) == made
    return folder


@pytest.fixture(scope="module")
def runners(folder: Path) -> dict[str, Callable[[Tensor], Tensor]]:
    return {
        "onnx": OnnxFile().runner((folder / "net.onnx").read_bytes()),
        "pt2": TorchFile().runner((folder / "net.pt2").read_bytes()),
    }


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(SIZES, SIZES, st.integers(1, 3))
@example(1, 1, 1)
@example(1, 130, 2)
@example(16, 17, 1)
@example(31, 32, 1)
@example(48, 80, 1)
@example(80, 112, 1)
@example(112, 48, 3)
@example(784, 33, 1)  # where onnxruntime's enlargement takes another cell than torch's
@example(32, 912, 1)
@torch.inference_mode()
def test_any_size(
    runners: dict[str, Callable[[Tensor], Tensor]], height: int, width: int, count: int
) -> None:
    x = image(height, width, count)
    wanted = network()(x)
    for form, run in runners.items():
        got = run(x)
        assert got.shape == wanted.shape, form
        assert (got - wanted).abs().max() < CLOSE, form


@pytest.mark.slow
def test_what_is_in_an_onnx_file(folder: Path) -> None:
    model = onnx.load(folder / "net.onnx")
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    shapes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [["batch", 3, "height", "width"]] * 2
    assert [model.graph.input[0].name, model.graph.output[0].name] == ["image", "dehazed"]
    check_metadata({prop.key: prop.value for prop in model.metadata_props})


def check_metadata(metadata: dict[str, str]) -> None:
    assert metadata["encoder"] == ENCODER
    assert metadata["head"] == "affine"
    assert json.loads(metadata["mean"].split(" (")[0]) == list(MEAN)
    assert json.loads(metadata["std"].split(" (")[0]) == [0.14, 0.15, 0.152]
    assert "RGB" in metadata["input"]
    assert "[0, 1]" in metadata["input"]
    assert metadata["ktdn_plugin"] == export_module.__version__


@pytest.mark.slow
def test_what_is_in_a_torch_file(folder: Path) -> None:
    extra = {METADATA: ""}
    program = torch.export.load(folder / "net.pt2", extra_files=extra)
    assert not any("batch_norm" in str(node.target) for node in program.graph.nodes)
    check_metadata(json.loads(extra[METADATA]))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_no_paths_of_this_computer_are_in_the_files(folder: Path, form: str) -> None:
    content = (folder / f"net.{form}").read_bytes()
    for path in (Path(export_module.__file__).parent, folder, Path(sys.prefix)):
        assert str(path).encode() not in content


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_printed_usage_lines_run(folder: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.chdir(folder)
    said = (folder / f"{form}.txt").read_text(encoding="utf-8")
    head, lines = said.split("\n\nTo run it, on images of any size:\n\n")
    assert "encoder test_resnet, 12 batch norms folded" in head
    assert "largest difference from the checkpoint in torch" in head
    assert len(lines.splitlines()) == 5
    write_png(Path("hazy.png"), 3, (45, 70))
    program = f"{lines}\nimport sys\nassert 'ktdn_plugin' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    hazy = np.array(Image.open("hazy.png"))
    with torch.inference_mode():
        wanted = network()(torch.tensor(hazy).permute(2, 0, 1)[None] / 255)[0].clamp(0, 1) * 255
    got = np.array(Image.open("dehazed.png")).transpose(2, 0, 1)
    assert abs(got - wanted.numpy()).max() < 0.501


@pytest.mark.slow
def test_kernels_in_float16(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "half.onnx"
    export_checkpoint(folder / "net.pth", output, half=True)
    said = capsys.readouterr().out
    assert float(said.split("kernels in float16: at least ")[1].split(" dB")[0]) > 60
    assert output.stat().st_size < 0.7 * (folder / "net.onnx").stat().st_size
    x = image(50, 75)
    with torch.inference_mode():
        difference = (OnnxFile().runner(output.read_bytes())(x) - network()(x)).abs().max()
    assert 1e-6 < difference < 1e-2
    before, content = output.read_bytes(), output.read_bytes()
    monkeypatch.setattr(export_module, "_export", lambda *words: (content, 12))
    monkeypatch.setattr(export_module, "LEAST_PSNR", 200)
    with pytest.raises(KTDNError, match=r"half.onnx: not written: with kernels in float16 .* dB"):
        export_checkpoint(folder / "net.pth", output, half=True, overwrite=True)
    assert output.read_bytes() == before


BAD = {
    "ending": (["-o", "net.pb"], "net.pb: exported files end in .onnx or .pt2; use one of them"),
    "no ending": (["-o", "net"], "net: exported files end in .onnx or .pt2"),
    "another ending": (["-o", "net.onnx", "--torch"], "--torch writes files that end in .pt2"),
    "yet another": (["-o", "net.pt2", "--onnx"], "--onnx writes files that end in .onnx"),
    "half": (["-o", "net.pt2", "--half"], "net.pt2: --half: only for .onnx files; leave it out"),
    "there": (["-o", "old.pt2"], "old.pt2: already exists; --overwrite replaces it"),
    "folder": (["-o", "folder.pt2", "--overwrite"], "folder.pt2: is a folder"),
    "file for folder": (["-o", "old.pt2/net.pt2"], "old.pt2 is not a folder; choose another place"),
    "closed folder": (["-o", "/proc/x.pt2"], "/proc/x.pt2: cannot be written (No such file or"),
    "itself": (["-o", "self.pt2", "--overwrite"], "self.pt2: is the checkpoint itself"),
    "not there": (["-o", "new.pt2"], "missing.pth: no such checkpoint file"),
    "not a checkpoint": (["-o", "new.pt2"], "photo.png: "),
    "another encoder": (["-o", "new.pt2", "--encoder", "resnet18"], "net.pth: "),
    "no encoder": (["-o", "new.pt2", "--encoder", "resnet81"], "not a timm model; did you mean"),
}
CHECKPOINTS = {"itself": "self.pt2", "not there": "missing.pth", "not a checkpoint": "photo.png"}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_bad_input(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name_of_copy in ("net.pth", "self.pt2"):
        Path(name_of_copy).write_bytes((folder / "net.pth").read_bytes())
    Path("old.pt2").write_bytes(b"old")
    Path("folder.pt2").mkdir()
    write_png(Path("photo.png"), 1)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    words, wanted = BAD[name]
    assert main(["export", CHECKPOINTS.get(name, "net.pth"), *words]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert wanted in said.err
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_flags(capsys: pytest.CaptureFixture[str]) -> None:
    for words, wanted in (
        (["net.pth"], "--output is missing"),
        (["net.pth", "-o", "a.onnx", "--onnx", "--torch"], "{--onnx, --torch}"),
    ):
        assert main(["export", *words]) == 2
        assert wanted in capsys.readouterr().err


@pytest.mark.slow
def test_without_the_packages_it_says_how_to_get_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxFile, "packages", ("onnx", "no_such_package"))
    with pytest.raises(KTDNError, match=r"no_such_package: pip install no_such_package"):
        export_checkpoint(folder / "net.pth", tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def export_again(monkeypatch: pytest.MonkeyPatch, folder: Path, output: Path) -> None:
    """Exports, in no time: to what was exported before."""
    content = (folder / "net.pt2").read_bytes()
    monkeypatch.setattr(export_module, "_export", lambda *words: (content, 12))
    output.parent.mkdir(parents=True)
    output.write_bytes(b"old")
    export_checkpoint(output.parents[1] / "net.pth", output, overwrite=True)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0, 3 * TOLERANCE, float("nan")])
def test_what_differs_from_the_checkpoint_is_not_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    content = torch.load(folder / "net.pth")
    content["params"]["tail.1.bias"][1] += wrong
    torch.save(content, tmp_path / "net.pth")
    output = tmp_path / "new" / "net.pt2"
    if wrong == 0:
        export_again(monkeypatch, folder, output)
        assert output.read_bytes() == (folder / "net.pt2").read_bytes()
    else:
        with pytest.raises(KTDNError, match=r"net.pt2: not written: .* differs"):
            export_again(monkeypatch, folder, output)
        assert output.read_bytes() == b"old"
    assert [path.name for path in output.parent.iterdir()] == ["net.pt2"]


@pytest.mark.slow
def test_damaged_weights_are_named(folder: Path, tmp_path: Path) -> None:
    content = torch.load(folder / "net.pth")
    content["params"]["tail.1.bias"][1] = float("nan")
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(KTDNError, match=r"net.pth: .* NaN or infinite"):
        export_checkpoint(tmp_path / "net.pth", tmp_path / "net.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


@pytest.mark.slow
def test_a_folder_that_cannot_be_made(folder: Path) -> None:
    with pytest.raises(KTDNError, match=r"net.pt2: cannot be written"):
        export_module._write(Path("/proc/new/net.pt2"), b"")


@torch.no_grad()
def test_an_encoder_that_pads_by_what_each_size_needs() -> None:
    torch.manual_seed(0)
    built = KTDN("tf_mobilenetv3_small_minimal_100").eval()
    program = record(copy.deepcopy(built)).module()
    for size in ((1, 1), (37, 70), (48, 80), (96, 112)):
        assert (program(image(*size)) - built(image(*size))).abs().max() < CLOSE


def test_an_encoder_that_torch_cannot_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    built = KTDN("test_convnext").eval()
    built.encoder.register_forward_pre_hook(lambda module, args: float(args[0].sum()) and None)
    monkeypatch.setattr(export_module, "load_network", lambda *words: built)
    assert main(["export", "net.pth", "-o", str(tmp_path / "net.pt2")]) == 1
    said = capfd.readouterr().err
    assert len(said.splitlines()) == 1, "torch prints the whole graph otherwise"
    assert f"net.pth: encoder 'test_convnext': torch {torch.__version__} cannot export it (" in said
    assert list(tmp_path.iterdir()) == []
