"""Wrong data and checkpoints: one line that names the file, nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bad_images import write_bad
from configs import log_of, student_config, teacher_config
from helpers import ENCODER, one, teacher_file, write_png

from ktdn_plugin import KTDN
from ktdn_plugin.archs import encoder

Prepare = Callable[[Path], object]
OTHER_ENCODER = "test_resnet"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda at: None, "teacher.pth: no such checkpoint file"),
        (lambda at: (at / "teacher.pth").mkdir(), "teacher.pth: no such checkpoint file"),
        (lambda at: (at / "teacher.pth").write_text("hello"), "teacher.pth: "),
        (lambda at: teacher_file(at, OTHER_ENCODER), "a different network than this KTDN"),
        (lambda at: truncate(teacher_file(at)), "teacher.pth: truncated or damaged"),
    ],
    ids=["missing", "folder", "text", "another", "truncated"],
)
def test_teacher(fails, pairs: Path, prepare: Prepare, expected: str) -> None:
    prepare(pairs)
    line = one(fails(student_config()))
    assert "config.py: model: teacher_checkpoint: teacher.pth: " in line
    assert expected in line


@pytest.mark.parametrize("stage", ["train", "test"])
@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda at: None, "no such checkpoint file"),
        (lambda at: teacher_file(at, OTHER_ENCODER), "a different network than this KTDN"),
        (lambda at: truncate(teacher_file(at)), "truncated or damaged"),
        (lambda at: torch.save([1, 2], at / "teacher.pth"), "not a network's weights"),
        (lambda at: torch.save({"a": 1}, at / "teacher.pth"), "contains no network weights"),
    ],
    ids=["missing", "another", "truncated", "list", "no-weights"],
)
def test_checkpoint(fails, pairs: Path, stage: str, prepare: Prepare, expected: str) -> None:
    prepare(pairs)
    if stage == "train":
        line = one(fails(teacher_config(load_from="teacher.pth")))
    else:
        line = one(fails(teacher_config(), "test", "teacher.pth"))
    assert "teacher.pth: " in line
    assert expected in line


def test_another_layout_without_the_hook(fails, pairs: Path) -> None:
    teacher_file(pairs)
    line = one(fails(teacher_config(load_from="teacher.pth", custom_hooks=[])))
    assert "add dict(type='CheckpointLayoutHook') to custom_hooks" in line


def test_resume(fails, pairs: Path) -> None:
    line = one(fails(teacher_config(), "train", "--resume", "nowhere.pth"))
    assert line == "error: --resume: no such checkpoint: nowhere.pth"
    teacher_file(pairs)
    line = one(fails(teacher_config(), "train", "--resume", "teacher.pth"))
    assert "teacher.pth: holds weights, not a training to resume" in line


def remove(name: str) -> Prepare:
    return lambda at: (at / name).unlink()


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda at: shutil.rmtree(at / "train/clear"), "no such folder: train/clear"),
        (lambda at: shutil.rmtree(at / "val/hazy"), "no such folder: val/hazy"),
        (
            lambda at: [path.unlink() for path in (at / "train/clear").iterdir()],
            "train/clear: holds no image",
        ),
        (remove("train/hazy/02.png"), "02.png has no hazy image"),
        (lambda at: write_png(at / "train/hazy/00.png", 1, (60, 80)), "00.png differ in size"),
        (lambda at: write_png(at / "val/hazy/01.png", 1, (60, 80)), "01.png differ in size"),
        (
            lambda at: [write_png(at / f"train/{kind}/03.png", 1, (40, 80)) for kind in KINDS],
            "80 x 40 pixels, smaller than the crop, gt_size: 48",
        ),
        (lambda at: (at / "train/hazy/00.png").write_bytes(b""), "00.png: empty file"),
    ],
    ids=[
        "no-clear", "no-hazy", "empty", "unequal", "size", "validation-size", "crop", "corrupt",
    ],
)  # fmt: skip
def test_data(fails, pairs: Path, prepare: Prepare, expected: str) -> None:
    teacher_file(pairs)
    prepare(pairs)
    line = one(fails(student_config()))
    assert "_dataloader.dataset: " in line
    assert expected in line


KINDS = ("hazy", "clear")


def test_data_of_the_other_stage_is_not_looked_at(mmengine_run, pairs: Path) -> None:
    teacher_file(pairs)
    cfg = teacher_config(train_cfg__max_iters=1)
    assert mmengine_run("train", {**cfg, **measured_on("nowhere")}) == 0
    for phase in ("train", "val"):
        cfg[f"{phase}_dataloader"]["dataset"]["dataroot_gt"] = "nowhere"
    assert mmengine_run("test", {**cfg, **measured_on("val/clear")}, "teacher.pth") == 0


def measured_on(folder: str) -> dict:
    return {
        "test_dataloader": teacher_config(test_dataloader__dataset__dataroot_gt=folder)[
            "test_dataloader"
        ]
    }


def test_on_error_is_misspelt(fails) -> None:
    cfg = teacher_config(train_dataloader__dataset__on_error="skp")
    assert "on_error: 'skp' is not one of raise, skip; did you mean 'skip'?" in one(fails(cfg))


def cut_pixels(path: Path) -> None:
    """Damages an image whose header stays as it was: only reading it tells."""
    path.write_bytes(path.read_bytes()[:-400])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_found_corrupt_in_training(breaks, pairs: Path, workers: int) -> None:
    for number in range(1, 6):
        cut_pixels(pairs / f"train/clear/{number:02}.png")
    line = one(breaks(teacher_config(train_dataloader__num_workers=workers)))
    assert line.startswith("error: train/clear/0")
    assert "not a readable image" in line


def test_an_image_that_is_found_corrupt_in_validation(breaks, pairs: Path) -> None:
    cut_pixels(pairs / "val/clear/01.png")
    line = one(breaks(teacher_config()))
    assert line.startswith("error: val/clear/01.png: ")


def skipping(**changes: object) -> dict:
    return teacher_config(
        train_dataloader__dataset__on_error="skip",
        train_cfg={"type": "SeededTrainLoop", "max_iters": 4, "val_interval": 4, **changes},
    )


def test_unreadable_images_are_skipped_and_counted(mmengine_run, pairs: Path) -> None:
    path, said = write_bad(pairs / "train/clear", "text")
    assert mmengine_run("train", skipping()) == 0
    log = log_of(pairs)
    assert log.count("skipped, 1 of 7 training images so far: ") == 1
    assert said in log
    assert path.name in log
    assert "1 training images were skipped, see above." in log


def test_too_many_unreadable_images(breaks, pairs: Path) -> None:
    for number in range(6):
        (pairs / f"train/clear/{number:02}.png").write_bytes(b"text")
    for number in range(6, 9):
        write_png(pairs / f"train/clear/{number:02}.png", number)
    line = one(breaks(skipping(skip_at_most=0.2)))
    assert "2 of 9 training images cannot be read, more than skip_at_most: 0.2 allows" in line


def test_skipping_needs_the_loop_that_counts(breaks, pairs: Path) -> None:
    cfg = skipping()
    cfg["train_cfg"] = {"type": "IterBasedTrainLoop", "max_iters": 2}
    assert "use it, or on_error='raise'" in one(breaks(cfg))


def test_work_directory_that_holds_what_the_run_needs(fails, pairs: Path) -> None:
    (pairs / "work_dirs/config").mkdir(parents=True)
    torch.save(KTDN(ENCODER).state_dict(), pairs / "work_dirs/config/iter_4.pth")
    line = one(fails(teacher_config(load_from="work_dirs/config/iter_4.pth")))
    assert "lies in the folder of this very run" in line


@pytest.mark.parametrize("stage", ["test", "resume", "load_from"])
def test_weights_that_are_loaded_over_are_not_downloaded(
    mmengine_run, pairs: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(encoder, "_with_imagenet_weights", refuse_download)
    teacher_file(pairs)
    cfg = student_config(train_cfg__max_iters=1, default_hooks__checkpoint__interval=1)
    if stage == "resume":
        assert mmengine_run("train", cfg) == 0
    for network in ("student", "teacher"):
        cfg["model"][network]["pretrained"] = True
    if stage == "test":
        assert mmengine_run("test", cfg, "teacher.pth") == 0
    elif stage == "resume":
        cfg["train_cfg"]["max_iters"] = 2
        assert mmengine_run("train", cfg, "--resume") == 0
    else:
        assert mmengine_run("train", {**cfg, "load_from": "teacher.pth"}) == 0


def refuse_download(*_: object) -> None:
    raise AssertionError("a download")
