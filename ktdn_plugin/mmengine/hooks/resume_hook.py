"""Reports changes to a resumed training's config, and follows its schedule."""

from __future__ import annotations

import copy
import heapq
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import _ParamScheduler
from mmengine.runner import Runner

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.mmengine.registry import HOOKS
from ktdn_plugin.training.resuming import compare_rates, schedule_changes, schedule_plan


@HOOKS.register_module()
class ResumeHook(Hook):
    """Continues with the config's schedule if it differs from the checkpoint's.

    mmengine silently keeps the checkpoint's: a cosine that was 3 iterations long would stay at its
    end. The schedules' initial learning rates are the checkpoint's, as on BasicSR's side.
    ``ktdn mmengine train --resume`` and ``build_runner`` add this hook automatically.
    """

    priority = "VERY_HIGH"

    def before_run(self, runner: Runner) -> None:
        """Keeps the config's schedule, before a checkpoint is loaded over it."""
        schedules: Any = runner.param_schedulers
        self._config = copy.deepcopy(runner.cfg.get("param_scheduler"))
        self._states = [copy.deepcopy(one.state_dict()) for one in _listed(schedules)]
        self._saved: list[dict[str, Any]] = []

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint with another optimizer or kind of schedule.

        Raises:
            KTDNError: If it has one.
        """
        if not runner._resume:
            return
        saved = checkpoint.get("param_schedulers") or []
        groups = (checkpoint.get("optimizer") or {}).get("param_groups") or []
        optimizer = getattr(runner.optim_wrapper, "optimizer", None)
        if optimizer is None or isinstance(saved, Mapping):  # several optimizers
            return
        self._saved = [dict(one) for one in saved]
        own = [set(group) for group in optimizer.param_groups]
        plans = [schedule_plan(state).keys() for state in self._states]
        missing = set().union(*own) - set().union(*map(set, groups))
        reason = ""
        if missing or len(own) != len(groups):
            reason = ", ".join(sorted(missing)) or "optim_wrapper.paramwise_cfg"
        elif plans != [schedule_plan(state).keys() for state in self._saved]:
            reason = "param_scheduler"
        if reason:
            raise KTDNError(
                f"{runner._load_from}: the state of a run with a different optimizer or scheduler "
                f"({reason}); change them back, or start from its weights by load_from without "
                "--resume"
            )

    def before_train(self, runner: Runner) -> None:
        """Logs what has changed, once everything is loaded."""
        warn = runner.logger.warning
        changed = False
        for state, saved in zip(self._states, self._saved, strict=False):
            for key, change in schedule_changes(schedule_plan(state), saved):
                warn(f"Resuming with a different param_scheduler.{key}: {change}")
                changed = True
        rates, before = (
            [one["base_values"] for one in states] for states in (self._states, self._saved)
        )
        if before:
            compare_rates(rates, before, warn)
        if changed:
            self._follow(runner)

    def _follow(self, runner: Runner) -> None:
        """Advances the config's schedules step by step to where the checkpoint's were."""
        wrapper: Any = runner.optim_wrapper
        for group in wrapper.param_groups:
            for key in [key for key in group if f"initial_{key}" in group]:
                group[key] = group[f"initial_{key}"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about stepping before the optimizer
            schedules: Any = runner.build_param_scheduler(copy.deepcopy(self._config))
            length = len(runner.train_dataloader)
            steps = [
                [(step * (length if one.by_epoch else 1), number) for step in range(1, done + 1)]
                for number, (one, done) in enumerate(
                    zip(schedules, (saved["_global_step"] for saved in self._saved), strict=True)
                )
            ]
            for _, number in heapq.merge(*steps):
                schedules[number].step()
        runner.param_schedulers = schedules


def _listed(schedules: Any) -> Iterable[_ParamScheduler]:
    return schedules if isinstance(schedules, list) else []
