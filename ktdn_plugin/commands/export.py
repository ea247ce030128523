"""``ktdn export``: flags."""

from __future__ import annotations

import argparse
from pathlib import Path

from ktdn_plugin.model_zoo.weights import SHIPPED


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "export a checkpoint to ONNX or torch.export"
    more = (
        "The file takes images of any size, and its batch norms are folded. It is compared with "
        "the checkpoint on several sizes before it appears; if it differs, there is none."
    )
    parser = commands.add_parser("export", help=text, description=f"{text}. {more}")
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help=f"{', '.join(SHIPPED)}, or a .pth or .safetensors file",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="FILE.onnx or FILE.pt2"
    )
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--onnx",
        dest="form",
        action="store_const",
        const="onnx",
        help="ONNX (default where FILE ends in .onnx); needs onnx, onnxscript, onnxruntime",
    )
    forms.add_argument(
        "--torch",
        dest="form",
        action="store_const",
        const="torch",
        help="torch.export (default where FILE ends in .pt2)",
    )
    parser.add_argument(
        "--encoder", metavar="NAME", help="timm backbone, where the checkpoint does not tell"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.export import export_checkpoint

    export_checkpoint(
        arguments.checkpoint,
        arguments.output,
        arguments.form,
        encoder=arguments.encoder,
        overwrite=arguments.overwrite,
    )
