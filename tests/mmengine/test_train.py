"""The two stages by the real command line: resuming, killing, two processes, bfloat16."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from configs import log_of, set_in, student_config, teacher_config, write_config
from helpers import FRESH, assert_same, launch_of, teacher_file
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from preloaded import Command

from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.mmengine import restorer
from ktdn_plugin.mmengine.check import check_config
from ktdn_plugin.mmengine.config import load_config
from ktdn_plugin.photos import read_rgb


def state_of(path: Path) -> dict:
    """Gives all that a training goes on from, without what no two runs have in common."""
    content = Checkpoint.read(path).content
    kept = ("state_dict", "ema_state_dict", "optimizer", "param_schedulers")
    return {key: dict(content[key]) if "dict" in key else content[key] for key in kept}


def train(run: Callable, folder: Path, cfg: dict, *flags: str, **how):
    path = write_config(folder, cfg, "run.py")
    return run("mmengine", "train", path, *flags, **how)


@pytest.mark.slow
def test_both_stages_and_a_test(run, pairs: Path) -> None:
    done = train(run, pairs, teacher_config(), "--work-dir", "teacher", program=FRESH)
    assert done.returncode == 0, done.stderr
    cfg = student_config(model__teacher_checkpoint="teacher/iter_4.pth")
    cfg["load_from"] = "teacher/iter_4.pth"
    cfg["custom_hooks"].append({"type": "TeacherCheckHook", "min_psnr": 1})
    done = train(run, pairs, cfg)
    assert done.returncode == 0, done.stderr
    saved = pairs / "work_dirs/run/iter_4.pth"
    assert {path.name for path in saved.parent.glob("*.pth")} >= {"iter_2.pth", "iter_4.pth"}
    assert list(saved.parent.glob("best_PSNR_iter_*.pth"))
    log = log_of(pairs, "run")
    assert "The teacher reconstructs the validation set at" in log
    assert "loss_kt:" in log
    assert "eta:" in log

    # To be tested, the teacher is not needed.
    (pairs / "teacher/iter_4.pth").unlink()
    cfg["load_from"] = None
    path = write_config(pairs, cfg, "run.py")
    done = run("mmengine", "test", path, saved, "--work-dir", "tested")
    assert done.returncode == 0, done.stderr
    assert re.search(r"PSNR: \d+\.\d+ +SSIM: 0\.\d+", done.stdout)
    results = sorted((pairs / "tested/results").iterdir())
    assert [path.name for path in results] == ["00.png", "01.png"]
    sizes = [read_rgb(path).shape for path in results]
    assert sizes == [read_rgb(path).shape for path in sorted((pairs / "val/hazy").iterdir())]


@pytest.mark.slow
def test_by_mmengines_own_runner(run, pairs: Path) -> None:
    """Nothing of this package is imported by whoever uses it so."""
    teacher_file(pairs)
    write_config(pairs, student_config(work_dir="plain"), "plain.py")
    code = (
        "from mmengine.config import Config\n"
        "from mmengine.runner import Runner\n"
        "for resume, iterations in ((False, 2), (True, 4)):\n"
        "    cfg = Config.fromfile('plain.py')\n"
        "    cfg.experiment_name = f'to_{iterations}'\n"
        "    cfg.resume = resume\n"
        "    cfg.train_cfg.max_iters = iterations\n"
        "    Runner.from_cfg(cfg).train()\n"
    )
    done = run(program=("-c", code))
    assert done.returncode == 0, done.stderr
    assert "loss_lap" in done.stdout
    assert "resumed epoch: 0, iter: 2" in done.stdout
    assert "weights_only=False" not in done.stderr
    assert (pairs / "plain/iter_4.pth").is_file()


@HOOKS.register_module(force=True)
class RecordedIterations(Hook):
    """Notes in which mode each iteration is, and one of its random numbers."""

    trained: ClassVar[list[tuple[int, bool, float]]] = []
    validated: ClassVar[list[int]] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.trained.append((runner.iter, runner.model.training, float(torch.rand(()))))

    def after_val(self, runner) -> None:
        self.validated.append(runner.iter)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_it_is_exactly_what_it_would_have_been(
    mmengine_run: Callable, pairs: Path, workers: int
) -> None:
    teacher_file(pairs)
    cfg = student_config(
        train_cfg__max_iters=6,
        train_cfg__val_interval=4,
        train_dataloader__num_workers=workers,
        custom_hooks=[
            {"type": "EMAHook", "ema_type": "WeightAverage", "momentum": 0.1},
            {"type": "RecordedIterations"},
        ],
    )
    recorded = RecordedIterations.trained, RecordedIterations.validated
    for one in recorded:
        one.clear()
    # Of the options that draw random numbers.
    cfg["train_dataloader"]["dataset"] |= {
        "use_scale": [0.8, 1.0],
        "color_jitter": {"saturation": 0.3},
    }
    assert mmengine_run("train", cfg, "--work-dir", "straight") == 0
    straight = [one.copy() for one in recorded]
    assert [row[:2] for row in straight[0]] == [(number, True) for number in range(6)]
    assert straight[1] == [4, 6]  # the last one in any case
    for one in recorded:
        one.clear()
    for iterations, flags in ((2, ()), (4, ("--resume",)), (6, ("--resume", "cut/iter_4.pth"))):
        set_in("train_cfg.max_iters", iterations)(cfg)
        assert mmengine_run("train", cfg, "--work-dir", "cut", *flags) == 0
    assert_same(state_of(pairs / "cut/iter_6.pth"), state_of(pairs / "straight/iter_6.pth"))
    assert recorded[0] == straight[0]


def test_signal_saves_a_checkpoint_to_resume_from(run, mmengine_run: Callable, pairs: Path) -> None:
    teacher_file(pairs)
    cfg = student_config(
        train_cfg__max_iters=30,
        train_cfg__val_interval=29,
        train_dataloader__num_workers=1,
        default_hooks__checkpoint__interval=30,
    )
    assert mmengine_run("train", cfg, "--work-dir", "straight") == 0
    path = write_config(pairs, cfg, "run.py")
    words = ["mmengine", "train", path, "--work-dir", "cut"]
    command = Command(words, pairs, {})
    command.wait_until(
        lambda: any('"loss"' in log.read_text() for log in pairs.glob("cut/*/vis_data/*.json"))
    )
    command.send(signal.SIGTERM, to_all=True)  # as Slurm does it: the worker gets it, too
    done = command.wait(60)
    said = done.stderr
    assert done.returncode == 128 + signal.SIGTERM, said
    (saved,) = pairs.glob("cut/iter_*.pth")
    iteration = int(saved.stem.removeprefix("iter_"))
    assert iteration < 30
    assert said.splitlines()[-1] == (
        f"stopped by SIGTERM after iteration {iteration}, whose state is saved; --resume resumes "
        "from it"
    )
    done = run(*words, "--resume")
    assert done.returncode == 0, done.stderr
    assert_same(state_of(pairs / "cut/iter_30.pth"), state_of(pairs / "straight/iter_30.pth"))


def test_killed_it_resumes_as_if_uninterrupted(run, pairs: Path) -> None:
    teacher_file(pairs)
    cfg = student_config(
        train_cfg__max_iters=8,
        train_dataloader__num_workers=1,
        default_hooks__checkpoint__interval=1,
        default_hooks__checkpoint__max_keep_ckpts=2,
    )
    path = write_config(pairs, cfg, "run.py")
    words = ["mmengine", "train", path, "--resume"]
    for last in (2, 4):
        command = Command(words, pairs, {})
        command.wait_until((pairs / f"work_dirs/run/iter_{last}.pth").exists)
        command.send(signal.SIGKILL)
        assert command.wait(60).returncode == -signal.SIGKILL
    # What a kill in the middle of writing leaves, and a damaged file of an older program.
    (pairs / "work_dirs/run/iter_7.pth").write_bytes(b"PK\x03\x04 cut off")
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "Skipped while looking for a checkpoint to resume" in done.stdout
    assert re.search(r"resumed epoch: 0, iter: [4-7]\b", done.stdout)
    done = run(*words, "--work-dir", "straight")
    assert done.returncode == 0, done.stderr
    one, other = (pairs / folder / "iter_8.pth" for folder in ("work_dirs/run", "straight"))
    assert_same(state_of(one), state_of(other))


@HOOKS.register_module(force=True)
class InterruptedValidation(Hook):
    """Ends a run in the middle of a validation."""

    def __init__(self, at: int) -> None:
        self.at = at

    def after_val_iter(self, runner, *args: object, **kwargs: object) -> None:
        if runner.iter == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", [2, 4])
def test_a_validation_that_was_cut_off_is_repeated(
    mmengine_run: Callable, pairs: Path, at: int
) -> None:
    cfg = teacher_config()
    assert mmengine_run("train", cfg, "--work-dir", "straight") == 0
    interruption = {"type": "InterruptedValidation", "at": at}
    cut = teacher_config(custom_hooks=[*cfg["custom_hooks"], interruption])
    assert mmengine_run("train", cut, "--work-dir", "cut") == 130
    assert (pairs / f"cut/iter_{at}.pth").is_file()
    assert mmengine_run("train", cfg, "--work-dir", "cut", "--resume") == 0
    found = {}
    for name in ("straight", "cut"):
        logs = "".join(path.read_text() for path in sorted((pairs / name).glob("*/*.log")))
        found[name] = re.findall(r"Iter\(val\).*PSNR: (\S+)", logs)
    assert len(found["cut"]) == 2
    assert found["cut"] == found["straight"]
    best = [sorted(path.name for path in (pairs / name).glob("best_*")) for name in found]
    assert best[0] == best[1]


@HOOKS.register_module(force=True)
class SignalAfterValidation(Hook):
    def after_val(self, runner) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_validation_before_a_signal_is_not_repeated(mmengine_run: Callable, pairs: Path) -> None:
    RecordedIterations.validated.clear()
    hooks = [{"type": "RecordedIterations"}, {"type": "SignalAfterValidation"}]
    cfg = teacher_config(train_cfg__max_iters=2, custom_hooks=hooks)
    assert mmengine_run("train", cfg) == 128 + signal.SIGTERM
    cfg["custom_hooks"] = hooks[:1]
    assert mmengine_run("train", cfg, "--resume") == 0
    assert RecordedIterations.validated == [2]


def test_a_changed_schedule_is_followed(mmengine_run: Callable, pairs: Path) -> None:
    """A cosine that was 2 long does not stay at its end."""
    warm_up = {"type": "LinearLR", "start_factor": 0.5, "by_epoch": False, "end": 2}
    cosine = {"type": "CosineAnnealingLR", "by_epoch": False, "eta_min": 1e-6}
    short, long = ([warm_up, {**cosine, "T_max": n, "end": n}] for n in (2, 8))
    plain = teacher_config(param_scheduler=long, train_cfg__max_iters=6)
    assert mmengine_run("train", plain, "--work-dir", "straight") == 0
    for schedule, iterations in ((short, 2), (long, 4), (long, 6)):
        cfg = teacher_config(param_scheduler=schedule, train_cfg__max_iters=iterations)
        if iterations == 4:
            cfg["optim_wrapper"]["optimizer"]["lr"] = 0.5
        assert mmengine_run("train", cfg, "--work-dir", "cut", "--resume") == 0
    logs = [
        "".join(path.read_text() for path in sorted((pairs / name).glob("*/*.log")))
        for name in ("straight", "cut")
    ]
    rates = [re.findall(r"Iter\(train\) \[(\d)/\d\] +lr: (\S+)", log) for log in logs]
    assert len(rates[0]) == 6
    assert rates[0][2:] == rates[1][2:]
    changed = "Resuming with a different param_scheduler.T_max: 8, was 2; the learning rate follows"
    assert logs[1].count(changed) == 1
    said = (
        "Continuing with the state's learning rates, [[0.001], [0.001]], not the options', [[0.5]"
    )
    assert logs[1].count(said) == 1


def test_another_kind_of_schedule_is_not_resumed(
    mmengine_run: Callable, pairs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cfg = teacher_config(train_cfg__max_iters=2)
    assert mmengine_run("train", cfg) == 0
    cfg["param_scheduler"] = {"type": "LinearLR", "by_epoch": False, "end": 2}
    cfg["train_cfg"]["max_iters"] = 4
    capfd.readouterr()
    assert mmengine_run("train", cfg, "--resume") == 1
    (line,) = (one for one in capfd.readouterr().err.splitlines() if one.startswith("error: "))
    assert "a different optimizer or scheduler (param_scheduler); change them back" in line


def test_a_changed_batch_continues_where_the_samples_were(
    mmengine_run: Callable, pairs: Path
) -> None:
    cfg = teacher_config(train_cfg__max_iters=2)
    assert mmengine_run("train", cfg) == 0
    cfg["train_cfg"]["max_iters"] = 4
    cfg["train_dataloader"]["batch_size"] = 1
    assert mmengine_run("train", cfg, "--resume") == 0
    log = log_of(pairs)
    assert "Resuming with changed samples per iteration: 1, was 2." in log
    assert "No longer exact: batches contain different samples." in log
    samples = [
        Checkpoint.read(pairs / f"work_dirs/config/iter_{number}.pth").content["message_hub"][
            "runtime_info"
        ]["ktdn_progress"]["samples"]
        for number in (2, 4)
    ]
    assert samples == [4, 6]


def test_another_models_training_is_not_resumed(
    mmengine_run: Callable, pairs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert mmengine_run("train", teacher_config(), "--work-dir", "teacher") == 0
    cfg = student_config(model__teacher_checkpoint="teacher/iter_4.pth")
    capfd.readouterr()
    assert mmengine_run("train", cfg, "--resume", "teacher/iter_4.pth") == 1
    (line,) = (one for one in capfd.readouterr().err.splitlines() if one.startswith("error: "))
    assert "the training of a different model than this KTDNDistiller" in line
    assert not (pairs / "work_dirs").exists()


def test_looking_at_a_model_leaves_it_on_the_cpu(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With sync_bn it would go to the process' GPU, and the teacher beside it would not."""
    teacher_file(pairs)
    monkeypatch.chdir(pairs)
    monkeypatch.setattr(
        restorer, "dist", SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True)
    )
    monkeypatch.setattr(restorer, "get_device", lambda: "meta")
    cfg = load_config(write_config(pairs, student_config(model__sync_bn=True)))
    assert check_config(cfg, training=True) == []


