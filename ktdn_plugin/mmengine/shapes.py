"""Checks the outer form of a config: its keys, its scope, and what sections are made of."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from mmengine import registry as root
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing

from ktdn_plugin.errors import did_you_mean
from ktdn_plugin.mmengine.registry import SCOPE
from ktdn_plugin.mmengine.signatures import check_typed, find

DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
EVALUATORS = ("val_evaluator", "test_evaluator")
LOOPS = ("train_cfg", "val_cfg", "test_cfg")
SECTIONS = (
    *LOOPS, "optim_wrapper", "default_hooks", "visualizer", "log_processor", "env_cfg",
    "randomness",
)  # fmt: skip
DEFAULT_HOOKS = (
    "runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint",
)  # fmt: skip
ENVIRONMENT = ("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit")
KEYS_OF_CONFIGS = (
    "model_wrapper_cfg", "sync_bn", "compile", "activation_checkpointing",
    "efficient_conv_bn_eval", "custom_imports",
)  # fmt: skip
"""Keys that a Runner looks for in its config, beside its own arguments."""

SIMILAR = 0.85  # how alike a variable of a config is to a key to be called a mistake
SEEDS = 2**32
LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET")


def check_scope(cfg: Config) -> list[str]:
    """Checks the scope that short names are looked up in."""
    scope = cfg.get("default_scope")
    if scope in (None, "mmengine"):
        model = cfg.get("model")
        name = model.get("type") if isinstance(model, Mapping) else None
        if (
            isinstance(name, str)
            and find(name, root.MODELS) is None
            and find(f"{SCOPE}.{name}", root.MODELS)
        ):
            found = "missing" if scope is None else f"'mmengine' knows no {name}"
            return [f"default_scope: {found}; write default_scope = '{SCOPE}'"]
        return []
    scopes = ("mmengine", *root.MODELS.children)
    if isinstance(scope, str) and (scope in scopes or _is_package(scope)):
        return []
    return [f"default_scope: there is no '{scope}'{did_you_mean(scope, scopes)}"]


def _is_package(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def check_shapes(cfg: Config) -> list[str]:
    """Checks that sections are dictionaries and lists where they must be."""
    problems = []
    for key in (*SECTIONS, *DATALOADERS):
        if not isinstance(cfg.get(key), (Mapping, type(None))):
            problems.append(f"{key}: must be a dict")
    for key in ("visualizer", "data_preprocessor"):
        if key not in SECTIONS or isinstance(cfg.get(key), Mapping):
            problems += check_typed(cfg.get(key), key)
    hooks = cfg.get("default_hooks")
    for name, hook in hooks.items() if isinstance(hooks, Mapping) else ():
        near = difflib.get_close_matches(name, DEFAULT_HOOKS, n=1)
        if name not in DEFAULT_HOOKS and near:
            problems.append(f"default_hooks.{name}: unknown key; did you mean '{near[0]}'?")
            continue
        problems += check_typed(hook, f"default_hooks.{name}")
    for key in ("custom_hooks", "visualizer.vis_backends", *EVALUATORS, "param_scheduler"):
        problems += _check_list(cfg, key)
    return problems


def _check_list(cfg: Config, key: str) -> list[str]:
    section, _, last = key.rpartition(".")
    node = (cfg.get(section) if section else cfg) or {}
    value = node.get(last) if hasattr(node, "get") else None
    takes_one = key in EVALUATORS or key == "param_scheduler"
    if isinstance(value, Mapping) and takes_one:
        # A schedule for each of several optimizers, or a whole evaluator.
        is_several = key == "param_scheduler" and "type" not in value and len(value) > 0
        is_several = is_several and all(isinstance(one, (Mapping, list)) for one in value.values())
        return [] if is_several or "metrics" in value else check_typed(value, key)
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        return [f"{key}: {value!r} must be a list of dict(type=...)"]
    return [
        problem
        for number, item in enumerate(value)
        for problem in check_typed(item, f"{key}.{number}")
    ]


def check_top(cfg: Config) -> Iterator[str]:
    """Finds misspelt keys of the config itself, and values of those that are no sections."""
    known = [key for key in inspect.signature(Runner.__init__).parameters if key != "self"]
    known += KEYS_OF_CONFIGS
    for key in cfg:
        near = difflib.get_close_matches(key, known, n=1, cutoff=SIMILAR)
        if key not in known and near:
            yield (
                f"{key}: unknown key; did you mean '{near[0]}'? A variable of your own wants "
                "another name"
            )
    level = cfg.get("log_level", "INFO")
    if level not in LEVELS and not isinstance(level, int):
        yield f"log_level: there is no '{level}'{did_you_mean(level, LEVELS)}"
    window = (cfg.get("log_processor") or {}).get("window_size", 10)
    if not is_whole(window, 1):
        yield f"log_processor.window_size: {window!r} must be a whole number, 1 or more"
    scaling = cfg.get("auto_scale_lr")
    if scaling is not None and not (
        isinstance(scaling, Mapping)
        and (not scaling.get("enable") or is_whole(scaling.get("base_batch_size"), 1))
    ):
        yield "auto_scale_lr: must be a dict(enable=..., base_batch_size=...)"
    if not isinstance(cfg.get("compile", False), (bool, Mapping)):
        yield f"compile: {cfg.compile!r} must be True, False or a dict"


def check_environment(cfg: Config) -> Iterator[str]:
    """Checks ``randomness`` and ``env_cfg``."""
    given = cfg.get("randomness") or {}
    yield from _check_keys(given, inspect.signature(Runner.set_randomness).parameters, "randomness")
    seed = given.get("seed")
    if seed is not None and not (is_whole(seed, 0) and seed < SEEDS):
        yield f"randomness.seed: {seed!r} must be a whole number, 0 to {SEEDS - 1}"
    given = cfg.get("env_cfg") or {}
    yield from _check_keys(given, ENVIRONMENT, "env_cfg")
    for key in ("mp_cfg", "dist_cfg"):
        if not isinstance(given.get(key, {}), Mapping):
            yield f"env_cfg.{key}: must be a dict"
            return
    given = given.get("mp_cfg") or {}
    yield from _check_keys(
        given, inspect.signature(set_multi_processing).parameters, "env_cfg.mp_cfg"
    )
    method, methods = given.get("mp_start_method", "fork"), ("fork", "spawn", "forkserver")
    if method not in methods:
        yield (
            f"env_cfg.mp_cfg.mp_start_method: {method!r} is none of {', '.join(methods)}"
            f"{did_you_mean(method, methods)}"
        )


def _check_keys(given: Mapping[str, Any], known: Any, where: str) -> Iterator[str]:
    for key in given:
        if key not in known:
            yield f"{where}.{key}: unknown key{did_you_mean(key, known)}"


def is_whole(value: Any, least: int) -> bool:
    """Tells whether a value is a whole number, and large enough."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
