"""Pairs made of scikit-image's photographs, on disk as a person has them."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from ktdn_plugin.cli import main
from ktdn_plugin.haze.scattering import synthesize_haze

Image = np.ndarray
Check = Callable[..., subprocess.CompletedProcess]


def scenes() -> dict[str, Image]:
    """Ten parts of photographs that have nothing in common, RGB."""
    motorcycle = cv2.cvtColor(
        cv2.imread(str(Path(data.__file__).parent / "motorcycle_left.png")), cv2.COLOR_BGR2RGB
    )
    photos = {
        "astronaut": data.astronaut(),
        "cat": data.chelsea(),
        "coffee": data.coffee(),
        "motorcycle": motorcycle,
        "rocket": data.rocket(),
    }
    parts = {}
    for name, photo in photos.items():
        half = photo.shape[1] // 2
        parts[f"{name}_0"] = photo[:, :half]
        parts[f"{name}_1"] = photo[:, half : 2 * half]
    return {name: np.ascontiguousarray(part) for name, part in parts.items()}


def haze_photos(clear: Image, seed: int, **haze: tuple[float, float]) -> Image:
    return np.rint(synthesize_haze(clear, seed, **haze).hazy * 255).astype(np.uint8)


def write(path: Path, rgb: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1]))


def read(path: Path) -> Image:
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


@pytest.fixture(scope="session")
def photos() -> dict[str, Image]:
    return scenes()


@pytest.fixture(scope="session")
def hazy(photos: dict[str, Image]) -> dict[str, Image]:
    return {name: haze_photos(photo, seed) for seed, (name, photo) in enumerate(photos.items())}


@pytest.fixture(scope="session")
def written(
    tmp_path_factory: pytest.TempPathFactory, photos: dict[str, Image], hazy: dict[str, Image]
) -> Path:
    folder = tmp_path_factory.mktemp("written")
    for name in photos:
        write(folder / "hazy" / f"{name}.png", hazy[name])
        write(folder / "clear" / f"{name}.png", photos[name])
    return folder


@pytest.fixture
def healthy(tmp_path: Path, written: Path) -> Path:
    """A folder ``set`` of ten good pairs."""
    return shutil.copytree(written, tmp_path / "set")


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Runs ``ktdn check-data`` in the test's folder, in this process: to start one takes longer."""
    monkeypatch.chdir(tmp_path)

    def run_command(*words: object) -> subprocess.CompletedProcess:
        arguments = ["check-data", *map(str, words)]
        with (
            contextlib.redirect_stdout(io.StringIO()) as stdout,
            contextlib.redirect_stderr(io.StringIO()) as stderr,
        ):
            code = main(arguments)
        return subprocess.CompletedProcess(arguments, code, stdout.getvalue(), stderr.getvalue())

    return run_command


def problems(done: subprocess.CompletedProcess) -> list[str]:
    """The lines about problems."""
    assert "Traceback" not in done.stderr, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith(("error", "warning"))]
