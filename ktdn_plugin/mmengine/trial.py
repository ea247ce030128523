"""Builds a run's parts to throw them away: wrong values show before anything is written."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine import registry as root
from mmengine.config import Config
from mmengine.fileio import get_file_backend
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.runner import get_priority
from torch import nn

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.mmengine.signatures import find

WRONG = (
    KTDNError, TypeError, ValueError, AttributeError, KeyError, AssertionError, ArithmeticError,
    RuntimeError,
)  # fmt: skip
"""What a value of the wrong kind may lead to."""

MAKERS = ("mmengine", "ktdn_plugin", "torch")
"""Whose classes are tried; those of others may do more when they are made than be there."""

NOT_HOOKS = ("type", "priority")
NOT_SCHEDULERS = ("type", "convert_to_iter_based", "epoch_length")


def check_parts(cfg: Config) -> list[str]:
    """Builds the hooks and metrics of a config.

    Args:
        cfg: A config that names what there is.

    Returns:
        One line for each problem.
    """
    problems: list[str] = []
    hooks = dict(cfg.get("default_hooks") or {})
    sections = [(f"default_hooks.{name}", hook) for name, hook in hooks.items()]
    sections += _numbered(cfg, "custom_hooks")
    for where, section in sections:
        if section is not None:
            with _blaming(where, problems):
                get_priority(section.get("priority", "NORMAL"))
                hook = _build(section, root.HOOKS, NOT_HOOKS)
                if getattr(hook, "backend_args", None):
                    _check_backend(hook.backend_args)
    for key in ("val_evaluator", "test_evaluator"):
        for where, section in _numbered(cfg, key):
            if "type" in section:
                with _blaming(where, problems):
                    _build(section, root.METRICS)
    return problems


def check_training(cfg: Config, model: nn.Module) -> list[str]:
    """Builds what a training needs beside the model, and steps the schedules once.

    Args:
        cfg: A config that names what there is.
        model: The model, which is not changed.

    Returns:
        One line for each problem.
    """
    problems: list[str] = []
    wrapper = None
    with _blaming("optim_wrapper", problems), _quiet():
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        if isinstance(wrapper, OptimWrapper) and wrapper.clip_grad_kwargs:
            parameter = nn.Parameter(torch.zeros(1))
            parameter.grad = torch.ones(1)
            wrapper.clip_func([parameter], **wrapper.clip_grad_kwargs)
    parameters = [name for name, _ in model.named_parameters()]
    for key in (cfg.optim_wrapper.get("paramwise_cfg") or {}).get("custom_keys", ()):
        if not any(key in name for name in parameters):
            parts = {part for name in parameters for part in name.split(".")}
            problems.append(
                f"optim_wrapper.paramwise_cfg.custom_keys: no parameter has '{key}' in its name"
                f"{did_you_mean(key, parts)}"
            )
    if isinstance(wrapper, OptimWrapper):
        for where, section in _numbered(cfg, "param_scheduler"):
            if "type" in section:
                with _blaming(where, problems), _quiet():
                    scheduler = _build(
                        section, root.PARAM_SCHEDULERS, NOT_SCHEDULERS, optimizer=wrapper
                    )
                    if scheduler is not None:
                        scheduler.step()
    for where, section in _numbered(cfg, "custom_hooks"):
        if find(section["type"], root.HOOKS) is EMAHook:
            with _blaming(where, problems), _quiet():
                average = EMAHook(**_options(section, NOT_HOOKS)).ema_cfg
                root.MODELS.build(average, default_args={"model": model})
    return problems


def _numbered(cfg: Config, key: str) -> list[tuple[str, Any]]:
    node = cfg.get(key) or []
    if isinstance(node, Mapping):
        return [(key, node)]
    return [(f"{key}.{number}", section) for number, section in enumerate(node)]


def _options(section: Mapping[str, Any], without: tuple[str, ...] = ("type",)) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in without}


def _build(
    section: Mapping[str, Any],
    registry: root.Registry,
    without: tuple[str, ...] = ("type",),
    **given: Any,
) -> Any:
    item = find(section["type"], registry)
    if not inspect.isclass(item) or item.__module__.partition(".")[0] not in MAKERS:
        return None
    return item(**given, **_options(section, without))


def _check_backend(options: Mapping[str, Any]) -> None:
    try:
        get_file_backend("checkpoint.pth", backend_args=dict(options))
    except KeyError as error:
        raise KTDNError(f"backend_args: there is no backend {error}") from error


@contextmanager
def _blaming(where: str, problems: list[str]) -> Iterator[None]:
    try:
        yield
    except WRONG as error:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        first = " ".join((text.splitlines() or [""])[0].split())
        kind = "" if isinstance(error, KTDNError) else f" ({type(error).__name__})"
        problems.append(f"{where}: {'' if not kind else 'cannot be used: '}{first}{kind}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself what is going to be said when the run begins."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
