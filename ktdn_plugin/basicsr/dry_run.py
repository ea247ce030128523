"""Builds the parts that options name, one by one, and reports their errors.

Each part's problems become readable lines, so that all are shown at once. Parts that are ours, or
known to be cheap, are built: networks on the meta device, where nothing is computed, losses on an
empty crop, optimiser and schedule for one step. For other classes, the arguments are compared with
the signature; they are built with the training's model, see
:mod:`ktdn_plugin.basicsr.other_networks`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.basicsr.options.loading import image_loss_sections
from ktdn_plugin.errors import KTDNError, describe_error, did_you_mean, is_out_of_memory
from ktdn_plugin.training.optimizers import find_optimizer


def dry_run(opt: Options, is_train: bool) -> list[str]:
    """Builds all parts; for training also runs our losses and networks once.

    Args:
        opt: The options, checked and completed. BasicSR must already be importable.
        is_train: Whether they are for training or for testing.

    Returns:
        One line for each problem.
    """
    networks: dict[str, Any] = {}
    problems = _try_parts(opt, is_train, networks)
    return problems or (_try_step(opt, networks) if is_train else [])


def _try_parts(opt: Options, is_train: bool, networks: dict[str, Any]) -> list[str]:
    """Builds all parts, keeping the networks, by section, for further checks."""
    from basicsr.utils import registry

    problems = _look_up(opt["model_type"], registry.MODEL_REGISTRY, "model_type")[1]
    for key, network in opt.items():
        if key.startswith("network_"):
            problems += _try_built(network, registry.ARCH_REGISTRY, key, networks)
    if is_train and not problems:
        problems += _try_teacher(opt, networks)
    for phase, dataset in opt["datasets"].items():
        problems += _look_up(dataset["type"], registry.DATASET_REGISTRY, f"datasets.{phase}")[1]
        if dataset.get("color") == "y" and opt["network_g"]["type"] == "KTDN":
            problems.append(f"datasets.{phase}.color: KTDN works on RGB; remove this key")
    for name, metric in ((opt.get("val") or {}).get("metrics") or {}).items():
        problems += _try_metric(metric, f"val.metrics.{name}")
    return problems + (_try_training(opt["train"]) if is_train else [])


def _try_teacher(opt: Options, networks: Mapping[str, Any]) -> list[str]:
    """Checks the network that is, or is trained to be, a teacher."""
    from ktdn_plugin.training.steps import check_teacher

    is_teacher = opt["model_type"] == "KTDNTeacherModel"
    if not (is_teacher or opt["train"].get("transfer_opt")):
        return []
    where = "network_g" if is_teacher else "network_t"
    try:
        check_teacher(networks[where], where)
    except KTDNError as error:
        return [str(error)]
    return []


def _try_metric(metric: Mapping[str, Any], where: str) -> list[str]:
    from basicsr.utils.registry import METRIC_REGISTRY

    problems = _check_named(metric, METRIC_REGISTRY, where, ("img", "img2"), extra=("better",))
    if problems or metric["type"] not in ("calculate_psnr", "calculate_ssim"):
        return problems
    return _try(where, _measure_nothing, metric)


def _measure_nothing(metric: Mapping[str, Any]) -> None:
    import numpy as np
    from basicsr.metrics import calculate_metric

    black = np.zeros((64, 64, 3), np.uint8)
    calculate_metric({"img": black, "img2": black + 1}, metric)


def _try_training(train: Mapping[str, Any]) -> list[str]:
    from basicsr.models import lr_scheduler
    from basicsr.utils.registry import LOSS_REGISTRY

    problems = []
    for key, loss in train.items():
        if key.endswith("_opt") and isinstance(loss, dict):
            problems += _try_built(loss, LOSS_REGISTRY, f"train.{key}")
    optim, scheduler = train["optim_g"], train["scheduler"]
    try:
        optimizer = find_optimizer(optim["type"])
    except KTDNError as error:
        problems.append(f"train.optim_g.type: {error}")
    else:
        problems += _check_arguments(
            optim, optimizer, "train.optim_g", ("params",), ("encoder_lr",)
        )
    schedulers = {
        "MultiStepLR": lr_scheduler.MultiStepRestartLR,
        "MultiStepRestartLR": lr_scheduler.MultiStepRestartLR,
        "CosineAnnealingRestartLR": lr_scheduler.CosineAnnealingRestartLR,
    }
    problems += _check_named(scheduler, schedulers, "train.scheduler", ("optimizer", "last_epoch"))
    if problems:
        return problems
    where = "train.optim_g, train.scheduler"
    problems = _try(where, _one_update, optim, scheduler, schedulers[scheduler["type"]])
    return problems or _check_periods(scheduler, train["total_iter"])


def _one_update(optim: Mapping[str, Any], scheduler: Mapping[str, Any], schedule_of: Any) -> None:
    """Takes one step on one parameter: values of the wrong type fail here, not after hours."""
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    arguments = {key: value for key, value in optim.items() if key not in ("type", "encoder_lr")}
    optimizer = find_optimizer(optim["type"])([parameter], **arguments)
    arguments = {key: value for key, value in scheduler.items() if key != "type"}
    schedule = schedule_of(optimizer, **arguments)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    schedule.step()


def _check_periods(scheduler: Mapping[str, Any], total_iter: int) -> list[str]:
    """Checks for errors that BasicSR's schedule would only hit when its periods end."""
    end = sum(scheduler.get("periods", [total_iter]))
    if end >= total_iter:
        return []
    return [
        f"train.scheduler.periods: the periods end after {end} iterations, before "
        "train.total_iter: "
        f"{total_iter}"
    ]


