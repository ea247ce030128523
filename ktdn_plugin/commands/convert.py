"""``ktdn convert``: write a checkpoint in another layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ktdn_plugin.commands.flags import Overwrite, valued


def convert(
    source: Annotated[Path, Parameter(name="SOURCE")],
    target: Annotated[Path, Parameter(name="DEST")],
    /,
    *,
    to: Annotated[
        str | None,
        valued("LAYOUT", show_default="safetensors or ktdn, by DEST's suffix"),
    ] = None,
    param_key: Annotated[
        str | None,
        valued("KEY", show_default="both where DEST has room, else params_ema"),
    ] = None,
    encoder: Annotated[str | None, valued("NAME", show_default="the checkpoint's")] = None,
    half: bool = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a checkpoint in another layout: ours, the published one, safetensors, mmengine's.

    Args:
        source: A checkpoint in any layout.
        target: The file to write.
        to: Layout to write: ktdn, published, safetensors or mmengine.
        param_key: Weights to write: params, as trained, or params_ema, averaged.
        encoder: Encoder, a timm backbone.
        half: Write convolutions in float16: half the size. Networks compute in float32 as before.
    """
    from ktdn_plugin.checkpoints.convert import convert as convert_checkpoint
    from ktdn_plugin.console import print_lines

    made = convert_checkpoint(
        source,
        target,
        to,
        param_key=param_key,
        encoder=encoder,
        half=half,
        overwrite=overwrite,
    )
    print_lines(
        f"{source} ({made.source}) -> {target} ({made.target}): KTDN with {made.encoder}, "
        f"{' and '.join(made.weights)}"
    )
