"""What a benchmark ran on, for the lines above its table."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""As /proc/cpuinfo names them, on x86 and on ARM."""


def describe_machine(device: torch.device) -> list[str]:
    """Describes processor, GPU and torch, a line each."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        cpuinfo = ""
    model = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    name = model.group(1) if model else platform.processor() or platform.machine()
    lines = [f"CPU    {name}, {torch.get_num_threads()} threads, {_bf16(cpuinfo)}"]
    if device.type == "cuda":
        lines.append(f"GPU    {torch.cuda.get_device_name(device)}")
    return [*lines, f"torch  {torch.__version__}"]


def _bf16(cpuinfo: str) -> str:
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", cpuinfo, re.MULTILINE)
    if not flags:
        return "bf16 instructions: unknown"
    found = [name for name in BF16_INSTRUCTIONS if name in flags.group(1).split()]
    return f"bf16 instructions: {', '.join(found)}" if found else "no bf16 instructions"
