"""Three scenes with and without haze, and what two methods made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from ktdn_plugin.cli import main
from ktdn_plugin.haze.scattering import synthesize_haze
from ktdn_plugin.photos import write_rgb

Command = Callable[..., tuple[int, str, str]]

NAMES = ("01", "02", "03")


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Clear images, in ``val/clear/NN_GT.png``; hazy ones beside them in ``val/hazy``.

    ``ours`` and ``theirs`` hold results: the clear images with a little, and with more, noise.
    """
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    found = {}
    for number, name in enumerate(NAMES):
        clear = data.chelsea()[40 * number : 40 * number + 48, 100:164].copy()
        found[name] = clear
        haze = synthesize_haze(clear, number, density=(0.8, 0.8), veil=(1, 1), tint=(0, 0))
        write_rgb(Path(f"val/clear/{name}_GT.png"), clear)
        write_rgb(Path(f"val/hazy/{name}_hazy.png"), np.rint(haze.hazy * 255).astype(np.uint8))
        for method, ending, noise in (("ours", "_hazy_ktdn_test", 4), ("theirs", "", 20)):
            noisy = (clear + draw.normal(0, noise, clear.shape)).clip(0, 255).astype(np.uint8)
            write_rgb(Path(f"{method}/{name}{ending}.png"), noisy)
    return found


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture) -> Command:
    """Runs ``ktdn evaluate`` in this process: exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["evaluate", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return run
