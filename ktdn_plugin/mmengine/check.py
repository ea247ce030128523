"""Checks a config before anything starts: one line for each problem."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from mmengine import registry as root
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.data.preflight import check_depth, check_sides, preflight_count
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.mmengine.build_errors import find
from ktdn_plugin.mmengine.datasets import ClearImageDataset
from ktdn_plugin.mmengine.doubts import find_doubts
from ktdn_plugin.mmengine.dry_run import DryRun
from ktdn_plugin.mmengine.hooks import CheckpointLayoutHook, TeacherCheckHook
from ktdn_plugin.mmengine.hooks.checkpoint_layout_hook import fit_model
from ktdn_plugin.mmengine.metrics import ImageMetric
from ktdn_plugin.mmengine.registry import SCOPE
from ktdn_plugin.mmengine.restorer import Restorer, without_pretrained
from ktdn_plugin.mmengine.stand_ins import quiet

TRAINING = ("train_dataloader", "train_cfg", "optim_wrapper")
VALIDATION = ("val_dataloader", "val_cfg", "val_evaluator")
TESTING = ("test_dataloader", "test_cfg", "test_evaluator")
RESUMABLE = {"meta", "optimizer", "message_hub"}

Warn = Callable[[str], object]


def check_config(
    cfg: Config, *, training: bool, reads_files: bool = True, warn: Warn = lambda line: None
) -> list[str]:
    """Checks a config, and the files that it names.

    What mmengine's own Runner would run is not refused; what is probably a mistake is warned of.

    Args:
        cfg: The config.
        training: Whether it is to be trained by; tested if not.
        reads_files: Whether data, models and checkpoints are looked at as well.
        warn: Called with one line for each thing that has no effect, or a bad one.

    Returns:
        One line for each problem, without the file's name.
    """
    with scope_of(cfg):
        problems = _check_keys(cfg, training)
        if problems:
            return problems
        run = DryRun(cfg, training=training, reads_files=reads_files)
        problems = run.problems
        problems += _check_hooks(run, cfg, training)
        # Each look takes for granted what the one before it has found to be right.
        if problems or not reads_files:
            run.check_type(cfg.model, root.MODELS, "model")
            for line in find_doubts(cfg, run, None):
                warn(line)
            return _with_scope(cfg, problems)
        crop = None
        for key, loader in run.loaders.items():
            if isinstance(loader.dataset, ClearImageDataset):
                crop = _check_dataset(run, key, problems) or crop
        checkpoint = _read_load_from(cfg, problems)
        if problems:
            return problems
        model = _build_model(run, crop if training else None)
        if model is not None and checkpoint is not None:
            _check_checkpoint(run, model, checkpoint, problems)
        if model is not None and training:
            run.build_training(model)
        for line in find_doubts(cfg, run, model if training else None):
            warn(line)
        return _with_scope(cfg, problems)


@contextmanager
def scope_of(cfg: Config) -> Iterator[None]:
    """Looks short names up as a run of the config does."""
    scope = cfg.get("default_scope")
    with DefaultScope.overwrite_default_scope(scope if isinstance(scope, str) else "mmengine"):
        yield


def _with_scope(cfg: Config, problems: list[str]) -> list[str]:
    """Returns a text that says that the scope is wrong where it is why nothing is found."""
    scope = cfg.get("default_scope")
    if isinstance(scope, str) and scope != "mmengine" and scope in root.MODELS.children:
        return problems
    lost = [line for line in problems if f"; did you mean '{SCOPE}." in line]
    if not lost:
        return problems
    said = {None: "missing", "mmengine": "'mmengine' has not all that is named"}
    reason = said.get(scope) if scope is None or isinstance(scope, str) else None
    line = reason or f"there is no '{scope}'{did_you_mean(scope, ('mmengine', SCOPE))}"
    return [f"default_scope: {line}; write default_scope = '{SCOPE}'"]


def _check_keys(cfg: Config, training: bool) -> list[str]:
    known = [key for key in inspect.signature(Runner.__init__).parameters if key != "self"]
    problems = []
    model = cfg.get("model")
    if model is None:
        problems.append("model: missing")
    elif not isinstance(model, Mapping):
        problems.append("model: must be a dict(type=...)")
    elif "type" not in model:
        problems.append("model.type: missing")
    groups = (TRAINING, VALIDATION) if training else (TESTING,)
    for group in groups:
        given = [key for key in group if cfg.get(key) is not None]
        needed = group is not VALIDATION
        if len(given) not in (0, len(group)) or (needed and not given):
            for key in group:
                if key not in given:
                    hint = did_you_mean(key, [one for one in cfg if one not in known])
                    problems.append(f"{key}: missing{hint}")
    scope = cfg.get("default_scope")
    if not isinstance(scope, (str, type(None))):
        problems.append(f"default_scope: {scope!r} must be a name, such as '{SCOPE}'")
    return problems


def _check_hooks(run: DryRun, cfg: Config, training: bool) -> list[str]:
    """Finds what hooks would stumble over when a run is under way."""
    problems: list[str] = []
    if not training:
        return problems
    has_validation = cfg.get("val_cfg") is not None
    if any(isinstance(hook, TeacherCheckHook) for hook in run.hooks) and not has_validation:
        problems.append(
            "custom_hooks: TeacherCheckHook: there is no val_dataloader with clear images to "
            "measure the teacher on; name one, or leave the hook out"
        )
    measured = _measured(run)
    for hook in run.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best and hook.save_best != "auto":
            for key in hook.key_indicators if measured else ():
                if key not in measured:
                    problems.append(
                        f"default_hooks.checkpoint.save_best: '{key}' is not measured, only "
                        f"{', '.join(measured)}{did_you_mean(key, measured)}"
                    )
    item = find(cfg.model["type"], root.MODELS)
    distributed = cfg.get("launcher", "none") != "none"
    is_ours = inspect.isclass(item) and issubclass(item, Restorer)
    if cfg.get("sync_bn") and is_ours and distributed:
        problems.append(
            "sync_bn: torch's conversion drops the activations that timm's batch norms carry; take "
            "model.sync_bn = True instead"
        )
    return problems


def _measured(run: DryRun) -> list[str]:
    """Lists the figures of a validation; nothing where others than ours are among them."""
    metrics = run.evaluators.get("val_evaluator", [])
    section = run.cfg.get("val_evaluator")
    count = len(section) if isinstance(section, (list, tuple)) else 1
    if len(metrics) != count or not all(isinstance(one, ImageMetric) for one in metrics):
        return []
    return [
        f"{one.prefix}/{type(one).__name__}" if one.prefix else type(one).__name__
        for one in metrics
    ]


def _check_dataset(run: DryRun, where: str, problems: list[str]) -> int | None:
    """Looks at the images of one of our datasets; gives the size of its crops."""
    loader = run.loaders[where]
    dataset = loader.dataset
    with run.part(f"{where}.dataset"):
        check_depth(dataset.dataset)
        skips = dataset.on_error == "skip"
        check_sides(dataset.images.sides, dataset.crop, skips=skips)
        if dataset.crop is None and loader.batch_size != 1:
            _check_batch(dataset, where, problems)
        if where != "train_dataloader":
            _check_measurable(run, dataset, where, problems)
    crop: int | None = dataset.crop
    return crop


def _check_batch(dataset: ClearImageDataset, where: str, problems: list[str]) -> None:
    """Whole images can be in one batch if they are of one size."""
    if where == "train_dataloader":
        problems.append(f"{where}.dataset.gt_size: missing: the crop in pixels")
        return
    images = dataset.images.clear
    sizes = {images.size(number) for number in range(preflight_count(images))}
    if len(sizes) > 1:
        (height, width), (other_height, other_width), *_ = sorted(sizes)
        problems.append(
            f"{where}.batch_size: images of {width} x {height} and {other_width} x {other_height} "
            "pixels do not make a batch; take 1 for whole photographs"
        )


def _check_measurable(
    run: DryRun, dataset: ClearImageDataset, where: str, problems: list[str]
) -> None:
    """No image may be too small for a figure."""
    key = where.replace("dataloader", "evaluator")
    images = dataset.images.clear
    side, number = min((min(images.size(n)), n) for n in range(preflight_count(images)))
    for metric in run.evaluators.get(key, ()):
        if isinstance(metric, ImageMetric) and side - 2 * metric.crop_border < metric.LEAST:
            problems.append(
                f"{key}: {type(metric).__name__}: {images.describe(number)} is too small to be "
                f"measured with crop_border={metric.crop_border}: {metric.LEAST} pixels must be "
                "left of its shorter side"
            )


def _read_load_from(cfg: Config, problems: list[str]) -> Checkpoint | None:
    path = cfg.get("load_from")
    if not path or "://" in str(path):
        return None
    try:
        checkpoint = Checkpoint.read(path)
        if cfg.get("resume") and not set(checkpoint.content) >= RESUMABLE:
            raise KTDNError(
                f"{path}: holds weights, not a training to resume; start from it by load_from "
                "without --resume"
            )
        return checkpoint
    except KTDNError as error:
        problems.append(f"load_from: {error}")
    except TypeError:
        problems.append(f"load_from: {path!r} must be the path of a checkpoint")
    return None


def _build_model(run: DryRun, crop: int | None) -> Restorer | None:
    """Builds one of our models, and in training tries it: what does not fit shows here."""
    item = find(run.cfg.model["type"], root.MODELS)
    if item is not None and not (inspect.isclass(item) and issubclass(item, Restorer)):
        return None
    section = run.cfg.model
    if run.cfg.get("data_preprocessor") is not None:
        section.setdefault("data_preprocessor", run.cfg.data_preprocessor)
    # It would go to this process' GPU, and the teacher beside it would not.
    trial = {**without_pretrained(section, files=False), "sync_bn": False}
    with quiet(), run.part("model", section):
        model: Restorer = root.MODELS.build(trial)
        if crop is not None:
            model.eval()
            with torch.no_grad():
                image = torch.zeros(1, 3, crop, crop)
                model.step(image, image)
        return model.train()
    return None


def _check_checkpoint(
    run: DryRun, model: Restorer, checkpoint: Checkpoint, problems: list[str]
) -> None:
    """mmengine would load what fits and only warn of the rest."""
    try:
        weights = fit_model(model, checkpoint, resumes=bool(run.cfg.get("resume")))
    except KTDNError as error:
        problems.append(f"load_from: {error}")
        return
    has_hook = any(isinstance(hook, CheckpointLayoutHook) for hook in run.hooks)
    if weights is not None and not has_hook:
        problems.append(
            f"load_from: {run.cfg.load_from} has not the layout of {type(model).__name__}; add "
            "dict(type='CheckpointLayoutHook') to custom_hooks"
        )
