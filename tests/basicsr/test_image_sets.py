"""Our datasets in training: stores, layouts, haze made on the fly, images that cannot be read."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import lmdb
import pytest
from helpers import (
    evaluation_options,
    in_one_and_two,
    log_of,
    make_lmdbs,
    one,
    records_of,
    student_of_a_saved_teacher,
    teacher_options,
    write_options,
    write_png,
)

from ktdn_plugin import cli
from ktdn_plugin.basicsr.datasets import ClearImageDataset
from ktdn_plugin.data.prepare import prepare


def paired(pairs: Path, **roots: str) -> dict:
    """A student's options on our datasets."""
    opt = student_of_a_saved_teacher(pairs)
    for phase in ("train", "val"):
        dataset = opt["datasets"][phase]
        dataset["type"] = "PairedHazeDataset"
        for key in ("dataroot_gt", "dataroot_lq"):
            del dataset[key]
        dataset |= {key: value.format(phase) for key, value in roots.items()}
    return opt


def without_names(rows: list[dict]) -> list[dict]:
    """Leaves out what a record says of where its data come from."""
    names = ("split", "fingerprint")
    return [{key: value for key, value in row.items() if key not in names} for row in rows]


def make_stores(pairs: Path) -> None:
    for phase in ("train", "val"):
        prepare(pairs / phase, pairs / f"{phase}_store", split=f"small-{phase}")


def test_a_training_is_the_same_wherever_its_images_are(pairs: Path, train) -> None:
    """Stock BasicSR on folders, ours on folders, on BasicSR's LMDBs and on stores."""
    make_stores(pairs)
    for phase in ("train", "val"):
        make_lmdbs(pairs / phase, pairs / f"{phase}_lmdb")
    stock = student_of_a_saved_teacher(pairs)
    folders = {"dataroot_gt": "{}/clear", "dataroot_lq": "{}/hazy"}
    lmdbs = {"dataroot_gt": "{}_lmdb/clear.lmdb", "dataroot_lq": "{}_lmdb/hazy.lmdb"}
    recorded = []
    for number, opt in enumerate(
        (
            stock,
            paired(pairs, **folders),
            paired(pairs, **lmdbs),
            paired(pairs, dataroot_gt="{}_store"),
        )
    ):
        opt["name"] = f"run{number}"
        opt["datasets"]["train"]["num_worker_per_gpu"] = number % 2
        rows = train(opt)
        assert any(row["kind"] == "val" for row in rows)
        recorded.append(without_names(rows))
    assert recorded[1:] == recorded[:1] * 3


def test_the_name_of_the_split_is_in_log_records_and_tables(pairs: Path, train) -> None:
    make_stores(pairs)
    train(paired(pairs, dataroot_gt="{}_store"))
    text = log_of(pairs, "student")
    assert "6 training images (split folders/small-train)" in text
    assert "Validation val, split folders/small-val, 2 images" in text
    rows = records_of(pairs, "student")
    assert {row["split"] for row in rows if row["kind"] != "train"} == {"folders/small-val"}

    opt = evaluation_options("experiments/student/models/net_g_latest.pth")
    opt["datasets"] = {
        "test": {"name": "named", "type": "PairedHazeDataset", "dataroot_gt": "val_store"},
        "test_2": {**opt["datasets"]["test"], "name": "unnamed"},
    }
    assert cli.main(["test", "-opt", str(write_options(pairs, opt))]) == 0
    with (pairs / "results/evaluation/metrics.csv").open(newline="") as file:
        table = {row["set"]: row for row in csv.DictReader(file)}
    assert table["named"]["split"] == "folders/small-val"
    assert table["unnamed"]["split"] == ""
    assert table["named"]["images"] == "2"
    assert float(table["named"]["psnr"]) == float(table["unnamed"]["psnr"]) > 3
    assert "unnamed split" in log_of(pairs, "evaluation", "test")


def nh_haze(pairs: Path) -> Path:
    """A copy of NH-HAZE in miniature."""
    for number in range(1, 56):
        for side in ("hazy", "GT"):
            write_png(pairs / f"NH-HAZE/{number:02}_{side}.png", number, (48, 48))
    return pairs / "NH-HAZE"


