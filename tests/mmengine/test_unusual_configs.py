"""What mmengine's own Runner builds is taken, and what it refuses is refused."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from configs import REMOVED, Edit, set_in, student_config, teacher_config
from helpers import teacher_file
from mmengine import registry as root
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, TestLoop, runner
from torch import Tensor, nn

from ktdn_plugin.mmengine.check import check_config
from ktdn_plugin.mmengine.config import load_config
from ktdn_plugin.mmengine.loops import SeededTrainLoop

OTHERS = Registry("model", parent=root.MODELS, scope="others")


class OthersModel(BaseModel):
    """A model of another project."""

    def __init__(self, width: int = 4, teacher: object = None, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.conv = nn.Conv2d(3, width, 1)

    def forward(self, inputs: Tensor, data_samples: object = None, mode: str = "tensor") -> object:
        return {"loss": self.conv(inputs).mean()} if mode == "loss" else self.conv(inputs)


class OthersDataset(BaseDataset):
    """A dataset of another project, of which there may be one alone."""

    made = 0

    def load_data_list(self) -> list[dict]:
        type(self).made += 1
        assert self.made == 1, "built twice"
        return [{"inputs": torch.zeros(3, 8, 8)} for _ in range(4)]


class OthersHook(Hook):
    """A hook of another project."""

    def after_val_epoch(self, runner: object, metrics: dict | None = None) -> None:
        assert metrics is not None
        metrics["mine"] = 1.0


class OthersMetric(BaseMetric):
    """A metric of another project."""

    def process(self, data_batch: object, data_samples: object) -> None:
        """Keeps nothing."""

    def compute_metrics(self, results: list) -> dict:
        return {"mine": 1.0}


class OthersConstructor:
    """Two optimisers for one model."""

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.cfg = optim_wrapper_cfg

    def __call__(self, model: nn.Module) -> OptimWrapper:
        return OptimWrapper(torch.optim.SGD(model.parameters(), **self.cfg["sgd"]))


@pytest.fixture(autouse=True)
def surroundings(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs end where they begin; other projects' classes are registered."""
    teacher_file(pairs)
    monkeypatch.chdir(pairs)
    for loop in (EpochBasedTrainLoop, IterBasedTrainLoop, SeededTrainLoop, TestLoop):
        monkeypatch.setattr(loop, "run", lambda self: None)
    monkeypatch.setattr(runner, "collect_env", dict)
    OthersDataset.made = 0
    OTHERS.register_module(module=OthersModel, force=True)
    for registry, item in (
        (root.DATASETS, OthersDataset),
        (root.HOOKS, OthersHook),
        (root.METRICS, OthersMetric),
        (root.OPTIM_WRAPPER_CONSTRUCTORS, OthersConstructor),
    ):
        registry.register_module(module=item, force=True)
    yield
    sys.modules.pop("users_module", None)


