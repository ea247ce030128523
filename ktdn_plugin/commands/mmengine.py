"""``ktdn mmengine``: train and test with mmengine configs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ktdn_plugin.commands.flags import CfgOptions, Launcher, valued

Config = Annotated[Path, Parameter(name="CONFIG")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ConfigFlags:
    """What both stages take.

    Attributes:
        work_dir: Folder to write to.
    """

    work_dir: Annotated[
        Path | None, Parameter(show_default="the config's, or work_dirs/CONFIG")
    ] = None
    cfg_options: CfgOptions = ()
    launcher: Launcher = "none"


FLAGS = ConfigFlags()


def train(
    config: Config,
    /,
    *,
    resume: Annotated[Sequence[str] | None, valued("[CHECKPOINT]", consume_multiple=(0, 1))] = None,
    flags: ConfigFlags = FLAGS,
) -> None:
    """Train a network from an mmengine config.

    Args:
        config: The config file.
        resume: Resume from the work directory's newest whole checkpoint, or from this one.
    """
    from ktdn_plugin.mmengine.run import train_pipeline

    train_pipeline(config, resume=resume, **vars(flags))


def measure(
    config: Config,
    checkpoint: Annotated[Path, Parameter(name="CHECKPOINT")],
    /,
    *,
    flags: ConfigFlags = FLAGS,
) -> None:
    """Measure a checkpoint with an mmengine config, and save its results.

    Args:
        config: The config file.
        checkpoint: A checkpoint of either toolbox.
    """
    from ktdn_plugin.mmengine.run import test_pipeline

    test_pipeline(config, checkpoint, **vars(flags))
