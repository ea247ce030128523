"""Teacher, student and test runs by the real command line, on tiny data."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import (
    FRESH,
    evaluation_options,
    launch_of,
    log_of,
    losses_of,
    models,
    student_options,
    teacher_options,
    write_options,
    write_png,
)

from ktdn_plugin import KTDN, to_published
from ktdn_plugin.basicsr import compat
from ktdn_plugin.basicsr.run_folder import open_log_file, start_log
from ktdn_plugin.metrics import measure
from ktdn_plugin.photos import read_rgb


@pytest.mark.slow
def test_teacher_student_test(pairs: Path, run) -> None:
    done = run("train", "-opt", write_options(pairs, teacher_options()), program=FRESH)
    assert done.returncode == 0, done.stderr
    teacher_log = log_of(pairs, "teacher")
    assert len(losses_of(teacher_log, "l_rec")) == 4
    assert len(losses_of(teacher_log, "l_lap")) == 4
    assert not losses_of(teacher_log, "l_kt")
    assert teacher_log.count("Validation val") == 2  # after 2 and 4, not once more at the end
    saved = torch.load(models(pairs, "teacher") / "net_g_latest.pth", weights_only=True)
    assert set(saved) == {"params", "params_ema", "ktdn"}

    done = run("train", "-opt", write_options(pairs, student_options()))
    assert done.returncode == 0, done.stderr
    student_log = log_of(pairs, "student")
    for loss in ("l_rec", "l_lap", "l_kt"):
        values = losses_of(student_log, loss)
        assert len(values) == 4
        assert min(values) > 0
    assert {p.name for p in models(pairs, "student").iterdir()} == {
        "net_g_2.pth",
        "net_g_4.pth",
        "net_g_best.pth",
        "net_g_latest.pth",
    }

    checkpoint = models(pairs, "student") / "net_g_latest.pth"
    done = run("test", "-opt", write_options(pairs, evaluation_options(checkpoint)))
    assert done.returncode == 0, done.stderr
    text = log_of(pairs, "evaluation", "test")
    logged = float(re.search(r"# psnr: (\S+)", text).group(1))
    measured = []
    for clear in sorted((pairs / "val" / "clear").iterdir()):
        result = read_rgb(
            pairs / f"results/evaluation/visualization/pairs/{clear.stem}_evaluation.png"
        )
        target = read_rgb(clear)
        assert result.shape == target.shape
        measured.append(measure(result, target).psnr)
    assert logged == pytest.approx(np.mean(measured), abs=1e-4)


def test_training_learns(pairs: Path, run) -> None:
    opt = teacher_options(60)
    opt["val"]["val_freq"] = 60
    opt["logger"]["save_checkpoint_freq"] = 60
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    losses = losses_of(log_of(pairs, "teacher"), "l_rec")
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_losses_switch_off(pairs: Path, run) -> None:
    opt = student_options(2)
    del opt["train"]["transfer_opt"], opt["train"]["laplacian_opt"]
    del opt["network_t"], opt["path"]["pretrain_network_t"]
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    text = log_of(pairs, "student")
    assert losses_of(text, "l_rec")
    assert not losses_of(text, "l_lap")
    assert not losses_of(text, "l_kt")


def test_stock_sr_model_trains_ktdn(pairs: Path, run) -> None:
    opt = teacher_options()
    opt["model_type"] = "SRModel"
    del opt["train"]["laplacian_opt"]
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    saved = torch.load(models(pairs, "teacher") / "net_g_latest.pth", weights_only=True)
    assert saved["params"].keys() == saved["params_ema"].keys()


@pytest.mark.parametrize("model_type", ["SRModel", "KTDNTeacherModel"])
def test_averaged_network_carries_batch_statistics(pairs: Path, run, model_type: str) -> None:
    opt = teacher_options(2)
    opt["model_type"] = model_type
    opt["network_g"]["encoder"] = "test_resnet"
    opt["train"].pop("laplacian_opt")
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    saved = torch.load(models(pairs, "teacher") / "net_g_latest.pth", weights_only=True)
    key = next(key for key in saved["params"] if key.endswith("running_var"))
    assert not torch.equal(saved["params"][key], torch.ones_like(saved["params"][key]))
    assert torch.equal(saved["params"][key], saved["params_ema"][key])


def test_a_student_of_another_width_gets_adapters(pairs: Path, run) -> None:
    assert run("train", "-opt", write_options(pairs, teacher_options(2))).returncode == 0
    opt = student_options(2)
    opt["network_g"]["encoder"] = "test_resnet"
    path = write_options(pairs, opt)
    done = run("train", "-opt", path)
    assert done.returncode == 1
    assert "adapters: {mid: [192, 48]}" in done.stderr

    opt["train"]["transfer_opt"]["adapters"] = {"mid": [192, 48]}
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    first = torch.load(models(pairs, "student") / "net_adapters_2.pth", weights_only=True)
    assert set(first["params"]) == {"adapters.mid.weight", "adapters.mid.bias"}
    opt["train"]["total_iter"] = 4
    done = run("train", "-opt", write_options(pairs, opt), "--auto_resume")
    assert done.returncode == 0, done.stderr
    last = torch.load(models(pairs, "student") / "net_adapters_latest.pth", weights_only=True)
    moved = (last["params"]["adapters.mid.weight"] - first["params"]["adapters.mid.weight"]).abs()
    # Resumed, not started anew: two steps of Adam at 1e-3 move a weight by little.
    assert 0 < moved.max() < 5e-3


def test_basicsrs_own_super_resolution(pairs: Path, run) -> None:
    opt = student_options(2)
    del opt["network_t"], opt["path"]["pretrain_network_t"]
    for key in ("transfer_opt", "laplacian_opt"):
        del opt["train"][key]
    opt |= {"model_type": "SRModel", "scale": 2}
    opt["network_g"] = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8}
    opt["network_g"] |= {"num_block": 1, "upscale": 2}
    opt["val"]["val_freq"] = 5e3  # as BasicSR's options write it
    opt["datasets"]["train"]["gt_size"] = 32
    for phase in ("train", "val"):
        for path in (pairs / phase / "clear").iterdir():
            image = read_rgb(pairs / phase / "hazy" / path.name)
            write_png(path, 3, (2 * image.shape[0], 2 * image.shape[1]))
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    assert len(losses_of(log_of(pairs, "student"), "l_pix")) == 2


def test_every_iteration_is_trained_when_batches_do_not_come_out_even(pairs: Path, run) -> None:
    opt = teacher_options(10)
    opt["datasets"]["train"]["batch_size_per_gpu"] = 4  # of 6 images: the rest is dropped
    opt["val"]["val_freq"] = 10
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    assert len(losses_of(log_of(pairs, "teacher"), "l_rec")) == 10


@pytest.mark.slow
def test_torchrun_two_processes(pairs: Path, run) -> None:
    opt = teacher_options()
    opt["network_g"]["encoder"] = "test_resnet"  # has batch norm
    opt["datasets"]["train"]["batch_size_per_gpu"] = 1
    done = run("train", "-opt", write_options(pairs, opt), processes=2)
    assert done.returncode == 0, done.stderr
    student = student_options()
    for network in ("network_g", "network_t"):
        student[network]["encoder"] = "test_resnet"
    done = run("train", "-opt", write_options(pairs, student), program=launch_of(2))
    assert done.returncode == 0, done.stderr
    text = log_of(pairs, "student")
    assert len(losses_of(text, "l_kt")) == 4
    assert text.count("Validation val") == 2
    assert "world_size: 2" in text
    assert len(list((pairs / "experiments").iterdir())) == 2  # no run archived the other's folder


def test_the_published_checkpoint_is_tested_as_it_is(pairs: Path, run) -> None:
    network = KTDN()
    torch.save(to_published(network.state_dict()), pairs / "KTDN.pth")
    opt = evaluation_options("KTDN.pth")
    opt["network_g"]["encoder"] = "res2net101d"
    done = run("test", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    image = next((pairs / "val/hazy").iterdir())
    hazy = torch.from_numpy(read_rgb(image)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        wanted = network.eval()(hazy).clamp(0, 1).mul(255).round()[0].permute(1, 2, 0).numpy()
    result = pairs / f"results/evaluation/visualization/pairs/{image.stem}_evaluation.png"
    assert np.abs(read_rgb(result) - wanted).max() <= 1


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_other_optimizers_of_torch(pairs: Path, run, name: str) -> None:
    opt = teacher_options(2)
    opt["train"]["optim_g"] = {"type": name, "lr": 0.001, "weight_decay": 0.01}
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    state = torch.load(pairs / "experiments/teacher/training_states/2.state", weights_only=True)
    assert state["optimizers"][0]["param_groups"][0]["weight_decay"] == 0.01


def test_debug_run(pairs: Path, run) -> None:
    done = run("train", "-opt", write_options(pairs, teacher_options(8)), "--debug")
    assert done.returncode == 0, done.stderr
    assert (models(pairs, "debug_teacher") / "net_g_8.pth").is_file()


def test_tensorboard_files(pairs: Path, run) -> None:
    opt = teacher_options(2)
    opt["logger"]["use_tb_logger"] = True
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    assert list((pairs / "tb_logger/teacher").glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_register_in_a_custom_script(pairs: Path, run) -> None:
    script = """
