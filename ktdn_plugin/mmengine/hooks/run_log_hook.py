"""Writes a run's description and logs into its work directory, as BasicSR's side does."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from ktdn_plugin.mmengine.hooks.teacher_check_hook import TeacherCheckHook
from ktdn_plugin.mmengine.loops import SeededTrainLoop
from ktdn_plugin.mmengine.provenance import describe_sets
from ktdn_plugin.mmengine.registry import HOOKS
from ktdn_plugin.training.run_log import RunLog

INTERVAL = 10
"""mmengine's default log interval, used if no ``LoggerHook`` sets another."""


@HOOKS.register_module()
class RunLogHook(Hook):
    """Writes ``run.json`` and ``metrics.jsonl``, see :mod:`ktdn_plugin.training.run_log`.

    Each line that ``LoggerHook`` logs in training gets a line here, with the same figures.
    ``ktdn mmengine`` and ``build_runner`` add this hook automatically.
    """

    # After losses and times are known, and before the schedule steps.
    priority = "BELOW_NORMAL"

    def __init__(self) -> None:
        self._tested = 0
        self._trains = False

    def before_run(self, runner: Runner) -> None:
        """Finds the work directory."""
        self._log = RunLog(runner.work_dir, writes=runner.rank == 0)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Remembers a checkpoint's iteration, for testing it."""
        meta = checkpoint.get("meta")
        iteration = meta.get("iter") if isinstance(meta, dict) else None
        self._tested = iteration if isinstance(iteration, int) else 0

    def before_train(self, runner: Runner) -> None:
        """Describes the run, and drops lines that a resumed run will write again."""
        self._trains = True
        # Other loops record no validations, and repeat none.
        is_ours = isinstance(runner.train_loop, SeededTrainLoop)
        validated = runner.message_hub.get_info("validated", 0 if is_ours else runner.iter)
        dropped = self._log.start(runner.iter, validated)
        if dropped:
            runner.logger.info(dropped)
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        sets = {kind: self._sets(runner, kind) for kind in ("train", "val")}
        self._describe(runner, getattr(model, "STAGE", ""), sets)
        psnr = next((one.psnr for one in runner.hooks if isinstance(one, TeacherCheckHook)), None)
        if psnr is not None:
            self._add(runner, "teacher", "val", 0, {"psnr": psnr})

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Adds a line."""
        hooks = (hook for hook in runner.hooks if isinstance(hook, LoggerHook))
        interval = next((hook.interval for hook in hooks), INTERVAL)
        if not self.every_n_inner_iters(batch_idx, interval):
            return
        values, _ = runner.log_processor.get_log_after_iter(runner, batch_idx, "train")
        named = {f"l_{name[5:]}": value for name, value in values.items() if name[:5] == "loss_"}
        if "grad_norm" in values:
            named["grad_norm"] = values["grad_norm"]
        rates: Any = runner.optim_wrapper.get_lr()
        loader: Any = runner.train_dataloader
        self._log.training(
            runner.iter + 1,
            rates["lr"] if "lr" in rates else [rate for some in rates.values() for rate in some],
            {name: float(value) for name, value in named.items()},
            (float(values.get("time", 0)), float(values.get("data_time", 0))),
            (getattr(loader, "batch_size", None) or 1) * get_world_size(),
        )

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Adds the figures of a validation during training."""
        if self._trains:
            self._add(runner, "val", "val", runner.iter, metrics or {})

    def before_test(self, runner: Runner) -> None:
        """Records what is tested, alongside the records of training in the same folder."""
        sets = self._sets(runner, "test")
        if not self._log.describe_test(sets):
            self._describe(runner, "test", {"test": sets})

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Adds a test's figures."""
        self._add(runner, "test", "test", self._tested, metrics or {})

    def _add(
        self, runner: Runner, kind: str, name: str, iteration: int, metrics: Mapping[str, Any]
    ) -> None:
        # Third-party metrics may return anything; the figure of one that failed is None.
        figures = {
            metric: None if value is None else float(value)
            for metric, value in metrics.items()
            if value is None or isinstance(value, (Real, Tensor))
        }
        for one in describe_sets(getattr(runner, f"_{name}_loop"), name):
            identity = {key: one[key] for key in ("split", "fingerprint", "images")}
            self._log.figures(kind, iteration, name, identity, figures)

    def _describe(self, runner: Runner, stage: str, sets: dict[str, Any]) -> None:
        resumes = runner._resume and runner._load_from
        self._log.describe(
            # mmengine's own run name contains the time.
            name=Path(runner.work_dir).name,
            toolbox=f"mmengine {mmengine.__version__}",
            stage=stage,
            options=runner.cfg.to_dict(),
            data=sets,
            seed=runner.seed,
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            processes=get_world_size(),
            resumed_from=(str(runner._load_from), runner.iter) if resumes else None,
        )

    def _sets(self, runner: Runner, name: str) -> list[dict[str, Any]]:
        loader = runner.cfg.get(f"{name}_dataloader") or {}
        options = loader.get("dataset") if isinstance(loader, Mapping) else None
        return [
            {**one, "options": options}
            for one in describe_sets(getattr(runner, f"_{name}_loop"), name)
        ]
