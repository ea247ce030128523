"""Builds a Runner from a config file, and runs ``ktdn mmengine``."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner

import ktdn_plugin.registry  # noqa: F401  # the scope, for configs that set no default
from ktdn_plugin import process_rank
from ktdn_plugin.allocator import keep_freed_memory
from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError, OptionsError
from ktdn_plugin.mmengine.build_errors import explaining_parts, find
from ktdn_plugin.mmengine.check import check_config, scope_of
from ktdn_plugin.mmengine.config import load_config
from ktdn_plugin.mmengine.evaluator import tolerant
from ktdn_plugin.mmengine.hooks import ResumeHook, RunLogHook
from ktdn_plugin.mmengine.restorer import Restorer, without_pretrained
from ktdn_plugin.mmengine.work_dir import archive_earlier_run, find_checkpoint
from ktdn_plugin.model_zoo.weights import resolve_checkpoint
from ktdn_plugin.training import distributed

TRAINING_KEYS = ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")
VALIDATION_KEYS = ("val_dataloader", "val_cfg", "val_evaluator")


def build_runner(
    config: str | Path,
    *,
    work_dir: str | Path | None = None,
    resume: bool | str | Path = False,
    test: str | Path | None = None,
    overrides: Sequence[str] = (),
    launcher: str = "none",
) -> Runner:
    """Builds a Runner from a config file on any machine, after checking the config.

    Unlike ``Runner.from_cfg``, it reports config errors, resumes from the newest intact
    checkpoint, keeps an earlier run of the same work directory, and can join several processes
    without a GPU.

    Args:
        config: The config file.
        work_dir: Where the run writes; by default the config's, or ``work_dirs/NAME``.
        resume: True resumes from the newest checkpoint of the work directory, if there is one; a
            path resumes from that one.
        test: A checkpoint to test; without one the Runner is for training.
        overrides: ``key.key=value`` changes to the config.
        launcher: ``none`` detects torchrun and srun; ``pytorch`` and ``slurm`` require one.

    Returns:
        The Runner; call its ``train()`` or ``test()``.

    Raises:
        KTDNError: With one line for each problem; nothing has been written then.
    """
    cfg = load_config(config, overrides)
    source = str(config)
    cfg.work_dir = str(work_dir or cfg.get("work_dir") or Path("work_dirs") / Path(source).stem)
    place = process_rank.detect_rank(launcher)
    has_gpu = torch.cuda.is_available()
    distributed.join(place, use_gpu=has_gpu, timeout=_timeout(cfg))
    if place is not None:
        cfg.launcher = "pytorch"
        if not has_gpu:
            # By default, what mmengine uses on GPUs.
            wrapper = cfg.get("model_wrapper_cfg") or {
                "type": "MMDistributedDataParallel",
                "broadcast_buffers": False,
                "find_unused_parameters": cfg.get("find_unused_parameters", False),
            }
            cfg.model_wrapper_cfg = {**wrapper, "device_ids": None}
    else:
        cfg.launcher = "none"
    if test is not None:
        with explaining_parts(source, cfg):
            _prepare_test(cfg, test)
    with distributed.fail_on_all_ranks(), explaining_parts(source, cfg):
        found = None if test is not None else _checkpoint_to_resume(cfg, resume)
    _agree(cfg, found)
    with distributed.fail_on_all_ranks(), explaining_parts(source, cfg):
        doubts = adapt_model(cfg)
        problems = check_config(cfg, training=test is None, warn=doubts.append)
        if distributed.rank() == 0:
            print_lines(*(f"warning: {source}: {line}" for line in doubts), to_stderr=True)
        if problems:
            raise OptionsError(source, problems)
    with distributed.fail_on_all_ranks(), explaining_parts(source, cfg):
        if test is None and not cfg.get("resume"):
            archive_earlier_run(Path(cfg.work_dir), _needed_files(cfg))
    if not has_gpu and test is None:
        keep_freed_memory()
    with explaining_parts(source, cfg):
        runner: Any = Runner.from_cfg(cfg)
        runner._val_evaluator = tolerant(runner._val_evaluator)
        runner._test_evaluator = tolerant(runner._test_evaluator)
    if cfg.resume:
        runner.register_hook(ResumeHook())
    if not any(isinstance(hook, RunLogHook) for hook in runner.hooks):
        runner.register_hook(RunLogHook())
    built: Runner = runner
    return built


def _timeout(cfg: Config) -> float:
    """Returns how long processes wait for each other; errors in the section are reported later."""
    node: Any = cfg
    for key in ("env_cfg", "dist_cfg", "timeout"):
        node = node.get(key) if isinstance(node, dict | Config) else None
    return node if isinstance(node, (int, float)) else distributed.TIMEOUT


def _checkpoint_to_resume(cfg: Config, resume: bool | str | Path) -> Path | None:
    if isinstance(resume, (str, Path)):
        if not Path(resume).is_file():
            raise KTDNError(f"--resume: no such checkpoint: {resume}")
        return Path(resume)
    if cfg.get("resume") and cfg.get("load_from"):
        return Path(cfg.load_from)
    # A launcher that restarts a run wants it to continue.
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) > 0
    if resume or restarted or cfg.get("resume"):
        return find_checkpoint(Path(cfg.work_dir))
    return None


def _agree(cfg: Config, found: Path | None) -> None:
    everywhere = distributed.gather(None if found is None else found.name)
    if len(set(everywhere)) > 1:
        raise KTDNError(
            f"{cfg.work_dir}: the processes found different checkpoints to resume from "
            f"({', '.join(map(str, everywhere))}); all hosts must share this folder"
        )
    # If there is none yet, training starts from load_from.
    cfg.resume = found is not None
    if found is not None:
        cfg.load_from = str(found)


def _prepare_test(cfg: Config, checkpoint: str | Path) -> None:
    checkpoint = resolve_checkpoint(checkpoint)
    if not checkpoint.is_file():
        raise KTDNError(f"{checkpoint}: no such checkpoint file")
    for key in (*TRAINING_KEYS, *VALIDATION_KEYS):
        cfg[key] = None
    cfg.load_from, cfg.resume = str(checkpoint), False
    # A test needs only the student; its teacher may not be available.
    for key in ("teacher", "teacher_checkpoint", "transfer_loss"):
        if _our_model(cfg) and key in cfg.model:
            cfg.model[key] = None


def _our_model(cfg: Config) -> type[Restorer] | None:
    """Returns the class of the config's model if it is one of ours."""
    model = cfg.get("model")
    with scope_of(cfg):
        item = find(model, MODELS) if isinstance(model, dict) else None
    return item if isinstance(item, type) and issubclass(item, Restorer) else None


