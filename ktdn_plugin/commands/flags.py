"""Flags that several commands have: one name, one type and one meaning each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import CoercionError, Parameter, Token

DEBUG = "--debug"
OUTPUT = Parameter(name=("--output", "-o"))
GT = Parameter(name=("--gt", "--clear"))
CROP_SIZE = Parameter(name=("--crop-size", "--size"))


def valued(metavar: str, **settings: Any) -> Parameter:
    """Describes a flag, with a name for its value in the help.

    Args:
        metavar: The value's name.
        settings: Other settings of cyclopts's ``Parameter``.
    """
    # cyclopts 4, which Python 3.10 needs, has no names for values.
    if hasattr(Parameter, "metavar"):
        settings["metavar"] = metavar
    return Parameter(**settings)


def _to_whole(_: Any, tokens: Sequence[Token]) -> int:
    # cyclopts would silently turn 1.5 into 1.
    (token,) = tokens
    try:
        return int(token.value)
    except ValueError:
        raise CoercionError(token=token, target_type=int) from None


Whole = Annotated[int, Parameter(converter=_to_whole)]
"""A whole number."""
Debug = Annotated[bool, Parameter(name=DEBUG, help="Show tracebacks.")]
Overwrite = Annotated[bool, Parameter(help="Replace existing files.")]
AllowIncomplete = Annotated[
    bool,
    Parameter(
        help="Continue although images are missing or altered. Unusable ones and their partners "
        "are "
        "skipped, and the split's name says so."
    ),
]
Launcher = Annotated[
    Literal["none", "pytorch", "slurm"],
    Parameter(help="Job launcher; torchrun is detected automatically."),
]
OptionsFile = Annotated[Path, valued("FILE", name=("-opt", "--opt"))]
ForceYml = Annotated[
    Sequence[str],
    valued(
        "KEY:KEY=VALUE...",
        name="--force_yml",
        help="Override options, such as train:ema_decay=0.999.",
    ),
]
CfgOptions = Annotated[
    Sequence[str],
    valued("KEY.KEY=VALUE...", help="Override the config, such as train_cfg.max_iters=1000."),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Network:
    """How a command runs a network.

    Attributes:
        device: Where to compute. auto, cpu, cuda, cuda:1 or mps; for dehaze also several devices,
            such as cuda:0,cuda:1.
        precision: Precision of the computation.
        max_memory: Memory limit, such as 4GB. Large photos go through the network in stripes, with
            the same result.
        encoder: Encoder, a timm backbone.
        base_size: Longer side of a small copy from which larger photos get their colors, while
            their detail comes from full size. auto (for ktdn_small, ktdn_tiny and other networks
            with the head 'affine' half the photo's, 320 to 768), a number of pixels, or off (what
            the network gives for the whole photo).
    """

    device: Annotated[str, valued("NAME")] = "auto"
    precision: Literal["float32", "tf32", "bf16", "fp16"] = "float32"
    max_memory: Annotated[str | None, valued("SIZE", show_default="no limit")] = None
    encoder: Annotated[str | None, valued("NAME", show_default="the checkpoint's")] = None
    base_size: Annotated[str, valued("PIXELS")] = "auto"


NETWORK = Network()
