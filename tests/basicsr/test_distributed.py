"""Several processes: they find each other, make one training, and none waits for a dead one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import (
    assert_same,
    evaluation_options,
    launch_of,
    log_of,
    losses_of,
    models,
    records_of,
    student_options,
    teacher_file,
    teacher_options,
    write_options,
    write_png,
)
from preloaded import Command, start_together, together

from ktdn_plugin import process_rank
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.training import distributed

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def with_batch_norm(pairs: Path, iterations: int = 4) -> dict:
    opt = student_options(iterations)
    for network in ("network_g", "network_t"):
        opt[network]["encoder"] = "test_resnet"
    opt["path"]["pretrain_network_t"] = str(teacher_file(pairs, "test_resnet"))
    return opt


def test_two_processes_train_as_one(pairs: Path, run) -> None:
    opt = with_batch_norm(pairs)
    opt["train"]["freeze_bn"] = True
    opt["train"]["optim_g"] = {"type": "SGD", "lr": 0.05, "momentum": 0.9}
    opt["train"]["grad_accum_steps"] = 2
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    opt["name"] = "two"
    opt["datasets"]["train"]["batch_size_per_gpu"] = 1
    done = run("train", "-opt", write_options(pairs, opt), processes=2)
    assert done.returncode == 0, done.stderr
    assert "world_size: 2" in log_of(pairs, "two")
    for one, two in zip(records_of(pairs, "student"), records_of(pairs, "two"), strict=True):
        for key in ("l_rec", "l_lap", "l_kt", "grad_norm", "psnr", "ssim"):
            assert (key in one) == (key in two)
            if key in one:
                assert one[key] == pytest.approx(two[key], rel=1e-3), key
    files = [models(pairs, name) / "net_g_latest.pth" for name in ("student", "two")]
    one, two = (torch.load(file, weights_only=True) for file in files)
    initial = torch.load(pairs / "teacher.pth", weights_only=True)["params"]
    for which in ("params", "params_ema"):
        for key in initial:
            torch.testing.assert_close(one[which][key], two[which][key], rtol=1e-3, atol=2e-5)


def test_validation_is_that_of_one_process(pairs: Path, run) -> None:
    for index in range(2, 5):  # five images: the processes' shares differ
        for kind in ("hazy", "clear"):
            write_png(pairs / f"val/{kind}/{index:02}.png", 7 * index + len(kind), (48, 40 + index))
    opt = teacher_options(2)
    opt["network_g"]["encoder"] = "test_resnet"
    opt["train"]["sync_bn"] = False
    path = write_options(pairs, opt)
    done = run("train", "-opt", path)
    assert done.returncode == 0, done.stderr
    single = [row for row in records_of(pairs, "teacher") if row["kind"] == "val"]
    assert len(single) == 1
    # The state is that of before the validation, which is done again.
    for processes in (2, 3):
        done = run("train", "-opt", path, "--auto_resume", processes=processes)
        assert done.returncode == 0, done.stderr
        rows = [row for row in records_of(pairs, "teacher") if row["kind"] == "val"]
        assert rows == single

    checkpoint = models(pairs, "teacher") / "net_g_latest.pth"
    opt = evaluation_options(checkpoint)
    opt["network_g"]["encoder"] = "test_resnet"
    path = write_options(pairs, opt)
    results = []
    for processes in (1, 2):
        done = run("test", "-opt", path, processes=processes)
        assert done.returncode == 0, done.stderr
        folder = pairs / "results/evaluation"
        images = {p.name: p.read_bytes() for p in folder.glob("visualization/pairs/*.png")}
        results.append((losses_of(log_of(pairs, "evaluation", "test"), "psnr"), images))
        shutil.rmtree(folder)
    assert len(results[0][1]) == 5
    assert results[0] == results[1]


def start_by_hand(pairs: Path, path: Path, variables: list[dict], *words: str) -> list[str]:
    """Starts one process for each set of variables, and gives what they printed."""
    commands = [Command([*words, "train", "-opt", path], pairs, one) for one in variables]
    done = [command.wait(120) for command in commands]
    assert [one.returncode for one in done] == [0] * len(done), done
    return [one.stdout + one.stderr for one in done]


@pytest.mark.slow
def test_slurm_is_recognised(pairs: Path) -> None:
    path = write_options(pairs, teacher_options(2))
    variables = [
        {
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(rank),
            "SLURM_NTASKS": "2",
            "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_JOB_ID": free_port(),
            "MASTER_PORT": "",
        }
        for rank in range(2)
    ]
    for one in variables:
        one["SLURM_JOB_ID"] = variables[0]["SLURM_JOB_ID"]
        del one["MASTER_PORT"]
    start_by_hand(pairs, path, variables)
    assert "world_size: 2" in log_of(pairs, "teacher")
    assert [p.name for p in (pairs / "experiments").iterdir()] == ["teacher"]


def test_old_launchers(pairs: Path, run) -> None:
    path = write_options(pairs, teacher_options(2))
    launcher = ("-m", "torch.distributed.launch", "--nproc_per_node=2", "--master_port")
    done = run("train", "-opt", path, program=(*launcher, free_port(), "-m", "ktdn_plugin"))
    assert done.returncode == 0, done.stderr
    assert "world_size: 2" in log_of(pairs, "teacher")
    done = run("train", "-opt", path, "--local_rank", "0")
    assert done.returncode == 0, done.stderr


def test_the_basicsr_command_under_torchrun(pairs: Path, run) -> None:
    script = "import sys; from ktdn_plugin.cli import basicsr; sys.exit(basicsr())"
    (pairs / "basicsr").write_text(script)  # what pip makes of the entry point
    path = write_options(pairs, teacher_options(2))
    program = (*launch_of(2)[:-2], "basicsr")
    done = run("train", "-opt", path, program=program)
    assert done.returncode == 0, done.stderr
    assert "world_size: 2" in log_of(pairs, "teacher")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2"}, "2 processes were started (WORLD_SIZE)"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "4 processes were started (OMPI_COMM_WORLD_SIZE)"),
        ({"PMI_SIZE": "3"}, "3 processes were started (PMI_SIZE)"),
    ],
)
def test_a_world_that_cannot_be_joined(
    monkeypatch: pytest.MonkeyPatch, variables: dict, message: str
) -> None:
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(KTDNError) as caught:
        process_rank.detect_rank()
    assert str(caught.value).startswith(message)
    assert "torchrun" in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "bad"),
    [
        ({"RANK": "abc"}, "RANK"),
        ({"RANK": "2"}, "RANK"),
        ({"WORLD_SIZE": "9" * 5000}, "WORLD_SIZE"),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK"),
        ({"RANK": None, "WORLD_SIZE": "many"}, "WORLD_SIZE"),
        ({"RANK": None, "SLURM_STEP_NUM_TASKS": "x", "SLURM_PROCID": "0"}, "SLURM_STEP_NUM_TASKS"),
        ({"RANK": None, "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "y"}, "SLURM_PROCID"),
    ],
)
def test_variables_that_are_no_numbers(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str | None], bad: str
) -> None:
    whole = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for key, value in {**whole, **variables}.items():
        if value is not None:
            monkeypatch.setenv(key, value)
    with pytest.raises(KTDNError, match=f"^the environment variable {bad}: .* whole number"):
        process_rank.detect_rank()


@pytest.mark.parametrize(("visible", "gpu"), [(1, 0), (8, 3), (2, None)])
def test_the_gpu_of_a_process(
    monkeypatch: pytest.MonkeyPatch, visible: int, gpu: int | None
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    place = process_rank.ProcessRank(rank=3, world_size=4, local_rank=3)
    if gpu is not None:  # one alone: Slurm's --gpus-per-task=1 hides the others'
        assert distributed._choose_gpu(place) == gpu
        return
    with pytest.raises(KTDNError, match=r"is number 4 on this host, which has 2 GPU\(s\)"):
        distributed._choose_gpu(place)


@pytest.mark.parametrize("gpus", [("a", "b"), ("a", "a")], ids=["each", "shared"])
def test_a_gpu_is_not_shared(gpus: tuple[str, str]) -> None:
    store = torch.distributed.HashStore()
    store.set("gpu_1", gpus[1])
    place = process_rank.ProcessRank(rank=0, world_size=2, local_rank=0)
    if gpus[0] != gpus[1]:
        distributed._refuse_shared_gpu(store, place, gpus[0])
        return
    with pytest.raises(KTDNError, match="processes 0 and 1 were given the same GPU"):
        distributed._refuse_shared_gpu(store, place, gpus[0])


def test_a_process_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert process_rank.detect_rank() is None
    # A batch script's own shell, and a step of one task.
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert process_rank.detect_rank() is None
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert process_rank.detect_rank() is None
    with pytest.raises(KTDNError, match=r"--launcher pytorch: .* not started by torchrun"):
        process_rank.detect_rank("pytorch")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    assert process_rank.detect_rank() == (0, 8, 0, 1)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("node[03-05,9]", "node03"),
        ("a1,b2", "a1"),
        ("gpu[1,2]-ib", "gpu1-ib"),
    ],
)
def test_first_host_of_a_slurm_list(nodes: str, first: str) -> None:
    assert distributed._first_host(nodes) == first


@pytest.mark.slow
def test_no_process_hangs_on_a_silent_one(pairs: Path) -> None:
    opt = teacher_options(100_000)
    opt["val"]["val_freq"] = 100_000
    opt["logger"]["save_checkpoint_freq"] = 100_000
    opt["dist_params"] = {"timeout": 10}
    path = write_options(pairs, opt)
    both = start_together(["train", "-opt", path], [pairs] * 2)
    try:
        file = pairs / "experiments/teacher/metrics.jsonl"
        both[0].wait_until(lambda: file.exists() and file.read_text().count("\n") > 3)
        both[1].send(signal.SIGSTOP)
        done = both[0].wait(60)
    finally:
        both[1].process.kill()
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "process 0 of 2 lost contact with another rank" in lines[0]
    assert "Traceback" not in done.stderr


def test_torchrun_restarts_a_killed_process(pairs: Path, run) -> None:
    opt = teacher_options(18)
    opt["datasets"]["train"]["num_worker_per_gpu"] = 1
    opt["logger"]["save_checkpoint_freq"] = 3
    opt["val"]["val_freq"] = 6
    path = write_options(pairs, opt)
    done = run("train", "-opt", path, processes=2)
    assert done.returncode == 0, done.stderr
    shutil.move(pairs / "experiments/teacher", pairs / "whole")

    words = [sys.executable, *launch_of(2, "--max-restarts=2"), "train", "-opt", str(path)]
    with (pairs / "restarted.log").open("w") as log:
        process = subprocess.Popen(words, cwd=pairs, env=ENVIRONMENT, stdout=log, stderr=log)
        sign = pairs / "experiments/teacher/training_states/9.state"
        while not sign.exists():
            assert process.poll() is None, (pairs / "restarted.log").read_text()
            time.sleep(0.002)
        pattern = f"python.*-m ktdn_plugin train -opt {path}"
        found = subprocess.run(
            ["pgrep", "-P", str(process.pid), "-f", pattern], capture_output=True
        )
        ranks = sorted(map(int, found.stdout.split()))
        assert len(ranks) == 2
        os.kill(ranks[1], signal.SIGKILL)
        assert process.wait(timeout=200) == 0, (pairs / "restarted.log").read_text()
    assert "of 18 done" in log_of(pairs, "teacher")
    for name in ("models/net_g_latest.pth", "training_states/18.state"):
        one, other = (
            torch.load(base / name, weights_only=True)
            for base in (pairs / "whole", pairs / "experiments/teacher")
        )
        assert_same(one, other, name)


def test_an_error_of_one_process_ends_all(pairs: Path, run) -> None:
    """What only one of them meets: its own image is broken, in training and in validation."""
    opt = teacher_options(50)
    opt["datasets"]["train"]["batch_size_per_gpu"] = 1
    opt["datasets"]["train"]["num_worker_per_gpu"] = 1
    path = write_options(pairs, opt)
    broken = pairs / "train/clear/03.png"
    broken.write_bytes(broken.read_bytes()[:60])  # its header is whole
    done = run("train", "-opt", path, program=launch_of(2))
    assert done.returncode != 0
    assert "03.png: not a readable image" in done.stderr
    assert "ktdn_plugin/basicsr/" not in done.stderr  # torchrun's own traceback aside

    write_png(broken, 3)
    broken = pairs / "val/clear/01.png"  # the second process'
    broken.write_bytes(broken.read_bytes()[:60])
    done = run("train", "-opt", path, processes=2)  # without torchrun, which would end the other
    assert done.returncode != 0
    assert "01.png: not a readable image" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_hosts_that_do_not_share_the_folder(pairs: Path, tmp_path: Path) -> None:
    path = write_options(pairs, teacher_options(2))
    assert Command(["train", "-opt", path], pairs, {}).wait(120).returncode == 0
    other = pairs / "other_host"
    other.mkdir()
    for name in ("train", "val"):
        (other / name).symlink_to(pairs / name)
    done = together(["train", "-opt", path, "--auto_resume"], (pairs, other))
    assert [one.returncode for one in done] == [1, 1]
    assert "process 0: iteration 2, process 1: none" in done[0].stderr
    assert not (other / "experiments").exists()


NAMESPACES = ("ktdn-test-a", "ktdn-test-b")


@pytest.fixture
def two_hosts():
    """Two network namespaces with one cable between them."""
    commands = [
        *(f"ip netns add {name}" for name in NAMESPACES),
        "ip link add ktdn-va type veth peer name ktdn-vb",
        *(
            f"ip link set ktdn-v{letter} netns {name}"
            for letter, name in zip("ab", NAMESPACES, strict=True)
        ),
        *(
            f"ip -n {name} addr add 10.231.17.{number}/24 dev ktdn-v{letter}"
            for number, (letter, name) in enumerate(zip("ab", NAMESPACES, strict=True), start=1)
        ),
        *(
            f"ip -n {name} link set {device} up"
            for letter, name in zip("ab", NAMESPACES, strict=True)
            for device in (f"ktdn-v{letter}", "lo")
        ),
    ]
    try:
        for command in commands:
            try:
                subprocess.run(command.split(), check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"network namespaces cannot be made here: {error}")
        yield NAMESPACES
    finally:
        for name in NAMESPACES:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.mark.slow
def test_two_hosts(pairs: Path, two_hosts: tuple[str, str]) -> None:
    opt = teacher_options(4)
    path = write_options(pairs, opt)
    torchrun = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
    torchrun += ["--rdzv-backend=c10d", "--rdzv-endpoint=10.231.17.1:29511", "--rdzv-id=7"]
    processes = []
    for number, name in enumerate(two_hosts, start=1):
        words = ["ip", "netns", "exec", name, sys.executable, *torchrun]
        # A namespace has no name that leads to its address, by which torchrun knows its host.
        words += [f"--local-addr=10.231.17.{number}", f"--rdzv-conf=is_host={int(number == 1)}"]
        words += ["-m", "ktdn_plugin", "train"]
        processes.append(
            subprocess.Popen(
                [*words, "-opt", str(path)],
                cwd=pairs,
                env=ENVIRONMENT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        texts = [process.communicate(timeout=150)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(texts)
    text = log_of(pairs, "teacher")
    assert "world_size: 2" in text
    assert len(losses_of(text, "l_rec")) == 4
