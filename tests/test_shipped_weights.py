"""The networks that come with the package: what they are, how they are named, what they reach."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from configs import student_config, write_config
from helpers import student_options, write_options
from PIL import Image

from ktdn_plugin import Dehazer, KTDNError, create_model
from ktdn_plugin.checkpoints.convert import convert
from ktdn_plugin.checkpoints.info import describe_checkpoint
from ktdn_plugin.checkpoints.networks import load_network
from ktdn_plugin.cli import main
from ktdn_plugin.data import make_demo_dataset
from ktdn_plugin.metrics import measure
from ktdn_plugin.model_zoo import weights
from ktdn_plugin.model_zoo.weights import DEFAULT, FOLDER, SHIPPED, resolve_checkpoint
from ktdn_plugin.option_files import options_folder
from ktdn_plugin.photos import read_rgb
from ktdn_plugin.variants import VARIANTS

MB = 1_000_000
DATA = Path(os.environ.get("KTDN_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, with a photograph in it."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's weights, which may be spoilt."""
    folder = tmp_path / "weights"
    shutil.copytree(FOLDER, folder)
    monkeypatch.setattr(weights, "FOLDER", folder)
    weights.find_shipped.cache_clear()
    yield folder
    weights.find_shipped.cache_clear()


def said(capsys: pytest.CaptureFixture, *words: object) -> str:
    assert main(list(map(str, words))) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_sizes() -> None:
    sizes = [resolve_checkpoint(name).stat().st_size for name in SHIPPED]
    assert max(sizes) <= 5 * MB
    assert sum(sizes) <= 8 * MB
    # Nothing else: files of earlier weights would be taken along for ever.
    assert len(list(FOLDER.glob("*.safetensors"))) == len(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_a_file_tells(name: str) -> None:
    told = describe_checkpoint(name)
    variant = VARIANTS[name]
    network = told["network"]
    assert (network["encoder"], network["head"]) == (variant.encoder, variant.head)
    assert tuple(network["widths"]) == variant.widths
    assert told["dtype"] == "float16 and float32"
    metadata = told["metadata"]
    assert metadata["averaged"] is True
    assert metadata["run"]["name"].startswith(name)
    (trained_on,) = metadata["data"]["train"]
    assert trained_on["fingerprint"]
    assert set(metadata["metrics"]["last"]["real_pairs"]["figures"]) == {"psnr", "ssim"}
    files = (options_folder() / "release").glob(f"train_{name}*.yml")
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert metadata["run"]["options"] in digests
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for said in (resolve_checkpoint(name).name, trained_on["fingerprint"]):
        assert said in card


@pytest.mark.parametrize("name", SHIPPED)
def test_networks_compute_in_float32(name: str) -> None:
    network = create_model(name, pretrained=True)
    assert {
        value.dtype for value in network.state_dict().values() if value.is_floating_point()
    } == {torch.float32}
    # By its name it is what it is by its path: the header tells mean and std as well.
    same = load_network(resolve_checkpoint(name))
    assert torch.equal(same.mean, load_network(name).mean)
    for key, value in network.state_dict().items():
        assert torch.equal(value, same.state_dict()[key]), key
    assert torch.equal(network.mean, same.mean)


def test_without_a_name_the_default_dehazes(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["dehaze", "photo.png"]) == 0
    assert main(["dehaze", "photo.png", "--checkpoint", DEFAULT, "-o", "named"]) == 0
    image = read_rgb(here / "photo.png")
    for path in ("dehazed/photo.png", "named/photo.png"):
        assert np.array_equal(read_rgb(here / path), Dehazer()(image))
    (journal,) = (here / "dehazed/.ktdn-dehaze").iterdir()
    assert resolve_checkpoint(DEFAULT).name in journal.read_text()


@pytest.mark.slow
def test_names_where_a_path_goes(here: Path, capsys: pytest.CaptureFixture) -> None:
    for folder in ("hazy", "clear"):
        (here / folder).mkdir()
        shutil.copy("photo.png", here / folder / "a.png")
    for words in (
        ["info", "ktdn_tiny"],
        ["evaluate", "--hazy", "hazy", "--gt", "clear", "--checkpoint", "ktdn_tiny"],
        ["convert", "ktdn_tiny", "tiny.pth"],
        ["export", "ktdn_tiny", "-o", "tiny.pt2"],
    ):
        assert main(words) == 0, capsys.readouterr().err
    assert "ktdn_tiny" in capsys.readouterr().out
    assert (here / "tiny.pt2").is_file()
    assert torch.equal(
        load_network("tiny.pth").tail[1].weight, load_network("ktdn_tiny").tail[1].weight
    )


def test_trainings_start_from_a_name(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pairs)
    network = {"type": "KTDN", **VARIANTS["ktdn_tiny"].arguments, "widths": [96, 40, 48]}
    network |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    opt = student_options(1)
    del opt["network_t"], opt["train"]["transfer_opt"]
    opt |= {"network_g": network, "path": {"pretrain_network_g": "ktdn_tiny"}}
    opt["train"]["optim_g"] = {"type": "SGD", "lr": 1e-12}
    assert main(["train", "-opt", str(write_options(pairs, opt))]) == 0
    cfg = student_config(
        load_from="ktdn_tiny",
        model__student=network,
        model__teacher=None,
        model__teacher_checkpoint=None,
        model__transfer_loss=None,
        train_cfg__max_iters=1,
        optim_wrapper__optimizer={"type": "SGD", "lr": 0.0},
    )
    assert main(["mmengine", "train", str(write_config(pairs, cfg, "run.py"))]) == 0
    wanted = load_network("ktdn_tiny").state_dict()
    for path in ("experiments/student/models/net_g_latest.pth", "work_dirs/run/iter_1.pth"):
        made = load_network(path).state_dict()
        for key, value in wanted.items():
            if "running" not in key and "num_batches" not in key:
                assert torch.allclose(made[key], value), key


def test_a_file_of_that_name_comes_first(here: Path) -> None:
    Path("ktdn_small").write_bytes(b"mine")
    assert resolve_checkpoint("ktdn_small") == Path("ktdn_small")
    with pytest.raises(KTDNError, match="ktdn_small: not a checkpoint file"):
        Dehazer("ktdn_small")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ktdn_smal", "; did you mean 'ktdn_small'?"),
        ("net_g_bst", "; did you mean 'net_g_best.pth'?"),
        ("unet", "ship with the package (ktdn_small, ktdn_tiny)"),
        ("ktdn", "ship with the package (ktdn_small, ktdn_tiny); did you mean 'ktdn_tiny'?"),
    ],
)
def test_neither_a_name_nor_a_file(
    here: Path, name: str, hint: str, capsys: pytest.CaptureFixture
) -> None:
    Path("net_g_best.pth").write_bytes(b"")
    for words in (["dehaze", "photo.png", "--checkpoint", name], ["info", name]):
        line = said(capsys, *words)
        assert line.startswith(f"error: {name}: no such checkpoint file (trained networks: ")
        assert hint in line
    assert not Path("dehazed").exists()