import json
import ktdn_plugin
ktdn_plugin.register()
ktdn_plugin.register()
from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.utils.registry import DATASET_REGISTRY, MODEL_REGISTRY
fam = build_network({"type": "FAM", "channels": 16})
em = build_network({"type": "EM", "in_channels": 4, "out_channels": 4})
net = build_network({"type": "KTDN", "encoder": "test_convnext"})
lap = build_loss({"type": "LaplacianLoss"})
kt = build_loss({"type": "KnowledgeTransferLoss"})
names = [type(item).__name__ for item in (fam, em, net, lap, kt)]
names += [name for name in ("KTDNModel", "KTDNTeacherModel") if name in MODEL_REGISTRY]
names += [name for name in ("ClearImageDataset",) if name in DATASET_REGISTRY]
print(json.dumps(names))
"""
    done = run(program=("-c", script))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [
        "FAM",
        "EM",
        "KTDN",
        "LaplacianLoss",
        "KnowledgeTransferLoss",
        "KTDNModel",
        "KTDNTeacherModel",
        "ClearImageDataset",
    ]


def test_runs_in_one_process_keep_their_lines_to_themselves(tmp_path: Path) -> None:
    compat.apply()
    for name in ("failed", "first", "second"):
        opt = {"name": name, "rank": 0, "world_size": 1, "num_gpu": 0, "path": {"log": tmp_path}}
        with io.StringIO() as screen, contextlib.redirect_stderr(screen):
            logger = start_log(opt)
            if name != "failed":
                open_log_file(opt, "train")
                logger.info(f"Only of {name}.")
            assert f"name: {name}" in screen.getvalue()
    logs = {path.name.split("_")[1]: path.read_text() for path in tmp_path.glob("*.log")}
    assert set(logs) == {"first", "second"}
    for name, text in logs.items():
        assert re.findall(r"name: (\w+)", text) == [name]
        assert re.findall(r"Only of (\w+)", text) == [name]
