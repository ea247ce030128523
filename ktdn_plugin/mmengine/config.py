"""Loads a config file, and changes it as flags say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from mmengine.config import Config, DictAction

from ktdn_plugin.errors import KTDNError, did_you_mean

LONGEST = 300  # letters of what is wrong with a config


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Loads a config file of mmengine's.

    Configs are Python or YAML files; Python ones are run, as mmengine does.

    Args:
        path: The file.
        overrides: ``key.key=value``, with lists as ``[1,2]`` or ``1,2``.

    Returns:
        The config.

    Raises:
        KTDNError: If it cannot be read or run, or a change goes to a section that is not there.
    """
    if not Path(path).is_file():
        raise KTDNError(f"{path}: no such config file")
    try:
        cfg = Config.fromfile(str(path))
    except (Exception, SystemExit) as error:  # a config is a program: anything at all
        message = shorten(str(error), LONGEST, placeholder=" ...")
        raise KTDNError(
            f"{path}: not a config that can be loaded ({type(error).__name__}: {message})"
        ) from error
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise KTDNError(f"--cfg-options: '{text}' is not of the form key.key=value")
        _check_path(cfg, key)
        try:
            cfg.merge_from_dict({key: DictAction._parse_iterable(value)})
        except (TypeError, KeyError, AssertionError, ValueError) as error:
            raise KTDNError(f"--cfg-options: '{text}' cannot be set ({error})") from error
    return cfg


def _check_path(cfg: Config, key: str) -> None:
    """A change of what is not there would be made, and have no effect."""
    node: Any = cfg
    *sections, _ = key.split(".")
    for number, section in enumerate(sections):
        if isinstance(node, (list, tuple)):
            if not section.isdigit() or int(section) >= len(node):
                raise KTDNError(
                    f"--cfg-options: {key}: '{'.'.join(sections[:number])}' is a list of "
                    f"{len(node)}; number its parts from 0"
                )
            node = node[int(section)]
            continue
        if not hasattr(node, "keys") or section not in node:
            known = list(node.keys()) if hasattr(node, "keys") else []
            raise KTDNError(
                f"--cfg-options: {key}: there is no section '{'.'.join(sections[: number + 1])}'"
                f"{did_you_mean(section, known)}"
            )
        node = node[section]
