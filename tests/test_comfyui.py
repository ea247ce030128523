"""The node for ComfyUI: copying it, loading it as ComfyUI does, running it.

ComfyUI itself is no package: ``comfyui_stand_in`` has what the node meets of it.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from comfyui_stand_in import ComfyUI
from helpers import ENCODER

from ktdn_plugin import KTDN, Dehazer, KTDNError, load_network
from ktdn_plugin.cli import main
from ktdn_plugin.model_zoo.weights import SHIPPED

NODE = "KTDNDehaze"
LOADER, APPLY = "KTDNLoader", "KTDNApply"


@pytest.fixture
def comfyui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ComfyUI:
    return ComfyUI(tmp_path / "Comfy.UI", monkeypatch)


@pytest.fixture
def network(comfyui: ComfyUI, request: pytest.FixtureRequest) -> KTDN:
    """A network whose checkpoint is in both folders of models, under two names."""
    torch.manual_seed(0)
    network = _bright(KTDN(ENCODER, **getattr(request, "param", {}))).eval()
    for name in ("ktdn/street/net_g.pth", "upscale_models/haze.pth"):
        path = comfyui.root / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"params": network.state_dict()}, path)
    return network


@pytest.fixture
def loaded(comfyui: ComfyUI, network: KTDN) -> ComfyUI:
    assert main(["comfyui", str(comfyui.root)]) == 0
    assert comfyui.load_custom_nodes() == {}
    return comfyui


def _bright(network: KTDN) -> KTDN:
    """Has a random network give images that are not cut off at 0."""
    with torch.no_grad():
        network.tail[1].bias.fill_(0.6 if network.head == "tanh" else 0.1)
        if network.head == "affine":
            network.tail[1].weight.normal_(0, 0.02)
    return network


def _images(count: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, 37, 50, channels, generator=torch.Generator().manual_seed(1))


def _expected(network: KTDN, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network(images.movedim(-1, 1)).clamp(0, 1).movedim(1, -1)


def test_comfyui_is_told_what_the_node_takes(loaded: ComfyUI) -> None:
    told = loaded.describe(NODE)
    assert told["display_name"] == "Dehaze (KTDN)"
    assert told["output"] == ("IMAGE",)
    assert told["category"] == "image/restoration"
    assert told["input_order"] == {
        "required": ["image", "checkpoint"],
        "optional": ["device", "precision", "max_memory", "strength"],
    }
    assert told["input"]["required"]["image"] == ("IMAGE",)
    names, _ = told["input"]["required"]["checkpoint"]
    assert names == [*SHIPPED, "haze.pth", str(Path("street/net_g.pth"))]


@pytest.mark.parametrize("network", [{}, {"head": "affine", "widths": (64, 32, 36)}], indirect=True)
def test_a_batch_is_dehazed(loaded: ComfyUI, network: KTDN) -> None:
    images = _images(3)
    for name in ("haze.pth", str(Path("street/net_g.pth"))):
        (result,) = loaded.run(NODE, image=images, checkpoint=name)
        assert result.shape == images.shape
        assert result.dtype == torch.float32
        assert result.device.type == "cpu"
        assert torch.allclose(result, _expected(network, images), atol=1e-5)
    assert loaded.progress == [(1, 3), (2, 3), (3, 3)] * 2


def test_what_comes_with_the_package(loaded: ComfyUI) -> None:
    """It needs no file in ComfyUI's folders, and is the same as long as it is installed."""
    images = _images(1)
    (result,) = loaded.run(NODE, image=images, checkpoint="ktdn_tiny", device="cpu")
    assert torch.allclose(result, _expected(load_network("ktdn_tiny"), images), atol=1e-5)
    node = loaded.nodes[NODE]
    assert node.IS_CHANGED(checkpoint="ktdn_tiny", image=None) is None


def test_every_option_is_used(loaded: ComfyUI, network: KTDN) -> None:
    images = _images(1)
    (result,) = loaded.run(
        NODE,
        image=images,
        checkpoint="haze.pth",
        device="cpu",
        precision="bf16",
        max_memory=20.5,
    )
    # Once to load the network, once to run it.
    assert loaded.freed == [(20_500_000_000, torch.device("cpu"))] * 2
    exact = _expected(network, images)
    assert 0 < (result - exact).abs().max() < 0.05


