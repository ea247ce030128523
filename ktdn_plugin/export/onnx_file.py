"""Exported networks as ONNX files, for onnxruntime and whatever else reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ktdn_plugin.export.format import Format
from ktdn_plugin.export.graph import AXES, INPUT, OUTPUT


class OnnxFile(Format):
    """What :func:`torch.onnx.export` writes, without the notes of this computer in it."""

    flag = "--onnx"
    suffix = ".onnx"
    usage = """\
import numpy as np, onnxruntime
from PIL import Image
hazy = np.asarray(Image.open("hazy.png").convert("RGB"), np.float32).transpose(2, 0, 1)[None] / 255
dehazed = onnxruntime.InferenceSession({path}).run(None, {{"image": hazy}})[0][0].clip(0, 1)
Image.fromarray((dehazed.transpose(1, 2, 0) * 255).round().astype("uint8")).save("dehazed.png")
"""
    packages = ("onnx", "onnxscript", "onnxruntime")
    has_half = True

    def to_bytes(
        self, program: ExportedProgram, metadata: Mapping[str, str], half: bool = False
    ) -> bytes:
        import onnx

        translated = torch.onnx.export(
            program, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False
        )
        assert translated is not None
        model = translated.model_proto
        _tidy(model)
        if half:
            _halve(model)
        onnx.helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        return model.SerializeToString()

    def runner(self, content: bytes) -> Callable[[Tensor], Tensor]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return lambda image: torch.from_numpy(session.run([OUTPUT], {INPUT: image.numpy()})[0])


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


def _halve(model: Any) -> None:
    """Stores kernels in float16, cast to float32 where they are used: once, as a file is loaded."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for kernel in model.graph.initializer:
        if kernel.data_type == TensorProto.FLOAT and len(kernel.dims) > 1:
            name, stored = kernel.name, f"{kernel.name}.float16"
            values = numpy_helper.to_array(kernel).astype("float16")
            kernel.CopyFrom(numpy_helper.from_array(values, stored))
            casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
