"""Checkpoints of BasicSR's side tell what they are of, and stock BasicSR reads them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from checkpoint_files import metadata_of_run
from helpers import ENCODER, assert_same, models, student_options, teacher_options, write_options

import ktdn_plugin
from ktdn_plugin import KTDN, cli, load_network

ktdn_plugin.register()  # before BasicSR, which today's torchvision lacks a module of
import basicsr  # noqa: E402

Train = Callable[..., None]


@pytest.fixture
def train(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Trains in this process, in the folder of the images."""
    monkeypatch.chdir(pairs)

    def train_in_process(opt: dict, *flags: str) -> None:
        assert cli.main(["train", "-opt", str(write_options(pairs, opt)), *flags]) == 0

    return train_in_process


def saved(folder: Path, name: str, label: str, network: str = "net_g") -> dict:
    return torch.load(models(folder, name) / f"{network}_{label}.pth", weights_only=True)


def test_both_stages(pairs: Path, train: Train) -> None:
    opt = teacher_options()
    opt["network_g"] |= {"mean": [0.5, 0.5, 0.25], "reduction": 4}
    opt["datasets"]["val"] |= {"split": "tiny-val", "name": "tiny"}
    train(opt)
    found = saved(pairs, "teacher", "latest")
    assert list(found) == ["params", "params_ema", "ktdn"]
    described = found["ktdn"]
    assert json.loads(json.dumps(described)) == described
    metrics = described.pop("metrics")
    options = hashlib.sha256((pairs / "teacher.yml").read_bytes()).hexdigest()
    assert described["run"].pop("options") == options
    toolbox = f"BasicSR {basicsr.__version__}"
    network = {"mean": [0.5, 0.5, 0.25], "reduction": 4}
    assert described == metadata_of_run(toolbox, "teacher", "teacher", "tiny", **network)
    rows = [
        json.loads(line)
        for line in (pairs / "experiments/teacher/metrics.jsonl").read_text().splitlines()
    ]
    figures = {row["iter"]: row for row in rows if row["kind"] == "val"}
    last = {key: figures[4][key] for key in ("psnr", "ssim")}
    assert metrics["last"] == {"tiny": {"iteration": 4, "figures": last}}
    best = max((2, 4), key=lambda iteration: figures[iteration]["psnr"])
    assert metrics["best"]["tiny"]["psnr"] == {"iteration": best, "value": figures[best]["psnr"]}
    # A checkpoint is saved before its own validation: it has the figures of the one before.
    earlier = saved(pairs, "teacher", "4")["ktdn"]
    assert earlier["metrics"]["last"]["tiny"]["iteration"] == 2
    assert saved(pairs, "teacher", "2")["ktdn"]["metrics"] == {"last": {}, "best": {}}
    assert saved(pairs, "teacher", "2")["ktdn"]["run"]["iteration"] == 2
    assert saved(pairs, "teacher", "best")["ktdn"]["run"]["iteration"] == best

    network = load_network(models(pairs, "teacher") / "net_g_latest.pth")
    assert network.mean.flatten().tolist() == [0.5, 0.5, 0.25]
    assert_same(dict(network.state_dict()), dict(found["params_ema"]))

    opt = student_options(2)
    opt["network_t"] |= {"mean": [0.5, 0.5, 0.25], "reduction": 4}
    opt["network_g"] |= {"head": "affine", "widths": [48, 32, 53]}  # of equal 'mid'
    train(opt)
    found = saved(pairs, "student", "latest")["ktdn"]
    assert found["network"]["head"] == "affine"
    assert found["network"]["widths"] == [48, 32, 53]
    assert found["run"] == {
        "name": "student",
        "iteration": 2,
        "total": 2,
        "options": hashlib.sha256((pairs / "student.yml").read_bytes()).hexdigest(),
        "stage": "student",
    }
    tail = load_network(models(pairs, "student") / "net_g_latest.pth").tail[1]
    assert all(parameter.abs().sum() > 0 for parameter in tail.parameters())  # it learns
    assert found["data"]["train"][0]["images"] == 6


def test_other_networks_and_adapters(pairs: Path, train: Train) -> None:
    opt = student_options(2)
    torch.save({"params": KTDN("test_resnet").state_dict()}, pairs / "teacher.pth")
    opt["path"]["pretrain_network_t"] = "teacher.pth"
    opt["network_t"]["encoder"] = "test_resnet"
    widths = [KTDN(name).fam16.conv1.in_channels for name in (ENCODER, "test_resnet")]
    opt["train"]["transfer_opt"]["adapters"] = {"mid": widths}
    train(opt)
    described = saved(pairs, "student", "2", "net_adapters")["ktdn"]
    assert described["network"] == {"type": "KnowledgeTransferLoss"}
    assert described["run"]["name"] == "student"


@pytest.fixture
def stock() -> ModuleType:
    """BasicSR's ``base_model``, once more and untouched."""
    file = Path(basicsr.__file__).parent / "models" / "base_model.py"
    spec = importlib.util.spec_from_file_location("stock_base_model", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.BaseModel.load_network.__module__ == "stock_base_model"
    return module


def test_stock_basicsr_reads_them(pairs: Path, train: Train, stock: ModuleType) -> None:
    train(teacher_options())
    path = models(pairs, "teacher") / "net_g_4.pth"
    content = torch.load(path, weights_only=True)
    model = stock.BaseModel.__new__(stock.BaseModel)
    model.opt = {"dist": False}
    for key in ("params", "params_ema"):
        network = KTDN(ENCODER)
        model.load_network(network, str(path), strict=True, param_key=key)
        assert_same(dict(network.state_dict()), dict(content[key]))


def test_a_model_outside_our_loop(pairs: Path, train: Train) -> None:
    """One's own script, which calls BasicSR's methods: what is known is told."""
    from basicsr.models.base_model import BaseModel

    model = SimpleNamespace(
        opt={"rank": 0, "path": {"models": str(pairs)}}, get_bare_model=lambda network: network
    )
    BaseModel.save_network(model, KTDN(ENCODER), "net_g", 3)
    described = torch.load(pairs / "net_g_3.pth", weights_only=True)["ktdn"]
    assert set(described) == {"network", "ktdn_plugin", "toolbox"}
    assert described["network"]["encoder"] == ENCODER


def test_a_resumed_run_tells_the_same(pairs: Path, train: Train) -> None:
    """Also of a validation that was before the state that it goes on from."""
    opt = teacher_options(8)
    opt["val"]["val_freq"] = 3
    train({**opt, "name": "whole"})
    train(opt, "--force_yml", "train:total_iter=4")
    train(opt, "--auto_resume")
    for label in ("6", "8", "latest", "best"):
        whole, resumed = saved(pairs, "whole", label), saved(pairs, "teacher", label)
        assert whole["ktdn"]["run"].pop("name") == "whole"
        assert resumed["ktdn"]["run"].pop("name") == "teacher"
        # Names are options.
        assert whole["ktdn"]["run"].pop("options") != resumed["ktdn"]["run"].pop("options")
        assert_same(resumed, whole)
    assert whole["ktdn"]["metrics"]["last"]["val"]["iteration"] in (3, 6, 8)
    state = torch.load(
        pairs / "experiments/teacher/training_states/4.state", weights_only=True
    )  # between two validations
    assert state["last_metric_results"]["val"]["iteration"] == 3
