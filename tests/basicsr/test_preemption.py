"""A training that is asked to stop saves its state, says so, and resumes exactly."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
import torch
from helpers import assert_same, models, records_of, teacher_options, write_options
from preloaded import Command, start_together, together

pytestmark = pytest.mark.slow

ITERATIONS = 40


def wait_for_iteration(folder: Path, command: Command) -> None:
    metrics = folder / "experiments/teacher/metrics.jsonl"
    command.wait_until(lambda: metrics.exists() and '"train"' in metrics.read_text())


def options(workers: int) -> dict:
    opt = teacher_options(ITERATIONS)
    opt["network_g"]["encoder"] = "test_resnet"
    opt["datasets"]["train"]["num_worker_per_gpu"] = workers
    opt["logger"] |= {"save_checkpoint_freq": 1000, "print_freq": 1}
    opt["val"]["val_freq"] = 30
    return opt


def saved_iteration(folder: Path) -> int:
    (state,) = (folder / "experiments/teacher/training_states").iterdir()
    return int(state.stem)


def assert_uninterrupted(folder: Path) -> None:
    """Compares the run with one that nothing has interrupted, bit by bit."""
    for name in ("net_g_latest.pth", "net_g_best.pth"):
        one, two = (
            torch.load(models(folder, run) / name, weights_only=True)
            for run in ("whole", "teacher")
        )
        assert_same(one, two, name)
    assert records_of(folder, "teacher") == records_of(folder, "whole")


def test_signal_to_all_processes_of_a_job(pairs: Path, run) -> None:
    path = write_options(pairs, options(workers=2))
    done = run("train", "-opt", path)
    assert done.returncode == 0, done.stderr
    whole = pairs / "experiments/whole"
    shutil.move(pairs / "experiments/teacher", whole)

    command = Command(["train", "-opt", path, "--auto_resume"], pairs, {})
    wait_for_iteration(pairs, command)
    command.send(signal.SIGTERM, to_all=True)  # as Slurm does it: the workers get it, too
    done = command.wait(60)
    said = done.stderr
    assert done.returncode == 128 + signal.SIGTERM, said
    iteration = saved_iteration(pairs)
    assert iteration < ITERATIONS
    assert said.splitlines()[-1] == (
        f"stopped by SIGTERM after iteration {iteration}, whose state is saved; --auto_resume "
        "resumes from it"
    )
    assert "Traceback" not in said

    done = run("train", "-opt", path, "--auto_resume")
    assert done.returncode == 0, done.stderr
    assert_uninterrupted(pairs)


def test_signal_to_one_of_two_processes(pairs: Path) -> None:
    opt = options(workers=0)
    opt["datasets"]["train"]["batch_size_per_gpu"] = 1
    path = write_options(pairs, opt)
    words = ("train", "-opt", str(path), "--auto_resume")
    assert [one.returncode for one in together(words, [pairs] * 2)] == [0, 0]
    shutil.move(pairs / "experiments/teacher", pairs / "experiments/whole")

    both = start_together(words, [pairs] * 2)
    wait_for_iteration(pairs, both[0])
    both[1].send(signal.SIGUSR1)
    done = [command.wait(120) for command in both]
    said = [one.stderr for one in done]
    assert [one.returncode for one in done] == [128 + signal.SIGUSR1] * 2, said
    iteration = saved_iteration(pairs)
    assert iteration < ITERATIONS
    assert f"stopped by SIGUSR1 after iteration {iteration}," in said[0]
    assert "stopped" not in said[1]  # one of them is enough to hear

    assert [one.returncode for one in together(words, [pairs] * 2)] == [0, 0]
    assert_uninterrupted(pairs)