def test_weights_that_are_missing(
    here: Path, installed: Path, capsys: pytest.CaptureFixture
) -> None:
    for file in installed.glob("ktdn_small-*"):
        file.unlink()
    line = said(capsys, "dehaze", "photo.png")
    assert line.startswith(
        f"error: ktdn_small: its weights are missing from {installed}; reinstall "
    )
    assert not Path("dehazed").exists()
    assert main(["dehaze", "photo.png", "--checkpoint", "ktdn_tiny"]) == 0


def test_weights_that_were_altered(
    here: Path, installed: Path, capsys: pytest.CaptureFixture
) -> None:
    (file,) = installed.glob("ktdn_small-*")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    line = said(capsys, "dehaze", "photo.png")
    assert line.startswith(f"error: {file}: is not the file that the package shipped (SHA-256 ")
    with pytest.raises(KTDNError, match="is not the file that the package shipped"):
        create_model("ktdn_small", pretrained=True)
    assert not Path("dehazed").exists()


def test_half_precision_files(here: Path) -> None:
    """Half the size, and hardly another image."""
    torch.save({"params": load_network("ktdn_tiny").state_dict()}, "whole.pth")
    told = {"encoder": VARIANTS["ktdn_tiny"].encoder}
    convert("whole.pth", "whole.safetensors", **told)
    convert("whole.pth", "half.safetensors", half=True, **told)
    sizes = [Path(f"{name}.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    # They were float16 before: nothing more is lost.
    images = [Dehazer(f"{name}.safetensors")(read_rgb("photo.png")) for name in ("whole", "half")]
    assert np.array_equal(*images)
    with torch.no_grad():
        network = load_network("ktdn_tiny")
        network.tail[1].weight[0] = 1e6
    torch.save({"params": network.state_dict()}, "large.pth")
    with pytest.raises(KTDNError, match=r"large\.pth: .*float16"):
        convert("large.pth", "large.safetensors", half=True, **told)
    assert not Path("large.safetensors").exists()


def test_the_demos_photographs_gain(tmp_path: Path) -> None:
    """Each of those that 'ktdn demo' shows, by 5 dB at least, and in SSIM."""
    make_demo_dataset(tmp_path / "data", 0)
    for path in sorted((tmp_path / "data/val/clear").iterdir()):
        clear = read_rgb(path)
        hazy = read_rgb(tmp_path / "data/val/hazy" / path.name)
        before, after = measure(hazy, clear), measure(Dehazer()(hazy), clear)
        assert after.psnr >= before.psnr + 5, path.name
        assert after.ssim > before.ssim, path.name


@pytest.mark.slow
@pytest.mark.skipif(
    not (DATA / "real_pairs").is_dir(), reason=f"no real pairs in {DATA} (KTDN_DATA)"
)
def test_real_haze() -> None:
    """Of real pairs: their mean, and no photograph that is much worse than it was."""
    dehaze = Dehazer()
    gains, figures = [], []
    for path in sorted((DATA / "real_pairs/hazy").iterdir()):
        if path.stem.startswith("ohaze_full"):
            continue  # at full size: they take as long as all the others
        (clear_path,) = (DATA / "real_pairs/clear").glob(f"{path.stem}.*")
        clear, hazy = read_rgb(clear_path), read_rgb(path)
        before, after = measure(hazy, clear), measure(dehaze(hazy), clear)
        gains.append(after.psnr - before.psnr)
        figures.append(after)
    assert min(gains) > -0.5
    psnr, ssim = np.mean(figures, axis=0)
    assert psnr >= 16.2
    assert ssim >= 0.64


@pytest.mark.skipif(
    not (DATA / "sots_indoor").is_dir(), reason=f"no clear photographs in {DATA} (KTDN_DATA)"
)
def test_clear_photographs_come_out_clear() -> None:
    dehaze = Dehazer()
    images = [read_rgb(path) for path in sorted((DATA / "sots_indoor/clear").iterdir())[::4]]
    assert np.mean([measure(dehaze(image), image).psnr for image in images]) >= 26
