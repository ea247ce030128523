"""Dehazer with ONNX files: the result of torch, without torch; and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import write_png
from PIL import Image

import ktdn_plugin
from ktdn_plugin import KTDN, Dehazer, KTDNError
from ktdn_plugin.cli import main
from ktdn_plugin.export import export_checkpoint
from ktdn_plugin.inference.base_layer import shrink
from ktdn_plugin.inference.dehazer import TorchDehazer
from ktdn_plugin.inference.onnx_dehazer import OnnxDehazer, _resize
from ktdn_plugin.photos import read_rgb

onnx = pytest.importorskip("onnx", reason="needs the extra 'export'")
pytest.importorskip("onnxscript", reason="needs the extra 'export'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")

WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "basicsr", "mmengine"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from ktdn_plugin.cli import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(code)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with the head that has a base layer, as ``net.pth`` and ``net.onnx``."""
    folder = tmp_path_factory.mktemp("onnx")
    torch.manual_seed(0)
    network = KTDN("test_resnet", head="affine", widths=(48, 20, 40)).eval()
    with torch.no_grad():
        network.tail[1].weight.normal_(0, 0.02)
        network.tail[1].bias.fill_(-0.1)
    torch.save({"params": network.state_dict()}, folder / "net.pth")
    export_checkpoint(folder / "net.pth", folder / "net.onnx", encoder="test_resnet")
    write_png(folder / "hazy.png", 1, (300, 420))
    return folder


def both(folder: Path, **options: Any) -> tuple[Dehazer, Dehazer]:
    in_torch = Dehazer(folder / "net.pth", device="cpu", encoder="test_resnet", **options)
    return in_torch, Dehazer(str(folder / "net.onnx"), device="cpu", **options)


def test_results_are_those_of_torch(folder: Path) -> None:
    pixels = read_rgb(folder / "hazy.png")
    for options in ({}, {"strength": 0.7}, {"base_size": 64}, {"base_size": "off"}):
        in_torch, in_onnx = both(folder, **options)
        assert isinstance(in_torch, TorchDehazer)
        assert isinstance(in_onnx, OnnxDehazer)
        wanted, got = in_torch(pixels), in_onnx(pixels)
        assert np.abs(wanted.astype(int) - got).max() <= 1
        assert (wanted != got).mean() < 1e-3
        assert not np.array_equal(got, pixels)
    changed = both(folder, base_size=64)[1](pixels).astype(int) - got
    assert np.abs(changed).max() > 2, "the base layer changes nothing"


def test_every_kind_of_image(folder: Path) -> None:
    pixels = read_rgb(folder / "hazy.png")
    in_torch, in_onnx = both(folder)
    values = pixels.astype(np.float32) / 255
    tensor = torch.from_numpy(values).movedim(-1, 0)
    assert np.abs(in_torch(values) - in_onnx(values)).max() < 1e-5
    assert (in_torch(tensor) - in_onnx(tensor)).abs().max() < 1e-5
    assert in_onnx(tensor[None].half()).dtype == torch.float16
    deep = pixels.astype(np.uint16) * 257
    assert np.abs(in_torch(deep).astype(int) - in_onnx(deep)).max() <= 4
    expected = in_onnx(pixels)
    assert np.array_equal(in_onnx(folder / "hazy.png"), expected)
    assert np.array_equal(np.asarray(in_onnx(Image.fromarray(pixels))), expected)
    assert np.array_equal(in_onnx([pixels])[0], expected)
    assert np.array_equal(in_onnx(np.stack([pixels, pixels]))[1], expected)
    assert in_onnx(pixels[:1, :1]).shape == (1, 1, 3)


