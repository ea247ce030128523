"""Finds settings of a config that have no effect, or a bad one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import IterBasedTrainLoop

from ktdn_plugin.errors import did_you_mean
from ktdn_plugin.mmengine.config import CONFIG_KEYS
from ktdn_plugin.mmengine.dry_run import DEFAULT_HOOKS, DryRun
from ktdn_plugin.mmengine.restorer import Restorer

KEYS_OF_ENVIRONMENT = ("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit")
PARAMWISE = (
    "custom_keys", "bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "flat_decay_mult",
    "dwconv_decay_mult", "dcn_offset_lr_mult", "bypass_duplicate",
)  # fmt: skip


def find_doubts(run: DryRun) -> Iterator[str]:
    """Finds what mmengine would run, but is probably not intended.

    Args:
        run: The config's parts.

    Yields:
        One line for each such setting.
    """
    cfg = run.cfg
    yield from _misspelt(cfg, CONFIG_KEYS, "", 0.85)
    yield from _misspelt(cfg.get("env_cfg"), KEYS_OF_ENVIRONMENT, "env_cfg.", 0.6)
    hooks = cfg.get("default_hooks")
    if isinstance(hooks, Mapping):
        # Anything else under a misspelt name is already reported as a problem.
        built = {name: hook for name, hook in hooks.items() if isinstance(hook, Mapping)}
        yield from _misspelt(built, DEFAULT_HOOKS, "default_hooks.", 0.85)
    yield from _unmatched_parameters(run)
    for where, hook in run.of(CheckpointHook).items():
        if hook.max_keep_ckpts == 1:
            yield (
                f"{where}.max_keep_ckpts: 1 deletes the only checkpoint before the next one is "
                "written; take 2 or more"
            )
    if not run.of(IterBasedTrainLoop):
        return
    counting = {where: [hook] for where, hook in run.of(CheckpointHook).items()}
    counting |= {where: built for where, built in run.of(list).items()}
    for where, parts in counting.items():
        if any(getattr(one, "by_epoch", False) for one in parts):
            yield (
                f"{where}.by_epoch: counts epochs, of which a training by iterations has one; "
                "write by_epoch=False"
            )


def _misspelt(section: Any, known: Iterable[str], where: str, similar: float) -> Iterator[str]:
    for key in map(str, section if isinstance(section, (Mapping, Config)) else ()):
        near = difflib.get_close_matches(key, known, n=1, cutoff=similar)
        # A second of the same kind, such as val_dataloader2, is not a mistake.
        if key not in known and near and not key.startswith(near[0]):
            yield f"{where}{key}: nothing asks for it; did you mean '{near[0]}'?"


def _unmatched_parameters(run: DryRun) -> Iterator[str]:
    wrapper = run.cfg.get("optim_wrapper")
    paramwise = wrapper.get("paramwise_cfg") if isinstance(wrapper, Mapping) else None
    if not isinstance(paramwise, Mapping) or "constructor" in wrapper:
        return
    for key in paramwise:
        if key not in PARAMWISE:
            hint = did_you_mean(key, PARAMWISE)
            yield f"optim_wrapper.paramwise_cfg.{key}: unknown key, of no effect{hint}"
    if not isinstance(run.model, Restorer):
        return
    parameters = [name for name, _ in run.model.named_parameters()]
    for key in paramwise.get("custom_keys") or ():
        if not any(str(key) in name for name in parameters):
            parts = {part for name in parameters for part in name.split(".")}
            yield (
                f"optim_wrapper.paramwise_cfg.custom_keys: no parameter has '{key}' in its name"
                f"{did_you_mean(key, parts)}"
            )
