"""KTDN as one graph for images of any size, without decisions that depend on the size."""

from __future__ import annotations

import io
import logging
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import cast

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from ktdn_plugin.archs import KTDN
from ktdn_plugin.archs.ktdn_arch import MINIMUM, MULTIPLE
from ktdn_plugin.blocks import EM
from ktdn_plugin.blocks.em import POOL_SIZES
from ktdn_plugin.errors import KTDNError

INPUT = "image"
OUTPUT = "dehazed"
AXES = ("batch", "height", "width")

# No two of these are equal, none is a multiple of 16 and none is 1: the recorder takes equal
# numbers for one number, and a 1 for a constant.
_RECORDED_SHAPE = (2, 3, 50, 75)


class ExportableKTDN(nn.Module):
    """Computes the same as a :class:`~ktdn_plugin.archs.KTDN`, in steps that can be traced.

    A recorded graph holds one way through the Python code. So the padding reads each row and
    column by an index, which expresses reflection, repetition and no padding at all, and so does
    the enlargement in the enhancing module: its factor need not be a whole number, and onnxruntime
    rounds it to another cell than torch at some sizes (at 784 or 912 rows, for two).

    Args:
        network: The network, in eval mode. Its enhancing module and TensorFlow's kind of
            convolutions, which pad by what each size needs, are replaced, weights shared.
    """

    def __init__(self, network: KTDN) -> None:
        super().__init__()
        self.network = network
        self.network.em = _ExportableEM(network.em)  # type: ignore[assignment]
        for module in list(network.modules()):
            for name, child in module.named_children():
                if type(child) is Conv2dSame:
                    setattr(module, name, _ExportableConv(child))

    def forward(self, image: Tensor) -> Tensor:
        """Dehazes RGB images (n, 3, h, w) in [0, 1] of any size, see ``KTDN.forward``."""
        height, width = image.shape[-2:]
        padded = _pad(_pad(image, axis=2), axis=3)
        return self.network(padded)[..., :height, :width]


class _ExportableEM(nn.Module):
    def __init__(self, em: EM) -> None:
        super().__init__()
        self.refine1, self.refine2 = em.refine1, em.refine2
        self.pool_convs, self.fuse, self.act = em.pool_convs, em.fuse, em.act

    def forward(self, x: Tensor) -> Tensor:
        """Maps a feature (n, c, h, w) as :class:`~ktdn_plugin.blocks.EM` does."""
        feature = self.act(self.refine2(self.act(self.refine1(x))))
        pooled = [
            _enlarge(self.act(conv(F.avg_pool2d(feature, cell))), like=x)
            for cell, conv in zip(POOL_SIZES, self.pool_convs, strict=True)
        ]
        return torch.tanh(self.fuse(torch.cat([*pooled, feature], dim=1)))


class _ExportableConv(nn.Module):
    """Pads as much as sizes need that the stride divides, as all do in an encoder of stride 16."""

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__()
        self.conv = conv
        self.padding = []
        for axis in (1, 0):
            reach = (conv.kernel_size[axis] - 1) * conv.dilation[axis] + 1
            missing = max(reach - conv.stride[axis], 0)
            self.padding += [missing // 2, missing - missing // 2]

    def forward(self, x: Tensor) -> Tensor:
        """Convolves (n, c, h, w)."""
        conv = self.conv
        x = F.pad(x, self.padding)
        return F.conv2d(x, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Repeats the nearest cells of (n, c, h, w) up to the height and width of another tensor."""
    for axis in (2, 3):
        few, many = x.shape[axis], like.shape[axis]
        position = torch.arange(many, device=x.device)
        # By this operator ONNX divides integers; torch.div becomes a division in float32 there.
        x = x.index_select(axis, position * few // many)
    return x


def _pad(x: Tensor, axis: int) -> Tensor:
    """Pads one axis at its end, as ``pad_to_multiple`` does."""
    size = x.shape[axis]
    # The number of cells comes out of a tensor, so that to the recorder it is a number of its
    # own: of a size that is 16 times that it can tell the halves and quarters.
    wanted = torch.scalar_tensor(size, dtype=torch.int64, device=x.device) + MULTIPLE - 1
    count = cast(int, (wanted // MULTIPLE).clamp_min(MINIMUM // MULTIPLE).item())
    torch._check(count >= MINIMUM // MULTIPLE)
    torch._check(size <= MULTIPLE * count)
    index = torch.arange(MULTIPLE * count, device=x.device)
    last = size - 1
    reflected = last - (last - index).abs()
    repeated = index.clamp_max(last)
    missing = torch.scalar_tensor(MULTIPLE * count - size, dtype=torch.int64, device=x.device)
    return x.index_select(axis, torch.where(missing < size, reflected, repeated))


def record(network: KTDN) -> ExportedProgram:
    """Records a network as a graph for any number of images of any size.

    Args:
        network: The network on the CPU, in eval mode; it is changed, see :class:`ExportableKTDN`.

    Returns:
        The program, without a trace of where it was recorded.

    Raises:
        KTDNError: If torch cannot record the encoder.
    """
    exportable = ExportableKTDN(network).eval().requires_grad_(False)
    axes = {axis: Dim(name, min=1) for axis, name in zip((0, 2, 3), AXES, strict=True)}
    with export_failures_as_errors(network):
        program = torch.export.export(
            exportable, (torch.zeros(_RECORDED_SHAPE),), dynamic_shapes={INPUT: axes}, strict=False
        )
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # names the files of this computer
    return program


@contextmanager
def export_failures_as_errors(network: KTDN) -> Iterator[None]:
    """Turns torch's failures to export an encoder into a one-line error."""
    log = logging.getLogger("torch")
    level = log.level
    # They log and print whole graphs, and warn of what the comparison finds out.
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    # Guards, unsupported operators, shapes that cannot be proved: each has an exception of its own.
    except Exception as error:
        reason = textwrap.shorten(str(error).split("\n\n")[0], 120) or type(error).__name__
        raise KTDNError(
            f"encoder '{network.encoder.name}': torch {torch.__version__} cannot export it "
            f"({reason}); --debug shows where"
        ) from error
    finally:
        log.setLevel(level)
