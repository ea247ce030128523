"""What a process holds in memory, and what the machine has left, as the system counts it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def peak_resident(process: int | None = None) -> int | None:
    """Returns the most bytes that a process has held in memory at any time.

    Args:
        process: Its number, which only Linux knows; None for this one.

    A benchmark's peak is this at the end less this right after the imports, before any network is
    built: torch's libraries alone are hundreds of megabytes, the same for every variant.
    """
    # Linux hands ru_maxrss down from the process that started this one; VmHWM is its own.
    own = _from_status("VmHWM", process)
    if own is not None or process is not None:
        return own
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def peak_taken() -> int | None:
    """Returns the most bytes taken so far: of the GPU where one is in use, else of this process."""
    import torch  # late: most of this module's users have no use for it

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    return peak_resident()


def forget_peak() -> bool:
    """Lets :func:`peak_resident` count from now on.

    Returns:
        Whether it does: only Linux can.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def resident() -> int | None:
    """Returns the bytes that this process holds in memory now, None where it is not known."""
    return _from_status("VmRSS")


def available() -> int | None:
    """Returns the bytes that other processes may take, None where it is not known."""
    free = _read_kilobytes(Path("/proc/meminfo"), "MemAvailable")
    if free is None:
        return _available_elsewhere()
    try:  # a container's own limit
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        statistics = (_CGROUP / "memory.stat").read_text()
    except (OSError, ValueError):  # there is none
        return free
    # Files that were read lately are counted, and give way.
    cached = re.search(r"^inactive_file (\d+)", statistics, re.MULTILINE)
    used -= int(cached.group(1)) if cached else 0
    return min(free, max(limit - used, 0))


def _available_elsewhere() -> int | None:
    """Asks Windows and macOS; Linux's own files say more of containers."""
    try:
        import psutil
    except ImportError:  # installed without what the package requires
        return None
    return int(psutil.virtual_memory().available)


def _from_status(key: str, process: int | None = None) -> int | None:
    return _read_kilobytes(Path(f"/proc/{process or 'self'}/status"), key)


def _read_kilobytes(path: Path, key: str) -> int | None:
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) * 1024 if found else None
