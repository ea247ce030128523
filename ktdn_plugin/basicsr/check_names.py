"""Checks what options look up by name, and whether what they name fits together.

Every check returns lines for people, so that all problems are shown at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ktdn_plugin.basicsr.check_structure import MODEL_OF_STAGE
from ktdn_plugin.basicsr.check_values import SECTION, unknown_keys, whole
from ktdn_plugin.basicsr.options import Options, image_loss_sections
from ktdn_plugin.errors import KTDNError, did_you_mean, is_out_of_memory
from ktdn_plugin.training.optimizers import find_optimizer


def check_names(opt: Options, is_train: bool) -> list[str]:
    """Checks what is looked up by name, and its arguments. BasicSR must be importable by now."""
    from basicsr.utils import registry

    problems = _check_named({"type": opt["model_type"]}, registry.MODEL_REGISTRY, "model_type", ())
    for key, network in opt.items():
        if key.startswith("network_"):
            problems += _check_built(network, registry.ARCH_REGISTRY, key)
    if is_train and not problems:
        problems += _check_teacher(opt, registry.ARCH_REGISTRY)
    for phase, dataset in opt["datasets"].items():
        named = {"type": dataset["type"]}
        problems += _check_named(named, registry.DATASET_REGISTRY, f"datasets.{phase}", ())
        if dataset.get("color") == "y" and opt["network_g"].get("type") == "KTDN":
            problems.append(f"datasets.{phase}.color: KTDN works on RGB; leave it out")
    metrics = (opt.get("val") or {}).get("metrics") or {}
    for name, metric in metrics.items():
        where = f"val.metrics.{name}"
        if not isinstance(metric, dict):
            problems.append(f"{where}: must be {SECTION[1]}")
            continue
        border = metric.get("crop_border", 0)
        if not whole(0)[0](border):
            problems.append(f"{where}.crop_border: {border!r} must be {whole(0)[1]}")
            continue
        given = ("img", "img2")
        found = _check_named(metric, registry.METRIC_REGISTRY, where, given, extra=("better",))
        if not found and metric["type"] in ("calculate_psnr", "calculate_ssim"):
            found = _try(where, _measure_nothing, metric)
        problems += found
    if is_train:
        problems += _check_train(opt["train"])
    return problems


def _check_teacher(opt: Options, registry: Any) -> list[str]:
    """Checks the network that is a teacher, or is trained to be one."""
    from ktdn_plugin.training.steps import check_teacher

    if opt["model_type"] == MODEL_OF_STAGE["teacher"]:
        where = "network_g"
    elif opt["train"].get("transfer_opt"):
        where = "network_t"
    else:
        return []
    network = build_to_look_at(opt[where], registry)
    try:
        check_teacher(network, where)
    except KTDNError as error:
        return [str(error)]
    return []


def _measure_nothing(metric: Mapping[str, Any]) -> None:
    import numpy as np
    from basicsr.metrics import calculate_metric

    black = np.zeros((64, 64, 3), np.uint8)
    calculate_metric({"img": black, "img2": black + 1}, metric)


def _check_train(train: Mapping[str, Any]) -> list[str]:
    from basicsr.models import lr_scheduler
    from basicsr.utils import registry

    problems = []
    for key, loss in train.items():
        if key.endswith("_opt") and isinstance(loss, dict):
            problems += _check_built(loss, registry.LOSS_REGISTRY, f"train.{key}")
    optim = train["optim_g"]
    try:
        optimizer = find_optimizer(str(optim.get("type")))
    except KTDNError as error:
        problems.append(f"train.optim_g.type: {error}")
    else:
        problems += _check_arguments(
            optim, optimizer, "train.optim_g", ("params",), ("encoder_lr",)
        )
    for key in ("lr", *(["encoder_lr"] if optim.get("encoder_lr") is not None else [])):
        rate = optim.get(key)
        if not isinstance(rate, (int, float)) or not 0 < rate < float("inf"):
            problems.append(f"train.optim_g.{key}: {rate!r} must be a number above 0")
    schedulers = {
        "MultiStepLR": lr_scheduler.MultiStepRestartLR,
        "MultiStepRestartLR": lr_scheduler.MultiStepRestartLR,
        "CosineAnnealingRestartLR": lr_scheduler.CosineAnnealingRestartLR,
    }
    scheduler = train["scheduler"]
    problems += _check_named(scheduler, schedulers, "train.scheduler", ("optimizer", "last_epoch"))
    if scheduler.get("type") == "CosineAnnealingRestartLR":
        problems += _check_periods(scheduler, train["total_iter"])
    if not problems:
        problems = _try("train.optim_g, train.scheduler", _one_update, optim, scheduler, schedulers)
    return problems


def _one_update(
    optim: Mapping[str, Any], scheduler: Mapping[str, Any], schedulers: Mapping[str, Any]
) -> None:
    """Takes one step on one parameter: values of the wrong kind show here, not after hours."""
    import torch

    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    arguments = {key: value for key, value in optim.items() if key not in ("type", "encoder_lr")}
    optimizer = find_optimizer(optim["type"])([parameter], **arguments)
    arguments = {key: value for key, value in scheduler.items() if key != "type"}
    schedule = schedulers[scheduler["type"]](optimizer, **arguments)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    schedule.step()


def _check_periods(scheduler: Mapping[str, Any], total_iter: int) -> list[str]:
    periods = scheduler.get("periods")
    if not isinstance(periods, list) or not all(isinstance(period, int) for period in periods):
        return [f"train.scheduler.periods: {periods!r} must be a list of whole numbers"]
    problems = []
    if sum(periods) < total_iter:
        problems.append(
            f"train.scheduler.periods: they end after {sum(periods)} iterations, before "
            f"train.total_iter: {total_iter}"
        )
    weights = scheduler.get("restart_weights", [1])
    if not isinstance(weights, list) or len(weights) != len(periods):
        problems.append("train.scheduler.restart_weights: needs one number for each of periods")
    return problems


def _check_named(
    section: Any, registry: Any, where: str, given: tuple[str, ...], extra: tuple[str, ...] = ()
) -> list[str]:
    """Checks that ``type`` names something registered, and that it takes the other keys."""
    if not isinstance(section, dict) or not section.get("type"):
        return [f"{where}.type: missing"]
    name = section["type"]
    items = registry if isinstance(registry, dict) else dict(iter(registry))
    item = find_registered(name, items)
    if item is None:
        return [f"{where}: there is no '{name}'{did_you_mean(name, items)}"]
    if len(section) == 1 and not given:
        return []
    return _check_arguments(section, item, where, given, extra)


def find_registered(name: str, registry: Any) -> Any:
    """Returns what a name stands for in one of BasicSR's registries, None where it is unknown.

    BasicSR registers what is also in Real-ESRGAN under names such as ``RealESRGANModel_basicsr``,
    and takes these where there are no others.
    """
    if not isinstance(name, str):
        return None
    items = dict(iter(registry)) if not isinstance(registry, dict) else registry
    return items.get(name, items.get(f"{name}_basicsr"))


def _check_built(section: Any, registry: Any, where: str) -> list[str]:
    """Checks a network or a loss as :func:`_check_named` does, and builds it if it is ours."""
    problems = _check_named(section, registry, where, ("self",))
    if problems:
        return problems
    if not isinstance(section.get("pretrained", False), (bool, str)):
        return [f"{where}.pretrained: {section['pretrained']!r} must be true, false or a path"]
    return _try(where, build_to_look_at, section, registry)


def build_to_look_at(section: Mapping[str, Any], registry: Any, device: str = "meta") -> Any:
    """Builds one of our networks or losses, or a plain loss of BasicSR's, to look at it.

    Args:
        section: Its options.
        registry: Where its ``type`` is registered.
        device: By default it gets no memory for its weights.

    Returns:
        The module, or None for any other class: what those do when they are built (downloads,
        say) is not known.
    """
    import torch

    item = find_registered(section["type"], registry)
    if item is None:  # which is told elsewhere, with what may have been meant
        return None
    plain = item.__module__ == "basicsr.losses.basic_loss" and item.__name__ != "PerceptualLoss"
    if not (plain or item.__module__.startswith("ktdn_plugin.")):
        return None
    arguments = {key: value for key, value in section.items() if key != "type"}
    if arguments.get("pretrained") is True:  # nothing is fetched for a look
        arguments["pretrained"] = False
    if arguments.get("pretrained"):
        device = "cpu"
    with torch.device(device):
        return item(**arguments)


def check_step(opt: Options) -> list[str]:
    """Runs our losses once, and our networks on the meta device, where nothing is computed.

    It finds what fits by itself but not together: a crop too small for the pyramid's levels,
    student's and teacher's features of different widths.
    """
    import torch
    from basicsr.utils.registry import LOSS_REGISTRY

    from ktdn_plugin.basicsr.dry_run import check_scalar

    train = opt["train"]
    problems: list[str] = []
    size = opt["datasets"]["train"].get("gt_size")
    if size is None:  # another plugin's dataset: how large its crops are is not known
        return problems
    images = torch.zeros(1, 3, size, size)
    sections = image_loss_sections(train)
    for key in sections.values():
        loss = build_to_look_at(train[key], LOSS_REGISTRY, "cpu")
        if hasattr(loss, "feature_names"):
            problems.append(
                f"train.{key}.type: {train[key]['type']} compares features, not images; name the "
                "section transfer_opt"
            )
        elif loss is not None:
            where = f"train.{key}, datasets.train.gt_size"
            problems += _try(where, lambda loss=loss: check_scalar(loss(images, images)))
    if not sections:
        problems.append("train: no image loss is switched on; give pixel_opt, laplacian_opt, ...")
    if train.get("transfer_opt"):
        problems += _check_transfer(opt, images.to("meta"))
    return problems


def _check_transfer(opt: Options, crop: Any) -> list[str]:
    from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY

    from ktdn_plugin.basicsr.dry_run import compare_once, compute_features

    train = opt["train"]
    loss = build_to_look_at(train["transfer_opt"], LOSS_REGISTRY)
    if not hasattr(loss, "feature_names"):
        return [
            f"train.transfer_opt.type: {train['transfer_opt']['type']} compares images, not "
            "features; use KnowledgeTransferLoss"
        ]
    problems: list[str] = []
    features: list[Any] = []
    for letter in "gt":
        section = opt[f"network_{letter}"]
        found = _check_features_named(section["type"], train, letter, loss.feature_names)
        network = None if found else build_to_look_at(section, ARCH_REGISTRY)
        if network is not None:
            try:
                features.append(compute_features(network.to("meta"), train, letter, loss, crop))
            except KTDNError as error:
                found.append(str(error))
        problems += found
    if not problems and len(features) == 2:
        problems += _try("train.transfer_opt", compare_once, loss, *features)
    return problems


def _check_features_named(
    network: str, train: Mapping[str, Any], letter: str, names: Sequence[str]
) -> list[str]:
    from basicsr.utils.registry import ARCH_REGISTRY

    key = f"train.features_{letter}"
    modules = train.get(f"features_{letter}")
    if modules:
        return [
            f"{key}: no module is named for '{name}', which train.transfer_opt compares"
            f"{did_you_mean(name, modules)}"
            for name in names
            if name not in modules
        ]
    if hasattr(dict(iter(ARCH_REGISTRY))[network], "feature_extractor"):
        return []
    some = ", ".join(f"{name}: MODULE" for name in names)
    return [
        f"network_{letter}.type: {network} gives no features of itself, which train.transfer_opt "
        f"compares; name modules of it by {key}: {{{some}}}"
    ]


def _try(where: str, action: Callable[..., Any], *arguments: Any) -> list[str]:
    """Reports what an action raises over options' values, whatever kind of error they lead to."""
    try:
        action(*arguments)
    except (KTDNError, ValueError) as error:
        return [f"{where}: {error}"]
    except ImportError:  # a package that is not there is no matter of values
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        first = (str(error).splitlines() or [""])[0]
        return [f"{where}: a value is of the wrong kind ({type(error).__name__}: {first[:300]})"]
    return []


def _check_arguments(
    section: Mapping[str, Any],
    item: Callable[..., Any],
    where: str,
    given: tuple[str, ...],
    extra: tuple[str, ...] = (),
) -> list[str]:
    parameters = inspect.signature(item).parameters
    named = [
        key
        for key, parameter in parameters.items()
        if key not in given
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    problems = unknown_keys(section, ("type", *named, *extra), f"{where}.")
    required = [key for key in named if parameters[key].default is inspect.Parameter.empty]
    return problems + [f"{where}.{key}: missing" for key in required if key not in section]
