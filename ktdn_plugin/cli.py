"""The commands ``basicsr`` and ``ktdn``, and how they report errors."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from ktdn_plugin.commands.app import BASICSR, KTDN, build_app, command_of, run_app
from ktdn_plugin.commands.flags import DEBUG
from ktdn_plugin.commands.usage import WRONG_USAGE, usage_line
from ktdn_plugin.console import make_console_safe, print_lines
from ktdn_plugin.errors import (
    KTDNError,
    OptionsError,
    OtherProcessError,
    PreemptedError,
    is_out_of_memory,
    out_of_memory_line,
)

SECONDS_TO_SPEAK = 3
RESUME = {"train": "--auto_resume", "mmengine train": "--resume"}
"""The flag that resumes what a command does."""
MEMORY = {
    "train": "batch_size_per_gpu or gt_size of datasets.train",
    "test": "the images' size (they are tested at full size)",
    "mmengine train": "batch_size or gt_size of train_dataloader",
    "bench train": "--batch-size or --crop-size",
    "bench data": "--crop-size or --workers",
    "bench dehaze": "--sizes",
    "bench transfer": "datasets.train.batch_size_per_gpu",
    "demo": "the training's batch size and crop",
}
"""What a command's memory depends on, unless it is :data:`IMAGE_SIZE`."""
IMAGE_SIZE = "the images' size"
PACKAGES = {
    "cv2": "opencv-python",
    "yaml": "pyyaml",
    "skimage": "scikit-image",
    "PIL": "pillow",
    "pytorch_msssim": "pytorch-msssim",
}
"""Packages that are not called like the modules they bring."""


def _main(app: App, argv: Sequence[str] | None) -> int:
    make_console_safe()  # before --help, whose text may not go into the console's encoding either
    words = list(sys.argv[1:] if argv is None else argv)
    # OpenCV says of a broken file what the one line below says better.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    names, group = command_of(app, words)
    command = " ".join(names)
    try:
        return run_app(app, words, group)
    except CycloptsError as error:
        line = usage_line(error, app.name[0], names, group)
        print_lines(f"error: {line}", to_stderr=True)
        return WRONG_USAGE
    except KeyboardInterrupt:
        flag = RESUME.get(command)
        hint = f" {flag} resumes from the newest state, if one was saved." if flag else ""
        print_lines("Interrupted." + hint, to_stderr=True)
        return 130
    except PreemptedError as stopped:
        if os.environ.get("RANK", "0") == "0":  # one of several processes is enough to hear
            print_lines(stopped, to_stderr=True)
        return stopped.exit_code
    except Exception as error:
        lines = _lines(error, MEMORY.get(command, IMAGE_SIZE))
        if lines is None or DEBUG in words:
            raise
        # Every process of a distributed run checks the options; one of them is enough to hear,
        # and the launcher ends it as soon as another one is gone.
        if isinstance(error, OptionsError) and os.environ.get("RANK", "0") != "0":
            time.sleep(SECONDS_TO_SPEAK)
            return 1
        if isinstance(error, OtherProcessError):
            time.sleep(SECONDS_TO_SPEAK)
            if not error.is_worth_saying:
                return 1
        print_lines(*(f"error: {line}" for line in lines), to_stderr=True)
        return 1


def _lines(error: Exception, lower: str) -> list[str] | None:
    """Returns the lines for an error; None for a bug, whose traceback is wanted.

    Args:
        error: The error.
        lower: What the command's memory depends on.
    """
    if isinstance(error, KTDNError):
        return error.lines
    if isinstance(error, OSError):
        return [f"{error.filename}: {error.strerror}" if error.filename else str(error)]
    if isinstance(error, ModuleNotFoundError):
        return _missing_package(error)
    if is_out_of_memory(error):
        return [out_of_memory_line(error, lower)]
    return None


def _missing_package(error: ModuleNotFoundError) -> list[str] | None:
    module = error.name or ""
    top = module.partition(".")[0]
    # Without a part of ours, or of a package that is there, installing that would fix nothing.
    if top in ("", "ktdn_plugin") or (top != module and importlib.util.find_spec(top)):
        return None
    return [f"the module '{top}' is missing; install it: pip install {PACKAGES.get(top, top)}"]


def basicsr(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command ``basicsr``."""
    text = "Train and test KTDN and BasicSR's own networks."
    return _main(build_app("basicsr", text, BASICSR), argv)


def main(argv: Sequence[str] | None = None, program: str = "ktdn") -> int:
    """Entry point of the command ``ktdn`` and of ``python -m ktdn_plugin``."""
    return _main(build_app(program, "KTDN, the Knowledge Transfer Dehazing Network.", KTDN), argv)
