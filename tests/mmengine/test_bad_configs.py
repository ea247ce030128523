"""Wrong configs: one line for each problem, exit code 1, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
from configs import REMOVED, Edit, set_in, student_config, teacher_config
from helpers import one, teacher_file
from mmengine.config import Config
from mmengine.registry import MODELS

from ktdn_plugin import cli
from ktdn_plugin.mmengine.check import check_config
from ktdn_plugin.mmengine.run import adapt_model


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("nowhere.py", None, "nowhere.py: no such config file"),
        ("train", None, "train: no such config file"),
        ("bad.py", "a = (1,\nb = 2\n", "(SyntaxError: '(' was never closed"),
        ("bad.py", "hello", "(NameError: name 'hello' is not defined)"),
        ("bad.py", "raise RuntimeError('no')", "(RuntimeError: no)"),
        ("bad.py", "import sys; sys.exit(3)", "(SystemExit: 3)"),
        ("bad.py", "_base_ = ['nowhere.py']", "nowhere.py'"),
        ("bad.py", "custom_imports = dict(imports=['nowhere'])", "Failed to import custom modules"),
        ("bad.py", "\x00", "not a config that can be loaded"),
        ("bad.txt", "model = 3", "Only py/yml/yaml/json type are supported"),
        ("bad.yml", "a: [1, 2", "not a config that can be loaded"),
        ("bad.json", '{"a": 1', "not a config that can be loaded"),
    ],
)
def test_config_file(
    pairs: Path, capfd, monkeypatch, name: str, text: str | None, expected: str
) -> None:
    monkeypatch.chdir(pairs)
    if text is not None:
        (pairs / name).write_text(text)
    before = {*pairs.rglob("*")}
    assert cli.main(["mmengine", "train", name]) == 1
    assert {*pairs.rglob("*")} == before
    line = one(capfd.readouterr().err.splitlines())
    assert line.startswith(f"error: {name}: ")
    assert expected in line


def test_empty_config(pairs: Path, capfd, monkeypatch) -> None:
    monkeypatch.chdir(pairs)
    (pairs / "bad.py").write_text("")
    assert cli.main(["mmengine", "train", "bad.py"]) == 1
    needed = ("model", "train_dataloader", "train_cfg", "optim_wrapper")
    lines = capfd.readouterr().err.splitlines()
    assert lines == [f"error: bad.py: {key}: missing" for key in needed]


# Keys are given in the order of the config that teacher_config and student_config write.
TYPES = [
    ("model.type", "KTDNDistillr", "KTDNDistiller"),
    ("model.student.type", "KTDM", "KTDN"),
    ("model.pixel_loss.type", "PixelLos", "PixelLoss"),
    ("train_dataloader.dataset.type", "PairedHazeDatset", "PairedHazeDataset"),
    ("train_dataloader.sampler.type", "SededSampler", "SeededSampler"),
    ("custom_hooks.1.type", "CheckpointLayoutHok", "CheckpointLayoutHook"),
    ("custom_hooks.0.ema_type", "ExponentialMovingAvrage", "ExponentialMovingAverage"),
    ("default_hooks.logger.type", "LogerHook", "LoggerHook"),
    ("val_evaluator.0.type", "PSNRR", "PSNR"),
    ("optim_wrapper.type", "OptimWraper", "OptimWrapper"),
    ("optim_wrapper.optimizer.type", "Adm", "Adam"),
    ("param_scheduler.type", "CosineAnealingLR", "CosineAnnealingLR"),
    ("train_cfg.type", "SededTrainLoop", "SeededTrainLoop"),
    ("val_cfg.type", "ValLop", "ValLoop"),
    ("visualizer.type", "Visualiser", "Visualizer"),
    ("visualizer.vis_backends.0.type", "LocalVisBackends", "LocalVisBackend"),
    ("log_processor.type", "LogProcesor", "LogProcessor"),
]


@pytest.mark.parametrize(("path", "value", "meant"), TYPES, ids=[path for path, _, _ in TYPES])
def test_unknown_type(fails, pairs: Path, path: str, value: str, meant: str) -> None:
    teacher_file(pairs)
    line = one(fails(student_config(**{path.replace(".", "__"): value})))
    assert f"{path}: there is no '{value}'; did you mean '{meant}'?" in line


KEYS = [
    ("model.techer", "teacher"),
    ("model.student.encodr", "encoder"),
    ("model.student.haed", "head"),
    ("model.laplacian_loss.level", "levels"),
    ("model.transfer_loss.feature", "features"),
    ("train_dataloader.num_worker", "num_workers"),
    ("train_dataloader.dataset.gt_sise", "gt_size"),
    ("val_dataloader.sampler.shufle", "shuffle"),
    ("optim_wrapper.clip_gard", "clip_grad"),
    ("optim_wrapper.optimizer.lrr", "lr"),
    ("param_scheduler.Tmax", "T_max"),
    ("custom_hooks.0.momentm", "momentum"),
    ("custom_hooks.2.image", "images"),
    ("default_hooks.checkpoint.intervall", "interval"),
    ("default_hooks.chekpoint", "checkpoint"),
    ("train_cfg.max_iter", "max_iters"),
    ("val_cfg.fp6", "fp16"),
    ("val_evaluator.0.crop_boder", "crop_border"),
    ("visualizer.vis_backnds", "vis_backends"),
    ("randomness.sed", "seed"),
    ("env_cfg.mp_cfg.mp_start_methd", "mp_start_method"),
]


@pytest.mark.parametrize(("path", "meant"), KEYS, ids=[path for path, _ in KEYS])
def test_unknown_key(fails, pairs: Path, path: str, meant: str) -> None:
    teacher_file(pairs)
    line = one(fails(student_config(**{path.replace(".", "__"): 5})))
    # A dataset's own keys are known to the dataset.
    assert f"{path}: " in line or "dataset: PairedHazeDataset: unknown option 'gt_sise'" in line
    assert f"did you mean '{meant}'?" in line


def test_variables_of_the_author_are_not_mistakes(mmengine_run, pairs: Path) -> None:
    teacher_file(pairs)
    cfg = student_config(train_set={"a": 1}, vis_backends=[], crop=48, teacher="teacher.pth")
    assert mmengine_run("train", {**cfg, "train_cfg": {**cfg["train_cfg"], "max_iters": 1}}) == 0


MISSING = [
    "model", "model.type", "model.student", "train_dataloader", "train_dataloader.dataset",
    "train_dataloader.dataset.type", "train_dataloader.dataset.dataroot_gt",
    "train_dataloader.dataset.dataroot_lq",
    "train_dataloader.sampler.type", "train_cfg", "train_cfg.max_iters",
    "optim_wrapper", "optim_wrapper.optimizer", "optim_wrapper.optimizer.type", "val_cfg",
    "val_evaluator", "val_evaluator.0.type", "param_scheduler.type", "custom_hooks.0.type",
    "default_hooks.logger.type", "visualizer.type", "default_scope",
]  # fmt: skip


@pytest.mark.parametrize("path", MISSING)
def test_missing_key(fails, pairs: Path, path: str) -> None:
    teacher_file(pairs)
    line = one(fails(student_config(**{path.replace(".", "__"): REMOVED})))
    # A dataset's own keys are missed by the dataset.
    assert f"{path}: missing" in line or f"{path.replace('dataset.', 'dataset: ')}: missing" in line


def test_several_problems_are_reported_at_once(fails) -> None:
    cfg = student_config(train_cfg__max_iter=1, model__type="X", val_cfg__type="ValLop")
    assert len(fails(cfg)) == 3


VALUES: list[tuple[str, object, str]] = [
    ("model", 3, "model: 3 must be a dict"),
    ("model.student", 3, "model.student: 3 must be a dict(type=...)"),
    ("model.student.encoder", "resnet81", "'resnet81' is not a timm model; did you mean"),
    ("model.student.encoder", "test_vit", "KTDN needs 4, 8 and 16"),
    ("model.student.head", "afine", "has no head 'afine'; did you mean 'affine'?"),
    ("model.student.widths", [64, 32, 37], "widths [64, 32, 37]: 37 channels at stride 4"),
    ("model.teacher.head", "affine", "teacher.head: a teacher with an affine head reconstructs"),
    ("model.student.pretrained", "no.pth", "no.pth: no such checkpoint file"),
    ("model.pixel_loss.criterion", "l3", "criterion 'l3' is not one of l1, mse, smooth_l1"),
    ("model.laplacian_loss.levels", 9, "allows at most levels=5"),
    ("model.transfer_loss.features", {"mdi": 1.0}, "did you mean 'mid'?"),
    ("model.transfer_loss.adapters", {"mid": (16, 32)}, "do not fit its adapter"),
    ("model.student_features", {"mid": "nowhere"}, "KTDN has no module 'nowhere'"),
    ("model.teacher_param_key", "paras", "teacher.pth: has no 'paras', only params"),
    ("default_scope", "ktdn_plugn", "write default_scope = 'ktdn_plugin'"),
    ("default_scope", "mmengine", "write default_scope = 'ktdn_plugin'"),
    ("default_scope", 3, "default_scope: 3 must be a name"),
    ("train_cfg.max_iters", 0, "train_cfg: max_iters: 0 must be a whole number, 1 or more"),
    ("train_cfg.max_iters", "x", "train_cfg: max_iters: 'x' must be"),
    ("train_cfg.val_interval", 0, "train_cfg: val_interval: 0 must be"),
    ("train_cfg.skip_at_most", 2, "train_cfg: skip_at_most: 2 must be a share"),
    ("train_cfg", {"type": "EpochBasedTrainLoop", "max_epochs": 1}, "would never come to an end"),
    ("train_dataloader.sampler", {"type": "DefaultSampler"}, "SeededTrainLoop needs"),
    ("val_dataloader.sampler", {"type": "SeededSampler"}, "never comes to an end; take"),
    ("train_dataloader", 3, "train_dataloader: 3 must be a dict"),
    ("val_dataloader.sampler", 1, "val_dataloader.sampler: 1 must be a dict(type=...)"),
    ("custom_hooks.1", "L1Loss", "custom_hooks.1: 'L1Loss' must be a dict"),
    ("val_evaluator.1.type", "..", "val_evaluator.1.type: there is no '..'"),
    ("train_dataloader.batch_size", 0, "batch_size should be a positive integer value"),
    (
        "train_dataloader.num_workers",
        "x",
        "train_dataloader.num_workers: the text 'x' cannot be used",
    ),
    (
        "train_dataloader.prefetch_factor",
        2,
        "cannot be used: prefetch_factor option",
    ),
    ("train_dataloader.batch_size", 10**9, "batch_size: 1000000000 fit into no memory"),
    ("train_dataloader.num_workers", 10**9, "num_workers: 1000000000 are too many"),
    ("train_dataloader.collate_fn", 3, "collate_fn should be a dict or callable object"),
    (
        "val_dataloader.batch_size",
        2,
        "75 x 50 and 75 x 57 pixels do not make a batch; take batch_size=1",
    ),
    ("optim_wrapper", 3, "optim_wrapper: 3 must be a dict"),
    ("optim_wrapper.optimizer", 3, "optim_wrapper.optimizer: 3 must be a dict(type=...)"),
    ("optim_wrapper.optimizer.lr", "1e-4", "optimizer.lr: the text '1e-4' cannot be used"),
    ("optim_wrapper.optimizer.lr", -1, "optim_wrapper.optimizer: cannot be used: Invalid learning"),
    ("optim_wrapper.clip_grad", {"max_nrm": 1}, "unexpected keyword argument 'max_nrm'"),
    ("param_scheduler", 3, "param_scheduler: 3 must be a dict"),
    ("param_scheduler.T_max", "x", "param_scheduler.T_max: the text 'x' cannot be used"),
    ("param_scheduler.end", 0, "param_scheduler: cannot be used: end should be larger"),
    ("default_hooks", 3, "default_hooks: 3 must be a dict"),
    ("default_hooks.logger.interval", 0, "default_hooks.logger: cannot be used: interval must be"),
    ("default_hooks.checkpoint.interval", "x", "checkpoint.interval: cannot be used"),
    (
        "default_hooks.checkpoint.rule",
        None,
        "checkpoint: cannot be used: Cannot infer",
    ),
    ("default_hooks.checkpoint.save_best", "PSRN", "is not measured, only PSNR, SSIM; did you"),
    ("default_hooks.checkpoint.backend_args", {"backend": "x"}, "there is no backend 'x'"),
    ("custom_hooks", 3, "custom_hooks: cannot be used: 'int' object is not iterable"),
    ("custom_hooks.0.momentum", 2, "custom_hooks.0: cannot be used: momentum must be"),
    ("custom_hooks.0.priority", "HIHG", "custom_hooks.0: cannot be used: HIHG"),
    ("custom_hooks.2.images", "x", "custom_hooks.2: images: 'x' must be a whole number"),
    ("custom_hooks.1", {"type": "FreezeBatchNormHook", "after": -1}, "after: -1 must be"),
    ("custom_hooks.1", {"type": "TeacherCheckHook", "min_psnr": "x"}, "min_psnr: 'x' must be"),
    ("val_evaluator", 3, "val_evaluator: 3 must be a dict"),
    ("default_hooks", 0, "default_hooks: 0 must be a dict"),
    ("log_processor", 0, "log_processor: 0 must be a dict"),
    ("visualizer", "", "visualizer: '' must be a dict"),
    ("val_evaluator.1", [0.9], "val_evaluator.1: [0.9] must be a dict(type=...)"),
    ("val_evaluator.0.crop_border", -1, "PSNR.crop_border: -1 must be"),
    ("val_evaluator.0.collect_device", "gp", "'gp' is not one of cpu, gpu, npu"),
    ("val_cfg.fp16", "x", "val_cfg: cannot be used: set_autocast_enabled()"),
    ("visualizer", 3, "visualizer: 3 must be a dict"),
    ("visualizer.vis_backends", 3, "visualizer: cannot be used: vis_backends must be a list"),
    ("log_level", "INFOO", "log_level: cannot be used: Unknown level: 'INFOO'"),
    ("randomness.seed", 2**40, "randomness: cannot be used: Seed must be between"),
    ("env_cfg", 3, "env_cfg: 3 must be a dict"),
    ("env_cfg.mp_cfg.mp_start_method", "frok", "env_cfg.mp_cfg: cannot be used: cannot find"),
    ("auto_scale_lr", {"enable": True}, "auto_scale_lr: cannot be used: Lack of"),
    ("compile", 3, "compile: 3 must be True, False or a dict"),
    ("data_preprocessor", 3, "data_preprocessor should be a `dict`"),
]


@pytest.mark.parametrize(
    ("path", "value", "expected"), VALUES, ids=[f"{path}={value}" for path, value, _ in VALUES]
)
def test_wrong_value(fails, pairs: Path, path: str, value: object, expected: str) -> None:
    teacher_file(pairs)
    line = one(fails(student_config(**{path.replace(".", "__"): value})))
    assert "config.py: " in line
    assert expected in line


DOUBTFUL = {
    "train_dataloder=1": "did you mean 'train_dataloader'?",
    "env_cfg.mp_cg.x=1": "env_cfg.mp_cg: nothing asks for it; did you mean 'mp_cfg'?",
    "default_hooks.checkpoint.max_keep_ckpts=1": "1 deletes the only checkpoint",
    "optim_wrapper.paramwise_cfg.custom_key.x=1": "of no effect; did you mean 'custom_keys'?",
    "optim_wrapper.paramwise_cfg.custom_keys.encodr.lr_mult=0.1": "did you mean 'encoder'?",
}
"""What mmengine runs, and what is hardly meant."""


def test_doubtful_configs_are_warned_of(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pairs)
    teacher_file(pairs)
    cfg = Config(student_config(val_dataloader2={}, vis_backends=[]))
    assert doubts_of(cfg) == []
    for option, expected in DOUBTFUL.items():
        changed = Config(cfg.to_dict())
        key, _, value = option.partition("=")
        changed.merge_from_dict({key: float(value)})
        assert expected in one(doubts_of(changed)), option


def doubts_of(cfg: Config) -> list[str]:
    doubts: list[str] = []
    assert check_config(cfg, training=True, warn=doubts.append) == []
    return doubts


def test_torchs_synchronised_norms_become_our_own() -> None:
    cfg = Config(teacher_config(sync_bn="torch", launcher="none"))
    assert adapt_model(cfg) == []  # of one process nothing is synchronised
    assert "sync_bn" not in cfg.model
    cfg.launcher = "pytorch"
    assert "model.sync_bn = True is taken instead" in one(adapt_model(cfg))
    assert (cfg.sync_bn, cfg.model.sync_bn) == (None, True)


def test_a_part_of_anothers_that_cannot_be_built_is_named(breaks, pairs: Path) -> None:
    """It is not built before the run."""
    MODELS.register_module("Others", module=others_network, force=True)
    cfg = teacher_config(custom_hooks__1={"type": "sys.exit"})
    assert "config.py: custom_hooks.1: cannot be used: " in one(breaks(cfg))
    cfg = teacher_config(model={"type": "Others", "widht": 3})
    assert "model.widht: others_network takes no 'widht'; did you mean 'width'?" in one(breaks(cfg))


def others_network(width: int) -> None:
    """Not a network, but it has an argument."""


def without_losses(cfg: dict) -> None:
    cfg["model"] |= {"pixel_loss": None, "laplacian_loss": None}


def checked_without_validation(cfg: dict) -> None:
    cfg["custom_hooks"].append({"type": "TeacherCheckHook"})
    for key in ("val_cfg", "val_dataloader", "val_evaluator"):
        del cfg[key]


def started_from_another_head(cfg: dict) -> None:
    cfg["model"]["student"]["head"] = "affine"
    cfg["load_from"] = "teacher.pth"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (started_from_another_head, "the file's has head: tanh, this one head: affine; set head:"),
        (without_losses, "no image loss is given"),
        (set_in("model.ssim_los", {"type": "SSIMLoss"}), "'ssim_los'; did you mean 'ssim_loss'?"),
        (set_in("model.ssim_loss", {"type": "SIMLoss"}), "did you mean 'SSIMLoss'?"),
        (set_in("model.transfer_loss", None), "needs both a teacher and a transfer_loss"),
        (set_in("model.teacher", None), "needs both a teacher and a transfer_loss"),
        (checked_without_validation, "there is no val_dataloader with clear images to measure"),
    ],
)
def test_what_does_not_go_together(fails, pairs: Path, edit: Edit, expected: str) -> None:
    teacher_file(pairs)
    cfg = student_config()
    edit(cfg)
    assert expected in one(fails(cfg))


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("train_cfg.max_iters", "is not of the form key.key=value"),
        ("=3", "is not of the form key.key=value"),
        ("train_cfgs.max_iters=3", "no section 'train_cfgs'; did you mean 'train_cfg'?"),
        ("trian_cfg=3", "there is no section 'trian_cfg'; did you mean 'train_cfg'?"),
        ("train_cfg.max_iter=3", "did you mean 'max_iters'?"),
        ("custom_hooks.9.images=1", "'custom_hooks' is a list of 3; number its parts from 0"),
        ("custom_hooks.x.images=1", "'custom_hooks' is a list of 3; number its parts from 0"),
        ("model.generator.encoder.x=1", "cannot be set"),
        ("custom_hooks.1=L1Loss", "cannot be set (AttributeError"),
        ("val_evaluator.1=x,y", "cannot be set (AttributeError"),
        ("model.generator.head=affine", "generator.head: a teacher with an affine head"),
        ("train_cfg.max_iters=many", "train_cfg: max_iters: 'many' must be a whole number"),
    ],
)
def test_cfg_options(fails, option: str, expected: str) -> None:
    assert expected in one(fails(teacher_config(), "train", "--cfg-options", option))
