"""``ktdn demo``: train and dehaze on embedded photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from ktdn_plugin.commands.flags import OUTPUT, CfgOptions, ForceYml, Whole


def demo(
    *,
    output: Annotated[Path, OUTPUT] = Path("demo"),
    seed: Whole = 0,
    toolbox: Literal["basicsr", "mmengine"] | None = None,
    force_yml: ForceYml = (),
    cfg_options: CfgOptions = (),
) -> None:
    """Train teacher and student on embedded photographs, and show the result.

    --force_yml and --cfg-options change both training stages.

    Args:
        output: Where to write. A folder.
        seed: Seed of the random numbers.
        toolbox: Toolbox to train with. By default BasicSR where it is installed, else mmengine.
    """
    if toolbox == "basicsr":
        from ktdn_plugin.basicsr.installation import require_basicsr

        require_basicsr()
    from ktdn_plugin.demo import run_demo

    run_demo(output, seed, toolbox, force_yml=force_yml, cfg_options=cfg_options)
