"""Dehazes a folder as a few lines of one's own would: the baseline of ``bench dehaze --folder``.

``python -m ktdn_plugin.bench.plain_loop CHECKPOINT DEVICE FOLDER OUTPUT``: Pillow reads a
photograph, the network as built dehazes it whole, Pillow writes it, one after the other.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ktdn_plugin.checkpoints.networks import load_network
from ktdn_plugin.model_zoo.weights import resolve_checkpoint


def main(checkpoint: str, device: str, folder: str, output: str) -> None:
    """Dehazes all files of a folder into another one."""
    network = load_network(resolve_checkpoint(checkpoint)).eval().to(device)
    Path(output).mkdir()
    for path in sorted(Path(folder).iterdir()):
        pixels = np.array(Image.open(path).convert("RGB"))
        with torch.inference_mode():
            x = torch.from_numpy(pixels).to(device).permute(2, 0, 1)[None].float() / 255
            made = network(x.contiguous()).clamp(0, 1)
            pixels = made[0].permute(1, 2, 0).mul(255).round().byte().cpu().numpy()
        Image.fromarray(pixels).save(Path(output) / path.name)


if __name__ == "__main__":
    main(*sys.argv[1:])