def adapt_model(cfg: Config) -> list[str]:
    """Changes, in place, settings that one of our models would use needlessly or wrongly.

    Returns:
        One line for each change that matters.
    """
    item = _our_model(cfg)
    if item is None:
        return []
    network = cfg.model.get(item.NETWORK)
    if cfg.get("load_from") and isinstance(network, dict):
        cfg.model[item.NETWORK] = without_pretrained(network)
    if not cfg.get("sync_bn") or cfg.launcher == "none":
        return []
    cfg.sync_bn, cfg.model.sync_bn = None, True
    return [
        "sync_bn: torch's conversion drops the activations that timm's batch norms carry; "
        "model.sync_bn = True is taken instead"
    ]


def _needed_files(cfg: Config) -> dict[str, Any]:
    model = cfg.get("model")
    teacher = model.get("teacher_checkpoint") if isinstance(model, dict) else None
    return {"load_from": cfg.get("load_from"), "model.teacher_checkpoint": teacher}


def train_pipeline(
    config: Path,
    *,
    resume: Sequence[str] | None = None,
    cfg_options: Sequence[str] = (),
    **flags: Any,
) -> None:
    """``ktdn mmengine train``: trains as a config says.

    Args:
        config: The config file.
        resume: A checkpoint to resume from; empty for the work directory's newest whole one.
        cfg_options: ``key.key=value`` changes to the config.
        flags: Further arguments of :func:`build_runner`.

    Raises:
        KTDNError: If config, data or checkpoints are wrong, or a file turns out to be broken.
    """
    start: bool | str = resume[0] if resume else resume is not None
    with _leaving():
        runner = build_runner(config, resume=start, overrides=cfg_options, **flags)
        with explaining_parts(str(config), runner.cfg):
            runner.train()


def test_pipeline(
    config: Path, checkpoint: Path, *, cfg_options: Sequence[str], **flags: Any
) -> None:
    """``ktdn mmengine test``: measures a checkpoint, and saves its results.

    Args:
        config: The config file.
        checkpoint: The checkpoint.
        cfg_options: ``key.key=value`` changes to the config.
        flags: Further arguments of :func:`build_runner`.

    Raises:
        KTDNError: As for :func:`train_pipeline`.
    """
    with _leaving():
        runner = build_runner(config, test=checkpoint, overrides=cfg_options, **flags)
        with explaining_parts(str(config), runner.cfg):
            runner.test()


@contextmanager
def _leaving() -> Iterator[None]:
    """Leaves the process group at the end, and reports if another process died."""
    failed = True
    try:
        with distributed.peer_failures_as_errors("--resume"), _explaining_unused():
            yield
        failed = False
    finally:
        # A runner is in a reference cycle that holds what communicates with the other processes:
        # destroyed at interpreter exit, that sometimes aborts a process that has finished its work.
        if distributed.is_distributed():
            gc.collect()
        distributed.leave(failed)


@contextmanager
def _explaining_unused() -> Iterator[None]:
    """Explains torch's error about weights without gradient in one of several processes."""
    try:
        yield
    except RuntimeError as error:
        if "Expected to have finished reduction" not in str(error):
            raise
        raise KTDNError(
            "some of the model's weights take no part in its losses, which several processes have "
            "to know: set find_unused_parameters = True in the config, or freeze these weights"
        ) from error
