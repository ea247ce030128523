"""Checks an options file's structure before anything starts: sections, keys, types.

Every check returns lines for people, so that all problems are shown at once. Models, datasets and
losses that are not known here (other plugins' too) are left to themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ktdn_plugin.basicsr.check_dataset_structure import check_dataset_structure
from ktdn_plugin.basicsr.check_values import (
    FLAG,
    POSITIVE,
    SECTION,
    SHARE,
    TEXT,
    check_types,
    is_folder_name,
    keys_are_text,
    unknown_keys,
    whole,
)
from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.errors import did_you_mean

TOP_KEYS = (
    "name", "model_type", "scale", "num_gpu", "manual_seed", "datasets", "path", "train", "val",
    "logger", "dist_params", "find_unused_parameters",
)  # fmt: skip
PATH_KEYS = ("resume_state", "ignore_resume_networks", "experiments_root", "results_root")
PATH_PREFIXES = ("pretrain_network_", "strict_load_", "param_key_")
OLD_PATH_PREFIX = "pretrain_model_"
"""Of the keys that BasicSR's first versions read, and today's passes over without a word."""
VAL_KEYS = ("val_freq", "save_img", "suffix", "metrics", "pbar", "best_metric")
LOGGER_KEYS = (
    "print_freq", "save_checkpoint_freq", "keep_checkpoints", "use_tb_logger", "wandb",
)  # fmt: skip
DIST_KEYS = ("backend", "port", "timeout")
COMMON_TRAIN_KEYS = ("total_iter", "warmup_iter", "ema_decay", "optim_g", "scheduler")
STEP_KEYS = (
    "amp", "channels_last", "compile", "grad_accum_steps", "clip_grad", "freeze_bn", "sync_bn",
    "clamp_output",
)  # fmt: skip
IMAGE_LOSS_KEYS = ("pixel_opt", "laplacian_opt", "ssim_opt", "lab_opt", "perceptual_opt")
"""The usual ones; further ``NAME_opt`` are losses too, see ``image_loss_sections``."""
TRAIN_KEYS: dict[str, tuple[str, ...]] = {
    "KTDNModel": (
        *IMAGE_LOSS_KEYS, "transfer_opt", "features_g", "features_t", "teacher_min_psnr",
        *STEP_KEYS,
    ),
    "KTDNTeacherModel": (*IMAGE_LOSS_KEYS, *STEP_KEYS),
    "SRModel": ("pixel_opt", "perceptual_opt"),
}  # fmt: skip
MODEL_OF_STAGE = {"student": "KTDNModel", "teacher": "KTDNTeacherModel"}

MODULES = (
    lambda value: (
        isinstance(value, dict)
        and all(isinstance(one, str) for pair in value.items() for one in pair)
    ),
    "a section of 'feature: module' lines, such as mid: body.3; put numbers in quotes",
)

_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (
        lambda value: isinstance(value, str) and is_folder_name(value),
        "the name of a folder: no slashes, no dot in front, at most 150 characters",
    ),
    "model_type": TEXT,
    "scale": whole(1, 64),
    "num_gpu": (
        lambda value: value == "auto" or whole(0, 1024)[0](value),
        "auto, or a whole number, at least 0 and at most 1024",
    ),
    "manual_seed": (
        lambda value: whole(0)[0](value) and value < 2**32 - 10_000,
        "a whole number, at least 0 and below 2**32 - 10000",
    ),
    "datasets": SECTION,
    "path": SECTION,
    "train": SECTION,
    "val": SECTION,
    "logger": SECTION,
    "network_g": SECTION,
    "network_t": SECTION,
    "train.total_iter": whole(1, 10**12),
    "train.warmup_iter": whole(-1),
    "train.ema_decay": SHARE,
    "train.optim_g": SECTION,
    "train.scheduler": SECTION,
    **{f"train.{key}": SECTION for key in (*IMAGE_LOSS_KEYS, "transfer_opt")},
    "train.clamp_output": FLAG,
    "train.features_g": MODULES,
    "train.features_t": MODULES,
    "train.amp": (lambda value: value in ("off", "bf16", "fp16"), "off, bf16 or fp16"),
    "train.channels_last": FLAG,
    "train.compile": FLAG,
    "train.grad_accum_steps": whole(1, 2**16),
    "train.clip_grad": POSITIVE,
    "train.sync_bn": FLAG,
    "train.freeze_bn": (
        lambda value: isinstance(value, bool) or whole(0)[0](value),
        "true, false, or the iteration after which batch statistics are frozen",
    ),
    "train.teacher_min_psnr": POSITIVE,
    "dist_params": SECTION,
    "dist_params.timeout": POSITIVE,
    "val.best_metric": TEXT,
    "val.val_freq": whole(1),
    "val.save_img": FLAG,
    "val.pbar": FLAG,
    "val.suffix": (
        lambda value: isinstance(value, str) and is_folder_name(value),
        "a text without slashes (it ends the results' names)",
    ),
    "path.experiments_root": TEXT,
    "path.results_root": TEXT,
    "path.pretrain_network_g": TEXT,
    "path.pretrain_network_t": TEXT,
    "path.resume_state": TEXT,
    "logger.wandb": SECTION,
    "val.metrics": SECTION,
    "logger.print_freq": whole(1),
    "logger.save_checkpoint_freq": whole(1),
    "logger.keep_checkpoints": whole(1),
    "logger.use_tb_logger": FLAG,
}


def check_structure(opt: Options, is_train: bool) -> list[str]:
    """Checks sections, keys and types: what must hold before defaults can be filled in."""
    problems = keys_are_text(opt)
    if problems:
        return problems
    required = ["name", "model_type", "datasets", "network_g", *(["train"] if is_train else [])]
    problems = [f"{key}: missing" for key in required if opt.get(key) is None]
    if is_train and isinstance(opt.get("train"), dict):
        wanted = ["total_iter", "optim_g", "scheduler"]
        problems += [f"train.{key}: missing" for key in wanted if opt["train"].get(key) is None]
    problems += check_types(opt, _TYPES, "")
    # Other plugins' models read keys of their own, wherever they like.
    is_other = opt.get("model_type") not in (None, *TRAIN_KEYS)
    problems += unknown_keys(
        opt,
        [*TOP_KEYS, "network_g", "network_t"],
        "",
        allow=lambda key: key.startswith("network_"),
        only_mistyped=is_other,
    )
    for section, known in (
        ("val", VAL_KEYS),
        ("logger", LOGGER_KEYS),
        ("dist_params", DIST_KEYS),
    ):
        problems += unknown_keys(opt.get(section), known, f"{section}.", only_mistyped=is_other)
    problems += unknown_keys(
        opt.get("path"),
        [*PATH_KEYS, *(prefix + letter for prefix in PATH_PREFIXES for letter in "gt")],
        "path.",
        allow=lambda key: key.startswith((*PATH_PREFIXES, OLD_PATH_PREFIX)),
        only_mistyped=is_other,
    )
    problems += _check_old_keys(opt.get("path"))
    wandb = (opt.get("logger") or {}).get("wandb") if isinstance(opt.get("logger"), dict) else None
    if isinstance(wandb, dict) and wandb.get("project") and not opt["logger"].get("use_tb_logger"):
        problems.append("logger.wandb: needs logger.use_tb_logger: true, whose values it sends on")
    if is_train and isinstance(opt.get("path"), dict) and opt["path"].get("strict_load_t") is False:
        problems.append(
            "path.strict_load_t: a teacher that is loaded in part teaches nothing; leave it out"
        )
    if is_train and not is_other and opt.get("model_type"):
        problems += _unknown_train_keys(opt, opt["model_type"])
    problems += _check_best_metric(opt.get("val"))
    problems += _check_teacher_measured(opt) if is_train else []
    return problems + check_dataset_structure(opt.get("datasets"), is_train)


def check_model_options(opt: Options, stage: str) -> list[str]:
    """Checks what our models read under ``train``, in options that any loop has read.

    Args:
        opt: The options, numbers as numbers.
        stage: Whose keys they are: ``student`` or ``teacher``.

    Returns:
        One line for each problem. A model that is made from ours may have keys of its own.
    """
    types = {key: kind for key, kind in _TYPES.items() if key.startswith("train.")}
    if opt.get("train", {}).get("freeze_bn") == -1:  # what false is completed to
        del types["train.freeze_bn"]
    return check_types(opt, types, "") + _unknown_train_keys(opt, MODEL_OF_STAGE[stage])


def _unknown_train_keys(opt: Options, model: str) -> list[str]:
    train, known = opt.get("train"), (*COMMON_TRAIN_KEYS, *TRAIN_KEYS[model])
    if not isinstance(train, dict):
        return []
    is_ours = model in MODEL_OF_STAGE.values()
    losses = {key for key in train if is_ours and key.endswith("_opt") and key not in known}
    others = {key: value for key, value in train.items() if key not in losses}
    problems = unknown_keys(others, known, "train.", only_mistyped=opt["model_type"] != model)
    # A person's own losses may have any names, but for those that others have misspelt.
    problems += unknown_keys(dict.fromkeys(losses), known, "train.", only_mistyped=True)
    types = {key: SECTION for key in losses}
    return problems + check_types(train, types, "train.")


def _check_old_keys(path: Any) -> list[str]:
    """Names the keys whose checkpoints would not be loaded, whichever plugin the model is of."""
    return [
        f"path.{key}: BasicSR ignores this key of its first versions; did you mean "
        f"'{PATH_PREFIXES[0]}{key.removeprefix(OLD_PATH_PREFIX)}'?"
        for key in (path if isinstance(path, dict) else ())
        if key.startswith(OLD_PATH_PREFIX)
    ]


def _check_best_metric(val: Any) -> list[str]:
    metrics = val.get("metrics") if isinstance(val, dict) else None
    best = val.get("best_metric") if isinstance(val, dict) else None
    if not isinstance(best, str) or (isinstance(metrics, dict) and best in metrics):
        return []
    hint = did_you_mean(best, map(str, metrics)) if isinstance(metrics, dict) else ""
    return [f"val.best_metric: '{best}' is none of val.metrics{hint}"]


def _check_teacher_measured(opt: Options) -> list[str]:
    train, datasets = opt.get("train"), opt.get("datasets")
    if not isinstance(train, dict) or train.get("teacher_min_psnr") is None:
        return []
    sets = datasets.items() if isinstance(datasets, dict) and opt.get("val") is not None else ()
    if any(
        str(phase).startswith("val")
        and isinstance(dataset, dict)
        and dataset.get("type") != "SingleImageDataset"
        for phase, dataset in sets
    ):
        return []
    return [
        "train.teacher_min_psnr: there is no validation set with clear images to measure it on; "
        "add datasets.val and val, or leave it out"
    ]
