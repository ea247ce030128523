"""The wheel: it holds all that runs and nothing else, works anywhere, names its requirements."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import write_png

ROOT = Path(__file__).parents[1]
SOURCES = ("README.md", "LICENSE", "setup.py", "MANIFEST.in", "ktdn_plugin", "options")
DATA = {".py", ".typed", ".j2", ".css", ".js", ".svg", ".json", ".yml", ".safetensors"}
LARGEST = 6_000_000
"""Bytes; the weights are 4.4 million of them."""

pytest.importorskip("setuptools", minversion="70.1", reason="older ones need the package wheel")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)  # with caches, as they are in a checkout
        else:
            shutil.copy2(ROOT / name, folder / name)
    (folder / "tests").mkdir()
    (folder / "tests" / "__init__.py").touch()
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", "out"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = (folder / "out").iterdir()
    return file


def test_files(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    found = {name for name in names if ".dist-info/" not in name}
    wanted = {
        Path("ktdn_plugin", *([] if top == "ktdn_plugin" else [top]), path.relative_to(ROOT / top))
        for top in ("ktdn_plugin", "options")
        for path in (ROOT / top).rglob("*")
        if path.suffix in DATA and path.is_file()
    }
    for place in ("comfyui/node", "model_zoo/weights", "options"):
        wanted.add(Path("ktdn_plugin", place, "README.md"))
    assert found == {path.as_posix() for path in wanted}
    assert {name.split("/")[1] for name in names if name not in found} >= {"METADATA", "licenses"}
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < LARGEST


def test_oldest_releases_are_those_that_the_job_installs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    text = archive.read(name).decode("utf-8")
    floors = dict(re.findall(r"^Requires-Dist: ([\w-]+)>=([\d.]+)", text, re.MULTILINE))
    oldest = (ROOT / ".github" / "oldest.txt").read_text(encoding="utf-8")
    tested = dict(re.findall(r"^([\w-]+)==(\S+)$", oldest, re.MULTILINE))
    assert floors.pop("setuptools")  # of the tests alone
    assert set(floors) == set(tested)
    for package, floor in floors.items():
        assert f"{tested[package]}.0.0".startswith(f"{floor}."), package
    bounded = {*floors, "setuptools", "basicsr", "tb-nightly", "pyiqa"}
    bounded |= {"pytest", "pytest-xdist", "hypothesis", "ruff", "mypy", "types-PyYAML", "selenium"}
    required = set(re.findall(r"^Requires-Dist: ([\w-]+)", text, re.MULTILINE))
    assert required == bounded, "a requirement without an oldest release"
    extras = set(re.findall(r"^Provides-Extra: ([\w-]+)", text, re.MULTILINE))
    named = {"formats", "export", "onnx", "metrics", "pyiqa", "spandrel", "ui", "video"}
    named |= {"all", "test"}
    assert extras >= named


@pytest.mark.slow
def test_it_works_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    place = tmp_path / "elsewhere"
    write_png(place / "photo.png", 1)
    for words in ("dehaze photo.png --checkpoint ktdn_tiny --device cpu", "options -o options"):
        done = subprocess.run(
            [sys.executable, "-m", "ktdn_plugin", *words.split()],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert (place / "dehazed" / "photo.png").is_file()
    assert (place / "options" / "train_ktdn.yml").is_file()
