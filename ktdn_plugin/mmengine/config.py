"""Loads a config file, and applies the flags' changes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from ktdn_plugin.errors import KTDNError, did_you_mean

LONGEST = 300  # characters of a config's error message
RUNNER_KEYS = tuple(inspect.signature(Runner).parameters)
CONFIG_KEYS = (
    *RUNNER_KEYS, "model_wrapper_cfg", "sync_bn", "compile", "activation_checkpointing",
    "efficient_conv_bn_eval", "custom_imports", "find_unused_parameters",
)  # fmt: skip
"""Keys that a Runner looks for in its config: its own arguments, and more."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Loads an mmengine config file.

    Configs are Python or YAML files; Python ones are executed, as in mmengine.

    Args:
        path: The file.
        overrides: ``key.key=value``, with lists as ``[1,2]`` or ``1,2``.

    Returns:
        The config.

    Raises:
        KTDNError: If it cannot be read or run, or a change targets a section that does not exist.
    """
    if not Path(path).is_file():
        raise KTDNError(f"{path}: no such config file")
    try:
        cfg = Config.fromfile(str(path))
    except (Exception, SystemExit) as error:  # a config is a program and may raise anything
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
        except Exception as error:  # mmengine's merging hardly validates values
            reason = shorten(f"{type(error).__name__}: {error}", LONGEST, placeholder=" ...")
            text = shorten(text, LONGEST, placeholder=" ...")
            raise KTDNError(f"--cfg-options: '{text}' cannot be set ({reason})") from error
    return cfg


def _check_path(cfg: Config, key: str) -> None:
    """Refuses a key whose section mmengine would create, to no effect.

    Errors deeper inside are found when the config is checked.
    """
    section, *inner = key.split(".")
    known = (*cfg, *CONFIG_KEYS)
    if section not in known:
        raise KTDNError(
            f"--cfg-options: {key}: there is no section '{section}'{did_you_mean(section, known)}"
        )
    given = cfg.get(section)
    if isinstance(given, (list, tuple)) and inner and inner[0] not in map(str, range(len(given))):
        raise KTDNError(
            f"--cfg-options: {key}: '{section}' is a list of {len(given)}; number its parts from 0"
        )
