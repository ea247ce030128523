"""Options files: loaded safely, completed with defaults, paths filled in.

The layout is BasicSR's own; so are the flags that change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ktdn_plugin.basicsr.check_dataset_structure import KNOWN_DATASETS
from ktdn_plugin.errors import KTDNError, OptionsError, did_you_mean
from ktdn_plugin.text_files import EXPONENT, LARGEST_YAML, parse_yaml, read_text

Options = dict[str, Any]


def with_numbers(value: Any) -> Any:
    """Returns an option's value, with what another YAML loader left as the text ``1e-4`` a number.

    Args:
        value: The value; sections and lists are changed in place.
    """
    if isinstance(value, str) and EXPONENT.match(value):
        return float(value)
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            value[key] = with_numbers(value[key])
    return value


def load_options(path: str | Path) -> Options:
    """Loads an options file.

    Raises:
        KTDNError: If it cannot be read, is no YAML mapping, or wants Python objects built.
    """
    return parse_options(read_text(path, LARGEST_YAML), str(path))


def parse_options(text: str, source: str) -> Options:
    """Parses an options file's text.

    Args:
        text: The text.
        source: The file, for messages.

    Raises:
        KTDNError: If it is no YAML mapping, or wants Python objects built.
    """
    content = parse_yaml(text, source)
    if not isinstance(content, dict):
        raise KTDNError(f"{source}: not an options file (no 'key: value' lines)")
    return content


def apply_overrides(opt: Options, entries: Sequence[str]) -> None:
    """Sets options from ``--force_yml a:b=value`` entries, values read as YAML.

    Raises:
        KTDNError: If an entry has no ``=``, leads through a key that is not there, or its value
            is not YAML.
    """
    for entry in entries:
        keys, equals, value = entry.partition("=")
        *folders, last = (key.strip() for key in keys.split(":"))
        if not equals or not last:
            raise KTDNError(f"--force_yml {entry}: write it as key:key=value")
        target = opt
        for folder in folders:
            if folder in target and target[folder] is None:
                target[folder] = {}  # 'val: ~' is an empty section
            if not isinstance(target.get(folder), dict):
                raise KTDNError(
                    f"--force_yml {entry}: the options have no section '{folder}'"
                    f"{did_you_mean(folder, map(str, target))}"
                )
            target = target[folder]
        target[last] = parse_yaml(value, f"--force_yml {entry[:200]}")


WHOLE_NUMBERS = (
    "manual_seed", "train.total_iter", "train.warmup_iter", "val.val_freq", "logger.print_freq",
    "logger.save_checkpoint_freq",
)  # fmt: skip
STEP_MODELS = ("KTDNModel", "KTDNTeacherModel")
"""The models whose training step has switches: mixed precision, frozen batch norm, ..."""


STOCK_MODELS = ("SRModel", *STEP_MODELS)
DEFAULTED = (
    "name", "io_backend", "use_hflip", "use_rot", "num_worker_per_gpu", "save_img", "suffix",
)  # fmt: skip
"""Keys of any plugin's sections that are filled in where they are missing."""


def normalize(opt: Options) -> None:
    """Brings what BasicSR's own options files write in several ways to one, in place.

    A key without a value (``~``) is one that is not given; 5e3 is a whole number where one is
    wanted.
    """
    datasets = opt.get("datasets")
    sections = [opt, *(opt.get(key) for key in ("train", "val", "logger", "path", "datasets"))]
    sections += list(datasets.values()) if isinstance(datasets, dict) else []
    others = _sections_of_others(opt)
    for section in sections:
        if isinstance(section, dict):
            # What others read may have to be there, if without a value.
            kept = id(section) in others
            for key in [key for key, value in section.items() if value is None]:
                if key in DEFAULTED or not kept:
                    del section[key]
    for path in WHOLE_NUMBERS:
        *folders, last = path.split(".")
        section = opt.get(folders[0]) if folders else opt
        value = section.get(last) if isinstance(section, dict) else None
        if isinstance(value, float) and value.is_integer():
            section[last] = int(value)  # type: ignore[index]
    train = opt.get("train")
    if isinstance(train, dict) and train.get("amp") is False:
        train["amp"] = "off"  # which YAML 1.1 reads as false


def _sections_of_others(opt: Options) -> set[int]:
    """Returns the identities of the sections that other plugins' models and datasets read."""
    found = [] if opt.get("model_type") in STOCK_MODELS else [opt.get("train"), opt.get("val")]
    datasets = opt.get("datasets")
    for dataset in datasets.values() if isinstance(datasets, dict) else ():
        if isinstance(dataset, dict) and str(dataset.get("type")) not in KNOWN_DATASETS:
            found.append(dataset)
    return {id(section) for section in found}