def test_a_public_dataset_as_it_is_unpacked(pairs: Path, train) -> None:
    folder = nh_haze(pairs)
    opt = paired(
        pairs, dataroot_gt="NH-HAZE", layout="nh-haze", split="challenge-{}", name="NH-HAZE_{}"
    )
    train(opt)
    text = log_of(pairs, "student")
    assert "45 training images (split nh-haze/challenge-train)" in text
    assert "Validation NH-HAZE_val, split nh-haze/challenge-val, 5 images" in text

    (folder / "07_hazy.png").unlink()
    opt["name"] = "incomplete"
    path = write_options(pairs, opt)
    assert cli.main(["train", "-opt", str(path)]) == 1
    opt["datasets"]["train"]["allow_incomplete"] = True
    train(opt)
    text = log_of(pairs, "incomplete")
    assert "44 training images (split nh-haze/challenge-train (incomplete: 1 missing))" in text


@in_one_and_two
def test_a_layout_that_is_incomplete_is_refused(fails, pairs: Path) -> None:
    (nh_haze(pairs) / "07_hazy.png").unlink()
    opt = paired(pairs, dataroot_gt="NH-HAZE", layout="nh-haze", split="challenge-{}")
    assert "07_hazy.png" in one(fails(opt))


def test_haze_made_on_the_fly_and_resumed(pairs: Path, train) -> None:
    opt = student_of_a_saved_teacher(pairs)
    opt["datasets"]["train"] |= {
        "type": "SyntheticHazeDataset",
        "haze": {"density": [1, 2], "veil": [0, 0.1]},
        "degradation": {"kinds": {"clouds": 0.5, "depth": 0.5}, "noise": {"share": 0.5}},
        "use_scale": [0.8, 1.2],
        "color_jitter": {"saturation": 0.2},
        "num_worker_per_gpu": 1,
    }
    opt["datasets"]["val"]["type"] = "SyntheticHazeDataset"
    for phase in ("train", "val"):
        del opt["datasets"][phase]["dataroot_lq"]
    opt["name"] = "whole"
    whole = train(opt)
    assert {row["split"] for row in whole if row["kind"] == "val"} == {"unnamed + synthetic haze"}
    opt["name"] = "parts"
    opt["train"] |= {"total_iter": 2, "freeze_bn": 1}
    train(opt)
    opt["train"]["total_iter"] = 4
    assert train(opt, "--auto_resume") == whole
    assert "2 of 4 done" in log_of(pairs, "parts")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["ClearImageDataset", "PairedImageDataset"])
def test_images_that_cannot_be_read_are_skipped_and_counted(
    pairs: Path, train, workers: int, kind: str
) -> None:
    for name in ("01.png", "04.png"):
        (pairs / "train/clear" / name).write_bytes(b"broken")
    opt = teacher_options(8)
    opt["datasets"]["train"] |= {
        "type": kind,
        "on_error": "skip",
        "skip_at_most": 0.4,
        "num_worker_per_gpu": workers,
    }
    if kind == "PairedImageDataset":
        opt["datasets"]["train"]["dataroot_lq"] = "train/hazy"
    rows = train(opt)
    assert sum(row["kind"] == "train" for row in rows) == 8
    text = log_of(pairs, "teacher")
    assert text.count(" training images so far: ") == 2
    assert "skipped, 2 of 6 training images so far: train/clear/0" in text
    assert "2 training images were skipped" in text


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_images_that_cannot_be_read(pairs: Path, run, workers: int) -> None:
    for name in ("01.png", "04.png"):
        (pairs / "train/clear" / name).write_bytes(b"broken")
    opt = teacher_options(8)
    opt["datasets"]["train"] |= {"on_error": "skip", "num_worker_per_gpu": workers}
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: 2 of 6 training images cannot be read, more than")
    assert "train/clear/0" in line


