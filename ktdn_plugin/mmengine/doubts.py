"""Finds what a config says without effect, or with a bad one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from torch import nn

from ktdn_plugin.errors import did_you_mean
from ktdn_plugin.mmengine.dry_run import DryRun

SIMILAR = 0.85  # how alike a variable of a config is to a key to be called a mistake
KEYS_OF_CONFIGS = (
    "model_wrapper_cfg", "sync_bn", "compile", "activation_checkpointing",
    "efficient_conv_bn_eval", "custom_imports", "find_unused_parameters",
)  # fmt: skip
"""Keys that a Runner looks for in its config, beside its own arguments."""
KEYS_OF_ENVIRONMENT = ("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit")
PARAMWISE = (
    "custom_keys", "bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "flat_decay_mult",
    "dwconv_decay_mult", "dcn_offset_lr_mult", "bypass_duplicate",
)  # fmt: skip


def find_doubts(cfg: Config, run: DryRun, model: nn.Module | None) -> Iterator[str]:
    """Finds what mmengine runs, and what is probably not meant.

    Args:
        cfg: The config.
        run: Its parts.
        model: The model that is to be trained, where it could be built.

    Yields:
        One line for each.
    """
    known = [key for key in inspect.signature(Runner.__init__).parameters if key != "self"]
    yield from _misspelt(cfg, [*known, *KEYS_OF_CONFIGS], "", SIMILAR)
    environment = cfg.get("env_cfg")
    if isinstance(environment, Mapping):
        yield from _misspelt(environment, KEYS_OF_ENVIRONMENT, "env_cfg.", 0.6)
    for hook in run.hooks:
        if isinstance(hook, CheckpointHook) and hook.max_keep_ckpts == 1:
            yield (
                "default_hooks.checkpoint.max_keep_ckpts: 1 deletes the only checkpoint before the "
                "next one is written; take 2 or more"
            )
    wrapper = cfg.get("optim_wrapper")
    paramwise = wrapper.get("paramwise_cfg") if isinstance(wrapper, Mapping) else None
    if not isinstance(paramwise, Mapping) or "constructor" in wrapper:
        return
    for key in paramwise:
        if key not in PARAMWISE:
            hint = did_you_mean(key, PARAMWISE)
            yield f"optim_wrapper.paramwise_cfg.{key}: unknown key, of no effect{hint}"
    parameters = [name for name, _ in model.named_parameters()] if model is not None else []
    for key in (paramwise.get("custom_keys") or ()) if parameters else ():
        if not any(str(key) in name for name in parameters):
            parts = {part for name in parameters for part in name.split(".")}
            yield (
                f"optim_wrapper.paramwise_cfg.custom_keys: no parameter has '{key}' in its name"
                f"{did_you_mean(key, parts)}"
            )


def _misspelt(section: Mapping[str, Any], known: Any, where: str, similar: float) -> Iterator[str]:
    for key in map(str, section):
        near = difflib.get_close_matches(key, known, n=1, cutoff=similar)
        # A second one of a kind, such as val_dataloader2, is no mistake.
        if key not in known and near and not key.startswith(near[0]):
            yield f"{where}{key}: nothing asks for it; did you mean '{near[0]}'?"
