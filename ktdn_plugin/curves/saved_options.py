"""Which images a run has validated or tested on, as its folder tells: log, options file, config."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.text_files import LARGEST_YAML, parse_yaml, read_text

# Options that name files and folders.
PATHS = ("dataroot_gt", "dataroot_lq", "meta_info_file", "dataroot_depth")
_LOADERS = ("val_dataloader", "test_dataloader")


class SavedSet(NamedTuple):
    """One of a run's validation or test sets.

    Attributes:
        name: The set's name; empty where it has none.
        options: The dataset's options, paths as they are to be found from here.
    """

    name: str
    options: dict[str, Any]


def saved_sets(folder: Path) -> list[SavedSet]:
    """Reads the sets that a run's folder names; empty where it names none that can be read.

    A log comes first: it has the options as they were after ``--force_yml``.
    """
    root = folder.resolve().parent.parent
    for options in (*_of_logs(folder), *_of_options_files(folder)):
        sets = [
            SavedSet(str(opt.get("name", phase)), _found(opt, str(options.get("root_path")), root))
            for phase, opt in _section(options, "datasets").items()
            if str(phase).split("_")[0] != "train" and isinstance(opt, dict)
        ]
        if sets:
            return sets
    for config in _of_configs(folder):
        datasets = [_section(_section(config, key), "dataset") for key in _LOADERS]
        # Both loaders mostly have the same images.
        distinct = [one for n, one in enumerate(datasets) if one and one not in datasets[:n]]
        if distinct:
            return [SavedSet("", _found(one, str(root), root)) for one in distinct]
    return []


def _section(options: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = options.get(key)
    return value if isinstance(value, dict) else {}


def _found(options: Mapping[str, Any], *roots: str | Path) -> dict[str, Any]:
    """Names files from where the run was started: there, or where its folder has been moved to."""
    found = dict(options)
    for key in PATHS:
        value = options.get(key)
        places = [Path(root) / str(value) for root in roots if Path(root).is_absolute()]
        if value:
            found[key] = str(next((place for place in places if place.exists()), value))
    return found


def _newest(folder: Path, pattern: str) -> list[Path]:
    files = [file for file in folder.glob(pattern) if file.is_file()]
    return sorted(files, key=lambda file: (file.stat().st_mtime, file.name), reverse=True)


def _of_logs(folder: Path) -> Iterator[dict[str, Any]]:
    for file in [*_newest(folder, "test_*.log"), *_newest(folder, "train_*.log")]:
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield _parse_log(lines)


def _parse_log(lines: Iterator[str]) -> dict[str, Any]:
    """Reads options as BasicSR logs them: ``key: value`` lines, ``key:[`` to ``]`` for sections."""
    options: dict[str, Any] = {}
    stack = [options]
    for line in lines:
        text = line.strip()
        section = re.fullmatch(r"([^\s:]+):\[", text)
        entry = re.fullmatch(r"([^\s:]+): (.*)", text)
        if section:
            stack.append(stack[-1].setdefault(section[1], {}))
        elif text == "]" and len(stack) > 1:
            stack.pop()
        elif entry and line.startswith("  "):
            stack[-1][entry[1]] = _value(entry[2])
        elif options and not text:
            break  # the options end here, and the run begins
    return options


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _of_options_files(folder: Path) -> Iterator[dict[str, Any]]:
    for file in [*_newest(folder, "*.yml"), *_newest(folder, "*.yaml")]:
        try:
            options = parse_yaml(read_text(file, LARGEST_YAML), str(file))
        except KTDNError:
            continue
        if isinstance(options, dict):
            yield options


def _of_configs(folder: Path) -> Iterator[dict[str, Any]]:
    for file in [*_newest(folder, "*/vis_data/config.py"), *_newest(folder, "*.py")]:
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue
        yield {
            node.targets[0].id: _literal(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }


def _literal(node: ast.expr) -> Any:
    """Reads a value without running anything; what is neither literal nor ``dict(...)`` is None."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {one.arg: _literal(one.value) for one in node.keywords if one.arg}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_literal(key): _literal(value) for key, value in pairs if key is not None}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(one) for one in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return None
