"""BasicSR's own loop with a five-line script and the options files that ship, edited as one would.

Nothing but ``register()`` is ours here: neither our commands nor their reading of options.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from helpers import launch_of, log_of, losses_of, models, records_of

from ktdn_plugin import cli, register
from ktdn_plugin.option_files import options_folder

pytestmark = pytest.mark.slow

SCRIPT = """
import os
import ktdn_plugin
ktdn_plugin.register()
from basicsr.{kind} import {kind}_pipeline
if __name__ == "__main__":
    {kind}_pipeline(os.path.dirname(os.path.abspath(__file__)))
"""
TINY = {
    "encoder": "test_resnet",  # has batch norm
    "pretrained": "false",
    "gt_size": 48,
    "num_worker_per_gpu": 0,
    "batch_size_per_gpu": 2,
    "dataset_enlarge_ratio": 2,
    "periods": "[100]",
    "levels": 3,
    "val_freq": 2,
    "print_freq": 1,
    "save_checkpoint_freq": 2,
    "keep_checkpoints": 1,
    "freeze_bn": 3,
    "teacher_min_psnr": 1,
}


def edited(text: str, changes: dict[str, object]) -> str:
    for key, value in changes.items():
        text = re.sub(rf"(?m)^( *{key}:)[^#\n]*", rf"\g<1> {value} ", text)
    return text


def without(text: str, *keys: str) -> str:
    return re.sub(rf"(?m)^ *({'|'.join(keys)}):.*\n", "", text)


def values(text: str) -> list[str]:
    return [line.split("#")[0].strip() for line in text.splitlines()]


def shipped(file: str, roots: list[str], name: str, **changes: object) -> str:
    """Gives a shipped options file's text for a tiny run on one's own images."""
    text = (options_folder() / file).read_text(encoding="utf-8")
    text = re.sub("(?m)^name:[^#\n]*", f"name: {name} ", text)
    text = edited(without(text, "layout", "split"), TINY | changes)
    for root in roots:
        text = re.sub("datasets/NH-HAZE.*", root, text, count=1)
    return text


@pytest.fixture
def project(pairs: Path) -> Path:
    """A folder of somebody's own project: its images and scripts."""
    for kind in ("train", "test"):
        (pairs / f"{kind}.py").write_text(SCRIPT.format(kind=kind), encoding="utf-8")
    return pairs


def start(run, project: Path, text: str, *words: str, processes: int = 1) -> None:
    kind = "test" if "results/NAME" in text else "train"
    (project / "options.yml").write_text(text, encoding="utf-8")
    done = run("-opt", "options.yml", *words, script=f"{kind}.py", processes=processes)
    assert done.returncode == 0, done.stderr


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def saved(folder: Path, name: str, label: object) -> dict:
    return torch.load(models(folder, name) / f"net_g_{label}.pth", weights_only=True)


def make_lmdb(project: Path) -> None:
    register()
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    folder = project / "train/clear"
    files = sorted(names(folder))
    keys = [file.split(".")[0] for file in files]
    make_lmdb_from_imgs(str(folder), str(project / "clear.lmdb"), files, keys)