def _look_up(name: str, registry: Any, where: str) -> tuple[Any, list[str]]:
    """Looks up a name; returns what it refers to, and a line if it is unknown."""
    item = find_registered(name, registry)
    known = dict(iter(registry)) if not isinstance(registry, dict) else registry
    return item, [] if item else [f"{where}: there is no '{name}'{did_you_mean(name, known)}"]


def find_registered(name: str, registry: Any) -> Any:
    """Returns what a name refers to in one of BasicSR's registries, None if unknown.

    BasicSR registers classes that Real-ESRGAN has too under names such as
    ``RealESRGANModel_basicsr``, and falls back to these.
    """
    items = dict(iter(registry)) if not isinstance(registry, dict) else registry
    return items.get(name, items.get(f"{name}_basicsr"))


def _check_named(
    section: Mapping[str, Any],
    registry: Any,
    where: str,
    given: tuple[str, ...],
    extra: tuple[str, ...] = (),
) -> list[str]:
    """Checks that ``type`` names something registered, and that it takes the other keys."""
    item, problems = _look_up(section["type"], registry, where)
    return problems or _check_arguments(section, item, where, given, extra)


def _check_arguments(
    section: Mapping[str, Any],
    item: Callable[..., Any],
    where: str,
    given: tuple[str, ...],
    extra: tuple[str, ...] = (),
) -> list[str]:
    """Compares a section's keys with the arguments that they become."""
    parameters = inspect.signature(item).parameters
    named = [
        key
        for key, parameter in parameters.items()
        if key not in given
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    known = ("type", *named, *extra)
    required = [key for key in named if parameters[key].default is inspect.Parameter.empty]
    return [
        f"{where}.{key}: unknown key{did_you_mean(key, known)}"
        for key in section
        if key not in known
    ] + [f"{where}.{key}: missing" for key in required if key not in section]


def _try_built(
    section: Mapping[str, Any], registry: Any, where: str, built: dict[str, Any] | None = None
) -> list[str]:
    """Checks a network or loss by its signature, and if it is ours builds it into ``built``."""

    def build() -> None:
        module = build_for_inspection(section, registry)
        if built is not None:
            built[where] = module

    return _check_named(section, registry, where, ("self",)) or _try(where, build)


def build_for_inspection(section: Mapping[str, Any], registry: Any, device: str = "meta") -> Any:
    """Builds one of our networks or losses, or a plain loss of BasicSR's, to inspect it.

    Args:
        section: Its options.
        registry: Where its ``type`` is registered.
        device: The device; by default no memory is allocated for weights.

    Returns:
        The module, or None for any other class, as building it might have side effects such as
        downloads.
    """
    item = find_registered(section["type"], registry)
    if item is None:  # reported elsewhere, with suggestions
        return None
    plain = item.__module__ == "basicsr.losses.basic_loss" and item.__name__ != "PerceptualLoss"
    if not (plain or item.__module__.startswith("ktdn_plugin.")):
        return None
    arguments = {key: value for key, value in section.items() if key != "type"}
    if arguments.get("pretrained") is True:  # no downloads for an inspection
        arguments["pretrained"] = False
    if arguments.get("pretrained"):
        device = "cpu"
    with torch.device(device):
        return item(**arguments)


def _try_step(opt: Options, networks: Mapping[str, Any]) -> list[str]:
    """Runs our losses once, and our networks on the meta device.

    This finds parts that work alone but not together: a crop too small for the pyramid's levels,
    or student and teacher features of different widths.
    """
    from basicsr.utils.registry import LOSS_REGISTRY

    from ktdn_plugin.basicsr.other_networks import check_scalar

    train = opt["train"]
    problems: list[str] = []
    size = opt["datasets"]["train"].get("gt_size")
    if size is None:  # another plugin's dataset, whose crop size is unknown
        return problems
    images = torch.zeros(1, 3, size, size)
    for key in image_loss_sections(train).values():
        loss = build_for_inspection(train[key], LOSS_REGISTRY, "cpu")
        if hasattr(loss, "feature_names"):
            problems.append(
                f"train.{key}.type: {train[key]['type']} compares features, not images; name the "
                "section transfer_opt"
            )
        elif loss is not None:
            where = f"train.{key}, datasets.train.gt_size"
            problems += _try(where, lambda loss=loss: check_scalar(loss(images, images)))
    if train.get("transfer_opt"):
        problems += _try_transfer(opt, networks, images.to("meta"))
    return problems


def _try_transfer(opt: Options, networks: Mapping[str, Any], crop: torch.Tensor) -> list[str]:
    from basicsr.utils.registry import LOSS_REGISTRY

    from ktdn_plugin.basicsr.other_networks import compare_once, compute_features

    train = opt["train"]
    loss = build_for_inspection(train["transfer_opt"], LOSS_REGISTRY)
    if not hasattr(loss, "feature_names"):
        return [
            f"train.transfer_opt.type: {train['transfer_opt']['type']} compares images, not "
            "features; use KnowledgeTransferLoss"
        ]
    problems: list[str] = []
    features: list[Any] = []
    for letter in "gt":
        network = networks[f"network_{letter}"]
        if network is not None:
            try:
                features.append(compute_features(network.to("meta"), train, letter, loss, crop))
            except KTDNError as error:
                problems.append(str(error))
    if not problems and len(features) == 2:
        problems += _try("train.transfer_opt", compare_once, loss, *features)
    return problems


def _try(where: str, action: Callable[..., Any], *arguments: Any) -> list[str]:
    """Reports any kind of error that an action raises because of options' values."""
    try:
        action(*arguments)
    except (KTDNError, ValueError) as error:
        return [f"{where}: {error}"]
    except ImportError:  # a missing package is not caused by values
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return [f"{where}: a value has the wrong type ({describe_error(error)})"]
    return []
