from __future__ import annotations

import builtins
import importlib.util
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from ktdn_plugin.data import demo_photos, make_demo_dataset
from ktdn_plugin.errors import KTDNError

KINDS = ("hazy", "clear")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "photos"
    make_demo_dataset(folder, haze_per_photo=2)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def images(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(cv2.imread(str(path))) for path in sorted(folder.iterdir())}


def one_line(caught: pytest.ExceptionInfo[BaseException]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_pairs_have_equal_names_and_sizes(demo: Path) -> None:
    for side, count in (("train", 8), ("val", 2)):
        hazy, clear = (images(demo / side / kind) for kind in KINDS)
        assert len(hazy) == count
        assert hazy.keys() == clear.keys()
        for name in hazy:
            assert hazy[name].shape == clear[name].shape
            assert min(hazy[name].shape[:2]) >= 256
            assert max(hazy[name].shape[:2]) <= 512


def test_hazy_differs_from_clear_as_much_as_in_real_pairs(demo: Path) -> None:
    for side in ("train", "val"):
        hazy, clear = (images(demo / side / kind) for kind in KINDS)
        errors = [np.mean((hazy[name] / 255.0 - clear[name] / 255.0) ** 2) for name in hazy]
        psnr = -10 * np.log10(errors)
        assert 9 < np.mean(psnr) < 14
        assert psnr.min() > 7
        assert psnr.max() < 17


def test_colours_are_the_photographs(demo: Path) -> None:
    blue, _, red = images(demo / "val" / "clear")["coffee.png"].mean((0, 1))
    assert red > blue + 50


def test_no_training_scene_is_validated_on(demo: Path) -> None:
    scenes = {
        side: {
            Path(file).stem.removesuffix("_left").removesuffix("_right")
            for file in getattr(demo_photos, side)
        }
        for side in ("TRAINING_PHOTOS", "VALIDATION_PHOTOS")
    }
    assert scenes["TRAINING_PHOTOS"].isdisjoint(scenes["VALIDATION_PHOTOS"])
    written = {
        side: {image.tobytes() for image in images(demo / side / "clear").values()}
        for side in ("train", "val")
    }
    assert written["train"].isdisjoint(written["val"])


def test_each_haze_of_a_photograph_is_another(tmp_path: Path) -> None:
    demo = tmp_path / "photos"
    make_demo_dataset(demo, haze_per_photo=len(demo_photos.COLOURS) + 1)
    hazy = images(demo / "train" / "hazy")
    clear = images(demo / "train" / "clear")
    period = len(demo_photos.COLOURS)
    assert np.array_equal(clear["astronaut_0.png"], clear[f"astronaut_{period}.png"])
    assert not np.array_equal(clear["astronaut_0.png"], clear["astronaut_1.png"])
    difference = hazy["astronaut_0.png"].astype(int) - hazy[f"astronaut_{period}.png"]
    assert np.abs(difference).mean() > 5
    assert len({image.tobytes() for image in hazy.values()}) == len(hazy)


def test_same_arguments_give_the_same_files(demo: Path, tmp_path: Path) -> None:
    make_demo_dataset(tmp_path / "again", haze_per_photo=2)
    assert contents(tmp_path / "again") == contents(demo)


def test_validation_is_the_same_whatever_the_seed(demo: Path, tmp_path: Path) -> None:
    make_demo_dataset(tmp_path / "other", seed=1, haze_per_photo=1)
    assert contents(tmp_path / "other" / "val") == contents(demo / "val")
    name = "train/hazy/astronaut_0.png"
    assert contents(tmp_path / "other")[name] != contents(demo)[name]


def test_whole_dataset_is_reused(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_photos, "_write_pairs", None)
    (demo / "train" / "meta_info.txt").write_text("a user's file\n")
    make_demo_dataset(demo, haze_per_photo=2)


def test_empty_folder_and_missing_parents_are_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_photos, "TRAINING_PHOTOS", ("chelsea.png",))
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b"):
        make_demo_dataset(folder, haze_per_photo=1)
        assert (folder / "train" / "hazy" / "chelsea_0.png").is_file()
    monkeypatch.chdir(tmp_path)
    make_demo_dataset(Path("relative"), haze_per_photo=1)
    assert (tmp_path / "relative" / "val" / "clear" / "coffee.png").is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_interrupted_run_leaves_nothing(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = demo_photos._write_png

    def fail_on_the_third(path: Path, rgb: np.ndarray) -> None:
        if len(list(path.parent.parent.rglob("*.png"))) == 2:
            raise error
        write(path, rgb)

    monkeypatch.setattr(demo_photos, "_write_png", fail_on_the_third)
    with pytest.raises(KTDNError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        make_demo_dataset(tmp_path / "photos", haze_per_photo=2)
    if isinstance(error, OSError):
        assert "No space left on device" in one_line(caught)
    assert list(tmp_path.iterdir()) == []


def test_killed_run_leaves_nothing_under_the_folders_name(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from ktdn_plugin.data import demo_photos\n"
        "demo_photos._put = lambda *_: os._exit(9)\n"
        "demo_photos.make_demo_dataset(Path(sys.argv[1]), haze_per_photo=1)\n"
    )
    root = Path(demo_photos.__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "photos")], cwd=root)
    assert killed.returncode == 9
    assert not (tmp_path / "photos").exists()
    make_demo_dataset(tmp_path / "photos", haze_per_photo=1)


