"""A training that is killed and goes on ends as one that was never interrupted, bit for bit."""

from __future__ import annotations

import contextlib
import shutil
import signal
from pathlib import Path

import pytest
import torch
from helpers import (
    assert_same,
    log_of,
    models,
    records_of,
    student_options,
    teacher_file,
    teacher_options,
    write_options,
)
from preloaded import Command, start_together

from ktdn_plugin.basicsr import compat

pytestmark = pytest.mark.slow

ITERATIONS = 20


def kill_when(
    folder: Path, path: Path, sign: Path, processes: int = 1, flags: tuple[str, ...] = ()
) -> None:
    """Starts a training and kills all of its processes as soon as a file is there."""
    words = ["train", "-opt", str(path), *flags]
    if processes > 1:
        commands = start_together(words, [folder] * processes)
    else:
        commands = [Command(words, folder, {})]
    commands[0].wait_until(sign.exists)
    for command in commands:
        with contextlib.suppress(ProcessLookupError):  # gone, for another one was killed
            command.send(signal.SIGKILL, to_all=True)
    codes = [command.wait(60).returncode for command in commands]
    assert codes[0] == -signal.SIGKILL


def compare(folder: Path, name: str, reference: Path) -> None:
    """Compares everything that two runs left."""
    for file in sorted(reference.rglob("*")):
        other = folder / "experiments" / name / file.relative_to(reference)
        if file.suffix in (".pth", ".state"):
            assert_same(
                torch.load(file, weights_only=True), torch.load(other, weights_only=True), file.name
            )
    assert {p.name for p in (reference / "models").iterdir()} == {
        p.name for p in models(folder, name).iterdir()
    }


def make_lmdbs(folder: Path) -> None:
    compat.apply()
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    for kind in ("clear", "hazy"):
        names = sorted(p.name for p in (folder / "train" / kind).iterdir())
        keys = [name.split(".")[0] for name in names]
        store = folder / f"train_{kind}.lmdb"
        make_lmdb_from_imgs(str(folder / "train" / kind), str(store), names, keys)


def with_workers(opt: dict, folder: Path) -> dict:
    opt["datasets"]["train"]["num_worker_per_gpu"] = 2
    return opt


def with_lmdb(opt: dict, folder: Path) -> dict:
    make_lmdbs(folder)
    opt["datasets"]["train"] |= {
        "dataroot_gt": "train_clear.lmdb",
        "io_backend": {"type": "lmdb"},
        "num_worker_per_gpu": 2,
        "batch_size_per_gpu": 1,
    }
    if "dataroot_lq" in opt["datasets"]["train"]:
        opt["datasets"]["train"]["dataroot_lq"] = "train_hazy.lmdb"
    return opt


