"""What the kinds of exported files have in common."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor
from torch.export import ExportedProgram

from ktdn_plugin.errors import KTDNError


class Format(ABC):
    """A kind of file that a recorded network is written to.

    Attributes:
        flag: What the command calls it.
        suffix: How its files end.
        usage: Lines of Python that run a file, with ``{path}`` in them.
        packages: What is needed to write and run it, beside torch.
        has_half: Whether it can store kernels in float16.
    """

    flag: ClassVar[str]
    suffix: ClassVar[str]
    usage: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    has_half: ClassVar[bool] = False

    def check_packages(self) -> None:
        """Checks that what writes and runs such files is installed.

        Raises:
            KTDNError: If it is not; it says how to install it.
        """
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise KTDNError(
                f"{self.suffix} files need {' and '.join(missing)}: pip install "
                f"{' '.join(missing)}; torch's own format, .pt2, needs nothing else"
            )

    @abstractmethod
    def to_bytes(
        self, program: ExportedProgram, metadata: Mapping[str, str], half: bool = False
    ) -> bytes:
        """Translates a recorded program.

        Args:
            program: As :func:`~ktdn_plugin.export.graph.record` gives it.
            metadata: What the file says about itself.
            half: Whether to store kernels in float16.

        Returns:
            The file's content, weights included.
        """

    @abstractmethod
    def runner(self, content: bytes) -> Callable[[Tensor], Tensor]:
        """Returns a function that runs a file, on the CPU.

        Args:
            content: The file's content.

        Returns:
            Maps images (n, 3, h, w) to images, see ``KTDN.forward``.
        """