@pytest.mark.parametrize("harm", ["missing", "truncated"])
def test_part_of_a_dataset_is_not_taken_for_whole(harm: str, tmp_path: Path) -> None:
    make_demo_dataset(tmp_path / "photos", haze_per_photo=1)
    victim = tmp_path / "photos" / "train" / "hazy" / "rocket_0.png"
    if harm == "missing":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:1000])
    with pytest.raises(KTDNError, match="only part") as caught:
        make_demo_dataset(tmp_path / "photos", haze_per_photo=1)
    assert str(tmp_path / "photos") in one_line(caught)


def test_dataset_of_other_settings_is_not_reused(demo: Path) -> None:
    with pytest.raises(KTDNError, match="made with") as caught:
        make_demo_dataset(demo, seed=3, haze_per_photo=2)
    assert "'seed': 3" in one_line(caught)


@pytest.mark.parametrize("record", [None, "", "[]", "{}", '{"bytes": 1, "made_with": 2}'])
def test_other_folders_are_refused_and_kept(record: str | None, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    if record is not None:
        (tmp_path / demo_photos.RECORD).write_text(record)
    before = contents(tmp_path)
    with pytest.raises(KTDNError, match="not a demo dataset") as caught:
        make_demo_dataset(tmp_path)
    assert str(tmp_path) in one_line(caught)
    assert contents(tmp_path) == before


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KTDNError) as caught:
        make_demo_dataset(tmp_path / "file")
    one_line(caught)
    with pytest.raises(KTDNError) as caught:
        make_demo_dataset(tmp_path / "file" / "photos")
    one_line(caught)


def test_another_process_may_finish_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "photos"
    write_pairs = demo_photos._write_pairs

    def overtaken(draft: Path, seed: int, haze_per_photo: int) -> None:
        monkeypatch.setattr(demo_photos, "_write_pairs", write_pairs)
        make_demo_dataset(folder, haze_per_photo=1)
        write_pairs(draft, seed, haze_per_photo)

    monkeypatch.setattr(demo_photos, "_write_pairs", overtaken)
    make_demo_dataset(folder, haze_per_photo=1)
    assert list(tmp_path.iterdir()) == [folder]


def test_missing_scikit_image_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(KTDNError, match="pip install scikit-image") as caught:
        make_demo_dataset(tmp_path / "photos")
    one_line(caught)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_missing_or_broken_photograph_is_named(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    if content is not None:
        (tmp_path / "data" / "astronaut.png").write_bytes(content)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(KTDNError, match=r"astronaut\.png") as caught:
        make_demo_dataset(tmp_path / "photos")
    assert "pip install" in one_line(caught)


def test_neither_network_nor_scikit_images_loaders_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    plain_import = builtins.__import__

    def without_loaders(name: str, *rest: Any) -> ModuleType:
        assert name.partition(".")[0] not in {"skimage", "pooch"}
        return plain_import(name, *rest)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(builtins, "__import__", without_loaders)
    make_demo_dataset(tmp_path / "photos", haze_per_photo=1)


def test_no_haze_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="haze_per_photo"):
        make_demo_dataset(tmp_path / "photos", haze_per_photo=0)