@pytest.mark.parametrize("size", [(31, 70), (64, 64), (150, 41)])
def test_copies_are_those_of_torch(size: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random((150, 210, 3), np.float32)
    planes = torch.from_numpy(values).permute(2, 0, 1)[None]
    wanted = shrink(lambda top, bottom: planes[:, :, top:bottom], 150, size)
    assert np.abs(_resize(values, size) - wanted[0].permute(1, 2, 0).numpy()).max() < 3e-6
    large = torch.nn.functional.interpolate(wanted, (150, 210), mode="bilinear")
    got = _resize(wanted[0].permute(1, 2, 0).numpy(), (150, 210))
    assert np.abs(got - large[0].permute(1, 2, 0).numpy()).max() < 3e-6


def test_the_command_runs_without_torch(folder: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "clear" / "hazy.png", 2, (300, 420))
    words = [str(folder / "hazy.png"), "--checkpoint", str(folder / "net.onnx"), "--gt", "clear"]
    root = str(Path(ktdn_plugin.__file__).parents[1])

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT_TORCH, "dehaze", *words]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={"PYTHONPATH": root, "PATH": "", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "PSNR" in done.stdout
    expected = both(folder)[1](folder / "hazy.png")
    assert np.array_equal(read_rgb(tmp_path / "dehazed" / "hazy.png"), expected)
    # What needs torch says so.
    done = run(words[0], "-o", "other")
    assert done.returncode == 1
    assert done.stderr == "error: the module 'torch' is missing; install it: pip install torch\n"


OPTIONS = {
    "precision": ({"precision": "bf16"}, "precision bf16: an ONNX file is run in float32; leave"),
    "memory": ({"max_memory": "4GB"}, "max memory 4GB: an ONNX file is run on the whole image"),
    "encoder": ({"encoder": "resnet18"}, "encoder resnet18: an ONNX file has its own; leave it"),
    "device": ({"device": "cdua"}, "device 'cdua' is not one of auto, cpu, cuda, which ONNX"),
    "mps": ({"device": "mps"}, "device 'mps' is not one of auto, cpu, cuda, which ONNX files"),
    "strength": ({"strength": 3}, "strength: 3 is not in"),
    "base size": ({"base_size": 3}, "base_size: 3 is not auto, off or a number"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_cannot_be_honoured(folder: Path, name: str) -> None:
    options, wanted = OPTIONS[name]
    with pytest.raises(KTDNError) as caught:
        Dehazer(folder / "net.onnx", **options)
    assert str(caught.value).startswith(wanted)
    assert len(str(caught.value).splitlines()) == 1


def test_devices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "net.onnx"
    cpu = ["CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: cpu)
    assert Dehazer(path).device == "cpu"
    message = (
        r"no device 'cuda:1' for ONNX files here \(onnxruntime has CPUExec.*\); use cpu or auto"
    )
    with pytest.raises(KTDNError, match=message):
        Dehazer(path, device="cuda:1")
    # An onnxruntime for GPUs where there is none runs on the CPU without a word.
    gpu = ["CUDAExecutionProvider", *cpu]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: gpu)
    real, asked = onnxruntime.InferenceSession, []

    def session(path: str, options: object, providers: list[Any]) -> Any:
        asked.append(providers)
        return real(path, options, providers=cpu)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(KTDNError, match="device 'cuda:1': onnxruntime cannot use it"):
        Dehazer(path, device="cuda:1")
    assert Dehazer(path, device="cpu").device == Dehazer(path).device == "cpu"
    first = ("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"})
    assert asked == [[first, *cpu], cpu, [(first[0], {**first[1], "device_id": "0"}), *cpu]]


def test_memory_that_is_not_known(folder: Path) -> None:
    made = Dehazer(folder / "net.onnx")
    assert made.max_memory is None
    with pytest.raises(KTDNError, match="what an ONNX file needs is not known"):
        made.needs(100, 100)
    with pytest.raises(KTDNError, match="an ONNX file is run on the whole image"):
        made.max_memory = "4GB"

    class Full:
        def run(self, names: list[str], inputs: dict[str, Any]) -> Any:
            raise RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for 8 GB\nat")

    made._session = Full()
    with pytest.raises(KTDNError, match=r"run it on 4 x 3 pixels \(.*allocate.*\); it takes the"):
        made(np.zeros((3, 4, 3), np.uint8))


def _save(path: Path, channels: int = 3, kind: int = 1, about: bool = True) -> None:
    from onnx import helper

    shape = ["batch", channels, "height", "width"]
    values = [helper.make_tensor_value_info(name, kind, shape) for name in ("image", "dehazed")]
    node = helper.make_node("Identity", ["image"], ["dehazed"])
    graph = helper.make_graph([node], "other", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if about:
        helper.set_model_props(model, {"model": "KTDN", "head": "tanh"})
    onnx.save(model, path)


def _spoil(path: Path, how: str, whole: bytes) -> None:
    if how in ("other", "channels", "half"):
        _save(path, 4 if how == "channels" else 3, 10 if how == "half" else 1, how != "other")
    elif how != "missing":
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no net"}[how])


BAD = {
    "other": "an ONNX file of another network (its metadata names no KTDN); make one with: ktdn ex",
    "channels": "an ONNX file of another network (it takes image tensor(float) ['batch', 4, ",
    "half": "an ONNX file of another network (it takes image tensor(float16) ['batch', 3, ",
    "missing": "no such checkpoint file",
    "cut": "not an ONNX file that onnxruntime can read, or a truncated one (",
    "empty": "not an ONNX file that onnxruntime can read, or a truncated one (",
    "text": "not an ONNX file that onnxruntime can read, or a truncated one (",
}


@pytest.mark.parametrize("how", BAD)
def test_bad_files(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], how: str
) -> None:
    path = tmp_path / "bad.onnx"
    _spoil(path, how, (folder / "net.onnx").read_bytes())
    words = ["--checkpoint", str(path), "-o", str(tmp_path / "out")]
    assert main(["dehaze", str(folder / "hazy.png"), *words]) == 1
    said = capfd.readouterr().err
    assert said.startswith(f"error: {path}: {BAD[how]}")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out" / "hazy.png").exists()