def test_two_processes_are_as_one_with_twice_the_batch(run, pairs: Path) -> None:
    teacher_file(pairs)
    cfg = student_config(train_cfg__max_iters=3, default_hooks__checkpoint__interval=3)
    cfg["custom_hooks"].append({"type": "TeacherCheckHook", "min_psnr": 1})
    done = train(run, pairs, cfg, "--work-dir", "one")
    assert done.returncode == 0, done.stderr
    cfg["train_dataloader"]["batch_size"] = 1
    done = train(run, pairs, cfg, "--work-dir", "two", program=launch_of(2))
    assert done.returncode == 0, done.stderr
    one, two = (Checkpoint.read(pairs / run / "iter_3.pth").weights for run in ("one", "two"))
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-5
    figures = [
        re.findall(r"PSNR: (\S+)  SSIM: (\S+)", "".join(p.read_text() for p in logs))
        for logs in ((pairs / name).glob("*/*.log") for name in ("one", "two"))
    ]
    assert figures[0] == figures[1] != []
    # And it goes on where it was, in two.
    cfg["train_cfg"]["max_iters"] = 4
    done = train(run, pairs, cfg, "--work-dir", "two", "--resume", processes=2)
    assert done.returncode == 0, done.stderr
    assert "resumed epoch: 0, iter: 3" in done.stdout


