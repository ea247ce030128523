"""Exported networks as ONNX files, for onnxruntime and whatever else reads them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.export.graph import AXES, INPUT, OUTPUT

PACKAGES = ("onnx", "onnxscript", "onnxruntime")

USAGE = """\
import numpy as np, onnxruntime
from PIL import Image
hazy = np.asarray(Image.open("hazy.png").convert("RGB"), np.float32).transpose(2, 0, 1)[None] / 255
dehazed = onnxruntime.InferenceSession({path}).run(None, {{"image": hazy}})[0][0].clip(0, 1)
Image.fromarray((dehazed.transpose(1, 2, 0) * 255).round().astype("uint8")).save("dehazed.png")
"""


def check_packages() -> None:
    """Makes sure that what writes and runs ONNX files is installed.

    Raises:
        KTDNError: If it is not; it says how to install it.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise KTDNError(
            f'ONNX needs {" and ".join(missing)}: pip install "ktdn-plugin[export]"; '
            "torch's own format, .pt2, needs nothing more"
        )


def to_bytes(program: ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """Translates a recorded program into an ONNX file.

    Args:
        program: As :func:`~ktdn_plugin.export.graph.record` gives it.
        metadata: What the file tells of itself.

    Returns:
        The file's content, weights included.
    """
    import onnx

    translated = torch.onnx.export(
        program, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False
    )
    assert translated is not None
    model = translated.model_proto
    _tidy(model)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _tidy(model: Any) -> None:
    """Drops what the exporter notes of each node (names of torch's, paths), and names the axes."""
    graph = model.graph
    del graph.value_info[:]  # sizes of what is between, which runtimes find by themselves
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    for value in (*graph.input, *graph.output):
        axes = value.type.tensor_type.shape.dim
        for axis, name in zip((axes[0], axes[2], axes[3]), AXES, strict=True):
            axis.dim_param = name


def runner(content: bytes) -> Callable[[Tensor], Tensor]:
    """Gives a function that runs an ONNX file by onnxruntime, on the CPU.

    Args:
        content: The file's content.

    Returns:
        Maps images (n, 3, h, w) to images, see ``KTDN.forward``.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run([OUTPUT], {INPUT: image.numpy()})[0])
