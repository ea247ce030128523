"""``ktdn env``: what a bug report should say about the machine, in one block."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

from ktdn_plugin import __version__
from ktdn_plugin.console import print_lines
from ktdn_plugin.system_memory import available
from ktdn_plugin.text_tables import table_lines

PACKAGES = (
    *("torch", "torchvision", "basicsr", "mmengine", "timm", "opencv-python", "lmdb", "addict"),
    *("numpy", "pillow", "kornia", "scikit-image", "safetensors"),
    *("onnx", "onnxruntime", "spandrel", "pyiqa"),
)


def describe_environment() -> list[str]:
    """Returns versions and devices, one line each, without paths or names of people or hosts.

    Example:
        >>> describe_environment()[0].split()[0]
        'ktdn-plugin'
    """
    rows = [
        ("ktdn-plugin", __version__),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        *((name, _version(name)) for name in PACKAGES),
        *_devices(),
    ]
    free = available()
    if free is not None:
        rows.append(("free memory", f"{free / 2**30:.1f} GiB"))
    return table_lines(rows, "ll")


def print_environment() -> None:
    """Prints :func:`describe_environment`."""
    print_lines(*describe_environment())


def _version(package: str) -> str:
    # opencv comes by several names, of which one is enough.
    names = (package, f"{package}-headless") if package == "opencv-python" else (package,)
    for name in names:
        try:
            return metadata.version(name) + (f" ({name})" if name != package else "")
        except metadata.PackageNotFoundError:
            continue
    return "not installed"


def _devices() -> list[tuple[str, str]]:
    try:
        import torch

        from ktdn_plugin.bench.machine import describe_machine
    except (ImportError, OSError) as error:  # a torch that is broken is worth a report
        return [("devices", f"torch cannot be loaded: {error}".splitlines()[0])]
    rows = [("CPU", describe_machine(torch.device("cpu"))[0].split(None, 1)[1])]
    rows += [
        (f"cuda:{number}", f"{torch.cuda.get_device_name(number)}, CUDA {torch.version.cuda}")
        for number in range(torch.cuda.device_count())
    ]
    if sys.platform == "darwin" and torch.backends.mps.is_available():
        rows.append(("mps", platform.processor()))
    return rows