def test_two_processes_measure_what_is_saved(run, pairs: Path) -> None:
    """Each has batch statistics of its own; those of the first are saved."""
    cfg = teacher_config(
        model__generator__encoder="resnet10t", train_cfg__max_iters=2, custom_hooks=[]
    )
    done = train(run, pairs, cfg, processes=2)
    assert done.returncode == 0, done.stderr
    path = write_config(pairs, cfg, "run.py")
    tested = run("mmengine", "test", path, "work_dirs/run/iter_2.pth", "--work-dir", "tested")
    assert tested.returncode == 0, tested.stderr
    (scalars,) = (pairs / "work_dirs/run").glob("*/vis_data/scalars.json")
    (figures,) = (pairs / "tested").glob("*/*.json")
    measured = json.loads(scalars.read_text().splitlines()[-1])
    again = json.loads(figures.read_text())
    for name in ("PSNR", "SSIM"):
        assert measured[name] == pytest.approx(again[name], abs=1e-6)


UNUSED = """
from mmengine.registry import MODELS
from torch import nn

@MODELS.register_module()
class Spare(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.used(x)
"""


@pytest.mark.parametrize("finds", [False, True])
def test_weights_that_take_no_part(run, pairs: Path, finds: bool) -> None:
    (pairs / "spare.py").write_text(UNUSED)
    cfg = teacher_config(
        model__generator={"type": "Spare"},
        train_cfg__max_iters=2,
        custom_hooks=[],
        custom_imports={"imports": ["spare"]},
        find_unused_parameters=finds,
    )
    done = train(run, pairs, cfg, processes=2)
    assert (done.returncode == 0) is finds, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert finds or any("set find_unused_parameters = True" in line for line in errors)
    assert "ktdn_plugin/cli.py" not in done.stderr  # no traceback of the command