NO_VALIDATION = {"val_cfg": None, "val_dataloader": None, "val_evaluator": None}
UNSEEDED = {
    "train_cfg": {"by_epoch": False, "max_iters": 2},
    "train_dataloader.sampler": {"type": "InfiniteSampler"},
}
EPOCHS = {
    "train_cfg": {"by_epoch": True, "max_epochs": 2},
    "train_dataloader.sampler": {"type": "DefaultSampler", "shuffle": True},
}
CLEAR = {"type": "ClearImageDataset", "dataroot_gt": "train/clear", "gt_size": 48}
STEP = {"type": "StepLR", "step_size": 2}
OTHERS_MODEL = {
    "default_scope": "others",
    "model": {"type": "OthersModel"},
    "train_dataloader.dataset": {"type": "OthersDataset"},
    "custom_hooks": None,
    **UNSEEDED,
    **NO_VALIDATION,
}
VALID: dict[str, dict[str, object]] = {
    "hooks by default": {"default_hooks": None, "custom_hooks": None},
    "default hooks switched off": {
        "default_hooks.timer": None,
        "default_hooks.param_scheduler": None,
        "default_hooks.checkpoint": None,
    },
    "a further default hook": {"default_hooks.mine": {"type": "SyncBuffersHook"}},
    "hooks in a tuple": {"custom_hooks": ({"type": "EMAHook"},)},
    "a hook of others that measures": {
        "custom_hooks.1": {"type": "OthersHook"},
        "default_hooks.checkpoint.save_best": "mine",
    },
    "no hook for layouts, and others' weights": {"custom_hooks": [], "load_from": "part.pth"},
    "a teacher's check without a teacher": {
        "custom_hooks.1": {"type": "TeacherCheckHook"},
        "default_hooks.checkpoint.save_best": None,
        **NO_VALIDATION,
    },
    "no validation": {"default_hooks.checkpoint.save_best": None, **NO_VALIDATION},
    "no test": dict.fromkeys(("test_cfg", "test_dataloader", "test_evaluator"), None),
    "a test that is not run": {"test_evaluator": [{"type": "Nothing"}]},
    "no schedule": {"param_scheduler": None},
    "schedules in a list": {
        "param_scheduler": [{"type": "LinearLR", "end": 2, "by_epoch": False}, STEP]
    },
    "a schedule in a tuple": {"param_scheduler": ({"type": "StepLR", "step_size": 2},)},
    "a schedule of momentum": {"param_scheduler": {"type": "StepMomentum", "step_size": 3}},
    "one metric": {"val_evaluator": {"type": "PSNR"}},
    "metrics with prefixes": {
        "val_evaluator": [{"type": "PSNR", "prefix": "a"}, {"type": "PSNR", "prefix": "b"}],
        "default_hooks.checkpoint.save_best": ["a/PSNR", "b/PSNR"],
    },
    "an evaluator": {"val_evaluator": {"metrics": [{"type": "PSNR"}]}},
    "a metric of others": {
        "val_evaluator": [{"type": "PSNR"}, {"type": "OthersMetric"}],
        "default_hooks.checkpoint.save_best": "mine",
    },
    "a metric that has no figure of some images": {"val_evaluator.1.crop_border": 20},
    "epochs": EPOCHS,
    "epochs, made iterations": {
        **EPOCHS,
        "param_scheduler": {**STEP, "by_epoch": True, "convert_to_iter_based": True},
    },
    "epochs, no type of wrapper": {**EPOCHS, "optim_wrapper.type": REMOVED},
    "a loop by neither type nor epoch": {**UNSEEDED, "train_cfg": {"max_iters": 3}},
    "default loops": {"val_cfg": {}, "test_cfg": {}},
    "datasets, repeated": {
        **UNSEEDED,
        "train_dataloader.dataset": {"type": "RepeatDataset", "dataset": CLEAR, "times": 3},
    },
    "datasets, several": {
        **UNSEEDED,
        "train_dataloader.dataset": {
            "type": "ConcatDataset",
            "datasets": [CLEAR, {**CLEAR, "dataroot_gt": "train/hazy"}],
            "ignore_keys": ["fingerprint"],
        },
    },
    "datasets, whole images of one size": {"train_dataloader.dataset.gt_size": REMOVED},
    "batches by epoch": {"train_dataloader.num_batch_per_epoch": 2, **EPOCHS},
    "batch sampler": {
        **EPOCHS,
        "train_dataloader.batch_sampler": {
            "type": "torch.utils.data.BatchSampler",
            "drop_last": True,
        },
        "train_dataloader.batch_size": 2,
    },
    "collate": {"train_dataloader.collate_fn": {"type": "default_collate"}},
    "scopes by the names": {
        "default_scope": None,
        "model.type": "ktdn_plugin.KTDNTeacher",
        "model.generator.type": "ktdn_plugin.KTDN",
        "model.pixel_loss.type": "ktdn_plugin.PixelLoss",
        "model.laplacian_loss": None,
        "train_dataloader.dataset.type": "ktdn_plugin.ClearImageDataset",
        "train_dataloader.sampler.type": "ktdn_plugin.SeededSampler",
        "train_cfg.type": "ktdn_plugin.SeededTrainLoop",
        "default_hooks.checkpoint.save_best": None,
        "custom_hooks": [],
        **NO_VALIDATION,
    },
    "scopes by a key": {
        "default_scope": "mmengine",
        "model._scope_": "ktdn_plugin",
        "train_dataloader.dataset._scope_": "ktdn_plugin",
        "train_dataloader.sampler._scope_": "ktdn_plugin",
        "train_cfg._scope_": "ktdn_plugin",
        "default_hooks.checkpoint.save_best": None,
        "custom_hooks": [{"type": "CheckpointLayoutHook", "_scope_": "ktdn_plugin"}],
        **NO_VALIDATION,
    },
    "a model of others": OTHERS_MODEL,
    "a model of others by a key": {
        **OTHERS_MODEL,
        "default_scope": "mmengine",
        "model": {"type": "OthersModel", "_scope_": "others"},
    },
    "a model of others, its data dropped": {
        **OTHERS_MODEL,
        **EPOCHS,
        "train_dataloader.batch_size": 3,
        "train_dataloader.drop_last": True,
        "param_scheduler": {**STEP, "by_epoch": True, "convert_to_iter_based": True},
        "custom_hooks": [{"type": "EMAHook", "begin_epoch": 1}],
    },
    "a preprocessor at the top": {"data_preprocessor": {"type": "DehazingDataPreprocessor"}},
    "a constructor of others": {
        "optim_wrapper": {"constructor": "OthersConstructor", "sgd": {"lr": 0.1}},
        "param_scheduler": STEP,
    },
    "optimizers by parameter": {
        "optim_wrapper.paramwise_cfg": {"custom_keys": {"encoder": {"lr_mult": 0.1}}},
        "optim_wrapper.clip_grad": {"type": "value", "clip_value": 1.0},
        "optim_wrapper.accumulative_counts": 2,
    },
    "a scaled rate": {"auto_scale_lr": {"enable": True, "base_batch_size": 8}},
    "a drawn seed": {"randomness": {"seed": None, "deterministic": False}},
    "no seed": {"randomness": REMOVED},
    "no logs of one's own": {"visualizer": None, "log_processor": None, "env_cfg": REMOVED},
    "variables": {"train_sets": [1, 2], "val_dataloader2": {"a": 1}, "work_dirs": "x"},
}


