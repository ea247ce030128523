"""Checks a config before anything starts: one line for each problem."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine import registry as root
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner

from ktdn_plugin.checkpoints import read_checkpoint
from ktdn_plugin.data.first_look import check_depth, check_sides, looked_at
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.mmengine.datasets import ClearImageDataset
from ktdn_plugin.mmengine.hooks.checkpoint_layout_hook import CheckpointLayoutHook, fit_weights
from ktdn_plugin.mmengine.metrics import ImageMetric
from ktdn_plugin.mmengine.restorer import Restorer
from ktdn_plugin.mmengine.shapes import DATALOADERS, EVALUATORS, check_scope, check_shapes
from ktdn_plugin.mmengine.signatures import check_section, check_typed, find
from ktdn_plugin.mmengine.trial import check_parts, check_training
from ktdn_plugin.mmengine.values import check_values

SECTIONS: dict[str, Registry] = {
    "model": root.MODELS,
    "data_preprocessor": root.MODELS,
    "train_dataloader": root.DATASETS,
    "val_dataloader": root.DATASETS,
    "test_dataloader": root.DATASETS,
    "train_cfg": root.LOOPS,
    "val_cfg": root.LOOPS,
    "test_cfg": root.LOOPS,
    "optim_wrapper": root.OPTIM_WRAPPERS,
    "param_scheduler": root.PARAM_SCHEDULERS,
    "val_evaluator": root.METRICS,
    "test_evaluator": root.METRICS,
    "default_hooks": root.HOOKS,
    "custom_hooks": root.HOOKS,
    "visualizer": root.VISUALIZERS,
    "log_processor": root.LOG_PROCESSORS,
}
TRAINING = ("train_dataloader", "train_cfg", "optim_wrapper")
VALIDATION = ("val_dataloader", "val_cfg", "val_evaluator")
TESTING = ("test_dataloader", "test_cfg", "test_evaluator")
RESUMABLE = {"meta", "optimizer", "message_hub"}


def check_config(cfg: Config, *, training: bool) -> list[str]:
    """Checks a config, and the files that it names.

    Args:
        cfg: The config.
        training: Whether it is to be trained by; tested if not.

    Returns:
        One line for each problem, without the file's name.
    """
    problems = check_form(cfg, training=training)
    if not problems:
        with _scope_of(cfg):
            problems = _check_files(cfg, training)
    return problems


def check_form(cfg: Config, *, training: bool) -> list[str]:
    """Checks what can be known of a config without looking at any file that it names.

    Args:
        cfg: The config.
        training: Whether it is to be trained by; tested if not.

    Returns:
        One line for each problem, without the file's name.
    """
    with _scope_of(cfg):
        problems = _check_keys(cfg, training) + check_shapes(cfg) + check_scope(cfg)
        # Each look takes for granted what the one before it has found to be right.
        if not problems:
            problems = _check_names(cfg)
        if not problems:
            problems = list(check_values(cfg))
            known = tuple(problem.split(": ")[0] for problem in problems)
            for problem in check_parts(cfg):
                where = problem.split(": ")[0]
                if not any(one.startswith(where) for one in known):
                    problems.append(problem)
    return problems


@contextmanager
def _scope_of(cfg: Config) -> Iterator[None]:
    scope = cfg.get("default_scope")
    with DefaultScope.overwrite_default_scope(scope if isinstance(scope, str) else "mmengine"):
        yield


def _check_keys(cfg: Config, training: bool) -> list[str]:
    known = [key for key in inspect.signature(Runner.__init__).parameters if key != "self"]
    problems = []
    if cfg.get("model") is None:
        problems.append("model: missing")
    elif not isinstance(cfg.model, Mapping):
        problems.append("model: must be a dict(type=...)")
    else:
        problems += check_typed(cfg.model, "model")
    groups = (TRAINING, VALIDATION) if training else (TESTING,)
    for group in groups:
        given = [key for key in group if cfg.get(key) is not None]
        needed = group is not VALIDATION
        if len(given) not in (0, len(group)) or (needed and not given):
            for key in group:
                if key not in given:
                    hint = did_you_mean(key, [one for one in cfg if one not in known])
                    problems.append(f"{key}: missing{hint}")
    for key in DATALOADERS:
        loader = cfg.get(key)
        if isinstance(loader, Mapping):
            needed_keys = [one for one in ("dataset", "sampler") if loader.get(one) is None]
            problems += [f"{key}.{one}: missing" for one in needed_keys]
    return problems


def _check_names(cfg: Config) -> list[str]:
    problems = []
    for key, registry in SECTIONS.items():
        node = cfg.get(key)
        # A whole evaluator, in place of its metrics.
        whole = key in EVALUATORS and isinstance(node, Mapping) and "metrics" in node
        problems += check_section(node, root.EVALUATOR if whole else registry, key)
    return problems


def _check_files(cfg: Config, training: bool) -> list[str]:
    problems: list[str] = []
    crop = None
    # A training does not look at what it may be tested on, which may be elsewhere.
    for key in DATALOADERS[:2] if training else DATALOADERS[2:]:
        if cfg.get(key) is not None:
            crop = _check_dataset(cfg, key, problems) or crop
    checkpoint = _read_load_from(cfg, problems)
    if not problems:
        model = _check_model(cfg, crop if training else None, problems)
        if model is not None and checkpoint is not None:
            _check_checkpoint(cfg, model, checkpoint, problems)
        if model is not None and training and not problems:
            problems += check_training(cfg, model)
    return problems


def _check_dataset(cfg: Config, where: str, problems: list[str]) -> int | None:
    """Looks at the images of one of our datasets; gives the size of its crops."""
    loader = cfg[where]
    item = find(loader["dataset"]["type"], root.DATASETS)
    if not (inspect.isclass(item) and issubclass(item, ClearImageDataset)):
        return None
    options = {key: value for key, value in loader["dataset"].items() if key != "type"}
    try:
        dataset = item(**options)
        check_depth(dataset.dataset)
        skips = dataset.on_error == "skip"
        check_sides(dataset.images.sides, dataset.crop, skips=skips)
        if dataset.crop is None and loader.get("batch_size", 1) != 1:
            _check_batch(dataset, where, problems)
        if where != "train_dataloader":
            _check_measurable(cfg, dataset, where, problems)
        return dataset.crop
    except KTDNError as error:
        problems.append(f"{where}.dataset: {error}")
    except (TypeError, ValueError) as error:
        problems.append(f"{where}.dataset: {error} ({type(error).__name__})")
    return None


def _check_batch(dataset: ClearImageDataset, where: str, problems: list[str]) -> None:
    """Whole images can be in one batch if they are of one size."""
    if where == "train_dataloader":
        problems.append(f"{where}.dataset.gt_size: missing: the crop in pixels")
        return
    images = dataset.images.clear
    sizes = {images.size(number) for number in range(looked_at(images))}
    if len(sizes) > 1:
        (height, width), (other_height, other_width), *_ = sorted(sizes)
        problems.append(
            f"{where}.batch_size: images of {width} x {height} and {other_width} x {other_height} "
            "pixels do not make a batch; take 1 for whole photographs"
        )


def _check_measurable(
    cfg: Config, dataset: ClearImageDataset, where: str, problems: list[str]
) -> None:
    """No image may be too small for a figure."""
    key = where.replace("dataloader", "evaluator")
    evaluator = cfg.get(key) or []
    images = dataset.images.clear
    side, number = min((min(images.size(n)), n) for n in range(looked_at(images)))
    for section in [evaluator] if isinstance(evaluator, Mapping) else evaluator:
        item = find(section.get("type"), root.METRICS)
        if not (inspect.isclass(item) and issubclass(item, ImageMetric)):
            continue
        border = section.get("crop_border", 0)
        if side - 2 * border < item.LEAST:
            problems.append(
                f"{key}: {item.__name__}: {images.describe(number)} is too small to be measured "
                f"with crop_border={border}: {item.LEAST} pixels must be left of its shorter side"
            )


def _read_load_from(cfg: Config, problems: list[str]) -> dict[str, Any] | None:
    path = cfg.get("load_from")
    if not path or "://" in str(path):
        return None
    try:
        content: dict[str, Any] = read_checkpoint(path)
        if cfg.get("resume") and not set(content) >= RESUMABLE:
            raise KTDNError(
                f"{path}: holds weights, not a training to resume; start from it by load_from "
                "without --resume"
            )
        return content
    except KTDNError as error:
        problems.append(f"load_from: {error}")
    except TypeError:
        problems.append(f"load_from: {path!r} must be the path of a checkpoint")
    return None


def _check_model(cfg: Config, crop: int | None, problems: list[str]) -> Restorer | None:
    """Builds one of our models, and in training tries it: what does not fit shows here."""
    item = find(cfg.model["type"], root.MODELS)
    if not (inspect.isclass(item) and issubclass(item, Restorer)):
        return None
    section = _without_downloads(cfg.model)
    # It would go to this process' GPU, and the teacher beside it would not.
    section["sync_bn"] = False
    try:
        model: Restorer = root.MODELS.build(section)
        if crop is not None:
            model.eval()
            with torch.no_grad():
                image = torch.zeros(1, 3, crop, crop)
                model.step(image, image)
        return model.train()
    except KTDNError as error:
        problems.append(f"model: {error}")
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        first = (str(error).splitlines() or [""])[0]
        problems.append(f"model: cannot be used: {first} ({type(error).__name__})")
    return None


def _check_checkpoint(
    cfg: Config, model: Restorer, content: dict[str, Any], problems: list[str]
) -> None:
    """mmengine would load what fits and only warn of the rest."""
    try:
        weights = fit_weights(model, content, cfg.load_from, resumes=bool(cfg.get("resume")))
    except KTDNError as error:
        problems.append(f"load_from: {error}")
        return
    hooks = [find(hook["type"], root.HOOKS) for hook in cfg.get("custom_hooks") or ()]
    if weights is not None and CheckpointLayoutHook not in hooks:
        problems.append(
            f"load_from: {cfg.load_from} has not the layout of {type(model).__name__}; add "
            "dict(type='CheckpointLayoutHook') to custom_hooks"
        )


def _without_downloads(node: Any) -> Any:
    """Leaves out that pretrained weights are fetched, for a look."""
    if not isinstance(node, Mapping):
        return node
    return {
        key: False if key == "pretrained" and value is True else _without_downloads(value)
        for key, value in node.items()
    }
