"""What runs read: folders, meta files, LMDBs, pairs and photographs alone."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import torch
from helpers import (
    evaluation_options,
    log_of,
    student_options,
    teacher_options,
    write_options,
)


def test_a_teacher_is_tried_on_photos_too(pairs: Path, run) -> None:
    opt = teacher_options(2)
    opt["datasets"]["val_2"] = {"type": "SingleImageDataset", "dataroot_lq": "val/hazy"}
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    assert "val_2 has no clear images" in log_of(pairs, "teacher")


def test_a_teacher_on_pairs_is_shown_clear_images_alone(pairs: Path, run) -> None:
    opt = teacher_options(2)
    assert run("train", "-opt", write_options(pairs, opt)).returncode == 0
    alone = re.findall(r"# psnr: (\S+)", log_of(pairs, "teacher"))
    opt["name"] = "on_pairs"
    for phase in ("train", "val"):
        dataset = opt["datasets"][phase]
        dataset |= {"type": "PairedImageDataset", "dataroot_lq": f"{phase}/hazy"}
    assert run("train", "-opt", write_options(pairs, opt)).returncode == 0
    assert re.findall(r"# psnr: (\S+)", log_of(pairs, "on_pairs")) == alone


def test_meta_file_chooses_from_an_lmdb(pairs: Path, run) -> None:
    from ktdn_plugin.basicsr import compat

    compat.apply()
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    names = sorted(path.name for path in (pairs / "train/clear").iterdir())
    keys = [name.removesuffix(".png") for name in names]
    make_lmdb_from_imgs(str(pairs / "train/clear"), str(pairs / "clear.lmdb"), names, keys)
    (pairs / "split.txt").write_text("01.png\n04.png\n")
    opt = teacher_options(2)
    train = opt["datasets"]["train"]
    train |= {"dataroot_gt": "clear.lmdb", "io_backend": {"type": "lmdb"}}
    train["meta_info_file"] = "split.txt"
    assert run("train", "-opt", write_options(pairs, opt)).returncode == 0
    assert "2 training images" in log_of(pairs, "teacher")


def test_crops_differ_between_epochs(pairs: Path) -> None:
    from ktdn_plugin import register

    register()
    from ktdn_plugin.basicsr.loaders import TrainingBatches
    from ktdn_plugin.basicsr.options.loading import check_and_complete

    opt = teacher_options()
    opt["datasets"]["train"] |= {
        "dataroot_gt": str(pairs / "train/clear"),
        "num_worker_per_gpu": 1,
    }
    check_and_complete(opt, "teacher.yml", is_train=True)
    opt["datasets"]["train"] |= {"phase": "train", "scale": 1}
    opt |= {"world_size": 1, "rank": 0, "dist": False}
    batches = iter(TrainingBatches(opt))

    def crops() -> dict[str, torch.Tensor]:
        return {
            path: image
            for batch in islice(batches, 3)  # one pass over the six images
            for path, image in zip(batch["gt_path"], batch["gt"], strict=True)
        }

    first, second = crops(), crops()
    assert len(first) == 6
    assert first.keys() == second.keys()
    assert not all(torch.equal(first[path], second[path]) for path in first)


def test_reads_lmdb_made_by_basicsr(pairs: Path, run) -> None:
    from ktdn_plugin.basicsr import compat

    compat.apply()
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    for phase in ("train", "val"):
        for kind in ("hazy", "clear"):
            names = sorted(path.name for path in (pairs / phase / kind).iterdir())
            keys = [name.removesuffix(".png") for name in names]
            target = pairs / f"{phase}_{kind}.lmdb"
            make_lmdb_from_imgs(str(pairs / phase / kind), str(target), names, keys)
    teacher, student = teacher_options(2), student_options(2)
    for opt in (teacher, student):
        for phase in ("train", "val"):
            dataset = opt["datasets"][phase]
            dataset["io_backend"] = {"type": "lmdb"}
            dataset["dataroot_gt"] = f"{phase}_clear.lmdb"
            if "dataroot_lq" in dataset:
                dataset["dataroot_lq"] = f"{phase}_hazy.lmdb"
        opt["datasets"]["train"]["num_worker_per_gpu"] = 1
        done = run("train", "-opt", write_options(pairs, opt))
        assert done.returncode == 0, done.stderr


def test_meta_file_and_nh_haze_names(pairs: Path, run) -> None:
    folder = pairs / "NH-HAZE"
    folder.mkdir()
    for index in range(6):
        for kind, name in (("hazy", "hazy"), ("clear", "GT")):
            source = pairs / "train" / kind / f"{index:02}.png"
            (folder / f"{index + 1:02}_{name}.png").write_bytes(source.read_bytes())
    (pairs / "train.txt").write_text("".join(f"{i:02}_GT.png\n" for i in range(1, 5)))
    (pairs / "val.txt").write_text("05_GT.png\n06_GT.png\n")
    for make in (teacher_options, student_options):
        opt = make(2)
        for phase in ("train", "val"):
            dataset = opt["datasets"][phase]
            dataset |= {"dataroot_gt": "NH-HAZE", "meta_info_file": f"{phase}.txt"}
            if "dataroot_lq" in dataset:
                dataset |= {"dataroot_lq": "NH-HAZE", "filename_tmpl": "{:.2}_hazy"}
        done = run("train", "-opt", write_options(pairs, opt))
        assert done.returncode == 0, done.stderr
        assert "4 training images" in log_of(pairs, opt["name"])


def test_photos_without_clear_ones_are_saved_not_measured(pairs: Path, run) -> None:
    assert run("train", "-opt", write_options(pairs, teacher_options(2))).returncode == 0
    opt = evaluation_options("experiments/teacher/models/net_g_latest.pth")
    opt["datasets"]["test_2"] = {
        "name": "photos",
        "type": "SingleImageDataset",
        "dataroot_lq": "val/hazy",
    }
    done = run("test", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    assert len(list((pairs / "results/evaluation/visualization/photos").iterdir())) == 2
    assert "saved but not measured" in log_of(pairs, "evaluation", "test")