def set_defaults(opt: Options) -> None:
    """Fills in what BasicSR reads without asking whether it is there, in place.

    Sections must be mappings already, see :func:`ktdn_plugin.basicsr.check.check_structure`.
    """
    import torch

    if opt.setdefault("num_gpu", "auto") == "auto":
        opt["num_gpu"] = torch.cuda.device_count()
    opt.setdefault("logger", {})
    opt["logger"].setdefault("print_freq", 100)
    opt["logger"].setdefault("save_checkpoint_freq", 5000)
    opt["logger"].setdefault("use_tb_logger", False)
    _set_model_defaults(opt, opt["model_type"] in STEP_MODELS)
    for phase, dataset in opt["datasets"].items():
        dataset["phase"] = phase.split("_")[0]
        dataset["scale"] = opt["scale"]
        dataset.setdefault("name", phase)
        dataset.setdefault("io_backend", {"type": "disk"})
        for key in ("dataroot_gt", "dataroot_lq", "dataroot_depth", "meta_info_file"):
            if dataset.get(key):
                dataset[key] = _expanded(dataset[key], f"datasets.{phase}.{key}")
        if dataset["phase"] == "train":
            dataset.setdefault("use_hflip", True)
            dataset.setdefault("use_rot", True)
            dataset.setdefault("num_worker_per_gpu", 4)
    for key, value in opt["path"].items():
        if isinstance(value, str) and not key.startswith("param_key"):
            opt["path"][key] = _expanded(value, f"path.{key}")


IMAGE_LOSSES = {"pixel_opt": "l_rec", "laplacian_opt": "l_lap"}
"""Sections under ``train`` whose losses have names of their own in the log."""


def image_loss_sections(train: Options) -> dict[str, str]:
    """Returns the sections of losses that compare images, by their losses' names in the log.

    Every ``NAME_opt`` is one but ``transfer_opt``, which compares features; a section that is left
    out, or empty, switches its loss off. They are in the same order on both toolboxes' sides,
    whatever the file's: in it gradients are added up.
    """
    others = sorted(key for key in train if key.endswith("_opt") and key not in IMAGE_LOSSES)
    return {
        IMAGE_LOSSES.get(key, f"l_{key.removesuffix('_opt')}"): key
        for key in (*IMAGE_LOSSES, *others)
        if train.get(key) and key != "transfer_opt"
    }


def complete_model_options(opt: Options) -> None:
    """Completes options that another loop has read for one of our models, in place."""
    for key in [key for key in opt if key in ("train", "val") or key.startswith("network_")]:
        opt[key] = with_numbers(opt[key])
    normalize(opt)
    _set_model_defaults(opt, has_step=True)
    skip_needless_downloads(opt)


def _set_model_defaults(opt: Options, has_step: bool) -> None:
    opt.setdefault("scale", 1)
    opt.setdefault("path", {})
    if opt.get("val") is not None:
        opt["val"].setdefault("save_img", False)
        opt["val"].setdefault("suffix", None)
    if opt.get("train") and has_step:
        _set_step_defaults(opt["train"])
    if opt.get("train", {}).get("transfer_opt"):
        # Teacher and student have one architecture unless the options say otherwise.
        if "network_t" not in opt and opt["train"].get("features_g"):
            opt["train"].setdefault("features_t", dict(opt["train"]["features_g"]))
        opt.setdefault("network_t", dict(opt["network_g"]))


def _expanded(path: Any, where: str) -> Any:
    """Returns a path with the home folder that its ``~`` stands for; what is no text stays."""
    try:
        return str(Path(path).expanduser()) if isinstance(path, str) else path
    except RuntimeError as error:
        raise KTDNError(f"{where}: {path}: there is no such home folder") from error


def _set_step_defaults(train: Options) -> None:
    train.setdefault("amp", "off")
    train.setdefault("channels_last", False)
    train.setdefault("compile", False)
    train.setdefault("grad_accum_steps", 1)
    train.setdefault("clamp_output", False)
    # One GPU's batch is the recipe's; several processes make the same one together.
    train.setdefault("sync_bn", True)
    # The recipe's (SRKTDN, NTIRE 2021): batch statistics are frozen for the last three quarters.
    frozen = train.setdefault("freeze_bn", max(train["total_iter"] // 4, 1))
    if isinstance(frozen, bool):
        train["freeze_bn"] = 0 if frozen else -1


def skip_needless_downloads(opt: Options) -> None:
    """Switches ``pretrained`` off where a checkpoint is loaded over it anyway, in place."""
    for key, network in opt.items():
        loaded = key.startswith("network_") and opt["path"].get(f"pretrain_{key}")
        if loaded and network.get("pretrained"):
            network["pretrained"] = False


def set_folders(opt: Options, root: Path, is_train: bool) -> None:
    """Fills in where a run writes, below ``experiments/`` or ``results/`` of ``root``, in place."""
    path = opt["path"]
    if is_train:
        base = Path(path.get("experiments_root") or root / "experiments" / opt["name"])
        path["experiments_root"] = str(base)
        path["models"] = str(base / "models")
        path["training_states"] = str(base / "training_states")
    else:
        base = Path(path.get("results_root") or root / "results" / opt["name"])
        path["results_root"] = str(base)
    path["log"] = str(base)
    path["visualization"] = str(base / "visualization")


def set_debug(opt: Options) -> None:
    """Turns a run into BasicSR's debug run: own name, everything every few iterations; in place."""
    if not opt["name"].startswith("debug"):
        opt["name"] = f"debug_{opt['name']}"
    if opt.get("val") is not None:
        opt["val"]["val_freq"] = 8
    opt["logger"]["print_freq"] = 1
    opt["logger"]["save_checkpoint_freq"] = 8


def raise_problems(source: str, problems: Sequence[str]) -> None:
    """Raises all problems of an options file at once, if there are any."""
    if problems:
        raise OptionsError(source, problems)