def test_an_error_ends_both_processes(run, pairs: Path) -> None:
    teacher_file(pairs)
    (pairs / "train/hazy/03.png").write_bytes(b"broken")
    cfg = student_config(train_dataloader__batch_size=3, randomness__seed=1)
    cfg["train_dataloader"]["dataset"]["on_error"] = "skip"
    cfg["train_cfg"]["skip_at_most"] = 0.0
    done = train(run, pairs, cfg, processes=2)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert any("1 of 6 training images cannot be read" in line for line in errors), done.stderr
    assert any("03.png" in line for line in errors)


def test_bfloat16_on_a_cpu(mmengine_run: Callable, pairs: Path) -> None:
    teacher_file(pairs)
    cfg = student_config(
        optim_wrapper__type="BFloat16OptimWrapper", train_cfg__max_iters=2, custom_hooks=[]
    )
    assert mmengine_run("train", cfg, "--work-dir", "bf16") == 0
    cfg["optim_wrapper"]["type"] = "OptimWrapper"
    assert mmengine_run("train", cfg, "--work-dir", "fp32") == 0
    bf16, fp32 = (Checkpoint.read(pairs / name / "iter_2.pth").weights for name in ("bf16", "fp32"))
    assert all(value.dtype == fp32[key].dtype for key, value in bf16.items())
    assert any(not torch.equal(value, fp32[key]) for key, value in bf16.items())
    # Adam's first steps are of the learning rate's size, whichever way.
    assert max(float((bf16[key] - fp32[key]).abs().max()) for key in bf16) < 0.01