def test_alpha_is_kept(loaded: ComfyUI, network: KTDN) -> None:
    images = _images(1, channels=4)
    (result,) = loaded.run(NODE, image=images, checkpoint="haze.pth")
    assert torch.equal(result[..., 3], images[..., 3])
    assert torch.allclose(result[..., :3], _expected(network, images[..., :3]), atol=1e-5)


def test_memory_is_bounded_where_promised(loaded: ComfyUI, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    module = sys.modules[loaded.nodes[NODE].__module__]

    class Recording(Dehazer):
        def __new__(cls, checkpoint: Path, **options: object) -> Dehazer:
            given.append(options)
            return Dehazer(checkpoint, **options)

    monkeypatch.setattr(module, "Dehazer", Recording)
    images = _images(1)
    loaded.run(NODE, image=images, checkpoint="haze.pth")
    options = {"max_memory": 50.5, "precision": "bf16"}
    loaded.run(NODE, image=images, checkpoint="haze.pth", **options)
    assert [one["max_memory"] for one in given] == [None, 50_500_000_000]
    assert [one["precision"] for one in given] == ["float32", "bf16"]
    assert {one["device"] for one in given} == {"cpu"}
    cpu = torch.device("cpu")
    assert loaded.freed == [(2 * 10**9, cpu)] * 2 + [(505 * 10**8, cpu)] * 2


def test_a_queue_can_be_stopped(loaded: ComfyUI) -> None:
    loaded.interrupted = True
    with pytest.raises(InterruptedError):
        loaded.run(NODE, image=_images(), checkpoint="haze.pth")
    assert loaded.progress == []


def test_a_file_that_changes_is_run_again(loaded: ComfyUI, network: KTDN) -> None:
    node = loaded.nodes[NODE]
    first = node.IS_CHANGED(checkpoint="haze.pth", image=None)
    assert node.IS_CHANGED(checkpoint="haze.pth", image=None) == first
    path = loaded.root / "models" / "upscale_models" / "haze.pth"
    torch.save({"params": KTDN(ENCODER).state_dict()}, path)
    assert node.IS_CHANGED(checkpoint="haze.pth", image=None) != first


def _watch(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the names of the files from which networks are made ready from now on."""
    read: list[str] = []

    def dehazer(path: Path, **options: object) -> Dehazer:
        read.append(path.name)
        return Dehazer(path, **options)

    monkeypatch.setattr(module, "Dehazer", dehazer)
    return read


def test_loaded_once_for_every_image_and_strength(
    loaded: ComfyUI, network: KTDN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ComfyUI runs two nodes: the loader's result is kept, and handed to each that applies."""
    read = _watch(sys.modules[loaded.nodes[LOADER].__module__], monkeypatch)
    assert loaded.describe(LOADER)["output"] == ("KTDN_MODEL",)
    told = loaded.describe(APPLY)
    assert told["input"]["required"] == {"ktdn_model": ("KTDN_MODEL",), "image": ("IMAGE",)}
    assert told["input_order"]["optional"] == ["strength"]
    assert (told["display_name"], told["output"]) == ("Apply KTDN", ("IMAGE",))
    (model,) = loaded.run(LOADER, checkpoint="haze.pth", device="cpu")
    images = _images(2, channels=4)
    exact = _expected(network, images[..., :3])
    for strength in (1.0, 0.0, 0.5):
        (result,) = loaded.run(APPLY, ktdn_model=model, image=images, strength=strength)
        wanted = images[..., :3].lerp(exact, strength)
        assert torch.allclose(result[..., :3], wanted, atol=1e-5)
        assert torch.equal(result[..., 3], images[..., 3])
    (again,) = loaded.run(LOADER, checkpoint="haze.pth", device="cpu")
    assert again is model
    assert read == ["haze.pth"]
    with pytest.raises(KTDNError, match=r"gone.pth: no such checkpoint in models/ktdn or"):
        loaded.nodes[LOADER]().load("gone.pth")
    first = loaded.nodes[LOADER].IS_CHANGED(checkpoint="haze.pth")
    torch.save(
        {"params": KTDN(ENCODER).state_dict()}, loaded.root / "models/upscale_models/haze.pth"
    )
    assert loaded.nodes[LOADER].IS_CHANGED(checkpoint="haze.pth") != first
    (other,) = loaded.run(LOADER, checkpoint="haze.pth", device="cpu")
    assert other is not model


def test_a_file_is_read_once_until_it_changes(
    loaded: ComfyUI, network: KTDN, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[loaded.nodes[NODE].__module__]
    read = _watch(module, monkeypatch)
    images = _images(1)
    path = loaded.root / "models" / "upscale_models" / "haze.pth"
    for _ in range(3):
        loaded.run(NODE, image=images, checkpoint="haze.pth")
    assert read == ["haze.pth"]
    torch.manual_seed(5)
    other = _bright(KTDN(ENCODER)).eval()
    torch.save({"params": other.state_dict()}, path)
    for _ in range(2):
        (result,) = loaded.run(NODE, image=images, checkpoint="haze.pth")
        assert torch.allclose(result, _expected(other, images), atol=1e-5)
    assert read == ["haze.pth"] * 2
    # As fine a network as before, though it has been run.
    (result,) = loaded.run(NODE, image=images, checkpoint=str(Path("street/net_g.pth")))
    assert torch.allclose(result, _expected(network, images), atol=1e-5)
    assert read == ["haze.pth", "haze.pth", "net_g.pth"]


def test_what_is_wrong_is_one_line(loaded: ComfyUI) -> None:
    node = loaded.nodes[NODE]()
    (loaded.root / "models" / "ktdn" / "note.pth").write_text("no checkpoint")
    torch.save({"layer.weight": torch.zeros(1)}, loaded.root / "models" / "ktdn" / "other.pth")
    for name, images, message in (
        ("gone.pth", _images(), "gone.pth: no such checkpoint in models/ktdn or"),
        ("haze.pth", _images(channels=1), "got (2, 37, 50, 1)"),
        ("note.pth", _images(), "note.pth: not a checkpoint file"),
        ("other.pth", _images(), "a different network than KTDN"),
        ("haze.pth", _images(1), "50 x 37 pixels do not fit into max memory 1MB"),
    ):
        with pytest.raises(KTDNError) as caught:
            node.dehaze(images, name, max_memory=0.001 if "fit" in message else 0.0)
        assert message in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(KTDNError, match=r"strength: 2.5 is not in \[0, 2\]"):
        node.dehaze(_images(), "haze.pth", strength=2.5)


def test_comfyuis_own_upscale_nodes_load_our_files(loaded: ComfyUI, network: KTDN) -> None:
    from spandrel import ImageModelDescriptor, ModelLoader

    # As "Load Upscale Model" does: the file's content as it is, without the file.
    content = torch.load(loaded.root / "models/upscale_models/haze.pth", weights_only=True)
    with torch.inference_mode():
        model = ModelLoader().load_from_state_dict(content).eval()
    assert isinstance(model, ImageModelDescriptor)
    images = _images(1)
    result = model(images.movedim(-1, 1)).movedim(1, -1)
    # Tensors that lie elsewhere in memory may change the last digit.
    assert torch.allclose(result, _expected(network, images), atol=1e-6)


def test_folders_of_comfyuis_settings_are_searched_too(
    loaded: ComfyUI, tmp_path: Path, network: KTDN
) -> None:
    import folder_paths

    more = tmp_path / "more"
    more.mkdir()
    torch.save({"params": network.state_dict()}, more / "disk.pth")
    (more / "disk.txt").write_text("notes")
    folder_paths.add_model_folder_path("ktdn", str(more))
    names, _ = loaded.nodes[NODE].INPUT_TYPES()["required"]["checkpoint"]
    assert names == [*SHIPPED, "disk.pth", "haze.pth", str(Path("street/net_g.pth"))]


def test_one_line_where_the_package_is_missing(
    comfyui: ComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["comfyui", str(comfyui.root)]) == 0
    for name in [name for name in sys.modules if name.partition(".")[0] == "ktdn_plugin"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ktdn_plugin", None)
    errors = comfyui.load_custom_nodes()
    assert list(errors) == ["comfyui_ktdn"]
    assert "needs the package ktdn-plugin in ComfyUI's own Python" in errors["comfyui_ktdn"]
    assert comfyui.nodes == {}


def test_the_node_can_be_imported_where_it_lies() -> None:
    module = importlib.import_module("ktdn_plugin.comfyui.node")
    assert set(module.NODE_CLASS_MAPPINGS) == set(module.NODE_DISPLAY_NAME_MAPPINGS)
    assert set(module.NODE_CLASS_MAPPINGS) == {LOADER, APPLY, NODE}


def _files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_copying(comfyui: ComfyUI, capsys: pytest.CaptureFixture, run) -> None:
    nodes = comfyui.root / "custom_nodes"
    done = run("comfyui", str(nodes))
    assert done.returncode == 0, done.stderr
    node = nodes / "comfyui_ktdn"
    assert f"Node: {node}" in done.stdout
    original = _files(node)
    assert set(original) == {"__init__.py", "README.md"}

    (node / "README.md").write_text("changed")
    assert main(["comfyui", str(nodes)]) == 1
    assert "the node already exists; --overwrite replaces it" in capsys.readouterr().err
    assert (node / "README.md").read_text() == "changed"
    assert main(["comfyui", str(comfyui.root), "--overwrite"]) == 0
    assert _files(node) == original
    assert [path.name for path in nodes.iterdir()] == ["comfyui_ktdn"]


@pytest.mark.parametrize("content", ["folder", "other node", "file", "binary"])
def test_foreign_files_are_not_replaced(
    content: str, comfyui: ComfyUI, capsys: pytest.CaptureFixture
) -> None:
    target = comfyui.root / "custom_nodes" / "comfyui_ktdn"
    if content == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        if content == "other node":
            (target / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
        elif content == "binary":
            (target / "__init__.py").write_bytes(b"\xff\xfe\x00")
        (target / "mine.txt").write_text("mine")
    before = _files(target.parent)
    assert main(["comfyui", str(comfyui.root), "--overwrite"]) == 1
    assert "exists and was not created by 'ktdn comfyui'" in capsys.readouterr().err
    assert _files(target.parent) == before


def test_wrong_folders(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["comfyui", str(tmp_path / "none")]) == 1
    assert "none: no such folder" in capsys.readouterr().err
    assert main(["comfyui", str(tmp_path)]) == 1
    assert "neither ComfyUI's folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_failed_copy_leaves_what_was_there(
    comfyui: ComfyUI, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert main(["comfyui", str(comfyui.root)]) == 0
    nodes = comfyui.root / "custom_nodes"
    before = _files(nodes)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    assert main(["comfyui", str(comfyui.root), "--overwrite"]) == 1
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    assert _files(nodes) == before
    assert [path.name for path in nodes.iterdir()] == ["comfyui_ktdn"]


def test_a_link_is_replaced_and_what_it_leads_to_stays(comfyui: ComfyUI, tmp_path: Path) -> None:
    nodes = comfyui.root / "custom_nodes"
    assert main(["comfyui", str(nodes)]) == 0
    original = _files(nodes)
    linked = (nodes / "comfyui_ktdn").rename(tmp_path / "linked")
    (linked / "mine.txt").write_text("mine")
    before = _files(linked)
    (nodes / "comfyui_ktdn").symlink_to(linked, target_is_directory=True)
    assert main(["comfyui", str(nodes), "--overwrite"]) == 0
    assert not (nodes / "comfyui_ktdn").is_symlink()
    assert [path.name for path in nodes.iterdir()] == ["comfyui_ktdn"]
    assert _files(nodes) == original
    assert _files(linked) == before


def test_the_folder_for_checkpoints_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "custom_nodes").mkdir()
    assert main(["comfyui", str(tmp_path)]) == 0
    assert not (tmp_path / "models").exists()  # no whole ComfyUI
    assert f"into {Path('models', 'ktdn')}." in capsys.readouterr().out
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "custom_nodes")
    for _ in range(2):
        assert main(["comfyui", ".", "--overwrite"]) == 0
        assert (tmp_path / "models" / "ktdn").is_dir()
    assert str(tmp_path / "models" / "ktdn") in capsys.readouterr().out
    (tmp_path / "models" / "ktdn").rmdir()
    (tmp_path / "models" / "ktdn").write_text("in the way")
    assert main(["comfyui", str(tmp_path), "--overwrite"]) == 1
    assert "cannot be created" in capsys.readouterr().err