def test_nothing_can_be_read(pairs: Path, run) -> None:
    for path in (pairs / "train/clear").iterdir():
        path.write_bytes(b"broken")
    opt = teacher_options(8)
    opt["datasets"]["train"] |= {"on_error": "skip", "skip_at_most": 0.99}
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 1
    assert "images in a row cannot be read" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"on_eror": "skip"}, "datasets.train.on_eror: unknown key; did you mean 'on_error'?"),
        ({"on_error": "ignore"}, "on_error: 'ignore' must be raise or skip"),
        ({"skip_at_most": 0.1}, "skip_at_most: needs on_error: skip"),
        ({"layout": "nh-hase"}, "layout: 'nh-hase' must be one of nh-haze, "),
        ({"use_scale": [2, 1]}, "use_scale: [2, 1] must be from 0.1 to 10"),
        ({"color_jitter": {"hues": 1}}, "color_jitter.hues: unknown key; did you mean 'hue'?"),
        ({"haze": {"densty": [1, 2]}}, "haze.densty: unknown key; did you mean 'density'?"),
        ({"haze": {"density": [2, 1]}}, "haze.density must be (low, high)"),
        ({"haze": {"octaves": 0}}, "haze.octaves must lie in [1, 10], got 0"),
        ({"degradation": {"jpg": {}}}, "degradation.jpg: unknown key; did you mean 'jpeg'?"),
        ({"degredation": {}}, "degredation: unknown key; did you mean 'degradation'?"),
        ({"dataroot_depth": "val/hazy"}, "val/hazy: has no depth map for 4 of 6 images"),
        ({"dataroot_gt": "nowhere"}, "dataroot_gt: no such folder: nowhere"),
    ],
)
def test_wrong_options(fails, pairs: Path, change: dict, part: str) -> None:
    opt = teacher_options()
    opt["datasets"]["train"] |= {"type": "SyntheticHazeDataset", **change}
    assert part in one(fails(opt))


def test_skipping_is_for_training(fails, pairs: Path) -> None:
    opt = teacher_options()
    opt["datasets"]["val"]["on_error"] = "skip"
    assert "val.on_error: only training may skip images" in one(fails(opt))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"split": "small-val"}, "split: small-val was requested, but train_store holds"),
        ({"layout": "o-haze"}, "layout: o-haze was requested"),
        ({"dataroot_lq": "train/hazy"}, "dataroot_lq: a store lists its own images"),
        ({"gt_size": 70}, "train_store, clear image clear/00.png: 80 x 64 pixels, smaller than"),
        ({"dataroot_gt": "clear_store"}, "clear_store: this store has no hazy images"),
        ({"dataroot_gt": "train"}, "dataroot_lq: missing; train is not a store"),
        (
            {"dataroot_gt": "train/clear", "layout": "folders"},
            "train/clear holds only clear images",
        ),
    ],
)
def test_stores_that_do_not_fit(fails, pairs: Path, change: dict, part: str) -> None:
    make_stores(pairs)
    prepare(pairs / "train/clear", pairs / "clear_store")
    opt = paired(pairs, dataroot_gt="{}_store")
    opt["datasets"]["train"] |= change
    assert part in one(fails(opt))


@in_one_and_two
def test_truncated_store(fails, pairs: Path) -> None:
    make_stores(pairs)
    data = pairs / "train_store/data.mdb"
    os.truncate(data, data.stat().st_size - 4096)
    assert "train_store: truncated, " in one(fails(paired(pairs, dataroot_gt="{}_store")))


def test_store_of_a_newer_format(fails, pairs: Path) -> None:
    make_stores(pairs)
    with lmdb.open(str(pairs / "val_store")) as file, file.begin(write=True) as transaction:
        info = json.loads(transaction.get(b"info"))
        info |= {"format": 2, "tool": "ktdn-plugin 9.0"}
        transaction.put(b"info", json.dumps(info).encode())
    (pairs / "val_store/lock.mdb").unlink()
    line = one(fails(paired(pairs, dataroot_gt="{}_store")))
    assert "val_store: a store of format 2, created by ktdn-plugin 9.0" in line
    assert "upgrade" in line


def test_a_store_that_moves_continues_being_read(pairs: Path, train) -> None:
    make_stores(pairs)
    opt = paired(pairs, dataroot_gt="{}_store")
    first = train(opt)
    for phase in ("train", "val"):
        shutil.move(pairs / f"{phase}_store", pairs / f"{phase}_moved")
        opt["datasets"][phase]["dataroot_gt"] = f"{phase}_moved"
    opt["name"] = "again"
    assert train(opt) == first


def test_a_teacher_takes_a_stores_clear_side(pairs: Path, train) -> None:
    make_stores(pairs)
    opt = teacher_options()
    first = train(opt)
    opt["name"] = "on_stores"
    for phase in ("train", "val"):
        opt["datasets"][phase]["dataroot_gt"] = f"{phase}_store"
    assert without_names(train(opt)) == without_names(first)


