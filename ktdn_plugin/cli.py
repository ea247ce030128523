"""The commands ``basicsr`` and ``ktdn``: putting them together, and their last words."""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Sequence
from types import ModuleType

from ktdn_plugin import __version__
from ktdn_plugin.commands import (
    bench,
    check_data,
    comfyui,
    convert,
    curves,
    dehaze,
    demo,
    env,
    evaluate,
    export,
    haze,
    info,
    mmengine,
    models,
    options,
    prepare,
    report,
    shim,
    toolbox,
)
from ktdn_plugin.commands.parsing import Parser
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
IMAGE_SIZE = "the images' size"
"""What a command's memory depends on, unless it names flags or keys (``memory_depends_on``)."""
PACKAGES = {
    "cv2": "opencv-python",
    "yaml": "pyyaml",
    "skimage": "scikit-image",
    "PIL": "pillow",
    "pytorch_msssim": "pytorch-msssim",
}
"""Packages that are not called like the modules they bring."""

KTDN_COMMANDS = (
    toolbox,
    mmengine,
    prepare,
    check_data,
    haze,
    dehaze,
    models,
    evaluate,
    options,
    curves,
    report,
    convert,
    export,
    info,
    comfyui,
    shim,
    bench,
    demo,
    env,
)


def _parser(program: str, text: str, modules: Sequence[ModuleType]) -> argparse.ArgumentParser:
    parser = Parser(prog=program, description=text)
    parser.add_argument("--version", action="version", version=f"ktdn-plugin {__version__}")
    toolbox.add_local_rank(parser, 0)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in modules:
        module.add(commands)
    return parser


def _main(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    make_console_safe()  # before --help, whose text may not go into the console's encoding either
    arguments = parser.parse_args(argv)
    # OpenCV says of a broken file what the one line below says better.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    try:
        # Toolboxes are loaded in here, after parsing: --help and wrong flags answer at once.
        arguments.run(arguments)
    except KeyboardInterrupt:
        flag = {"train": "--auto_resume", "mmengine": "--resume"}.get(arguments.command)
        hint = f" {flag} resumes from the newest state, if one was saved." if flag else ""
        print_lines("Interrupted." + hint, to_stderr=True)
        return 130
    except PreemptedError as stopped:
        if os.environ.get("RANK", "0") == "0":  # one of several processes is enough to hear
            print_lines(stopped, to_stderr=True)
        return stopped.exit_code
    except Exception as error:
        lines = _lines(error, getattr(arguments, "memory_depends_on", IMAGE_SIZE))
        if lines is None or arguments.debug:
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
    return 0


def _lines(error: Exception, lower: str) -> list[str] | None:
    """Returns the lines for an error; None for a defect of the program, whose traceback is wanted.

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
    # Without a part of ours, or of a package that is there, installing that would mend nothing.
    if top in ("", "ktdn_plugin") or (top != module and importlib.util.find_spec(top)):
        return None
    return [f"the module '{top}' is missing; install it: pip install {PACKAGES.get(top, top)}"]


def basicsr(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command ``basicsr``."""
    return _main(
        _parser("basicsr", "Train and test KTDN and BasicSR's own networks.", [toolbox]), argv
    )


def main(argv: Sequence[str] | None = None, program: str = "ktdn") -> int:
    """Entry point of the command ``ktdn`` and of ``python -m ktdn_plugin``."""
    return _main(
        _parser(program, "KTDN, the Knowledge Transfer Dehazing Network.", KTDN_COMMANDS), argv
    )
