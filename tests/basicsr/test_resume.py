"""Runs that go on, and runs that start again under a name that is taken."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
import torch
from helpers import (
    log_of,
    models,
    student_options,
    teacher_options,
    write_options,
)
from preloaded import Command

from ktdn_plugin import cli


def test_resume(pairs: Path, run) -> None:
    assert run("train", "-opt", write_options(pairs, teacher_options(2))).returncode == 0
    opt = student_options(2)
    assert run("train", "-opt", write_options(pairs, opt)).returncode == 0
    opt["train"]["total_iter"] = 5
    done = run("train", "-opt", write_options(pairs, opt), "--auto_resume")
    assert done.returncode == 0, done.stderr
    text = log_of(pairs, "student")
    assert "2 of 5 done" in text
    iterations = [int(value) for value in re.findall(r"iter: +(\d+), lr", text)]
    assert iterations == [1, 2, 3, 4, 5]
    state = torch.load(pairs / "experiments/student/training_states/4.state", weights_only=True)
    assert state["iter"] == 4
    assert int(state["optimizers"][0]["state"][0]["step"]) == 4

    # The same by path.resume_state, over a damaged newer state that auto_resume passes over.
    (pairs / "experiments/student/training_states/9.state").write_bytes(b"PK\x03\x04 damaged")
    done = run("train", "-opt", write_options(pairs, opt), "--auto_resume")
    assert done.returncode == 0, done.stderr
    assert "9.state" in done.stdout
    assert "4 of 5 done" in log_of(pairs, "student")
    opt["path"]["resume_state"] = "experiments/student/training_states/2.state"
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr


def test_a_run_of_the_same_name_is_archived(pairs: Path, run) -> None:
    path = write_options(pairs, teacher_options(2))
    assert run("train", "-opt", path).returncode == 0
    assert run("train", "-opt", path).returncode == 0
    runs = sorted(folder.name for folder in (pairs / "experiments").iterdir())
    assert runs[0] == "teacher"
    assert runs[1].startswith("teacher_archived_")
    opt = teacher_options(2)
    opt["path"]["pretrain_network_g"] = "experiments/teacher/models/net_g_latest.pth"
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 1
    assert "lies in the folder of this very run" in done.stderr
    assert len(list((pairs / "experiments").iterdir())) == 2


def test_the_options_kept_with_a_run_start_it_again(pairs: Path, run) -> None:
    assert run("train", "-opt", write_options(pairs, teacher_options(2))).returncode == 0
    kept = "experiments/teacher/teacher.yml"
    done = run("train", "-opt", kept, "--auto_resume", "--force_yml", "train:total_iter=3")
    assert done.returncode == 0, done.stderr
    assert "2 of 3 done" in log_of(pairs, "teacher")
    done = run("train", "-opt", kept)
    assert done.returncode == 0, done.stderr
    assert "total_iter: 2" in (pairs / kept).read_text()


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="needs a system with pipes by name")
def test_options_come_out_of_a_pipe(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pairs)
    text = write_options(pairs, teacher_options(1)).read_text()
    reader, writer = os.pipe()  # what a shell makes of <(command)
    os.write(writer, text.encode())
    os.close(writer)
    try:
        assert cli.main(["train", "-opt", f"/dev/fd/{reader}"]) == 0
    finally:
        os.close(reader)
    kept = "experiments/teacher/teacher.yml"
    assert (pairs / kept).read_text().endswith(text)
    assert cli.main(["train", "-opt", kept, "--auto_resume"]) == 0


def test_resume_with_another_optimizer(pairs: Path, run) -> None:
    opt = teacher_options(2)
    assert run("train", "-opt", write_options(pairs, opt)).returncode == 0
    opt["train"]["optim_g"] = {"type": "SGD", "lr": 0.1, "momentum": 0.9}
    opt["train"]["total_iter"] = 3
    done = run("train", "-opt", write_options(pairs, opt), "--auto_resume")
    assert done.returncode == 1
    assert "2.state: the state of a run with a different optimizer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_longer_schedule_is_followed(pairs: Path, train) -> None:
    opt = teacher_options(4)
    opt["train"]["scheduler"]["periods"] = [4]
    opt["train"]["freeze_bn"] = False
    train(opt)
    opt["train"]["total_iter"] = 8
    opt["train"]["scheduler"]["periods"] = [8]
    opt["train"]["optim_g"]["lr"] = 0.5
    rates = [row["lr"][0] for row in train(opt, "--auto_resume") if row["kind"] == "train"]
    assert rates[:4] == pytest.approx([0.001, 0.000853553, 0.0005, 0.000146447], rel=1e-5)
    assert rates[4:] == pytest.approx([0.0005, 0.000308658, 0.000146447, 3.80602e-05], rel=1e-5)
    text = log_of(pairs, "teacher")
    assert "different train.scheduler.periods: [8], was [4]" in text
    assert (
        "Continuing with the state's learning rates, [[0.001]], not the options', [[0.5]]." in text
    )


def test_another_kind_of_schedule_is_refused(pairs: Path, train, capfd) -> None:
    opt = teacher_options(2)
    train(opt)
    opt["train"] |= {
        "total_iter": 4,
        "scheduler": {"type": "MultiStepLR", "milestones": [3], "gamma": 0.5},
    }
    capfd.readouterr()
    assert cli.main(["train", "-opt", str(write_options(pairs, opt)), "--auto_resume"]) == 1
    errors = capfd.readouterr().err
    assert "2.state: the state of a run with a different optimizer or scheduler" in errors


def test_resume_under_another_name(pairs: Path, run) -> None:
    opt = teacher_options(2)
    assert run("train", "-opt", write_options(pairs, opt)).returncode == 0
    opt["path"]["resume_state"] = "experiments/teacher/training_states/2.state"
    opt["name"] = "longer"
    opt["train"]["total_iter"] = 3
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    assert (models(pairs, "longer") / "net_g_latest.pth").is_file()
    assert not list((pairs / "experiments/teacher").glob("*_archived_*"))


def test_interrupted_by_hand(pairs: Path) -> None:
    opt = teacher_options(10_000)
    opt["val"]["val_freq"] = 10_000
    path = write_options(pairs, opt)
    command = Command(["train", "-opt", path], pairs, {})
    command.wait_until((pairs / "experiments/teacher/training_states/4.state").is_file)
    command.send(signal.SIGINT)
    done = command.wait(60)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Interrupted. --auto_resume resumes")
