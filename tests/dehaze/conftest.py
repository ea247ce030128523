"""Photographs to dehaze, and a small network in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ENCODER
from PIL import Image
from skimage import data

from ktdn_plugin import KTDN
from ktdn_plugin.cli import main
from ktdn_plugin.dehaze.journal import FOLDER


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of random weights, but for a bias that makes its pictures grey, not black."""
    torch.manual_seed(0)
    network = KTDN(ENCODER)
    weights = network.state_dict()
    *_, last = (name for name in weights if name.endswith("bias"))
    weights[last] += 0.4
    path = tmp_path_factory.mktemp("network") / "net.pth"
    torch.save({"params": weights}, path)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``photos``: three photographs on two levels."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.png", "deeper/b.jpg", "deeper/c.webp")):
        path = Path("photos", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.astronaut()[100 * number : 100 * number + 37, :53]).save(path)
    return tmp_path


@pytest.fixture
def dehaze(checkpoint: Path, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Runs ``ktdn dehaze`` in this process; gives its exit code and what it says."""

    def run(*words: object) -> tuple[int, str, str]:
        defaults = {"--checkpoint": checkpoint, "--device": "cpu"}
        flags = [word for flag in defaults if flag not in words for word in (flag, defaults[flag])]
        code = main(["dehaze", *map(str, (*words, *flags))])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def files(folder: Path | str) -> list[str]:
    """Lists all that lies in a folder, hidden files too, but for the journals of runs."""
    return [name for name in all_files(folder) if FOLDER not in name]


def all_files(folder: Path | str) -> list[str]:
    """Lists all that lies in a folder."""
    paths = Path(folder).rglob("*")
    return sorted(path.relative_to(folder).as_posix() for path in paths if path.is_file())


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))
