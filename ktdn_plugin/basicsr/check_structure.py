"""Checks an options file's structure before anything starts: sections, keys, types.

Every check returns lines for people, so that all problems are shown at once. Models, datasets and
losses that are not known here (other plugins' too) are left to themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.errors import did_you_mean

TOP_KEYS = (
    "name", "model_type", "scale", "num_gpu", "manual_seed", "datasets", "path", "train", "val",
    "logger", "dist_params", "find_unused_parameters",
)  # fmt: skip
PATH_KEYS = ("resume_state", "ignore_resume_networks", "experiments_root", "results_root")
PATH_PREFIXES = ("pretrain_network_", "strict_load_", "param_key_")
VAL_KEYS = ("val_freq", "save_img", "suffix", "metrics", "pbar", "best_metric")
LOGGER_KEYS = (
    "print_freq", "save_checkpoint_freq", "keep_checkpoints", "use_tb_logger", "wandb",
)  # fmt: skip
DIST_KEYS = ("backend", "port", "timeout")
COMMON_TRAIN_KEYS = ("total_iter", "warmup_iter", "ema_decay", "optim_g", "scheduler")
STEP_KEYS = (
    "amp", "channels_last", "compile", "grad_accum_steps", "clip_grad", "freeze_bn", "sync_bn",
)  # fmt: skip
TRAIN_KEYS: dict[str, tuple[str, ...]] = {
    "KTDNModel": (
        "pixel_opt", "laplacian_opt", "transfer_opt", "teacher_min_psnr", *STEP_KEYS,
    ),
    "KTDNTeacherModel": ("pixel_opt", "laplacian_opt", *STEP_KEYS),
    "SRModel": ("pixel_opt", "perceptual_opt"),
}  # fmt: skip
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


def is_folder_name(value: str) -> bool:
    """Tells whether a text can name a folder without leading anywhere else."""
    return 0 < len(value) <= 150 and value[0] != "." and not set(value) & set("/\\\0")


_FLAG = (lambda value: isinstance(value, bool)), "true or false"
_TEXT = (lambda value: isinstance(value, str) and bool(value)), "a text"
SECTION = (lambda value: isinstance(value, dict)), "a section of 'key: value' lines"
_POSITIVE = (
    lambda value: (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")
    ),
    "a number above 0",
)
_SHARE = (
    (lambda value: isinstance(value, (int, float)) and 0 <= value < 1),
    "a number from 0 to below 1",
)

_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (
        lambda value: isinstance(value, str) and is_folder_name(value),
        "the name of a folder: no slashes, no dot in front, at most 150 characters",
    ),
    "model_type": _TEXT,
    "scale": _whole(1),
    "num_gpu": (
        lambda value: value == "auto" or _whole(0)[0](value),
        "auto, or a whole number, at least 0",
    ),
    "manual_seed": (
        lambda value: _whole(0)[0](value) and value < 2**32 - 10_000,
        "a whole number, at least 0 and below 2**32 - 10000",
    ),
    "datasets": SECTION,
    "path": SECTION,
    "train": SECTION,
    "val": SECTION,
    "logger": SECTION,
    "network_g": SECTION,
    "network_t": SECTION,
    "train.total_iter": _whole(1),
    "train.warmup_iter": _whole(-1),
    "train.ema_decay": _SHARE,
    "train.optim_g": SECTION,
    "train.scheduler": SECTION,
    "train.pixel_opt": SECTION,
    "train.laplacian_opt": SECTION,
    "train.transfer_opt": SECTION,
    "train.amp": (lambda value: value in ("off", "bf16", "fp16"), "off, bf16 or fp16"),
    "train.channels_last": _FLAG,
    "train.compile": _FLAG,
    "train.grad_accum_steps": _whole(1),
    "train.clip_grad": _POSITIVE,
    "train.sync_bn": _FLAG,
    "train.freeze_bn": (
        lambda value: isinstance(value, bool) or _whole(0)[0](value),
        "true, false, or the iteration after which batch statistics are frozen",
    ),
    "train.teacher_min_psnr": _POSITIVE,
    "dist_params": SECTION,
    "dist_params.timeout": _POSITIVE,
    "val.best_metric": _TEXT,
    "val.val_freq": _whole(1),
    "val.save_img": _FLAG,
    "val.pbar": _FLAG,
    "val.suffix": (
        lambda value: isinstance(value, str) and is_folder_name(value),
        "a text without slashes (it ends the results' names)",
    ),
    "path.experiments_root": _TEXT,
    "path.results_root": _TEXT,
    "path.pretrain_network_g": _TEXT,
    "path.pretrain_network_t": _TEXT,
    "path.resume_state": _TEXT,
    "logger.wandb": SECTION,
    "val.metrics": SECTION,
    "logger.print_freq": _whole(1),
    "logger.save_checkpoint_freq": _whole(1),
    "logger.keep_checkpoints": _whole(1),
    "logger.use_tb_logger": _FLAG,
}
_DATASET_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (
        lambda value: isinstance(value, str) and is_folder_name(value),
        "the name of a folder: no slashes, no dot in front, at most 150 characters",
    ),
    "type": _TEXT,
    "meta_info_file": _TEXT,
    "filename_tmpl": _TEXT,
    "dataroot_gt": _TEXT,
    "dataroot_lq": _TEXT,
    "io_backend": SECTION,
    "gt_size": (
        lambda value: _whole(1)[0](value) and value <= 2**14,
        "a whole number from 1 to 16384",
    ),
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
    problems += unknown_keys(
        opt, [*TOP_KEYS, "network_g", "network_t"], "", allow=lambda key: key.startswith("network_")
    )
    for section, known in (
        ("val", VAL_KEYS),
        ("logger", LOGGER_KEYS),
        ("dist_params", DIST_KEYS),
    ):
        problems += unknown_keys(opt.get(section), known, f"{section}.")
    problems += unknown_keys(
        opt.get("path"),
        [*PATH_KEYS, *(prefix + letter for prefix in PATH_PREFIXES for letter in "gt")],
        "path.",
        allow=lambda key: key.startswith(PATH_PREFIXES),
    )
    wandb = (opt.get("logger") or {}).get("wandb") if isinstance(opt.get("logger"), dict) else None
    if isinstance(wandb, dict) and wandb.get("project") and not opt["logger"].get("use_tb_logger"):
        problems.append("logger.wandb: needs logger.use_tb_logger: true, whose values it sends on")
    if is_train and isinstance(opt.get("path"), dict) and opt["path"].get("strict_load_t") is False:
        problems.append(
            "path.strict_load_t: a teacher that is loaded in part teaches nothing; leave it out"
        )
    if opt.get("model_type") in TRAIN_KEYS and is_train:
        train_keys = (*COMMON_TRAIN_KEYS, *TRAIN_KEYS[opt["model_type"]])
        problems += unknown_keys(opt.get("train"), train_keys, "train.")
    problems += _check_best_metric(opt.get("val"))
    problems += _check_teacher_measured(opt) if is_train else []
    return problems + _check_dataset_structure(opt.get("datasets"), is_train)


def _check_best_metric(val: Any) -> list[str]:
    metrics = val.get("metrics") if isinstance(val, dict) else None
    best = val.get("best_metric") if isinstance(val, dict) else None
    if best is None or (isinstance(metrics, dict) and best in metrics):
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


def _check_dataset_structure(datasets: Any, is_train: bool) -> list[str]:
    if not isinstance(datasets, dict):
        return []
    problems = []
    if is_train and "train" not in datasets:
        problems.append("datasets.train: missing")
    if not is_train and not any(str(phase) != "train" for phase in datasets):
        problems.append("datasets: nothing to test; give test, test_2, ...")
    names = [d.get("name", phase) for phase, d in datasets.items() if isinstance(d, dict)]
    for name in {str(name) for name in names if names.count(name) > 1}:
        problems.append(f"datasets: two are named '{name}'; their results would share a folder")
    for phase, dataset in datasets.items():
        where = f"datasets.{phase}"
        if str(phase).split("_")[0] not in ("train", "val", "test"):
            problems.append(
                f"{where}: unknown phase{did_you_mean(phase, ('train', 'val', 'test'))} "
                "(train, val, val_2, test, ...)"
            )
        if not isinstance(dataset, dict):
            problems.append(f"{where}: must be {SECTION[1]}")
            continue
        problems += _check_types(dataset, _DATASET_TYPES, f"{where}.")
        kind = dataset.get("type")
        if kind is None:
            problems.append(f"{where}.type: missing")
        required = ["batch_size_per_gpu"] if phase == "train" else []
        backend = dataset.get("io_backend")
        if kind in KNOWN_DATASETS and isinstance(backend, dict):
            problems += _check_backend(dataset, backend, where)
        if phase == "train" and kind == "SingleImageDataset":
            problems.append(f"{where}.type: SingleImageDataset has no clear images to learn from")
        if kind in KNOWN_DATASETS:
            problems += unknown_keys(dataset, KNOWN_DATASETS[kind], f"{where}.")
            required += [*ROOTS[kind], *(["gt_size"] if phase == "train" else [])]
        problems += [f"{where}.{key}: missing" for key in required if dataset.get(key) is None]
        if dataset.get("prefetch_mode") not in (None, "cuda"):
            problems.append(
                f"{where}.prefetch_mode: '{dataset['prefetch_mode']}' waits for ever when a file "
                "cannot be read; leave it out (workers read ahead anyway), or use cuda"
            )
    return problems


def _check_backend(dataset: dict[str, Any], backend: dict[str, Any], where: str) -> list[str]:
    known = ("disk", "lmdb")
    kind = backend.get("type")
    if kind not in known:
        hint = did_you_mean(kind, known)
        return [f"{where}.io_backend.type: {kind!r} must be disk or lmdb{hint}"]
    problems = unknown_keys(backend, ("type",), f"{where}.io_backend.")
    if kind == "lmdb" and dataset.get("meta_info_file") and dataset["type"] != "ClearImageDataset":
        problems.append(
            f"{where}.meta_info_file: {dataset['type']} reads every image of an LMDB, whatever "
            "the file names; make an LMDB of the split alone"
        )
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


def unknown_keys(
    section: Any,
    known: Collection[str],
    where: str,
    allow: Callable[[str], bool] = lambda key: False,
) -> list[str]:
    """Names the keys of a section that are not known, with suggestions.

    Args:
        section: The section; anything but a mapping has no keys.
        known: The keys there are.
        where: The section's own place, with a dot behind it.
        allow: Accepts further keys.
    """
    if not isinstance(section, dict):
        return []
    return [
        f"{where}{key}: unknown key{did_you_mean(key, known)}"
        for key in section
        if key not in known and not allow(str(key))
    ]
