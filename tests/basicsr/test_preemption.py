"""A training that is asked to stop saves its state, says so, and resumes exactly."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch
from helpers import assert_same, models, records_of, teacher_options, write_options
from preloaded import together

ITERATIONS = 60


def start(folder: Path, path: Path, *, rank: int | None = None, port: int = 0) -> subprocess.Popen:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    place |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    return subprocess.Popen(
        [sys.executable, "-m", "ktdn_plugin", "train", "-opt", str(path), "--auto_resume"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(place if rank is not None else {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_iteration(folder: Path, process: subprocess.Popen) -> None:
    metrics = folder / "experiments/teacher/metrics.jsonl"
    until = time.monotonic() + 120
    while not (metrics.exists() and '"train"' in metrics.read_text()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.005)


def options(workers: int) -> dict:
    opt = teacher_options(ITERATIONS)
    opt["network_g"]["encoder"] = "test_resnet"
    opt["datasets"]["train"]["num_worker_per_gpu"] = workers
    opt["logger"] |= {"save_checkpoint_freq": 1000, "print_freq": 1}
    opt["val"]["val_freq"] = 50
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

    process = start(pairs, path)
    wait_for_iteration(pairs, process)
    os.killpg(process.pid, signal.SIGTERM)  # as Slurm does it: the workers get it, too
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
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

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    both = [start(pairs, path, rank=rank, port=port) for rank in range(2)]
    wait_for_iteration(pairs, both[0])
    both[1].send_signal(signal.SIGUSR1)
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [128 + signal.SIGUSR1] * 2, said
    iteration = saved_iteration(pairs)
    assert iteration < ITERATIONS
    assert f"stopped by SIGUSR1 after iteration {iteration}," in said[0]
    assert "stopped" not in said[1]  # one of them is enough to hear

    assert [one.returncode for one in together(words, [pairs] * 2)] == [0, 0]
    assert_uninterrupted(pairs)
