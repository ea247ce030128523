"""Measures of pyiqa's: where it is not installed, what it gives, and weights that do not come.

They run on a stand-in, and on pyiqa where it is installed: its licence allows no more.
"""

from __future__ import annotations

import importlib
import pickle
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ktdn_plugin.photos import read_rgb

NO_PYIQA = "pyiqa is not installed (extra 'pyiqa')"
STAND_IN = Path(__file__).parents[1] / "pyiqa_stand_in"
METADATA = """Metadata-Version: 2.4
Name: pyiqa
Version: 0.0.1
License-Expression: PolyForm-Noncommercial-1.0.0
"""


def forget_pyiqa() -> dict[str, ModuleType]:
    """Takes pyiqa out of the modules that are loaded; gives what was there."""
    names = [name for name in sys.modules if name.partition(".")[0] == "pyiqa"]
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture(params=["stand-in", "pyiqa"])
def pyiqa(request, tmp_path_factory, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Installs the stand-in for the time of a test, or takes what is installed."""
    if request.param == "pyiqa":
        yield pytest.importorskip("pyiqa", reason=NO_PYIQA)
        return
    loaded = forget_pyiqa()
    about = tmp_path_factory.mktemp("site")
    (about / "pyiqa-0.0.1.dist-info").mkdir()
    (about / "pyiqa-0.0.1.dist-info" / "METADATA").write_text(METADATA)
    for folder in (about, STAND_IN):
        monkeypatch.syspath_prepend(folder)
    module = importlib.import_module("pyiqa")
    assert Path(module.__file__).is_relative_to(STAND_IN)
    yield module
    forget_pyiqa()
    sys.modules.update(loaded)


@pytest.mark.parametrize("pyiqa", ["stand-in"], indirect=True)
def test_the_stand_in_says_what_pyiqa_says(pyiqa: ModuleType) -> None:
    ours = importlib.import_module("pyiqa.default_model_configs").DEFAULT_CONFIGS
    forget_pyiqa()
    sys.path.remove(str(STAND_IN))
    real = pytest.importorskip("pyiqa.default_model_configs", reason=NO_PYIQA).DEFAULT_CONFIGS
    for name, config in ours.items():
        assert config["metric_opts"]["type"] == real[name]["metric_opts"]["type"]
        for key in ("metric_mode", "lower_better"):
            assert config.get(key) == real[name].get(key)


def test_not_installed(scenes, evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    code, out, err = evaluate("ours", "--gt", "val", "--metrics", "psnr", "niqe")
    assert (code, out) == (1, "")
    assert err == (
        "error: --metrics niqe: pyiqa is not installed: pip install pyiqa (its licence allows "
        "non-commercial use only)\n"
    )


def test_a_wrong_name_is_corrected_without_pyiqa(
    scenes, evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    code, out, err = evaluate("ours", "--gt", "val", "--metrics", "psn")
    assert (code, out) == (1, "")
    assert err == (
        "error: --metrics psn: no such metric; did you mean 'psnr'? (others come from pyiqa, which "
        "is not installed: pip install pyiqa)\n"
    )


def test_ours_are_not_pyiqas(scenes, evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    code, out, err = evaluate("ours", "--gt", "val", "--metrics", "ssim", "psnr_y")
    assert (code, err) == (0, "")
    assert out.splitlines()[1].split() == ["method", "psnr", "ssim", "psnr_y"]


def test_figures_are_pyiqas(scenes, evaluate, pyiqa: ModuleType) -> None:
    words = ("--gt", "val/clear", "--metrics", "gmsd", "vif", "entropy", "ms_ssim", "gmsd")
    code, out, err = evaluate("ours", "theirs", *words)
    first = err.splitlines()[0]
    assert first.startswith("gmsd, vif, entropy, ms_ssim: by pyiqa 0.")
    assert "non-commercial use only (PolyForm-Noncommercial" in first
    # Too small for it: named, and the others are there.
    assert code == 1
    assert "01.png has no ms_ssim: RuntimeError: " in err
    lines = out.splitlines()
    assert lines[1].split() == ["method", "psnr", "ssim", "gmsd", "vif", "entropy", "ms_ssim"]
    assert lines[4] == "lower is better: gmsd"
    cells = {
        tuple(line.split(",")[1:3]): line.split(",")[5:8]
        for line in Path("evaluation.csv").read_text().splitlines()
    }
    import torch

    for name, clear in scenes.items():
        image = read_rgb(f"theirs/{name}.png")
        x, y = (torch.from_numpy(one).permute(2, 0, 1)[None] / 255 for one in (image, clear))
        wanted = [pyiqa.create_metric(name, device="cpu") for name in ("gmsd", "vif", "entropy")]
        figures = [float(wanted[0](x, y)), float(wanted[1](x, y)), float(wanted[2](x))]
        np.testing.assert_allclose(np.float64(cells[name, "theirs"]), figures, atol=1e-6)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("lpip", "there is no such metric; did you mean 'lpips'?"),
        ("psn", "there is no such metric; did you mean 'psnr'?"),
        ("niqee", "there is no such metric; did you mean 'niqe'?"),
        ("zzzz", "there is no such metric, only psnr, ssim, "),
        ("fid", "measures sets of images or captions, not single images; remove it"),
    ],
)
def test_what_pyiqa_does_not_have(
    scenes, evaluate, pyiqa: ModuleType, metric: str, message: str
) -> None:
    code, _, err = evaluate("ours", "--gt", "val", "--metrics", metric)
    assert code == 1
    assert message in err.splitlines()[-1]
    # A wrong name needs no licence.
    assert (len(err.splitlines()) == 1) == (metric != "fid")
    assert not Path("evaluation.csv").exists()


@pytest.mark.parametrize("metric", ["niqe", "musiq"])
def test_weights_that_cannot_be_downloaded(
    scenes, evaluate, pyiqa: ModuleType, metric: str, tmp_path: Path, monkeypatch
) -> None:
    download = importlib.import_module("pyiqa.utils.download_util")
    # No cache, and no way out, whatever the machine has.
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "DEFAULT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)
    code, out, err = evaluate("ours", "--gt", "val", "--metrics", metric)
    assert (code, out) == (1, "")
    line = err.splitlines()[-1]
    assert line.startswith(f"error: --metrics {metric}: its weights cannot be downloaded (")
    assert "; fetch https://" in line
    assert f" elsewhere and put it at {tmp_path / 'cache'}" in line
    assert line.endswith(f", or remove {metric}")
    assert not Path("evaluation.csv").exists()


class Harm:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple:
        return (Path.mkdir, (Path("harmed"),))


def test_weights_that_would_run_code_are_refused(
    scenes, evaluate, pyiqa: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = importlib.import_module("pyiqa.utils.download_util")
    default_model_urls = importlib.import_module("pyiqa.archs.musiq_arch").default_model_urls
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    monkeypatch.setattr(download, "DEFAULT_CACHE_DIR", str(tmp_path))
    file = tmp_path / default_model_urls["koniq10k"].rsplit("/", 1)[1]
    file.write_bytes(pickle.dumps({"params": Harm()}, protocol=2))
    code, _, err = evaluate("ours", "--gt", "val", "--metrics", "musiq")
    assert code == 1
    assert "its weights are not plain tensors, and loading them could run code" in err
    assert not Path("harmed").exists()
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    evaluate("ours", "--gt", "val", "--metrics", "musiq")
    assert Path("harmed").exists()  # or this test shows nothing
