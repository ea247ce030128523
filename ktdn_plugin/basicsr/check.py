"""Checks an options file's structure before anything starts: keys, names, types, values.

Every check returns lines for people, so that all problems are shown at once. Models, datasets and
losses that are not known here (other plugins' too) are left to themselves.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ktdn_plugin.basicsr.compat import find_optimizer
from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.errors import KTDNError, did_you_mean

TOP_KEYS = (
    "name", "model_type", "scale", "num_gpu", "manual_seed", "datasets", "path", "train", "val",
    "logger", "dist_params", "find_unused_parameters",
)  # fmt: skip
PATH_KEYS = ("resume_state", "ignore_resume_networks", "experiments_root", "results_root")
PATH_PREFIXES = ("pretrain_network_", "strict_load_", "param_key_")
VAL_KEYS = ("val_freq", "save_img", "suffix", "metrics", "pbar")
LOGGER_KEYS = ("print_freq", "save_checkpoint_freq", "use_tb_logger", "wandb")
COMMON_TRAIN_KEYS = ("total_iter", "warmup_iter", "ema_decay", "optim_g", "scheduler")
LOSS_KEYS: dict[str, tuple[str, ...]] = {
    "KTDNModel": ("pixel_opt", "laplacian_opt", "transfer_opt"),
    "KTDNTeacherModel": ("pixel_opt", "laplacian_opt"),
    "SRModel": ("pixel_opt", "perceptual_opt"),
}
DATASET_KEYS = (
    "name", "type", "dataroot_gt", "io_backend", "meta_info_file", "gt_size", "use_hflip",
    "use_rot", "num_worker_per_gpu", "batch_size_per_gpu", "dataset_enlarge_ratio",
    "prefetch_mode", "pin_memory", "persistent_workers", "use_shuffle", "phase", "scale",
)  # fmt: skip
PAIRED_KEYS = (*DATASET_KEYS, "dataroot_lq", "filename_tmpl", "color", "mean", "std")
KNOWN_DATASETS = {
    "ClearImageDataset": DATASET_KEYS,
    "PairedImageDataset": PAIRED_KEYS,
    "SingleImageDataset": tuple(key for key in PAIRED_KEYS if key != "dataroot_gt"),
}

ROOTS = {
    "ClearImageDataset": ("dataroot_gt",),
    "PairedImageDataset": ("dataroot_gt", "dataroot_lq"),
    "SingleImageDataset": ("dataroot_lq",),
}


def _whole(minimum: int) -> tuple[Callable[[Any], bool], str]:
    def fits(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= minimum

    return fits, f"a whole number, at least {minimum}"


_FLAG = (lambda value: isinstance(value, bool)), "true or false"
_TEXT = (lambda value: isinstance(value, str) and bool(value)), "a text"
_SECTION = (lambda value: isinstance(value, dict)), "a section of 'key: value' lines"
_SHARE = (
    (lambda value: isinstance(value, (int, float)) and 0 <= value < 1),
    "a number from 0 to below 1",
)

_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (
        lambda value: isinstance(value, str) and bool(value) and not set(value) & set("/\\\0"),
        "a text without slashes (it names the run's folder)",
    ),
    "model_type": _TEXT,
    "scale": _whole(1),
    "num_gpu": (
        lambda value: value == "auto" or _whole(0)[0](value),
        "auto, or a whole number, at least 0",
    ),
    "manual_seed": _whole(0),
    "datasets": _SECTION,
    "path": _SECTION,
    "train": _SECTION,
    "val": _SECTION,
    "logger": _SECTION,
    "network_g": _SECTION,
    "network_t": _SECTION,
    "train.total_iter": _whole(1),
    "train.warmup_iter": _whole(-1),
    "train.ema_decay": _SHARE,
    "train.optim_g": _SECTION,
    "train.scheduler": _SECTION,
    "train.pixel_opt": _SECTION,
    "train.laplacian_opt": _SECTION,
    "train.transfer_opt": _SECTION,
    "val.val_freq": _whole(1),
    "val.save_img": _FLAG,
    "val.pbar": _FLAG,
    "val.metrics": _SECTION,
    "logger.print_freq": _whole(1),
    "logger.save_checkpoint_freq": _whole(1),
    "logger.use_tb_logger": _FLAG,
}
_DATASET_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "type": _TEXT,
    "dataroot_gt": _TEXT,
    "dataroot_lq": _TEXT,
    "io_backend": _SECTION,
    "gt_size": _whole(1),
    "use_hflip": _FLAG,
    "use_rot": _FLAG,
    "num_worker_per_gpu": _whole(0),
    "batch_size_per_gpu": _whole(1),
    "dataset_enlarge_ratio": _whole(1),
    "pin_memory": _FLAG,
    "persistent_workers": _FLAG,
}


def check_structure(opt: Options, is_train: bool) -> list[str]:
    """Checks sections, keys and types: what must hold before defaults can be filled in."""
    required = ["name", "model_type", "datasets", "network_g", *(["train"] if is_train else [])]
    problems = [f"{key}: missing" for key in required if opt.get(key) is None]
    if is_train and isinstance(opt.get("train"), dict):
        wanted = ["total_iter", "optim_g", "scheduler"]
        problems += [f"train.{key}: missing" for key in wanted if opt["train"].get(key) is None]
    problems += _check_types(opt, _TYPES, "")
    problems += _unknown(
        opt, [*TOP_KEYS, "network_g", "network_t"], "", allow=lambda key: key.startswith("network_")
    )
    for section, known in (("val", VAL_KEYS), ("logger", LOGGER_KEYS)):
        problems += _unknown(opt.get(section), known, f"{section}.")
    problems += _unknown(
        opt.get("path"),
        [*PATH_KEYS, *(prefix + letter for prefix in PATH_PREFIXES for letter in "gt")],
        "path.",
        allow=lambda key: key.startswith(PATH_PREFIXES),
    )
    if opt.get("model_type") in LOSS_KEYS and is_train:
        train_keys = (*COMMON_TRAIN_KEYS, *LOSS_KEYS[opt["model_type"]])
        problems += _unknown(opt.get("train"), train_keys, "train.")
    return problems + _check_dataset_structure(opt.get("datasets"), is_train)


def _check_dataset_structure(datasets: Any, is_train: bool) -> list[str]:
    if not isinstance(datasets, dict):
        return []
    problems = []
    if is_train and "train" not in datasets:
        problems.append("datasets.train: missing")
    for phase, dataset in datasets.items():
        where = f"datasets.{phase}"
        if str(phase).split("_")[0] not in ("train", "val", "test"):
            problems.append(
                f"{where}: unknown phase{did_you_mean(phase, ('train', 'val', 'test'))} "
                "(train, val, val_2, test, ...)"
            )
        if not isinstance(dataset, dict):
            problems.append(f"{where}: must be {_SECTION[1]}")
            continue
        problems += _check_types(dataset, _DATASET_TYPES, f"{where}.")
        kind = dataset.get("type")
        if kind is None:
            problems.append(f"{where}.type: missing")
        required = ["batch_size_per_gpu"] if phase == "train" else []
        if kind in KNOWN_DATASETS:
            problems += _unknown(dataset, KNOWN_DATASETS[kind], f"{where}.")
            required += [*ROOTS[kind], *(["gt_size"] if phase == "train" else [])]
        problems += [f"{where}.{key}: missing" for key in required if dataset.get(key) is None]
        if dataset.get("prefetch_mode") not in (None, "cuda"):
            problems.append(
                f"{where}.prefetch_mode: '{dataset['prefetch_mode']}' waits for ever when a file "
                "cannot be read; leave it out (workers read ahead anyway), or use cuda"
            )
    return problems


def check_names(opt: Options, is_train: bool) -> list[str]:
    """Checks what is looked up by name, and its arguments. BasicSR must be importable by now."""
    from basicsr.utils import registry

    problems = _check_named({"type": opt["model_type"]}, registry.MODEL_REGISTRY, "model_type", ())
    for key, network in opt.items():
        if key.startswith("network_"):
            problems += _check_built(network, registry.ARCH_REGISTRY, key)
    for phase, dataset in opt["datasets"].items():
        named = {"type": dataset["type"]}
        problems += _check_named(named, registry.DATASET_REGISTRY, f"datasets.{phase}", ())
    metrics = (opt.get("val") or {}).get("metrics") or {}
    for name, metric in metrics.items():
        where = f"val.metrics.{name}"
        if not isinstance(metric, dict):
            problems.append(f"{where}: must be {_SECTION[1]}")
            continue
        given = ("img", "img2")
        problems += _check_named(metric, registry.METRIC_REGISTRY, where, given, extra=("better",))
    if is_train:
        problems += _check_train(opt["train"])
    return problems


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
        problems += _check_arguments(optim, optimizer, "train.optim_g", ("params",))
    rate = optim.get("lr")
    if not isinstance(rate, (int, float)) or rate <= 0:
        problems.append(f"train.optim_g.lr: {rate!r} must be a number above 0")
    schedulers = {
        "MultiStepLR": lr_scheduler.MultiStepRestartLR,
        "MultiStepRestartLR": lr_scheduler.MultiStepRestartLR,
        "CosineAnnealingRestartLR": lr_scheduler.CosineAnnealingRestartLR,
    }
    scheduler = train["scheduler"]
    problems += _check_named(scheduler, schedulers, "train.scheduler", ("optimizer", "last_epoch"))
    if scheduler.get("type") == "CosineAnnealingRestartLR":
        problems += _check_periods(scheduler, train["total_iter"])
    return problems


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
    if len(scheduler.get("restart_weights", [1])) != len(periods):
        problems.append("train.scheduler.restart_weights: needs one number for each of periods")
    return problems


def _check_types(
    section: Mapping[str, Any], types: Mapping[str, tuple[Callable[[Any], bool], str]], where: str
) -> list[str]:
    problems = []
    for path, (fits, wanted) in types.items():
        value: Any = section
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None and not fits(value):
            problems.append(f"{where}{path}: {value!r} must be {wanted}")
    return problems


def _unknown(
    section: Any,
    known: Any,
    where: str,
    allow: Callable[[str], bool] = lambda key: False,
) -> list[str]:
    if not isinstance(section, dict):
        return []
    return [
        f"{where}{key}: unknown key{did_you_mean(key, known)}"
        for key in section
        if key not in known and not allow(str(key))
    ]


def _check_named(
    section: Any, registry: Any, where: str, given: tuple[str, ...], extra: tuple[str, ...] = ()
) -> list[str]:
    """Checks that ``type`` names something registered, and that it takes the other keys."""
    if not isinstance(section, dict) or not section.get("type"):
        return [f"{where}.type: missing"]
    name = section["type"]
    names = list(registry.keys())
    if name not in names:
        return [f"{where}: there is no '{name}'{did_you_mean(name, names)}"]
    if len(section) == 1 and not given:
        return []
    items = registry if isinstance(registry, dict) else dict(iter(registry))
    return _check_arguments(section, items[name], where, given, extra)


def _check_built(section: Any, registry: Any, where: str) -> list[str]:
    """Checks a network or a loss as :func:`_check_named` does, and builds it if it is ours."""
    problems = _check_named(section, registry, where, ("self",))
    if problems:
        return problems
    try:
        build_to_look_at(section, registry)
    except (KTDNError, ValueError, TypeError) as error:
        return [f"{where}: {error}"]
    return []


def build_to_look_at(section: Mapping[str, Any], registry: Any, device: str = "meta") -> Any:
    """Builds one of our networks or losses, by default without memory for its weights.

    Returns:
        The module on the device, or None if ``type`` is not one of ours: what other
        classes do when they are built (downloads, say) is not known.
    """
    import torch

    item = dict(iter(registry))[section["type"]]
    if not item.__module__.startswith("ktdn_plugin."):
        return None
    arguments = {key: value for key, value in section.items() if key != "type"}
    # Weights are not fetched for a look; the path of a local file is checked with the data.
    if "pretrained" in arguments:
        arguments["pretrained"] = False
    with torch.device(device):
        return item(**arguments)


def check_step(opt: Options) -> list[str]:
    """Runs our losses once, and our networks on the meta device, where nothing is computed.

    It finds what fits by itself but not together: a crop too small for the pyramid's levels,
    student's and teacher's features of different widths.
    """
    import torch
    from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY

    train = opt["train"]
    problems: list[str] = []
    size = opt["datasets"]["train"].get("gt_size")
    if size is None:  # another plugin's dataset: how large its crops are is not known
        return problems
    images = torch.zeros(1, 3, size, size)
    for key in ("pixel_opt", "laplacian_opt"):
        loss = build_to_look_at(train[key], LOSS_REGISTRY, "cpu") if train.get(key) else None
        if loss is not None:
            problems += _try(f"train.{key}, datasets.train.gt_size", loss, images, images)
    if not train.get("transfer_opt"):
        return problems
    networks = [build_to_look_at(opt[key], ARCH_REGISTRY) for key in ("network_g", "network_t")]
    loss = build_to_look_at(train["transfer_opt"], LOSS_REGISTRY)
    if loss is None or None in networks:
        return problems

    def compare() -> None:
        names = loss.feature_names
        crop = images.to("meta")
        student, teacher = (network.eval().forward_features(crop, names) for network in networks)
        loss(student, teacher)

    return problems + _try("train.transfer_opt", compare)


def _try(where: str, action: Callable[..., Any], *arguments: Any) -> list[str]:
    try:
        action(*arguments)
    except ValueError as error:
        return [f"{where}: {error}"]
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
    problems = _unknown(section, ("type", *named, *extra), f"{where}.")
    required = [key for key in named if parameters[key].default is inspect.Parameter.empty]
    return problems + [f"{where}.{key}: missing" for key in required if key not in section]