def test_hazy_images_beside_clear_ones_are_not_taken_for_clear(pairs: Path, train, fails) -> None:
    opt = teacher_options()
    first = train(opt)
    opt["name"] = "above"
    for phase in ("train", "val"):
        opt["datasets"][phase]["dataroot_gt"] = phase  # with hazy and clear in it
    assert train(opt) == first


def test_of_a_flat_folder_of_both_the_teacher_sees_the_clear_images(pairs: Path) -> None:
    root = nh_haze(pairs)
    dataset = ClearImageDataset({"phase": "val", "dataroot_gt": str(root)})
    names = [Path(dataset.images.clear.name(number)).name for number in range(len(dataset))]
    assert names == [f"{number:02}_GT.png" for number in range(1, 56)]


def test_a_folder_of_lmdbs_has_the_split_that_is_named(pairs: Path, train) -> None:
    for phase in ("train", "val"):
        make_lmdbs(pairs / phase, pairs / f"{phase}_lmdb")
    opt = paired(pairs, dataroot_gt="{}_lmdb")  # the folder of both
    opt["datasets"]["val"]["split"] = "mine"
    rows = train(opt)
    assert {row["split"] for row in rows if row["kind"] == "val"} == {"mine"}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"layout": "nh-haze"}, "layout: BasicSR's LMDBs list their own images"),
        ({"filename_tmpl": "{}_x"}, "filename_tmpl: an LMDB lists its own images"),
    ],
)
def test_options_that_an_lmdb_contradicts(fails, pairs: Path, change: dict, part: str) -> None:
    make_lmdbs(pairs / "train", pairs / "train_lmdb")
    opt = paired(pairs, dataroot_gt="train_lmdb/clear.lmdb", dataroot_lq="train_lmdb/hazy.lmdb")
    opt["datasets"]["train"] |= change
    assert part in one(fails(opt))


def test_one_lmdb_for_basicsrs_reader_and_ours(pairs: Path, train) -> None:
    make_lmdbs(pairs / "train", pairs / "both")
    opt = paired(pairs, dataroot_gt="both/clear.lmdb", dataroot_lq="both/hazy.lmdb")
    stock = {"type": "PairedImageDataset", "io_backend": {"type": "lmdb"}}
    opt["datasets"]["val"] |= {**opt["datasets"]["train"], **stock}
    assert {row["kind"] for row in train(opt)} >= {"train", "val"}


def test_damaged_lmdb_is_found_before_basicsrs_reader_maps_it(fails, pairs: Path) -> None:
    make_lmdbs(pairs / "train", pairs / "both")
    file = pairs / "both/clear.lmdb/data.mdb"
    content = bytearray(file.read_bytes())
    for page in range(2, len(content) // 4096):
        start = 4096 * page
        if (int.from_bytes(content[start : start + 8], "little"), content[start + 10]) == (page, 2):
            content[start + 16] ^= 0xFF  # where a leaf's first key is
    file.write_bytes(content)
    opt = paired(pairs, dataroot_gt="both/clear.lmdb", dataroot_lq="both/hazy.lmdb")
    stock = {"type": "PairedImageDataset", "io_backend": {"type": "lmdb"}}
    opt["datasets"]["train"] |= stock
    lines = fails(opt)
    assert "datasets.train: both/clear.lmdb: damaged (a node of page" in lines[0]
    assert "datasets.val: both/clear.lmdb: damaged at " in lines[1]


def test_depth_of_another_size_is_found_before_the_run(fails, pairs: Path) -> None:
    shutil.copytree(pairs / "train/clear", pairs / "depth")
    write_png(pairs / "depth/03.png", 1, (30, 40))
    opt = teacher_options()
    opt["datasets"]["train"] |= {"type": "SyntheticHazeDataset", "dataroot_depth": "depth"}
    line = one(fails(opt))
    assert "depth depth/03.png: is 40 x 30 pixels, its photo train/clear/03.png 80 x 64" in line


@pytest.mark.parametrize("key", ["use_scale", "color_jitter"])
def test_validation_images_stay_as_they_are(fails, pairs: Path, key: str) -> None:
    opt = teacher_options()
    opt["datasets"]["val"][key] = {"use_scale": [0.5, 2], "color_jitter": {"hue": 0.1}}[key]
    assert f"datasets.val.{key}: only allowed in training" in one(fails(opt))