def test_channels_last_may_be_switched_when_resuming(mmengine_run: Callable, pairs: Path) -> None:
    """A fused optimiser takes averages of another layout for others, without a word."""
    teacher_file(pairs)
    cfg = student_config(optim_wrapper__optimizer__fused=True, custom_hooks=[])
    for work_dir, switched in (("plain", False), ("switched", True)):
        for iterations, is_last in ((2, False), (4, True)):
            cfg["train_cfg"]["max_iters"] = iterations
            cfg["model"]["channels_last"] = switched and is_last
            assert mmengine_run("train", cfg, "--work-dir", work_dir, "--resume") == 0
    plain, switched = (
        Checkpoint.read(pairs / name / "iter_4.pth").weights for name in ("plain", "switched")
    )
    assert max(float((plain[key] - switched[key]).abs().max()) for key in plain) < 1e-4


def test_an_earlier_run_is_kept(mmengine_run: Callable, pairs: Path) -> None:
    cfg = teacher_config(train_cfg__max_iters=2)
    assert mmengine_run("train", cfg) == 0
    first = state_of(pairs / "work_dirs/config/iter_2.pth")
    set_in("randomness.seed", 7)(cfg)
    assert mmengine_run("train", cfg) == 0
    (kept,) = (pairs / "work_dirs").glob("config_archived_*")
    assert_same(state_of(kept / "iter_2.pth"), first)
    second = state_of(pairs / "work_dirs/config/iter_2.pth")
    weights = [content["state_dict"] for content in (first, second)]
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_save_best_keeps_the_best(mmengine_run: Callable, pairs: Path) -> None:
    cfg = teacher_config(train_cfg__max_iters=6, optim_wrapper__optimizer__lr=0.01)
    assert mmengine_run("train", cfg) == 0
    log = log_of(pairs)
    figures = [float(value) for value in re.findall(r"Iter\(val\).*PSNR: (\S+)", log)]
    assert len(figures) == 3
    best = 2 * (figures.index(max(figures)) + 1)
    assert [path.name for path in (pairs / "work_dirs/config").glob("best_*")] == [
        f"best_PSNR_iter_{best}.pth"
    ]