@pytest.fixture(autouse=True)
def _no_scope_of_another_run() -> None:
    # mmengine names a run by the second, and one of the same second has the scope of the first.
    DefaultScope._instance_dict.clear()


@pytest.mark.parametrize("name", VALID)
def test_what_mmengine_builds_is_taken(name: str) -> None:
    cfg = config_of(VALID[name])
    assert check_config(cfg, training=True) == []
    OthersDataset.made = 0
    Runner.from_cfg(cfg).train()


BAD: dict[str, dict[str, object]] = {
    "an unknown default hook that is off": {"default_hooks.chekpoint": None},
    "a hook that is off": {"custom_hooks.0": None},
    "half a validation": {"val_evaluator": None},
    "half a test": {"test_cfg": None},
    "a wrapped dataset and seeds": {
        "train_dataloader.dataset": {"type": "RepeatDataset", "dataset": CLEAR, "times": 3}
    },
    "a loop by type and by epoch": {"train_cfg.by_epoch": False},
    "a schedule without a type": {"param_scheduler": [{"step_size": 3}]},
    "an empty environment": {"env_cfg": None},
    "a seed too many": {"randomness": {"sed": 3}},
    "metrics that are none": {"val_evaluator": [{"type": "PixelLoss"}]},
    "no loss": {"model.pixel_loss": None, "model.laplacian_loss": None},
    "others' scope": {"model._scope_": "mmengine"},
}


@pytest.mark.parametrize("name", BAD)
def test_what_mmengine_refuses_is_refused(name: str) -> None:
    cfg = config_of(BAD[name])
    lines = check_config(cfg, training=True)
    assert lines
    assert all("\n" not in line and ": " in line for line in lines)
    with pytest.raises(Exception):  # noqa: B017, PT011  # mmengine raises anything
        Runner.from_cfg(cfg).train()


def test_configs_that_import_their_classes(pairs: Path) -> None:
    (pairs / "lazy.py").write_text(LAZY)
    cfg = load_config(pairs / "lazy.py")
    cfg.work_dir = "work"
    assert check_config(cfg, training=True) == []
    Runner.from_cfg(cfg).train()


def test_custom_imports(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(pairs))
    (pairs / "users_module.py").write_text(USERS)
    changes = {
        "custom_imports": {"imports": ["users_module"], "allow_failed_imports": False},
        "model.type": "UsersTeacher",
    }
    Config(dict(config_of(changes)._cfg_dict)).dump("own.py")
    cfg = load_config("own.py")
    cfg.work_dir = "work"
    assert check_config(cfg, training=True) == []
    Runner.from_cfg(cfg).train()


def test_a_student_alone() -> None:
    cfg = student_config(model__teacher=None, model__transfer_loss=None)
    cfg = Config({**cfg, "work_dir": "work"})
    assert check_config(cfg, training=True) == []
    Runner.from_cfg(cfg).train()


def test_epochs_that_iterations_do_not_have_are_doubted() -> None:
    doubts: list[str] = []
    changes = {"param_scheduler": STEP, "default_hooks.checkpoint.by_epoch": True}
    assert check_config(config_of(changes), training=True, warn=doubts.append) == []
    where = ["default_hooks.checkpoint.by_epoch", "param_scheduler.by_epoch"]
    assert [line.partition(":")[0] for line in doubts] == where


def config_of(changes: dict[str, object]) -> Config:
    cfg = teacher_config(work_dir="work")
    for path, value in changes.items():
        edit: Edit = set_in(path, copy.deepcopy(value) if value is not REMOVED else value)
        edit(cfg)
    if cfg.get("load_from") == "part.pth":
        torch.save({"state_dict": {"generator.tail.1.bias": torch.zeros(3)}}, "part.pth")
    return Config(cfg)


USERS = """
from mmengine.registry import MODELS

from ktdn_plugin.mmengine.models import KTDNTeacher

made = []


@MODELS.register_module(force=True)
class UsersTeacher(KTDNTeacher):
    def __init__(self, **options):
        made.append(options)
        assert len(made) == 1, "built twice"
        super().__init__(**options)
"""
LAZY = """
from mmengine.config import read_base
from mmengine.dataset import DefaultSampler
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop
from torch.optim import SGD

from ktdn_plugin import KTDN
from ktdn_plugin.losses import PixelLoss
from ktdn_plugin.mmengine.datasets import ClearImageDataset
from ktdn_plugin.mmengine.models import KTDNTeacher

model = dict(
    type=KTDNTeacher,
    generator=dict(type=KTDN, encoder="test_convnext"),
    pixel_loss=dict(type=PixelLoss),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=ClearImageDataset, dataroot_gt="train/clear", gt_size=48),
)
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=1)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1))
"""
