"""What is wrong with an options file by itself, before anything is looked up or opened.

:mod:`ktdn_plugin.basicsr.options.schema` says what a key may be; here its complaints become lines
for people, beside what must hold between keys.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import ValidationError

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.basicsr.options.schema import (
    HAZY_ALONE,
    KNOWN_DATASETS,
    ROOTS,
    STOCK_MODELS,
    WANTED,
    Dataset,
    OptionsFile,
    Section,
    Train,
    TypedSection,
    json_schema,
    walk,
)
from ktdn_plugin.errors import did_you_mean

SECTION = "a section of 'key: value' lines"
OLD_CHECKPOINT = "pretrain_model_"
"""Of the keys that BasicSR's first versions read, and today's passes over silently."""


def check(opt: Options, is_train: bool) -> tuple[Section | None, list[str]]:
    """Checks a file's sections, keys and values.

    Args:
        opt: The file's content.
        is_train: Whether it is to train by or to test by.

    Returns:
        The file as the schema has it, without the sections that are not read; None where something
        is wrong, and one line for each problem.
    """
    problems = keys_are_text(opt)
    if problems:
        return None, problems
    # Where nothing is trained, what is said of it does not matter.
    read = {name: value for name, value in opt.items() if is_train or name != "train"}
    model = str(opt.get("model_type"))
    section, problems = check_section(OptionsFile, read, model)
    if is_train and opt.get("train") is None:
        problems.append("train: missing; it sets how to train")
    is_other = opt.get("model_type") is not None and model not in STOCK_MODELS
    problems += unknown_keys(read, model, is_other)
    problems += [*_check_path(opt, is_train), *_check_val(opt, is_train)]
    if opt.get("datasets") is not None:  # else its absence has been reported
        problems += _check_datasets(_section(opt, "datasets"), is_train)
    return (None, problems) if problems else (section, [])


def check_section(
    section: type[Section], values: dict[str, Any], model: str, where: str = ""
) -> tuple[Section | None, list[str]]:
    """Checks the values of a section, and of those within it, by the schema.

    Args:
        section: The section's class.
        values: Its values.
        model: The run's ``model_type``.
        where: The section's place, with a dot behind it.
    """
    try:
        return section.model_validate(values, context={"model": model}), []
    except ValidationError as error:
        lines = [
            where + _line(section, values, problem["type"], problem["loc"])
            for problem in error.errors(include_url=False)
            # A default that follows from a key which is wrong itself.
            if problem["type"] != "default_factory_not_called"
        ]
    return None, list(dict.fromkeys(lines))  # each alternative of a type complains by itself


def _line(section: type[Section], values: Any, kind: str, loc: tuple[Any, ...]) -> str:
    """Returns the line that says what is wrong with a key, and what it has to be."""
    schema = json_schema()
    path: list[Any] = []
    node: Any = schema if section is OptionsFile else schema["$defs"][section.__name__]
    for part in loc:
        below = None if WANTED in node else _node_below(node, part, schema["$defs"])
        if below is None:  # what follows says which of a type's alternatives complains
            break
        path.append(part)
        node, values = below, values.get(part)
    name = ".".join(map(str, path))
    if kind == "missing":
        meaning = re.sub(r"(?<!\.)\.$", "", node["description"])
        return f"{name}: missing ({meaning[0].lower()}{meaning[1:]})"
    return f"{name}: {_shown(values)} must be {expected(node)}"


def _node_below(node: dict[str, Any], part: Any, definitions: dict[str, Any]) -> Any:
    """Returns what the JSON schema says of a section's key; None where it knows no keys."""
    for one in node.get("anyOf", [node]):
        inner = definitions[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
        if part in inner.get("properties", {}):
            return inner["properties"][part]
        for pattern, found in inner.get("patternProperties", {}).items():
            if re.search(pattern, str(part)):
                return found
        if isinstance(inner.get("additionalProperties"), dict):
            return inner["additionalProperties"]
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def expected(node: dict[str, Any]) -> str:
    """Describes in words the values that the JSON schema allows.

    Args:
        node: A key's part of the schema.
    """
    if WANTED in node:
        return str(node[WANTED])
    if "anyOf" in node:
        kinds = [expected(one) for one in node["anyOf"] if one.get("type") != "null"]
        return ", or ".join(kinds)
    if "const" in node:
        return str(node["const"])
    if "enum" in node:
        *names, last = map(str, node["enum"])
        return f"{', '.join(names)} or {last}"
    if node.get("type") in ("integer", "number"):
        limits = [
            f"{words} {node[limit]}"
            for limit, words in (
                ("minimum", "at least"),
                ("exclusiveMinimum", "above"),
                ("maximum", "at most"),
                ("exclusiveMaximum", "below"),
            )
            if limit in node
        ]
        number = "a whole number" if node["type"] == "integer" else "a number"
        comma = "," if limits and limits[0].startswith("at ") else ""
        return " ".join([number + comma, " and ".join(limits)]).rstrip()
    if node.get("type") == "array":
        return f"a list, each {expected(node['items'])}"
    return {"boolean": "true or false", "string": "a string"}.get(node.get("type", ""), SECTION)


def keys_are_text(section: Any, where: str = "", depth: int = 4) -> list[str]:
    """Names the keys that are no texts, of a section and those within it.

    Args:
        section: The section; anything but a mapping has no keys.
        where: The section's own place, with a dot behind it.
        depth: How far down; what lies deeper is the business of who reads it.
    """
    if not isinstance(section, dict) or not depth:
        return []
    problems = [
        f"{where}{key}: a key must be a string; quote it"
        for key in section
        if not isinstance(key, str)
    ]
    for key, value in section.items():
        problems += keys_are_text(value, f"{where}{key}.", depth - 1)
    return problems


def unknown_keys(
    values: dict[str, Any],
    model: str,
    only_mistyped: bool,
    section: type[Section] = OptionsFile,
    where: str = "",
) -> list[str]:
    """Names the keys that nobody reads, with suggestions.

    Args:
        values: The outermost section's values.
        model: The run's ``model_type``, or the one that it is made from.
        only_mistyped: Take a key for another plugin's unless it is nearly one of the known ones.
        section: The outermost section's class.
        where: Its place, with a dot behind it.
    """
    problems = []
    for place, one, content in walk(values, model, section, where):
        kind = one.kind(content, model)
        if issubclass(one, TypedSection) or (one is Dataset and kind not in KNOWN_DATASETS):
            continue
        if one is Train and model not in STOCK_MODELS:
            continue
        known = one.fields(kind)
        for key in [key for key, value in content.items() if value is not None]:
            is_authors = one.takes_more(key, kind) or key.startswith(OLD_CHECKPOINT)
            if key in known or (is_authors and one is not Train):
                continue
            # The user's own losses may have any names, but for those that others have misspelt.
            lenient = is_authors or (only_mistyped and one is not Dataset)
            if not lenient or _is_mistyped(key, known):
                problems.append(f"{place}{key}: unknown key{did_you_mean(key, known)}")
    return problems


def _is_mistyped(key: str, known: Collection[str]) -> bool:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    return bool(near) and not key.startswith(near[0])  # 'scale2' is a name of its own


def _section(opt: Options, *names: str) -> dict[str, Any]:
    """Returns a section, or an empty one where there is none."""
    value: Any = opt
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _check_path(opt: Options, is_train: bool) -> Iterator[str]:
    path = _section(opt, "path")
    for key in path:
        if key.startswith(OLD_CHECKPOINT):
            meant = key.replace("model", "network", 1)
            yield (
                f"path.{key}: BasicSR ignores this key, which only its first versions read; did "
                "you mean "
                f"'{meant}'?"
            )
    if is_train and path.get("strict_load_t") is False:
        yield "path.strict_load_t: a partly loaded teacher is useless; remove this key"


def _check_val(opt: Options, is_train: bool) -> Iterator[str]:
    logger, metrics = _section(opt, "logger"), _section(opt, "val", "metrics")
    if _section(logger, "wandb").get("project") and not logger.get("use_tb_logger"):
        yield "logger.wandb: needs logger.use_tb_logger: true"
    best = _section(opt, "val").get("best_metric")
    if isinstance(best, str) and best not in metrics:
        hint = did_you_mean(best, map(str, metrics))
        yield f"val.best_metric: '{best}' is not one of val.metrics{hint}"
    validated = opt.get("val") is not None and any(
        phase.startswith("val")
        and _section(opt, "datasets", phase).get("type") not in (None, HAZY_ALONE)
        for phase in _section(opt, "datasets")
    )
    if is_train and _section(opt, "train").get("teacher_min_psnr") is not None and not validated:
        yield (
            "train.teacher_min_psnr: there is no validation set with clear images to measure it "
            "on; add datasets.val and val, or leave it out"
        )


def _check_datasets(datasets: dict[str, Any], is_train: bool) -> Iterator[str]:
    sets = {phase: one for phase, one in datasets.items() if one is not None}
    if is_train and "train" not in sets:
        yield "datasets.train: missing"
    if not is_train and not any(phase != "train" for phase in sets):
        yield "datasets: nothing to test; add test, test_2, ..."
    names = [str(_section(sets, phase).get("name") or phase) for phase in sets]
    for name in {name for name in names if names.count(name) > 1}:
        yield f"datasets: two have the name '{name}'; their results would share a folder"
    for phase in sets:
        where = f"datasets.{phase}"
        if phase.split("_")[0] not in ("train", "val", "test"):
            hint = did_you_mean(phase, ("train", "val", "test"))
            yield f"{where}: unknown phase{hint} (train, val, val_2, test, ...)"
        dataset = {key: one for key, one in _section(sets, phase).items() if one is not None}
        required = _required(dataset.get("type"), phase == "train") if "type" in dataset else []
        for problem in _check_dataset(dataset, phase == "train"):
            yield f"{where}.{problem}"
        for key in required:
            if key not in dataset:
                yield f"{where}.{key}: missing"


def _required(kind: Any, is_train: bool) -> list[str]:
    required = ["batch_size_per_gpu"] if is_train else []
    if kind in KNOWN_DATASETS:
        required += [*ROOTS[kind], *(["gt_size"] if is_train else [])]
    return required


def _check_dataset(dataset: dict[str, Any], is_train: bool) -> Iterator[str]:
    kind, backend = dataset.get("type"), dataset.get("io_backend")
    if kind not in KNOWN_DATASETS:
        return
    if isinstance(backend, dict):
        name = backend.get("type")
        if name not in ("disk", "lmdb"):
            hint = did_you_mean(name, ("disk", "lmdb"))
            yield f"io_backend.type: {name!r} must be disk or lmdb{hint}"
        for key in backend:
            if key != "type":
                yield f"io_backend.{key}: unknown key{did_you_mean(key, ('type',))}"
    if is_train and kind == HAZY_ALONE:
        yield f"type: {HAZY_ALONE} has no clear images to train on"
    for key in dataset if not is_train else ():
        if key in ("on_error", "skip_at_most"):
            yield f"{key}: only training may skip images; metrics must cover all of them"
        if key in ("use_scale", "color_jitter"):
            yield f"{key}: only allowed in training; remove this key"
    if dataset.get("allow_incomplete") and "layout" not in dataset:
        yield "allow_incomplete: needs a layout, to know what is missing"
    if is_train and "skip_at_most" in dataset and dataset.get("on_error") != "skip":
        yield "skip_at_most: needs on_error: skip"
