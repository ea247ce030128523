"""``train`` and ``test`` of both commands, with the flags of BasicSR's own scripts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

from cyclopts import Parameter

from ktdn_plugin.commands.flags import Debug, ForceYml, Launcher, OptionsFile


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BasicSRFlags:
    """What BasicSR's scripts take.

    Attributes:
        opt: Options file. YAML, as BasicSR's.
        auto_resume: Resume from the run's newest training state.
    """

    opt: OptionsFile
    launcher: Launcher = "none"
    auto_resume: Annotated[bool, Parameter(name="--auto_resume")] = False
    force_yml: ForceYml = ()
    debug: Debug = False


def train(flags: BasicSRFlags) -> None:
    """Train a network from an options file.

    --debug is BasicSR's debug run as well, which logs, saves and validates
    every few iterations.
    """
    from ktdn_plugin.basicsr.installation import require_basicsr

    require_basicsr()
    from ktdn_plugin.basicsr.train import train_pipeline

    train_pipeline(SimpleNamespace(**vars(flags)), Path.cwd())


def test(flags: BasicSRFlags) -> None:
    """Run a checkpoint over images, save and measure the results."""
    from ktdn_plugin.basicsr.installation import require_basicsr

    require_basicsr()
    from ktdn_plugin.basicsr.test import test_pipeline

    test_pipeline(SimpleNamespace(**vars(flags)), Path.cwd())