def test_both_stages_resume_and_test(project: Path, run) -> None:
    make_lmdb(project)
    # A worker reads BasicSR's LMDB; a number is written as PyYAML does not know it.
    text = shipped(
        "train_teacher.yml",
        ["clear.lmdb", "val/clear"],
        name="teacher",
        total_iter=4,
        num_worker_per_gpu=1,
        use_scale="[5e-1, 1.0]",
        grad_accum_steps=2,
    )
    assert {"amp: off", "lr: 1e-4", "eta_min: 1e-7"} <= set(values(text))
    start(run, project, text)
    log = log_of(project, "teacher")
    assert len(losses_of(log, "l_rec")) == len(losses_of(log, "l_lap")) == 4
    assert log.count("Network [KTDN] is created.") == 1  # the averaged one is a copy
    assert log.count("memory falls, the batch does not grow") == 1
    assert {"net_g_4.pth", "net_g_best.pth", "net_g_latest.pth"} == names(
        models(project, "teacher")
    )
    assert list((project / "tb_logger/teacher").glob("events.*"))
    rows = records_of(project, "teacher")
    assert [row["iter"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4]
    assert {row["iter"] for row in rows if row["kind"] == "val"} == {2, 4}
    content = saved(project, "teacher", "latest")
    assert content["ktdn"]["network"]["encoder"] == "test_resnet"
    key = next(key for key in content["params"] if key.endswith("running_var"))
    assert torch.equal(content["params"][key], content["params_ema"][key])
    assert not torch.equal(content["params"][key], torch.ones_like(content["params"][key]))

    assert cli.main(["prepare", str(project / "train"), str(project / "store")]) == 0
    text = shipped("train_ktdn.yml", ["store", "val"], name="student", total_iter=2)
    text = edited(text, {"pretrain_network_t": models(project, "teacher") / "net_g_best.pth"})
    text = text.replace("dataroot_gt: val\n", "dataroot_gt: val\n    layout: folders\n")
    start(run, project, text)
    log = log_of(project, "student")
    assert len(losses_of(log, "l_kt")) == 2
    assert log.count("The teacher reconstructs NH-HAZE_val at") == 1

    # Two processes go on, from the last state, beside the teacher that they began with.
    text = edited(text, {"total_iter": 4, "batch_size_per_gpu": 1})
    start(run, project, text, "--auto_resume", "--launcher", "pytorch", processes=2)
    log = log_of(project, "student")
    assert "Resuming training from epoch: 0, iter: 2." in log
    assert len(losses_of(log, "l_kt")) == 4
    assert "world_size: 2" in log
    assert log.count("The teacher reconstructs") == 1
    assert log.count("Validation NH-HAZE_val") == 4  # once at 2, at 4, and at each end
    assert len(names(project / "experiments")) == 2
    rows = records_of(project, "student")
    assert [row["iter"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4]
    assert {"l_kt", "l_rec", "lr", "epoch"} <= rows[-2].keys() | rows[-3].keys()
    assert [row["psnr"] > 0 for row in rows if row["kind"] == "teacher"] == [True]
    described = json.loads((project / "experiments/student/run.json").read_text())
    assert described["resumed_from"]["iteration"] == 2
    assert (described["stage"], described["processes"]) == ("student", 2)
    assert [one["name"] for one in described["data"]["val"]] == ["NH-HAZE_val"]
    file = project / "experiments/student/training_states/4.state"
    state = torch.load(file, weights_only=True)
    steps = {float(one["step"]) for one in state["optimizers"][0]["state"].values()}
    assert steps == {4.0}

    text = shipped("test_ktdn.yml", ["val"], name="tested")
    text = edited(text, {"pretrain_network_g": models(project, "student") / "net_g_latest.pth"})
    text = text.replace("dataroot_gt: val\n", "dataroot_gt: val\n    layout: folders\n")
    start(run, project, text)
    assert len(names(project / "results/tested/visualization/NH-HAZE_test")) == 2


CHANGES = """
import json, sys, types
from ktdn_plugin.basicsr import compat
compat._stand_in_for_functional_tensor()  # without which BasicSR cannot be imported at all
import basicsr.train

def everything():
    found = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "basicsr":
            continue
        for key, item in vars(module).items():
            if callable(item) and str(getattr(item, "__module__", "")).startswith("basicsr"):
                found[f"{name}.{key}"] = item
            if isinstance(item, type) and item.__module__ == name:
                found |= {f"{name}.{key}.{one}": method for one, method in vars(item).items()}
    return found

before = everything()
import ktdn_plugin
ktdn_plugin.register()
ktdn_plugin.register()
after = everything()
print(json.dumps(sorted(key for key in before if before[key] is not after[key])))
basicsr.train.train_pipeline(".")
"""


def for_basicsrs_own_model(**changes: object) -> str:
    text = shipped("train_ktdn.yml", ["train", "val"], name="stock", total_iter=2, **changes)
    text = text.replace("KTDNModel", "SRModel")
    for root in ("train", "val"):
        line = f"    dataroot_gt: {root}\n"
        text = text.replace(line, f"{line}    layout: folders\n")
    text = re.sub(r"(?ms)^network_t:.*?\n\n", "", without(text, "pretrain_network_t"))
    # What BasicSR's own model takes: its loss, and numbers as PyYAML knows them.
    return edited(without(text, "encoder_lr"), {"lr": "1.0e-4", "eta_min": "1.0e-7"})


def test_basicsrs_own_model_trains_ktdn_and_little_is_changed(project: Path, run) -> None:
    (project / "options.yml").write_text(for_basicsrs_own_model(), encoding="utf-8")
    done = run("-opt", "options.yml", program=("-c", CHANGES))
    assert done.returncode == 0, done.stderr
    changed = json.loads(next(line for line in done.stdout.splitlines() if line[:1] == "["))
    assert changed == [
        "basicsr.models.base_model.BaseModel.model_ema",
        "basicsr.models.base_model.BaseModel.model_to_device",
        "basicsr.train.MessageLogger",
        "basicsr.train.load_resume_state",
        "basicsr.utils.dist_util._init_dist_pytorch",
        "basicsr.utils.dist_util._init_dist_slurm",
    ]
    content = saved(project, "stock", "latest")
    assert list(content) == ["params", "params_ema"]  # as BasicSR saves it
    key = next(key for key in content["params"] if key.endswith("running_var"))
    assert torch.equal(content["params"][key], content["params_ema"][key])
    assert not torch.equal(content["params"][key], torch.ones_like(content["params"][key]))


def test_basicsrs_own_model_in_two_processes_without_an_average(project: Path, run) -> None:
    text = without(for_basicsrs_own_model(batch_size_per_gpu=1, val_freq=1), "ema_decay")
    (project / "options.yml").write_text(text, encoding="utf-8")
    torchrun = launch_of(2)[:-2]
    words = ("-opt", "options.yml", "--launcher", "pytorch")
    done = run(*words, program=(*torchrun, "train.py"))
    assert done.returncode == 0, done.stderr
    log = log_of(project, "stock")
    assert len(losses_of(log, "l_pix")) == 2
    assert log.count("# psnr:") == 3  # after each iteration, by the first process alone, and last
    assert list(saved(project, "stock", "latest")) == ["params"]


def test_models_check_their_own_options_in_any_loop(project: Path, run) -> None:
    text = shipped("train_teacher.yml", ["train/clear", "val/clear"], name="wrong", amp="fp8")
    text = text.replace("ema_decay:", "ema_decai:")
    (project / "options.yml").write_text(text, encoding="utf-8")
    done = run("-opt", "options.yml", program=("train.py",))
    assert done.returncode == 1
    # The traceback is that loop's; its last lines are ours.
    assert done.stderr.splitlines()[-2:] == [
        "ktdn_plugin.errors.OptionsError: options of 'wrong': train.amp: 'fp8' must be off, bf16 or"
        " fp16",
        "options of 'wrong': train.ema_decai: unknown key; did you mean 'ema_decay'?",
    ]
