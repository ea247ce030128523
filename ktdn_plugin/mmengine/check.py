"""Checks a config before anything starts: one line for each problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine import registry as root
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader
from torch.utils.data import DataLoader

from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.data.preflight import check_depth, check_names, check_sides, preflight_count
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.mmengine.config import RUNNER_KEYS
from ktdn_plugin.mmengine.data_preprocessor import DehazingDataPreprocessor
from ktdn_plugin.mmengine.datasets import ClearImageDataset
from ktdn_plugin.mmengine.doubts import find_doubts
from ktdn_plugin.mmengine.dry_run import MAKERS, DryRun, maker_of, quiet
from ktdn_plugin.mmengine.hooks import CheckpointLayoutHook, TeacherCheckHook
from ktdn_plugin.mmengine.hooks.checkpoint_layout_hook import fit_model
from ktdn_plugin.mmengine.metrics import ImageMetric
from ktdn_plugin.mmengine.registry import SCOPE
from ktdn_plugin.mmengine.restorer import Restorer
from ktdn_plugin.model_zoo.weights import resolve_checkpoint

GROUPS = {
    "train": ("train_dataloader", "train_cfg", "optim_wrapper"),
    "val": ("val_dataloader", "val_cfg", "val_evaluator"),
    "test": ("test_dataloader", "test_cfg", "test_evaluator"),
}
"""Keys that must be given together or not at all."""

RESUMABLE = {"meta", "optimizer", "message_hub"}

Warn = Callable[[str], object]


def check_config(cfg: Config, *, training: bool, warn: Warn = lambda line: None) -> list[str]:
    """Checks a config, and the files that it names.

    Whatever mmengine's own Runner would run is accepted, except a ``load_from`` from which nothing
    would be loaded. Probable mistakes give a warning.

    Args:
        cfg: The config.
        training: Whether to train with it, or to test.
        warn: Called with one line for each setting that has no effect, or a bad one.

    Returns:
        One line for each problem, without the file's name.
    """
    with scope_of(cfg):
        run = DryRun(cfg, training=training)
        run.problems[:0] = _missing_keys(cfg, training)
        for where, loader in run.of(DataLoader).items():
            if isinstance(loader.dataset, ClearImageDataset):
                with run.part(f"{where}.dataset", {}):
                    _check_images(run, where, loader, warn)
        if training:
            _check_hooks(run)
        with run.part("load_from", {}):
            _check_load_from(run, warn)
        if training and not run.problems:
            _try_step(run)
        for line in find_doubts(run):
            warn(line)
        return _blame_scope(cfg, run.problems)


@contextmanager
def scope_of(cfg: Config) -> Iterator[None]:
    """Resolves short names as a run of the config does."""
    scope = cfg.get("default_scope")
    with DefaultScope.overwrite_default_scope(scope if isinstance(scope, str) else "mmengine"):
        yield


def _missing_keys(cfg: Config, training: bool) -> Iterator[str]:
    if cfg.get("model") is None:
        yield "model: missing"
    for phase, group in GROUPS.items():
        given = [key for key in group if cfg.get(key) is not None]
        if given or phase == ("train" if training else "test"):
            for key in group:
                if key not in given:
                    hint = did_you_mean(key, [one for one in cfg if one not in RUNNER_KEYS])
                    yield f"{key}: missing{hint}"


def _blame_scope(cfg: Config, problems: list[str]) -> list[str]:
    """Reports a wrong scope once instead of every name that is not found in it."""
    scope = cfg.get("default_scope")
    lost = [line for line in problems if f"; did you mean '{SCOPE}." in line]
    if scope is None or isinstance(scope, str):
        said = "missing" if scope is None else f"'{scope}' has not all that is named"
        if not lost or scope in root.MODELS.children:
            return problems
    else:
        said = f"{scope!r} must be a name"
    others = [line for line in problems if line not in lost]
    return [f"default_scope: {said}; write default_scope = '{SCOPE}'", *others]


def _check_images(run: DryRun, where: str, loader: DataLoader, warn: Warn) -> None:
    """Checks the images of one of our datasets."""
    dataset = loader.dataset
    assert isinstance(dataset, ClearImageDataset)
    check_depth(dataset.dataset)
    check_sides(dataset.images.sides, dataset.crop, skips=dataset.on_error == "skip")
    if where == "test_dataloader":
        try:
            check_names(dataset.images.sides[0])
        except KTDNError as error:
            warn(f"{where}.dataset: {error}")
    # Other preprocessors may batch images of different sizes.
    is_stacked = type(getattr(run.model, "data_preprocessor", None)) is DehazingDataPreprocessor
    if dataset.crop is not None or (loader.batch_size or 1) == 1 or not is_stacked:
        return
    images = dataset.images.clear
    sizes = sorted({images.size(number) for number in range(preflight_count(images))})
    if len(sizes) > 1:
        shown = " and ".join(f"{width} x {height}" for height, width in sizes[:2])
        advice = "take batch_size=1 for whole photographs"
        if where == "train_dataloader":
            advice = "give gt_size, the crop in pixels"
        raise KTDNError(f"images of {shown} pixels do not make a batch; {advice}")


def _check_hooks(run: DryRun) -> None:
    """Finds what would make hooks fail later in a run."""
    has_teacher = getattr(run.model, "teacher", None) is not None
    if has_teacher and run.of(TeacherCheckHook) and run.cfg.get("val_cfg") is None:
        run.problems.append(f"custom_hooks: {TeacherCheckHook.NO_IMAGES}")
    if run.foreign or any(line.startswith("val_evaluator") for line in run.problems):
        return  # other metrics may report more
    metrics = [*run.of(ImageMetric).values()]
    for evaluator in run.of(Evaluator).values():
        metrics += evaluator.metrics
    if not all(isinstance(one, ImageMetric) for one in metrics):
        return
    measured = [
        f"{one.prefix}/{type(one).__name__}" if one.prefix else type(one).__name__
        for one in metrics
    ]
    for where, hook in run.of(CheckpointHook).items():
        for key in hook.key_indicators if hook.save_best and measured else ():
            if key not in (*measured, "auto"):
                run.problems.append(
                    f"{where}.save_best: '{key}' is not measured, only {', '.join(measured)}"
                    f"{did_you_mean(key, measured)}"
                )


def _check_load_from(run: DryRun, warn: Warn) -> None:
    """Compares a checkpoint with the model: mmengine loads what fits, and warns about the rest.

    Raises:
        KTDNError: If it does not exist, or nothing in it would be loaded.
    """
    path, model = run.cfg.get("load_from"), run.model
    if not path or CheckpointLoader._get_checkpoint_loader(path).__name__ != "load_from_local":
        return
    if not isinstance(model, Restorer):
        if not resolve_checkpoint(path).is_file():
            raise KTDNError(f"{path}: no such checkpoint file")
        return
    checkpoint, resumes = Checkpoint.read(path), bool(run.cfg.get("resume"))
    if resumes and not set(checkpoint.content) >= RESUMABLE:
        raise KTDNError(
            f"{path}: holds weights, not a training to resume; start from it by load_from without "
            "--resume"
        )
    has_hook = bool(run.of(CheckpointLayoutHook))
    problem = ""
    try:
        if fit_model(model, checkpoint, resumes=resumes) is not None and not has_hook:
            problem = (
                f"{path}: has not the layout of {type(model).__name__}; add "
                "dict(type='CheckpointLayoutHook') to custom_hooks"
            )
    except KTDNError as error:
        if has_hook or resumes:
            raise
        problem = str(error)
    weights = checkpoint.content.get("state_dict", checkpoint.content)
    if problem and any(hook.startswith("custom_hooks") for hook in run.foreign):
        return  # one of them may change the checkpoint
    if problem and not set(weights) & set(model.state_dict()):
        raise KTDNError(problem)
    if problem:
        warn(f"load_from: {problem}; what fits is loaded, and nothing else")


def _try_step(run: DryRun) -> None:
    """Runs one of our models on a black crop to find mismatches."""
    model, loader = run.model, run.parts.get("train_dataloader")
    crop = getattr(getattr(loader, "dataset", None), "crop", None)
    if not isinstance(model, Restorer) or not isinstance(crop, int):
        return
    modules = [*model.modules()]
    if getattr(model, "teacher", None) is not None:
        modules += model.teacher.modules()
    if {maker_of(type(one)) for one in modules} - {*MAKERS, "timm"}:
        return  # other models may need a GPU, or more than one image
    with quiet(), run.part("model", run.cfg.model), torch.no_grad():
        image = torch.zeros(1, 3, crop, crop)
        model.eval().step(image, image)