def with_switches(opt: dict, folder: Path) -> dict:
    opt["train"] |= {"amp": "fp16", "channels_last": True, "grad_accum_steps": 2, "clip_grad": 1.0}
    opt["train"]["optim_g"] = {"type": "adan", "lr": 1e-3, "encoder_lr": 1e-4}
    opt["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [8, 16], "gamma": 0.5}
    opt["train"]["freeze_bn"] = 12
    del opt["manual_seed"]  # one is drawn, and has to be kept
    return opt


CASES = {
    "one process": (with_workers, 1),
    "two processes, LMDB, workers": (with_lmdb, 2),
    "switches": (with_switches, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed_is_uninterrupted(pairs: Path, run, case: str) -> None:
    change, processes = CASES[case]
    opt = student_options(ITERATIONS)
    for network in ("network_g", "network_t"):
        opt[network]["encoder"] = "test_resnet"  # has batch norm
    opt["path"]["pretrain_network_t"] = str(teacher_file(pairs, "test_resnet"))
    opt["logger"]["save_checkpoint_freq"] = 5
    opt["val"]["val_freq"] = 4  # not when states are saved
    opt = change(opt, pairs)
    path = write_options(pairs, opt)
    words = {"processes": processes}
    first = ["--force_yml", "manual_seed=7"] if "manual_seed" not in opt else []
    done = run("train", "-opt", path, *first, **words)
    assert done.returncode == 0, done.stderr
    whole = pairs / "whole"
    shutil.move(pairs / "experiments/student", whole)
    shutil.copytree(whole, pairs / "experiments/whole")
    expected = records_of(pairs, "whole")
    assert [row["iter"] for row in expected if row["kind"] == "train"] == [*range(1, 21)]

    sign = pairs / "experiments/student/training_states/10.state"
    kill_when(pairs, path, sign, processes, tuple(first))
    done = run("train", "-opt", path, "--auto_resume", **words)
    assert done.returncode == 0, done.stderr
    text = log_of(pairs, "student")
    assert f"of {ITERATIONS} done" in text
    assert "No longer exact" not in text
    compare(pairs, "student", whole)
    assert records_of(pairs, "student") == expected
    assert not list(models(pairs, "student").glob(".*"))


def test_resume_on_another_number_of_processes(pairs: Path, run) -> None:
    opt = teacher_options(6)
    opt["datasets"]["train"]["batch_size_per_gpu"] = 1
    opt["val"]["val_freq"] = 6
    path = write_options(pairs, opt)
    done = run("train", "-opt", path, "--force_yml", "train:total_iter=2", processes=2)
    assert done.returncode == 0, done.stderr

    # As many samples per iteration as before, in one process: the same samples go on.
    shutil.copytree(pairs / "experiments/teacher", pairs / "experiments/other")
    flags = ["--auto_resume", "--force_yml", "datasets:train:batch_size_per_gpu=2"]
    done = run("train", "-opt", path, *flags)
    assert done.returncode == 0, done.stderr
    text = log_of(pairs, "teacher")
    assert "Resuming with changed number of processes: 1, was 2." in text
    assert "No longer exact: the last digits" in text
    assert [row["iter"] for row in records_of(pairs, "teacher") if row["kind"] == "train"] == [
        *range(1, 7)
    ]
    together = records_of(pairs, "teacher")

    # The same by two processes: the same losses.
    done = run("train", "-opt", path, "--auto_resume", "--force_yml", "name=other", processes=2)
    assert done.returncode == 0, done.stderr
    for one, two in zip(together, records_of(pairs, "other"), strict=True):
        assert one["iter"] == two["iter"]
        if one["kind"] == "train":
            assert one["l_rec"] == pytest.approx(two["l_rec"], rel=1e-3)

    # And with batches of another size.
    done = run("train", "-opt", path, "--auto_resume", "--force_yml", "train:total_iter=8")
    assert done.returncode == 0, done.stderr
    text = log_of(pairs, "teacher")
    assert "Resuming with changed samples per iteration: 1, was 2." in text
    assert records_of(pairs, "teacher")[-2]["iter"] == 8


def test_a_seed_that_was_drawn_is_kept(pairs: Path, run) -> None:
    opt = teacher_options(2)
    del opt["manual_seed"]
    path = write_options(pairs, opt)
    assert run("train", "-opt", path).returncode == 0
    state = pairs / "experiments/teacher/training_states/2.state"
    seed = torch.load(state, weights_only=True)["progress"]["seed"]
    done = run("train", "-opt", path, "--auto_resume", "--force_yml", "train:total_iter=4")
    assert done.returncode == 0, done.stderr
    assert torch.load(state.with_name("4.state"), weights_only=True)["progress"]["seed"] == seed


def test_other_images_restart_the_order(pairs: Path, run) -> None:
    path = write_options(pairs, teacher_options(2))
    assert run("train", "-opt", path).returncode == 0
    next((pairs / "train/clear").iterdir()).unlink()
    done = run("train", "-opt", path, "--auto_resume", "--force_yml", "train:total_iter=4")
    assert done.returncode == 0, done.stderr
    text = log_of(pairs, "teacher")
    assert "Resuming with changed number of training images: 5, was 6." in text
    assert "the order of the samples restarts" in text
