"""Networks that are not ours, and may not accept every image size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from ktdn_plugin.errors import KTDNError, first_line, is_out_of_memory


@contextmanager
def size_failures_as_errors(network: nn.Module, images: Tensor, name: str) -> Iterator[None]:
    """Turns a network's failure on an image into one line: many do not accept every size.

    Args:
        network: The network; what goes wrong in one of ours is a defect, and stays as it is.
        images: What it is given, (n, c, h, w).
        name: The image's name.

    Raises:
        KTDNError: In place of what the network raises.
    """
    try:
        yield
    except (RuntimeError, ValueError, AssertionError) as error:
        if is_out_of_memory(error) or type(network).__module__.startswith("ktdn_plugin."):
            raise
        height, width = images.shape[-2:]
        raise KTDNError(
            f"{name}: {type(network).__name__} cannot take an image of {width} x {height} pixels "
            f"({first_line(error)}); crop the images to a size that it accepts"
        ) from error
