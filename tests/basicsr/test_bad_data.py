"""Missing, broken and mismatched data: one line each, exit code 1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import (
    FRESH,
    in_one_and_two,
    one,
    student_of_a_saved_teacher,
    teacher_file,
    teacher_options,
    write_options,
    write_png,
)


def test_empty_folder(fails, pairs: Path) -> None:
    (pairs / "empty").mkdir()
    opt = teacher_options()
    opt["datasets"]["train"]["dataroot_gt"] = "empty"
    assert "empty: holds no image" in one(fails(opt))


def test_pairs_that_do_not_match_are_named(fails, pairs: Path) -> None:
    (pairs / "train/hazy/02.png").rename(pairs / "train/hazy/02_hazy.png")
    line = one(fails(student_of_a_saved_teacher(pairs)))
    assert "no hazy 02.png (for 02.png)" in line
    assert "no clear partner of 02_hazy.png" in line


def test_invalid_template(fails, pairs: Path) -> None:
    opt = student_of_a_saved_teacher(pairs)
    opt["datasets"]["train"]["filename_tmpl"] = "{name}_hazy"
    assert "'{name}_hazy' is not a name template" in one(fails(opt))


@in_one_and_two
def test_pair_of_different_size(fails, pairs: Path) -> None:
    write_png(pairs / "train/hazy/00.png", 1, (60, 80))
    line = one(fails(student_of_a_saved_teacher(pairs)))
    assert "00.png differ in size (80 x 60 and 80 x 64)" in line


@in_one_and_two
def test_later_pair_of_different_size(fails, pairs: Path) -> None:
    write_png(pairs / "val/hazy/01.png", 1, (60, 80))
    line = one(fails(student_of_a_saved_teacher(pairs)))
    assert "datasets.val: val/hazy/01.png and val/clear/01.png differ in size" in line


@pytest.mark.parametrize("text", ["00.png\n\n01.png\n", "00.png\t(64,80,3)\n", "\ufeff00.png\n"])
def test_meta_file_that_basicsr_would_misread(fails, pairs: Path, text: str) -> None:
    (pairs / "meta.txt").write_text(text, encoding="utf-8")
    opt = teacher_options()
    opt["datasets"]["train"]["meta_info_file"] = "meta.txt"
    assert "meta.txt, line " in one(fails(opt))


def test_results_that_would_overwrite_each_other(fails, pairs: Path) -> None:
    write_png(pairs / "val/clear/more/00.png", 1)
    line = one(fails(teacher_options()))
    assert "would both be saved as 00.png" in line


@in_one_and_two
def test_a_folder_that_is_not_a_run_is_left_alone(fails, pairs: Path) -> None:
    write_png(pairs / "photos/mine.png", 1)
    opt = teacher_options()
    opt["path"]["experiments_root"] = "photos"
    assert "photos: exists and is not a run folder" in one(fails(opt))


def test_data_in_the_runs_own_folder(fails, pairs: Path) -> None:
    write_png(pairs / "experiments/teacher/models/a.png", 1)
    opt = teacher_options()
    opt["datasets"]["val"]["dataroot_gt"] = "experiments/teacher/models"
    assert "lies in the folder of this very run" in one(fails(opt))


@pytest.mark.parametrize("launcher", ["pytorch", "slurm"])
def test_launcher_that_has_not_launched(fails, launcher: str) -> None:
    line = one(fails(teacher_options(), "train", "--launcher", launcher))
    assert f"--launcher {launcher}: this process was not started by" in line


def test_weights_that_cannot_be_downloaded(pairs: Path, run) -> None:
    opt = teacher_options()
    opt["network_g"] = {"type": "KTDN", "encoder": "resnet18", "pretrained": True}
    options = write_options(pairs, opt)
    done = run("train", "-opt", options, program=FRESH, env={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 1
    assert "its ImageNet weights cannot be downloaded" in done.stderr.splitlines()[-1]
    assert not (pairs / "experiments").exists()


def test_encoder_weights_of_another_network(fails, pairs: Path) -> None:
    opt = teacher_options()
    opt["network_g"]["pretrained"] = str(teacher_file(pairs, "test_resnet"))
    assert "does not contain the weights of timm's 'test_convnext'" in one(fails(opt))


def test_meta_file_that_names_missing_files(fails, pairs: Path) -> None:
    (pairs / "meta.txt").write_text("00.png (64,80,3)\n77.png (64,80,3)\n")
    opt = student_of_a_saved_teacher(pairs)
    opt["datasets"]["train"]["meta_info_file"] = "meta.txt"
    assert "names files that are not in train/clear: 77.png" in one(fails(opt))


@in_one_and_two
@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "empty file (0 bytes)"), (b"\x89PNG\r\n broken", "not a readable image")],
)
def test_first_image_broken(fails, pairs: Path, content: bytes, expected: str) -> None:
    (pairs / "train/clear/00.png").write_bytes(content)
    line = one(fails(teacher_options()))
    assert "train/clear/00.png" in line
    assert expected in line


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("make", [teacher_options, student_of_a_saved_teacher])
def test_later_image_broken(pairs: Path, run, workers: int, make) -> None:
    opt = make(pairs) if make is student_of_a_saved_teacher else make()
    broken = pairs / "train/clear/03.png"
    broken.write_bytes(broken.read_bytes()[:60])  # its size can be read, it cannot
    opt["train"]["total_iter"] = 20
    opt["datasets"]["train"]["num_worker_per_gpu"] = workers
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: train/clear/03.png: not a readable image")
    assert "Traceback" not in done.stderr


def test_traceback_with_debug(pairs: Path, run) -> None:
    (pairs / "train/clear/00.png").write_bytes(b"")
    done = run("train", "-opt", write_options(pairs, teacher_options()), "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@in_one_and_two
def test_lmdb(fails, pairs: Path) -> None:
    from ktdn_plugin.basicsr import compat

    compat.apply()
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    opt = teacher_options()
    opt["datasets"]["train"] |= {"io_backend": {"type": "lmdb"}, "dataroot_gt": "clear.lmdb"}
    assert "clear.lmdb is not an LMDB" in one(fails(opt))
    names = sorted(p.name for p in (pairs / "train/clear").iterdir())
    store = pairs / "clear.lmdb"
    make_lmdb_from_imgs(
        str(pairs / "train/clear"), str(store), names, [name[:-4] for name in names]
    )
    data = store / "data.mdb"
    os.truncate(data, data.stat().st_size // 2)
    assert "clear.lmdb: truncated" in one(fails(opt))
