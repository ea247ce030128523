"""``ktdn export``: a checkpoint to ONNX or torch.export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import mutually_exclusive

from ktdn_plugin.commands.flags import OUTPUT, Overwrite, valued

FORMAT = Parameter(group=(Group("Format", sort_key=99, validator=mutually_exclusive),))


def export(
    checkpoint: Annotated[Path, Parameter(name="CHECKPOINT")],
    /,
    *,
    output: Annotated[Path, OUTPUT],
    onnx: Annotated[bool, FORMAT] = False,
    torch: Annotated[bool, FORMAT] = False,
    encoder: Annotated[str | None, valued("NAME", show_default="the checkpoint's")] = None,
    half: bool = False,
    overwrite: Overwrite = False,
) -> None:
    """Export a checkpoint to ONNX or torch.export.

    The file takes images of any size, and its batch norms are folded. It is
    compared with the checkpoint on several sizes before it is written; if it
    differs, nothing is written.

    Args:
        checkpoint: A trained network: ktdn_small, ktdn_tiny or a file, .pth or .safetensors.
        output: Where to write. A file, .onnx or .pt2.
        onnx: Write ONNX, the default if the file ends in .onnx. Needs onnx, onnxscript,
            onnxruntime.
        torch: Write torch.export's format, the default if the file ends in .pt2.
        encoder: Encoder, a timm backbone.
        half: Write convolutions in float16: half the size. ONNX only; computed in float32, and not
            written where photographs would not keep 40 dB.
    """
    from ktdn_plugin.export import export_checkpoint

    export_checkpoint(
        checkpoint,
        output,
        "onnx" if onnx else "torch" if torch else None,
        encoder=encoder,
        half=half,
        overwrite=overwrite,
    )
