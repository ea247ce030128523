"""Exported networks as torch's own files, which need torch alone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.export import ExportedProgram

METADATA = "ktdn.json"
"""Where in the file the metadata is, see ``extra_files`` of :func:`torch.export.load`."""

USAGE = """\
import numpy as np, torch
from PIL import Image
hazy = torch.tensor(np.array(Image.open("hazy.png").convert("RGB"))).permute(2, 0, 1)[None] / 255
dehazed = torch.export.load({path}).module()(hazy)[0].clamp(0, 1)
Image.fromarray((dehazed * 255).round().byte().permute(1, 2, 0).numpy()).save("dehazed.png")
"""


def to_bytes(program: ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """Writes a recorded program as :func:`torch.export.save` does.

    Args:
        program: As :func:`~ktdn_plugin.export.graph.record` gives it.
        metadata: What the file tells of itself.

    Returns:
        The file's content, weights included.
    """
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: json.dumps(dict(metadata), indent=1)})
    return file.getvalue()


def runner(content: bytes) -> Callable[[Tensor], Tensor]:
    """Gives a function that runs such a file.

    Args:
        content: The file's content.

    Returns:
        Maps images (n, 3, h, w) to images, see ``KTDN.forward``.
    """
    return torch.export.load(io.BytesIO(content)).module()
