"""What a run leaves on the disk: the newest, the best, and whole files when the disk is full."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from helpers import log_of, models, teacher_options, write_options
from preloaded import Command

from ktdn_plugin import cli


def test_the_newest_and_the_best_are_kept(pairs: Path, train) -> None:
    opt = teacher_options(8)
    opt["logger"]["keep_checkpoints"] = 2
    opt["val"]["best_metric"] = "ssim"
    rows = train(opt)
    assert {p.name for p in models(pairs, "teacher").iterdir()} == {
        "net_g_6.pth",
        "net_g_8.pth",
        "net_g_best.pth",
        "net_g_latest.pth",
    }
    states = pairs / "experiments/teacher/training_states"
    assert {p.name for p in states.iterdir()} == {"6.state", "8.state"}
    figures = {row["iter"]: row["ssim"] for row in rows if row["kind"] == "val"}
    assert len(figures) == 4
    best = max(figures, key=figures.get)
    # Trained once more up to the best iteration: the same network.
    opt["name"] = "again"
    opt["logger"]["keep_checkpoints"] = 8
    train(opt)
    one = torch.load(models(pairs, "teacher") / "net_g_best.pth", weights_only=True)
    other = torch.load(models(pairs, "again") / f"net_g_{best}.pth", weights_only=True)
    assert one.keys() == {"params", "params_ema", "ktdn"}
    for key, value in one["params_ema"].items():
        assert torch.equal(value, other["params_ema"][key])


@pytest.mark.parametrize("model", ["KTDNTeacherModel", "SRModel"])
def test_the_best_goes_along_under_another_name(pairs: Path, train, model: str) -> None:
    opt = teacher_options(2) | {"model_type": model}
    del opt["train"]["laplacian_opt"]  # which BasicSR's own model does not know
    opt["val"]["metrics"]["psnr"]["better"] = "lower"  # so that the first stays the best
    train(opt, "--force_yml", "train:total_iter=4")
    best = (models(pairs, "teacher") / "net_g_best.pth").read_bytes()
    opt["path"]["resume_state"] = "experiments/teacher/training_states/4.state"
    opt |= {"name": "longer"}
    opt["train"]["total_iter"] = 5
    opt["val"]["val_freq"] = 100
    train(opt)
    assert (models(pairs, "longer") / "net_g_best.pth").read_bytes() == best


def full_disk(folder: Path) -> None:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no small disk can be made here: {done.stderr.strip()}")


def test_a_full_disk_is_an_error_and_loses_nothing(pairs: Path, run) -> None:
    opt = teacher_options(40)
    path = write_options(pairs, opt)
    (pairs / "experiments").mkdir()
    full_disk(pairs / "experiments")  # room for a few checkpoints
    try:
        done = run("train", "-opt", path)
        assert done.returncode == 1
        message = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(message) == 1
        assert "cannot be saved" in message[0]
        assert "free some space" in message[0]
        assert "Traceback" not in done.stderr
        run_folder = pairs / "experiments/teacher"
        states = sorted((run_folder / "training_states").iterdir())
        assert states
        for file in [*states, *(run_folder / "models").iterdir()]:
            torch.load(file, weights_only=True)  # each is whole
        assert not list(run_folder.rglob("*.tmp"))

        # With room again it goes on by itself.
        for file in sorted((run_folder / "training_states").iterdir())[:-1]:
            file.unlink()
        subprocess.run(["mount", "-o", "remount,size=100m", str(run_folder.parent)], check=True)
        done = run("train", "-opt", path, "--auto_resume", "--force_yml", "train:total_iter=12")
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", "-l", str(pairs / "experiments")], check=False)


def test_auto_resume_skips_incomplete_states(pairs: Path, run) -> None:
    opt = teacher_options(8)
    path = write_options(pairs, opt)
    assert run("train", "-opt", path).returncode == 0
    states, nets = pairs / "experiments/teacher/training_states", models(pairs, "teacher")
    (states / "8.state").write_bytes(b"PK\x03\x04 damaged")
    network = nets / "net_g_6.pth"
    network.write_bytes(network.read_bytes()[:1000])
    (nets / "net_g_4.pth").unlink()
    done = run("train", "-opt", path, "--auto_resume")
    assert done.returncode == 0, done.stderr
    passed = [line for line in done.stdout.splitlines() if "Skipped " in line]
    assert len(passed) == 3
    for line, name in zip(passed, ("8.state", "net_g_6.pth", "net_g_4.pth"), strict=True):
        assert name in line
    assert "or list network_g in path.ignore_resume_networks" in passed[2]
    assert "2.state: 2 of 8 done" in done.stderr


def test_a_run_without_a_state_of_its_own_resumes_from_the_options(pairs: Path, train) -> None:
    opt = teacher_options(2)
    train(opt)
    opt["path"]["resume_state"] = "experiments/teacher/training_states/2.state"
    opt["name"] = "next"
    opt["train"]["total_iter"] = 4
    rows = train(opt, "--auto_resume")
    assert [row["iter"] for row in rows if row["kind"] == "train"] == [3, 4]
    rows = train(opt, "--auto_resume", "--force_yml", "train:total_iter=5")  # now from its own
    assert [row["iter"] for row in rows if row["kind"] == "train"] == [3, 4, 5]
    assert "4 of 5 done" in log_of(pairs, "next")


def test_a_run_continues_with_its_whole_network(pairs: Path, train, capfd) -> None:
    opt = teacher_options(2)
    opt["path"]["strict_load_g"] = False  # is for the checkpoint that the first part began with
    train(opt)
    opt["network_g"]["reduction"] = 4
    opt["train"]["total_iter"] = 4
    capfd.readouterr()
    assert cli.main(["train", "-opt", str(write_options(pairs, opt)), "--auto_resume"]) == 1
    assert "net_g_2.pth: a checkpoint of a different network" in capfd.readouterr().err
    # Nor does the optimizer's state go on with another one, by which it would overwrite memory.
    opt["path"]["ignore_resume_networks"] = ["network_g"]
    assert cli.main(["train", "-opt", str(write_options(pairs, opt)), "--auto_resume"]) == 1
    assert "2.state: the state of a run with a different optimizer" in capfd.readouterr().err


def test_options_name_where_a_run_resumes(pairs: Path, run) -> None:
    opt = teacher_options(2)
    opt["path"]["experiments_root"] = "elsewhere/here"
    path = write_options(pairs, opt)
    assert run("train", "-opt", path).returncode == 0
    done = run("train", "-opt", path, "--auto_resume", "--force_yml", "train:total_iter=3")
    assert done.returncode == 0, done.stderr
    assert "elsewhere/here/training_states/2.state: 2 of 3 done" in done.stderr
    assert not (pairs / "experiments").exists()


@pytest.mark.slow
def test_a_data_worker_that_dies_is_reported(pairs: Path) -> None:
    opt = teacher_options(100_000)
    opt["val"]["val_freq"] = 100_000
    opt["logger"]["save_checkpoint_freq"] = 100_000
    opt["datasets"]["train"]["num_worker_per_gpu"] = 1
    path = write_options(pairs, opt)
    command = Command(["train", "-opt", path], pairs, {})
    file = pairs / "experiments/teacher/metrics.jsonl"
    command.wait_until(lambda: file.exists() and file.read_text().count("\n") > 3)
    workers = subprocess.run(
        ["pgrep", "-P", str(command.process.pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    assert workers
    for worker in workers:
        os.kill(int(worker), signal.SIGKILL)
    done = command.wait(60)
    assert done.returncode == 1
    message = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(message) == 1
    assert "a data-loading worker died" in message[0]


@pytest.mark.slow
def test_data_workers_that_fall_silent_are_reported(
    pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ktdn_plugin.basicsr import register

    register()
    from ktdn_plugin.basicsr.datasets import ClearImageDataset

    read = ClearImageDataset.__getitem__

    def read_slowly(self: ClearImageDataset, index: int) -> dict:
        if self.opt["phase"] == "train" and index == 3:
            time.sleep(60)
        return read(self, index)

    monkeypatch.setattr(ClearImageDataset, "__getitem__", read_slowly)
    opt = teacher_options(10)
    opt["datasets"]["train"]["num_worker_per_gpu"] = 1
    opt["dist_params"] = {"timeout": 3}
    monkeypatch.chdir(pairs)
    assert cli.main(["train", "-opt", str(write_options(pairs, opt))]) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error: ")]
    assert "the data-loading workers do not respond" in line
