"""Checks values that mmengine would take, or stumble over when a run has begun."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine import registry as root
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from ktdn_plugin.errors import did_you_mean
from ktdn_plugin.mmengine.hooks import TeacherCheckHook
from ktdn_plugin.mmengine.loops import SeededTrainLoop
from ktdn_plugin.mmengine.metrics import ImageMetric
from ktdn_plugin.mmengine.restorer import Restorer
from ktdn_plugin.mmengine.samplers import SeededSampler
from ktdn_plugin.mmengine.shapes import DATALOADERS, check_environment, check_top, is_whole
from ktdn_plugin.mmengine.signatures import check_arguments, find

PARAMWISE = (
    "custom_keys", "bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "flat_decay_mult",
    "dwconv_decay_mult", "dcn_offset_lr_mult", "bypass_duplicate",
)  # fmt: skip
NOT_TORCHS = {"num_batch_per_epoch", "disable_subprocess_warning"}


def check_values(cfg: Config) -> Iterator[str]:
    """Finds what mmengine would take, and what would then go wrong or have no effect.

    Args:
        cfg: A config whose sections are what they must be, and name what there is.

    Yields:
        One line for each problem.
    """
    yield from check_top(cfg)
    yield from check_environment(cfg)
    for key in DATALOADERS:
        if cfg.get(key) is not None:
            yield from _check_loader(cfg, key)
    yield from _check_loop(cfg)
    yield from _check_optimizer(cfg)
    yield from _check_checkpoints(cfg)
    has_teacher_check = any(
        find(hook["type"], root.HOOKS) is TeacherCheckHook for hook in cfg.get("custom_hooks") or ()
    )
    if has_teacher_check and cfg.get("train_cfg") is not None and cfg.get("val_cfg") is None:
        yield (
            "custom_hooks: TeacherCheckHook: there is no val_dataloader with clear images to "
            "measure the teacher on; name one, or leave the hook out"
        )
    item = find(cfg.model["type"], root.MODELS)
    if cfg.get("sync_bn") and inspect.isclass(item) and issubclass(item, Restorer):
        yield (
            "sync_bn: torch's conversion drops the activations that timm's batch norms carry; take "
            "model.sync_bn = True instead"
        )


def _check_loader(cfg: Config, key: str) -> Iterator[str]:
    loader = cfg[key]
    options = {name: value for name, value in loader.items() if name not in NOT_TORCHS}
    problems = check_arguments(options, DataLoader, key)
    collate = loader.get("collate_fn")
    if not isinstance(collate, (Mapping, Callable, type(None))):  # type: ignore[arg-type]
        yield f"{key}.collate_fn: {collate!r} must be a dict(type=...)"
    built_by_mmengine = ("dataset", "sampler", "batch_sampler", "collate_fn", "worker_init_fn")
    rest = {name: value for name, value in options.items() if name not in built_by_mmengine}
    for name, least in (("batch_size", 1), ("num_workers", 0)):
        if name in loader and not is_whole(loader[name], least):
            problems.append(
                f"{key}.{name}: {loader[name]!r} must be a whole number, {least} or more"
            )
    yield from problems
    if not problems:
        nothing: Any = [0]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the run's own will say it again
                DataLoader(nothing, **rest)
        except (TypeError, ValueError) as error:
            yield f"{key}: {error}"
    sampler = find(loader["sampler"]["type"], root.DATA_SAMPLERS)
    if key != "train_dataloader" and _is_endless(sampler):
        yield (
            f"{key}.sampler: {sampler.__name__} never comes to an end; take "
            "dict(type='DefaultSampler', shuffle=False)"
        )


def _is_endless(sampler: Any) -> bool:
    return inspect.isclass(sampler) and issubclass(sampler, (SeededSampler, InfiniteSampler))


def _check_loop(cfg: Config) -> Iterator[str]:
    for key in ("val_cfg", "test_cfg"):
        half = (cfg.get(key) or {}).get("fp16", False)
        if not isinstance(half, bool):
            yield f"{key}.fp16: {half!r} must be True or False"
    loop = cfg.get("train_cfg")
    if loop is None:
        return
    if "type" in loop:
        item = find(loop["type"], root.LOOPS)
    else:
        item = EpochBasedTrainLoop if loop.get("by_epoch") else IterBasedTrainLoop
        rest = {key: value for key, value in loop.items() if key != "by_epoch"}
        yield from check_arguments(rest, item, "train_cfg")
    for key in ("max_iters", "max_epochs", "val_interval"):
        if key in loop and not is_whole(loop[key], 1):
            yield f"train_cfg.{key}: {loop[key]!r} must be a whole number, 1 or more"
    share = loop.get("skip_at_most", 0)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
        yield f"train_cfg.skip_at_most: {share!r} must be a share, 0 to 1"
    sampler = find(cfg.train_dataloader["sampler"]["type"], root.DATA_SAMPLERS)
    if not inspect.isclass(item) or not inspect.isclass(sampler):
        return
    if issubclass(item, EpochBasedTrainLoop) and _is_endless(sampler):
        yield (
            f"train_dataloader.sampler: {sampler.__name__} never comes to an end, and so would the "
            f"first epoch of {item.__name__}; take train_cfg = dict(type='SeededTrainLoop', "
            "max_iters=...), or the sampler dict(type='DefaultSampler', shuffle=True)"
        )
    if issubclass(item, SeededTrainLoop) and not issubclass(sampler, SeededSampler):
        yield (
            "train_dataloader.sampler: SeededTrainLoop needs dict(type='SeededSampler'), found "
            f"{sampler.__name__}; take IterBasedTrainLoop for others"
        )


def _check_optimizer(cfg: Config) -> Iterator[str]:
    wrapper = cfg.get("optim_wrapper")
    if wrapper is None or "constructor" in wrapper:
        return
    if "type" not in wrapper:
        yield from check_arguments(wrapper, OptimWrapper, "optim_wrapper")
    if wrapper.get("optimizer") is None:
        yield "optim_wrapper.optimizer: missing"
        return
    rate = wrapper["optimizer"].get("lr", 0)
    if isinstance(rate, str):
        yield (
            f"optim_wrapper.optimizer.lr: '{rate}' must be a number; YAML takes 1e-4 for a text, "
            "and 1.0e-4 for a number"
        )
    for key in wrapper.get("paramwise_cfg") or ():
        if key not in PARAMWISE:
            yield f"optim_wrapper.paramwise_cfg.{key}: unknown key{did_you_mean(key, PARAMWISE)}"


def _check_checkpoints(cfg: Config) -> Iterator[str]:
    where = "default_hooks.checkpoint"
    options = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    interval = options.get("interval", -1)
    if not is_whole(interval, 1) and interval != -1:
        yield f"{where}.interval: {interval!r} must be a whole number, 1 or more, or -1 for never"
    best = options.get("save_best") or []
    keys = [best] if isinstance(best, str) else best
    if isinstance(keys, (list, tuple)) and keys and best != "auto":
        measured = _measured(cfg)
        for key in keys:
            if measured and key not in measured:
                yield (
                    f"{where}.save_best: '{key}' is not measured, only {', '.join(measured)}"
                    f"{did_you_mean(key, measured)}"
                )
        unknown = [key for key in keys if not _has_rule(key)]
        if unknown and not options.get("rule"):
            yield (
                f"{where}.rule: missing: whether a greater or a lesser {', '.join(unknown)} is "
                "better; 'greater' for PSNR and SSIM"
            )
    if options.get("max_keep_ckpts") == 1:
        yield (
            f"{where}.max_keep_ckpts: 1 deletes the only checkpoint before the next one is "
            "written; take 2 or more"
        )


def _measured(cfg: Config) -> list[str]:
    """Lists the figures of a validation; nothing where others than ours are among them."""
    evaluator = cfg.get("val_evaluator") or []
    names = []
    for metric in [evaluator] if isinstance(evaluator, Mapping) else evaluator:
        item = find(metric.get("type"), root.METRICS)
        if not (inspect.isclass(item) and issubclass(item, ImageMetric)):
            return []
        prefix = metric.get("prefix")
        if not isinstance(prefix, (str, type(None))):
            return []
        names.append(f"{prefix}/{item.__name__}" if prefix else item.__name__)
    return names


def _has_rule(key: str) -> bool:
    known = (*CheckpointHook._default_greater_keys, *CheckpointHook._default_less_keys)
    return any(word in key for word in known)
