"""The machine in a few lines: for bug reports (``ktdn env``), and above measurements."""

from __future__ import annotations

import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ktdn_plugin import __version__
from ktdn_plugin.console import print_lines
from ktdn_plugin.system_memory import available
from ktdn_plugin.text_tables import table_lines

if TYPE_CHECKING:
    import torch

PACKAGES = (
    *("torch", "torchvision", "basicsr", "mmengine", "timm", "opencv-python", "lmdb", "addict"),
    *("numpy", "pillow", "kornia", "scikit-image", "safetensors"),
    *("onnx", "onnxruntime", "spandrel", "pyiqa"),
)
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""As /proc/cpuinfo names them, on x86 and on ARM."""


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
    except (ImportError, OSError) as error:  # a torch that is broken is worth a report
        return [("devices", f"torch cannot be loaded: {error}".splitlines()[0])]
    rows = [("CPU", _describe_cpu())]
    rows += [
        (f"cuda:{number}", f"{torch.cuda.get_device_name(number)}, CUDA {torch.version.cuda}")
        for number in range(torch.cuda.device_count())
    ]
    if sys.platform == "darwin" and torch.backends.mps.is_available():
        rows.append(("mps", platform.processor()))
    return rows


def describe_machine(device: torch.device) -> list[str]:
    """Returns what something is measured on: processor, GPU and torch, one line each."""
    import torch

    lines = [f"CPU    {_describe_cpu()}"]
    if device.type == "cuda":
        lines.append(f"GPU    {torch.cuda.get_device_name(device)}")
    return [*lines, f"torch  {torch.__version__}"]


def _describe_cpu() -> str:
    import torch

    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        cpuinfo = ""
    model = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    name = model.group(1) if model else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads, {_describe_bf16(cpuinfo)}"


def _describe_bf16(cpuinfo: str) -> str:
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", cpuinfo, re.MULTILINE)
    if not flags:
        return "bf16 instructions: unknown"
    found = [name for name in BF16_INSTRUCTIONS if name in flags.group(1).split()]
    return f"bf16 instructions: {', '.join(found)}" if found else "no bf16 instructions"
