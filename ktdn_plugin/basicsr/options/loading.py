"""Options files: loaded safely, completed with defaults, paths filled in.

The layout is BasicSR's own; so are the flags that change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.errors import KTDNError, OptionsError, did_you_mean
from ktdn_plugin.text_files import EXPONENT, LARGEST_YAML, parse_yaml, read_text

if TYPE_CHECKING:
    from ktdn_plugin.basicsr.options.schema import Section


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


def load_checked(path: str | Path, is_train: bool) -> Options:
    """Loads an options file, checked by itself and completed.

    Raises:
        KTDNError: If it cannot be read, or one line for each problem.
    """
    opt = load_options(path)
    check_and_complete(opt, str(path), is_train)
    return opt


def check_and_complete(opt: Options, source: str, is_train: bool) -> None:
    """Checks options by themselves and completes them, in place.

    Args:
        opt: The options.
        source: The file, for messages.
        is_train: Whether it is to train by or to test by.

    Raises:
        OptionsError: One line for each problem.
    """
    # Imported late: pydantic is loaded where options are read, nowhere else.
    from ktdn_plugin.basicsr.options.checking import check

    section, problems = check(opt, is_train)
    raise_problems(source, problems)
    assert section is not None
    try:
        complete(opt, section)
    except KTDNError as error:
        raise OptionsError(source, [str(error)]) from error


def load_options(path: str | Path) -> Options:
    """Loads an options file.

    Raises:
        KTDNError: If it cannot be read, is not YAML mapping, or asks for Python objects.
    """
    return parse_options(read_text(path, LARGEST_YAML), str(path))


def parse_options(text: str, source: str) -> Options:
    """Parses the text of an options file.

    Args:
        text: The text.
        source: The file, for messages.

    Raises:
        KTDNError: If it is not YAML mapping, or asks for Python objects.
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


def complete(opt: Options, section: Section) -> None:
    """Fills in the defaults, in place, and normalizes what can be written in several ways.

    A key without a value (``~``) is one that is not given; what other plugins read stays without.

    Args:
        opt: The file's content.
        section: What the schema has made of it, see
            :func:`ktdn_plugin.basicsr.options.checking.check`.
    """
    import torch

    model = opt["model_type"]
    _write(section, opt, model, is_training=True)
    if opt["num_gpu"] == "auto":
        opt["num_gpu"] = torch.cuda.device_count()
    for phase, dataset in opt["datasets"].items():
        dataset["phase"] = phase.split("_")[0]
        dataset["scale"] = opt["scale"]
        dataset.setdefault("name", phase)
        for key in ("dataroot_gt", "dataroot_lq", "dataroot_depth", "meta_info_file"):
            if dataset.get(key):
                dataset[key] = _expanded(dataset[key], f"datasets.{phase}.{key}")
    for key, value in opt["path"].items():
        if isinstance(value, str) and not key.startswith("param_key"):
            opt["path"][key] = _expanded(value, f"path.{key}")
    _complete_teacher(opt)


def _write(section: Section, values: Options, model: str, is_training: bool) -> None:
    """Writes what the schema has made of a section back to it."""
    from ktdn_plugin.basicsr.options import schema

    kind = section.kind(values, model)
    is_known = kind in (*schema.STOCK_MODELS, *schema.KNOWN_DATASETS)
    # What others read may have to be there, if without a value.
    is_theirs = not is_known and isinstance(section, (schema.Train, schema.Val, schema.Dataset))
    for name in [name for name in values if section.takes_more(name, kind)]:
        if values[name] is None:
            del values[name]
    for name, field in section.fields(kind).items():
        value = getattr(section, name)
        if isinstance(value, dict) and schema.section_of(field):
            for each in list(values[name]):
                if each in value:
                    _write(value[each], values[name][each], model, each == "train")
                else:
                    del values[name][each]
        elif isinstance(value, schema.Section):
            values[name] = values.get(name) or {}
            _write(value, values[name], model, is_training)
        elif isinstance(value, list):
            pass  # as it was written: there is one way, and no default
        elif value is None:
            if not is_theirs:
                values.pop(name, None)
        elif is_training or name in section.model_fields_set or not schema.is_of_training(field):
            values[name] = value


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


def complete_model_options(opt: Options, model: str) -> None:
    """Checks and completes options that another loop has read for one of our models, in place.

    Args:
        opt: The options; their own model may be made from ours, and have keys of its own.
        model: The model of ours.

    Raises:
        OptionsError: If something is wrong with what our models read.
    """
    from ktdn_plugin.basicsr.options import checking, schema

    opt.setdefault("path", {})
    opt.setdefault("scale", schema.OptionsFile.model_fields["scale"].default)
    problems = []
    for name, section in (("train", schema.Train), ("val", schema.Val), ("path", schema.Paths)):
        if opt.get(name) is None:
            continue
        opt[name] = with_numbers(opt[name])
        found, wrong = checking.check_section(section, opt[name], model, f"{name}.")
        if name == "train":
            is_made_from_ours = opt["model_type"] != model
            wrong += checking.unknown_keys(
                opt[name], model, is_made_from_ours, schema.Train, "train."
            )
        problems += wrong
        if found is not None:
            _write(found, opt[name], model, is_training=True)
    raise_problems(f"options of '{opt['name']}'", problems)
    for key in [key for key in opt if key.startswith("network_")]:
        opt[key] = with_numbers(opt[key])
    _complete_teacher(opt)
    skip_needless_downloads(opt)


def _complete_teacher(opt: Options) -> None:
    """Lets teacher and student have one architecture unless the options say otherwise."""
    if (opt.get("train") or {}).get("transfer_opt"):
        if "network_t" not in opt and opt["train"].get("features_g"):
            opt["train"].setdefault("features_t", dict(opt["train"]["features_g"]))
        opt.setdefault("network_t", dict(opt["network_g"]))


def _expanded(path: Any, where: str) -> Any:
    """Returns a path with the home folder that its ``~`` stands for; what is no text stays."""
    try:
        return str(Path(path).expanduser()) if isinstance(path, str) else path
    except RuntimeError as error:
        raise KTDNError(f"{where}: {path}: no such home folder") from error


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
