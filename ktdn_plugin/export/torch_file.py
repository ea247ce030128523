"""Exported networks as torch's own files, which need torch alone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ktdn_plugin.export.format import Format

METADATA = "ktdn.json"
"""Where in the file the metadata is, see ``extra_files`` of :func:`torch.export.load`."""


class TorchFile(Format):
    """What :func:`torch.export.save` writes."""

    flag = "--torch"
    suffix = ".pt2"
    usage = """\
import numpy as np, torch
from PIL import Image
hazy = torch.tensor(np.array(Image.open("hazy.png").convert("RGB"))).permute(2, 0, 1)[None] / 255
dehazed = torch.export.load({path}).module()(hazy)[0].clamp(0, 1)
Image.fromarray((dehazed * 255).round().byte().permute(1, 2, 0).numpy()).save("dehazed.png")
"""

    def to_bytes(
        self, program: ExportedProgram, metadata: Mapping[str, str], half: bool = False
    ) -> bytes:
        file, text = io.BytesIO(), json.dumps(dict(metadata), indent=1)
        torch.export.save(program, file, extra_files={METADATA: text})
        return file.getvalue()

    def runner(self, content: bytes) -> Callable[[Tensor], Tensor]:
        return torch.export.load(io.BytesIO(content)).module()
